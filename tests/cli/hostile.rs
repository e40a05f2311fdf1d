//! Files that would take all memory, read by commands that have little: what they promise is checked before memory is taken.
#![cfg(target_os = "linux")]

use std::fs::{self, File};
use std::io::Write;
use std::process::Command;

use crate::common::{FILES, NIN, Place, TRAIN, idx, refused};

/// A command with an address space of 1 GB.
fn limited(place: &Place, program: &str, arguments: &[&str]) -> Command {
    place.after("ulimit -v 1000000 || exit", program, arguments)
}

/// A file that is as long as it says on a disk that holds its first bytes alone.
fn sparse(place: &Place, name: &str, start: &[u8], length: u64) {
    let mut file = File::create(place.path(name)).unwrap();
    file.write_all(start).unwrap();
    file.set_len(length).unwrap();
}

#[test]
fn images_that_a_header_promises_take_no_memory() {
    let place = Place::new();
    let images = format!("data/{}", FILES[0]);
    let all = u32::MAX as usize;
    let refuse = |dims: [usize; 3], length: u64, expected: &str| {
        sparse(&place, &images, &idx(&dims, &[]), length);
        refused(limited(&place, TRAIN, &place.arguments("run", &[])), 2, &[FILES[0], expected]);
    };
    refuse([all, 28, 28], 1000, "IDX dimensions [4294967295, 28, 28] at byte 4 are too large");
    refuse([all, all, all], 1000, "are too large");
    refuse(
        [2_000_000, 28, 28],
        1000,
        "truncated IDX data: expected 1568000016 bytes, the data end at byte 1000",
    );
    refuse([40, 28, 28], 1 << 40, "more data than the IDX header promises");
    // A gzip file of a GB of zeros, behind a header that promises 40 images.
    let mut packed = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    packed.write_all(&idx(&[40, 28, 28], &[])).unwrap();
    for _ in 0..1024 {
        packed.write_all(&[0; 1 << 20]).unwrap();
    }
    fs::write(place.path(&images), packed.finish().unwrap()).unwrap();
    refused(
        limited(&place, TRAIN, &place.arguments("run", &[])),
        2,
        &[FILES[0], "more data than the IDX header promises"],
    );
    assert!(!place.path("run").exists());
}

#[test]
fn weights_that_a_header_promises_take_no_memory() {
    let place = Place::new();
    place.steps("run", 1, &["--epochs", "1"]);
    let header = |text: &str| [&(text.len() as u64).to_le_bytes(), text.as_bytes()].concat();
    let one = |numbers: u64| {
        header(&format!(
            r#"{{"a":{{"dtype":"F32","shape":[{numbers}],"data_offsets":[0,{}]}}}}"#,
            4 * numbers
        ))
    };
    for (start, length, expected) in [
        (&(1u64 << 60).to_le_bytes()[..], 1 << 40, "is no length of a header"),
        (&99_000_000u64.to_le_bytes(), 1000, "cut off in its header: expected 99000000 bytes, found 992"),
        (&99_000_000u64.to_le_bytes(), 1 << 40, "not a safetensors file: broken header"),
        (&one(2), 1 << 40, "8 bytes of tensors are expected behind the header, found more"),
        (&one(1 << 60), 1000, "4611686018427387904 bytes of tensors are expected behind the header, found 9"),
        // Whole, and more than there is.
        (&one(1 << 40), (1 << 42) + one(1 << 40).len() as u64, "cannot read"),
    ] {
        sparse(&place, "w.safetensors", start, length);
        let evaluate = ["eval", "run", "--data-dir", "data", "--weights", "w.safetensors"];
        let code = if expected == "cannot read" { 1 } else { 2 };
        refused(limited(&place, NIN, &evaluate), code, &["w.safetensors", expected]);
    }
    let endless = ["eval", "run", "--data-dir", "data", "--weights", "/dev/zero"];
    refused(limited(&place, NIN, &endless), 2, &["/dev/zero", "not a safetensors file"]);
}

#[test]
fn settings_are_read_no_further_than_settings_go() {
    let place = Place::new();
    sparse(&place, "huge.toml", b"lr = 0.1\n", 1 << 40);
    for file in ["huge.toml", "/dev/zero"] {
        refused(
            limited(&place, TRAIN, &place.arguments("run", &["--config", file])),
            2,
            &[file, "no settings: longer than 1048576 bytes"],
        );
    }
}
