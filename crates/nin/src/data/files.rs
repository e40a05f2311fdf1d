//! The files of a data set: their names, those in the program, those in a folder of the user's.

use std::fs;
use std::io::{ErrorKind, Read};
use std::path::{Path, PathBuf};

use super::array::ArrayDataset;
use super::cifar;
use super::dataset::Splits;
use super::error::DataError;
use super::idx::Idx;
use super::kind::{DatasetKind, Format};
use crate::disk::{self, FileError, content, io};

/// The bundled set's files, which are part of the program: images and labels for training, then for tests.
const BUNDLED: [&[u8]; 4] = [
    include_bytes!("../../../../datasets/fashion-mnist-mini/train-images-idx3-ubyte.gz"),
    include_bytes!("../../../../datasets/fashion-mnist-mini/train-labels-idx1-ubyte.gz"),
    include_bytes!("../../../../datasets/fashion-mnist-mini/t10k-images-idx3-ubyte.gz"),
    include_bytes!("../../../../datasets/fashion-mnist-mini/t10k-labels-idx1-ubyte.gz"),
];

/// The names of a data set's files, without `.gz`: those of training images first. None of a set that is a folder of images.
pub(super) fn file_names(kind: DatasetKind) -> Vec<String> {
    match kind.definition().format {
        Format::Idx { prefix, splits, .. } => {
            let of = |split| {
                ["images-idx3-ubyte", "labels-idx1-ubyte"].map(|end| format!("{prefix}{split}-{end}"))
            };
            splits.into_iter().flat_map(of).collect()
        }
        Format::Cifar { train, test, .. } => {
            train.iter().chain([&test]).map(|&name| name.to_owned()).collect()
        }
        Format::Folder => Vec::new(),
    }
}

/// Finds the file `name` (one of [`file_names`]) in `dir`: as published (`train-images-idx3-ubyte`), or with a dot before `idx`,
/// as some archives unpack it, plain or with `.gz`, in this order.
fn find_file(dir: &Path, name: &str) -> Result<PathBuf, FileError> {
    look_for(dir, name)?.ok_or_else(|| {
        let tried = spellings(name);
        let each = if tried.len() > 1 { "each " } else { "" };
        content(dir, format!("no {name} here (looked for {}, {each}plain or .gz)", tried.join(", ")))
    })
}

fn spellings(name: &str) -> Vec<String> {
    let mut all = vec![name.to_owned(), name.replace("-idx", ".idx")];
    all.dedup();
    all
}

/// [`find_file`], with `None` if there is none.
pub(super) fn look_for(dir: &Path, name: &str) -> Result<Option<PathBuf>, FileError> {
    for suffix in ["", ".gz"] {
        for spelling in spellings(name) {
            let path = dir.join(spelling + suffix);
            match fs::metadata(&path) {
                Ok(found) if found.is_file() => return Ok(Some(path)),
                Ok(_) => {}
                Err(error) if error.kind() == ErrorKind::NotFound => {}
                Err(error) => return Err(io(&path, "look at")(error)),
            }
        }
    }
    Ok(None)
}

/// The folder within `dir` that holds the files of `kind`: `dir` itself, or the place where torchvision keeps
/// them below its `root` (`FashionMNIST/raw`, `MNIST/raw`). `dir` if none does, so that an error names what
/// the user named.
pub(super) fn resolve_dir(kind: DatasetKind, dir: &Path) -> Result<PathBuf, FileError> {
    let nested = dir.join(kind.definition().folder);
    Ok(if files_in(kind, dir)? == 0 && files_in(kind, &nested)? > 0 { nested } else { dir.to_path_buf() })
}

/// True if all files are in `dir`.
pub(super) fn is_complete(kind: DatasetKind, dir: &Path) -> Result<bool, FileError> {
    Ok(files_in(kind, dir)? == file_names(kind).len())
}

/// The number of a set's files that are in a folder.
fn files_in(kind: DatasetKind, dir: &Path) -> Result<usize, FileError> {
    file_names(kind).iter().try_fold(0, |found, name| Ok(found + usize::from(look_for(dir, name)?.is_some())))
}

/// Reads both splits of `kind` from its files in `dir`; not of a folder of images, which `ImageFolder` reads.
pub(super) fn load_dir(kind: DatasetKind, dir: &Path) -> Result<Splits, DataError> {
    // All are looked for before the first is read: a missing label file is known at once.
    let paths = file_names(kind).iter().map(|name| find_file(dir, name)).collect::<Result<Vec<_>, _>>()?;
    match (kind.definition().format, &paths[..]) {
        (Format::Idx { .. }, [images, labels, test_images, test_labels]) => {
            let read = |split, images, labels| {
                read_idx(kind, split, [images, labels], [disk::open(images)?, disk::open(labels)?])
            };
            let mut train = read("train", images, labels)?;
            let mut test = read("test", test_images, test_labels)?;
            // Where labels alone tell how many classes there are, those of both files do.
            let longer = [&train, &test].into_iter().max_by_key(|set| set.class_names.len());
            let names = longer.map(|set| set.class_names.clone()).unwrap_or_default();
            (train.class_names, test.class_names) = (names.clone(), names);
            Ok(Splits { train, test })
        }
        (Format::Cifar { labels, .. }, [train @ .., test]) => {
            let test = std::slice::from_ref(test);
            let read =
                |split, paths| cifar::read(&format!("{kind} {split}"), kind.class_names(), labels, paths);
            Ok(Splits { train: read("train", train)?, test: read("test", test)? })
        }
        _ => Err(DataError::Options(format!(
            "{kind}: its images are files of their own, and no arrays: name the files, or open the folder"
        ))),
    }
}

/// Reads the set that is part of the program, 10,000 + 2,000 images of Fashion-MNIST.
pub(super) fn bundled() -> Result<Splits, DataError> {
    let kind = DatasetKind::FashionMnistMini;
    let [images, labels, test_images, test_labels] = BUNDLED;
    let read = |split, files| {
        read_idx(kind, split, [Path::new("bundled images"), Path::new("bundled labels")], files)
    };
    Ok(Splits { train: read("train", [images, labels])?, test: read("test", [test_images, test_labels])? })
}

/// Reads one split of a data set from its image and its label file (IDX, plain or gzip-compressed), by the names that errors
/// carry. `split` ("train", "test") goes into the set's name.
fn read_idx<R: Read>(
    kind: DatasetKind,
    split: &str,
    [images, labels]: [&Path; 2],
    [of_images, of_labels]: [R; 2],
) -> Result<ArrayDataset, DataError> {
    let definition = kind.definition();
    let Format::Idx { size, transposed, first, .. } = definition.format else {
        unreachable!("{kind} is of IDX files")
    };
    let mut pixels = Idx::from_reader(of_images, images, 3)?;
    let targets = Idx::from_reader(of_labels, labels, 1)?;
    let [n, h, w] = [pixels.dims[0], pixels.dims[1], pixels.dims[2]];
    if let Some([height, width]) = size.filter(|&size| size != [h, w]) {
        let expected = format!("expected {height} x {width} for {kind}");
        return Err(content(images, format!("images of {h} x {w} pixels, {expected}")).into());
    }
    if transposed {
        for image in pixels.data.chunks_exact_mut(h * w) {
            let upright = image.to_vec();
            (0..h * w).for_each(|i| image[i] = upright[i % w * h + i / w]);
        }
    }
    // Until all is well, it goes by the name of the file that would be to blame.
    let (images, labels) = (images.display(), labels.display());
    let name = match n {
        0 => images.to_string(),
        _ if n == targets.data.len() => labels.to_string(),
        _ => format!("{images} and {labels}"),
    };
    if let Some(label) = targets.data.iter().find(|&&label| label < first) {
        let reason = format!("label {label}: expected {first} and above");
        return Err(DataError::Samples { name: labels.to_string(), reason });
    }
    let classes: Vec<usize> = targets.data.into_iter().map(|label| usize::from(label - first)).collect();
    // Files without names of classes have as many as the largest label says.
    let numbers: Vec<String>;
    let mut names = definition.class_names.to_vec();
    if names.is_empty() {
        numbers =
            (0..=classes.iter().copied().max().unwrap_or_default()).map(|class| class.to_string()).collect();
        names = numbers.iter().map(String::as_str).collect();
    }
    let mut set = ArrayDataset::named(&name, &names, [1, h, w], pixels.data, classes)?;
    set.name = format!("{kind} {split}");
    Ok(set)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::dataset::class_counts;
    use crate::data::idx::tests::{encode, gzip};
    use crate::data::record::hex;
    use crate::data::{Dataset, Image};
    use sha2::{Digest, Sha256};

    #[test]
    fn the_bundled_set_is_whole() {
        let Splits { train, test } = bundled().unwrap();
        assert_eq!((train.name(), test.name()), ("fashion-mnist-mini train", "fashion-mnist-mini test"));
        for (set, n, counts) in [(&train, 10_000, TRAIN_COUNTS), (&test, 2_000, TEST_COUNTS)] {
            assert_eq!((set.len(), set.image_shape(), set.class_names().len()), (n, [1, 28, 28], 10));
            assert_eq!(class_counts(set).unwrap(), counts);
        }
        assert_eq!(train.labels()[..10], [9, 0, 0, 3, 0, 2, 7, 2, 5, 5]);
        assert_eq!(train.class_names()[train.labels()[0]], "Ankle boot");
        let Image::Bytes(first) = train.get(0).unwrap().0 else { panic!("pixels have 8 bits") };
        let sum: u32 = first.iter().map(|&p| u32::from(p)).sum();
        assert_eq!(sum, FIRST_IMAGE_SUM);
        assert_eq!(hex(&Sha256::digest(&first)), FIRST_IMAGE_SHA256);
    }

    #[test]
    fn both_spellings_and_gz_are_found_plain_first() {
        let dir = tempfile::tempdir().unwrap();
        let find =
            || find_file(dir.path(), "train-images-idx3-ubyte").map(|p| p.file_name().unwrap().to_owned());
        assert_eq!(
            find().unwrap_err().to_string(),
            format!(
                "{}: no train-images-idx3-ubyte here (looked for train-images-idx3-ubyte, \
                 train-images.idx3-ubyte, each plain or .gz)",
                dir.path().display()
            )
        );
        let error = find_file(dir.path(), "test_batch.bin").unwrap_err().to_string();
        assert!(
            error.ends_with("no test_batch.bin here (looked for test_batch.bin, plain or .gz)"),
            "{error}"
        );
        for name in [
            "train-images.idx3-ubyte.gz",
            "train-images-idx3-ubyte.gz",
            "train-images.idx3-ubyte",
            "train-images-idx3-ubyte",
        ] {
            fs::write(dir.path().join(name), "").unwrap();
            assert_eq!(find().unwrap(), name);
        }
    }

    #[test]
    fn a_folder_of_a_file_s_name_is_not_the_file() {
        let dir = tempfile::tempdir().unwrap();
        let find = || look_for(dir.path(), "train-images-idx3-ubyte").unwrap();
        fs::create_dir(dir.path().join("train-images-idx3-ubyte")).unwrap();
        assert_eq!(find(), None);
        let packed = dir.path().join("train-images-idx3-ubyte.gz");
        fs::write(&packed, "").unwrap();
        assert_eq!(find(), Some(packed));
    }

    /// Archives are unpacked under the names of their contents, and files are packed by programs that leave their names alone.
    #[test]
    fn what_is_compressed_is_told_by_content_not_by_name() {
        let dir = tempfile::tempdir().unwrap();
        let (images, labels) = (encode(&[1, 2, 3], &[7; 6]), encode(&[1], &[0]));
        let [name, of_labels, test, of_test] = &file_names(DatasetKind::Idx)[..] else {
            panic!("four files")
        };
        for (name, bytes) in [
            (name.clone(), gzip(&images)),
            (format!("{of_labels}.gz"), labels.clone()),
            (format!("{test}.gz"), gzip(&images)),
            (of_test.clone(), labels),
        ] {
            fs::write(dir.path().join(name), bytes).unwrap();
        }
        let Splits { train, test } = load_dir(DatasetKind::Idx, dir.path()).unwrap();
        for set in [train, test] {
            assert_eq!((set.get(0).unwrap().0, set.labels()), (Image::from(vec![7u8; 6]), &[0][..]));
        }
    }

    #[test]
    fn torchvisions_folders_are_understood() {
        let root = tempfile::tempdir().unwrap();
        let resolve_dir = |kind, dir: &Path| resolve_dir(kind, dir).unwrap();
        assert_eq!(resolve_dir(DatasetKind::Mnist, root.path()), root.path());
        let raw = root.path().join("MNIST/raw");
        fs::create_dir_all(&raw).unwrap();
        fs::write(raw.join("train-labels-idx1-ubyte"), "").unwrap();
        assert_eq!(resolve_dir(DatasetKind::Mnist, root.path()), raw);
        assert_eq!(resolve_dir(DatasetKind::FashionMnist, root.path()), root.path());
        assert_eq!(resolve_dir(DatasetKind::Mnist, &raw), raw);
    }

    /// A path through a file stands in for a folder without permission, which tests that run as root cannot have.
    #[cfg(unix)]
    #[test]
    fn what_cannot_be_looked_at_is_not_called_missing() {
        let root = tempfile::tempdir().unwrap();
        let file = root.path().join("file");
        fs::write(&file, "").unwrap();
        let expected =
            format!("{}: cannot look at: Not a directory", file.join("train-images-idx3-ubyte").display());
        for error in [
            find_file(&file, "train-images-idx3-ubyte").unwrap_err().into(),
            resolve_dir(DatasetKind::Mnist, &file).unwrap_err().into(),
            is_complete(DatasetKind::Mnist, &file).unwrap_err().into(),
            load_dir(DatasetKind::Mnist, &file).unwrap_err(),
        ] {
            assert!(error.to_string().starts_with(&expected), "{error}");
        }
    }

    #[test]
    fn faults_of_files_name_the_files() {
        let dir = tempfile::tempdir().unwrap();
        let (images, labels) = (dir.path().join("images"), dir.path().join("labels"));
        let load = |dims: &[u32], of_labels: &[u8]| {
            let pixels = dims.iter().product::<u32>() as usize;
            fs::write(&images, encode(dims, &vec![9; pixels])).unwrap();
            fs::write(&labels, encode(&[of_labels.len() as u32], of_labels)).unwrap();
            let files = [disk::open(&images).unwrap(), disk::open(&labels).unwrap()];
            read_idx(DatasetKind::Mnist, "train", [&images, &labels], files)
        };
        let set = load(&[2, 28, 28], &[3, 9]).unwrap();
        assert_eq!((set.name(), set.labels()), ("mnist train", &[3, 9][..]));
        for (dims, of_labels, expected) in [
            (&[2, 28, 28][..], &[3, 10][..], "LABELS: label 10 of sample 1 is out of range: expected 0 to 9"),
            (
                &[2, 28, 28],
                &[3, 9, 1],
                "IMAGES and LABELS: 2 images but 3 labels: expected one label for each image",
            ),
            (
                &[0, 28, 28],
                &[],
                "IMAGES: empty data set: N = 0, C = 1, H = 28, W = 28 (each must be at least 1)",
            ),
            (&[1, 28, 32], &[], "IMAGES: images of 28 x 32 pixels, expected 28 x 28 for mnist"),
            // Labels in the place of images.
            (
                &[2],
                &[],
                "IMAGES: wrong IDX magic at byte 0: expected 0x00000803 (unsigned bytes, 3 dimension(s)), found 0x00000801",
            ),
        ] {
            let expected = expected.replace("IMAGES", &images.display().to_string());
            let expected = expected.replace("LABELS", &labels.display().to_string());
            assert_eq!(load(dims, of_labels).unwrap_err().to_string(), expected);
        }
    }

    /// As the files of EMNIST are: columns first, the letter A at 1. And files that anybody may have.
    #[test]
    fn every_form_of_idx_files_is_read_as_it_is_meant() {
        let dir = tempfile::tempdir().unwrap();
        let write = |kind, dims: &[u32], pixels: &[u8], labels: &[u8]| {
            for (file, name) in file_names(kind).iter().enumerate() {
                let bytes =
                    if file % 2 == 0 { encode(dims, pixels) } else { encode(&[labels.len() as u32], labels) };
                fs::write(dir.path().join(name), bytes).unwrap();
            }
            load_dir(kind, dir.path())
        };
        let column: Vec<u8> = (0..28 * 28).map(|i| u8::from(i / 28 == 3)).collect();
        let letters = write(DatasetKind::EmnistLetters, &[1, 28, 28], &column, &[26]).unwrap().train;
        assert_eq!((letters.labels(), &*letters.class_names()[25]), (&[25][..], "Z"));
        let upright: Vec<u8> = (0..28 * 28).map(|i| u8::from(i % 28 == 3)).collect();
        assert_eq!(letters.get(0).unwrap().0, Image::from(upright));
        let error = write(DatasetKind::EmnistLetters, &[1, 28, 28], &column, &[0]).unwrap_err().to_string();
        assert!(error.ends_with("letters-train-labels-idx1-ubyte: label 0: expected 1 and above"), "{error}");
        let own = write(DatasetKind::Idx, &[2, 3, 5], &[7; 30], &[0, 2]).unwrap().test;
        // The classes of both files count.
        fs::write(dir.path().join("t10k-labels-idx1-ubyte"), encode(&[2], &[1, 4])).unwrap();
        let both = load_dir(DatasetKind::Idx, dir.path()).unwrap();
        assert_eq!((both.train.class_names().len(), both.test.class_names().len()), (5, 5));
        assert_eq!(
            (own.image_shape(), own.class_names()),
            ([1, 3, 5], &["0", "1", "2"].map(str::to_owned)[..])
        );
    }

    const TRAIN_COUNTS: [usize; 10] = [971, 1041, 1019, 1022, 973, 964, 1036, 1007, 966, 1001];
    const TEST_COUNTS: [usize; 10] = [199, 211, 213, 197, 214, 190, 193, 205, 189, 189];
    const FIRST_IMAGE_SUM: u32 = 76247;
    const FIRST_IMAGE_SHA256: &str = "5bd44e331a6d6998daf675700cd0c13dcd7af8ab954b7585124124da61459e7b";
}
