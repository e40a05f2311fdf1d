//! Places of the files of a data set: their names, the bundled folder, a folder of the user's.

use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use super::array::ArrayDataset;
use super::dataset::Splits;
use super::error::DataError;
use super::idx::Idx;
use super::kind::DatasetKind;

/// The four files of a data set of the MNIST family, under their canonical names, without `.gz`.
pub const FILE_NAMES: [&str; 4] = [
    "train-images-idx3-ubyte",
    "train-labels-idx1-ubyte",
    "t10k-images-idx3-ubyte",
    "t10k-labels-idx1-ubyte",
];

/// The bundled set's folder, relative to the root of the workspace.
const BUNDLED: &str = "datasets/fashion-mnist-mini";

/// Finds the file `name` (one of [`FILE_NAMES`]) in `dir`: as published (`train-images-idx3-ubyte`), or with a dot before `idx`,
/// as some archives unpack it, plain or with `.gz`, in this order.
///
/// # Errors
/// [`DataError::File`] with the spellings that were tried, or if it cannot be told what is there, for want of a permission for one.
pub fn find_file(dir: &Path, name: &str) -> Result<PathBuf, DataError> {
    look_for(dir, name)?.ok_or_else(|| {
        let tried = spellings(name).join(", ");
        DataError::file(dir, format!("no {name} here (looked for {tried}, each plain or .gz)"))
    })
}

fn spellings(name: &str) -> [String; 2] {
    [name.to_owned(), name.replace("-idx", ".idx")]
}

/// [`find_file`], with `None` if there is none.
pub(super) fn look_for(dir: &Path, name: &str) -> Result<Option<PathBuf>, DataError> {
    for suffix in ["", ".gz"] {
        for spelling in spellings(name) {
            let path = dir.join(spelling + suffix);
            match fs::metadata(&path) {
                Ok(found) if found.is_file() => return Ok(Some(path)),
                Ok(_) => {}
                Err(error) if error.kind() == ErrorKind::NotFound => {}
                Err(error) => return Err(DataError::io(&path, "look at")(error)),
            }
        }
    }
    Ok(None)
}

/// The folder within `dir` that holds the files of `kind`: `dir` itself, or the place where torchvision keeps
/// them below its `root` (`FashionMNIST/raw`, `MNIST/raw`). `dir` if none does, so that an error names what
/// the user named.
///
/// # Errors
/// [`DataError::File`] if it cannot be told what is there.
pub fn resolve_dir(kind: DatasetKind, dir: &Path) -> Result<PathBuf, DataError> {
    let nested = dir.join(kind.definition().folder);
    Ok(if files_in(dir)? == 0 && files_in(&nested)? > 0 { nested } else { dir.to_path_buf() })
}

/// True if all four files are in `dir`.
///
/// # Errors
/// [`DataError::File`] if it cannot be told what is there.
pub fn is_complete(dir: &Path) -> Result<bool, DataError> {
    Ok(files_in(dir)? == FILE_NAMES.len())
}

/// The number of the four files that are in a folder.
fn files_in(dir: &Path) -> Result<usize, DataError> {
    FILE_NAMES.iter().try_fold(0, |found, name| Ok(found + usize::from(look_for(dir, name)?.is_some())))
}

/// Reads both splits of `kind` from the four files in `dir`.
///
/// # Errors
/// [`DataError::File`] if one is missing, and every error of [`read_split`].
pub fn load_dir(kind: DatasetKind, dir: &Path) -> Result<Splits, DataError> {
    // All four are looked for before the first is read: a missing label file is known at once.
    let [train_images, train_labels, test_images, test_labels] = FILE_NAMES.map(|name| find_file(dir, name));
    let [train, test] = [(train_images?, train_labels?), (test_images?, test_labels?)];
    Ok(Splits {
        train: read_split(kind, "train", &train.0, &train.1)?,
        test: read_split(kind, "test", &test.0, &test.1)?,
    })
}

/// Reads one split of a published data set from its image and its label file (IDX, plain or gzip-compressed). `split` ("train",
/// "test") goes into the set's name.
///
/// # Errors
/// Every error of [`Idx::read`], and those of [`ArrayDataset::named`] with the file names in them; [`DataError::File`] if the
/// images are not of the size the set is published in.
pub fn read_split(
    kind: DatasetKind,
    split: &str,
    images: &Path,
    labels: &Path,
) -> Result<ArrayDataset, DataError> {
    let pixels = Idx::read(images, 3)?;
    let targets = Idx::read(labels, 1)?;
    let (n, found_h, found_w) = (pixels.dims[0], pixels.dims[1], pixels.dims[2]);
    let (h, w) = kind.image_size();
    if (found_h, found_w) != (h, w) {
        let expected = format!("expected {h} x {w} for {kind}");
        return Err(DataError::file(images, format!("images of {found_h} x {found_w} pixels, {expected}")));
    }
    // Until all is well, it goes by the name of the file that would be to blame.
    let (images, labels) = (images.display(), labels.display());
    let name = match n {
        0 => images.to_string(),
        _ if n == targets.data.len() => labels.to_string(),
        _ => format!("{images} and {labels}"),
    };
    let classes: Vec<usize> = targets.data.into_iter().map(usize::from).collect();
    let mut set = ArrayDataset::named(&name, kind.class_names(), [1, h, w], pixels.data, classes)?;
    set.name = format!("{kind} {split}");
    Ok(set)
}

/// The folder of the bundled Fashion-MNIST mini set.
///
/// Looked for as `datasets/fashion-mnist-mini` in the working directory, then in each folder above it, then
/// in the workspace that the program was compiled in.
///
/// # Errors
/// [`DataError::NotFound`] if it is in none of these: the program was moved away from its workspace.
pub fn bundled_dir() -> Result<PathBuf, DataError> {
    let compiled = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").join(BUNDLED);
    let cwd = std::env::current_dir().unwrap_or_default();
    find_bundled(&cwd, &compiled)
}

fn find_bundled(cwd: &Path, compiled: &Path) -> Result<PathBuf, DataError> {
    let mut unknown = None;
    for dir in cwd.ancestors().map(|dir| dir.join(BUNDLED)).chain([compiled.to_path_buf()]) {
        match is_complete(&dir) {
            Ok(true) => return Ok(dir),
            Ok(false) => {}
            // A folder above that nobody may look into does not hide the next.
            Err(error) => unknown = unknown.or(Some(error)),
        }
    }
    Err(unknown.unwrap_or_else(|| DataError::NotFound {
        name: DatasetKind::FashionMnistMini.name(),
        reason: format!(
            "no complete {BUNDLED} in {} or above it, nor at {}; give its folder with --data-dir",
            cwd.display(),
            compiled.display()
        ),
    }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::idx::tests::encode;
    use crate::data::{Dataset, Image};
    use sha2::{Digest, Sha256};

    #[test]
    fn the_bundled_set_is_whole() {
        let Splits { train, test } =
            load_dir(DatasetKind::FashionMnistMini, &bundled_dir().unwrap()).unwrap();
        assert_eq!((train.name(), test.name()), ("fashion-mnist-mini train", "fashion-mnist-mini test"));
        for (set, n, counts) in [(&train, 10_000, TRAIN_COUNTS), (&test, 2_000, TEST_COUNTS)] {
            assert_eq!((set.len(), set.image_shape(), set.class_names().len()), (n, [1, 28, 28], 10));
            assert_eq!(set.class_counts(), counts);
        }
        assert_eq!(train.labels()[..10], [9, 0, 0, 3, 0, 2, 7, 2, 5, 5]);
        assert_eq!(train.class_names()[train.labels()[0]], "Ankle boot");
        let Image::Bytes(first) = train.get(0).0 else { panic!("pixels have 8 bits") };
        let sum: u32 = first.iter().map(|&p| u32::from(p)).sum();
        assert_eq!(sum, FIRST_IMAGE_SUM);
        let hash: String = Sha256::digest(&first).iter().map(|b| format!("{b:02x}")).collect();
        assert_eq!(hash, FIRST_IMAGE_SHA256);
    }

    #[test]
    fn both_spellings_and_gz_are_found_plain_first() {
        let dir = tempfile::tempdir().unwrap();
        let find = || find_file(dir.path(), FILE_NAMES[0]).map(|p| p.file_name().unwrap().to_owned());
        assert_eq!(
            find().unwrap_err().to_string(),
            format!(
                "{}: no train-images-idx3-ubyte here (looked for train-images-idx3-ubyte, \
                 train-images.idx3-ubyte, each plain or .gz)",
                dir.path().display()
            )
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
    fn the_bundled_set_is_found_from_below_and_reported_when_absent() {
        let root = tempfile::tempdir().unwrap();
        let deep = root.path().join("a/b/c");
        fs::create_dir_all(&deep).unwrap();
        let nowhere = root.path().join("nowhere");
        let error = find_bundled(&deep, &nowhere).unwrap_err().to_string();
        assert!(error.starts_with("data set fashion-mnist-mini not found: no complete datasets/"), "{error}");
        assert!(error.contains(&deep.display().to_string()) && error.contains("--data-dir"), "{error}");

        let place = root.path().join("a").join(BUNDLED);
        fs::create_dir_all(&place).unwrap();
        for name in FILE_NAMES {
            fs::write(place.join(name), "").unwrap();
        }
        assert_eq!(find_bundled(&deep, &nowhere).unwrap(), place);
        assert_eq!(find_bundled(Path::new(""), &place).unwrap(), place);
    }

    #[test]
    fn torchvisions_folders_are_understood() {
        let root = tempfile::tempdir().unwrap();
        let resolve_dir = |kind, dir: &Path| resolve_dir(kind, dir).unwrap();
        assert_eq!(resolve_dir(DatasetKind::Mnist, root.path()), root.path());
        let raw = root.path().join("MNIST/raw");
        fs::create_dir_all(&raw).unwrap();
        fs::write(raw.join(FILE_NAMES[1]), "").unwrap();
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
        let expected = format!("{}: cannot look at: Not a directory", file.join(FILE_NAMES[0]).display());
        for error in [
            find_file(&file, FILE_NAMES[0]).unwrap_err(),
            resolve_dir(DatasetKind::Mnist, &file).unwrap_err(),
            is_complete(&file).unwrap_err(),
            load_dir(DatasetKind::Mnist, &file).unwrap_err(),
            find_bundled(Path::new(""), &file).unwrap_err(),
        ] {
            assert!(error.to_string().starts_with(&expected), "{error}");
        }
        // One place of several that cannot be looked at does not hide the others.
        let (blocked, place) = (root.path().join("blocked"), root.path().join("place"));
        fs::create_dir_all(&place).unwrap();
        fs::create_dir_all(&blocked).unwrap();
        fs::write(blocked.join("datasets"), "").unwrap();
        for name in FILE_NAMES {
            fs::write(place.join(name), "").unwrap();
        }
        assert_eq!(find_bundled(&blocked, &place).unwrap(), place);
        fs::create_dir_all(root.path().join(BUNDLED)).unwrap();
        let error = find_bundled(&blocked, &file.with_file_name("none")).unwrap_err().to_string();
        assert!(
            error.starts_with(&blocked.display().to_string()) && error.contains("cannot look at"),
            "{error}"
        );
    }

    #[test]
    fn faults_of_files_name_the_files() {
        let dir = tempfile::tempdir().unwrap();
        let (images, labels) = (dir.path().join("images"), dir.path().join("labels"));
        let load = |dims: &[u32], of_labels: &[u8]| {
            let pixels = dims.iter().product::<u32>() as usize;
            fs::write(&images, encode(dims, &vec![9; pixels])).unwrap();
            fs::write(&labels, encode(&[of_labels.len() as u32], of_labels)).unwrap();
            read_split(DatasetKind::Mnist, "train", &images, &labels)
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

    const TRAIN_COUNTS: [usize; 10] = [971, 1041, 1019, 1022, 973, 964, 1036, 1007, 966, 1001];
    const TEST_COUNTS: [usize; 10] = [199, 211, 213, 197, 214, 190, 193, 205, 189, 189];
    const FIRST_IMAGE_SUM: u32 = 76247;
    const FIRST_IMAGE_SHA256: &str = "5bd44e331a6d6998daf675700cd0c13dcd7af8ab954b7585124124da61459e7b";
}
