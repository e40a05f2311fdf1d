//! The convolution algorithm that is asked for, by flag, environment variable or settings, gets to where convolutions are
//! computed: in training, in evaluation, and in a run that goes on.

use std::fs;
use std::process::Command;
use std::sync::{Arc, Mutex};

use nin::data::{Batch, DataLoader, DataSources, DatasetKind, LoaderOptions, load};
use nin::loss::CrossEntropy;
use nin::models::Model;
use nin::nn::{AdaptiveAvgPool2d, Flatten, Sequential, initialize, parameters_mut};
use nin::train::{StepSettings, Workers};
use tensor::conv::ConvAlgorithm;
use tensor::init::Init;
use tensor::{Context, Element, Tensor, UnaryOp};

use crate::common::{NIN, Place, TRAIN, assert_has, refused, succeeded};

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

/// The first images of the small data set.
fn batch(images: usize) -> Batch {
    let place = Place::new();
    let data = load(DatasetKind::FashionMnistMini, &DataSources::new(Some(place.path("data")))).unwrap();
    let options = LoaderOptions { batch_size: images, ..LoaderOptions::default() };
    DataLoader::new(Arc::new(data.train), options).unwrap().epoch(0).next().unwrap().unwrap()
}

#[test]
fn steps_and_evaluations_use_the_workers_algorithm() {
    let batch = batch(10);
    for conv in PATHS {
        let probe = Probe::default();
        let network = Sequential::<f32>::new()
            .with(nin::nn::Conv2d::new(1, 10, 3, 1, 0))
            .with(probe.clone())
            .with(AdaptiveAvgPool2d::GLOBAL)
            .with(Flatten);
        let mut workers = Workers::new(2).unwrap().with_conv(conv);
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

/// Leftovers of the micro-batches before the one that failed are not part of the next step.
#[test]
fn a_step_after_one_that_failed_is_like_any_other() {
    // Nine outputs for ten classes: images of the last class are refused.
    let mut network = Sequential::<f32>::new()
        .with(nin::nn::Conv2d::new(1, 9, 3, 1, 1))
        .with(AdaptiveAvgPool2d::GLOBAL)
        .with(Flatten);
    initialize(&mut network, Init::HeNormal, Init::Constant(0.0), 5);
    let (good, bad) = (batch(8), batch(40));
    for conv in PATHS {
        let mut workers = Workers::new(1).unwrap().with_conv(conv);
        let gradients = |workers: &mut Workers| {
            workers.step(&network, &good, &CrossEntropy::default(), StepSettings::default()).unwrap();
            workers.gradients(|all| all.iter().map(|one| one.data().to_vec()).collect::<Vec<_>>())
        };
        let before = gradients(&mut workers);
        workers.step(&network, &bad, &CrossEntropy::default(), StepSettings::default()).unwrap_err();
        assert!(gradients(&mut workers) == before, "{conv}");
    }
}

#[test]
fn the_flag_wins_over_the_variable_and_a_run_keeps_its_algorithm() {
    let place = Place::new();
    fs::write(place.path("settings.toml"), "conv = \"direct\"\n").unwrap();
    let made = |run: &str, variable: &str, mut command: Command| {
        command.env("NIN_CONV", variable);
        succeeded(command);
        place.weights(run)
    };
    let train = |run: &str, variable: &str, more: &[&str]| {
        made(run, variable, place.train(run, &[more, &["--max-steps", "3"]].concat()))
    };
    let direct = train("flag", "", &["--conv", "direct"]);
    let winograd = train("winograd", "winograd", &[]);
    assert!(direct != winograd, "the two algorithms round differently");
    assert!(train("variable", "direct", &[]) == direct);
    assert!(train("both", "winograd", &["--conv", "direct"]) == direct);
    assert!(train("file", "", &["--config", "settings.toml"]) == direct);
    assert!(train("over", "winograd", &["--config", "settings.toml"]) == winograd);

    // What is inspected is computed as the variable says, too: a start, and a run, whatever its own algorithm.
    let inspect = |variable: &str, what: &[&str]| {
        let small = ["inspect", "--json", "--images", "10", "--data-dir", "data"];
        let mut command = place.nin(&[&small[..], what].concat());
        command.env("NIN_CONV", variable);
        succeeded(command)
    };
    for what in [&["--model", "lenet", "--image-size", "16"] as &[&str], &["flag"]] {
        assert!(inspect("direct", what) != inspect("winograd", what), "{what:?}");
    }

    // A run that goes on does so as it began, whatever the variable says now.
    made("resumed", "", place.train("resumed", &["--conv", "direct", "--max-steps", "1"]));
    assert!(place.read("resumed/config.toml").contains("conv = \"direct\""));
    assert!(made("resumed", "winograd", place.resume("resumed", &["--max-steps", "3"])) == direct);
}

/// A layer's weights times a power of two, and the next layers' divided by it, are the same network to the bit, unless sums
/// overflow: Winograd's do, since they are far larger than the outputs that they are taken together to.
#[test]
fn evaluation_uses_what_is_asked_for() {
    let place = Place::of_nin();
    place.steps("run", 1, &["--image-size", "28", "--conv", "direct"]);
    let mut network = Model::NinCifar.build::<f32>(1, 10, 0.5);
    initialize(&mut network, Init::HeNormal, Init::Constant(0.0), 5);
    // Class 3 for every image, as long as there are numbers.
    let last = parameters_mut(&mut network).pop().unwrap().1;
    last.value.data_mut()[3] = 1e3;
    let path = place.path("run/model.safetensors");
    let command = |variable: &str, flag: &[&str]| {
        let mut command = place.eval("run", flag);
        command.env("NIN_CONV", variable);
        command
    };
    let eval = |variable: &str, flag: &[&str]| succeeded(command(variable, flag));
    nin::checkpoint::save_parameters(&path, &network).unwrap();
    let plain = eval("", &[]);
    assert_has(&plain, &["\n3 Dress           0  0  0  2  "]);
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
    // An answer that is no number is none.
    for command in [command("", &["--conv", "winograd"]), command("winograd", &[])] {
        refused(command, 2, &["model.safetensors: no answer: ", "a logit is NaN"]);
    }
}

#[test]
fn unknown_algorithms_and_instruction_sets_are_refused() {
    let place = Place::empty();
    let refused = |program: &str, variable: &str, arguments: &[&str], parts: &[&str]| {
        let mut command = place.command(program, arguments);
        command.env(variable, "fast");
        refused(command, 2, parts);
        assert_eq!(fs::read_dir(place.path("")).unwrap().count(), 0, "nothing is left behind");
    };
    let conv = ["expected auto, naive, im2col, direct or winograd", "\"fast\""];
    let known = format!("expected one of {}", tensor::simd::Isa::NAMES.join(", "));
    let isa = ["NIN_ISA", &known, "\"fast\""];
    for (program, arguments) in
        [(TRAIN, &[] as &[&str]), (TRAIN, &["--resume", "run"]), (NIN, &["eval", "run"]), (NIN, &["summary"])]
    {
        refused(program, "NIN_CONV", arguments, &[&["NIN_CONV"], &conv[..]].concat());
        refused(program, "NIN_ISA", arguments, &isa);
    }
    refused(TRAIN, "UNUSED", &["--conv", "fast"], &[&["--conv"], &conv[..]].concat());
    refused(TRAIN, "UNUSED", &["--resume", "run", "--conv", "direct"], &["--resume", "--conv"]);
}
