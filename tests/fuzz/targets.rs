//! Uses of bytes from elsewhere. Each target tells whether they were taken; what is refused is refused in one printable
//! line, and what is taken comes back the same when it is written and read again.

use std::fmt::Display;
use std::path::Path;

use nin::Classifier;
use nin::checkpoint::read_tensors;
use nin::data::idx::Idx;
use nin::data::{Augmentation, Picture};
use nin::models::{Head, Model};
use nin::optim::Schedule;
use nin::train::{Overrides, RunDir, Settings};

/// The target of a name.
pub(crate) fn target(name: &str) -> fn(&[u8]) -> bool {
    match name {
        "idx" => idx,
        "safetensors" => safetensors,
        "header" => header,
        "run" => run,
        "card" => card,
        "picture" => picture,
        "settings" => settings,
        "names" => names,
        _ => panic!("no target {name:?}"),
    }
}

fn line(error: &impl Display) {
    let text = error.to_string();
    assert!(text.len() < 10_000 && !text.contains(char::is_control), "{text:?}");
}

/// Images and labels, plain or compressed.
fn idx(bytes: &[u8]) -> bool {
    let mut taken = false;
    for rank in [1, 3] {
        match Idx::from_reader(bytes, Path::new("idx"), rank) {
            Ok(idx) => {
                assert_eq!(idx.dims.iter().product::<usize>(), idx.data.len());
                taken = true;
            }
            Err(error) => line(&error),
        }
    }
    taken
}

/// A whole file of weights.
fn safetensors(bytes: &[u8]) -> bool {
    match read_tensors(bytes, Path::new("safetensors")) {
        Ok((tensors, _)) => {
            let numbers: usize = tensors.values().map(|tensor| tensor.data().len()).sum();
            // The narrowest type has two bytes.
            assert!(numbers * 2 <= bytes.len());
            true
        }
        Err(error) => {
            line(&error);
            false
        }
    }
}

/// The header of a file of weights, of the length that it says, before 64 bytes of numbers.
fn header(text: &[u8]) -> bool {
    safetensors(&[&(text.len() as u64).to_le_bytes(), text, &[0x3c; 64]].concat())
}

/// The files of a run's folder: its checkpoint, its data's record, its metrics, its lock.
fn run(bytes: &[u8]) -> bool {
    thread_local! {
        static FOLDER: tempfile::TempDir = {
            let memory = Path::new("/dev/shm");
            let folder = if memory.is_dir() { tempfile::tempdir_in(memory) } else { tempfile::tempdir() };
            let folder = folder.unwrap();
            std::fs::write(folder.path().join("config.toml"), "").unwrap();
            folder
        };
    }
    let Some((&which, bytes)) = bytes.split_first() else { return false };
    FOLDER.with(|folder| {
        let files = ["checkpoint.safetensors", "data.json", "metrics.jsonl", ".lock"];
        let path = folder.path().join(files[usize::from(which) % 4]);
        std::fs::write(&path, bytes).unwrap();
        let taken = match RunDir::open(folder.path()) {
            Ok((_, checkpoint)) => {
                assert!(!checkpoint.weights.is_empty());
                true
            }
            Err(error) => {
                line(&error.to_string().replace(&folder.path().display().to_string(), ""));
                false
            }
        };
        // A checkpoint that is whole stays for the other files.
        if !taken || which % 4 != 0 {
            let _ = std::fs::remove_file(&path);
        }
        taken || RunDir::read_epochs(folder.path()).is_ok_and(|epochs| !epochs.is_empty())
    })
}

/// A file of weights that says what it is of.
fn card(text: &[u8]) -> bool {
    let Ok(text) = std::str::from_utf8(text) else { return false };
    let header = serde_json::json!({ "__metadata__": { "nin": text } }).to_string();
    let file = [&(header.len() as u64).to_le_bytes(), header.as_bytes()].concat();
    match Classifier::from_bytes(&file, Path::new("card")) {
        Ok(_) => true,
        Err(error) => {
            line(&error);
            // It is a card whose weights are missing.
            error.to_string().contains("weights of another network")
        }
    }
}

/// A photo, PNG or JPEG.
fn picture(bytes: &[u8]) -> bool {
    match Picture::decode(bytes, Path::new("picture")) {
        Ok(picture) => {
            assert_eq!(picture.shape().iter().product::<usize>(), picture.pixels().len());
            true
        }
        Err(error) => {
            line(&error);
            false
        }
    }
}

/// A run's `config.toml`, or a file of settings.
fn settings(bytes: &[u8]) -> bool {
    let Ok(text) = std::str::from_utf8(bytes) else { return false };
    let read = |text: &str| {
        let file = Overrides::from_text(text, Path::new("config.toml"))?;
        Settings::resolve(&file, &Overrides::default())
    };
    match read(text) {
        Ok(settings) => {
            assert_eq!(read(&settings.to_toml()).unwrap(), settings);
            true
        }
        Err(error) => {
            line(&error);
            false
        }
    }
}

/// The values of flags that are small languages, and the names of choices.
fn names(bytes: &[u8]) -> bool {
    let Ok(text) = std::str::from_utf8(bytes) else { return false };
    let schedule = text.parse::<Schedule>();
    if let Ok(schedule) = schedule {
        assert_eq!(schedule.to_string().parse::<Schedule>().unwrap(), schedule);
        for step in [0, 1, 99, u64::MAX] {
            assert!(schedule.over(100).factor(step) >= 0.0, "{schedule} at {step}");
        }
    }
    let augmentation = text.parse::<Augmentation>();
    if let Ok(augmentation) = &augmentation {
        assert_eq!(augmentation.to_string().parse::<Augmentation>().as_ref(), Ok(augmentation));
    }
    if let Ok(seeds) = nin_cli::parse_seeds(text) {
        assert!(!seeds.is_empty());
    }
    let model = text.parse::<Model>();
    assert!(model.as_ref().is_ok_and(|model| model.name() == text) || model.is_err());
    schedule.is_ok() || augmentation.is_ok() || model.is_ok() || text.parse::<Head>().is_ok()
}
