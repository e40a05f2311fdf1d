//! [`FolderLock`]: who has a folder.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{ErrorKind, Read, Seek, Write};
use std::path::{Path, PathBuf};

use super::{FileError, Touch, content, io, touch};

/// An owner that cannot be told by its number.
const ANOTHER: &str = "another process";

/// The ownership of a folder: a lock on its file `.lock`, which the system lifts when the process ends, however it ends.
#[derive(Debug)]
pub struct FolderLock {
    path: PathBuf,
    file: File,
    /// The content that the file is to have when the lock is given up; `None` if it was not there.
    after: Option<Vec<u8>>,
}

impl FolderLock {
    /// Takes a folder that nobody has.
    ///
    /// # Errors
    /// [`FileError::Busy`] if another process has it, or this one already;
    /// [`FileError::Io`] if there can be no file in the folder.
    pub fn take(folder: &Path) -> Result<Self, FileError> {
        let path = folder.join(".lock");
        let mut options = OpenOptions::new();
        options.read(true).write(true);
        let open = || match options.clone().create_new(true).open(&path) {
            Err(error) if error.kind() == ErrorKind::AlreadyExists => Ok((options.open(&path)?, false)),
            made => Ok((made?, true)),
        };
        let (file, made) = touch(Touch::Create, &path, open).map_err(io(&path, "open"))?;
        let busy = |owner| FileError::Busy { path: folder.to_path_buf(), owner };
        if !file.metadata().is_ok_and(|found| found.is_file()) {
            return Err(content(&path, "expected a plain file"));
        }
        let locked = file.try_lock();
        let mut text = Vec::new();
        // A number is short. On some systems nobody else can read what is locked.
        let _ = (&file).take(32).read_to_end(&mut text);
        match locked {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                let owner = String::from_utf8_lossy(&text).trim().parse::<u32>();
                return Err(busy(owner.map_or_else(|_| ANOTHER.to_owned(), |id| format!("process {id}"))));
            }
            // A file system without locks is no reason not to train.
            Err(TryLockError::Error(error)) if error.kind() == ErrorKind::Unsupported => {}
            Err(TryLockError::Error(error)) => return Err(io(&path, "lock")(error)),
        }
        // Empty, or the number of a process that died.
        if !text.iter().all(|byte| byte.is_ascii_digit() || byte.is_ascii_whitespace()) {
            return Err(content(&path, "another program's file, which a run would replace"));
        }
        // Its owner gave it up, and took the file with it, since it was opened here.
        if !is_at(&file, &path) {
            return Err(busy(ANOTHER.to_owned()));
        }
        let mut lock = Self { path, file, after: (!made).then_some(text) };
        lock.put(format!("{}\n", std::process::id()).as_bytes()).map_err(io(&lock.path, "write"))?;
        Ok(lock)
    }

    /// Refuses to go on without a lock that others see: if its file was removed, another process may have taken the folder.
    ///
    /// # Errors
    /// [`FileError::Content`].
    pub(crate) fn check(&self) -> Result<(), FileError> {
        if is_at(&self.file, &self.path) {
            return Ok(());
        }
        let reason = "this run's lock was taken away; another process may be at work in its folder";
        Err(content(&self.path, reason))
    }

    /// From now on the folder changes: what an earlier owner left in the lock is not put back.
    pub(crate) fn begin(&mut self) {
        self.after = Some(Vec::new());
    }

    /// Replaces what the file holds. It is for others to read; the lock itself is what counts.
    fn put(&mut self, text: &[u8]) -> io::Result<()> {
        let Self { path, file, .. } = self;
        touch(Touch::Write, path, || {
            file.set_len(0).and_then(|()| file.rewind()).and_then(|()| file.write_all(text))
        })
    }
}

/// Tells whether a file is still the one of its path.
#[cfg(unix)]
fn is_at(file: &File, path: &Path) -> bool {
    use std::os::unix::fs::MetadataExt;

    let place = |found: fs::Metadata| (found.dev(), found.ino());
    let found = file.metadata().and_then(|own| Ok((place(own), place(fs::metadata(path)?))));
    found.is_ok_and(|(own, there)| own == there)
}

/// Elsewhere, what is open cannot be removed.
#[cfg(not(unix))]
fn is_at(_: &File, _: &Path) -> bool {
    true
}

impl Drop for FolderLock {
    fn drop(&mut self) {
        // If it fails, the next owner's number takes the place of this one's.
        let _ = match self.after.take() {
            Some(after) => self.put(&after),
            None if is_at(&self.file, &self.path) => {
                touch(Touch::Remove, &self.path, || fs::remove_file(&self.path))
            }
            None => Ok(()),
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_has_one_owner() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join(".lock"), "77\n").unwrap();
        let left = || fs::read_to_string(folder.path().join(".lock")).unwrap();
        let lock = FolderLock::take(folder.path()).unwrap();
        let error = FolderLock::take(folder.path()).unwrap_err().to_string();
        assert!(
            error.ends_with(&format!(": process {} is at work in this folder", std::process::id())),
            "{error}"
        );
        drop(lock);
        assert_eq!(left(), "77\n", "nothing has changed");
        fs::remove_file(folder.path().join(".lock")).unwrap();
        drop(FolderLock::take(folder.path()).unwrap());
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0, "nothing is left");
        let mut lock = FolderLock::take(folder.path()).unwrap();
        lock.begin();
        lock.check().unwrap();
        if cfg!(unix) {
            fs::rename(folder.path().join(".lock"), folder.path().join("gone")).unwrap();
            assert!(
                lock.check()
                    .unwrap_err()
                    .to_string()
                    .ends_with("another process may be at work in its folder")
            );
            fs::rename(folder.path().join("gone"), folder.path().join(".lock")).unwrap();
        }
        drop(lock);
        assert_eq!(left(), "");
        fs::write(folder.path().join(".lock"), "{}").unwrap();
        assert!(
            FolderLock::take(folder.path())
                .unwrap_err()
                .to_string()
                .contains(".lock: another program's file")
        );
        assert_eq!(left(), "{}");
    }
}
