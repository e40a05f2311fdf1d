//! The data sets that are known by name, each declared once.

use crate::names::choices;

/// The marks of one data set of the MNIST family. All have 28 x 28 gray images in IDX files of the same four names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Definition {
    /// The names of the classes, by label.
    pub class_names: &'static [&'static str],
    /// The folder below the user's in which torchvision keeps the files.
    pub folder: &'static str,
    /// The origin of the files.
    pub source: Source,
}

/// The origin of a data set's files, if not from a folder of the user's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Source {
    /// With the project.
    Bundled,
    /// From nowhere else.
    Folder,
    /// From the authors' server, gzip-compressed.
    Published {
        /// The URL of the files' folder, `http` only.
        url: &'static str,
        /// Length in bytes and SHA-256 of each file, in the order of [`FILE_NAMES`](super::files::FILE_NAMES).
        files: [(u64, &'static str); 4],
    },
}

choices! {
    /// A data set that can be asked for by name.
    #[derive(Hash)]
    "data set" enum DatasetKind {
        /// The classes of the data set and where it comes from.
        #[must_use]
        pub fn definition() -> Definition;

        /// 10,000 training and 2,000 test images of Fashion-MNIST, bundled with the project.
        FashionMnistMini = "fashion-mnist-mini" => Definition {
            source: Source::Bundled,
            ..DatasetKind::FashionMnist.definition()
        },
        /// The official 60,000 and 10,000 images (Xiao, Rasul and Vollgraf 2017), downloaded if they are nowhere.
        FashionMnist = "fashion-mnist" => Definition {
            class_names: &[
                "T-shirt/top", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot",
            ],
            folder: "FashionMNIST/raw",
            source: Source::Published {
                url: "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com",
                files: [
                    (26_421_880, "3aede38d61863908ad78613f6a32ed271626dd12800ba2636569512369268a84"),
                    (29_515, "a04f17134ac03560a47e3764e11b92fc97de4d1bfaf8ba1a3aa29af54cc90845"),
                    (4_422_102, "346e55b948d973a97e58d2351dde16a484bd415d4595297633bb08f03db6a073"),
                    (5_148, "67da17c76eaffca5446c3361aaab5c3cd6d1c2608764d35dfb1850b086bf8dd5"),
                ],
            },
        },
        /// 60,000 and 10,000 handwritten digits (LeCun, Cortes and Burges), from `--data-dir`.
        Mnist = "mnist" => Definition {
            class_names: &["0", "1", "2", "3", "4", "5", "6", "7", "8", "9"],
            folder: "MNIST/raw",
            source: Source::Folder,
        },
        /// 60,000 and 10,000 cursive hiragana (Clanuwat et al. 2018), downloaded if they are nowhere.
        Kmnist = "kmnist" => Definition {
            class_names: &["o", "ki", "su", "tsu", "na", "ha", "ma", "ya", "re", "wo"],
            folder: "KMNIST/raw",
            source: Source::Published {
                url: "http://codh.rois.ac.jp/kmnist/dataset/kmnist",
                files: [
                    (18_165_135, "51467d22d8cc72929e2a028a0428f2086b092bb31cfb79c69cc0a90ce135fde4"),
                    (29_497, "e38f9ebcd0f3ebcdec7fc8eabdcdaef93bb0df8ea12bee65224341c8183d8e17"),
                    (3_041_136, "edd7a857845ad6bb1d0ba43fe7e794d164fe2dce499a1694695a792adfac43c5"),
                    (5_120, "20bb9a0ef54c7db3efc55a92eef5582c109615df22683c380526788f98e42a1c"),
                ],
            },
        },
    }
}

impl DatasetKind {
    /// The names of the classes, by label.
    #[must_use]
    pub fn class_names(self) -> &'static [&'static str] {
        self.definition().class_names
    }

    /// Height and width of the published images, in pixels.
    #[must_use]
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
