//! The binary files of CIFAR-10 and CIFAR-100 (Krizhevsky 2009): records of labels, a byte each, and 3 x 32 x 32 bytes of pixels,
//! red, green and blue planes. <https://www.cs.toronto.edu/~kriz/cifar.html>

use std::io::Read;
use std::path::PathBuf;

use flate2::read::MultiGzDecoder;

use super::array::ArrayDataset;
use super::error::DataError;
use super::idx::GZIP_MAGIC;
use crate::disk::{self, content};

/// C, H and W of an image.
const SHAPE: [usize; 3] = [3, 32, 32];

/// The most bytes that a compressed file is inflated to: twice those of the largest there is.
const LARGEST: u64 = 1 << 28;

/// Reads the records of some files, plain or gzip-compressed, with this many labels, of which the last is the class.
///
/// # Errors
/// [`DataError::File`] if one cannot be read, is no whole number of records, or has a label that names no class.
pub(super) fn read(
    name: &str,
    class_names: &[&str],
    labels: usize,
    paths: &[PathBuf],
) -> Result<ArrayDataset, DataError> {
    let record = labels + SHAPE.iter().product::<usize>();
    let (mut pixels, mut classes) = (Vec::new(), Vec::new());
    for path in paths {
        let mut bytes = disk::read(path)?;
        if bytes.starts_with(&GZIP_MAGIC) {
            let mut inflated = Vec::new();
            let read = MultiGzDecoder::new(&bytes[..]).take(LARGEST).read_to_end(&mut inflated);
            read.map_err(|error| content(path, format!("broken gzip data: {error}")))?;
            bytes = inflated;
        }
        let refuse = |reason: String| Err(content(path, reason).into());
        if bytes.is_empty() || !bytes.len().is_multiple_of(record) {
            return refuse(format!("{} bytes, expected records of {record}", bytes.len()));
        }
        for (index, record) in bytes.chunks_exact(record).enumerate() {
            let class = usize::from(record[labels - 1]);
            if class >= class_names.len() {
                let expected = format!("expected 0 to {}", class_names.len() - 1);
                return refuse(format!("label {class} of record {index} is out of range: {expected}"));
            }
            classes.push(class);
            pixels.extend_from_slice(&record[labels..]);
        }
    }
    ArrayDataset::named(name, class_names, SHAPE, pixels, classes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::{Dataset, Image, Target};

    #[test]
    fn records_are_labels_and_planes() {
        let dir = tempfile::tempdir().unwrap();
        let write = |name: &str, bytes: &[u8]| {
            let path = dir.path().join(name);
            std::fs::write(&path, bytes).unwrap();
            path
        };
        let record = |labels: &[u8], pixel: u8| [labels, &[pixel; 3071], &[9]].concat();
        let paths = [write("a", &[record(&[1], 4), record(&[0], 5)].concat()), write("b", &record(&[2], 6))];
        let names = ["x", "y", "z"];
        let set = read("toy", &names, 1, &paths).unwrap();
        assert_eq!((set.labels(), set.image_shape()), (&[1, 0, 2][..], SHAPE));
        let (Image::Bytes(pixels), Target::Class(2)) = set.get(2).unwrap() else {
            panic!("bytes of class 2")
        };
        assert_eq!((pixels[0], pixels[3070], pixels[3071]), (6, 6, 9));
        let mut packed = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        std::io::Write::write_all(&mut packed, &record(&[2], 6)).unwrap();
        let packed = read("toy", &names, 1, &[write("b.gz", &packed.finish().unwrap())]).unwrap();
        assert_eq!(packed.get(0).unwrap(), set.get(2).unwrap());
        // Of two labels, the second is the finer.
        let fine = read("toy", &names, 2, &[write("c", &record(&[7, 1], 3))]).unwrap();
        assert_eq!(fine.labels(), [1]);
        let refused = |bytes: &[u8]| read("toy", &names, 1, &[write("d", bytes)]).unwrap_err().to_string();
        assert!(refused(&[0; 3072]).ends_with("d: 3072 bytes, expected records of 3073"));
        assert!(refused(&[]).ends_with("d: 0 bytes, expected records of 3073"));
        assert!(
            refused(&record(&[3], 0)).ends_with("d: label 3 of record 0 is out of range: expected 0 to 2")
        );
    }
}
