//! Which convolution algorithm is asked for, by flag, environment variable or settings, and that it gets to where convolutions
//! are computed: in training, in evaluation, and in a run that goes on.

use std::fs;
use std::path::Path;
use std::sync::{Arc, Mutex};

use crate::common::{small_train, write_dataset};
use assert_cmd::Command;
use nin::data::{DataLoader, DataSources, DatasetKind, LoaderOptions, load};
use nin::loss::CrossEntropy;
use nin::models::Model;
use nin::nn::{AdaptiveAvgPool2d, Flatten, Sequential, initialize, parameters_mut};
use nin::train::{StepSettings, Workers};
use tensor::conv::ConvAlgorithm;
use tensor::init::Init;
use tensor::{Context, Element, Tensor, UnaryOp};

const PATHS: [ConvAlgorithm; 5] = [
    ConvAlgorithm::Auto,
    ConvAlgorithm::Naive,
    ConvAlgorithm::Im2col,
    ConvAlgorithm::Direct,
    ConvAlgorithm::Winograd(None),
];

/// An op that changes nothing and writes down what it was asked to compute convolutions with.
#[derive(Debug, Clone, Default)]
struct Probe(Arc<Mutex<Vec<(bool, ConvAlgorithm)>>>);

impl UnaryOp for Probe {
    type Saved<T: Element> = ();

    const NAME: &'static str = "probe";

    fn compute<T: Element>(&self, context: &Context, x: Tensor<T>) -> (Tensor<T>, ()) {
        self.0.lock().unwrap().push((context.grad_enabled, context.conv));
        (x, ())
    }

    fn gradient<T: Element>(&self, context: &Context, (): (), dy: Tensor<T>) -> Tensor<T> {
        self.0.lock().unwrap().push((context.grad_enabled, context.conv));
        dy
    }
}

#[test]
fn steps_and_evaluations_use_the_lanes_algorithm() {
    let folder = tempfile::tempdir().unwrap();
    write_dataset(folder.path());
    let sources = DataSources::new(Some(folder.path().to_path_buf()));
    let data = load(DatasetKind::FashionMnistMini, &sources).unwrap();
    let options = LoaderOptions { batch_size: 10, ..LoaderOptions::default() };
    let batches = DataLoader::new(Arc::new(data.train), options).unwrap();
    for conv in PATHS {
        let probe = Probe::default();
        let network = Sequential::<f32>::new()
            .with(nin::nn::Conv2d::new(1, 10, 3, 1, 0))
            .with(probe.clone())
            .with(AdaptiveAvgPool2d::GLOBAL)
            .with(Flatten);
        let workers = Workers::new(2).unwrap().with_conv(conv);
        let batch = batches.epoch(0).next().unwrap().unwrap();
        workers.step(&network, &batch, &CrossEntropy::default(), StepSettings::default()).unwrap();
        workers.evaluate(&network, &batch, &CrossEntropy::default()).unwrap();
        workers.predict_batch(&network, &batch).unwrap();
        let seen = probe.0.lock().unwrap();
        for recording in [true, false] {
            assert!(seen.iter().any(|&(at, _)| at == recording), "{conv}: recording {recording}");
        }
        assert!(seen.iter().all(|&(_, at)| at == conv), "{conv}: {seen:?}");
    }
}

/// What the micro-batches before the one that failed left behind is not part of the next step.
#[test]
fn a_step_after_one_that_failed_is_like_any_other() {
    let folder = tempfile::tempdir().unwrap();
    write_dataset(folder.path());
    let sources = DataSources::new(Some(folder.path().to_path_buf()));
    let data = load(DatasetKind::FashionMnistMini, &sources).unwrap().train;
    // Nine outputs for ten classes: images of the last class are refused.
    let mut network = Sequential::<f32>::new()
        .with(nin::nn::Conv2d::new(1, 9, 3, 1, 1))
        .with(AdaptiveAvgPool2d::GLOBAL)
        .with(Flatten);
    initialize(&mut network, Init::HeNormal, Init::Constant(0.0), 5);
    let batch = |images: usize| {
        let options = LoaderOptions { batch_size: images, ..LoaderOptions::default() };
        DataLoader::new(Arc::new(data.head(images)), options).unwrap().epoch(0).next().unwrap().unwrap()
    };
    let (good, bad) = (batch(8), batch(40));
    for conv in PATHS {
        let workers = Workers::new(1).unwrap().with_conv(conv);
        let gradients = || {
            workers.step(&network, &good, &CrossEntropy::default(), StepSettings::default()).unwrap();
            workers.gradients(|all| all.iter().map(|one| one.data().to_vec()).collect::<Vec<_>>())
        };
        let before = gradients();
        workers.step(&network, &bad, &CrossEntropy::default(), StepSettings::default()).unwrap_err();
        assert!(gradients() == before, "{conv}");
    }
}

/// Two or more steps; what they made.
fn weights(mut command: Command, run: &Path, steps: &str) -> Vec<u8> {
    command.args(["--max-steps", steps]).assert().success();
    fs::read(run.join("model.safetensors")).unwrap()
}

#[test]
fn the_flag_wins_over_the_variable_and_a_run_keeps_its_algorithm() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    write_dataset(&data);
    let train = |name: &str, variable: &str, flag: &[&str], steps: &str| {
        let run = folder.path().join(name);
        let mut command = small_train(&data, flag);
        command.env("NIN_CONV", variable).arg("--run-dir").arg(&run);
        weights(command, &run, steps)
    };
    let direct = train("flag", "", &["--conv", "direct"], "3");
    let winograd = train("winograd", "winograd", &[], "3");
    assert!(direct != winograd, "the two algorithms round differently");
    assert!(train("variable", "direct", &[], "3") == direct);
    assert!(train("both", "winograd", &["--conv", "direct"], "3") == direct);
    let file = folder.path().join("settings.toml");
    fs::write(&file, "conv = \"direct\"\n").unwrap();
    assert!(train("file", "", &["--config", file.to_str().unwrap()], "3") == direct);
    assert!(train("over", "winograd", &["--config", file.to_str().unwrap()], "3") == winograd);

    // A run that goes on does so as it began, whatever the variable says now.
    train("resumed", "", &["--conv", "direct"], "1");
    let run = folder.path().join("resumed");
    assert!(fs::read_to_string(run.join("config.toml")).unwrap().contains("conv = \"direct\""));
    let mut command = Command::new(env!("CARGO_BIN_EXE_train"));
    command.env("NIN_CONV", "winograd").arg("--resume").arg(&run).arg("--data-dir").arg(&data);
    assert!(weights(command, &run, "3") == direct);
}

/// A layer's weights times a power of two, and the next layers' divided by it, are the same network to the bit, unless sums
/// overflow: Winograd's do, since they are far larger than the outputs that they are taken together to.
#[test]
fn evaluation_uses_what_is_asked_for() {
    let folder = tempfile::tempdir().unwrap();
    let (data, run) = (folder.path().join("data"), folder.path().join("run"));
    write_dataset(&data);
    let mut command = small_train(&data, &["--image-size", "28", "--conv", "direct"]);
    command.arg("--run-dir").arg(&run);
    weights(command, &run, "1");
    let mut network = Model::NinCifar.build::<f32>(1, 10, 0.5);
    initialize(&mut network, Init::HeNormal, Init::Constant(0.0), 5);
    // Class 3 for every image, as long as there are numbers: class 0 is what is said of a row of NaN.
    let last = parameters_mut(&mut network).pop().unwrap().1;
    last.value.data_mut()[3] = 1e3;
    let path = run.join("model.safetensors");
    let eval = |variable: &str, flag: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_nin"));
        command.env("NIN_CONV", variable).arg("eval").arg(&run).arg("--data-dir").arg(&data).args(flag);
        String::from_utf8(command.assert().success().get_output().stdout.clone()).unwrap()
    };
    nin::checkpoint::save_parameters(&path, &network).unwrap();
    let plain = eval("", &[]);
    assert!(plain.contains("3 Dress            0     0     0     2 "), "{plain}");
    for (name, parameter) in parameters_mut(&mut network) {
        let scale = match name.as_str() {
            "3.0.weight" => 122,
            "3.2.weight" | "3.4.weight" => -61,
            _ => 0,
        };
        parameter.value.data_mut().iter_mut().for_each(|w| *w *= (scale as f32).exp2());
    }
    nin::checkpoint::save_parameters(&path, &network).unwrap();
    assert_eq!(eval("", &[]), plain, "by the run's own algorithm");
    assert_eq!(eval("winograd", &["--conv", "direct"]), plain, "the flag wins");
    let broken = eval("", &["--conv", "winograd"]);
    assert_ne!(broken, plain);
    assert_eq!(eval("winograd", &[]), broken);
}

#[test]
fn unknown_algorithms_and_instruction_sets_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let refused = |binary: &str, variable: &str, args: &[&str], parts: &[&str]| {
        let mut command = Command::new(binary);
        command.env(variable, "fast").args(args).current_dir(folder.path());
        let output = command.output().unwrap();
        let stderr = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(2), "{stderr}");
        assert_eq!(stderr.lines().count(), 1, "{stderr}");
        assert!(stderr.starts_with("error: "), "{stderr}");
        for part in parts {
            assert!(stderr.contains(part), "no {part:?} in {stderr}");
        }
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0, "nothing is left behind");
    };
    let (train, nin) = (env!("CARGO_BIN_EXE_train"), env!("CARGO_BIN_EXE_nin"));
    let conv = ["expected auto, naive, im2col, direct or winograd", "\"fast\""];
    let isa = ["NIN_ISA", "expected one of portable, neon, avx2, avx512", "\"fast\""];
    for (binary, args) in
        [(train, &[] as &[&str]), (train, &["--resume", "run"]), (nin, &["eval", "run"]), (nin, &["summary"])]
    {
        refused(binary, "NIN_CONV", args, &[&["NIN_CONV"], &conv[..]].concat());
        refused(binary, "NIN_ISA", args, &isa);
    }
    refused(train, "UNUSED", &["--conv", "fast"], &[&["--conv"], &conv[..]].concat());
    refused(train, "UNUSED", &["--resume", "run", "--conv", "direct"], &["--resume", "--conv"]);
}
