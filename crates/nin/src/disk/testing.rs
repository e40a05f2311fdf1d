//! A disk that fails: faults in the place of what is asked of the disk, for the tests of this thread.

use std::cell::RefCell;
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use super::{Touch, WRITING};

/// A failure of a touch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    /// The system refuses with this error number, and of what is to be written, half is.
    Refused(i32),
    /// The process dies before the touch.
    CrashBefore,
    /// The process dies when half is written.
    CrashWithin,
    /// The process dies after the touch.
    CrashAfter,
    /// The machine loses its power after the touch: what was not flushed is gone.
    PowerLoss,
}

/// The state of this thread's disk.
#[derive(Debug, Default)]
struct Disk {
    /// Touches so far.
    touches: usize,
    /// The touch that goes wrong, counted from 0, and how.
    fault: Option<(usize, Fault)>,
    /// True once the process has died: nothing reaches the disk any more.
    dead: bool,
    /// The touches that happened, for whoever looks into a failure.
    log: Vec<(Touch, PathBuf)>,
    /// Lengths that are on the disk, of files with more in them than that.
    unflushed: Vec<(PathBuf, u64)>,
    /// Contents that lay in the places of files whose renaming is not on the disk.
    renamed: Vec<(PathBuf, Option<Vec<u8>>)>,
}

thread_local! {
    static DISK: RefCell<Option<Disk>> = const { RefCell::new(None) };
}

/// The touches of a run, in their order.
pub(crate) type Touches = Vec<(Touch, PathBuf)>;

/// Runs `act` on a disk that fails in one touch, counted from 0 (`None` for a good one). Answers what was touched.
pub(crate) fn on_a_disk<T>(fault: Option<(usize, Fault)>, act: impl FnOnce() -> T) -> (T, Touches) {
    DISK.set(Some(Disk { fault, ..Disk::default() }));
    let done = act();
    let disk = DISK.take().expect("it was put there");
    if matches!(disk.fault, Some((at, Fault::PowerLoss)) if disk.touches > at) {
        disk.lose_power();
    }
    (done, disk.log)
}

impl Disk {
    /// Takes back what was not flushed.
    fn lose_power(&self) {
        for (path, length) in &self.unflushed {
            if let Ok(file) = File::options().write(true).open(path) {
                file.set_len(*length).unwrap();
            }
        }
        for (path, before) in self.renamed.iter().rev() {
            match before {
                Some(bytes) => fs::write(path, bytes).unwrap(),
                None => fs::remove_file(path).unwrap(),
            }
        }
    }

    fn die(&mut self) -> io::Error {
        self.dead = true;
        io::Error::other("the process is dead")
    }

    /// The fault of the touch that is being made.
    fn now(&self) -> Option<Fault> {
        self.fault.filter(|&(at, _)| at == self.touches).map(|(_, fault)| fault)
    }
}

fn with<T>(otherwise: T, act: impl FnOnce(&mut Disk) -> T) -> T {
    DISK.with_borrow_mut(|disk| disk.as_mut().map_or(otherwise, act))
}

/// Before a touch.
pub(super) fn before(what: Touch, path: &Path) -> io::Result<()> {
    with(Ok(()), |disk| {
        if disk.dead {
            return Err(disk.die());
        }
        match disk.now() {
            Some(Fault::Refused(number)) => {
                disk.touches += 1;
                disk.log.push((what, path.to_path_buf()));
                return Err(io::Error::from_raw_os_error(number));
            }
            Some(Fault::CrashBefore | Fault::CrashWithin) => return Err(disk.die()),
            _ => {}
        }
        match what {
            Touch::Write if !disk.unflushed.iter().any(|(own, _)| own == path) => {
                let length = fs::metadata(path).map_or(0, |file| file.len());
                disk.unflushed.push((path.to_path_buf(), length));
            }
            Touch::Rename => {
                disk.renamed.push((path.to_path_buf(), fs::read(path).ok()));
                // What was written beside it goes by its name from now on.
                for (own, _) in &mut disk.unflushed {
                    let beside =
                        own.file_name().is_some_and(|name| name.to_string_lossy().starts_with(WRITING));
                    if beside && own.parent() == path.parent() {
                        own.clone_from(&path.to_path_buf());
                    }
                }
            }
            _ => {}
        }
        Ok(())
    })
}

/// After a touch that went well.
pub(super) fn after(what: Touch, path: &Path) -> io::Result<()> {
    with(Ok(()), |disk| {
        let fault = disk.now();
        disk.touches += 1;
        disk.log.push((what, path.to_path_buf()));
        match what {
            Touch::Sync => disk.unflushed.retain(|(own, _)| own != path),
            Touch::SyncFolder => disk.renamed.retain(|(own, _)| own.parent() != Some(path)),
            _ => {}
        }
        match fault {
            Some(Fault::CrashAfter | Fault::PowerLoss) => Err(disk.die()),
            _ => Ok(()),
        }
    })
}

/// Of what is to be written, what reaches the file: all of it, unless this write is to fail, which puts half of it there.
pub(super) fn torn<'a>(bytes: &'a [u8], file: &mut File) -> io::Result<&'a [u8]> {
    let torn =
        with(false, |disk| !disk.dead && matches!(disk.now(), Some(Fault::Refused(_) | Fault::CrashWithin)));
    if torn {
        file.write_all(&bytes[..bytes.len() / 2])?;
    }
    Ok(bytes)
}
