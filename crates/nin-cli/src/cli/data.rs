//! The data of a command: those that it asks for, or those that a run is made of, which are never mixed up with others.

use std::path::{Path, PathBuf};

use nin::ModelCard;
use nin::data::files::load_dir;
use nin::data::load::locate;
use nin::data::{DataError, DataRecord, Splits};
use nin::train::{Settings, TrainError};

use super::downloads::sources;

/// The data set of the settings, from a folder of the user's if there is one, and its marks.
///
/// # Errors
/// [`TrainError`] if it is nowhere or broken.
pub(super) fn data(
    settings: &Settings,
    data_dir: Option<PathBuf>,
) -> Result<(Splits, DataRecord), TrainError> {
    // What needs no data is refused before any is fetched.
    drop(settings.network(1, 10)?);
    let folder = locate(settings.dataset, &sources(data_dir))?;
    let splits = load_dir(settings.dataset, &folder)?;
    let folder = std::path::absolute(&folder).map_err(TrainError::io(&folder, "find"))?;
    let record = DataRecord::of(settings.dataset.name(), &folder, &splits);
    Ok((splits, record))
}

/// The data that a run is made of, and their marks: from the folder that is given, or where the run has had them.
///
/// # Errors
/// [`TrainError::Config`], naming both, if what is found is not what the run was made of; otherwise as [`data`].
pub(super) fn data_of_run(
    run: &Path,
    settings: &Settings,
    data_dir: Option<PathBuf>,
) -> Result<(Splits, DataRecord), TrainError> {
    // Weights that are missing or broken are told by who needs them.
    let card = |file: &&str| ModelCard::read(&run.join(file)).ok().flatten();
    let card = ["model.safetensors", "checkpoint.safetensors"].iter().find_map(card);
    let marks = card.and_then(|card| card.data);
    let record = DataRecord::read_for(run, marks.as_ref()).map_err(TrainError::refused)?;
    let Some(own) = record else { return data(settings, data_dir) };
    let former = || Some(own.folder.clone()).filter(|folder| folder.is_dir());
    let found = match data(settings, data_dir.or_else(former)) {
        Err(TrainError::Data(error @ DataError::NotFound { .. })) => {
            return Err(TrainError::of(run, format!("made of {own}, which is not there: {error}")));
        }
        found => found?,
    };
    if found.1.same_data(&own) {
        return Ok(found);
    }
    let message =
        format!("made of {own}; found {}; give the folder of the run's own with --data-dir", found.1);
    Err(TrainError::of(run, message))
}
