//! Fetching published files over plain HTTP: resumable, bounded, and trusted only after their SHA-256 is
//! right.
//!
//! A file arrives as `NAME.part` beside its place. If the connection breaks, the part stays, and the next
//! attempt asks for the rest (`Range`); a server that sends the whole file instead is taken at its word and
//! the part begun anew. Only when all bytes are there, hashed as expected and written through to the disk, is
//! the part renamed: a file under its final name is always whole. Since the hash is fixed here, nothing is
//! lost by not using TLS.

#[cfg(test)]
mod tests;

use std::fs::{self, File, OpenOptions};
use std::io::{ErrorKind, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use sha2::{Digest, Sha256};
use ureq::http::Response;
use ureq::{Agent, Body};

use super::error::DataError;
use super::files::file_names;
use super::kind::{DatasetKind, Source};
use super::observer::{DataEvent, Observer};
use super::record::hex;
use crate::disk::{FileError, content, io, sync_folder};

/// A file whose contents are known beforehand.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RemoteFile {
    /// The URL of its folder, without the slash at its end; `http` only.
    pub folder: String,
    /// Its name, both at the server and on disk.
    pub name: String,
    /// Its length in bytes.
    pub size: u64,
    /// Its SHA-256, in lower-case hexadecimal.
    pub sha256: String,
}

/// The four files of a data set, or none if it is not published: from the folder that the environment variable `NIN_NAME_URL`
/// names, such as `NIN_FASHION_MNIST_URL`, or else from the authors'.
#[must_use]
pub fn remote_files(kind: DatasetKind) -> Vec<RemoteFile> {
    let Source::Published { url, files } = kind.definition().source else { return Vec::new() };
    let variable = format!("NIN_{}_URL", kind.name().to_uppercase().replace('-', "_"));
    let mirror = std::env::var(variable).ok().filter(|url| !url.is_empty());
    let folder = mirror.as_deref().unwrap_or(url).trim_end_matches('/');
    let file = |((size, sha256), name): ((u64, &str), String)| RemoteFile {
        folder: folder.to_owned(),
        name: format!("{name}.gz"),
        size,
        sha256: sha256.to_owned(),
    };
    files.into_iter().zip(file_names(kind)).map(file).collect()
}

/// Fetches files.
#[derive(Debug, Clone)]
pub struct Downloader {
    /// The URL of the folder of all files, without the slash at its end, in place of their own; `http` only.
    pub base_url: Option<String>,
    /// The longest time that connecting may take.
    pub connect_timeout: Duration,
    /// The longest time that the server may be silent, before its answer and within it.
    pub read_timeout: Duration,
    /// Uses the proxy that the environment names (`http_proxy`).
    pub use_proxy: bool,
}

impl Default for Downloader {
    /// From the files' own folders, with 15 s to connect and 30 s of silence.
    fn default() -> Downloader {
        Downloader {
            base_url: None,
            connect_timeout: Duration::from_secs(15),
            read_timeout: Duration::from_secs(30),
            use_proxy: true,
        }
    }
}

impl Downloader {
    /// A downloader of all files from `base_url`.
    pub fn new(base_url: impl Into<String>) -> Downloader {
        Downloader { base_url: Some(base_url.into()), ..Downloader::default() }
    }

    /// Fetches `file` into the folder `dir` (made if absent) and returns its path. Nothing is done if it is
    /// there already. `observer` is told how far it is.
    ///
    /// # Errors
    /// [`DataError::Download`] if the connection broke (the part is kept), the server sends something else or what arrived is not
    /// the file (the part is removed), [`DataError::File`] if another process downloads it or the disk refuses.
    pub fn fetch(&self, file: &RemoteFile, dir: &Path, observer: &Observer) -> Result<PathBuf, DataError> {
        let target = dir.join(&file.name);
        if target.is_file() {
            return Ok(target);
        }
        fs::create_dir_all(dir).map_err(io(dir, "create"))?;
        let mut part = PartFile::open(dir.join(format!("{}.part", file.name)))?;
        let folder = self.base_url.as_ref().unwrap_or(&file.folder);
        let transfer = Transfer { downloader: self, file, observer, url: format!("{folder}/{}", file.name) };
        if let Err(error) = transfer.complete(&mut part) {
            if part.len == 0 {
                // Nothing to go on from: leave nothing behind. The error at hand matters more than one of the
                // clean-up.
                let _ = part.remove();
            }
            return Err(error);
        }

        let found = part.sha256()?;
        if found != file.sha256 {
            part.remove()?;
            return Err(transfer.failed(format!(
                "downloaded file is corrupt and was removed: expected SHA-256 {}, found {found}",
                file.sha256
            )));
        }
        part.finish(&target)?;
        Ok(target)
    }
}

/// The unfinished file, locked against other processes.
struct PartFile {
    path: PathBuf,
    file: File,
    len: u64,
}

impl PartFile {
    fn open(path: PathBuf) -> Result<PartFile, FileError> {
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(&path)
            .map_err(io(&path, "open"))?;
        match file.try_lock() {
            Ok(()) => {}
            Err(fs::TryLockError::WouldBlock) => {
                return Err(content(&path, "another process is writing this file; wait for it to end"));
            }
            // A file system without locks is no reason not to download.
            Err(fs::TryLockError::Error(e)) if e.kind() == ErrorKind::Unsupported => {}
            Err(fs::TryLockError::Error(e)) => return Err(io(&path, "lock")(e)),
        }
        let mut part = PartFile { path, file, len: 0 };
        part.len = part.file.seek(SeekFrom::End(0)).map_err(io(&part.path, "read"))?;
        Ok(part)
    }

    fn append(&mut self, bytes: &[u8]) -> Result<(), FileError> {
        self.file.write_all(bytes).map_err(io(&self.path, "write"))?;
        self.len += bytes.len() as u64;
        Ok(())
    }

    fn restart(&mut self) -> Result<(), FileError> {
        self.file.set_len(0).and_then(|()| self.file.rewind()).map_err(io(&self.path, "truncate"))?;
        self.len = 0;
        Ok(())
    }

    fn sha256(&mut self) -> Result<String, FileError> {
        let mut bytes = Vec::new();
        let read = self.file.rewind().and_then(|()| self.file.read_to_end(&mut bytes));
        read.map_err(io(&self.path, "read"))?;
        Ok(hex(&Sha256::digest(bytes)))
    }

    fn remove(&self) -> Result<(), FileError> {
        fs::remove_file(&self.path).map_err(io(&self.path, "remove"))
    }

    /// Writes through to the disk, then moves to the final place, in this order: a crash leaves a part or a
    /// whole file.
    fn finish(self, target: &Path) -> Result<(), FileError> {
        self.file.sync_all().map_err(io(&self.path, "sync"))?;
        fs::rename(&self.path, target).map_err(io(target, "move the download to"))?;
        // The new name is made to last, too; the data are safe without.
        let _ = target.parent().map(sync_folder);
        Ok(())
    }
}

/// One file on its way.
struct Transfer<'a> {
    downloader: &'a Downloader,
    file: &'a RemoteFile,
    observer: &'a Observer,
    url: String,
}

impl Transfer<'_> {
    /// Brings `part` to the file's full length, asking again as long as each attempt gets further than all
    /// before it.
    fn complete(&self, part: &mut PartFile) -> Result<(), DataError> {
        let size = self.file.size;
        if part.len > size {
            part.restart()?;
        }
        self.report(part.len);
        let mut furthest = part.len;
        while part.len < size {
            let reason = self.attempt(part)?;
            if part.len <= furthest {
                return Err(self.failed(format!(
                    "download stopped at byte {} of {size}: {reason}; run it again to go on, or give the files with --data-dir",
                    part.len
                )));
            }
            furthest = part.len;
        }
        Ok(())
    }

    /// Asks once for what is missing and appends what comes. Answers why there is no more: if it is not all, asking again may
    /// help.
    fn attempt(&self, part: &mut PartFile) -> Result<String, DataError> {
        let response = match self.ask(part.len) {
            Ok(response) => response,
            Err(reason) => return Ok(reason),
        };
        match response.status().as_u16() {
            206 if part.len > 0 => self.check_range(&response, part.len)?,
            200 => {
                part.restart()?;
                self.check_length(&response, self.file.size)?;
            }
            // The part is of another file than the server has: begin anew, at most once, since `part` is then
            // empty.
            416 if part.len > 0 => {
                part.restart()?;
                return self.attempt(part);
            }
            status => {
                let answer = format!("the server answered with status {status}");
                return Err(self.failed(format!("cannot download: expected the file, {answer}")));
            }
        }
        self.report(part.len);

        let mut body = response.into_body().into_reader();
        let mut buffer = vec![0; 1 << 16];
        loop {
            let n = match body.read(&mut buffer) {
                Ok(0) => return Ok("the connection closed early".to_owned()),
                Ok(n) => n,
                Err(e) if e.kind() == ErrorKind::Interrupted => continue,
                Err(e) => return Ok(e.to_string()),
            };
            if part.len + n as u64 > self.file.size {
                part.restart()?;
                return Err(self.wrong_size("more"));
            }
            part.append(&buffer[..n])?;
            self.report(part.len);
        }
    }

    fn report(&self, done: u64) {
        (self.observer)(DataEvent::Received { name: &self.file.name, size: self.file.size, done });
    }

    /// Sends the request for the bytes from `from` on.
    fn ask(&self, from: u64) -> Result<Response<Body>, String> {
        let Downloader { connect_timeout, read_timeout, use_proxy, .. } = *self.downloader;
        let mut config = Agent::config_builder()
            .http_status_as_error(false)
            .timeout_resolve(Some(connect_timeout))
            .timeout_connect(Some(connect_timeout))
            .timeout_recv_response(Some(read_timeout))
            .timeout_per_read(Some(read_timeout))
            .user_agent(concat!("nin/", env!("CARGO_PKG_VERSION")));
        if !use_proxy {
            config = config.proxy(None);
        }
        let mut request = config.build().new_agent().get(&self.url);
        if from > 0 {
            request = request.header("Range", format!("bytes={from}-"));
        }
        request.call().map_err(|error| error.to_string().replace('\n', " "))
    }

    /// The answer to a request for a range must be that range of a file of the right length.
    fn check_range(&self, response: &Response<Body>, from: u64) -> Result<(), DataError> {
        let size = self.file.size;
        let header =
            response.headers().get("content-range").and_then(|value| value.to_str().ok()).unwrap_or("");
        let expected = format!("bytes {from}-{}", size - 1);
        if header != format!("{expected}/{size}") && header != format!("{expected}/*") {
            return Err(self.wrong_size(&format!("the range {header:?} when asked from byte {from}")));
        }
        self.check_length(response, size - from)
    }

    /// A length that is announced must be the right one; one that is not is found out while reading.
    fn check_length(&self, response: &Response<Body>, expected: u64) -> Result<(), DataError> {
        match response.body().content_length() {
            Some(found) if found != expected => Err(self.wrong_size(&found.to_string())),
            _ => Ok(()),
        }
    }

    fn wrong_size(&self, found: &str) -> DataError {
        let expected = self.file.size;
        self.failed(format!("refused: expected a file of {expected} bytes, the server sends {found}"))
    }

    fn failed(&self, reason: String) -> DataError {
        DataError::Download { url: self.url.clone(), reason }
    }
}
