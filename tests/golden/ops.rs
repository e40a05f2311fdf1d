//! The ops against what PyTorch answers, as far as PyTorch has them: outputs and all gradients of the
//! cases in `tests/golden/cases.json`.
//!
//! The expected numbers were computed in f64 from f32 inputs and rounded once (`tests/golden/README.md`), so all the error is
//! ours. An element may be off by [`TOLERANCE`] times the largest of its tensor: an f32 sum of n products is off by up to some
//! sqrt(n) x 6e-8 of it, 7e-7 at these sizes; 1e-5 leaves room for another order of summation and is a hundred times below what a
//! wrong divisor, tie or border would make. In f64 the same code must agree to [`TOLERANCE_F64`], the rounding of the expected
//! numbers themselves.

use std::cell::Cell;

use safetensors::{Dtype, SafeTensors};
use serde_json::Value;
use tensor::conv::ConvAlgorithm;
use tensor::ops::batch_norm2d::Statistic;
use tensor::{BufferPool, Context, Element, Op, Shape, Tensor, ops};

use super::file;

const TOLERANCE: f64 = 1e-5;
/// Convolution's fastest path may use Winograd's algorithm, whose sums pass through larger intermediate numbers.
const TOLERANCE_WINOGRAD: f64 = 5e-5;
const TOLERANCE_F64: f64 = 2e-7;

/// Passes of an op: its output, and the gradients that are wanted where that of the output is given.
type Passes<'a, T> = dyn Fn(&Context, Vec<Tensor<T>>, Option<(Tensor<T>, &[bool])>) -> (Tensor<T>, Vec<Option<Tensor<T>>>)
    + 'a;

struct Case<'a> {
    name: &'a str,
    params: &'a Value,
    forward_only: bool,
    tensors: &'a SafeTensors<'a>,
    tolerance: f64,
    /// The largest error seen, as a share of the tolerance.
    worst: Cell<f64>,
}

impl Case<'_> {
    fn has(&self, tensor: &str) -> bool {
        self.tensors.tensor(&format!("{}.{tensor}", self.name)).is_ok()
    }

    fn tensor<T: Element>(&self, tensor: &str) -> Tensor<T> {
        let name = format!("{}.{tensor}", self.name);
        let view = self.tensors.tensor(&name).unwrap_or_else(|error| panic!("{name}: {error}"));
        if view.dtype() == Dtype::I64 {
            // Class labels.
            let labels = view.data().as_chunks::<8>().0;
            return Tensor::from_fn(Shape::new(view.shape()), |i| {
                T::from_f64(i64::from_le_bytes(labels[i]) as f64)
            });
        }
        assert_eq!(view.dtype(), Dtype::F32, "{name}");
        let numbers = view.data().as_chunks::<4>().0;
        Tensor::from_fn(Shape::new(view.shape()), |i| T::from_f64(f64::from(f32::from_le_bytes(numbers[i]))))
    }

    fn param(&self, name: &str) -> &Value {
        let value = &self.params[name];
        assert!(!value.is_null(), "{}: no parameter {name}", self.name);
        value
    }

    fn number(&self, name: &str) -> f64 {
        self.param(name).as_f64().expect("a number")
    }

    fn count(&self, name: &str) -> usize {
        usize::try_from(self.param(name).as_u64().expect("a count")).expect("a small count")
    }

    fn flag(&self, name: &str) -> bool {
        self.param(name).as_bool().expect("a flag")
    }

    fn list(&self, name: &str) -> Vec<usize> {
        let list = self.param(name).as_array().expect("a list");
        list.iter().map(|value| usize::try_from(value.as_u64().expect("a count")).expect("small")).collect()
    }

    fn pair(&self, name: &str) -> [usize; 2] {
        self.list(name).try_into().expect("a pair")
    }

    /// Runs the op forward and backward on the tensors named `inputs` and compares.
    fn check<T: Element>(&self, op: &impl Op<T>, inputs: &[&str]) {
        self.check_by::<T>(op, inputs, ConvAlgorithm::Auto, self.tolerance);
    }

    /// The same by an algorithm of convolution.
    fn check_by<T: Element>(&self, op: &impl Op<T>, inputs: &[&str], conv: ConvAlgorithm, tolerance: f64) {
        self.check_passes::<T>(inputs, conv, tolerance, &|context, tensors, gradient| {
            let shapes: Vec<Shape> = tensors.iter().map(Tensor::shape).collect();
            let shape = op.output_shape(&shapes).unwrap_or_else(|error| panic!("{}: {error}", self.name));
            let (output, saved) = op.forward(context, tensors);
            assert_eq!(output.shape(), shape, "{}: the shape rule and the output differ", self.name);
            let gradients = gradient.map(|(dy, wanted)| op.gradients(context, saved, dy, wanted));
            (output, gradients.unwrap_or_default())
        });
    }

    /// [`Case::check_by`], compiled once for all ops.
    fn check_passes<T: Element>(
        &self,
        inputs: &[&str],
        conv: ConvAlgorithm,
        tolerance: f64,
        passes: &Passes<'_, T>,
    ) {
        // NaN in every fresh buffer: a forgotten element is an error.
        let context = Context { conv, ..Context::training(BufferPool::poisoning()) };
        let tensors: Vec<Tensor<T>> = inputs.iter().map(|input| self.tensor(input)).collect();
        let wanted: Vec<bool> = inputs.iter().map(|input| self.has(&format!("grad_{input}"))).collect();
        let gradient = (!self.forward_only).then(|| (self.tensor("grad_output"), &wanted[..]));
        let (output, gradients) = passes(&context, tensors, gradient);
        self.compare("output", &output, tolerance);
        if self.forward_only {
            return;
        }
        assert!(wanted[0], "{}: the first input has a gradient", self.name);
        assert_eq!(gradients.len(), inputs.len(), "{}", self.name);
        if let Some(labels) = inputs.iter().position(|input| *input == "labels") {
            assert!(gradients[labels].is_none(), "{}: labels have no gradient", self.name);
        }
        for ((input, gradient), _) in
            inputs.iter().zip(&gradients).zip(&wanted).filter(|&(_, &wanted)| wanted)
        {
            let gradient =
                gradient.as_ref().unwrap_or_else(|| panic!("{}: no gradient of {input}", self.name));
            self.compare(&format!("grad_{input}"), gradient, tolerance);
        }
    }

    fn compare<T: Element>(&self, tensor: &str, found: &Tensor<T>, tolerance: f64) {
        let expected: Tensor<f64> = self.tensor(tensor);
        let place = format!("{}.{tensor} in {}", self.name, T::NAME);
        assert_eq!(found.shape(), expected.shape(), "{place}");
        let largest = expected.data().iter().filter(|e| e.is_finite()).fold(0.0, |m: f64, e| m.max(e.abs()));
        for (index, (found, &expected)) in found.data().iter().zip(expected.data()).enumerate() {
            let found = found.to_f64();
            if expected.is_finite() {
                let share = (found - expected).abs() / (tolerance * largest).max(f64::MIN_POSITIVE);
                assert!(
                    share <= 1.0,
                    "{place}[{index}] is {found}, PyTorch says {expected} (largest {largest})"
                );
                self.worst.set(self.worst.get().max(share));
            } else {
                let same = found == expected || (found.is_nan() && expected.is_nan());
                assert!(same, "{place}[{index}] is {found}, PyTorch says {expected}");
            }
        }
    }

    fn run<T: Element>(&self, op: &str) {
        const ONE: &[&str] = &["input"];
        const TWO: &[&str] = &["input", "input2"];
        let weighted: &[&str] =
            if self.has("bias") { &["input", "weight", "bias"] } else { &["input", "weight"] };
        match op {
            "conv2d" => {
                let op = ops::Conv2d {
                    stride: self.pair("stride"),
                    padding: self.pair("padding"),
                    dilation: self.pair("dilation"),
                    groups: self.count("groups"),
                    relu: false,
                };
                assert_eq!(self.flag("bias"), self.has("bias"), "{}", self.name);
                for path in [ConvAlgorithm::Naive, ConvAlgorithm::Im2col, ConvAlgorithm::Direct] {
                    self.check_by::<T>(&op, weighted, path, self.tolerance);
                }
                for fastest in [ConvAlgorithm::Winograd(None), ConvAlgorithm::Auto] {
                    self.check_by::<T>(&op, weighted, fastest, self.tolerance.max(TOLERANCE_WINOGRAD));
                }
            }
            "max_pool2d" => {
                let op = ops::MaxPool2d {
                    kernel: self.pair("kernel"),
                    stride: self.pair("stride"),
                    padding: self.pair("padding"),
                    ceil_mode: self.flag("ceil_mode"),
                    relu: false,
                };
                self.check::<T>(&op, ONE);
            }
            "avg_pool2d" => {
                let op = ops::AvgPool2d {
                    kernel: self.pair("kernel"),
                    stride: self.pair("stride"),
                    padding: self.pair("padding"),
                    ceil_mode: self.flag("ceil_mode"),
                    count_include_pad: self.flag("count_include_pad"),
                };
                self.check::<T>(&op, ONE);
            }
            "adaptive_avg_pool2d" => {
                self.check::<T>(&ops::AdaptiveAvgPool2d { output: self.pair("output_size") }, ONE);
            }
            "linear" => self.check::<T>(&ops::Linear, weighted),
            "relu" => self.check::<T>(&ops::Relu, ONE),
            "sigmoid" => self.check::<T>(&ops::Sigmoid, ONE),
            "tanh" => self.check::<T>(&ops::Tanh, ONE),
            "leaky_relu" => self.check::<T>(&ops::LeakyRelu { slope: self.number("negative_slope") }, ONE),
            "gelu" => {
                let op = match self.param("approximate").as_str() {
                    Some("none") => ops::Gelu::Erf,
                    Some("tanh") => ops::Gelu::Tanh,
                    other => panic!("{}: approximate is {other:?}", self.name),
                };
                self.check::<T>(&op, ONE);
            }
            "rsqrt" => self.check::<T>(&ops::Rsqrt::default(), ONE),
            "silu" => self.check::<T>(&ops::Silu, ONE),
            "hardswish" => self.check::<T>(&ops::Hardswish, ONE),
            "group_norm" => self.check::<T>(
                &ops::GroupNorm { groups: self.count("num_groups"), eps: self.number("eps") },
                weighted,
            ),
            "batch_norm2d" => {
                let statistics = ops::batch_norm2d::BatchStatistics::default();
                let op = ops::BatchNorm2d { eps: self.number("eps"), statistics: Some(statistics.clone()) };
                if !self.flag("training") {
                    let inputs = ["input", "weight", "bias", "running_mean", "running_var"];
                    return self.check::<T>(&op, &inputs);
                }
                self.check::<T>(&op, weighted);
                let [mut mean, mut var] = ["running_mean", "running_var"].map(|name| self.tensor::<T>(name));
                let momentum = self.number("momentum");
                statistics.follow(Statistic::Mean, mean.data_mut(), momentum);
                statistics.follow(Statistic::Variance, var.data_mut(), momentum);
                self.compare("next_mean", &mean, self.tolerance);
                self.compare("next_var", &var, self.tolerance);
            }
            "cat" => {
                let inputs: &[&str] = if self.has("input3") { &["input", "input2", "input3"] } else { TWO };
                self.check::<T>(&ops::Concat { axis: self.count("axis") }, inputs);
            }
            "scale" => self.check::<T>(&ops::Scale { factor: self.number("factor") }, ONE),
            "abs" => self.check::<T>(&ops::Abs, ONE),
            "exp" => self.check::<T>(&ops::Exp, ONE),
            "log" => self.check::<T>(&ops::Log, ONE),
            "add" => self.check::<T>(&ops::Add, TWO),
            "sub" => self.check::<T>(&ops::Sub, TWO),
            "mul" => self.check::<T>(&ops::Mul, TWO),
            "sum" => self
                .check::<T>(&ops::Sum { axes: Some(self.list("axes")), keepdim: self.flag("keepdim") }, ONE),
            "mean" => self
                .check::<T>(&ops::Mean { axes: Some(self.list("axes")), keepdim: self.flag("keepdim") }, ONE),
            "softmax" => self.check::<T>(&ops::Softmax { axis: Some(self.count("axis")) }, ONE),
            "cross_entropy" => {
                assert_eq!(self.param("reduction"), "mean", "{}", self.name);
                let weights = self.params["weights"].as_array();
                let op = ops::SoftmaxCrossEntropy {
                    label_smoothing: self.number("label_smoothing"),
                    weights: weights.map(|all| all.iter().map(|weight| weight.as_f64().unwrap()).collect()),
                    divisor: None,
                };
                self.check::<T>(&op, &["input", "labels"]);
            }
            "mse_loss" => self.check::<T>(&ops::MseLoss::default(), TWO),
            "bce_with_logits" => self.check::<T>(&ops::BceWithLogits::default(), TWO),
            unknown => panic!("{}: no test knows the op {unknown}", self.name),
        }
    }
}

#[test]
fn ops_agree_with_pytorch() {
    let read = |name: &str| std::fs::read(file(name)).unwrap_or_else(|error| panic!("{name}: {error}"));
    let (cases, bytes) = (read("cases.json"), read("ops.safetensors"));
    let cases: Value = serde_json::from_slice(&cases).expect("cases.json is JSON");
    let tensors = SafeTensors::deserialize(&bytes).expect("ops.safetensors is whole");
    let mut worst = [0.0f64; 2];
    let cases = cases.as_array().expect("a list of cases");
    for entry in cases {
        let case = Case {
            name: entry["name"].as_str().expect("a case has a name"),
            params: &entry["params"],
            forward_only: entry["forward_only"].as_bool().unwrap_or(false),
            tensors: &tensors,
            tolerance: TOLERANCE,
            worst: Cell::default(),
        };
        let exact = Case { tolerance: TOLERANCE_F64, worst: Cell::default(), ..case };
        let op = entry["op"].as_str().expect("a case has an op");
        case.run::<f32>(op);
        exact.run::<f64>(op);
        worst = [worst[0].max(case.worst.get()), worst[1].max(exact.worst.get())];
    }
    assert!(cases.len() >= 194, "only {} cases", cases.len());
    println!("{} cases; largest error as a share of what is allowed: {worst:?}", cases.len());
}
