//! `nin predict`: what images are of.

use std::fs;

use image::{ImageBuffer, ImageFormat, Luma};
use serde_json::Value;

use crate::common::{Place, assert_has, json, json_lines, refused, succeeded, warned};

/// A test image of the small data set as a PNG file.
fn draw(place: &Place, name: &str, index: usize) {
    let bytes = fs::read(place.path("data/t10k-images-idx3-ubyte")).unwrap();
    let pixels = bytes[16 + index * 784..][..784].to_vec();
    let image = ImageBuffer::<Luma<u8>, _>::from_raw(28, 28, pixels).unwrap();
    fs::create_dir_all(place.path(name).parent().unwrap()).unwrap();
    image.save_with_format(place.path(name), ImageFormat::Png).unwrap();
}

#[test]
fn an_image_gets_the_same_answer_wherever_it_comes_from() {
    let place = Place::new();
    succeeded(place.train("run", &["--image-size", "28", "--epochs", "2"]));
    // The file is of use without its folder and its data.
    fs::copy(place.path("run/model.safetensors"), place.path("model.safetensors")).unwrap();
    let of = |more: &[&str]| place.nin(&[&["predict", "--json", "--top", "10", "--weights"], more].concat());
    let known = ["run", "--dataset", "fashion-mnist-mini", "--index", "7", "--data-dir", "data"];
    let first = json_lines(&succeeded(of(&known)));
    assert_eq!((first.len(), &first[0]["label"]), (1, &Value::from(7)));
    let named = ["run", "--dataset", "fashion-mnist-mini:data", "--index", "7"];
    assert_eq!(json_lines(&succeeded(of(&named))), first);
    let list = first[0]["answers"].as_array().unwrap();
    let sum: f64 = list.iter().map(|answer| answer["probability"].as_f64().unwrap()).sum();
    assert!(list.len() == 10 && (sum - 1.0).abs() < 1e-9, "{list:?}");

    draw(&place, "photos/b.png", 7);
    draw(&place, "photos/below/a.PNG", 4);
    fs::remove_dir_all(place.path("data")).unwrap();
    let file = json_lines(&succeeded(of(&["model.safetensors", "photos/b.png"])));
    assert_eq!(
        (&file[0]["answers"], &file[0]["image"]),
        (&first[0]["answers"], &Value::from("photos/b.png"))
    );
    let folder = json_lines(&succeeded(of(&["model.safetensors", "photos", "--threads", "1"])));
    assert_eq!(folder.len(), 2);
    assert_eq!(
        (&folder[0]["image"], &folder[1]),
        (
            &Value::from("photos/b.png"),
            &json_lines(&succeeded(of(&["model.safetensors", "photos/below"])))[0]
        )
    );
    let mut stdin = of(&["model.safetensors", "-"]);
    stdin.stdin(fs::File::open(place.path("photos/b.png")).unwrap());
    assert_eq!(json_lines(&succeeded(stdin))[0]["answers"], first[0]["answers"]);
    // `--model`: an earlier name.
    let text =
        succeeded(place.nin(&["predict", "photos/b.png", "--model", "model.safetensors", "--top", "1"]));
    assert_has(&text, &["photos/b.png: ", list[0]["name"].as_str().unwrap()]);

    // What cannot be read is named and left out.
    fs::write(place.path("photos/c.jpg"), "no image").unwrap();
    let output = of(&["model.safetensors", "photos"]).output().unwrap();
    assert_eq!(json_lines(std::str::from_utf8(&output.stdout).unwrap()), folder);
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert_eq!((output.status.code(), stderr.lines().count()), (Some(1), 2), "{stderr}");
    let what = [
        "warning: photos/c.jpg: neither a PNG nor a JPEG image",
        "error: images: cannot read all of them: 1 of 3 failed",
    ];
    assert_has(&stderr, &what);
}

#[test]
fn what_cannot_be_predicted_is_refused_in_one_line() {
    let place = Place::new();
    succeeded(place.train("run", &["--image-size", "28", "--max-steps", "1"]));
    draw(&place, "a.png", 0);
    fs::create_dir(place.path("empty")).unwrap();
    let of = |more: &[&str]| place.nin(&[&["predict"], more].concat());
    for (arguments, code, what) in [
        (&["a.png", "--weights", "nowhere"] as &[&str], 2, "nowhere: cannot open"),
        (&["a.png", "--weights", "a.png"], 2, "a.png: not a safetensors file"),
        (&["a.png", "--weights", "run", "--top", "0"], 2, "top: expected at least 1"),
        (&["empty", "--weights", "run"], 2, "empty: no .png, .jpg or .jpeg files"),
        (&["missing.png", "--weights", "run"], 2, "missing.png: cannot read"),
        (&["--weights", "run"], 2, "<PATH>"),
        (
            &["--weights", "run", "--dataset", "fashion-mnist-mini", "--index", "20", "--data-dir", "data"],
            2,
            "index: expected below 20, the test images, found 20",
        ),
    ] {
        refused(of(arguments), code, &[what]);
    }
    refused(
        of(&["a.png", "--weights", "run", "--cam", "maps"]),
        2,
        &["cam: lenet makes no maps for its classes"],
    );
    assert!(!place.path("maps").exists());
}

#[test]
fn class_maps_are_drawn_over_the_image() {
    let place = Place::of_nin();
    place.steps("run", 1, &["--image-size", "28"]);
    draw(&place, "a.png", 3);
    draw(&place, "b/a.png", 4);
    succeeded(place.nin(&["predict", "a.png", "b", "--weights", "run", "--cam", "maps/below"]));
    let size = |name: &str| {
        let image = image::open(place.path("maps/below").join(name)).unwrap();
        (image.width(), image.height())
    };
    // Eight times as large, for eyes.
    assert_eq!(size("a.cam.png"), (224, 224));
    assert_eq!(size("a.maps.png"), (5 * 226 - 2, 2 * 226 - 2));
    assert_eq!(size("a-2.cam.png"), (224, 224), "of another image of the name");
}

/// The file has what images are whitened with: evaluation, answers and export need nothing else.
#[test]
fn a_whitened_run_is_of_use_by_its_file() {
    let place = Place::new();
    let white = ["--image-size", "28", "--whiten", "gcn-zca", "--epochs", "2"];
    succeeded(place.train("run", &white));
    assert_has(&place.read("run/config.toml"), &["whiten = \"gcn-zca\"\n", "normalize = false\n"]);
    let found = json(place.eval("run", &["--json"]));
    assert_eq!(found["accuracy"], place.metrics("run").last().unwrap()["test_acc"]);
    let known = ["--dataset", "fashion-mnist-mini", "--index", "7", "--data-dir", "data", "--model", "run"];
    succeeded(place.nin(&[&["predict"][..], &known].concat()));
    let export =
        |more: &[&str]| succeeded(place.nin(&[&["export", "run", "--onnx", "a.onnx"], more].concat()));
    assert_has(&export(&[]), &["input N x 1 x 28 x 28 of whitened pixels"]);
    assert_has(&export(&["--normalize"]), &["input N x 1 x 28 x 28 of pixels from 0 to 255"]);

    let small = ["--image-size", "20", "--whiten", "gcn"];
    refused(
        place.train("small", &small),
        2,
        &["image_size: expected 28 x 28, the images' own size", "found 20"],
    );
    succeeded(place.train("plain", &["--image-size", "28", "--max-steps", "1"]));
    let weights = "plain/model.safetensors";
    refused(
        place.eval("run", &["--weights", weights]),
        2,
        &[weights, "no tensor whitening.mean, as gcn-zca has"],
    );
}

/// The network that is part of the program, on the images that are: anywhere, with nothing trained and nothing there.
#[test]
fn the_program_has_a_network_and_images_of_its_own() {
    let place = Place::empty();
    let mut right = 0;
    for index in 0..20 {
        let index = index.to_string();
        let command = ["predict", "--json", "--dataset", "fashion-mnist-mini", "--index", &index];
        let answer = &json_lines(&succeeded(place.nin(&command)))[0];
        right += usize::from(answer["answers"][0]["class"] == answer["label"]);
    }
    assert!(right >= 17, "{right} of 20");
    let note = "no --weights: the program's own nin-cifar, trained on fashion-mnist\n";
    let stdout = warned(place.nin(&["predict", "--dataset", "fashion-mnist-mini", "--index", "0"]), &[note]);
    assert!(stdout.starts_with("fashion-mnist-mini-0: Ankle boot 0."), "{stdout}");
}
