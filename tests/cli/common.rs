//! What the tests of the commands share: a small data set in IDX files, and the commands.

use std::fs;
use std::path::Path;

use assert_cmd::Command;

/// The names of a data set's files: training images and labels, test images and labels.
pub(crate) const FILES: [&str; 4] = [
    "train-images-idx3-ubyte",
    "train-labels-idx1-ubyte",
    "t10k-images-idx3-ubyte",
    "t10k-labels-idx1-ubyte",
];

/// Training and test images of the small data set.
pub(crate) const IMAGES: [usize; 2] = [40, 20];

/// An IDX file of unsigned bytes.
pub(crate) fn idx(dims: &[usize], data: &[u8]) -> Vec<u8> {
    let mut bytes = vec![0, 0, 8, dims.len() as u8];
    for &dim in dims {
        bytes.extend((dim as u32).to_be_bytes());
    }
    bytes.extend(data);
    bytes
}

/// Writes 40 training and 20 test images of 28 x 28 pixels: image `i` has a bright bar whose place tells its class, `i % 10`.
pub(crate) fn write_dataset(dir: &Path) {
    fs::create_dir_all(dir).unwrap();
    for (split, n) in IMAGES.into_iter().enumerate() {
        let mut pixels = Vec::new();
        for image in 0..n {
            for row in 0..28 {
                for column in 0..28 {
                    let bar = row / 2 == image % 10 + 2;
                    pixels.push(if bar { 200 } else { ((image * 31 + row * 17 + column * 7) % 40) as u8 });
                }
            }
        }
        let labels: Vec<u8> = (0..n).map(|image| (image % 10) as u8).collect();
        fs::write(dir.join(FILES[2 * split]), idx(&[n, 28, 28], &pixels)).unwrap();
        fs::write(dir.join(FILES[2 * split + 1]), idx(&[n], &labels)).unwrap();
    }
}

/// `train` with the smallest settings that are still a real run (5 steps of 8 images an epoch, 14 x 14 pixels) except where
/// `more` has others.
pub(crate) fn small_train(data: &Path, more: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_train"));
    command.args(small(more)).arg("--data-dir").arg(data);
    command
}

/// The arguments of [`small_train`] but for the data.
pub(crate) fn small<'a>(more: &[&'a str]) -> Vec<&'a str> {
    let settings = [
        ["--dataset", "fashion-mnist-mini"],
        ["--model", "nin-cifar"],
        ["--image-size", "14"],
        ["--batch-size", "8"],
        ["--threads", "2"],
    ];
    let kept = settings.into_iter().filter(|[flag, _]| !more.contains(flag)).flatten();
    kept.chain(more.iter().copied()).collect()
}
