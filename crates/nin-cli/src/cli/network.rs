//! Which network at which size: the arguments that commands about a network alone have in common.

use clap::Args;

use nin::models::{Head, Model, Network};
use nin::names::ParseError;
use nin::nn::Sequential;
use nin::train::TrainError;

use super::flags::help;

/// A network by its name, its end and the size of its images.
#[derive(Debug, Args)]
pub struct NetworkArgs {
    /// The network.
    #[arg(long, value_name = "NAME", default_value = "nin", help = help(&["Network"], Model::CHOICES))]
    pub model: String,
    /// What the class maps of a nin network go through: gap, fc or fc-dropout [default: its own end]
    #[arg(long, value_name = "NAME")]
    pub head: Option<String>,
    /// Rows and columns of the images [default: what the network was made for]
    #[arg(long, value_name = "PIXELS", allow_negative_numbers = true)]
    pub image_size: Option<usize>,
}

impl NetworkArgs {
    /// The network, its end if one was asked for, and the rows of an image.
    ///
    /// # Errors
    /// [`TrainError::Config`] of a name that there is not, with those that there are.
    pub fn read(&self) -> Result<(Model, Option<Head>, usize), TrainError> {
        let refuse = |name| move |error: ParseError| TrainError::Config(format!("{name}: {error}"));
        let model: Model = self.model.parse().map_err(refuse("model"))?;
        let head = self.head.as_ref().map(|name| name.parse()).transpose().map_err(refuse("head"))?;
        Ok((model, head, self.image_size.unwrap_or_else(|| model.default_image_size())))
    }
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
