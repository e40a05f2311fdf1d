//! PNG and JPEG files before they are decoded: their sides, and that decoding them takes no more than images of their size may.
//!
//! Decoders follow a file wherever it leads. A few bytes of a JPEG image that begin another scan cost a pass over the image; a
//! color profile or a text in a PNG image may be a thousand times as large as it lies there. Neither is needed to show an image.

use std::borrow::Cow;

use image::ImageFormat;

/// The most scans of a JPEG image. Those of the usual programs have at most 3, progressive ones 10.
const SCANS: usize = 100;

/// The most segments of a JPEG image, of 64 KiB each at most: what cameras put into the longest have a hundred.
const SEGMENTS: usize = 1000;

/// The most bytes of a JPEG image that are neither pixels nor of a program's own: a scan has at most 1,092 of Huffman tables.
const TABLES: usize = 256 << 10;

const CUT_OFF: &str = "not a whole image: the file is cut off";

/// A file that is worth decoding.
#[derive(Debug)]
pub(super) struct Encoded<'a> {
    pub(super) format: ImageFormat,
    /// H and W, as the header has them.
    pub(super) sides: [usize; 2],
    /// The file up to the image's end.
    bytes: &'a [u8],
}

impl<'a> Encoded<'a> {
    /// Looks at a file, told apart by its first bytes.
    ///
    /// # Errors
    /// The reason for which it is refused.
    pub(super) fn new(bytes: &'a [u8]) -> Result<Self, String> {
        match bytes {
            [0x89, b'P', b'N', b'G', 0x0d, 0x0a, 0x1a, 0x0a, ..] => png(bytes),
            [0xff, 0xd8, 0xff, ..] => jpeg(bytes),
            _ => Err("neither a PNG nor a JPEG image".to_owned()),
        }
    }

    /// The bytes of it that the pixels and their orientation depend on.
    pub(super) fn needed(&self) -> Cow<'a, [u8]> {
        match self.format {
            ImageFormat::Png => without_extras(self.bytes),
            _ => self.bytes.into(),
        }
    }
}

fn png(bytes: &[u8]) -> Result<Encoded<'_>, String> {
    let side = |at| u32_at(bytes, at).ok_or(CUT_OFF);
    let sides = [side(20)?, side(16)?];
    if &bytes[12..16] != b"IHDR" {
        return Err("not a whole image: it does not begin with its header".to_owned());
    }
    Ok(Encoded { format: ImageFormat::Png, sides, bytes })
}

/// A PNG file without the chunks that it is shown without: profiles, texts, the further images of an animation. What is broken
/// stays so.
fn without_extras(bytes: &[u8]) -> Cow<'_, [u8]> {
    let (mut at, mut needed) = (8, Cow::Borrowed(bytes));
    while let (Some(length), Some(kind)) = (u32_at(bytes, at), bytes.get(at + 4..at + 8)) {
        let end = at.saturating_add(length).saturating_add(12).min(bytes.len());
        // Those that begin with a capital letter cannot be done without.
        let keep = kind[0].is_ascii_uppercase() || [b"tRNS", b"eXIf"].iter().any(|known| *known == kind);
        match &mut needed {
            Cow::Borrowed(_) if keep => {}
            Cow::Borrowed(_) => needed = Cow::Owned(bytes[..at].to_vec()),
            Cow::Owned(own) if keep => own.extend_from_slice(&bytes[at..end]),
            Cow::Owned(_) => {}
        }
        at = end;
    }
    needed
}

/// Follows a JPEG file from marker to marker as decoders do. Where they might go another way, it is refused.
fn jpeg(bytes: &[u8]) -> Result<Encoded<'_>, String> {
    let more = |most: &str| Err(format!("more than the {most} that a JPEG image may have"));
    let (mut at, mut sides) = (2, None);
    let (mut scans, mut segments, mut tables) = (0, 0, 0);
    let mut in_scan = false;
    loop {
        // A marker is FF and its number. FF 00 is a byte of a scan, and any more FF before a marker mean nothing.
        let next = bytes[at..].windows(2).position(|two| two[0] == 0xff && !matches!(two[1], 0 | 0xff));
        at += next.ok_or(CUT_OFF)? + 2;
        match bytes[at - 1] {
            // The image's end. There may be others behind it, or a film.
            0xd9 => break,
            // What a scan can be read again from.
            0xd0..=0xd7 if in_scan => continue,
            marker @ (0x01 | 0xd0..=0xd8) => {
                return Err(format!("not a whole image: marker FF{marker:02X} where there can be none"));
            }
            marker => {
                let length =
                    bytes.get(at..at + 2).map(|two| usize::from(u16::from_be_bytes([two[0], two[1]])));
                let segment = bytes.get(at..at + length.ok_or(CUT_OFF)?.max(2)).ok_or(CUT_OFF)?;
                (at, segments, in_scan) = (at + segment.len(), segments + 1, marker == 0xda);
                scans += usize::from(in_scan);
                // Not those of programs, nor remarks.
                tables += if matches!(marker, 0xe0..=0xef | 0xfe) { 0 } else { segment.len() };
                if let (
                    None,
                    0xc0..=0xc3 | 0xc5..=0xc7 | 0xc9..=0xcb | 0xcd..=0xcf,
                    [_, _, _, h0, h1, w0, w1, ..],
                ) = (sides, marker, segment)
                {
                    sides = Some([[*h0, *h1], [*w0, *w1]].map(|side| usize::from(u16::from_be_bytes(side))));
                }
            }
        }
        if scans > SCANS {
            return more("100 scans");
        }
        if segments > SEGMENTS {
            return more("1000 segments");
        }
        if tables > TABLES {
            return more("256 KiB of tables");
        }
    }
    let sides = sides.ok_or("not a whole image: it has no header")?;
    Ok(Encoded { format: ImageFormat::Jpeg, sides, bytes: &bytes[..at] })
}

fn u32_at(bytes: &[u8], at: usize) -> Option<usize> {
    let four = bytes.get(at..at + 4)?.try_into().ok()?;
    Some(u32::from_be_bytes(four) as usize)
}
