//! The IDX format of the MNIST family: a magic number, the dimensions, then the bytes.
//!
//! Layout (all integers 32-bit big-endian): bytes 0 and 1 are zero, byte 2 is the element type (`0x08`,
//! unsigned byte, is the only one these sets use), byte 3 the number of dimensions; then one integer for each
//! dimension; then the elements in row-major order. The format is described on the MNIST page,
//! <http://yann.lecun.com/exdb/mnist/>.
//!
//! The reader is strict, since a data set that is silently cut or shifted trains to a silently wrong network:
//! the stream must hold what its header promises, no less and no more. It never trusts the header with
//! memory: storage grows as data arrive, and a compressed file is inflated no further than one byte past the
//! promise.

use std::io::{BufReader, Error, ErrorKind, Read};
use std::path::Path;

use flate2::bufread::MultiGzDecoder;

use super::error::DataError;
use crate::disk::{content, io};

/// The most elements (bytes) that one IDX file may promise: 2 GiB. The full Fashion-MNIST training set has 47
/// MB.
const MAX_ELEMENTS: u64 = 1 << 31;

/// The first two bytes of every gzip file (RFC 1952, section 2.3.1).
pub(super) const GZIP_MAGIC: [u8; 2] = [0x1f, 0x8b];

/// An IDX array of unsigned bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Idx {
    /// The length of each dimension, the outermost (samples) first.
    pub dims: Vec<usize>,
    /// The elements in row-major order; as many as the product of `dims`.
    pub data: Vec<u8>,
}

impl Idx {
    /// Reads an IDX array of `rank` dimensions, 3 for images (N x H x W), 1 for labels (N), from `reader`, plain or
    /// gzip-compressed (told apart by the first two bytes). `source` is the name that errors carry.
    ///
    /// # Errors
    /// [`DataError::File`] if the stream is not such an array, is cut off, goes on after it or is broken gzip, with the offset,
    /// or if it cannot be read. Each has `source`.
    ///
    /// # Panics
    /// If `rank` is not 1 to 4: the caller knows what it reads.
    pub fn from_reader(reader: impl Read, source: &Path, rank: usize) -> Result<Idx, DataError> {
        assert!((1..=4).contains(&rank), "IDX rank must be 1 to 4, not {rank}");
        let mut reader = BufReader::with_capacity(1 << 16, reader);
        // A first read may return a single byte, so the magic is read rather than peeked at, and put back in
        // front.
        let mut start = Vec::new();
        reader.by_ref().take(2).read_to_end(&mut start).map_err(io(source, "read"))?;
        let reader = start.as_slice().chain(reader);
        if start == GZIP_MAGIC {
            parse(MultiGzDecoder::new(reader), source, rank, true)
        } else {
            parse(reader, source, rank, false)
        }
    }
}

/// Reads the header and the data of the (already inflated) stream.
fn parse(mut reader: impl Read, source: &Path, rank: usize, gzip: bool) -> Result<Idx, DataError> {
    let refuse = |reason: String| DataError::from(content(source, reason));
    let failed = |offset: usize, error: Error| {
        // A compressed file that is cut short ends in `UnexpectedEof`; that is a fault of the file, not of
        // the disk.
        let broken = matches!(
            error.kind(),
            ErrorKind::InvalidInput | ErrorKind::InvalidData | ErrorKind::UnexpectedEof
        );
        if gzip && broken {
            refuse(format!("broken gzip data after byte {offset} of the inflated stream: {error}"))
        } else {
            io(source, "read")(error).into()
        }
    };
    let truncated = |part: &str, expected: u64, found: usize| {
        refuse(format!("truncated IDX {part}: expected {expected} bytes, the data end at byte {found}"))
    };

    let header_len = 4 + 4 * rank;
    let mut header = Vec::new();
    let read = reader.by_ref().take(header_len as u64).read_to_end(&mut header);
    read.map_err(|error| failed(header.len(), error))?;
    let numbers: Vec<u32> =
        header.as_chunks::<4>().0.iter().map(|&bytes| u32::from_be_bytes(bytes)).collect();
    let magic = 0x0800 | rank as u32;
    if let Some(&found) = numbers.first().filter(|&&found| found != magic) {
        return Err(refuse(format!(
            "wrong IDX magic at byte 0: expected 0x{magic:08x} (unsigned bytes, {rank} dimension(s)), found 0x{found:08x}"
        )));
    }
    if header.len() < header_len {
        return Err(truncated("header", header_len as u64, header.len()));
    }

    let dims: Vec<usize> = numbers[1..].iter().map(|&dim| dim as usize).collect();
    let promised = numbers[1..].iter().try_fold(1u64, |product, &dim| product.checked_mul(u64::from(dim)));
    let Some(promised) = promised.filter(|&elements| elements <= MAX_ELEMENTS) else {
        return Err(refuse(format!(
            "IDX dimensions {dims:?} at byte 4 are too large: expected at most {MAX_ELEMENTS} bytes of data"
        )));
    };

    // The file may lie about how much it holds: memory grows with what arrives, and one byte past the promise is asked for,
    // which also makes the decoder check the checksum at its end.
    let end = header_len as u64 + promised;
    let mut data = Vec::new();
    let read = reader.take(promised + 1).read_to_end(&mut data);
    read.map_err(|error| failed(header_len + data.len(), error))?;
    let found = data.len() as u64;
    if found < promised {
        return Err(truncated("data", end, header_len + data.len()));
    }
    if found > promised {
        return Err(refuse(format!(
            "more data than the IDX header promises: expected the end at byte {end} (dimensions {dims:?}), found more"
        )));
    }
    data.shrink_to_fit();
    Ok(Idx { dims, data })
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use flate2::Compression;
    use flate2::write::GzEncoder;
    use proptest::prelude::*;
    use std::io::{self, Write};

    pub(in crate::data) fn encode(dims: &[u32], data: &[u8]) -> Vec<u8> {
        let mut out = vec![0, 0, 8, dims.len() as u8];
        for d in dims {
            out.extend_from_slice(&d.to_be_bytes());
        }
        out.extend_from_slice(data);
        out
    }

    pub(in crate::data) fn gzip(bytes: &[u8]) -> Vec<u8> {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    }

    fn read(bytes: &[u8], rank: usize) -> Result<Idx, DataError> {
        Idx::from_reader(bytes, Path::new("some/file"), rank)
    }

    fn message(bytes: &[u8], rank: usize) -> String {
        let message = read(bytes, rank).unwrap_err().to_string();
        assert!(!message.contains('\n'), "one line: {message}");
        message
    }

    /// Hands out one byte at a time, as a slow pipe might.
    struct Trickle<'a>(&'a [u8]);

    impl Read for Trickle<'_> {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            let n = usize::from(!self.0.is_empty() && !buffer.is_empty());
            buffer[..n].copy_from_slice(&self.0[..n]);
            self.0 = &self.0[n..];
            Ok(n)
        }
    }

    #[test]
    fn what_does_not_fit_the_header_is_told_with_its_place_also_through_gzip() {
        let whole = |dims: &[u32], bytes: usize| encode(dims, &vec![0; bytes]);
        for (bytes, rank, expected) in [
            (
                whole(&[2], 2),
                3,
                "wrong IDX magic at byte 0: expected 0x00000803 (unsigned bytes, 3 dimension(s)), found 0x00000801",
            ),
            (vec![0, 0, 8, 3, 0, 0], 3, "truncated IDX header: expected 16 bytes, the data end at byte 6"),
            (vec![], 1, "truncated IDX header: expected 8 bytes, the data end at byte 0"),
            (vec![0, 0, 8], 1, "truncated IDX header: expected 8 bytes, the data end at byte 3"),
            (whole(&[2, 2, 2], 7), 3, "truncated IDX data: expected 24 bytes, the data end at byte 23"),
            (
                whole(&[2, 2, 2], 9),
                3,
                "more data than the IDX header promises: expected the end at byte 24 (dimensions [2, 2, 2]), found more",
            ),
        ] {
            let expected = format!("some/file: {expected}");
            assert_eq!(message(&bytes, rank), expected);
            assert_eq!(message(&gzip(&bytes), rank), expected);
        }
        assert!(message(b"<html>not found</html>", 1).contains("found 0x3c68746d"));
        let after = [gzip(&whole(&[2], 2)), b"tail".to_vec()].concat();
        assert!(message(&after, 1).contains("broken gzip data"), "bytes after the compressed stream");
    }

    #[test]
    fn a_bomb_is_not_inflated() {
        /// Counts what was taken from the compressed stream.
        struct Counting<'a>(&'a [u8], &'a std::cell::Cell<usize>);
        impl Read for Counting<'_> {
            fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
                let n = self.0.read(buffer)?;
                self.1.set(self.1.get() + n);
                Ok(n)
            }
        }
        // 256 MB of zeros behind a header that promises 10 bytes.
        let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
        encoder.write_all(&encode(&[10], &[])).unwrap();
        for _ in 0..256 {
            encoder.write_all(&vec![0; 1 << 20]).unwrap();
        }
        let bomb = encoder.finish().unwrap();
        assert!(bomb.len() > 200_000, "{}", bomb.len());
        let taken = std::cell::Cell::new(0);
        let result = Idx::from_reader(Counting(&bomb, &taken), Path::new("bomb.gz"), 1);
        assert!(result.unwrap_err().to_string().contains("more data than the IDX header promises"));
        assert!(taken.get() <= 1 << 17, "read {} compressed bytes", taken.get());
    }

    #[test]
    fn absurd_dimensions_cost_nothing() {
        let huge = encode(&[u32::MAX, u32::MAX, u32::MAX], &[0; 100]);
        assert_eq!(
            message(&huge, 3),
            "some/file: IDX dimensions [4294967295, 4294967295, 4294967295] at byte 4 are too large: \
             expected at most 2147483648 bytes of data"
        );
        assert!(message(&encode(&[1 << 31, 2], &[]), 2).contains("too large"));
        // Within the limit, yet a lie: refused as truncated, and no memory was taken for it.
        assert!(message(&encode(&[1 << 31], &[0; 100]), 1).contains("expected 2147483656 bytes"));
    }

    #[test]
    fn broken_gzip_is_told_from_a_broken_disk() {
        let good = gzip(&encode(&[3000], &(0..3000).map(|i| (i * i % 251) as u8).collect::<Vec<_>>()));
        let cut = &good[..good.len() / 2];
        assert!(message(cut, 1).starts_with("some/file: broken gzip data after byte "));
        let mut flipped = good.clone();
        let crc = flipped.len() - 6;
        flipped[crc] ^= 1;
        assert!(message(&flipped, 1).contains("broken gzip data after byte 3008"));
        assert!(message(&GZIP_MAGIC, 1).contains("broken gzip data after byte 0"));

        struct Failing;
        impl Read for Failing {
            fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
                Err(Error::other("the disk is on fire"))
            }
        }
        let result = Idx::from_reader(encode(&[5], &[1, 2]).chain(Failing), Path::new("f"), 1);
        assert_eq!(result.unwrap_err().to_string(), "f: cannot read: the disk is on fire");
    }

    #[test]
    fn gzip_is_detected_by_its_first_bytes() {
        let plain = encode(&[3], &[7, 8, 9]);
        let expected = Idx { dims: vec![3], data: vec![7, 8, 9] };
        for bytes in [plain.clone(), gzip(&plain)] {
            assert_eq!(read(&bytes, 1).unwrap(), expected);
        }
        let mut two_members = gzip(&plain[..5]);
        two_members.extend(gzip(&plain[5..]));
        assert_eq!(read(&two_members, 1).unwrap(), expected, "a stream of two gzip members is legal");
    }

    #[test]
    fn an_empty_dimension_is_read_as_empty() {
        assert_eq!(read(&encode(&[0, 28, 28], &[]), 3).unwrap(), Idx { dims: vec![0, 28, 28], data: vec![] });
    }

    proptest! {
        #[test]
        fn round_trip(dims in prop::collection::vec(0u32..9, 1..=4), seed: u8, compress: bool, slow: bool) {
            let n: u32 = dims.iter().product();
            let data: Vec<u8> = (0..n).map(|i| (i as u8).wrapping_mul(31).wrapping_add(seed)).collect();
            let bytes = encode(&dims, &data);
            let bytes = if compress { gzip(&bytes) } else { bytes };
            let idx = if slow {
                Idx::from_reader(Trickle(&bytes), Path::new("t"), dims.len()).unwrap()
            } else {
                read(&bytes, dims.len()).unwrap()
            };
            prop_assert_eq!(idx.dims, dims.iter().map(|&d| d as usize).collect::<Vec<_>>());
            prop_assert_eq!(idx.data, data);
        }

        #[test]
        fn every_cut_is_an_error_and_no_input_panics(cut in 0usize..40, noise in prop::collection::vec(any::<u8>(), 0..64)) {
            let bytes = encode(&[3, 2, 4], &[5; 24]);
            prop_assert!(read(&bytes[..cut.min(bytes.len() - 1)], 3).is_err());
            let packed = gzip(&bytes);
            prop_assert!(read(&packed[..cut.min(packed.len() - 1)], 3).is_err());
            let _ = read(&noise, 3);
            let _ = read(&[&GZIP_MAGIC[..], &[8, 0], &noise].concat(), 1);
        }
    }
}
