//! The networks that a name builds: Network in Network in its three sizes, and the networks that it is compared with.

mod alexnet;
mod head;
mod lenet;
mod mobilenet_cifar;
mod nin;
mod nin_cifar;
mod resnet18;
mod vgg11;

use autograd::AutogradError;
use tensor::{Element, ShapeError};

use crate::names::choices;
use crate::nn::{Dropout, Flatten, Linear, Relu, Sequential, output_shape, parameters};

pub use head::Head;
pub use nin::nin_block;
use resnet18::Stem;

/// The layers of a network, by what it ends in.
enum Layers<T: Element> {
    /// Class maps, which a [`Head`] turns into logits.
    ClassMaps(fn(&Network) -> Sequential<T>),
    /// Logits.
    Logits(fn(&Network) -> Result<Sequential<T>, AutogradError>),
}
use Layers::{ClassMaps, Logits};

choices! {
    /// A network by its name.
    "network" enum Model {
        /// Rows and columns of the images that the network was made for, and its layers.
        fn definition<T: Element>() -> (usize, Layers<T>);

        /// The article's Network in Network: stem stride 3, for 224 pixels.
        Nin = "nin" => (224, ClassMaps(|network| nin::blocks(network, 3))),
        /// The d2l book's: stem stride 4.
        NinD2l = "nin-d2l" => (224, ClassMaps(|network| nin::blocks(network, 4))),
        /// The network of the paper's CIFAR-10 runs, for 28 or 32 pixels.
        NinCifar = "nin-cifar" => (28, ClassMaps(nin_cifar::blocks)),
        /// LeNet-5 with sigmoids, for 28 pixels.
        LeNet = "lenet" => (28, Logits(lenet::lenet)),
        /// AlexNet, for 224 pixels.
        AlexNet = "alexnet" => (224, Logits(alexnet::alexnet)),
        /// VGG-11 with a quarter of the channels, for 224 pixels.
        Vgg11 = "vgg11" => (224, Logits(vgg11::vgg11)),
        /// ResNet-18, for 224 pixels.
        ResNet18 = "resnet18" => (224, Logits(|network| resnet18::resnet18(network, Stem::ImageNet))),
        /// ResNet-18 with the stem for CIFAR, for 28 or 32 pixels.
        ResNet18Cifar = "resnet18-cifar" => (28, Logits(|network| resnet18::resnet18(network, Stem::Cifar))),
        /// MobileNet with a first layer for CIFAR, for 28 or 32 pixels.
        MobileNetCifar = "mobilenet-cifar" => (28, Logits(mobilenet_cifar::mobilenet_cifar)),
    }
}

impl Model {
    /// The network for images of C `channels` and the size that it was made for, with zeros as weights.
    ///
    /// # Panics
    /// If `channels` or `classes` is 0.
    #[must_use]
    pub fn build<T: Element>(self, channels: usize, classes: usize, dropout: f64) -> Sequential<T> {
        let side = self.default_image_size();
        let network = Network { dropout, ..Network::new(self, [channels, side, side], classes) };
        network.build().expect("a network fits the images that it was made for")
    }

    /// Rows and columns of the images that the network was made for.
    #[must_use]
    pub fn default_image_size(self) -> usize {
        self.definition::<f32>().0
    }

    /// Tells whether it has batch normalizations, whose running statistics are no weights.
    #[must_use]
    pub fn is_normalized(self) -> bool {
        parameters(&self.build::<f32>(1, 2, 0.0)).iter().any(|(_, parameter)| parameter.is_buffer())
    }

    /// Tells whether the last convolution makes a map for each class, which a [`Head`] turns into logits.
    #[must_use]
    pub fn has_class_maps(self) -> bool {
        matches!(self.definition::<f32>().1, ClassMaps(_))
    }
}

/// All that a network's layers depend on.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Network {
    /// The network's name.
    pub model: Model,
    /// C, H and W of its images. Fully connected layers belong to one size; without any, every size from this one's on works.
    pub image: [usize; 3],
    /// The number of classes.
    pub classes: usize,
    /// The probability with which dropout layers drop.
    pub dropout: f64,
    /// The part that the class maps go through; `None` for the network's own end. Only for networks with class maps.
    pub head: Option<Head>,
    /// The divisor of the widths: 1 for the networks themselves, more for small copies of the same layers.
    pub narrow: usize,
}

impl Network {
    /// The network for images of C x H x W, with dropout of one half, its own head and its own widths.
    #[must_use]
    pub fn new(model: Model, image: [usize; 3], classes: usize) -> Self {
        Self { model, image, classes, dropout: 0.5, head: None, narrow: 1 }
    }

    /// The layers, with zeros as weights.
    ///
    /// # Errors
    /// [`ShapeError`] if the network cannot work on these images (the layer and the size are named), if the channels or classes
    /// are too few for any network, or if a head is asked for and there are no class maps for it.
    pub fn build<T: Element>(self) -> Result<Sequential<T>, AutogradError> {
        let Self { model, image: [c, ..], classes, head, .. } = self;
        let refuse = |message: String| Err(ShapeError::new("network", message).into());
        if c == 0 {
            return refuse(format!("{model} needs images of at least 1 channel, found {c}"));
        }
        if classes == 0 {
            return refuse(format!("{model} needs at least 1 class, found {classes}"));
        }
        if let (Some(head), false) = (head, model.has_class_maps()) {
            return refuse(format!(
                "{model} ends in a fully connected layer of its own and has no class maps for the head {head}"
            ));
        }
        match model.definition().1 {
            ClassMaps(blocks) => {
                let blocks = blocks(&self);
                let features = self.features(&blocks)?;
                Ok(head.unwrap_or(Head::Gap).behind(blocks, features, &self))
            }
            Logits(layers) => layers(&self),
        }
    }

    /// The widths of layers in the network itself, divided by `narrow`.
    fn widths<const LAYERS: usize>(&self, own: [usize; LAYERS]) -> [usize; LAYERS] {
        own.map(|width| (width / self.narrow.max(1)).max(1))
    }

    /// The length of the vector that these layers turn an image into.
    fn features<T: Element>(&self, layers: &Sequential<T>) -> Result<usize, AutogradError> {
        let [c, h, w] = self.image;
        Ok(output_shape(layers, [1, c, h, w].into())?.iter().product())
    }

    /// The fully connected part that AlexNet and VGG share: two hidden layers with ReLU and dropout, then the classes.
    fn classifier<T: Element>(
        &self,
        features: Sequential<T>,
        hidden: usize,
    ) -> Result<Sequential<T>, AutogradError> {
        let length = self.features(&features)?;
        Ok(features
            .with(Flatten)
            .with(Linear::new(length, hidden))
            .with(Relu)
            .with(Dropout { p: self.dropout })
            .with(Linear::new(hidden, hidden))
            .with(Relu)
            .with(Dropout { p: self.dropout })
            .with(Linear::new(hidden, self.classes)))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use autograd::{Bound, Context, Gradcheck, Graph, Node, Plan, Run};
    use tensor::init::Init;
    use tensor::{GradientSum, Op, Shape, Sinks, Tensor};

    use super::*;
    use crate::nn::{Module, initialize, parameter_count, parameters, parameters_mut};

    /// Whole and narrow, for other channels and classes than their own.
    #[test]
    fn every_network_has_its_logits_and_its_narrow_copy_the_same_parameters() {
        for model in Model::ALL {
            let side = model.default_image_size();
            let network = Network::new(model, [3, side, side], 7);
            let copies = [1, 16].map(|narrow| Network { narrow, ..network }.build::<f32>().unwrap());
            for network in &copies {
                assert_eq!(*output_shape(network, [2, 3, side, side].into()).unwrap(), [2, 7], "{model}");
            }
            let [whole, copy] = &copies;
            let names = |network| parameters(network).into_iter().map(|(name, _)| name).collect::<Vec<_>>();
            assert_eq!(names(whole), names(copy), "{model}");
            assert!(parameter_count(copy) * 8 < parameter_count(whole), "{model}");
        }
    }

    #[test]
    fn a_size_too_small_is_refused_by_layer() {
        for (model, side, expected) in [
            (Model::Nin, 28, "max_pool2d: layer 3, MaxPool2d(3/2)"),
            (Model::Nin, 8, "conv2d: layer 0.0, Conv2d(1, 96, 11x11, stride 3): a window of 11"),
            (Model::LeNet, 8, "conv2d: layer 3, Conv2d(6, 16, 5x5): a window of 5"),
            (Model::AlexNet, 60, "max_pool2d: layer 12, MaxPool2d(3/2)"),
            (Model::Vgg11, 28, "max_pool2d: layer 4.4, MaxPool2d(2/2)"),
        ] {
            let network = Network::new(model, [1, side, side], 10).build::<f32>();
            let error = network.unwrap_err().to_string();
            assert!(error.starts_with(expected), "{error}");
        }
    }

    /// The plan that training runs, as an op of a tape: its inputs are the images and the values of the plan's parameters.
    #[derive(Debug)]
    struct Trained {
        plan: Arc<Plan<f64>>,
        identities: Vec<u64>,
    }

    impl Op<f64> for Trained {
        type Saved = (Bound<f64>, Run<f64>);

        const NAME: &'static str = "plan";

        fn output_shape(&self, _: &[Shape]) -> Result<Shape, ShapeError> {
            Ok(self.plan.graph().output_shape())
        }

        fn forward(&self, context: &Context, mut inputs: Vec<Tensor<f64>>) -> (Tensor<f64>, Self::Saved) {
            let values = inputs.split_off(1);
            let value = |identity| {
                let number = self.identities.iter().position(|own| *own == identity).unwrap();
                (number, values[number].clone())
            };
            let bound = Bound::new(Arc::clone(&self.plan), context, value);
            let mut run = bound.forward(context, inputs.remove(0));
            (run.take_output(), (bound, run))
        }

        fn backward(
            &self,
            context: &Context,
            (bound, run): Self::Saved,
            dy: Tensor<f64>,
            sinks: &mut Sinks<'_, f64>,
        ) {
            let mut sums: Vec<_> = self.identities.iter().map(|_| GradientSum::new()).collect();
            let of_input = bound.backward(context, run, dy, &mut sums);
            let of_parameters = sums.into_iter().map(|sum| sum.finish(context.pool()));
            for (input, gradient) in [of_input].into_iter().chain(of_parameters).enumerate() {
                sinks.add(input, || gradient.unwrap());
            }
        }
    }

    /// Compares a few elements of every gradient of what training runs, the images' and the parameters', with central
    /// differences, with fresh weights, for two images of C x H x W.
    fn check_gradients(mut network: Sequential<f64>, [c, h, w]: [usize; 3]) {
        initialize(&mut network, Init::HeNormal, Init::Constant(0.1), 3);
        // A normalization without a bias is undone by the next one behind a depthwise convolution: its gradient would be zeros.
        for (_, own) in parameters_mut(&mut network) {
            if let (Some(constant), false) = (own.constant, own.is_buffer()) {
                own.value = Tensor::from_fn(own.value.shape(), |i| constant + 0.1 * (1 + i % 3) as f64);
            }
        }
        let x = Tensor::from_fn([2, c, h, w], |i| ((i * 7919 % 1000) as f64) / 500.0 - 1.0);
        let graph = Graph::trace(&Context::default(), x.shape(), |x| network.forward(x)).unwrap();
        let plan = Arc::new(Plan::new(graph, true));
        let own = parameters(&network);
        let value =
            |identity: &u64| own.iter().find(|own| own.1.identity == *identity).unwrap().1.value.clone();
        let identities: Vec<_> = plan.graph().nodes().iter().filter_map(Node::parameter).collect();
        let inputs: Vec<_> = std::iter::once(x).chain(identities.iter().map(value)).collect();
        let check = Gradcheck { step: 1e-6, tolerance: 1e-5, elements: 6, ..Gradcheck::default() };
        let report = check.run("plan", &inputs, |tape, inputs| {
            let trained = Trained { plan: Arc::clone(&plan), identities: identities.clone() };
            tape.apply(trained, inputs.to_vec())
        });
        let report = report.unwrap();
        assert_eq!(report.zero_gradients, 0, "a gradient of zeros would agree with anything dead");
    }

    /// All layers, few channels wide, with each head where there are some, at one of the smallest sizes.
    #[test]
    fn gradients_of_small_copies() {
        for (model, image, narrow) in [
            (Model::Nin, [1, 53, 53], 32),
            (Model::NinD2l, [1, 67, 67], 32),
            (Model::NinCifar, [1, 12, 12], 48),
            (Model::LeNet, [2, 14, 15], 2),
            (Model::AlexNet, [1, 67, 71], 32),
            (Model::Vgg11, [2, 32, 34], 16),
            (Model::ResNet18, [2, 40, 40], 32),
            (Model::ResNet18Cifar, [2, 9, 9], 32),
            // Two channels at least: a 1 x 1 convolution of one is undone by its normalization.
            (Model::MobileNetCifar, [2, 17, 17], 16),
        ] {
            let heads = if model.has_class_maps() { Head::ALL.map(Some).to_vec() } else { vec![None] };
            for head in heads {
                let network = Network { head, narrow, dropout: 0.3, ..Network::new(model, image, 3) };
                check_gradients(network.build().unwrap(), image);
            }
        }
    }

    #[test]
    fn what_cannot_be_built_is_refused() {
        let lenet = Network::new(Model::LeNet, [1, 28, 28], 10);
        let head = "ends in a fully connected layer of its own and has no class maps for the head fc";
        for (network, expected) in [
            (Network { head: Some(Head::Fc), ..lenet }, head),
            (Network { image: [0, 28, 28], ..lenet }, "needs images of at least 1 channel, found 0"),
            (Network { classes: 0, ..lenet }, "needs at least 1 class, found 0"),
        ] {
            let error = network.build::<f32>().unwrap_err().to_string();
            assert_eq!(error, format!("network: lenet {expected}"));
        }
    }
}
