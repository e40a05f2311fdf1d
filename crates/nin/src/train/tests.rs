//! Every touch of the disk in a run goes wrong in turn, in every way. Whatever it was, the folder then goes on to the bits of a
//! run that nothing disturbed.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use serde_json::Value;
use tempfile::TempDir;

use super::run_dir::RunDir;
use super::{Event, Outcome, Position, Recipe, Settings, TrainError, Trainer};
use crate::data::{DataLoader, DataMarks, DataRecord, LoaderOptions};
use crate::disk::Touch;
use crate::disk::testing::{Fault, Touches, on_a_disk};
use crate::disk::{atomic_write, exists};
use crate::testing::{images, linear};

/// No space left, an error of the device, a missing permission.
const REFUSALS: [i32; 3] = [28, 5, 13];

/// Two epochs of three steps, saved after each step.
fn trainer(max_steps: Option<u64>) -> Trainer {
    let data = Arc::new(images([1, 2, 2], (0..6).map(|i| i % 2)));
    let options = LoaderOptions { batch_size: 2, shuffle: true, ..LoaderOptions::default() };
    let loader = || DataLoader::new(data.clone(), options.clone()).unwrap();
    let settings = Settings {
        epochs: 2,
        momentum: 0.5,
        checkpoint_minutes: 1e-9,
        max_steps,
        ..Settings::of(Recipe::Chapter)
    };
    let mut trainer = Trainer::of_parts(settings, linear(4, 2), loader(), loader(), 1).unwrap();
    trainer.card = Some(trainer.describe(vec!["a".to_owned(), "b".to_owned()]));
    trainer
}

/// Begins the run in a folder, or goes on with it, as the command line does. `over` is the last epoch that was reported to be
/// over.
fn go_on(path: &Path, max_steps: Option<u64>, over: &mut u64) -> Result<Outcome, TrainError> {
    let mut trainer = trainer(max_steps);
    let mut run = if exists(&path.join("config.toml"))? {
        let (run, checkpoint) = RunDir::open(path)?;
        trainer.restore(checkpoint, path)?;
        run
    } else {
        RunDir::create(path, "its settings\n")?
    };
    run = run.with_data(DataRecord {
        folder: Some("nowhere".into()),
        marks: DataMarks {
            dataset: "six".to_owned(),
            train_images: 6,
            test_images: 6,
            sha256: "00".to_owned(),
        },
    });
    trainer.run(&mut run, &AtomicBool::new(false), |event| {
        if matches!(event, Event::Begun(_) | Event::EpochFinished(_)) {
            // In the place of the curves.
            let epochs = RunDir::read_epochs(path)?.len();
            atomic_write(&path.join("curves.svg"), epochs.to_string().as_bytes())?;
        }
        if let Event::EpochFinished(metrics) = event {
            *over = metrics.epoch;
        }
        Ok(())
    })
}

/// The contents of a folder, without times: the files that there are, and what must be the same in them.
fn state(path: &Path) -> BTreeMap<String, String> {
    let mut all = BTreeMap::new();
    for entry in fs::read_dir(path).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        let bytes = fs::read(path.join(&name)).unwrap();
        let text = match name.as_str() {
            "checkpoint.safetensors" => {
                let mut found = RunDir::open(path).unwrap().1;
                found.position = Position { seconds: 0.0, waited: 0.0, ..found.position };
                format!("{found:?}")
            }
            "metrics.jsonl" => {
                let lines = String::from_utf8(bytes).unwrap();
                let lines = lines.lines().map(|line| {
                    let mut value: Value = serde_json::from_str(line).unwrap();
                    for time in ["images_per_s", "data_wait"] {
                        value.as_object_mut().unwrap().remove(time);
                    }
                    format!("{value}\n")
                });
                lines.collect()
            }
            _ => format!("{bytes:?}"),
        };
        all.insert(name, text);
    }
    all
}

/// A folder in memory where the system has one, since flushing to a real disk takes long.
fn folder() -> TempDir {
    let memory = Path::new("/dev/shm");
    if memory.is_dir() { tempfile::tempdir_in(memory).unwrap() } else { tempfile::tempdir().unwrap() }
}

/// Lets every touch of a run go wrong in turn that begins in a folder as `prepare` leaves it, and answers how many faults that
/// made.
fn every_touch(prepare: impl Fn(&Path)) -> usize {
    let place = folder();
    let path = place.path().join("run");
    prepare(&path);
    let (outcome, touches): (_, Touches) = on_a_disk(None, || go_on(&path, None, &mut 0));
    assert!(matches!(outcome, Ok(Outcome::Finished(_))), "{outcome:?}");
    let expected = state(&path);
    let mut faults = 0;
    for (at, touch) in touches.iter().enumerate() {
        let refused = REFUSALS.map(Fault::Refused);
        let died = [Fault::CrashBefore, Fault::CrashWithin, Fault::CrashAfter, Fault::PowerLoss];
        // Of what writes nothing, no half is written.
        let distinct = |fault: &Fault| *fault != Fault::CrashWithin || touch.0 == Touch::Write;
        for fault in refused.into_iter().chain(died).filter(distinct) {
            fs::remove_dir_all(&path).unwrap();
            prepare(&path);
            let mut over = 0;
            let (outcome, _) = on_a_disk(Some((at, fault)), || go_on(&path, None, &mut over));
            if let Err(error) = &outcome {
                assert!(!error.to_string().contains('\n'), "{error}");
            }
            faults += 1;
            let lost = over > 0 && RunDir::open(&path).unwrap().1.position.epoch < over;
            assert!(!lost, "epoch {over} is lost after {fault:?} in touch {at}, {touch:?}");
            if let Err(error) = go_on(&path, None, &mut 0) {
                panic!("{fault:?} in touch {at}, {touch:?}: {error}");
            }
            let found = state(&path);
            for (name, text) in &expected {
                assert_eq!(found.get(name), Some(text), "{name} after {fault:?} in touch {at}, {touch:?}");
            }
            assert_eq!(
                found.len(),
                expected.len(),
                "files after {fault:?} in touch {at}: {:?}",
                found.keys()
            );
        }
    }
    println!("{} touches of the disk, {faults} faults", touches.len());
    faults
}

#[test]
fn a_new_run_survives_a_fault_in_every_touch_of_the_disk() {
    let faults = every_touch(|path| fs::create_dir_all(path.parent().unwrap()).unwrap());
    assert!(faults > 900, "{faults}");
}

/// The process had died in its second step, after the weights were saved and before the checkpoint was, and left what it was
/// writing.
#[test]
fn a_run_that_goes_on_survives_a_fault_in_every_touch_of_the_disk() {
    let faults = every_touch(|path| {
        go_on(path, Some(1), &mut 0).unwrap();
        let checkpoint = fs::read(path.join("checkpoint.safetensors")).unwrap();
        let (metrics, left) = (path.join("metrics.jsonl"), path.join(".writing-1-1"));
        go_on(path, Some(2), &mut 0).unwrap();
        fs::write(path.join("checkpoint.safetensors"), checkpoint).unwrap();
        fs::write(&metrics, fs::read_to_string(&metrics).unwrap() + "{\"step\":3,\"lo").unwrap();
        fs::write(left, "half").unwrap();
    });
    assert!(faults > 700, "{faults}");
}
