//! The run folder: what a run leaves behind, so that nothing finished is lost whenever it stops.
//!
//! | file | what it holds |
//! |---|---|
//! | `config.toml` | every setting; `--config` reads it |
//! | `metrics.jsonl` | a line for each step and each epoch |
//! | `model.safetensors` | the weights, named as PyTorch's `state_dict` |
//! | `checkpoint.safetensors` | weights, the optimizer's state and position: what `--resume` goes on from |
//! | `curves.svg` | the curves, which the command line draws |

use std::collections::{BTreeMap, HashMap};
use std::fs::{File, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};

use serde::Serialize;
use serde_json::Value;
use tensor::Tensor;

use super::error::TrainError;
use super::evaluation::Metrics;
use super::metrics::EpochMetrics;
use crate::checkpoint::{load_tensors, save_parameters, save_tensors};
use crate::disk::atomic_write;
use crate::nn::{Module, parameters};
use crate::optim::State;

/// The beginning of the names of the optimizer's state in `checkpoint.safetensors`.
const OPTIMIZER: &str = "optimizer.";
/// The beginning of the names of momentum buffers before optimizers saved their state by name.
const FORMER_MOMENTUM: &str = "momentum.";

/// The place at which a run stands.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Position {
    /// Steps that are done, of the whole run.
    pub step: u64,
    /// The epoch that goes on, counted from 0.
    pub epoch: u64,
    /// Batches of that epoch that are done.
    pub batch: u64,
    /// The sums over those batches.
    pub sums: Metrics,
    /// Seconds of training in that epoch so far.
    pub seconds: f64,
    /// Of these, seconds that the workers waited for data.
    pub waited: f64,
}

/// The names of [`Position::numbers`] in the header of `checkpoint.safetensors`.
const NUMBERS: [&str; 8] =
    ["step", "epoch", "batch", "loss", "correct", "images", "milliseconds", "waited_milliseconds"];

impl Position {
    /// Its fields as whole numbers: the loss by its bits, times in milliseconds.
    fn numbers(&self) -> [u64; NUMBERS.len()] {
        let Self { step, epoch, batch, sums: Metrics { loss, correct, images }, seconds, waited } = *self;
        let [seconds, waited] = [seconds, waited].map(|seconds| (seconds * 1e3) as u64);
        [step, epoch, batch, loss.to_bits(), correct as u64, images as u64, seconds, waited]
    }

    fn of_numbers(
        [step, epoch, batch, loss, correct, images, seconds, waited]: [u64; NUMBERS.len()],
    ) -> Self {
        let sums = Metrics { loss: f64::from_bits(loss), correct: correct as usize, images: images as usize };
        let [seconds, waited] = [seconds, waited].map(|milliseconds| milliseconds as f64 / 1e3);
        Self { step, epoch, batch, sums, seconds, waited }
    }
}

/// All that a run goes on from.
#[derive(Debug)]
pub struct Checkpoint {
    /// Weights by their name in the network.
    pub weights: BTreeMap<String, Tensor<f32>>,
    /// The optimizer's state by name; empty if it has none.
    pub optimizer: State,
    /// The place at which the run stood.
    pub position: Position,
}

/// A run folder. See the module's documentation.
#[derive(Debug)]
pub struct RunDir {
    path: PathBuf,
    metrics: File,
}

impl RunDir {
    /// Makes a new folder for a run, with its parents.
    ///
    /// # Errors
    /// [`TrainError`] if the folder has a run in it already or cannot be written.
    pub fn create(path: &Path, settings: &str) -> Result<Self, TrainError> {
        std::fs::create_dir_all(path).map_err(TrainError::io(path, "make the run folder"))?;
        if path.join("config.toml").exists() {
            let ways = format!("go on with it (--resume {}) or name another (--run-dir)", path.display());
            return Err(TrainError::of(path, format!("there is a run in this folder; {ways}")));
        }
        let metrics_path = path.join("metrics.jsonl");
        let metrics =
            File::create(&metrics_path).map_err(TrainError::io(&metrics_path, "make the metrics file"))?;
        atomic_write(&path.join("config.toml"), settings.as_bytes())?;
        Ok(Self { path: path.to_path_buf(), metrics })
    }

    /// Opens the folder of a run that is to go on, and its checkpoint (`None` if it stopped before the first).
    /// Metrics of steps after the checkpoint are taken away; they will be made again.
    ///
    /// # Errors
    /// [`TrainError`] if there is no run in the folder or a file of it is broken.
    pub fn open(path: &Path) -> Result<(Self, Option<Checkpoint>), TrainError> {
        Self::check(path)?;
        let checkpoint_path = path.join("checkpoint.safetensors");
        let checkpoint =
            if checkpoint_path.exists() { Some(load_checkpoint(&checkpoint_path)?) } else { None };
        let position = checkpoint.as_ref().map_or(Position::default(), |checkpoint| checkpoint.position);
        let metrics_path = path.join("metrics.jsonl");
        trim_metrics(&metrics_path, &position)?;
        let metrics = OpenOptions::new()
            .append(true)
            .create(true)
            .open(&metrics_path)
            .map_err(TrainError::io(&metrics_path, "open the metrics file"))?;
        Ok((Self { path: path.to_path_buf(), metrics }, checkpoint))
    }

    /// The folder.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Adds a line to `metrics.jsonl`.
    ///
    /// # Errors
    /// [`TrainError::File`] if it cannot be written.
    pub fn log(&mut self, line: &impl Serialize) -> Result<(), TrainError> {
        let mut text = serde_json::to_string(line).expect("figures are JSON");
        text.push('\n');
        let path = self.path.join("metrics.jsonl");
        self.metrics.write_all(text.as_bytes()).map_err(TrainError::io(&path, "write metrics"))
    }

    /// Refuses a folder without a run.
    ///
    /// # Errors
    /// [`TrainError::Config`] if it has no `config.toml`.
    pub fn check(path: &Path) -> Result<(), TrainError> {
        if path.join("config.toml").exists() {
            return Ok(());
        }
        Err(TrainError::of(path, "no run in this folder (it has no config.toml)"))
    }

    /// The epochs in a folder's `metrics.jsonl`, which may be all that is in it.
    ///
    /// # Errors
    /// [`TrainError`] if it cannot be read.
    pub fn read_epochs(folder: &Path) -> Result<Vec<EpochMetrics>, TrainError> {
        let path = folder.join("metrics.jsonl");
        let text = std::fs::read_to_string(&path).map_err(TrainError::io(&path, "read metrics"))?;
        Ok(text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect())
    }

    /// Saves weights, the optimizer's state and position, each file beside the old one and then in its place.
    ///
    /// # Errors
    /// [`TrainError`] if a file cannot be written; the old ones are whole then.
    pub fn save(
        &self,
        model: &dyn Module<f32>,
        optimizer: &State,
        position: &Position,
    ) -> Result<(), TrainError> {
        let parameters = parameters(model);
        let mut tensors: Vec<(String, &Tensor<f32>)> =
            parameters.iter().map(|(name, parameter)| (format!("model.{name}"), &parameter.value)).collect();
        tensors.extend(optimizer.iter().map(|(name, tensor)| (format!("{OPTIMIZER}{name}"), tensor)));
        let numbers = position.numbers().map(|number| number.to_string());
        let mut metadata: HashMap<String, String> =
            NUMBERS.map(str::to_owned).into_iter().zip(numbers).collect();
        let names: Vec<&str> = parameters.iter().map(|(name, _)| name.as_str()).collect();
        metadata.insert("parameters".to_owned(), names.join(","));
        self.metrics
            .sync_data()
            .map_err(TrainError::io(&self.path.join("metrics.jsonl"), "write metrics"))?;
        save_tensors(&self.path.join("checkpoint.safetensors"), &tensors, metadata)?;
        save_parameters(&self.path.join("model.safetensors"), model)?;
        Ok(())
    }
}

fn load_checkpoint(path: &Path) -> Result<Checkpoint, TrainError> {
    let (mut tensors, metadata) = load_tensors(path)?;
    let broken = |what: &str| TrainError::of(path, format!("not a checkpoint of a run: {what}"));
    let mut numbers = [0; NUMBERS.len()];
    for (number, key) in numbers.iter_mut().zip(NUMBERS) {
        let found = metadata.get(key).and_then(|value| value.parse().ok());
        *number = found.ok_or_else(|| broken(&format!("no whole number {key:?} in its header")))?;
    }
    let names = metadata.get("parameters").ok_or_else(|| broken("no list of parameters in its header"))?;
    let mut weights = BTreeMap::new();
    for name in names.split(',') {
        let weight = tensors.remove(&format!("model.{name}"));
        weights.insert(name.to_owned(), weight.ok_or_else(|| broken(&format!("no tensor model.{name}")))?);
    }
    let mut optimizer = State::new();
    for (name, tensor) in tensors {
        if let Some(name) = name.strip_prefix(OPTIMIZER) {
            optimizer.insert(name.to_owned(), tensor);
        } else if let Some(name) = name.strip_prefix(FORMER_MOMENTUM) {
            optimizer.insert(format!("{name}.momentum_buffer"), tensor);
        } else {
            return Err(broken(&format!("a tensor {name} that is of no use")));
        }
    }
    Ok(Checkpoint { weights, optimizer, position: Position::of_numbers(numbers) })
}

/// Keeps the lines up to a position: steps that are done, epochs that are over. A last line that was cut off goes, too.
fn trim_metrics(path: &Path, position: &Position) -> Result<(), TrainError> {
    let text = match std::fs::read_to_string(path) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(TrainError::io(path, "read metrics")(error)),
    };
    let kept = text.lines().filter(|line| {
        let Ok(value) = serde_json::from_str::<Value>(line) else { return false };
        let below =
            |key: &str, limit: u64| value.get(key).and_then(Value::as_u64).is_some_and(|at| at <= limit);
        below("step", position.step) || below("epoch", position.epoch) || below("at_step", position.step)
    });
    let kept: String = kept.flat_map(|line| [line, "\n"]).collect();
    Ok(atomic_write(path, kept.as_bytes())?)
}

#[cfg(test)]
mod tests {
    use tensor::Shape;

    use super::*;
    use crate::nn::{Linear, Sequential};
    use crate::optim::{Optimizer, Sgd};

    /// As version 0.1 wrote it: momentum buffers named after their parameters.
    #[test]
    fn checkpoints_of_earlier_versions_are_read() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("checkpoint.safetensors");
        let numbers =
            |shape: &[usize], first: f32| Tensor::from_fn(Shape::new(shape), |index| first + index as f32);
        let (weight, bias) = (numbers(&[2, 3], 1.0), numbers(&[2], 10.0));
        let (of_weight, of_bias) = (numbers(&[2, 3], 20.0), numbers(&[2], 30.0));
        let tensors = [
            ("model.0.weight", &weight),
            ("model.0.bias", &bias),
            ("momentum.0.weight", &of_weight),
            ("momentum.0.bias", &of_bias),
        ];
        let metadata = [
            ("step", "7"),
            ("epoch", "2"),
            ("batch", "1"),
            ("loss", "4611686018427387904"),
            ("correct", "3"),
            ("images", "8"),
            ("milliseconds", "1500"),
            ("waited_milliseconds", "250"),
            ("parameters", "0.weight,0.bias"),
        ];
        let tensors = tensors.map(|(name, tensor)| (name.to_owned(), tensor));
        let metadata = metadata.map(|(key, value)| (key.to_owned(), value.to_owned()));
        save_tensors(&path, &tensors, HashMap::from(metadata)).unwrap();
        let checkpoint = load_checkpoint(&path).unwrap();
        let sums = Metrics { loss: 2.0, correct: 3, images: 8 };
        let expected = Position { step: 7, epoch: 2, batch: 1, sums, seconds: 1.5, waited: 0.25 };
        assert_eq!(checkpoint.position, expected);
        let weights = [("0.weight".to_owned(), weight), ("0.bias".to_owned(), bias)];
        assert_eq!(checkpoint.weights, BTreeMap::from(weights));
        let mut sgd = Sgd::new(0.1).momentum(0.5);
        sgd.load_state(&Sequential::new().with(Linear::new(3, 2)), checkpoint.optimizer).unwrap();
        let state = sgd.state();
        assert_eq!(state["0.weight.momentum_buffer"], of_weight);
        assert_eq!(state["0.bias.momentum_buffer"], of_bias);
    }
}
