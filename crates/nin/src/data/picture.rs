//! [`Picture`]: one image of 8 bits, as a photo or a drawing comes.

#[cfg(feature = "image")]
use std::path::Path;

#[cfg(feature = "image")]
use super::encoded::Encoded;
use super::error::DataError;
use super::resize::{MAX_SIDE, ResizeScratch, Resizer};
#[cfg(feature = "image")]
use crate::disk::{FileError, content};

/// The most bytes of a file of an image.
#[cfg(feature = "image")]
pub const LARGEST_FILE: u64 = 256 << 20;

/// The most bytes of the pixels of a file, as they are in it.
#[cfg(feature = "image")]
const LARGEST_IMAGE: u64 = 1 << 29;

/// An image of 8-bit pixels, C x H x W: gray (C = 1) or red, green and blue (C = 3).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Picture {
    shape: [usize; 3],
    pixels: Vec<u8>,
}

impl Picture {
    /// An image of C x H x W pixels.
    ///
    /// # Errors
    /// [`DataError::Options`] if C is neither 1 nor 3, a side is 0 or larger than [`MAX_SIDE`], or the pixels are not as many.
    pub fn new(shape: [usize; 3], pixels: Vec<u8>) -> Result<Self, DataError> {
        let [c, h, w] = shape;
        let sides = 1..=MAX_SIDE;
        if ![1, 3].contains(&c) || !sides.contains(&h) || !sides.contains(&w) || pixels.len() != c * h * w {
            let found = format!("{} pixels as {c} x {h} x {w}", pixels.len());
            return Err(DataError::Options(format!(
                "image: expected C x H x W pixels of 1 or 3 channels and at most {MAX_SIDE} a side, found {found}"
            )));
        }
        Ok(Self { shape, pixels })
    }

    /// Reads a PNG or JPEG image, told apart by its first bytes, as a viewer shows it: turned as its EXIF says, what is
    /// transparent on white, 16 bits a channel brought to 8. `source` is the name that errors carry (with the feature `image`).
    ///
    /// # Errors
    /// [`FileError::Content`] if it is neither, is broken or cut off, has a side of more than [`MAX_SIDE`] pixels, more of them
    /// than fit in half a gigabyte, or is a JPEG image of more than 100 scans, 1,000 segments or 256 KiB of tables, all of which
    /// is found out before memory is taken. A decoded image takes no more than the pixels need, whatever else is in the file.
    #[cfg(feature = "image")]
    pub fn decode(bytes: &[u8], source: &Path) -> Result<Self, FileError> {
        use image::{DynamicImage, ImageDecoder, ImageReader, Limits};

        let refuse = |reason: String| content(source, reason);
        // Some decoders end their lines.
        let broken =
            |error: image::ImageError| refuse(format!("not a whole image: {}", error.to_string().trim_end()));
        let file = encoded(bytes, source)?;
        let [h, w] = file.sides;
        if h.max(w) > MAX_SIDE {
            return Err(refuse(format!(
                "{w} x {h} pixels, more than the {MAX_SIDE} a side that an image may have"
            )));
        }
        let mut limits = Limits::default();
        limits.max_alloc = Some(LARGEST_IMAGE);
        let needed = file.needed();
        let mut reader = ImageReader::with_format(std::io::Cursor::new(&*needed), file.format);
        reader.limits(limits);
        let mut decoder = reader.into_decoder().map_err(broken)?;
        if decoder.total_bytes() > LARGEST_IMAGE {
            let most = LARGEST_IMAGE >> 20;
            return Err(refuse(format!(
                "{w} x {h} pixels, more than fit in the {most} MiB that an image may have"
            )));
        }
        let orientation = decoder.orientation().map_err(broken)?;
        let mut image = DynamicImage::from_decoder(decoder).map_err(broken)?;
        image.apply_orientation(orientation);
        let (w, h) = (image.width() as usize, image.height() as usize);
        let color = image.color();
        let shape = [if color.has_color() { 3 } else { 1 }, h, w];
        // Of the channels of a pixel, the last is how much of it there is.
        let on_white = |value: u8, alpha: u8| {
            let (value, alpha) = (u32::from(value), u32::from(alpha));
            ((value * alpha + 255 * (255 - alpha) + 127) / 255) as u8
        };
        let pixels = match (color.has_color(), color.has_alpha()) {
            (false, false) => image.into_luma8().into_raw(),
            (false, true) => image.into_luma_alpha8().pixels().map(|p| on_white(p.0[0], p.0[1])).collect(),
            (true, false) => planes(image.into_rgb8().as_raw(), |p: &[u8; 3], channel| p[channel]),
            (true, true) => {
                planes(image.into_rgba8().as_raw(), |p: &[u8; 4], channel| on_white(p[channel], p[3]))
            }
        };
        Self::new(shape, pixels).map_err(|error| refuse(error.to_string()))
    }

    /// Height and width of a PNG or JPEG image as its header has them, however large, before any EXIF turns it, without decoding
    /// it (with the feature `image`).
    ///
    /// # Errors
    /// [`FileError::Content`] if it is neither, has no header, or is a JPEG image that is cut off or has too much in it, as
    /// [`Picture::decode`].
    #[cfg(feature = "image")]
    pub fn sides(bytes: &[u8], source: &Path) -> Result<[usize; 2], FileError> {
        Ok(encoded(bytes, source)?.sides)
    }

    /// Reads an image file as [`Picture::decode`] does (with the feature `image`).
    ///
    /// # Errors
    /// As [`Picture::decode`], and if there is no plain file, it cannot be read, or has more than [`LARGEST_FILE`] bytes.
    #[cfg(feature = "image")]
    pub fn open(path: &Path) -> Result<Self, FileError> {
        Self::decode(&Self::bytes(path)?, path)
    }

    /// The bytes of an image file that is not too large.
    #[cfg(feature = "image")]
    pub(super) fn bytes(path: &Path) -> Result<Vec<u8>, FileError> {
        use std::io::Read;

        // What waits for a writer is no image.
        if !std::fs::metadata(path).map_err(crate::disk::io(path, "read"))?.is_file() {
            return Err(content(path, "expected a plain file"));
        }
        let mut bytes = Vec::new();
        let read = crate::disk::open(path)?.take(LARGEST_FILE + 1).read_to_end(&mut bytes);
        read.map_err(crate::disk::io(path, "read"))?;
        Ok(bytes)
    }

    /// C, H and W.
    #[must_use]
    pub fn shape(&self) -> [usize; 3] {
        self.shape
    }

    /// The pixels, plane after plane.
    #[must_use]
    pub fn pixels(&self) -> &[u8] {
        &self.pixels
    }

    /// The pixels, without the image around them.
    #[must_use]
    pub fn into_pixels(self) -> Vec<u8> {
        self.pixels
    }

    /// The same image at another height and width, in pixels: stretched, as a network sees it ([`resize`](mod@super::resize)).
    ///
    /// # Errors
    /// [`DataError::Options`] if a side is 0 or larger than [`MAX_SIDE`].
    pub fn resized(&self, [height, width]: [usize; 2]) -> Result<Self, DataError> {
        let [channels, h, w] = self.shape;
        let resizer = Resizer::new((h, w), (height, width))?;
        let (mut pixels, mut scratch) = (vec![0; channels * height * width], ResizeScratch::default());
        let planes = self.pixels.chunks(h * w).zip(pixels.chunks_mut(height * width));
        planes.for_each(|(from, to)| resizer.resize(from, to, &mut scratch));
        Ok(Self { shape: [channels, height, width], pixels })
    }

    /// The same image with so many channels: gray is 0.299 red, 0.587 green and 0.114 blue (ITU-R BT.601, as PIL has it), and a
    /// gray image in color has the same plane three times.
    ///
    /// # Errors
    /// [`DataError::Options`] if that is neither 1 nor 3.
    pub fn with_channels(self, channels: usize) -> Result<Self, DataError> {
        let [own, h, w] = self.shape;
        let pixels = match (own, channels) {
            _ if own == channels => self.pixels,
            (1, 3) => self.pixels.repeat(3),
            (3, 1) => {
                let (red, rest) = self.pixels.split_at(h * w);
                let (green, blue) = rest.split_at(h * w);
                let gray = |((&r, &g), &b): ((&u8, &u8), &u8)| {
                    let sum = 19_595 * u32::from(r) + 38_470 * u32::from(g) + 7_471 * u32::from(b);
                    ((sum + (1 << 15)) >> 16) as u8
                };
                red.iter().zip(green).zip(blue).map(gray).collect()
            }
            _ => {
                let message = format!("image: expected a network of 1 or 3 channels, found {channels}");
                return Err(DataError::Options(message));
            }
        };
        Ok(Self { shape: [channels, h, w], pixels })
    }

    /// The same image with every pixel a square of `times` a side.
    ///
    /// # Errors
    /// [`DataError::Options`] if a side is 0 or larger than [`MAX_SIDE`] then.
    pub fn enlarged(&self, times: usize) -> Result<Self, DataError> {
        let [c, h, w] = self.shape;
        let (height, width) = (h.saturating_mul(times), w.saturating_mul(times));
        if height.max(width) > MAX_SIDE {
            return Self::new([c, height, width], Vec::new());
        }
        let mut pixels = Vec::with_capacity(c * height * width);
        for row in self.pixels.chunks(w) {
            let wide: Vec<u8> = row.iter().flat_map(|&pixel| std::iter::repeat_n(pixel, times)).collect();
            (0..times).for_each(|_| pixels.extend_from_slice(&wide));
        }
        Self::new([c, height, width], pixels)
    }

    /// The same image with at most `side` pixels on its longer side: a small one with every pixel a square, as large as fits, a
    /// larger one made smaller in proportion, with a row and a column at least.
    ///
    /// # Errors
    /// [`DataError::Options`] if `side` is 0 or larger than [`MAX_SIDE`].
    pub fn within(&self, side: usize) -> Result<Self, DataError> {
        let [_, h, w] = self.shape;
        let longest = h.max(w);
        match side / longest {
            0 => self.resized([h, w].map(|own| if side == 0 { 0 } else { (own * side / longest).max(1) })),
            times => self.enlarged(times),
        }
    }

    /// The image as a PNG file, gray or in color (with the feature `image`).
    #[cfg(feature = "image")]
    #[must_use]
    pub fn to_png(&self) -> Vec<u8> {
        use image::{ExtendedColorType, ImageEncoder, codecs::png::PngEncoder};

        let [c, h, w] = self.shape;
        let (color, mut bytes) =
            (if c == 1 { ExtendedColorType::L8 } else { ExtendedColorType::Rgb8 }, Vec::new());
        let interleaved: Vec<u8> =
            (0..h * w).flat_map(|at| (0..c).map(move |channel| self.pixels[channel * h * w + at])).collect();
        let written = PngEncoder::new(&mut bytes).write_image(&interleaved, w as u32, h as u32, color);
        written.expect("the pixels are as many as the sides say, and memory takes them");
        bytes
    }
}

/// A file that is not too large, and what it says of its image.
#[cfg(feature = "image")]
fn encoded<'a>(bytes: &'a [u8], source: &Path) -> Result<Encoded<'a>, FileError> {
    if bytes.len() as u64 > LARGEST_FILE {
        let most = LARGEST_FILE >> 20;
        return Err(content(source, format!("larger than the {most} MiB that an image may have")));
    }
    Encoded::new(bytes).map_err(|reason| content(source, reason))
}

/// The planes of interleaved pixels of N bytes: red, green, blue.
#[cfg(feature = "image")]
fn planes<const N: usize>(pixels: &[u8], channel: impl Fn(&[u8; N], usize) -> u8) -> Vec<u8> {
    let pixels = pixels.as_chunks::<N>().0;
    (0..3)
        .flat_map(|plane| pixels.iter().map(move |pixel| (pixel, plane)))
        .map(|(p, c)| channel(p, c))
        .collect()
}

#[cfg(all(test, feature = "image"))]
mod tests {
    use std::io::Cursor;

    use image::codecs::jpeg::JpegEncoder;
    use image::{DynamicImage, ImageBuffer, ImageFormat, Luma, LumaA, Rgb, Rgba};

    use super::*;

    fn png(image: impl Into<DynamicImage>) -> Vec<u8> {
        let mut bytes = Cursor::new(Vec::new());
        image.into().write_to(&mut bytes, ImageFormat::Png).unwrap();
        bytes.into_inner()
    }

    fn decoded(bytes: &[u8]) -> Picture {
        Picture::decode(bytes, Path::new("a.png")).unwrap()
    }

    #[test]
    fn a_picture_is_read_as_it_was_written() {
        for channels in [1, 3] {
            let pixels = (0..channels * 6).map(|i| (i * 13) as u8).collect();
            let picture = Picture::new([channels, 2, 3], pixels).unwrap();
            assert_eq!(decoded(&picture.to_png()), picture);
            assert_eq!(Picture::sides(&picture.to_png(), Path::new("a.png")).unwrap(), [2, 3]);
        }
    }

    #[test]
    fn images_are_brought_within_a_size() {
        for (sides, side, expected) in [
            ([28, 28], 320, [308, 308]),
            ([280, 280], 320, [280, 280]),
            ([321, 10], 320, [320, 9]),
            ([3000, 4000], 320, [240, 320]),
            ([1, 16_000], 320, [1, 320]),
            ([32, 16], 96, [96, 48]),
        ] {
            let [h, w] = sides;
            let picture = Picture::new([1, h, w], vec![0; h * w]).unwrap();
            assert_eq!(picture.within(side).unwrap().shape()[1..], expected, "{sides:?} within {side}");
        }
        let dot = Picture::new([1, 1, 1], vec![0]).unwrap();
        dot.within(MAX_SIDE).unwrap();
        for side in [0, MAX_SIDE + 1] {
            dot.within(side).unwrap_err();
        }
    }

    #[test]
    fn every_pixel_becomes_a_square() {
        let larger = Picture::new([1, 2, 2], vec![1, 2, 3, 4]).unwrap().enlarged(2).unwrap();
        assert_eq!(larger.shape(), [1, 4, 4]);
        assert_eq!(larger.pixels(), [1, 1, 2, 2, 1, 1, 2, 2, 3, 3, 4, 4, 3, 3, 4, 4]);
        for times in [0, MAX_SIDE, usize::MAX] {
            larger.enlarged(times).unwrap_err();
        }
    }

    #[test]
    fn every_kind_of_pixel_is_read_as_a_viewer_shows_it() {
        let gray: ImageBuffer<Luma<u8>, _> = ImageBuffer::from_raw(3, 1, vec![0u8, 100, 255]).unwrap();
        assert_eq!(decoded(&png(gray)), Picture::new([1, 1, 3], vec![0, 100, 255]).unwrap());
        let deep = ImageBuffer::<Luma<u16>, _>::from_raw(2, 1, vec![0u16, 65_535]).unwrap();
        assert_eq!(decoded(&png(deep)).pixels(), [0, 255]);
        let glass = ImageBuffer::<LumaA<u8>, _>::from_raw(3, 1, vec![0u8, 0, 0, 255, 100, 128]).unwrap();
        assert_eq!(decoded(&png(glass)).pixels(), [255, 0, 177]);
        let color = ImageBuffer::<Rgb<u8>, _>::from_raw(2, 1, vec![1u8, 2, 3, 4, 5, 6]).unwrap();
        assert_eq!(decoded(&png(color)), Picture::new([3, 1, 2], vec![1, 4, 2, 5, 3, 6]).unwrap());
        let clear = ImageBuffer::<Rgba<u8>, _>::from_raw(2, 1, vec![9u8, 9, 9, 0, 10, 20, 30, 255]).unwrap();
        assert_eq!(decoded(&png(clear)).pixels(), [255, 10, 255, 20, 255, 30]);
    }

    #[test]
    fn channels_follow_the_network() {
        let color = Picture::new([3, 1, 4], vec![255, 0, 0, 10, 0, 255, 0, 10, 0, 0, 255, 10]).unwrap();
        assert_eq!(color.clone().with_channels(1).unwrap().pixels(), [76, 150, 29, 10]);
        assert_eq!(color.clone().with_channels(3).unwrap(), color);
        let gray = Picture::new([1, 1, 2], vec![7, 8]).unwrap();
        assert_eq!(gray.clone().with_channels(3).unwrap().pixels(), [7, 8, 7, 8, 7, 8]);
        assert!(gray.with_channels(2).is_err());
    }

    /// A JPEG that a camera held upright: wide in its pixels, tall when it is shown.
    #[test]
    fn a_photo_is_turned_as_its_exif_says() {
        let image = ImageBuffer::<Luma<u8>, _>::from_fn(16, 8, |x, _| Luma([if x < 8 { 0 } else { 255 }]));
        let mut plain = Vec::new();
        JpegEncoder::new_with_quality(&mut plain, 100).encode_image(&image).unwrap();
        assert_eq!(decoded(&plain).shape(), [1, 8, 16]);
        // APP1 with a TIFF header of one entry: orientation 6, to be turned right by a quarter.
        let mut exif =
            b"\xff\xe1\0\x22Exif\0\0MM\0\x2a\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0\x06\0\0\0\0\0\0"
                .to_vec();
        let mut turned = plain[..2].to_vec();
        turned.append(&mut exif);
        turned.extend_from_slice(&plain[2..]);
        let picture = decoded(&turned);
        assert_eq!(picture.shape(), [1, 16, 8]);
        assert!(picture.pixels()[3] < 20 && picture.pixels()[15 * 8 + 3] > 235, "left became top");
    }

    #[test]
    fn what_is_no_image_is_refused_before_memory_is_taken() {
        let refused = |bytes: &[u8]| Picture::decode(bytes, Path::new("a.png")).unwrap_err().to_string();
        for bytes in [&b""[..], b"GIF89a", b"plain text"] {
            assert_eq!(refused(bytes), "a.png: neither a PNG nor a JPEG image");
        }
        let whole = png(ImageBuffer::<Luma<u8>, _>::from_raw(2, 2, vec![1u8, 2, 3, 4]).unwrap());
        for cut in [9, 20, 40, whole.len() - 14] {
            assert!(refused(&whole[..cut]).starts_with("a.png: not a whole image: "), "{cut}");
        }
        // Sides as the header has them, with its checksum mended.
        let sized = |w: u32, h: u32| {
            let mut large = png(ImageBuffer::<Rgba<u16>, _>::from_raw(1, 1, vec![1u16, 2, 3, 4]).unwrap());
            large[16..20].copy_from_slice(&w.to_be_bytes());
            large[20..24].copy_from_slice(&h.to_be_bytes());
            let sum = crc32fast::hash(&large[12..29]);
            large[29..33].copy_from_slice(&sum.to_be_bytes());
            large
        };
        assert!(refused(&sized(0, 1)).starts_with("a.png: not a whole image: "));
        for (w, h, reason) in [
            (16_385, 1, "16385 x 1 pixels, more than the 16384 a side that an image may have"),
            (1, u32::MAX, "1 x 4294967295 pixels, more than the 16384 a side that an image may have"),
            (16_384, 4097, "16384 x 4097 pixels, more than fit in the 512 MiB that an image may have"),
        ] {
            let large = sized(w, h);
            assert_eq!(refused(&large), format!("a.png: {reason}"));
            assert_eq!(Picture::sides(&large, Path::new("a.png")).unwrap(), [h as usize, w as usize]);
        }
    }

    fn jpeg(image: &ImageBuffer<Rgb<u8>, Vec<u8>>) -> Vec<u8> {
        let mut bytes = Vec::new();
        JpegEncoder::new_with_quality(&mut bytes, 90).encode_image(image).unwrap();
        bytes
    }

    fn leaves() -> ImageBuffer<Rgb<u8>, Vec<u8>> {
        ImageBuffer::from_fn(40, 30, |x, y| Rgb([x * 6, y * 8, x * y % 256].map(|value| value as u8)))
    }

    /// A segment of a JPEG file.
    fn segment(marker: u8, content: &[u8]) -> Vec<u8> {
        let length = (content.len() as u16 + 2).to_be_bytes();
        [&[0xff, marker][..], &length, content].concat()
    }

    /// A JPEG image may end early anywhere: its decoder would fill in gray.
    #[test]
    fn a_jpeg_image_that_is_cut_off_is_refused() {
        let whole = jpeg(&leaves());
        for cut in 3..whole.len() {
            let error = Picture::decode(&whole[..cut], Path::new("a.jpg")).unwrap_err().to_string();
            assert_eq!(error, "a.jpg: not a whole image: the file is cut off", "{cut} of {}", whole.len());
        }
        // What is behind its end, as a film, is nothing that it lacks; nor are markers in what a program wrote into it an end.
        let (picture, thumbnail) = (decoded(&whole), segment(0xe1, b"\xff\xd8\xff\xda\xff\xd9"));
        assert_eq!(decoded(&[&whole, &b"\xff\xd8\xff\xff\xda"[..]].concat()), picture);
        let with = |content: &[u8]| [&whole[..2], content, &whole[2..]].concat();
        assert_eq!(decoded(&with(&thumbnail)), picture);
        let cut = with(&thumbnail)[..whole.len()].to_vec();
        assert!(Picture::decode(&cut, Path::new("a.jpg")).unwrap_err().to_string().ends_with("cut off"));
    }

    /// Such an image costs a decoder much more time than it takes bytes.
    #[test]
    fn a_jpeg_image_of_too_many_parts_is_refused() {
        let whole = jpeg(&leaves());
        // Of one scan for each of three channels: of the first, many times.
        let table = |class: u8| segment(0xc4, &[&[class, 1][..], &[0; 16]].concat());
        let begin = [
            b"\xff\xd8".to_vec(),
            segment(0xdb, &[1; 65]),
            segment(0xc0, &[8, 0, 64, 0, 64, 3, 1, 0x11, 1, 2, 0x11, 1, 3, 0x11, 1]),
            table(0),
            table(0x10),
        ];
        let scans = |count| {
            let scan = segment(0xda, &[1, 1, 0, 0, 63, 0]);
            [begin.concat(), scan.repeat(count), b"\xff\xd9".to_vec()].concat()
        };
        let with = |content: Vec<u8>| [&whole[..2], &content, &whole[2..]].concat();
        let looked_at =
            |bytes: &[u8]| Picture::sides(bytes, Path::new("a.jpg")).map_err(|error| error.to_string());
        assert_eq!(looked_at(&scans(100)), Ok([64, 64]));
        for (bytes, reason) in [
            (scans(101), "more than the 100 scans"),
            (with(segment(0xe1, b"x").repeat(1000)), "more than the 1000 segments"),
            (with(segment(0xdb, &[1; 65_000]).repeat(5)), "more than the 256 KiB of tables"),
        ] {
            let expected = format!("a.jpg: {reason} that a JPEG image may have");
            assert_eq!(looked_at(&bytes), Err(expected.clone()));
            assert_eq!(Picture::decode(&bytes, Path::new("a.jpg")).unwrap_err().to_string(), expected);
        }
        // Scans in what a program wrote into it are none.
        let inside = segment(0xda, &[1, 1, 0, 0, 63, 0]).repeat(500);
        assert_eq!(decoded(&with(segment(0xe1, &inside).repeat(900))), decoded(&whole));
        for stray in [0x01, 0xd0, 0xd8] {
            let error = looked_at(&with(vec![0xff, stray])).unwrap_err();
            assert_eq!(
                error,
                format!("a.jpg: not a whole image: marker FF{stray:02X} where there can be none")
            );
        }
    }

    /// A chunk of a PNG file.
    fn chunk(kind: &[u8; 4], content: &[u8]) -> Vec<u8> {
        let own = [&kind[..], content].concat();
        let sum = crc32fast::hash(&own).to_be_bytes();
        [&(content.len() as u32).to_be_bytes()[..], &own, &sum].concat()
    }

    /// Nothing but pixels is decompressed: a profile or a text may be a thousand times as large as it lies there.
    #[test]
    fn what_a_png_image_is_shown_without_is_not_looked_at() {
        let whole = png(leaves());
        let (picture, file) = (decoded(&whole), Encoded::new(&whole).unwrap());
        assert!(matches!(file.needed(), std::borrow::Cow::Borrowed(_)), "nothing is copied without a need");
        let extras = [
            chunk(b"iCCP", b"x\0\0not compressed"),
            chunk(b"zTXt", &[b'x'; 100]),
            chunk(b"iTXt", &[b'x'; 100]),
            chunk(b"acTL", &[0, 0, 0, 2, 0, 0, 0, 0]),
        ]
        .concat();
        let with = [&whole[..33], &extras, &whole[33..]].concat();
        assert_eq!(Encoded::new(&with).unwrap().needed(), whole);
        assert_eq!(decoded(&with), picture);
        // Between two of its own, and at a cut end.
        let end = whole.len() - 12;
        let late = [&whole[..end], &extras, &whole[end..]].concat();
        assert_eq!(Encoded::new(&late).unwrap().needed(), whole);
        assert_eq!(Encoded::new(&late[..end + extras.len() - 3]).unwrap().needed()[..], whole[..end]);
        // Transparency and orientation are needed: a quarter to the right.
        let turned = chunk(b"eXIf", b"MM\0\x2a\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0\x06\0\0\0\0\0\0");
        let clear = chunk(b"tRNS", &[0; 6]);
        let shown = decoded(&[&whole[..33], &extras, &turned, &clear, &whole[33..]].concat());
        assert_eq!((shown.shape(), shown.pixels()[29]), ([3, 40, 30], 255));
    }
}
