//! Files of a run, so written that a crash or a full disk never costs what was saved before. A module of its own, since
//! data, weights and runs need it alike.

use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

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
}

/// Wraps a system error with the path and the verb of what was tried; made for `map_err`.
pub(crate) fn io(path: &Path, action: &'static str) -> impl FnOnce(io::Error) -> FileError {
    let path = path.to_path_buf();
    move |source| FileError::Io { path, action, source }
}

pub(crate) fn content(path: &Path, reason: String) -> FileError {
    FileError::Content { path: path.to_path_buf(), reason }
}

/// The contents of a file.
///
/// # Errors
/// [`FileError::Io`].
pub(crate) fn read(path: &Path) -> Result<Vec<u8>, FileError> {
    fs::read(path).map_err(io(path, "read"))
}

/// Makes a folder, with its parents.
///
/// # Errors
/// [`FileError::Io`].
pub fn make_folder(path: &Path) -> Result<(), FileError> {
    fs::create_dir_all(path).map_err(io(path, "make the folder"))
}

/// Replaces a file by `bytes` or leaves it as it was: writes beside it, flushes to the disk, renames. A symbolic link stays one, and
/// what it points to is replaced. What is no plain file (a pipe, a device) is written to.
///
/// # Errors
/// [`FileError::Io`]; the old file is whole then, or the new one if only its folder could not be flushed, and nothing is
/// left beside it.
pub fn atomic_write(path: &Path, bytes: &[u8]) -> Result<(), FileError> {
    let Some(target) = followed(path).map_err(io(path, "look at"))? else {
        let written = OpenOptions::new().write(true).open(path).and_then(|mut file| file.write_all(bytes));
        return written.map_err(io(path, "write"));
    };
    let folder = target.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let (beside, mut file) = new_file(folder).map_err(io(path, "write"))?;
    let written = file.write_all(bytes).map_err(io(path, "write"));
    let flushed = written.and_then(|()| file.sync_all().map_err(io(path, "write to the disk")));
    let renamed = flushed.and_then(|()| fs::rename(&beside, &target).map_err(io(path, "put in place")));
    if renamed.is_err() {
        // The error of what was being written matters more than one of the clean-up.
        let _ = fs::remove_file(&beside);
    }
    renamed?;
    sync_folder(folder).map_err(io(path, "write its folder to the disk"))
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

/// The renaming of a file is on the disk once its folder is. File systems that cannot flush a folder do so in their own time.
#[cfg(unix)]
pub(crate) fn sync_folder(folder: &Path) -> io::Result<()> {
    match File::open(folder)?.sync_all() {
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

/// A new file under a name that no other file of the folder has: another thread has another number, another process another name.
fn new_file(folder: &Path) -> io::Result<(PathBuf, File)> {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    loop {
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let path = folder.join(format!(".writing-{}-{number}", std::process::id()));
        match File::create_new(&path) {
            Ok(file) => return Ok((path, file)),
            // Left by a process of the same number that was killed.
            Err(error) if error.kind() == ErrorKind::AlreadyExists => {}
            Err(error) => return Err(error),
        }
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
}
