//! [`ImageFolder`]: PNG and JPEG files in folders, one for each class.
//!
//! All files are read once when the folder is opened: those that are broken are known before anything is trained, and so is the
//! SHA-256 of all. Their pixels, brought to the size of the network, are kept in memory while there is room; others are decoded
//! again whenever they are asked for, on the thread that asks, which is a loader's.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use rayon::prelude::*;
use sha2::{Digest, Sha256};

use super::dataset::{Dataset, Image, Splits, Target};
use super::error::DataError;
use super::observer::{DataEvent, Observer};
use super::picture::Picture;
use super::record::hex;
use crate::disk::{FileError, content, io};

/// The ways in which a folder of images is opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FolderOptions {
    /// H and W that all images are stretched to, in pixels.
    pub size: [usize; 2],
    /// The most bytes of pixels that are kept in memory.
    pub cache: u64,
    /// Refuses a folder with a file that cannot be read; otherwise it is left out, and reported to the observer.
    pub strict: bool,
    /// Threads that decode when the folder is opened.
    pub threads: usize,
}

/// The images of a folder, all of one size: the training or the test images of it.
#[derive(Debug, Clone)]
pub struct ImageFolder {
    name: String,
    size: [usize; 2],
    channels: usize,
    class_names: Arc<Vec<String>>,
    files: Vec<ImageFile>,
}

#[derive(Debug, Clone)]
struct ImageFile {
    path: PathBuf,
    /// The path below the folder that was opened, with slashes.
    key: String,
    class: usize,
    /// The decoded image, if there was room for it.
    kept: Option<Picture>,
    has_color: bool,
    /// The SHA-256 of the file.
    sha256: [u8; 32],
}

impl ImageFolder {
    /// Opens `folder`: `folder/train/CLASS/*` and `folder/test/CLASS/*`, where `val` may stand for `test`, or `folder/CLASS/*`,
    /// of which all are training images. Classes are in the order of their names; their folders may have folders. Files and
    /// folders whose names begin with a dot, and files that are no images by the ends of their names, do not count. Images have
    /// one channel if all of them are gray, three otherwise. Answers the SHA-256 of names and contents, too.
    ///
    /// # Errors
    /// [`DataError::File`] if a folder cannot be read, or with `strict` a file; [`DataError::Samples`] if there are no classes, a
    /// class has no training image, or test images have a class of their own.
    pub fn open(
        folder: &Path,
        options: FolderOptions,
        observer: &Observer,
    ) -> Result<(Splits<ImageFolder>, String), DataError> {
        let refuse = |reason| DataError::Samples { name: folder.display().to_string(), reason };
        let Found { class_names, files } = find(folder)?;
        let pool = rayon::ThreadPoolBuilder::new().num_threads(options.threads).build();
        let pool =
            pool.map_err(|error| DataError::Options(format!("cannot start threads that decode: {error}")))?;
        let [train, test] = pool.install(|| read_all(files, options, observer))?;
        if let Some(class) =
            (0..class_names.len()).find(|&class| !train.iter().any(|file| file.class == class))
        {
            return Err(refuse(format!("no training image of class {:?} can be read", class_names[class])));
        }
        let mut hash = Sha256::new();
        for file in train.iter().chain(&test) {
            hash.update(file.key.as_bytes());
            hash.update([0]);
            hash.update(file.sha256);
        }
        let channels = if train.iter().chain(&test).any(|file| file.has_color) { 3 } else { 1 };
        let class_names = Arc::new(class_names);
        let half = |split: &str, files| Self {
            name: format!("{} {split}", folder.display()),
            size: options.size,
            channels,
            class_names: Arc::clone(&class_names),
            files,
        };
        Ok((Splits { train: half("train", train), test: half("test", test) }, hex(&hash.finalize())))
    }

    /// The bytes of pixels that are kept in memory.
    #[must_use]
    pub fn cached(&self) -> u64 {
        self.files.iter().filter_map(|file| file.kept.as_ref()).map(|kept| kept.pixels().len() as u64).sum()
    }
}

impl Dataset for ImageFolder {
    fn name(&self) -> &str {
        &self.name
    }

    fn len(&self) -> usize {
        self.files.len()
    }

    fn image_shape(&self) -> [usize; 3] {
        [self.channels, self.size[0], self.size[1]]
    }

    fn get(&self, index: usize) -> Result<(Image<'_>, Target<'_>), DataError> {
        let file = &self.files[index];
        let pixels = match &file.kept {
            Some(kept) if kept.shape()[0] == self.channels => Image::Bytes(kept.pixels().into()),
            kept => {
                let picture = match kept {
                    Some(kept) => kept.clone(),
                    None => Picture::open(&file.path)?.resized(self.size)?,
                };
                picture.with_channels(self.channels)?.into_pixels().into()
            }
        };
        Ok((pixels, Target::Class(file.class)))
    }

    fn target(&self, index: usize) -> Result<Target<'_>, DataError> {
        Ok(Target::Class(self.files[index].class))
    }

    fn class_names(&self) -> &[String] {
        &self.class_names
    }

    fn key(&self, index: usize) -> String {
        self.files[index].key.clone()
    }
}

/// The image files of the training images and of the test images, as [`ImageFolder::open`] finds them, each with the name of its
/// class, in their order. None is opened.
///
/// # Errors
/// As [`ImageFolder::open`], of folders.
pub fn labeled_files(folder: &Path) -> Result<Splits<Vec<(String, PathBuf)>>, DataError> {
    let Found { class_names, files } = find(folder)?;
    let [train, test] = files.map(|files| {
        let named = files.into_iter().map(|(_, class, path)| (class_names[class].clone(), path));
        named.collect()
    });
    Ok(Splits { train, test })
}

/// The classes of a folder, and the files of both splits.
struct Found {
    class_names: Vec<String>,
    files: [Vec<(String, usize, PathBuf)>; 2],
}

fn find(folder: &Path) -> Result<Found, DataError> {
    let refuse = |reason| DataError::Samples { name: folder.display().to_string(), reason };
    let within = |name: &str| Some(folder.join(name)).filter(|path| path.is_dir());
    if within("train").is_some()
        && let Some((other, _)) =
            folders_in(folder)?.iter().find(|(name, _)| !["train", "test", "val"].contains(&name.as_str()))
    {
        return Err(refuse(format!(
            "expected train, test and val alone, or classes, found train beside {other}"
        )));
    }
    let train = within("train").unwrap_or_else(|| folder.to_path_buf());
    let test = within("train").and_then(|_| within("test").or_else(|| within("val")));
    let class_names: Vec<String> = folders_in(&train)?.into_iter().map(|(name, _)| name).collect();
    if class_names.is_empty() {
        let reason = format!("no folders of classes in {}; expected CLASS/*.png or *.jpg", train.display());
        return Err(refuse(reason));
    }
    let mut files = [list(folder, &train, &class_names)?, Vec::new()];
    if let Some(test) = &test {
        files[1] = list(folder, test, &class_names)?;
    }
    Ok(Found { class_names, files })
}

/// The folders in a folder, links to folders among them, by their names.
fn folders_in(folder: &Path) -> Result<Vec<(String, PathBuf)>, DataError> {
    let folders = entries(folder)?.into_iter().filter(|path| path.is_dir());
    Ok(folders
        .map(|path| (path.file_name().unwrap_or_default().to_string_lossy().into_owned(), path))
        .collect())
}

/// Entries of a folder that are not hidden, in the order of the names.
fn entries(folder: &Path) -> Result<Vec<PathBuf>, FileError> {
    let all = fs::read_dir(folder).and_then(Iterator::collect::<std::io::Result<Vec<_>>>);
    let all = all.map_err(io(folder, "read the folder"))?;
    let shown = all.into_iter().filter(|entry| !entry.file_name().as_encoded_bytes().starts_with(b"."));
    let mut paths: Vec<PathBuf> = shown.map(|entry| entry.path()).collect();
    paths.sort();
    Ok(paths)
}

/// The image files in a folder and below it, in the order of their names. Links to folders below it are not followed: one may
/// lead back. Of files by other names, those that are images of another kind are there, too, so that reading them says so.
///
/// # Errors
/// [`FileError`] if a folder cannot be read.
pub fn image_files(folder: &Path) -> Result<Vec<PathBuf>, FileError> {
    let mut found = Vec::new();
    for path in entries(folder)? {
        if path.is_dir() {
            if !path.is_symlink() {
                found.extend(image_files(&path)?);
            }
        } else if path
            .extension()
            .is_some_and(|own| IMAGES.iter().any(|known| own.eq_ignore_ascii_case(known)))
        {
            found.push(path);
        }
    }
    Ok(found)
}

/// The ends of the names of images. Those after the first three are refused by what they hold.
const IMAGES: [&str; 12] =
    ["png", "jpg", "jpeg", "jpe", "jfif", "gif", "bmp", "webp", "tif", "tiff", "heic", "avif"];

/// The files of a split, class by class: their keys, which classes they are of, where they lie.
fn list(
    root: &Path,
    folder: &Path,
    class_names: &[String],
) -> Result<Vec<(String, usize, PathBuf)>, DataError> {
    let mut files = Vec::new();
    for (name, path) in folders_in(folder)? {
        let Some(class) = class_names.iter().position(|known| *known == name) else {
            let reason = format!("class {name:?} has no folder of training images");
            return Err(DataError::Samples { name: folder.display().to_string(), reason });
        };
        for file in image_files(&path)? {
            let below = file.strip_prefix(root).unwrap_or(&file);
            let words: Vec<_> = below.iter().map(|word| word.to_string_lossy()).collect();
            files.push((words.join("/"), class, file));
        }
    }
    Ok(files)
}

/// Reads and decodes all files of both splits; those that cannot be are left out or, if `strict`, refused, the first of them.
fn read_all(
    files: [Vec<(String, usize, PathBuf)>; 2],
    options: FolderOptions,
    observer: &Observer,
) -> Result<[Vec<ImageFile>; 2], DataError> {
    let (all, done, room) =
        (files.iter().map(Vec::len).sum(), AtomicUsize::new(0), AtomicU64::new(options.cache));
    let read = |(key, class, path): (String, usize, PathBuf)| {
        let found = read(key, class, path, options.size, &room);
        observer(DataEvent::Decoded { done: done.fetch_add(1, Ordering::Relaxed) + 1, all });
        found
    };
    // In the order of the files, whichever thread has read them.
    let found = files.map(|files| files.into_par_iter().map(read).collect::<Vec<_>>());
    let mut splits = [Vec::new(), Vec::new()];
    for (split, found) in splits.iter_mut().zip(found) {
        for found in found {
            match found {
                Ok(file) => split.push(file),
                Err(error) if options.strict => return Err(error.into()),
                Err(error) => observer(DataEvent::LeftOut { error: &error }),
            }
        }
    }
    Ok(splits)
}

fn read(
    key: String,
    class: usize,
    path: PathBuf,
    size: [usize; 2],
    room: &AtomicU64,
) -> Result<ImageFile, FileError> {
    let bytes = Picture::bytes(&path)?;
    let picture = Picture::decode(&bytes, &path)?;
    let has_color = picture.shape()[0] > 1;
    let picture = picture.resized(size).map_err(|error| content(&path, error.to_string()))?;
    let own = picture.pixels().len() as u64;
    let fits = room.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |room| room.checked_sub(own)).is_ok();
    let sha256 = Sha256::digest(&bytes).into();
    Ok(ImageFile { path, key, class, kept: fits.then_some(picture), has_color, sha256 })
}

#[cfg(test)]
mod tests {
    use std::io::Cursor;
    use std::sync::Mutex;

    use image::{DynamicImage, ImageBuffer, ImageFormat, Luma, Rgb};

    use super::*;
    use crate::data::{HoldOut, Normalization};

    fn write(path: &Path, bytes: &[u8]) {
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, bytes).unwrap();
    }

    fn encoded(image: impl Into<DynamicImage>, format: ImageFormat) -> Vec<u8> {
        let mut bytes = Cursor::new(Vec::new());
        image.into().write_to(&mut bytes, format).unwrap();
        bytes.into_inner()
    }

    fn gray(side: u32, value: u8) -> Vec<u8> {
        encoded(ImageBuffer::from_pixel(side, side, Luma([value])), ImageFormat::Png)
    }

    fn red(w: u32, h: u32) -> Vec<u8> {
        encoded(ImageBuffer::from_pixel(w, h, Rgb([250u8, 10, 20])), ImageFormat::Jpeg)
    }

    const OPTIONS: FolderOptions = FolderOptions { size: [4, 4], cache: 1 << 20, strict: false, threads: 2 };

    type Opened = Result<(Splits<ImageFolder>, String), DataError>;

    /// A folder opened, with what was reported of files that were left out.
    fn open(root: &Path, options: FolderOptions) -> (Opened, Vec<String>) {
        let reported = Arc::new(Mutex::new(Vec::new()));
        let own = Arc::clone(&reported);
        let observer: Observer = Arc::new(move |event| {
            if let DataEvent::LeftOut { error } = event {
                own.lock().unwrap().push(error.to_string());
            }
        });
        let opened = ImageFolder::open(root, options, &observer);
        let reported = reported.lock().unwrap().clone();
        (opened, reported)
    }

    #[test]
    fn images_of_any_kind_are_stretched_to_one_size_and_kept_or_decoded_again() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path();
        write(&root.join("train/cat/2.PNG"), &gray(9, 40));
        write(&root.join("train/cat/deep/er/1.jpeg"), &red(30, 8));
        write(&root.join("train/dog/a.png"), &gray(4, 90));
        write(&root.join("test/dog/b.jpg"), &red(5, 5));
        // What does not count: other files, hidden ones, as some systems leave.
        write(&root.join("train/dog/notes.txt"), b"woof");
        write(&root.join("train/dog/._a.png"), b"no image");
        write(&root.join("train/.cache/x.png"), &gray(4, 1));
        let (opened, reported) = open(root, OPTIONS);
        let (kept, sha256) = opened.unwrap();
        assert!(reported.is_empty(), "{reported:?}");
        assert_eq!((kept.train.len(), kept.test.len(), kept.train.image_shape()), (3, 1, [3, 4, 4]));
        assert_eq!(kept.train.class_names(), ["cat", "dog"]);
        let Splits { train, test } = labeled_files(root).unwrap();
        assert_eq!(train[1], ("cat".to_owned(), root.join("train/cat/deep/er/1.jpeg")));
        assert_eq!((train.len(), &test[..]), (3, &[("dog".to_owned(), root.join("test/dog/b.jpg"))][..]));
        assert_eq!(
            (kept.train.key(1), kept.train.cached()),
            ("train/cat/deep/er/1.jpeg".to_owned(), 16 + 48 + 16)
        );
        // Nothing is kept, one thread: the same images, in the same order.
        let (again, same) = open(root, FolderOptions { cache: 0, threads: 1, ..OPTIONS }).0.unwrap();
        assert!(again.train.cached() == 0 && same == sha256);
        for index in 0..3 {
            assert_eq!(again.train.get(index).unwrap(), kept.train.get(index).unwrap());
        }
        let (Image::Bytes(first), Target::Class(0)) = kept.train.get(0).unwrap() else {
            panic!("a cat's bytes")
        };
        assert_eq!(first[..], [40; 48], "gray in three planes");
        assert_eq!(Normalization::of(&kept.train).unwrap(), Normalization::of(&again.train).unwrap());
        // Other contents or another name are other data.
        write(&root.join("train/dog/a.png"), &gray(4, 91));
        let other = open(root, OPTIONS).0.unwrap().1;
        fs::rename(root.join("train/dog/a.png"), root.join("train/dog/c.png")).unwrap();
        let third = open(root, OPTIONS).0.unwrap().1;
        assert!(other != sha256 && third != other && third != sha256);
        // An image that is gone while it is trained on is an error with its name.
        fs::remove_file(root.join("train/cat/2.PNG")).unwrap();
        let error = again.train.get(0).unwrap_err().to_string();
        assert!(error.contains("2.PNG") && error.contains("cannot read"), "{error}");
    }

    #[test]
    fn a_folder_without_tests_gives_a_share_of_its_own() {
        let dir = tempfile::tempdir().unwrap();
        for i in 0..200 {
            write(&dir.path().join(["no", "yes"][i % 2]).join(format!("{i}.png")), &gray(2, i as u8));
        }
        let splits = open(dir.path(), OPTIONS).0.unwrap().0;
        assert_eq!((splits.train.len(), splits.test.len(), splits.train.image_shape()), (200, 0, [1, 4, 4]));
        let held = Splits::<Arc<dyn Dataset>>::from(splits).hold_out(HoldOut::Share(0.2)).test;
        let keys = |set: &dyn Dataset| (0..set.len()).map(|i| set.key(i)).collect::<Vec<_>>();
        let before = keys(&*held);
        assert!((20..60).contains(&before.len()), "{}", before.len());
        // More images come, and one goes: the others stay on their side.
        (200..260).for_each(|i| write(&dir.path().join("yes").join(format!("{i}.png")), &gray(2, 1)));
        fs::remove_file(dir.path().join(&before[0])).unwrap();
        let splits = open(dir.path(), OPTIONS).0.unwrap().0;
        let after = keys(&*Splits::<Arc<dyn Dataset>>::from(splits).hold_out(HoldOut::Share(0.2)).test);
        assert!(before[1..].iter().all(|key| after.contains(key)) && after.len() > before.len());
        assert!(
            after
                .iter()
                .all(|key| before.contains(key) || key[4..7].parse::<usize>().is_ok_and(|i| i >= 200))
        );
    }

    #[test]
    fn broken_files_are_named_and_left_out_or_refused() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path();
        write(&root.join("a/good.png"), &gray(3, 7));
        write(&root.join("b/good.png"), &gray(3, 8));
        let whole = red(20, 20);
        let broken: [(&str, &[u8], &str); 6] = [
            ("a/cut.jpg", &whole[..whole.len() / 2], "not a whole image"),
            ("a/empty.png", b"", "neither a PNG nor a JPEG"),
            ("a/end.jpg", &whole[..whole.len() - 2], "not a whole image: the file is cut off"),
            ("a/page.jpg", b"<!DOCTYPE html>", "neither a PNG nor a JPEG"),
            ("b/moving.gif", b"GIF89a", "neither a PNG nor a JPEG"),
            ("b/half.png", &gray(3, 8)[..30], "not a whole image"),
        ];
        for (name, bytes, _) in broken {
            write(&root.join(name), bytes);
        }
        let (opened, reported) = open(root, OPTIONS);
        assert_eq!(opened.unwrap().0.train.len(), 2);
        assert_eq!(reported.len(), broken.len(), "{reported:?}");
        for (name, _, reason) in broken {
            assert!(
                reported.iter().any(|line| line.contains(name) && line.contains(reason)),
                "{name}: {reported:?}"
            );
        }
        let strict = open(root, FolderOptions { strict: true, ..OPTIONS }).0.unwrap_err().to_string();
        assert!(strict.contains("a/cut.jpg: not a whole image"), "the first of them: {strict}");
        fs::remove_file(root.join("b/good.png")).unwrap();
        let error = open(root, OPTIONS).0.unwrap_err().to_string();
        assert!(error.ends_with("no training image of class \"b\" can be read"), "{error}");
    }

    #[test]
    fn a_folder_that_is_none_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let refused = |root: &Path| open(root, OPTIONS).0.unwrap_err().to_string();
        assert!(refused(&dir.path().join("nowhere")).contains("cannot read the folder"));
        write(&dir.path().join("loose.png"), &gray(3, 7));
        assert!(refused(dir.path()).contains("no folders of classes in"));
        write(&dir.path().join("train/a/x.png"), &gray(3, 7));
        write(&dir.path().join("val/b/x.png"), &gray(3, 7));
        assert!(refused(dir.path()).ends_with("class \"b\" has no folder of training images"));
        write(&dir.path().join("car/x.png"), &gray(3, 7));
        assert!(refused(dir.path()).ends_with("or classes, found train beside car"));
    }
}
