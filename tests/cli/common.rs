//! Tools that the tests of the commands share: a folder with a small data set, the commands in it, and the form of a refusal.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;
use tempfile::TempDir;
use tensor::Tensor;

pub(crate) const TRAIN: &str = env!("CARGO_BIN_EXE_train");
pub(crate) const NIN: &str = env!("CARGO_BIN_EXE_nin");

/// The names of a data set's files: training images and labels, test images and labels.
pub(crate) const FILES: [&str; 4] = [
    "train-images-idx3-ubyte",
    "train-labels-idx1-ubyte",
    "t10k-images-idx3-ubyte",
    "t10k-labels-idx1-ubyte",
];

/// Training and test images of the small data set.
const IMAGES: [usize; 2] = [40, 20];

/// An IDX file of unsigned bytes.
pub(crate) fn idx(dims: &[usize], data: &[u8]) -> Vec<u8> {
    let mut bytes = vec![0, 0, 8, dims.len() as u8];
    for &dim in dims {
        bytes.extend((dim as u32).to_be_bytes());
    }
    bytes.extend(data);
    bytes
}

/// All files of a folder, by name, with their contents.
pub(crate) fn contents(folder: &Path) -> BTreeMap<String, Vec<u8>> {
    let entries = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap());
    entries.map(|entry| (entry.file_name().into_string().unwrap(), fs::read(entry.path()).unwrap())).collect()
}

/// Copies all files of a folder into another, which is made.
pub(crate) fn copy(from: &Path, to: &Path) {
    fs::create_dir(to).unwrap();
    for (name, bytes) in contents(from) {
        fs::write(to.join(name), bytes).unwrap();
    }
}

/// Writes 40 training and 20 test images of 28 x 28 pixels: image `i` has a bright bar whose place tells its class, `i % 10`.
fn write_dataset(dir: &Path) {
    fs::create_dir_all(dir).unwrap();
    for (split, n) in IMAGES.into_iter().enumerate() {
        let mut pixels = Vec::new();
        for image in 0..n {
            for row in 0..28 {
                for column in 0..28 {
                    let bar = row / 2 == image % 10 + 2;
                    pixels.push(if bar { 200 } else { ((image * 31 + row * 17 + column * 7) % 40) as u8 });
                }
            }
        }
        let labels: Vec<u8> = (0..n).map(|image| (image % 10) as u8).collect();
        fs::write(dir.join(FILES[2 * split]), idx(&[n, 28, 28], &pixels)).unwrap();
        fs::write(dir.join(FILES[2 * split + 1]), idx(&[n], &labels)).unwrap();
    }
}

/// The network of tests of what every network has: a run of it takes a fortieth of the time.
const LENET: [&str; 4] = ["--model", "lenet", "--image-size", "16"];
/// The network of tests of its layers, its class maps or its dropout.
const NIN_CIFAR: [&str; 4] = ["--model", "nin-cifar", "--image-size", "14"];

/// A folder that commands run in, with the small data set in `data`. Runs are named by their folders in it.
pub(crate) struct Place {
    folder: TempDir,
    /// Of its runs.
    network: [&'static str; 4],
}

impl Place {
    pub(crate) fn new() -> Self {
        let place = Self::empty();
        write_dataset(&place.path("data"));
        place
    }

    /// Whose runs are of [`NIN_CIFAR`].
    pub(crate) fn of_nin() -> Self {
        Self { network: NIN_CIFAR, ..Self::new() }
    }

    /// Without data.
    pub(crate) fn empty() -> Self {
        Self { folder: tempfile::tempdir().unwrap(), network: LENET }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub(crate) fn read(&self, name: &str) -> String {
        fs::read_to_string(self.path(name)).unwrap()
    }

    /// The lines of a run's `metrics.jsonl`.
    pub(crate) fn metrics(&self, run: &str) -> Vec<Value> {
        json_lines(&self.read(&format!("{run}/metrics.jsonl")))
    }

    /// The same without the figures of time.
    pub(crate) fn figures(&self, run: &str) -> Vec<String> {
        let mut lines = self.metrics(run);
        for line in lines.iter_mut().filter_map(Value::as_object_mut) {
            line.retain(|name, _| !["images_per_s", "data_wait"].contains(&name.as_str()));
        }
        lines.iter().map(ToString::to_string).collect()
    }

    /// Waits until a run that goes on has written so many of these lines; how many there are.
    pub(crate) fn wait_for_lines(&self, run: &str, lines: usize) -> usize {
        let (began, metrics) = (Instant::now(), self.path(run).join("metrics.jsonl"));
        loop {
            let found =
                fs::read(&metrics).map_or(0, |text| text.iter().filter(|&&byte| byte == b'\n').count());
            if found >= lines {
                return found;
            }
            assert!(began.elapsed() < Duration::from_secs(120), "{found} of {lines} lines of {run}");
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    /// Changes the tensors of a file of weights, and what it says of itself.
    pub(crate) fn change_weights(
        &self,
        file: &str,
        change: impl FnOnce(&mut BTreeMap<String, Tensor<f32>>, &mut BTreeMap<String, String>),
    ) {
        let (mut tensors, mut text) = nin::checkpoint::load_tensors(&self.path(file)).unwrap();
        change(&mut tensors, &mut text);
        let all: Vec<_> = tensors.iter().map(|(name, tensor)| (name.clone(), tensor)).collect();
        nin::checkpoint::save_tensors(&self.path(file), &all, text).unwrap();
    }

    /// The files of a run that a failure must leave as they are.
    pub(crate) fn saved(&self, run: &str) -> [Vec<u8>; 3] {
        ["checkpoint.safetensors", "model.safetensors", "config.toml"]
            .map(|file| fs::read(self.path(run).join(file)).unwrap())
    }

    /// The bytes of a run's `model.safetensors`.
    pub(crate) fn weights(&self, run: &str) -> Vec<u8> {
        fs::read(self.path(run).join("model.safetensors")).unwrap()
    }

    /// A program with arguments, whose output is kept.
    pub(crate) fn command(&self, program: &str, arguments: &[&str]) -> Command {
        let mut command = Command::new(program);
        command.current_dir(self.folder.path()).args(arguments);
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    /// The same, begun by a shell that does something before.
    pub(crate) fn after(&self, first: &str, program: &str, arguments: &[&str]) -> Command {
        let script = format!("{first}; exec \"$@\"");
        self.command("sh", &[&["-c", &script, "sh", program], arguments].concat())
    }

    /// `nin` with arguments.
    pub(crate) fn nin(&self, arguments: &[&str]) -> Command {
        self.command(NIN, arguments)
    }

    /// The arguments of `train` for the smallest run that is still a real one (5 steps of 8 images an epoch), except where `more`
    /// has others.
    pub(crate) fn arguments<'a>(&self, run: &'a str, more: &[&'a str]) -> Vec<&'a str> {
        let others = ["--batch-size", "8", "--threads", "2", "--data-dir", "data", "--run-dir", run];
        let settings = ["--dataset", "fashion-mnist-mini"].into_iter().chain(self.network).chain(others);
        let settings: Vec<&str> = settings.collect();
        let kept = settings.chunks(2).filter(|setting| !more.contains(&setting[0])).flatten().copied();
        kept.chain(more.iter().copied()).collect()
    }

    /// `train` with these [`arguments`](Place::arguments).
    pub(crate) fn train(&self, run: &str, more: &[&str]) -> Command {
        self.command(TRAIN, &self.arguments(run, more))
    }

    /// Goes on with a run.
    pub(crate) fn resume(&self, run: &str, more: &[&str]) -> Command {
        self.command(TRAIN, &[&["--resume", run, "--data-dir", "data"], more].concat())
    }

    /// `nin eval` of a run.
    pub(crate) fn eval(&self, run: &str, more: &[&str]) -> Command {
        self.nin(&[&["eval", run, "--data-dir", "data"], more].concat())
    }

    /// A fresh run of so many steps; its weights.
    pub(crate) fn steps(&self, run: &str, steps: u64, more: &[&str]) -> Vec<u8> {
        succeeded(self.train(run, &[more, &["--max-steps", &steps.to_string()]].concat()));
        self.weights(run)
    }
}

pub(crate) fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

/// Asserts that all of `parts` are in the text.
pub(crate) fn assert_has(text: &str, parts: &[&str]) {
    for part in parts {
        assert!(text.contains(part), "no {part:?} in\n{text}");
    }
}

/// Asserts that the command does what it is asked; what it prints.
pub(crate) fn succeeded(mut command: Command) -> String {
    let output = command.output().unwrap();
    let stderr = text(&output.stderr);
    assert!(output.status.success() && !stderr.contains("error"), "{command:?}: {stderr}");
    text(&output.stdout)
}

/// The JSON that a command prints.
pub(crate) fn json(command: Command) -> Value {
    serde_json::from_str(&succeeded(command)).unwrap()
}

/// The lines of JSON that were printed.
pub(crate) fn json_lines(stdout: &str) -> Vec<Value> {
    stdout.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// Asserts that the command does what it is asked, and says all of `parts` to standard error, with no more warnings than parts
/// that begin one; what it prints.
pub(crate) fn warned(mut command: Command, parts: &[&str]) -> String {
    let output = command.output().unwrap();
    let stderr = text(&output.stderr);
    assert!(output.status.success(), "{command:?}: {stderr}");
    assert_has(&stderr, parts);
    let warnings = stderr.lines().filter(|line| line.starts_with("warning:")).count();
    let expected = parts.iter().filter(|part| part.starts_with("warning:")).count();
    assert_eq!(warnings, expected, "warnings of {command:?}: {stderr}");
    text(&output.stdout)
}

/// Asserts that the command fails with this exit code and one error that has all of `parts` in it; its standard error.
pub(crate) fn failed(mut command: Command, code: i32, parts: &[&str]) -> String {
    let output = command.output().unwrap();
    let stderr = text(&output.stderr);
    assert_eq!(output.status.code(), Some(code), "{command:?}: {stderr}");
    assert!(!stderr.contains("panicked"), "{stderr}");
    let errors: Vec<&str> = stderr.lines().filter(|line| line.starts_with("error: ")).collect();
    let [error] = errors[..] else { panic!("{command:?}: one error: {stderr}") };
    assert_has(error, parts);
    stderr
}

/// Asserts that the command fails as [`failed`] and says nothing else.
pub(crate) fn refused(command: Command, code: i32, parts: &[&str]) {
    let stderr = failed(command, code, parts);
    assert_eq!(stderr.lines().count(), 1, "one line: {stderr}");
}

/// Asserts that the weights of a run, and those that it goes on from, are finite numbers.
pub(crate) fn assert_finite(run: &Path) {
    for file in ["checkpoint.safetensors", "model.safetensors"] {
        let (tensors, _) = nin::checkpoint::load_tensors(&run.join(file)).unwrap();
        assert!(tensors.values().all(|tensor| tensor.data().iter().all(|x| x.is_finite())), "{run:?}/{file}");
    }
}

/// Sends a signal so many times, one right after the other.
#[cfg(unix)]
pub(crate) fn kill(child: &std::process::Child, signal: &str, times: usize) {
    let sent = format!("kill -{signal} {};", child.id()).repeat(times);
    assert!(Command::new("sh").args(["-c", &sent]).status().unwrap().success());
}

/// Waits for a process that was asked to end. One that does not is killed, and the test fails: so it is where the tests
/// themselves were told to ignore the signal, as a shell tells what it begins in the background.
#[cfg(unix)]
pub(crate) fn ended(child: std::process::Child) -> std::process::Output {
    use std::os::unix::process::ExitStatusExt;
    use std::sync::mpsc::{RecvTimeoutError, channel};

    let id = child.id().to_string();
    let (over, waits) = channel::<()>();
    let watch = std::thread::spawn(move || {
        if waits.recv_timeout(Duration::from_secs(120)) == Err(RecvTimeoutError::Timeout) {
            Command::new("kill").args(["-KILL", &id]).status().unwrap();
        }
    });
    let output = child.wait_with_output().unwrap();
    drop(over);
    watch.join().unwrap();
    assert_ne!(
        output.status.signal(),
        Some(9),
        "no signal ended it: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    output
}
