//! The run folder: what a run leaves behind, so that nothing finished is lost whenever it stops.
//!
//! | file | what it holds |
//! |---|---|
//! | `config.toml` | every setting; `--config` reads it. It is written last of a run's first files: where it is, there is a run |
//! | `data.json` | the data that the run is made of: kind, folder, counts, SHA-256 |
//! | `metrics.jsonl` | a line for each step and each epoch |
//! | `model.safetensors` | the weights, named as PyTorch's `state_dict`, and what images are whitened with |
//! | `best.safetensors` | the weights of the epoch with the best test accuracy so far; of data without classes the lowest loss |
//! | `checkpoint.safetensors` | weights, the optimizer's state and position: what `--resume` goes on from |
//! | `curves.svg` | the curves, which the command line draws |
//! | `.lock` | locked by the process that has the folder |
//!
//! The checkpoint is written last in each save, and it is what counts: what lags behind it or is ahead of it, because the
//! process died in between, is made to agree with it when the run goes on. Until then nothing in the folder changes.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::Serialize;
use serde_json::Value;
use tensor::Tensor;

use super::error::TrainError;
use super::evaluation::Metrics;
use super::health::HealthCounts;
use super::metrics::{EpochMetrics, RunMetrics, Score};
use crate::card::ModelCard;
use crate::data::DataRecord;
use crate::data::whiten::{self, Whitening};
use crate::disk::{self, FolderLock, Log, atomic_write};
use crate::names::quoted;
use crate::nn::{Module, values};
use crate::optim::State;
use crate::weights_file::{load_tensors, read_tensors, save_tensors};

/// The beginning of the names of the optimizer's state in `checkpoint.safetensors`.
const OPTIMIZER: &str = "optimizer.";
/// The beginning of the names of momentum buffers before optimizers saved their state by name.
const FORMER_MOMENTUM: &str = "momentum.";

/// The name of the counts of the health monitor in its header. Checkpoints of version 0.1 have none.
const HEALTH: &str = "health";
/// The name of the list of the network's parameters there.
const PARAMETERS: &str = "parameters";

const CONFIG: &str = "config.toml";
const DATA: &str = "data.json";
const METRICS: &str = "metrics.jsonl";
const MODEL: &str = "model.safetensors";
const BEST: &str = "best.safetensors";
const CHECKPOINT: &str = "checkpoint.safetensors";
const CURVES: &str = "curves.svg";

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
    /// The test accuracy after the last epoch that is over, 0 to 1; `None` if none is, or test images have no classes.
    pub test_acc: Option<f64>,
    /// The best of the epochs that are over; `None` if none is.
    pub best: Option<Best>,
}

/// The best epoch, the first of equals.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Best {
    /// The epoch, counted from 1.
    pub epoch: u64,
    /// The figure of its test.
    pub score: Score,
}

impl Position {
    /// Its fields by their names in the header of `checkpoint.safetensors`, as whole numbers: figures by their bits, times in
    /// milliseconds.
    fn numbers(&self) -> Vec<(&'static str, u64)> {
        let Self { step, epoch, batch, sums, seconds, waited, test_acc, best } = *self;
        let [seconds, waited] = [seconds, waited].map(|seconds| (seconds * 1e3) as u64);
        let mut all = vec![
            ("step", step),
            ("epoch", epoch),
            ("batch", batch),
            ("loss", sums.loss.to_bits()),
            ("loss_divisor", sums.divisor.to_bits()),
            ("correct", sums.correct as u64),
            ("images", sums.images as u64),
            ("milliseconds", seconds),
            ("waited_milliseconds", waited),
        ];
        all.extend(test_acc.map(|figure| ("test_acc", figure.to_bits())));
        if let Some(Best { epoch, score }) = best {
            let name = if let Score::Accuracy(_) = score { "best_test_acc" } else { "best_test_loss" };
            all.extend([("best_epoch", epoch), (name, score.value().to_bits())]);
        }
        all
    }

    /// The position of which these are the numbers. Those of earlier versions have no divisor of the loss, which was the images.
    fn of_numbers(header: &BTreeMap<String, String>) -> Result<Self, String> {
        let number = |name: &str| {
            let found = header.get(name).and_then(|value| value.parse::<u64>().ok());
            found.ok_or_else(|| format!("no whole number {name:?} in its header"))
        };
        let figure =
            |name: &str| header.contains_key(name).then(|| number(name).map(f64::from_bits)).transpose();
        let [step, epoch, batch] = [number("step")?, number("epoch")?, number("batch")?];
        let [loss, correct, images] = [number("loss")?, number("correct")?, number("images")?];
        let [seconds, waited] = [number("milliseconds")?, number("waited_milliseconds")?];
        let (divisor, test_acc) = (figure("loss_divisor")?.unwrap_or(images as f64), figure("test_acc")?);
        let (loss, correct, images) = (f64::from_bits(loss), correct as usize, images as usize);
        let [seconds, waited] = [seconds, waited].map(|milliseconds| milliseconds as f64 / 1e3);
        let score =
            figure("best_test_acc")?.map(Score::Accuracy).or(figure("best_test_loss")?.map(Score::Loss));
        let best = match score {
            Some(score) => Some(Best { epoch: number("best_epoch")?, score }),
            None if header.contains_key("best_epoch") => {
                return Err("a best epoch without its figure in its header".to_owned());
            }
            None => None,
        };
        let sums = Metrics { loss, divisor, correct, images };
        Ok(Self { step, epoch, batch, sums, seconds, waited, test_acc, best })
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
    /// The counts of the health monitor; `None` in checkpoints of version 0.1.
    pub health: Option<HealthCounts>,
    /// The tensors of the whitening by name; empty without ZCA.
    pub whitening: BTreeMap<String, Tensor<f32>>,
    /// The card of the weights, but for the epoch and its accuracy; `None` of a network of one's own.
    pub card: Option<ModelCard>,
}

/// The state in which a run begins or goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Begun {
    /// Steps that are done.
    pub step: u64,
    /// The epoch, counted from 1, that was the best and whose `best.safetensors` is missing or damaged.
    pub lost: Option<u64>,
}

/// The state that a run saves.
pub(super) struct Saved<'a> {
    pub(super) model: &'a dyn Module<f32>,
    pub(super) optimizer: State,
    pub(super) position: &'a Position,
    pub(super) health: &'a HealthCounts,
    /// The card of the network, if it has a name.
    pub(super) card: Option<ModelCard>,
    pub(super) whitening: Option<&'a Whitening>,
}

impl<'a> Saved<'a> {
    /// The weights and what is done to images before them.
    fn tensors(&self) -> Vec<(String, &'a Tensor<f32>)> {
        let mut all = values(self.model);
        all.extend(self.whitening.iter().flat_map(|own| own.tensors()));
        all
    }
}

/// A run folder and its ownership: no other process gets it as long as this lives. See the module's documentation.
#[derive(Debug)]
pub struct RunDir {
    path: PathBuf,
    lock: FolderLock,
    /// The settings of a run that is to begin.
    settings: Option<String>,
    data: Option<DataRecord>,
    /// `None` until the run goes on.
    metrics: Option<Log>,
}

impl RunDir {
    /// Takes a folder for a new run, which is made with its parents if there is none. Nothing is written before the run begins.
    ///
    /// # Errors
    /// [`TrainError`] if the folder has a run in it, or files of one, or is another process's, or cannot be made.
    pub fn create(path: &Path, settings: &str) -> Result<Self, TrainError> {
        disk::make_folder(path)?;
        let lock = FolderLock::take(path)?;
        if disk::exists(&path.join(CONFIG))? {
            let ways = format!("go on with it (--resume {}) or name another (--run-dir)", quoted(path));
            return Err(TrainError::of(path, format!("there is a run in this folder; {ways}")));
        }
        if let Some(file) = file_of_a_run(path)? {
            let what = format!(
                "there are files of a run in this folder ({file}) but no {CONFIG}; name another (--run-dir)"
            );
            return Err(TrainError::of(path, what));
        }
        Ok(Self { settings: Some(settings.to_owned()), ..Self::taken(path, lock) })
    }

    /// Takes the folder of a run that is to go on, and reads its checkpoint. Nothing in it changes before the run goes on.
    ///
    /// # Errors
    /// [`TrainError`] if there is no run in the folder, it is another process's, or its checkpoint is missing or broken.
    pub fn open(path: &Path) -> Result<(Self, Checkpoint), TrainError> {
        Self::check(path)?;
        let lock = FolderLock::take(path)?;
        let checkpoint = path.join(CHECKPOINT);
        let Some(bytes) = disk::read_if_there(&checkpoint)? else {
            let what = format!("no {CHECKPOINT} in this folder: there is nothing to go on from");
            return Err(TrainError::of(path, what));
        };
        let checkpoint = read_checkpoint(&bytes, &checkpoint)?;
        let metrics = path.join(METRICS);
        up_to(&metrics, &disk::read_if_there(&metrics)?.unwrap_or_default(), &checkpoint.position)?;
        let marks = checkpoint.card.as_ref().and_then(|card| card.data.as_ref());
        let data = DataRecord::read_for(path, marks).map_err(TrainError::refused)?;
        Ok((Self { data, ..Self::taken(path, lock) }, checkpoint))
    }

    fn taken(path: &Path, lock: FolderLock) -> Self {
        Self { path: path.to_path_buf(), lock, settings: None, data: None, metrics: None }
    }

    /// The same folder, whose `data.json` is to say this.
    #[must_use]
    pub fn with_data(self, data: DataRecord) -> Self {
        Self { data: Some(data), ..self }
    }

    /// The folder.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Begins the run or goes on with it, at a position: makes every file agree with that, whatever a process that died left.
    ///
    /// # Errors
    /// [`TrainError`] if a file cannot be read or written.
    pub(super) fn begin(&mut self, saved: &Saved<'_>) -> Result<Begun, TrainError> {
        self.lock.begin();
        disk::sweep(&self.path)?;
        let path = self.path.join(METRICS);
        let found = disk::read_if_there(&path)?;
        let of_this_run = found.as_ref().filter(|_| self.settings.is_none());
        let kept = of_this_run.map_or(Ok(Vec::new()), |found| up_to(&path, found, saved.position))?;
        if found.as_ref() != Some(&kept) {
            atomic_write(&path, &kept)?;
        }
        self.metrics = Some(Log::open(path)?);
        if let Some(data) = &self.data {
            let (path, text) = (self.path.join(DATA), data.to_json());
            if disk::read_if_there(&path)?.is_none_or(|found| found != text.as_bytes()) {
                atomic_write(&path, text.as_bytes())?;
            }
        }
        if self.settings.is_some() {
            self.write_checkpoint(saved)?;
        }
        self.settle(&saved.tensors(), saved.position, self.card(saved).as_ref())?;
        if let Some(settings) = self.settings.take() {
            atomic_write(&self.path.join(CONFIG), settings.as_bytes())?;
        }
        // Those of an epoch before the last are nowhere else.
        let lost = |best: &Best| {
            let card = ModelCard::read(&self.path.join(BEST));
            card.is_err() || card.is_ok_and(|card| card.is_some_and(|card| card.epoch != Some(best.epoch)))
        };
        let lost = saved.position.best.filter(lost).map(|best| best.epoch);
        Ok(Begun { step: saved.position.step, lost })
    }

    /// Writes the weights of a checkpoint to those files that ought to have them and do not, since the process died before.
    ///
    /// # Errors
    /// [`TrainError`] if a file cannot be read or written.
    pub fn repair(&mut self, checkpoint: &Checkpoint) -> Result<(), TrainError> {
        self.lock.begin();
        disk::sweep(&self.path)?;
        let all = checkpoint.weights.iter().chain(&checkpoint.whitening);
        let weights: Vec<_> = all.map(|(name, own)| (name.clone(), own)).collect();
        self.settle(&weights, &checkpoint.position, checkpoint.card.as_ref())
    }

    /// The card of weights, with the data that this folder's run is made of.
    fn card(&self, saved: &Saved<'_>) -> Option<ModelCard> {
        let data = self.data.as_ref().map(|data| data.marks.clone());
        saved.card.clone().map(|card| ModelCard { data, ..card })
    }

    /// Writes those of the files of weights that do not hold what they should.
    fn settle(
        &self,
        weights: &Weights<'_>,
        position: &Position,
        card: Option<&ModelCard>,
    ) -> Result<(), TrainError> {
        let text = text(card, position);
        for file in Self::files_of(position) {
            let path = self.path.join(file);
            if !holds(&path, weights, &text) {
                save_tensors(&path, weights, text.clone())?;
            }
        }
        Ok(())
    }

    /// The files that have the weights of a position.
    fn files_of(position: &Position) -> impl Iterator<Item = &'static str> {
        // Between two epochs, they may be the best.
        let best = position.batch == 0 && position.best.is_some_and(|best| best.epoch == position.epoch);
        [Some(MODEL), best.then_some(BEST)].into_iter().flatten()
    }

    /// Adds a line to `metrics.jsonl` of a run that goes on.
    ///
    /// # Errors
    /// [`TrainError::File`] if it cannot be written.
    pub(super) fn log(&mut self, line: &impl Serialize) -> Result<(), TrainError> {
        let mut text = serde_json::to_string(line).expect("figures are JSON");
        text.push('\n');
        Ok(self.metrics.as_mut().expect("the run goes on").add(text.as_bytes())?)
    }

    /// Refuses a folder without a run.
    ///
    /// # Errors
    /// [`TrainError::Config`] if it has no `config.toml`, [`TrainError::File`] if it may not be looked at.
    pub fn check(path: &Path) -> Result<(), TrainError> {
        if disk::exists(&path.join(CONFIG))? {
            return Ok(());
        }
        Err(TrainError::of(path, "no run in this folder (it has no config.toml)"))
    }

    /// Reads a folder's `metrics.jsonl`, which may be all that is in the folder.
    ///
    /// # Errors
    /// [`TrainError`] if it cannot be read.
    pub fn read_metrics(folder: &Path) -> Result<RunMetrics, TrainError> {
        Ok(RunMetrics::of_text(&disk::read(&folder.join(METRICS))?))
    }

    /// The epochs of [`Self::read_metrics`].
    ///
    /// # Errors
    /// As [`Self::read_metrics`].
    pub fn read_epochs(folder: &Path) -> Result<Vec<EpochMetrics>, TrainError> {
        Ok(Self::read_metrics(folder)?.epochs().copied().collect())
    }

    /// Saves a run that goes on: the metrics so far, the weights, and the checkpoint last.
    ///
    /// # Errors
    /// [`TrainError`] if a file cannot be written; the old ones are whole then.
    pub(super) fn save(&self, saved: &Saved<'_>) -> Result<(), TrainError> {
        self.lock.check()?;
        self.metrics.as_ref().expect("the run goes on").sync()?;
        let text = text(self.card(saved).as_ref(), saved.position);
        for file in Self::files_of(saved.position) {
            save_tensors(&self.path.join(file), &saved.tensors(), text.clone())?;
        }
        self.write_checkpoint(saved)
    }

    fn write_checkpoint(&self, saved: &Saved<'_>) -> Result<(), TrainError> {
        let weights = values(saved.model);
        let mut tensors: Vec<_> =
            weights.iter().map(|(name, tensor)| (format!("model.{name}"), *tensor)).collect();
        tensors.extend(saved.whitening.iter().flat_map(|own| own.tensors()));
        tensors.extend(saved.optimizer.iter().map(|(name, tensor)| (format!("{OPTIMIZER}{name}"), tensor)));
        let numbers = saved.position.numbers().into_iter();
        let mut header = self.card(saved).map(|card| card.text()).unwrap_or_default();
        header.extend(numbers.map(|(name, number)| (name.to_owned(), number.to_string())));
        let health = serde_json::to_string(saved.health).expect("counts are JSON");
        header.insert(HEALTH.to_owned(), health);
        let names: Vec<&str> = weights.iter().map(|(name, _)| name.as_str()).collect();
        header.insert(PARAMETERS.to_owned(), names.join(","));
        Ok(save_tensors(&self.path.join(CHECKPOINT), &tensors, header)?)
    }
}

/// Weights by their name in the network.
type Weights<'a> = [(String, &'a Tensor<f32>)];

/// The text of a file of the weights of a position.
fn text(card: Option<&ModelCard>, position: &Position) -> BTreeMap<String, String> {
    // Inside of an epoch nobody has tested them.
    let tested = position.batch == 0 && (position.best.is_some() || position.test_acc.is_some());
    let card = card.map(|card| ModelCard {
        epoch: tested.then_some(position.epoch),
        test_acc: position.test_acc.filter(|_| tested),
        ..card.clone()
    });
    card.map(|card| card.text()).unwrap_or_default()
}

/// Tells whether a file holds these weights, bit for bit, and this text.
fn holds(path: &Path, weights: &Weights<'_>, text: &BTreeMap<String, String>) -> bool {
    let bits = |tensor: &Tensor<f32>| tensor.data().iter().map(|number| number.to_bits()).collect::<Vec<_>>();
    load_tensors(path).is_ok_and(|(found, of_file)| {
        let same = |(name, own): &(String, &Tensor<f32>)| {
            found.get(name).is_some_and(|found| found.shape() == own.shape() && bits(found) == bits(own))
        };
        of_file == *text && found.len() == weights.len() && weights.iter().all(same)
    })
}

/// The name of a file in a folder without settings that only a run can have left that had begun. A process that died in the
/// beginning leaves a checkpoint of step 0, and nothing that anybody would miss.
fn file_of_a_run(path: &Path) -> Result<Option<&'static str>, TrainError> {
    let checkpoint = path.join(CHECKPOINT);
    let files: &[&'static str] = if !disk::exists(&checkpoint)? {
        &[MODEL, BEST, CURVES]
    } else if read_checkpoint(&disk::read(&checkpoint)?, &checkpoint)
        .is_ok_and(|found| found.position == Position::default())
    {
        &[BEST, CURVES]
    } else {
        return Ok(Some(CHECKPOINT));
    };
    for file in files {
        if disk::exists(&path.join(file))? {
            return Ok(Some(file));
        }
    }
    if disk::read_if_there(&path.join(METRICS))?.is_some_and(|text| !text.is_empty()) {
        return Ok(Some(METRICS));
    }
    // Another program's.
    Ok(DataRecord::read(path).is_err().then_some(DATA))
}

fn read_checkpoint(bytes: &[u8], path: &Path) -> Result<Checkpoint, TrainError> {
    let (mut tensors, header) = read_tensors(bytes, path)?;
    let broken = |what: &str| TrainError::of(path, format!("not a checkpoint of a run: {what}"));
    let position = Position::of_numbers(&header).map_err(|what| broken(&what))?;
    let health = header.get(HEALTH).map(|text| serde_json::from_str(text)).transpose();
    let health = health.map_err(|error| broken(&format!("{HEALTH:?} in its header: {error}")))?;
    let names = header.get(PARAMETERS).ok_or_else(|| broken("no list of parameters in its header"))?;
    let mut weights = BTreeMap::new();
    for name in names.split(',') {
        let weight = tensors.remove(&format!("model.{name}"));
        weights.insert(name.to_owned(), weight.ok_or_else(|| broken(&format!("no tensor model.{name}")))?);
    }
    let card = ModelCard::of_text(&header).transpose();
    let card = card.map_err(|error| broken(&format!("its card: {error}")))?;
    let (mut optimizer, mut whitening) = (State::new(), BTreeMap::new());
    for (name, tensor) in tensors {
        if let Some(name) = name.strip_prefix(OPTIMIZER) {
            optimizer.insert(name.to_owned(), tensor);
        } else if let Some(name) = name.strip_prefix(FORMER_MOMENTUM) {
            optimizer.insert(format!("{name}.momentum_buffer"), tensor);
        } else if name.starts_with(whiten::PREFIX) {
            whitening.insert(name, tensor);
        } else {
            return Err(broken(&format!("a tensor {name} that is of no use")));
        }
    }
    Ok(Checkpoint { weights, optimizer, position, health, whitening, card })
}

/// The lines of metrics up to a position, each step and each epoch once, in their order. What else there is goes: a last line that
/// was cut off, or one that the disk changed so that it gives a step that there is already.
///
/// # Errors
/// [`TrainError`] if a step or an epoch that is done at the position has no line, though those reach the disk before the
/// checkpoint does. `path` is that of the metrics.
fn up_to(path: &Path, metrics: &[u8], position: &Position) -> Result<Vec<u8>, TrainError> {
    let (mut kept, mut step, mut epoch) = (Vec::new(), 0, 0);
    // Tells whether the last step's line is kept, after which its warnings come.
    let mut known = false;
    for (line, value) in lines(metrics) {
        let follows = |key: &str, count: &mut u64, limit: u64| {
            let next = *count < limit && value[key].as_u64() == Some(*count + 1);
            *count += u64::from(next);
            next
        };
        let of_step = follows("step", &mut step, position.step);
        known = if value.get("step").is_some() { of_step } else { known };
        let warns = known && value["at_step"].as_u64().is_some_and(|at| at <= step);
        if of_step || follows("epoch", &mut epoch, position.epoch) || warns {
            kept.extend_from_slice(line);
            kept.push(b'\n');
        }
    }
    let of = |key: &str, found: u64, all: u64| (found < all).then(|| format!("{key} {}", found + 1));
    match of("epoch", epoch, position.epoch).or_else(|| of("step", step, position.step)) {
        Some(line) => {
            Err(TrainError::of(path, format!("no line of {line}, which {CHECKPOINT} goes on from")))
        }
        None => Ok(kept),
    }
}

/// Those lines that are JSON.
fn lines(metrics: &[u8]) -> impl Iterator<Item = (&[u8], Value)> {
    let lines = metrics.split(|&byte| byte == b'\n');
    lines.filter_map(|line| Some((line, serde_json::from_slice(line).ok()?)))
}

#[cfg(test)]
mod tests {
    use tensor::Shape;

    use super::*;
    use crate::nn::{Linear, Sequential};
    use crate::optim::{Optimizer, Sgd};
    use crate::testing::place;

    #[test]
    fn lines_of_metrics_are_kept_once_and_in_their_order() {
        let position = Position { step: 10, epoch: 2, ..Position::default() };
        let step = |step: u64| format!("{{\"step\":{step},\"loss\":1.5}}\n");
        let epoch = |epoch: u64| format!("{{\"epoch\":{epoch}}}\n");
        let warning = |step: u64| format!("{{\"warning\":\"stuck_loss\",\"at_step\":{step}}}\n");
        let steps = |all: std::ops::RangeInclusive<u64>| all.map(step).collect::<String>();
        let whole = steps(1..=5) + &epoch(1) + &steps(6..=9) + &warning(9) + &step(10) + &epoch(2);
        let kept = |metrics: &str| {
            let kept = up_to(Path::new("m"), metrics.as_bytes(), &position);
            kept.map(|kept| String::from_utf8(kept).unwrap()).map_err(|error| error.to_string())
        };
        // One bit of 11 is 10, and one of 3 is 2: what is there already is not there twice, nor what belongs to what goes.
        for after in [
            steps(11..=12),
            warning(11),
            epoch(3),
            step(10),
            epoch(2),
            step(11) + &warning(10),
            "{\"step\":11,".to_owned(),
        ] {
            assert_eq!(kept(&(whole.clone() + &after)).as_ref(), Ok(&whole), "{after}");
        }
        for (line, name) in [(step(4), "step 4"), (epoch(2), "epoch 2")] {
            let missing = format!("m: no line of {name}, which checkpoint.safetensors goes on from");
            assert_eq!(kept(&whole.replacen(&line, "", 1)), Err(missing));
        }
    }

    /// As version 0.1 wrote it: momentum buffers named after their parameters.
    #[test]
    fn checkpoints_of_earlier_versions_are_read() {
        let (_folder, path) = place("checkpoint.safetensors");
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
            // Before images could be judged by their loss alone.
            ("best_epoch", "2"),
            ("best_test_acc", "4604930618986332160"),
        ];
        let tensors = tensors.map(|(name, tensor)| (name.to_owned(), tensor));
        let metadata = metadata.map(|(key, value)| (key.to_owned(), value.to_owned()));
        save_tensors(&path, &tensors, metadata.into()).unwrap();
        let checkpoint = read_checkpoint(&std::fs::read(&path).unwrap(), &path).unwrap();
        let sums = Metrics { loss: 2.0, divisor: 8.0, correct: 3, images: 8 };
        let expected = Position {
            step: 7,
            epoch: 2,
            batch: 1,
            sums,
            seconds: 1.5,
            waited: 0.25,
            test_acc: None,
            best: Some(Best { epoch: 2, score: Score::Accuracy(0.75) }),
        };
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
