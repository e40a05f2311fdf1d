//! Files of a run, so written that a crash or a full disk never costs what was saved before. What a run writes, flushes, renames
//! and removes, and what it reads whole, goes through one function here, in whose place the tests put a disk that fails.

use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use crate::names::shown;

mod lock;
#[cfg(test)]
pub(crate) mod testing;

pub use lock::FolderLock;

/// An error of a file.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FileError {
    /// The operating system refused to open, read, write or rename a file or a folder.
    #[error("{path}: cannot {action}: {source}", path = path.display())]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// The action that was tried, as a verb: "open", "read", ...
        action: &'static str,
        /// The system's answer.
        source: io::Error,
    },
    /// A file is missing from its folder or does not hold what it should: it is broken, cut off, too long, of another network or
    /// size, or has weights that are no numbers.
    #[error("{path}: {reason}", path = path.display())]
    Content {
        /// The file, or the folder that it is missing from.
        path: PathBuf,
        /// The fault, with names, shapes, offsets, what was expected and what was found.
        reason: String,
    },
    /// A folder that is another process's.
    #[error("{path}: {owner} is at work in this folder", path = path.display())]
    Busy {
        /// The folder.
        path: PathBuf,
        /// "process" and its number, if the owner can be read.
        owner: String,
    },
}

/// Wraps a system error with the path and the verb of what was tried; made for `map_err`.
pub(crate) fn io(path: &Path, action: &'static str) -> impl FnOnce(io::Error) -> FileError {
    let path = path.to_path_buf();
    move |source| FileError::Io { path, action, source }
}

/// The error of what a file holds. What the reason cites of it stays one printable line.
pub fn content(path: &Path, reason: impl AsRef<str>) -> FileError {
    FileError::Content { path: path.to_path_buf(), reason: shown(reason.as_ref()) }
}

/// A request to the disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Touch {
    Read,
    MakeFolder,
    Create,
    Write,
    Sync,
    Rename,
    SyncFolder,
    Remove,
}

/// Asks something of the disk.
#[cfg(not(test))]
fn touch<T>(_: Touch, _: &Path, act: impl FnOnce() -> io::Result<T>) -> io::Result<T> {
    act()
}

#[cfg(test)]
fn touch<T>(what: Touch, path: &Path, act: impl FnOnce() -> io::Result<T>) -> io::Result<T> {
    testing::before(what, path)?;
    let done = act()?;
    testing::after(what, path)?;
    Ok(done)
}

/// The contents of a plain file.
///
/// # Errors
/// [`FileError::Io`], [`FileError::Content`] if it is none: one would wait for ever for what comes out of a pipe.
pub fn read(path: &Path) -> Result<Vec<u8>, FileError> {
    let read = || fs::metadata(path)?.is_file().then(|| fs::read(path)).transpose();
    touch(Touch::Read, path, read)
        .map_err(io(path, "read"))?
        .ok_or_else(|| content(path, "expected a plain file"))
}

/// Opens a file to be read.
///
/// # Errors
/// [`FileError::Io`].
pub(crate) fn open(path: &Path) -> Result<File, FileError> {
    touch(Touch::Read, path, || File::open(path)).map_err(io(path, "open"))
}

/// The contents of a plain file, `None` if there is nothing of this name.
///
/// # Errors
/// [`FileError::Io`], [`FileError::Content`] if it is no plain file.
pub fn read_if_there(path: &Path) -> Result<Option<Vec<u8>>, FileError> {
    match read(path) {
        Err(FileError::Io { source, .. }) if source.kind() == ErrorKind::NotFound => Ok(None),
        result => result.map(Some),
    }
}

/// Tells whether there is something of this name. What cannot be looked at is an error, not absent.
///
/// # Errors
/// [`FileError::Io`], a missing permission for one.
pub fn exists(path: &Path) -> Result<bool, FileError> {
    touch(Touch::Read, path, || path.try_exists()).map_err(io(path, "look at"))
}

/// Makes a folder that is not there yet, with its parents; tells whether it was not.
///
/// # Errors
/// [`FileError::Io`].
pub fn make_new_folder(path: &Path) -> Result<bool, FileError> {
    let parent = folder_of(path);
    make_folder(parent)?;
    match touch(Touch::MakeFolder, path, || fs::create_dir(path)) {
        Err(error) if error.kind() == ErrorKind::AlreadyExists => Ok(false),
        result => {
            result.map_err(io(path, "make the folder"))?;
            sync_folder(parent).map_err(io(parent, "write to the disk"))?;
            Ok(true)
        }
    }
}

/// Makes a folder, with its parents, and brings to the disk that they are there.
///
/// # Errors
/// [`FileError::Io`].
pub fn make_folder(path: &Path) -> Result<(), FileError> {
    let missing: Vec<&Path> = path.ancestors().take_while(|folder| !folder.exists()).collect();
    touch(Touch::MakeFolder, path, || fs::create_dir_all(path)).map_err(io(path, "make the folder"))?;
    for parent in missing.into_iter().map(folder_of) {
        sync_folder(parent).map_err(io(parent, "write to the disk"))?;
    }
    Ok(())
}

/// Replaces a file by `bytes` or leaves it as it was: writes beside it, flushes to the disk, renames. A symbolic link stays one,
/// and what it points to is replaced. What is no plain file (a pipe, a device) is written to.
///
/// # Errors
/// [`FileError::Io`]; the old file is whole then, or the new one if only its folder could not be flushed, and nothing is
/// left beside it.
pub fn atomic_write(path: &Path, bytes: &[u8]) -> Result<(), FileError> {
    let followed = touch(Touch::Read, path, || followed(path)).map_err(io(path, "look at"))?;
    let Some(target) = followed else {
        let written =
            touch(Touch::Write, path, || OpenOptions::new().write(true).open(path)?.write_all(bytes));
        return written.map_err(io(path, "write"));
    };
    let folder = folder_of(&target);
    let (beside, mut file) = new_file(folder).map_err(io(path, "write"))?;
    let mut replace = || {
        write(&mut file, &beside, bytes).map_err(io(path, "write"))?;
        touch(Touch::Sync, &beside, || file.sync_all()).map_err(io(path, "write to the disk"))?;
        touch(Touch::Rename, &target, || fs::rename(&beside, &target)).map_err(io(path, "put in place"))
    };
    if let Err(error) = replace() {
        // It matters more than an error of the clean-up.
        let _ = touch(Touch::Remove, &beside, || fs::remove_file(&beside));
        return Err(error);
    }
    sync_folder(folder).map_err(io(path, "write its folder to the disk"))
}

/// Checks that [`atomic_write`] can write to a path, without a change to what is there: makes a file beside it, and removes it.
/// What is no plain file is not tried: a pipe would wait for its reader.
///
/// # Errors
/// [`FileError::Io`].
pub fn check_write(path: &Path) -> Result<(), FileError> {
    let try_it = || {
        if path.is_dir() || path.as_os_str().as_encoded_bytes().ends_with(b"/") {
            return Err(ErrorKind::IsADirectory.into());
        }
        let Some(target) = touch(Touch::Read, path, || followed(path))? else { return Ok(()) };
        let (beside, _) = new_file(folder_of(&target))?;
        touch(Touch::Remove, &beside, || fs::remove_file(&beside))
    };
    try_it().map_err(io(path, "write"))
}

/// The folder that a file is in.
fn folder_of(file: &Path) -> &Path {
    file.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// The plain file that a path leads to, which need not be there; `None` if it leads to something else.
fn followed(path: &Path) -> io::Result<Option<PathBuf>> {
    // More links than any system follows.
    const MOST: usize = 64;
    // The system's own answer first: a link in /proc leads to pipes that have no path.
    if fs::metadata(path).is_ok_and(|found| !found.is_file() && !found.is_dir()) {
        return Ok(None);
    }
    let mut target = path.to_path_buf();
    for _ in 0..MOST {
        match fs::symlink_metadata(&target) {
            Ok(found) if found.is_symlink() => {
                let link = fs::read_link(&target)?;
                target = target.parent().map_or_else(|| link.clone(), |folder| folder.join(&link));
            }
            // A folder is refused by what comes after.
            Ok(_) => return Ok(Some(target)),
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Some(target)),
            Err(error) => return Err(error),
        }
    }
    Err(io::Error::other("too many symbolic links"))
}

fn write(file: &mut File, path: &Path, bytes: &[u8]) -> io::Result<()> {
    #[cfg(test)]
    let bytes = testing::torn(bytes, file)?;
    touch(Touch::Write, path, || file.write_all(bytes))
}

/// The renaming of a file is on the disk once its folder is. File systems that cannot flush a folder do so in their own time.
#[cfg(unix)]
pub(crate) fn sync_folder(folder: &Path) -> io::Result<()> {
    match touch(Touch::SyncFolder, folder, || File::open(folder)?.sync_all()) {
        Err(error) if cannot_flush_folders(&error) => Ok(()),
        result => result,
    }
}

/// Elsewhere, a folder cannot be opened as a file.
#[cfg(not(unix))]
pub(crate) fn sync_folder(_: &Path) -> io::Result<()> {
    Ok(())
}

/// Tells the answers of a file system that has no such thing: `EINVAL`, `ENOTSUP`, `ENOSYS`.
#[cfg(unix)]
fn cannot_flush_folders(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::InvalidInput | ErrorKind::Unsupported)
}

/// The beginning of the names of files that are being written.
const WRITING: &str = ".writing-";

/// A new file under a name that no other file of the folder has: another thread has another number, another process another name.
fn new_file(folder: &Path) -> io::Result<(PathBuf, File)> {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    loop {
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let path = folder.join(format!("{WRITING}{}-{number}", std::process::id()));
        match touch(Touch::Create, &path, || File::create_new(&path)) {
            Ok(file) => return Ok((path, file)),
            // Left by a process of the same number that was killed.
            Err(error) if error.kind() == ErrorKind::AlreadyExists => {}
            Err(error) => return Err(error),
        }
    }
}

/// Tells the names that [`new_file`] makes, of a process and a number, from others that begin like them.
fn is_writing(name: &str) -> bool {
    let numbers = name.strip_prefix(WRITING).and_then(|numbers| numbers.split_once('-'));
    let is_number = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    numbers.is_some_and(|(process, number)| is_number(process) && is_number(number))
}

/// Removes what a process left that died while it wrote into this folder. For the folder's owner alone.
///
/// # Errors
/// [`FileError::Io`].
pub(crate) fn sweep(folder: &Path) -> Result<(), FileError> {
    let entries = touch(Touch::Read, folder, || fs::read_dir(folder)?.collect::<io::Result<Vec<_>>>());
    for entry in entries.map_err(io(folder, "read the folder"))? {
        if is_writing(&entry.file_name().to_string_lossy())
            && entry.file_type().is_ok_and(|kind| kind.is_file())
        {
            let path = entry.path();
            touch(Touch::Remove, &path, || fs::remove_file(&path)).map_err(io(&path, "remove"))?;
        }
    }
    Ok(())
}

/// A file that is added to at its end.
#[derive(Debug)]
pub(crate) struct Log {
    path: PathBuf,
    file: File,
}

impl Log {
    /// Opens it at its end, or makes it.
    ///
    /// # Errors
    /// [`FileError::Io`].
    pub(crate) fn open(path: PathBuf) -> Result<Self, FileError> {
        let open = || OpenOptions::new().append(true).create(true).open(&path);
        let file = touch(Touch::Create, &path, open).map_err(io(&path, "open"))?;
        Ok(Self { path, file })
    }

    /// Adds bytes.
    ///
    /// # Errors
    /// [`FileError::Io`]; a part of it may be there.
    pub(crate) fn add(&mut self, bytes: &[u8]) -> Result<(), FileError> {
        write(&mut self.file, &self.path, bytes).map_err(io(&self.path, "write"))
    }

    /// Brings it to the disk.
    ///
    /// # Errors
    /// [`FileError::Io`].
    pub(crate) fn sync(&self) -> Result<(), FileError> {
        touch(Touch::Sync, &self.path, || self.file.sync_data()).map_err(io(&self.path, "write to the disk"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[cfg(unix)]
    #[test]
    fn a_folder_that_cannot_be_flushed_is_an_error_unless_none_can() {
        let folder = tempfile::tempdir().unwrap();
        sync_folder(folder.path()).unwrap();
        assert_eq!(sync_folder(&folder.path().join("missing")).unwrap_err().kind(), ErrorKind::NotFound);
        for (number, expected) in [(22, true), (5, false), (28, false)] {
            let error = io::Error::from_raw_os_error(number);
            assert_eq!(cannot_flush_folders(&error), expected, "{error}");
        }
    }

    /// A folder cannot be replaced by a file, so the write fails at its last step, the renaming.
    #[test]
    fn a_failed_write_leaves_what_was_there() {
        let folder = tempfile::tempdir().unwrap();
        let error = atomic_write(&folder.path().join("missing/file"), b"x").unwrap_err().to_string();
        assert!(error.contains("missing/file: cannot write: "), "{error}");

        let taken = folder.path().join("taken");
        fs::create_dir(&taken).unwrap();
        fs::write(taken.join("old"), b"old").unwrap();
        let error = atomic_write(&taken, b"x").unwrap_err().to_string();
        assert!(error.contains("taken: cannot put in place: "), "{error}");
        assert_eq!(fs::read(taken.join("old")).unwrap(), b"old");
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1, "nothing is left beside it");
    }

    /// A pipe and a device are written to, a link stays a link: only plain files are replaced.
    #[cfg(unix)]
    #[test]
    fn what_is_no_plain_file_is_written_through() {
        use std::os::unix::fs::{MetadataExt, symlink};

        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        fs::write(at("file"), b"old").unwrap();
        fs::create_dir(at("below")).unwrap();
        symlink("file", at("link")).unwrap();
        symlink("../link", at("below/link")).unwrap();
        symlink("nowhere", at("dangling")).unwrap();
        symlink("loop", at("loop")).unwrap();
        atomic_write(&at("below/link"), b"new").unwrap();
        atomic_write(&at("dangling"), b"made").unwrap();
        assert_eq!(
            (fs::read(at("file")).unwrap(), fs::read(at("nowhere")).unwrap()),
            (b"new".into(), b"made".into())
        );
        for link in ["link", "below/link", "dangling"] {
            assert!(fs::symlink_metadata(at(link)).unwrap().is_symlink(), "{link}");
        }
        assert!(atomic_write(&at("loop"), b"x").unwrap_err().to_string().contains("loop: cannot look at: "));
        let device = Path::new("/dev/null");
        let before = fs::metadata(device).unwrap().ino();
        atomic_write(device, b"x").unwrap();
        assert_eq!(fs::metadata(device).unwrap().ino(), before);
        assert!(std::process::Command::new("mkfifo").arg(at("pipe")).status().unwrap().success());
        let reader = std::thread::spawn({
            let pipe = at("pipe");
            move || fs::read(pipe).unwrap()
        });
        atomic_write(&at("pipe"), b"through").unwrap();
        assert_eq!(reader.join().unwrap(), b"through");
    }

    #[test]
    fn a_new_folder_is_made_once() {
        let folder = tempfile::tempdir().unwrap();
        let new = folder.path().join("a/b");
        assert_eq!([make_new_folder(&new).unwrap(), make_new_folder(&new).unwrap()], [true, false]);
    }

    #[test]
    fn what_a_dead_process_left_is_swept() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        for name in
            [".writing-1-0", ".writing-77-3", "model.safetensors", ".lock", ".writing-notes", ".writing-1-b"]
        {
            fs::write(at(name), "x").unwrap();
        }
        fs::create_dir(at(".writing-1-1")).unwrap();
        sweep(folder.path()).unwrap();
        assert!(
            [".writing-notes", ".writing-1-b", ".writing-1-1"].iter().all(|name| at(name).exists()),
            "others'"
        );
        let left =
            ["model.safetensors", ".lock", ".writing-1-0", ".writing-77-3"].map(|name| at(name).exists());
        assert_eq!(left, [true, true, false, false]);
    }
}
