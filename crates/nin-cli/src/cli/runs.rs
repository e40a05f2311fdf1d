//! Folders of runs: one run, or one for each seed as `train --seeds` leaves them.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};

use nin::train::{EpochMetrics, RunDir, TrainError};

use super::log;
use crate::bench::median;

/// The runs of a folder, under the folder's name.
#[derive(Debug)]
pub(super) struct Group {
    pub(super) name: String,
    /// The run folders, in the order of the seeds.
    pub(super) runs: Vec<PathBuf>,
}

/// The runs of each folder: the folder itself if it has `file`, otherwise its folders `seed-N` that have it.
///
/// # Errors
/// [`TrainError`] if a folder cannot be read or has no run.
pub(super) fn groups(folders: &[PathBuf], file: &str) -> Result<Vec<Group>, TrainError> {
    let group = |folder: &PathBuf| Ok(Group { name: name(folder), runs: runs(folder, file)? });
    folders.iter().map(group).collect()
}

fn runs(folder: &Path, file: &str) -> Result<Vec<PathBuf>, TrainError> {
    let there = |path: &Path| path.try_exists().map_err(TrainError::io(path, "look at"));
    if there(&folder.join(file))? {
        return Ok(vec![folder.to_path_buf()]);
    }
    let entries = std::fs::read_dir(folder).map_err(TrainError::io(folder, "read the folder"))?;
    let mut seeds: Vec<(u64, PathBuf)> = Vec::new();
    for entry in entries {
        let path = entry.map_err(TrainError::io(folder, "read the folder"))?.path();
        let name = path.file_name().and_then(OsStr::to_str);
        let seed = name.and_then(|name| name.strip_prefix("seed-")?.parse().ok());
        if let Some(seed) = seed.filter(|_| path.is_dir())
            && there(&path.join(file))?
        {
            seeds.push((seed, path));
        }
    }
    seeds.sort_unstable();
    if seeds.is_empty() {
        let message = format!("no run in this folder (no {file}, and no seed-N with one)");
        return Err(TrainError::of(folder, message));
    }
    Ok(seeds.into_iter().map(|(_, path)| path).collect())
}

/// The name of a folder, without those that it is in, of `.` and `..`, too.
pub(super) fn name(folder: &Path) -> String {
    let whole = if folder.file_name().is_none() { folder.canonicalize().ok() } else { None };
    let folder = whole.as_deref().unwrap_or(folder);
    folder
        .file_name()
        .map_or_else(|| folder.display().to_string(), |name| name.to_string_lossy().into_owned())
}

/// A name in a legend, with the number of those that go by it: `chapter (20 runs)`.
pub(super) fn counted(name: &str, count: usize, what: &str) -> String {
    if count == 1 { name.to_owned() } else { format!("{name} ({count} {what})") }
}

/// The smallest, the middle and the largest of some test accuracies; 0 of none.
pub(super) fn spread(accuracies: Vec<f64>) -> String {
    let low = accuracies.iter().copied().reduce(f64::min).unwrap_or_default();
    let high = accuracies.iter().copied().reduce(f64::max).unwrap_or_default();
    format!("test acc min {low:.4}, median {:.4}, max {high:.4}", median(accuracies))
}

/// The epochs of a run. Of lines that cannot be read it is told how many they are.
///
/// # Errors
/// [`TrainError`] if there is no file of metrics.
pub(super) fn read_epochs(folder: &Path) -> Result<Vec<EpochMetrics>, TrainError> {
    let all = RunDir::read_metrics(folder)?;
    if all.damaged > 0 {
        log(&format!(
            "warning: {}: damaged lines of its metrics are left out: {}",
            folder.display(),
            all.damaged
        ));
    }
    Ok(all.epochs().copied().collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_is_a_run_or_has_one_for_each_seed() {
        let folder = tempfile::tempdir().unwrap();
        let all = folder.path().join("chapter");
        for seed in ["seed-10", "seed-9", "seed-x", "seed-3"] {
            std::fs::create_dir_all(all.join(seed)).unwrap();
        }
        let refused = groups(std::slice::from_ref(&all), "metrics.jsonl").unwrap_err().to_string();
        assert!(refused.contains("chapter: no run in this folder"), "{refused}");
        for seed in ["seed-10", "seed-9", "seed-x"] {
            std::fs::write(all.join(seed).join("metrics.jsonl"), "").unwrap();
        }
        let found = groups(&[all.clone(), all.join("seed-9")], "metrics.jsonl").unwrap();
        assert_eq!(found[0].name, "chapter");
        assert_eq!(found[0].runs, [all.join("seed-9"), all.join("seed-10")]);
        assert_eq!((found[1].name.as_str(), found[1].runs.len()), ("seed-9", 1));
        assert!(groups(&[folder.path().join("none")], "metrics.jsonl").is_err());
    }

    #[test]
    fn spreads() {
        assert_eq!(spread(vec![0.5, 0.1]), "test acc min 0.1000, median 0.3000, max 0.5000");
    }
}
