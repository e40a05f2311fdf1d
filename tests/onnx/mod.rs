//! Networks as ONNX files in other programs: in `rten` always, in ONNX Runtime where Python has it (`tests/onnx/check.py`).
//! Logits are those of our own plans to 1e-5 of the largest.

use std::io::Write;
use std::process::Command;
use std::sync::Arc;

use autograd::{AutogradError, Context, Var};
use nin::data::{ArrayDataset, Dataset, Image, Normalization, Whiten, Whitening};
use nin::models::{Head, Model, Network};
use nin::nn::{self, Module, Sequential, bound, initialize, parameters_mut};
use nin::onnx::{Export, ExportError, Exported, export};
use nin::tensor::{Element, UnaryOp, ops};
use rten::{Dimension, Value};
use rten_tensor::prelude::*;
use serde_json::json;
use tensor::init::Init;
use tensor::{BufferPool, Tensor};

/// Numbers from -1 to 1 without a pattern.
fn numbers(shape: [usize; 4]) -> Tensor<f32> {
    Tensor::from_fn(shape, |index| ((index * index * 31 + index * 7919) % 2003) as f32 / 1001.0 - 1.0)
}

/// Weights as before training, and normalizations that have seen something.
fn filled<M: Module<f32>>(mut module: M) -> M {
    initialize(&mut module, Init::HeNormal, Init::Normal(0.1), 5);
    for (number, (_, own)) in parameters_mut(&mut module).into_iter().enumerate() {
        if let Some(constant) = own.constant {
            let value = |i: usize| constant as f32 + 0.1 * ((7 * i + number) % 6) as f32;
            own.value = Tensor::from_fn(own.value.shape(), value);
        }
    }
    module
}

/// Our own output.
fn planned(module: &dyn Module<f32>, images: &Tensor<f32>) -> Tensor<f32> {
    let context = Context::evaluation(Arc::clone(BufferPool::global()));
    let plan = module.plan(&context, images.shape()).unwrap();
    bound(module, plan, &context).forward(&context, images.clone()).take_output()
}

/// The output of a file in `rten`.
fn in_rten(model: &rten::Model, images: &Tensor<f32>) -> Tensor<f32> {
    let input = Value::from_shape(&images.shape()[..], images.data().to_vec()).unwrap();
    let output = model.run_one((&input).into(), None).unwrap();
    let output = output.into_tensor::<f32>().unwrap();
    Tensor::from_slice(output.shape(), &output.to_vec()).unwrap()
}

/// The largest difference, as a share of the largest number.
fn difference(found: &Tensor<f32>, expected: &Tensor<f32>) -> f32 {
    assert_eq!(found.shape(), expected.shape());
    let largest = expected.data().iter().fold(0.0, |largest: f32, x| largest.max(x.abs()));
    assert!(largest > 1e-3, "numbers that are all nothing agree with anything");
    let pairs = found.data().iter().zip(expected.data());
    pairs.fold(0.0, |most: f32, (found, expected)| most.max((found - expected).abs())) / largest
}

fn is_near(name: &str, found: &Tensor<f32>, expected: &Tensor<f32>) {
    let difference = difference(found, expected);
    assert!(difference <= 1e-5, "{name}: {difference:e} of the largest");
}

/// A file, the images that it was made for, and their output, for other programs.
struct Case {
    name: String,
    file: Vec<u8>,
    images: Tensor<f32>,
    output: Tensor<f32>,
}

/// The file of a module that `rten` agrees about, for three images, for the first alone, and for larger ones if `any_size`.
fn case(name: &str, module: &dyn Module<f32>, [c, h, w]: [usize; 3], any_size: bool) -> Case {
    let images = numbers([3, c, h, w]);
    let about = Export { name: name.to_owned(), ..Export::default() };
    let exported = export(module, &images, &about).unwrap_or_else(|error| panic!("{name}: {error}"));
    assert_eq!(exported.any_size, any_size, "{name}");
    let file = exported.file;
    let model = rten::Model::load(file.clone()).unwrap();
    let named = |name: &str| Dimension::Symbolic(name.to_owned());
    let size = if any_size { ["H", "W"].map(named) } else { [h, w].map(Dimension::Fixed) };
    let [height, width] = size;
    let input = [named("N"), Dimension::Fixed(c), height, width];
    assert_eq!(model.input_shape(0).unwrap(), input, "{name}");
    let mut all = vec![images.clone(), numbers([1, c, h, w])];
    if any_size {
        all.push(numbers([2, c, h + 3, 2 * w + 1]));
    }
    for images in all {
        is_near(name, &in_rten(&model, &images), &planned(module, &images));
    }
    Case { name: name.to_owned(), file, output: planned(module, &images), images }
}

/// A small copy of each network with each of its heads, at one of the smallest sizes.
fn networks() -> Vec<Case> {
    let mut cases = Vec::new();
    for model in Model::ALL {
        let (image, narrow) = match model {
            Model::Nin => ([1, 53, 53], 32),
            Model::NinD2l => ([1, 67, 67], 32),
            Model::NinCifar => ([3, 12, 13], 48),
            Model::LeNet => ([2, 14, 15], 2),
            Model::AlexNet => ([1, 67, 71], 32),
            Model::Vgg11 => ([2, 32, 34], 16),
            Model::ResNet18 => ([2, 40, 40], 32),
            Model::ResNet18Cifar => ([2, 9, 9], 32),
            Model::MobileNetCifar => ([2, 17, 17], 16),
        };
        let heads = if model.has_class_maps() { Head::ALL.map(Some).to_vec() } else { vec![None] };
        for head in heads {
            let network = Network { head, narrow, ..Network::new(model, image, 7) }.build().unwrap();
            let name = format!("{model}{}", head.map_or(String::new(), |head| format!("-{head}")));
            let any_size = matches!(head, Some(Head::Gap)) || model.is_normalized();
            cases.push(case(&name, &filled(network), image, any_size));
        }
    }
    cases
}

type Function = for<'t> fn(Var<'t, f32>) -> Result<Var<'t, f32>, AutogradError>;

/// A function as a module.
#[derive(Debug)]
struct Of(Function);

impl Module<f32> for Of {
    fn forward<'t>(&self, x: Var<'t, f32>) -> Result<Var<'t, f32>, AutogradError> {
        self.0(x)
    }
}

/// Ops that the networks do without, and settings that they leave as they are.
fn modules() -> Vec<Case> {
    let odd = ops::Conv2d { stride: [2, 1], padding: [1, 2], dilation: [1, 2], groups: 2, relu: true };
    let padded = ops::AvgPool2d { padding: [1, 1], ..ops::AvgPool2d::new(3, 2) };
    let pools = Sequential::new()
        .with(ops::MaxPool2d { padding: [1, 0], relu: true, ..ops::MaxPool2d::ceil(3, 2) })
        .with(ops::AvgPool2d { count_include_pad: false, ..padded });
    let ended = |module: Sequential<f32>| -> Box<dyn Module<f32>> { Box::new(filled(module)) };
    let of = |function: Function| -> Box<dyn Module<f32>> { Box::new(Of(function)) };
    let any_size: [(&str, Box<dyn Module<f32>>); 19] = [
        ("convolution", ended(Sequential::new().with(nn::Conv2d::with_op(4, 6, [3, 2], odd)))),
        ("group-norm", ended(Sequential::new().with(nn::GroupNorm::new(2, 4)))),
        ("batch-norm", ended(Sequential::new().with(nn::BatchNorm2d::with_settings(4, 1e-3, 0.1)))),
        ("pools", ended(pools)),
        ("padded-pool", ended(Sequential::new().with(padded))),
        ("relu", ended(Sequential::new().with(ops::Relu).with(ops::Dropout { p: 0.5, layer: 0 }))),
        ("leaky-relu", ended(Sequential::new().with(ops::LeakyRelu { slope: 0.2 }))),
        ("gelu", ended(Sequential::new().with(ops::Gelu::Erf))),
        ("gelu-tanh", ended(Sequential::new().with(ops::Gelu::Tanh))),
        ("silu", ended(Sequential::new().with(ops::Silu).with(ops::Hardswish))),
        (
            "softmax",
            ended(Sequential::new().with(ops::Softmax { axis: Some(1) }).with(ops::Softmax::default())),
        ),
        ("same", ended(Sequential::new())),
        ("scale-and-concat", of(|x| x.clone().concat([x.clone().scale(-2.5)?, x], 2))),
        (
            "products",
            of(|x| {
                let tape = x.tape();
                let constant = |shape, number| tape.constant(Tensor::full(shape, number));
                let y = x.clone().mul(constant([4, 1, 1], 0.5))?.add(constant([1, 1, 1], 0.25))?;
                y.clone().mul(x)?.add(y)
            }),
        ),
        (
            "functions",
            of(|x| {
                let one = x.tape().constant(Tensor::full([1], 1.0));
                let y = x.clone().abs()?.exp()?.sub(x)?;
                one.clone().sub(y.abs()?.add(one)?.log()?)
            }),
        ),
        (
            "rsqrt",
            of(|x| {
                let square = x.clone().mul(x)?;
                square.tape().apply(ops::Rsqrt { eps: 0.5 }, [square.clone()])
            }),
        ),
        (
            "means",
            of(|x| {
                let mean = x.clone().mean(ops::Mean { axes: Some(vec![3]), keepdim: true })?;
                x.add(mean)?.mean(ops::Mean { axes: Some(vec![2, 3]), keepdim: false })
            }),
        ),
        (
            "sums",
            of(|x| {
                let y = x.sum(ops::Sum { axes: Some(vec![2]), keepdim: false })?;
                y.clone().add(y.sum(ops::Sum::default())?.scale(1e-3)?)
            }),
        ),
        (
            "reshape",
            of(|x| {
                let [n, c, h, w] = x.shape().nchw("test").unwrap();
                x.reshape([n, c / 2, 2, h * w])?.reshape([n, c, h * w])
            }),
        ),
    ];
    let one_size: [(&str, Box<dyn Module<f32>>); 3] = [
        ("adaptive-pool", ended(Sequential::new().with(ops::AdaptiveAvgPool2d { output: [4, 3] }))),
        (
            "size-as-constant",
            of(|x| {
                let shape = x.shape();
                x.sum(ops::Sum { axes: Some(vec![2, 3]), keepdim: true })?
                    .scale(1.0 / (shape[2] * shape[3]) as f64)
            }),
        ),
        (
            "size-as-window",
            of(|x| {
                let op = ops::AvgPool2d { kernel: [x.shape()[2], 1], ..ops::AvgPool2d::new(1, 1) };
                op.forward(x)
            }),
        ),
    ];
    let all = any_size.into_iter().map(|(name, module)| (name, module, true));
    all.chain(one_size.into_iter().map(|(name, module)| (name, module, false)))
        .map(|(name, module, any_size)| case(name, &*module, [4, 8, 9], any_size))
        .collect()
}

/// Runs `check.py` on files; says so if there is no Python with ONNX Runtime.
fn in_onnx_runtime(cases: &[Case]) {
    let has = Command::new("python3").args(["-c", "import onnx, onnxruntime"]).output();
    if !has.is_ok_and(|answer| answer.status.success()) {
        let why = "not checked in ONNX Runtime: python3 has no onnx and onnxruntime";
        let _ = writeln!(std::io::stderr(), "{why}");
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let mut all = Vec::new();
    for Case { name, file, images, output } in cases {
        std::fs::write(folder.path().join(name).with_extension("onnx"), file).unwrap();
        all.push(json!({
            "name": name,
            "input": { "shape": images.shape().to_vec(), "numbers": images.data() },
            "output": { "shape": output.shape().to_vec(), "numbers": output.data() },
        }));
    }
    std::fs::write(folder.path().join("cases.json"), json!(all).to_string()).unwrap();
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/onnx/check.py");
    let answer = Command::new("python3").arg(script).arg(folder.path()).output().unwrap();
    let text = [answer.stdout, answer.stderr].map(|text| String::from_utf8_lossy(&text).into_owned());
    assert!(answer.status.success(), "{}", text.concat());
}

#[test]
fn networks_are_the_same_elsewhere() {
    in_onnx_runtime(&networks());
}

#[test]
fn ops_are_the_same_elsewhere() {
    in_onnx_runtime(&modules());
}

#[test]
fn a_changed_weight_is_seen() {
    let network =
        || filled(Network { narrow: 2, ..Network::new(Model::LeNet, [1, 14, 14], 7) }.build().unwrap());
    let (images, mut changed) = (numbers([3, 1, 14, 14]), network());
    parameters_mut(&mut changed)[2].1.value.data_mut()[4] += 0.01;
    let Exported { file, .. } = export(&changed, &images, &Export::default()).unwrap();
    let found = in_rten(&rten::Model::load(file).unwrap(), &images);
    assert!(difference(&found, &planned(&network(), &images)) > 1e-5);
    is_near("changed", &found, &planned(&changed, &images));
}

#[test]
fn pixels_are_normalized_in_the_graph_on_request() {
    let image = [2, 12, 12];
    let network = Network { narrow: 48, ..Network::new(Model::NinCifar, image, 3) };
    let network = filled(network.build::<f32>().unwrap());
    let normalization = Normalization { mean: vec![0.25, 0.5], std: vec![0.5, 0.125] };
    let classes = ["boot", "bag", "shirt"].map(str::to_owned).to_vec();
    let about =
        Export { classes, normalization: Some(normalization.clone()), normalize: true, ..Export::default() };
    let pixels = Tensor::from_fn([3, 2, 12, 12], |index| (index * 97 % 256) as f32);
    let images = Tensor::from_fn([3, 2, 12, 12], |index| {
        let channel = index / 144 % 2;
        (pixels.data()[index] / 255.0 - normalization.mean[channel]) / normalization.std[channel]
    });
    let Exported { file, .. } = export(&network, &images, &about).unwrap();
    let model = rten::Model::load(file).unwrap();
    is_near("pixels", &in_rten(&model, &pixels), &planned(&network, &images));
    for (about, expected) in [
        (
            Export { classes: vec!["boot".to_owned()], ..about.clone() },
            "1 names of classes for logits of 3 x 3",
        ),
        (
            Export { normalization: Some(Normalization { mean: vec![0.5], ..normalization }), ..about },
            "1 means and 2 deviations for 2 channels",
        ),
    ] {
        assert_eq!(export(&network, &images, &about).unwrap_err().to_string(), expected);
    }
}

#[test]
fn pixels_are_whitened_in_the_graph_on_request() {
    let image = [2, 12, 12];
    let network = Network { narrow: 48, ..Network::new(Model::NinCifar, image, 3) };
    let network = filled(network.build::<f32>().unwrap());
    let pixels: Vec<u8> = (0..9 * 288u32).map(|index| (index * index * 31 % 251) as u8).collect();
    let set = ArrayDataset::new(image, pixels, vec![0usize; 9]).unwrap();
    let pixels: Vec<_> = (0..3).map(|index| set.get(index).unwrap().0).collect();
    let numbers = |image: &Image<'_>| match image {
        Image::Bytes(pixels) => pixels.iter().map(|&pixel| f32::from(pixel)).collect::<Vec<_>>(),
        Image::Floats(_) => unreachable!("pixels have 8 bits"),
    };
    let input =
        Tensor::from_slice([3, 2, 12, 12], &pixels.iter().flat_map(numbers).collect::<Vec<_>>()).unwrap();
    for kind in [Whiten::Gcn, Whiten::GcnZca] {
        let whitening = Whitening::fit(kind, &set).unwrap().unwrap();
        let images = whitening.apply(BufferPool::global(), pixels.iter()).unwrap();
        let about = Export { whitening: Some(whitening), normalize: true, ..Export::default() };
        let Exported { file, any_size } = export(&network, &images, &about).unwrap();
        assert!(!any_size);
        is_near(
            "white pixels",
            &in_rten(&rten::Model::load(file).unwrap(), &input),
            &planned(&network, &images),
        );
        let small = Tensor::zeros([1, 2, 9, 9]);
        let error = export(&network, &small, &about).unwrap_err().to_string();
        assert_eq!(error, "whitening of images of 2 x 12 x 12 for those of 1 x 2 x 9 x 9");
        // Otherwise the input is what the network's is.
        let Exported { file, .. } = export(&network, &images, &Export { normalize: false, ..about }).unwrap();
        is_near("white", &in_rten(&rten::Model::load(file).unwrap(), &images), &planned(&network, &images));
    }
}

/// An op that nobody else knows.
#[derive(Debug, Clone)]
struct Own;

impl UnaryOp for Own {
    type Saved<T: Element> = ();

    const NAME: &'static str = "own";

    fn compute<T: Element>(&self, _: &Context, x: Tensor<T>) -> (Tensor<T>, ()) {
        (x, ())
    }

    fn gradient<T: Element>(&self, _: &Context, (): (), dy: Tensor<T>) -> Tensor<T> {
        dy
    }
}

#[test]
fn what_has_no_form_is_refused_by_its_layer() {
    let images = numbers([1, 4, 8, 9]);
    let refused = |layer: Sequential<f32>| {
        let module = Sequential::new().with(ops::Relu).named("last", layer);
        let error = export(&module, &images, &Export::default()).unwrap_err();
        assert!(matches!(error, ExportError::NoForm { .. }), "{error:?}");
        error.to_string()
    };
    let padded = ops::AvgPool2d { padding: [1, 1], ..ops::AvgPool2d::ceil(3, 2) };
    for (layer, expected) in [
        (Sequential::new().with(Own), "layer last.0, own: there is no ONNX form of this op"),
        (
            Sequential::new().with(ops::AdaptiveAvgPool2d { output: [3, 3] }),
            "layer last.0, AdaptiveAvgPool2d(3x3): its 8 rows or columns are not fixed, or make no equal windows",
        ),
        (
            Sequential::new().with(padded),
            "layer last.0, AvgPool2d(3/2, padding 1, ceil): ONNX does not tell padding that counts from what ceil mode \
             adds, which does not",
        ),
        (
            Sequential::new().with(ops::MaxPool2d::ceil(2, 3)),
            "layer last.0, MaxPool2d(2/3, ceil): windows that begin in the padding behind the image are counted in another \
             way by ONNX",
        ),
    ] {
        assert_eq!(refused(layer), expected);
    }
    let network = Network::new(Model::LeNet, [1, 28, 28], 10).build().unwrap();
    let error = export(&network, &images, &Export::default()).unwrap_err().to_string();
    assert!(error.starts_with("conv2d: layer 0, Conv2d(1, 6, 5x5, padding 2)"), "{error}");
}
