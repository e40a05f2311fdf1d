//! The fuzz targets on mutations of real inputs: what the folder `fuzz` does under libFuzzer, without its coverage and without
//! nightly. `NIN_FUZZ_EXECUTIONS` of each target, beginning with `NIN_FUZZ_SEED`.

mod targets;

use std::collections::BTreeMap;
use std::panic::catch_unwind;
use std::path::{Path, PathBuf};

use image::codecs::{jpeg::JpegEncoder, png::PngEncoder};
use image::{ExtendedColorType, ImageEncoder};
use tensor::Tensor;

/// SplitMix64 (Steele, Lea and Flood 2014): a few nanoseconds for each number.
struct Draw(u64);

impl Draw {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number below `end`, 0 if there is none.
    fn below(&mut self, end: usize) -> usize {
        (self.next() % end.max(1) as u64) as usize
    }

    fn of<'a, T: ?Sized>(&mut self, all: &[&'a T]) -> &'a T {
        all[self.below(all.len())]
    }

    /// A piece of bytes, most often a short one.
    fn piece<'a>(&mut self, of: &'a [u8]) -> &'a [u8] {
        let from = self.below(of.len());
        let most = if self.below(4) == 0 { 512 } else { 8 };
        &of[from..][..self.below(most).min(of.len() - from)]
    }
}

/// Words that parsers count, bound and escape.
const WORDS: [&[u8]; 34] = [
    b"0",
    b"1",
    b"-1",
    b"5",
    b"255",
    b"4294967295",
    b"4294967296",
    b"9223372036854775808",
    b"18446744073709551615",
    b"18446744073709551616",
    b"1e999",
    b"1e-400",
    b"nan",
    b"-inf",
    b"0.5",
    b"null",
    b"true",
    b"[",
    b"]",
    b"{",
    b"}",
    b"\"",
    b"\\u0000",
    b"\\ud800",
    b"\x1b[31m",
    b"\n",
    b"\xff",
    b":",
    b",",
    b" = ",
    b"\0\0\0\0",
    b"\xff\xff\xff\xff",
    b"\x7f\xff\xff\xff",
    b"\x80\0\0\0",
];

/// Changes one of the inputs in a few places.
fn mutate(draw: &mut Draw, inputs: &[&[u8]], data: &mut Vec<u8>) {
    data.clear();
    data.extend_from_slice(draw.of(inputs));
    for _ in 0..=draw.below(4) {
        let at = draw.below(data.len() + 1);
        let end = (at + draw.below(9)).min(data.len());
        match draw.below(6) {
            0 if at < data.len() => data[at] ^= 1 << draw.below(8),
            1 if at < data.len() => data[at] = draw.next() as u8,
            2 => drop(data.splice(at..end, draw.of(&WORDS).iter().copied())),
            3 => drop(data.splice(at..at, draw.of(&WORDS).iter().copied())),
            4 => {
                let other = draw.of(inputs);
                drop(data.splice(at..end, draw.piece(other).iter().copied()));
            }
            _ => drop(data.drain(at..end)),
        }
    }
}

fn number(name: &str, otherwise: u64) -> u64 {
    std::env::var(name).map_or(otherwise, |text| {
        text.parse().unwrap_or_else(|_| panic!("{name}: a whole number, not {text:?}"))
    })
}

/// Runs a target on its inputs, all of which it takes, and on mutations of them.
#[allow(clippy::print_stdout, reason = "what a test prints is shown where it is asked for")]
fn fuzz(name: &str, inputs: &[&[u8]]) {
    let target = targets::target(name);
    let (executions, seed) = (number("NIN_FUZZ_EXECUTIONS", 20_000), number("NIN_FUZZ_SEED", 1));
    for input in inputs {
        assert!(target(input), "{name}: refused {:?}", String::from_utf8_lossy(input));
    }
    let mut draw = Draw(seed);
    let (mut data, mut taken) = (Vec::new(), 0u64);
    for execution in 0..executions {
        mutate(&mut draw, inputs, &mut data);
        match catch_unwind(|| target(&data)) {
            Ok(accepted) => taken += u64::from(accepted),
            Err(_) => {
                let file =
                    Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("fuzz-{name}-{seed}-{execution}"));
                std::fs::write(&file, &data).unwrap();
                panic!("{name}: seed {seed}, execution {execution}: the input is in {}", file.display());
            }
        }
    }
    println!("{name}: seed {seed}, {executions} executions, {taken} taken");
}

fn repository(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").join(path)
}

#[test]
fn idx() {
    let packed = std::fs::read(repository("datasets/fashion-mnist-mini/t10k-labels-idx1-ubyte.gz")).unwrap();
    // A gzip file of one stored block: its checksum is wrong after most changes, as is the way of gzip.
    let stored = b"\x1f\x8b\x08\0\0\0\0\0\0\xff\x01\x0b\0\xf4\xff\0\0\x08\x01\0\0\0\x03\x07\x08\x09\xad\x98\x0a\xba\x0b\x00\x00\x00";
    let images = b"\0\0\x08\x03\0\0\0\x02\0\0\0\x03\0\0\0\x02abcdefghijkl";
    fuzz(
        "idx",
        &[
            &packed,
            stored,
            images,
            b"\0\0\x08\x01\0\0\0\x03\x07\x08\x09",
            b"\0\0\x08\x03\0\0\0\0\0\0\0\x1c\0\0\0\x1c",
        ],
    );
}

#[test]
fn safetensors() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("own.safetensors");
    let [weight, bias] =
        [&[2, 3][..], &[2]].map(|shape| Tensor::from_fn(tensor::Shape::new(shape), |i| i as f32));
    let tensors = [("0.weight", &weight), ("0.bias", &bias)].map(|(name, tensor)| (name.to_owned(), tensor));
    let text = [("step".to_owned(), "7".to_owned())];
    nin::checkpoint::save_tensors(&file, &tensors, text.into()).unwrap();
    let own = std::fs::read(file).unwrap();
    let types = std::fs::read(repository("tests/golden/element_types.safetensors")).unwrap();
    fuzz("safetensors", &[&own, &types]);
}

#[test]
fn header() {
    let two = br#"{"a":{"dtype":"F32","shape":[2,4],"data_offsets":[0,32]},"module.b":{"dtype":"F16","shape":[16,1,1],"data_offsets":[32,64]}}"#;
    let text = br#"{"__metadata__":{"format":"pt","note":"\u001b"},"x":{"dtype":"F64","shape":[8],"data_offsets":[0,64]}}"#;
    let empty = br#"{"z":{"dtype":"BF16","shape":[0,7],"data_offsets":[0,0]},"y":{"shape":[],"dtype":"F32","data_offsets":[60,64]},"x":{"dtype":"F32","shape":[15],"data_offsets":[0,60]}}"#;
    fuzz("header", &[two, text, empty]);
}

#[test]
fn card() {
    let lenet = br#"{"version":"0","network":"lenet","image":[1,28,28],"classes":["a","b"],"normalization":{"mean":[0.5],"std":[0.25]},"recipe":"default","epoch":3,"test_acc":0.75}"#;
    let nin = br#"{"version":"0","network":"nin-cifar","head":"fc","image":[3,32,32],"classes":["a"],"normalization":null,"recipe":"robust","data":{"dataset":"a","train_images":1,"test_images":1,"sha256":"0"}}"#;
    fuzz("card", &[lenet, nin]);
}

#[test]
fn run() {
    let weight = Tensor::full([2], 1.0);
    let names =
        ["step", "epoch", "batch", "loss", "correct", "images", "milliseconds", "waited_milliseconds"];
    let mut text: BTreeMap<String, String> = names.map(|name| (name.to_owned(), "0".to_owned())).into();
    text.insert("parameters".to_owned(), "0.bias".to_owned());
    text.insert("health".to_owned(), r#"{"maps":[],"waiting":[],"quiet_until":0,"stuck":0}"#.to_owned());
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("a.safetensors");
    nin::checkpoint::save_tensors(&file, &[("model.0.bias".to_owned(), &weight)], text).unwrap();
    let checkpoint = [&b"\0"[..], &std::fs::read(file).unwrap()].concat();
    let data =
        b"\x01{\"folder\":\"/a\",\"dataset\":\"a\",\"train_images\":4,\"test_images\":2,\"sha256\":\"0\"}";
    let metrics = b"\x02{\"step\":1,\"loss\":0.5}\n{\"epoch\":1,\"train_loss\":1.0,\"train_acc\":0.5,\"test_acc\":0.25,\"images_per_s\":9.0}\n";
    fuzz("run", &[&checkpoint, data, metrics, b"\x0377\n"]);
}

#[test]
fn picture() {
    let (mut png, mut jpeg) = (Vec::new(), Vec::new());
    let color: Vec<u8> = (0..6 * 5 * 4).map(|i| (i * 37 % 251) as u8).collect();
    PngEncoder::new(&mut png).write_image(&color, 6, 5, ExtendedColorType::Rgba8).unwrap();
    JpegEncoder::new(&mut jpeg).write_image(&color[..6 * 5 * 3], 6, 5, ExtendedColorType::Rgb8).unwrap();
    // Turned by its EXIF.
    let exif = b"\xff\xe1\0\x22Exif\0\0MM\0\x2a\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0\x06\0\0\0\0\0\0";
    let turned = [&jpeg[..2], exif, &jpeg[2..]].concat();
    fuzz("picture", &[&png, &jpeg, &turned]);
}

#[test]
fn settings() {
    let some = b"model = \"lenet\"\nlr = 0.1\nbatch_size = 64\nschedule = \"step:3:0.1\"\naugment = \"shift:2,flip\"\nshuffle = false\n";
    let all = nin::train::Settings::resolve(&Default::default(), &Default::default()).unwrap().to_toml();
    fuzz("settings", &[some, all.as_bytes(), b"recipe = \"chapter\"\nmodel = \"vgg11\"\n"]);
}

#[test]
fn names() {
    let all = [
        "constant",
        "cosine",
        "one-cycle:0.3",
        "step:3:0.1",
        "none",
        "shift:4,flip",
        "resnet18-cifar",
        "lenet",
        "fc-dropout",
    ];
    fuzz("names", &all.map(str::as_bytes));
}
