//! The data sets that are known by name.

use crate::names::choices;

choices! {
    /// A data set that can be asked for by name.
    ///
    /// All three hold 28 x 28 grey images of ten classes, in IDX files of the same four names.
    #[derive(Hash, Default)]
    "data set" enum DatasetKind {
        /// `fashion-mnist-mini`: 10,000 training and 2,000 test images of Fashion-MNIST, bundled with the project.
        #[default]
        FashionMnistMini = "fashion-mnist-mini",
        /// `fashion-mnist`: the official 60,000 + 10,000 images (Xiao, Rasul, Vollgraf 2017), fetched when first used.
        FashionMnist = "fashion-mnist",
        /// `mnist`: handwritten digits (LeCun, Cortes, Burges), 60,000 + 10,000 images; read from a folder of the user's.
        Mnist = "mnist",
    }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn class_names_are_in_label_order() {
        assert_eq!(DatasetKind::FashionMnist.class_names()[9], "Ankle boot");
        assert_eq!(DatasetKind::Mnist.class_names()[7], "7");
        assert!(DatasetKind::ALL.iter().all(|kind| kind.class_names().len() == 10));
    }
}
