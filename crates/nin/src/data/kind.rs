//! The data sets that are known by name.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::error::DataError;

/// A data set that can be asked for by name.
///
/// All three hold 28 x 28 grey images of ten classes, in IDX files of the same four names.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum DatasetKind {
    /// `fashion-mnist-mini`: 10,000 training and 2,000 test images of Fashion-MNIST, bundled with the
    /// project.
    #[default]
    FashionMnistMini,
    /// `fashion-mnist`: the official 60,000 + 10,000 images (Xiao, Rasul, Vollgraf 2017), fetched when first
    /// used.
    FashionMnist,
    /// `mnist`: handwritten digits (LeCun, Cortes, Burges), 60,000 + 10,000 images; read from a folder of the
    /// user's.
    Mnist,
}

const FASHION_CLASSES: [&str; 10] = [
    "T-shirt/top",
    "Trouser",
    "Pullover",
    "Dress",
    "Coat",
    "Sandal",
    "Shirt",
    "Sneaker",
    "Bag",
    "Ankle boot",
];

const DIGIT_CLASSES: [&str; 10] = ["0", "1", "2", "3", "4", "5", "6", "7", "8", "9"];

impl DatasetKind {
    /// Every kind, in the order of the documentation.
    pub const ALL: [DatasetKind; 3] =
        [DatasetKind::FashionMnistMini, DatasetKind::FashionMnist, DatasetKind::Mnist];

    /// The name by which it is asked for on the command line and in configuration files.
    pub fn name(self) -> &'static str {
        match self {
            DatasetKind::FashionMnistMini => "fashion-mnist-mini",
            DatasetKind::FashionMnist => "fashion-mnist",
            DatasetKind::Mnist => "mnist",
        }
    }

    /// The names of the classes, by label.
    pub fn class_names(self) -> &'static [&'static str] {
        match self {
            DatasetKind::FashionMnistMini | DatasetKind::FashionMnist => &FASHION_CLASSES,
            DatasetKind::Mnist => &DIGIT_CLASSES,
        }
    }

    /// Height and width of the published images, in pixels.
    pub fn image_size(self) -> (usize, usize) {
        (28, 28)
    }
}

impl fmt::Display for DatasetKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl FromStr for DatasetKind {
    type Err = DataError;

    /// # Errors
    /// [`DataError::UnknownDataset`], listing the names there are.
    fn from_str(s: &str) -> Result<Self, DataError> {
        DatasetKind::ALL.into_iter().find(|kind| kind.name() == s).ok_or_else(|| DataError::UnknownDataset {
            found: s.to_owned(),
            expected: DatasetKind::ALL.map(DatasetKind::name).join(", "),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_round_trip_through_text_and_serde() {
        for kind in DatasetKind::ALL {
            assert_eq!(kind.to_string().parse::<DatasetKind>().unwrap(), kind);
            assert_eq!(serde_json::to_string(&kind).unwrap(), format!("\"{kind}\""));
            assert_eq!(serde_json::from_str::<DatasetKind>(&format!("\"{kind}\"")).unwrap(), kind);
            assert_eq!(kind.class_names().len(), 10);
        }
    }

    #[test]
    fn an_unknown_name_lists_the_known_ones() {
        assert_eq!(
            "cifar".parse::<DatasetKind>().unwrap_err().to_string(),
            "unknown data set \"cifar\": expected one of fashion-mnist-mini, fashion-mnist, mnist"
        );
    }

    #[test]
    fn class_names_are_in_label_order() {
        assert_eq!(DatasetKind::FashionMnist.class_names()[9], "Ankle boot");
        assert_eq!(DatasetKind::Mnist.class_names()[7], "7");
    }
}
