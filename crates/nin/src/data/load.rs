//! From the name of a data set to its images: those in the program, the user's folder, the cache, the download.

use std::env;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::dataset::Splits;
#[cfg(feature = "download")]
use super::download::{Downloader, remote_files};
use super::error::DataError;
#[cfg(feature = "download")]
use super::files::look_for;
use super::files::{bundled, file_names, is_complete, load_dir, resolve_dir};
use super::kind::{DatasetKind, Source};
use super::observer::{DataEvent, Observer};

/// Places where data sets are looked for, and the ways in which files are read.
#[derive(Clone)]
pub struct DataSources {
    /// The user's folder (`--data-dir`), or one that holds torchvision's `FashionMNIST/raw` or `MNIST/raw`.
    pub data_dir: Option<PathBuf>,
    /// The folder below which downloads are kept; `None` if there is nowhere to keep them.
    pub cache_dir: Option<PathBuf>,
    /// The most bytes of decoded images that a folder of images keeps in memory.
    pub image_cache: u64,
    /// Refuses a folder of images with a file that cannot be read; otherwise it is left out.
    pub strict_images: bool,
    /// Threads that decode a folder of images when it is opened.
    pub threads: usize,
    /// The observer of what happens.
    pub observer: Observer,
    /// The way published files are fetched.
    #[cfg(feature = "download")]
    pub downloader: Downloader,
}

impl fmt::Debug for DataSources {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { data_dir, cache_dir, .. } = self;
        f.debug_struct("DataSources")
            .field("data_dir", data_dir)
            .field("cache_dir", cache_dir)
            .finish_non_exhaustive()
    }
}

impl DataSources {
    /// The user's folder, the cache folder of [`cache_dir`], and the authors' servers (or their replacements in
    /// the environment); a GiB of decoded images, decoded by two threads.
    pub fn new(data_dir: Option<PathBuf>) -> DataSources {
        DataSources {
            data_dir,
            cache_dir: cache_dir(),
            image_cache: 1 << 30,
            strict_images: false,
            threads: 2,
            observer: Arc::new(|_| ()),
            #[cfg(feature = "download")]
            downloader: Downloader::default(),
        }
    }
}

/// Loads both splits of `kind` as arrays.
///
/// * The bundled one: from `data_dir` if that is given, else from the program.
/// * A published one: from `data_dir` if all files are there, else from `CACHE/NAME`, else downloaded to it if the crate was
///   built with the feature `download`.
/// * Any other: from `data_dir`, which must be given.
///
/// # Errors
/// [`DataError::NotFound`] if nothing says where it is, [`DataError::File`] if a file is missing or does not hold what it should,
/// [`DataError::Download`], and [`DataError::Options`] of a folder of images, which `ImageFolder` reads.
pub fn load(kind: DatasetKind, sources: &DataSources) -> Result<Splits, DataError> {
    locate(kind, sources)?.map_or_else(bundled, |folder| load_dir(kind, &folder))
}

/// The folder that [`load`] reads from, after downloading to it if need be; `None` for what is part of the program.
pub(super) fn locate(kind: DatasetKind, sources: &DataSources) -> Result<Option<PathBuf>, DataError> {
    let data_dir = sources.data_dir.as_deref().map(|dir| resolve_dir(kind, dir)).transpose()?;
    match (kind.definition().source, data_dir) {
        (Source::Bundled, None) => Ok(None),
        (Source::Bundled | Source::Folder, Some(dir)) => Ok(Some(dir)),
        (Source::Folder, None) => Err(DataError::NotFound {
            name: kind.name(),
            reason: match &file_names(kind)[..] {
                [] => format!("give its folder: {kind}:FOLDER, or with --data-dir"),
                names => format!(
                    "it is not bundled and not downloaded; put {} (plain or .gz) into a folder and give it with --data-dir",
                    names.join(", ")
                ),
            },
        }),
        (Source::Published { .. }, dir) => {
            if let Some(dir) = dir {
                if is_complete(kind, &dir)? {
                    return Ok(Some(dir));
                }
                (sources.observer)(DataEvent::Incomplete { dir: &dir, kind });
            }
            cached(kind, sources).map(Some)
        }
    }
}

/// The cache's copy of a published data set, completed by download.
fn cached(kind: DatasetKind, sources: &DataSources) -> Result<PathBuf, DataError> {
    let Some(cache) = &sources.cache_dir else {
        return Err(DataError::NotFound {
            name: kind.name(),
            reason: "no folder to download to: set NIN_CACHE_DIR or HOME, or give --data-dir".to_owned(),
        });
    };
    let dir = cache.join(kind.name());
    #[cfg(feature = "download")]
    for (file, name) in remote_files(kind).iter().zip(file_names(kind)) {
        if look_for(&dir, &name)?.is_none() {
            sources.downloader.fetch(file, &dir, &sources.observer)?;
        }
    }
    #[cfg(not(feature = "download"))]
    if !is_complete(kind, &dir)? {
        let reason = format!(
            "it is not in {}, and the feature `download` is off; give its folder with --data-dir",
            dir.display()
        );
        return Err(DataError::NotFound { name: kind.name(), reason });
    }
    Ok(dir)
}

/// The folder below which downloads are kept: `$NIN_CACHE_DIR`, else `$XDG_CACHE_HOME/nin`, else the
/// platform's: `%LOCALAPPDATA%\nin` on Windows, `~/Library/Caches/nin` on macOS, `~/.cache/nin` elsewhere.
/// `None` if no variable says.
pub fn cache_dir() -> Option<PathBuf> {
    cache_dir_from(|name| env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from))
}

fn cache_dir_from(variable: impl Fn(&str) -> Option<PathBuf>) -> Option<PathBuf> {
    // XDG's rule: a relative path is invalid and ignored.
    let xdg = || variable("XDG_CACHE_HOME").filter(|path| path.is_absolute()).map(|path| path.join("nin"));
    let platform = || {
        if cfg!(windows) {
            return variable("LOCALAPPDATA").map(|path| path.join("nin"));
        }
        let below = if cfg!(target_os = "macos") { "Library/Caches" } else { ".cache" };
        variable("HOME").map(|home| home.join(Path::new(below)).join("nin"))
    };
    variable("NIN_CACHE_DIR").or_else(xdg).or_else(platform)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::Dataset;
    use crate::data::dataset::class_counts;
    use std::fs;

    fn names() -> Vec<String> {
        file_names(DatasetKind::Mnist)
    }

    /// Sources whose server refuses connections.
    fn offline(data_dir: Option<&Path>, cache_dir: Option<&Path>) -> DataSources {
        DataSources {
            data_dir: data_dir.map(Path::to_path_buf),
            cache_dir: cache_dir.map(Path::to_path_buf),
            #[cfg(feature = "download")]
            downloader: Downloader { use_proxy: false, ..Downloader::new("http://127.0.0.1:1") },
            ..DataSources::new(None)
        }
    }

    /// Puts the bundled files, which read like the official ones, into `dir`.
    fn fill(dir: &Path, files: &[String]) {
        fs::create_dir_all(dir).unwrap();
        for name in files {
            let (name, mini) = (format!("{name}.gz"), "../../datasets/fashion-mnist-mini");
            fs::copy(Path::new(env!("CARGO_MANIFEST_DIR")).join(mini).join(&name), dir.join(&name)).unwrap();
        }
    }

    #[test]
    fn the_mini_set_is_bundled_unless_a_folder_is_given() {
        let splits = load(DatasetKind::FashionMnistMini, &offline(None, None)).unwrap();
        assert_eq!((splits.train.len(), splits.test.len()), (10_000, 2_000));
        let empty = tempfile::tempdir().unwrap();
        let error = load(DatasetKind::FashionMnistMini, &offline(Some(empty.path()), None)).unwrap_err();
        assert!(error.to_string().contains("no train-images-idx3-ubyte here"), "{error}");
    }

    #[test]
    fn mnist_is_read_from_the_users_folder_only() {
        let error = load(DatasetKind::Mnist, &offline(None, None)).unwrap_err().to_string();
        assert_eq!(
            error,
            "data set mnist not found: it is not bundled and not downloaded; put train-images-idx3-ubyte, \
             train-labels-idx1-ubyte, t10k-images-idx3-ubyte, t10k-labels-idx1-ubyte (plain or .gz) into a folder \
             and give it with --data-dir"
        );
        let root = tempfile::tempdir().unwrap();
        fill(&root.path().join("MNIST/raw"), &names());
        let splits = load(DatasetKind::Mnist, &offline(Some(root.path()), None)).unwrap();
        assert_eq!(splits.train.name(), "mnist train");
    }

    #[cfg(feature = "download")]
    #[test]
    fn fashion_mnist_is_looked_for_in_the_folder_then_in_the_cache_then_fetched() {
        let (data, cache) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let sources = offline(Some(data.path()), Some(cache.path()));
        let in_cache = cache.path().join("fashion-mnist");

        let error = locate(DatasetKind::FashionMnist, &sources).unwrap_err();
        assert!(
            error.to_string().starts_with("http://127.0.0.1:1/train-images-idx3-ubyte.gz: download stopped")
        );
        fill(&in_cache, &names()[..3]);
        fill(data.path(), &names()[..3]);
        let error = locate(DatasetKind::FashionMnist, &sources).unwrap_err();
        assert!(
            error.to_string().starts_with("http://127.0.0.1:1/t10k-labels-idx1-ubyte.gz: "),
            "only the missing one"
        );
        fill(&in_cache, &names()[3..]);
        assert_eq!(locate(DatasetKind::FashionMnist, &sources).unwrap(), Some(in_cache));
        fill(data.path(), &names()[3..]);
        assert_eq!(locate(DatasetKind::FashionMnist, &sources).unwrap().as_deref(), Some(data.path()));
    }

    #[test]
    fn a_published_set_is_read_from_torchvisions_folder_or_its_own_in_the_cache() {
        let (data, cache) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        fill(&cache.path().join("kmnist"), &names());
        let splits = load(DatasetKind::Kmnist, &offline(None, Some(cache.path()))).unwrap();
        assert_eq!((splits.train.name(), &*splits.train.class_names()[9]), ("kmnist train", "wo"));
        let raw = data.path().join("KMNIST/raw");
        fill(&raw, &names());
        assert_eq!(
            locate(DatasetKind::Kmnist, &offline(Some(data.path()), Some(cache.path()))).unwrap(),
            Some(raw)
        );
    }

    #[test]
    fn without_a_cache_folder_there_is_nowhere_to_download_to() {
        let error = load(DatasetKind::FashionMnist, &offline(None, None)).unwrap_err().to_string();
        assert_eq!(
            error,
            "data set fashion-mnist not found: no folder to download to: set NIN_CACHE_DIR or HOME, or give --data-dir"
        );
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn the_cache_folder_follows_the_environment() {
        let all = [("NIN_CACHE_DIR", "mine"), ("XDG_CACHE_HOME", "/xdg"), ("HOME", "/home/me")];
        let with = |set: &[(&str, &str)]| {
            cache_dir_from(|name| {
                set.iter().find(|(key, _)| *key == name).map(|(_, value)| PathBuf::from(value))
            })
        };
        assert_eq!(with(&all), Some("mine".into()));
        assert_eq!(with(&all[1..]), Some("/xdg/nin".into()));
        assert_eq!(with(&all[2..]), Some("/home/me/.cache/nin".into()));
        assert_eq!(with(&[("XDG_CACHE_HOME", "relative"), all[2]]), Some("/home/me/.cache/nin".into()));
        assert_eq!(with(&[]), None);
    }

    /// The official files are not part of the project: read where `NIN_TEST_FASHION_MNIST` names their
    /// folder.
    #[test]
    fn the_official_set_is_whole_where_it_is_at_hand() {
        let Some(dir) = env::var_os("NIN_TEST_FASHION_MNIST").map(PathBuf::from) else { return };
        let splits = load(DatasetKind::FashionMnist, &offline(Some(&dir), None)).unwrap();
        assert_eq!((splits.train.len(), splits.test.len()), (60_000, 10_000));
        assert_eq!(class_counts(&splits.train).unwrap(), [6_000; 10]);
        assert_eq!(class_counts(&splits.test).unwrap(), [1_000; 10]);
        let mini = load(DatasetKind::FashionMnistMini, &offline(None, None)).unwrap();
        assert_eq!(splits.train.get(0).unwrap(), mini.train.get(0).unwrap());
    }
}
