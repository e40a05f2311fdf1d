//! `nin serve`: what its command line adds to the server, whose own tests are in tests/serve.
#![cfg(unix)]

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::process::Child;
use std::time::Duration;

use image::{ImageBuffer, Luma};
use nin::data::Picture;
use serde_json::{Value, json};

use crate::common::{Place, ended, kill, refused, succeeded};

/// `nin serve` with arguments, and the address that it says.
fn begun(place: &Place, arguments: &[&str]) -> (Child, String) {
    let mut child = place.nin(&[&["serve", "--port", "0"], arguments].concat()).spawn().unwrap();
    let mut line = String::new();
    BufReader::new(child.stdout.as_mut().unwrap()).read_line(&mut line).unwrap();
    let address = line.strip_suffix(", Ctrl-C ends\n").and_then(|line| line.split_once(" at http://"));
    let Some((what, address)) = address else { panic!("{line}") };
    assert!(what.starts_with("serving "), "{what}");
    (child, address.to_owned())
}

/// The JSON of a path.
fn get(address: &str, path: &str) -> Value {
    serde_json::from_slice(&body(address, path)).unwrap()
}

/// The body of the answer at a path.
fn body(address: &str, path: &str) -> Vec<u8> {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
    write!(stream, "GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n").unwrap();
    let mut bytes = Vec::new();
    stream.read_to_end(&mut bytes).unwrap();
    let head = bytes.windows(4).position(|four| four == b"\r\n\r\n").unwrap();
    bytes.split_off(head + 4)
}

/// Ends it by a signal; what it wrote to standard error.
fn end(child: Child, signal: &str) -> String {
    kill(&child, signal, 1);
    let output = ended(child);
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(0), "{stderr}");
    stderr
}

#[test]
fn the_programs_own_network_is_served_until_a_signal() {
    let place = Place::empty();
    for (signal, more, expected) in [
        ("INT", &[] as &[&str], ""),
        ("TERM", &["--address", "0.0.0.0", "--threads", "1"], "warning: every machine that reaches 0.0.0.0:"),
    ] {
        let (child, address) = begun(&place, more);
        assert_eq!(get(&address, "/api/model")["network"], "nin-cifar");
        let samples = get(&address, "/api/samples");
        let labels: Vec<_> =
            samples["samples"].as_array().unwrap().iter().map(|own| own["label"].clone()).collect();
        assert_eq!(
            (labels.len(), &labels[0], &labels[19]),
            (20, &json!("T-shirt/top"), &json!("Ankle boot"))
        );
        let stderr = end(child, signal);
        let last = "interrupted: answering what was taken (again to stop at once)\n";
        assert!(stderr.starts_with(expected) && stderr.ends_with(last), "{stderr}");
        assert_eq!(stderr.lines().count(), 1 + usize::from(!expected.is_empty()), "{stderr}");
    }
}

#[test]
fn a_run_is_served_with_images_of_its_own() {
    let place = Place::empty();
    for (split, class, shade) in
        [("train", "a", 10u8), ("train", "b", 200), ("test", "a", 20), ("test", "b", 210)]
    {
        // Below the folder of a class there may be others.
        let folder = place.path("photos").join(split).join(class).join("2024");
        fs::create_dir_all(&folder).unwrap();
        for index in 0..15 {
            let [w, h] = if shade == 210 { [1000, 600] } else { [20, 16] };
            let image = ImageBuffer::from_pixel(w, h, Luma([shade + index]));
            image.save(folder.join(format!("{index}.png"))).unwrap();
        }
    }
    let settings = ["--dataset", "image-folder:photos", "--model", "lenet", "--image-size", "28"];
    let run = ["train", "--max-steps", "1", "--run-dir", "run"];
    succeeded(place.nin(&[&run[..], &settings].concat()));
    let (child, address) = begun(&place, &["run"]);
    let model = get(&address, "/api/model");
    assert_eq!((&model["network"], &model["classes"]), (&json!("lenet"), &json!(["a", "b"])));
    assert_eq!((&model["epoch"], &model["judged_by"]), (&json!(1), &json!("test")));
    let samples = get(&address, "/api/samples");
    let label = |index: usize| samples["samples"][index]["label"].clone();
    assert_eq!(samples["samples"].as_array().unwrap().len(), 20);
    assert_eq!((label(0), label(19)), (json!("a"), json!("b")));
    let image = Picture::decode(&body(&address, "/api/samples/0"), Path::new("sample")).unwrap();
    assert_eq!(image.shape(), [1, 16, 20], "no larger than it is");
    let image = Picture::decode(&body(&address, "/api/samples/19"), Path::new("sample")).unwrap();
    assert_eq!(image.shape(), [1, 307, 512], "a photo is made smaller");
    assert_eq!(end(child, "TERM"), "interrupted: answering what was taken (again to stop at once)\n");

    // Inside of an epoch nobody has tested the weights.
    let early = ["train", "--max-steps", "1", "--batch-size", "8", "--hold-out", "0.2", "--run-dir", "early"];
    succeeded(place.nin(&[&early[..], &settings].concat()));
    let (child, address) = begun(&place, &["early"]);
    let model = get(&address, "/api/model");
    assert_eq!(
        (&model["epoch"], &model["test_acc"], &model["judged_by"]),
        (&Value::Null, &Value::Null, &json!("held_out"))
    );
    let stderr = end(child, "TERM");
    assert!(
        stderr.starts_with("warning: the weights are those of the run's beginning or of inside of an epoch"),
        "{stderr}"
    );

    // The file is of use without its folder and its data.
    let (child, address) = begun(&place, &["run/model.safetensors"]);
    assert_eq!(get(&address, "/api/samples"), json!({ "samples": [] }));
    end(child, "TERM");
    fs::remove_dir_all(place.path("photos")).unwrap();
    let (child, address) = begun(&place, &["run"]);
    assert_eq!(get(&address, "/api/samples"), json!({ "samples": [] }));
    let stderr = end(child, "TERM");
    assert!(
        stderr.starts_with("warning: the page has no samples: ") && stderr.contains("photos"),
        "{stderr}"
    );
}

#[test]
fn what_cannot_be_served_is_refused_in_one_line() {
    let place = Place::empty();
    let (child, address) = begun(&place, &[]);
    let port = address.rsplit_once(':').unwrap().1;
    let of = |more: &[&str]| place.nin(&[&["serve"], more].concat());
    refused(of(&["--port", port]), 1, &[&address, "cannot listen"]);
    refused(of(&["nowhere"]), 2, &["nowhere: cannot open"]);
    refused(of(&["--address", "example"]), 2, &["--address"]);
    refused(of(&["--port", "65536"]), 2, &["--port"]);
    refused(of(&["--threads", "0"]), 2, &["threads"]);
    end(child, "TERM");
}
