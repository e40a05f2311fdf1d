//! The data of a command: those that it asks for, or those that a run is made of, which are never mixed up with others.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use clap::Args;
use nin::ModelCard;
use nin::data::{DataError, DataRecord, DataSources, Dataset, DatasetName, Splits, open};
use nin::names::quoted;
use nin::train::{Settings, TrainError};

use super::FolderArgs;
use super::downloads::sources;

/// The place of a data set and the way its files are read: arguments of the commands that need all of it.
#[derive(Debug, Clone, Args)]
pub(super) struct DataArgs {
    #[command(flatten)]
    folder: FolderArgs,
    /// The most MiB of decoded images of an image folder that are kept in memory; others are decoded each time
    #[arg(long, value_name = "MIB", default_value_t = CACHE_MB)]
    cache_mb: u64,
    /// Refuse an image folder with a file that cannot be read; otherwise such files are named and left out
    #[arg(long)]
    strict_images: bool,
}

const CACHE_MB: u64 = 1024;

impl DataArgs {
    /// Files in this folder, read in the usual way.
    pub(super) fn of(folder: &FolderArgs) -> Self {
        Self { folder: folder.clone(), cache_mb: CACHE_MB, strict_images: false }
    }
}

/// Both splits of a data set, and its marks.
pub(super) type Data = (Splits<Arc<dyn Dataset>>, DataRecord);

/// The data set of the settings, from a folder of the user's if there is one, and its marks.
///
/// # Errors
/// [`TrainError`] if it is nowhere or broken, or there are two folders.
pub(super) fn data(settings: &Settings, args: &DataArgs, threads: usize) -> Result<Data, TrainError> {
    let folder = folder_of(&settings.dataset, args.folder.data_dir.as_deref())?;
    read(settings, args, folder, threads)
}

/// The folder of a data set: that of its name, or the one beside it.
///
/// # Errors
/// [`TrainError::Config`] of two.
pub(super) fn folder_of(name: &DatasetName, beside: Option<&Path>) -> Result<Option<PathBuf>, TrainError> {
    if let (Some(folder), Some(other)) = (&name.folder, beside) {
        let found = format!("{} and {}", folder.display(), other.display());
        return Err(TrainError::setting("data_dir", "one folder", found));
    }
    Ok(name.folder.clone().or_else(|| beside.map(Path::to_path_buf)))
}

/// The data set in a folder, or in that of its name.
fn read(
    settings: &Settings,
    args: &DataArgs,
    folder: Option<PathBuf>,
    threads: usize,
) -> Result<Data, TrainError> {
    let kind = settings.dataset.kind;
    // What needs no data is refused before any is fetched.
    drop(settings.network(kind.channels(), kind.class_names().len().max(2))?);
    let sources = DataSources {
        image_cache: args.cache_mb.saturating_mul(1 << 20),
        strict_images: args.strict_images,
        threads,
        ..sources(folder.or_else(|| settings.dataset.folder.clone()))
    };
    Ok(open(kind, [settings.image_size; 2], &sources)?)
}

/// The data that a run is made of, and their marks: from the folder that is given, or where the run has had them.
///
/// # Errors
/// [`TrainError::Config`], naming both, if what is found is not what the run was made of; otherwise as [`data`].
pub(super) fn data_of_run(
    run: &Path,
    settings: &Settings,
    args: &DataArgs,
    threads: usize,
) -> Result<Data, TrainError> {
    // Weights that are missing or broken are told by who needs them.
    let card = |file: &&str| ModelCard::read(&run.join(file)).ok().flatten();
    let card = ["model.safetensors", "checkpoint.safetensors"].iter().find_map(card);
    let marks = card.and_then(|card| card.data);
    let record = DataRecord::read_for(run, marks.as_ref()).map_err(TrainError::refused)?;
    let Some(own) = record else { return read(settings, args, args.folder.data_dir.clone(), threads) };
    let former = || own.folder.clone().filter(|folder| folder.is_dir());
    let found = match read(settings, args, args.folder.data_dir.clone().or_else(former), threads) {
        Err(TrainError::Data(error @ (DataError::NotFound { .. } | DataError::File(_))))
            if args.folder.data_dir.is_none() && former().is_none() && own.folder.is_some() =>
        {
            return Err(TrainError::of(run, format!("made of {own}, which is not there: {error}")));
        }
        found => found?,
    };
    if found.1.same_data(&own) {
        return Ok(found);
    }
    Err(TrainError::of(run, difference(run, &own, &found.1)))
}

/// The difference of a run's own data and what was found, and what one can do.
fn difference(run: &Path, own: &DataRecord, found: &DataRecord) -> String {
    let (then, now) = (&own.marks, &found.marks);
    let (Some(folder), true) = (&own.folder, own.folder == found.folder && then.dataset == now.dataset)
    else {
        return format!("made of {own}; found {found}; give the folder of the run's own with --data-dir");
    };
    let [before, after] = [then, now].map(|of| format!("{} + {}", of.train_images, of.test_images));
    let change =
        if before == after { "as many, but others".to_owned() } else { format!("{before}, now {after}") };
    let (dataset, folder, run) = (&then.dataset, folder.display(), quoted(run));
    format!(
        "made of {dataset} in {folder}, whose images have changed since ({change}): bring back those of then, or begin \
         another run with --init-from {run}; nin predict --weights {run} answers for any images"
    )
}
