//! The data sets that are known by name, each declared once.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use crate::names::{ParseError, choices};

/// The marks of a data set.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Definition {
    /// The names of the classes, by label; empty if the files say.
    pub class_names: &'static [&'static str],
    /// The folder below the user's in which torchvision keeps the files.
    pub folder: &'static str,
    /// The form of the files.
    pub format: Format,
    /// The origin of the files.
    pub source: Source,
}

/// The form of a data set's files.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// Four IDX files of gray images of one size and of their labels.
    Idx {
        /// The names begin with this.
        prefix: &'static str,
        /// The names' beginnings of training and test images.
        splits: [&'static str; 2],
        /// H and W; `None` if any will do.
        size: Option<[usize; 2]>,
        /// Rows and columns stand in each other's place.
        transposed: bool,
        /// The label of the first class.
        first: u8,
    },
    /// Files of records: labels of one byte, then 3 x 32 x 32 pixels.
    Cifar {
        /// The files of training images.
        train: &'static [&'static str],
        /// The file of test images.
        test: &'static str,
        /// Bytes of labels of a record, of which the last is told.
        labels: usize,
    },
    /// Images in folders, one for each class.
    Folder,
}

/// The IDX files of the MNIST family.
const MNIST: Format =
    Format::Idx { prefix: "", splits: ["train", "t10k"], size: Some([28, 28]), transposed: false, first: 0 };

/// A part of EMNIST, whose files came from others that go by columns, with the label of its first class.
const fn emnist(prefix: &'static str, class_names: &'static [&'static str], first: u8) -> Definition {
    let format =
        Format::Idx { prefix, splits: ["train", "test"], size: Some([28, 28]), transposed: true, first };
    Definition { class_names, folder: "EMNIST/raw", format, source: Source::Folder }
}

const DIGITS: &[&str] = &["0", "1", "2", "3", "4", "5", "6", "7", "8", "9"];

#[rustfmt::skip]
const CAPITALS: &[&str] = &[
    "A", "B", "C", "D", "E", "F", "G", "H", "I", "J", "K", "L", "M", "N", "O", "P", "Q", "R", "S", "T", "U", "V", "W", "X", "Y", "Z",
];

/// Digits and letters, those small ones apart that look unlike their capitals.
#[rustfmt::skip]
const MERGED: &[&str] = &[
    "0", "1", "2", "3", "4", "5", "6", "7", "8", "9",
    "A", "B", "C", "D", "E", "F", "G", "H", "I", "J", "K", "L", "M", "N", "O", "P", "Q", "R", "S", "T", "U", "V", "W", "X", "Y", "Z",
    "a", "b", "d", "e", "f", "g", "h", "n", "q", "r", "t",
];

#[rustfmt::skip]
const CHARACTERS: &[&str] = &[
    "0", "1", "2", "3", "4", "5", "6", "7", "8", "9",
    "A", "B", "C", "D", "E", "F", "G", "H", "I", "J", "K", "L", "M", "N", "O", "P", "Q", "R", "S", "T", "U", "V", "W", "X", "Y", "Z",
    "a", "b", "c", "d", "e", "f", "g", "h", "i", "j", "k", "l", "m", "n", "o", "p", "q", "r", "s", "t", "u", "v", "w", "x", "y", "z",
];

/// The origin of a data set's files, if not from a folder of the user's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Source {
    /// In the program.
    Bundled,
    /// From nowhere else.
    Folder,
    /// From the authors' server, gzip-compressed.
    Published {
        /// The URL of the files' folder, `http` only.
        url: &'static str,
        /// Length in bytes and SHA-256 of each file: images and labels for training, then for tests.
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
            format: MNIST,
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
            class_names: DIGITS,
            folder: "MNIST/raw",
            format: MNIST,
            source: Source::Folder,
        },
        /// 60,000 and 10,000 cursive hiragana (Clanuwat et al. 2018), downloaded if they are nowhere.
        Kmnist = "kmnist" => Definition {
            class_names: &["o", "ki", "su", "tsu", "na", "ha", "ma", "ya", "re", "wo"],
            folder: "KMNIST/raw",
            format: MNIST,
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
        /// Handwritten digits and letters of EMNIST (Cohen et al. 2017), 47 classes of equal numbers, from `--data-dir`.
        EmnistBalanced = "emnist-balanced" => emnist("emnist-balanced-", MERGED, 0),
        /// All of EMNIST in 62 classes, from `--data-dir`.
        EmnistByclass = "emnist-byclass" => emnist("emnist-byclass-", CHARACTERS, 0),
        /// All of EMNIST in 47 classes, from `--data-dir`.
        EmnistBymerge = "emnist-bymerge" => emnist("emnist-bymerge-", MERGED, 0),
        /// The letters of EMNIST, 26 classes, from `--data-dir`.
        EmnistLetters = "emnist-letters" => emnist("emnist-letters-", CAPITALS, 1),
        /// The digits of EMNIST, from `--data-dir`.
        EmnistDigits = "emnist-digits" => emnist("emnist-digits-", DIGITS, 0),
        /// Gray images of any size and number of classes in four IDX files, named as those of MNIST, from `--data-dir`.
        Idx = "idx" => Definition {
            class_names: &[],
            folder: "raw",
            format: Format::Idx { prefix: "", splits: ["train", "t10k"], size: None, transposed: false, first: 0 },
            source: Source::Folder,
        },
        /// 50,000 and 10,000 images in color (Krizhevsky 2009), the binary files, from `--data-dir`.
        Cifar10 = "cifar-10" => Definition {
            class_names: &[
                "airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck",
            ],
            folder: "cifar-10-batches-bin",
            format: Format::Cifar {
                train: &[
                    "data_batch_1.bin", "data_batch_2.bin", "data_batch_3.bin", "data_batch_4.bin", "data_batch_5.bin",
                ],
                test: "test_batch.bin",
                labels: 1,
            },
            source: Source::Folder,
        },
        /// The same number of images in 100 classes, the binary files, from `--data-dir`.
        Cifar100 = "cifar-100" => Definition {
            class_names: &[
                "apple", "aquarium_fish", "baby", "bear", "beaver", "bed", "bee", "beetle", "bicycle", "bottle", "bowl", "boy",
                "bridge", "bus", "butterfly", "camel", "can", "castle", "caterpillar", "cattle", "chair", "chimpanzee", "clock",
                "cloud", "cockroach", "couch", "crab", "crocodile", "cup", "dinosaur", "dolphin", "elephant", "flatfish",
                "forest", "fox", "girl", "hamster", "house", "kangaroo", "keyboard", "lamp", "lawn_mower", "leopard", "lion",
                "lizard", "lobster", "man", "maple_tree", "motorcycle", "mountain", "mouse", "mushroom", "oak_tree", "orange",
                "orchid", "otter", "palm_tree", "pear", "pickup_truck", "pine_tree", "plain", "plate", "poppy", "porcupine",
                "possum", "rabbit", "raccoon", "ray", "road", "rocket", "rose", "sea", "seal", "shark", "shrew", "skunk",
                "skyscraper", "snail", "snake", "spider", "squirrel", "streetcar", "sunflower", "sweet_pepper", "table", "tank",
                "telephone", "television", "tiger", "tractor", "train", "trout", "tulip", "turtle", "wardrobe", "whale",
                "willow_tree", "wolf", "woman", "worm",
            ],
            folder: "cifar-100-binary",
            format: Format::Cifar { train: &["train.bin"], test: "test.bin", labels: 2 },
            source: Source::Folder,
        },
        /// PNG and JPEG images of one's own: FOLDER/train/CLASS/* and FOLDER/test/CLASS/*, or FOLDER/CLASS/* with `--hold-out`.
        ImageFolder = "image-folder" => Definition {
            class_names: &[],
            folder: "",
            format: Format::Folder,
            source: Source::Folder,
        },
    }
}

impl DatasetKind {
    /// The names of the classes, by label; empty if the files say.
    #[must_use]
    pub fn class_names(self) -> &'static [&'static str] {
        self.definition().class_names
    }

    /// The channels of the images, as far as the name tells: 1 or 3.
    #[must_use]
    pub fn channels(self) -> usize {
        if let Format::Idx { .. } = self.definition().format { 1 } else { 3 }
    }
}

/// A data set as it is asked for: `NAME`, or `NAME:FOLDER` with the folder of its files.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DatasetName {
    /// The data set.
    pub kind: DatasetKind,
    /// The folder of its files, if it was given with the name.
    pub folder: Option<PathBuf>,
}

impl From<DatasetKind> for DatasetName {
    fn from(kind: DatasetKind) -> Self {
        Self { kind, folder: None }
    }
}

impl fmt::Display for DatasetName {
    /// As [`DatasetName::from_str`] reads it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.folder {
            None => self.kind.fmt(f),
            Some(folder) => write!(f, "{}:{}", self.kind, folder.display()),
        }
    }
}

impl FromStr for DatasetName {
    type Err = ParseError;

    /// # Errors
    /// [`ParseError`] with the names that there are, or if no folder follows a colon.
    fn from_str(text: &str) -> Result<Self, ParseError> {
        let Some((name, folder)) = text.split_once(':') else {
            return Ok(text.parse::<DatasetKind>()?.into());
        };
        if folder.is_empty() {
            return Err(ParseError::form("NAME:FOLDER", text));
        }
        Ok(Self { kind: name.parse()?, folder: Some(folder.into()) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn class_names_are_in_label_order() {
        assert_eq!(DatasetKind::FashionMnist.class_names()[9], "Ankle boot");
        assert_eq!(DatasetKind::Mnist.class_names()[7], "7");
        assert_eq!(DatasetKind::Cifar100.class_names()[99], "worm");
        let counts = DatasetKind::ALL.map(|kind| kind.class_names().len());
        assert_eq!(counts, [10, 10, 10, 10, 47, 62, 47, 26, 10, 0, 10, 100, 0]);
    }

    #[test]
    fn a_name_may_have_a_folder() {
        let read = |text: &str| text.parse::<DatasetName>();
        assert_eq!(read("kmnist"), Ok(DatasetKind::Kmnist.into()));
        for text in ["image-folder:my pictures/a:b", "cifar-10:/data", "idx"] {
            assert_eq!(read(text).unwrap().to_string(), text);
        }
        assert_eq!(read("idx:").unwrap_err().to_string(), "expected NAME:FOLDER, found \"idx:\"");
        assert!(
            read("photos:here").unwrap_err().to_string().starts_with("no data set \"photos\"; there are: ")
        );
    }
}
