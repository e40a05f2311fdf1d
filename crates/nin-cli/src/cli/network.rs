//! The arguments that commands about a network alone have in common: its name, its end, the size of its images.

use clap::Args;

use nin::models::{Head, Model, Network};
use nin::nn::Sequential;
use nin::train::TrainError;

use super::flags::some_settings;

some_settings! {
    /// A network by its name, its end and the size of its images.
    NetworkArgs: "model", "head", "image_size"
}

impl NetworkArgs {
    /// The network: the article's, where none is asked for.
    pub(crate) fn model(&self) -> Model {
        self.0.model.unwrap_or(Model::Nin)
    }

    /// Its end, if another than its own is asked for.
    pub(crate) fn head(&self) -> Option<Head> {
        self.0.head
    }

    /// Rows and columns of its images: of those that it was made for, where none are asked for.
    pub(crate) fn side(&self) -> usize {
        self.0.image_size.unwrap_or_else(|| self.model().default_image_size())
    }

    /// The network, for images of so many channels.
    ///
    /// # Errors
    /// As [`network`].
    pub(crate) fn build(&self, channels: usize, classes: usize) -> Result<Sequential<f32>, TrainError> {
        network(self.model(), self.head(), [channels, self.side(), self.side()], classes)
    }
}

/// Channels of the images and the number of classes.
#[derive(Debug, Args)]
pub(super) struct EndArgs {
    /// Channels of the images
    #[arg(long, value_name = "C", allow_negative_numbers = true, default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=1024))]
    pub(super) channels: u16,
    /// Classes
    #[arg(long, value_name = "K", allow_negative_numbers = true, default_value_t = 10, value_parser = clap::value_parser!(u16).range(1..=10_000))]
    pub(super) classes: u16,
}

/// The network for images of C x H x W, whose size is an argument.
///
/// # Errors
/// [`TrainError::Config`] of a size that no network is for, [`TrainError::Shape`] if this one does not fit it.
pub(super) fn network(
    model: Model,
    head: Option<Head>,
    image: [usize; 3],
    classes: usize,
) -> Result<Sequential<f32>, TrainError> {
    if image[1] == 0 || image[1] > 4096 {
        return Err(TrainError::setting("image_size", "1 to 4096", image[1]));
    }
    Ok(Network { head, ..Network::new(model, image, classes) }.build()?)
}
