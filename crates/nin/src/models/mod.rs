//! The networks that a name builds: Network in Network in its three sizes, and the networks that it is compared with.

mod alexnet;
mod head;
mod lenet;
mod nin;
mod nin_cifar;
mod resnet18;
#[cfg(test)]
mod testing;
mod vgg11;

use autograd::AutogradError;
use tensor::{Element, Shape, ShapeError};

use crate::names::choices;

pub use alexnet::alexnet;
pub use head::Head;
pub use lenet::lenet;
pub use nin::{nin, nin_block};
pub use nin_cifar::nin_cifar;
pub use resnet18::{BasicBlock, Stem, resnet18};
pub use vgg11::vgg11;

use crate::nn::{Dropout, Flatten, Linear, Relu, Sequential, output_shape};

choices! {
    /// A network by its name.
    "network" enum Model {
        /// The article's Network in Network: stem stride 3, for 224 pixels.
        Nin = "nin",
        /// The d2l book's: stem stride 4.
        NinD2l = "nin-d2l",
        /// The network of the paper's CIFAR-10 runs, for 28 or 32 pixels.
        NinCifar = "nin-cifar",
        /// LeNet-5 with sigmoids, for 28 pixels.
        LeNet = "lenet",
        /// AlexNet, for 224 pixels.
        AlexNet = "alexnet",
        /// VGG-11 with a quarter of the channels, for 224 pixels.
        Vgg11 = "vgg11",
        /// ResNet-18, for 224 pixels.
        ResNet18 = "resnet18",
        /// ResNet-18 with the stem for CIFAR, for 28 or 32 pixels.
        ResNet18Cifar = "resnet18-cifar",
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
        match self {
            Self::Nin | Self::NinD2l | Self::AlexNet | Self::Vgg11 | Self::ResNet18 => 224,
            Self::NinCifar | Self::LeNet | Self::ResNet18Cifar => 28,
        }
    }

    /// Whether the last convolution makes a map for each class, which a [`Head`] turns into logits.
    #[must_use]
    pub fn has_class_maps(self) -> bool {
        matches!(self, Self::Nin | Self::NinD2l | Self::NinCifar)
    }
}

/// All that a network's layers depend on.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Network {
    /// Which network.
    pub model: Model,
    /// C, H and W of its images. Fully connected layers belong to one size; without any, every size from this one's on works.
    pub image: [usize; 3],
    /// The number of classes.
    pub classes: usize,
    /// The probability with which dropout layers drop.
    pub dropout: f64,
    /// What the class maps go through; `None` for the network's own end. Only for networks with class maps.
    pub head: Option<Head>,
    /// What the widths are divided by: 1 for the networks themselves, more for small copies of the same layers.
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
        let Self { model, image: [c, h, w], classes, dropout, head, narrow } = self;
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
        let image = Shape::from([1, c, h, w]);
        let (head, narrow) = (head.unwrap_or_default(), narrow.max(1));
        match model {
            Model::Nin => head.behind(nin::blocks(c, classes, 3, dropout, narrow), image, classes, dropout),
            Model::NinD2l => {
                head.behind(nin::blocks(c, classes, 4, dropout, narrow), image, classes, dropout)
            }
            Model::NinCifar => {
                head.behind(nin_cifar::blocks(c, classes, dropout, narrow), image, classes, dropout)
            }
            Model::LeNet => lenet(image, classes, narrow),
            Model::AlexNet => alexnet(image, classes, dropout, narrow),
            Model::Vgg11 => vgg11(image, classes, dropout, narrow),
            Model::ResNet18 | Model::ResNet18Cifar => {
                let stem = if model == Model::ResNet18 { Stem::ImageNet } else { Stem::Cifar };
                let network = resnet18(c, classes, stem, narrow);
                output_shape(&network, image)?;
                Ok(network)
            }
        }
    }
}

/// The fully connected part that AlexNet and VGG share: two hidden layers with ReLU and dropout, then the classes.
fn classifier<T: Element>(
    features: Sequential<T>,
    length: usize,
    hidden: usize,
    classes: usize,
    dropout: f64,
) -> Sequential<T> {
    features
        .with(Flatten)
        .with(Linear::new(length, hidden))
        .with(Relu)
        .with(Dropout { p: dropout })
        .with(Linear::new(hidden, hidden))
        .with(Relu)
        .with(Dropout { p: dropout })
        .with(Linear::new(hidden, classes))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// All layers of each Network in Network, few channels wide, with each head, at the smallest of its sizes.
    #[test]
    fn gradients_of_small_copies() {
        let copies = [(Model::Nin, 53, 32), (Model::NinD2l, 67, 32), (Model::NinCifar, 12, 48)];
        for ((model, side, narrow), head) in copies.into_iter().flat_map(|c| Head::ALL.map(|head| (c, head)))
        {
            let network = Network::new(model, [1, side, side], 4);
            let mut network = Network { head: Some(head), narrow, ..network }.build::<f64>().unwrap();
            testing::check_gradients(&mut network, [2, 1, side, side]);
        }
    }

    #[test]
    fn what_cannot_be_built_is_refused() {
        let refused = |network: Network| network.build::<f32>().unwrap_err().to_string();
        let lenet = Network::new(Model::LeNet, [1, 28, 28], 10);
        assert_eq!(
            refused(Network { head: Some(Head::Fc), ..lenet }),
            "network: lenet ends in a fully connected layer of its own and has no class maps for the head fc"
        );
        assert_eq!(
            refused(Network::new(Model::LeNet, [0, 28, 28], 10)),
            "network: lenet needs images of at least 1 channel, found 0"
        );
        assert_eq!(
            refused(Network { classes: 0, ..lenet }),
            "network: lenet needs at least 1 class, found 0"
        );
    }
}
