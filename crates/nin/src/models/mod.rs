//! The networks that a name builds.

mod nin;
mod nin_cifar;

use std::fmt;
use std::str::FromStr;

use tensor::Element;

pub use nin::{nin, nin_block};
pub use nin_cifar::nin_cifar;

use crate::nn::Sequential;

/// A network by its name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Model {
    /// The article's Network in Network: stem stride 3, for 224 pixels.
    Nin,
    /// The d2l book's: stem stride 4.
    NinD2l,
    /// The network of the paper's CIFAR-10 runs, for 28 or 32 pixels.
    NinCifar,
}

impl Model {
    /// Every network.
    pub const ALL: [Self; 3] = [Self::Nin, Self::NinD2l, Self::NinCifar];

    /// The network for images of C `channels`, with zeros as weights.
    #[must_use]
    pub fn build<T: Element>(self, channels: usize, classes: usize, dropout: f64) -> Sequential<T> {
        match self {
            Self::Nin => nin(channels, classes, 3, dropout),
            Self::NinD2l => nin(channels, classes, 4, dropout),
            Self::NinCifar => nin_cifar(channels, classes, dropout),
        }
    }

    /// Rows and columns of the images that the network was made for.
    #[must_use]
    pub fn default_image_size(self) -> usize {
        match self {
            Self::Nin | Self::NinD2l => 224,
            Self::NinCifar => 28,
        }
    }
}

impl fmt::Display for Model {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Nin => "nin",
            Self::NinD2l => "nin-d2l",
            Self::NinCifar => "nin-cifar",
        })
    }
}

impl FromStr for Model {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        Self::ALL.into_iter().find(|model| model.to_string() == name).ok_or_else(|| {
            let all = Self::ALL.map(|model| model.to_string());
            format!("no network {name:?}; there are: {}", all.join(", "))
        })
    }
}
