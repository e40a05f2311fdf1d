//! Images of one's own: folders of files, from training to answers.

use std::fs;
use std::path::Path;
use std::process::Command;

use image::{ImageBuffer, ImageFormat, Rgb};

use crate::common::{Place, TRAIN, assert_has, failed, json, refused, succeeded, warned};

/// A picture of a class: a stripe of its color, level or upright, on gray; of a size and a format of its own.
fn draw(path: &Path, class: usize, index: u32) {
    let color = [[220, 30, 30], [30, 60, 220]][class];
    let (w, h) = (20 + index % 7, 18 + index % 5);
    let image = ImageBuffer::from_fn(w, h, |x, y| {
        let along = if class == 0 { y } else { x };
        Rgb(if along / 4 == index % 4 { color } else { [90 + (index * 7 % 40) as u8; 3] })
    });
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    let format =
        if path.extension().is_some_and(|own| own == "png") { ImageFormat::Png } else { ImageFormat::Jpeg };
    image.save_with_format(path, format).unwrap();
}

/// Forty pictures of two classes in a folder.
fn fill(folder: &Path) {
    for index in 0..20 {
        for (class, name) in ["level", "upright one"].into_iter().enumerate() {
            draw(
                &folder.join(name).join(format!("{index}.{}", ["png", "jpg"][index as usize % 2])),
                class,
                index,
            );
        }
    }
}

const SMALL: [&str; 12] = [
    "--model",
    "lenet",
    "--image-size",
    "28",
    "--batch-size",
    "8",
    "--epochs",
    "2",
    "--threads",
    "2",
    "--run-dir",
    "run",
];

fn train(place: &Place, more: &[&str]) -> Command {
    place.command(TRAIN, &[&SMALL[..], more].concat())
}

#[test]
fn a_folder_of_pictures_becomes_a_classifier() {
    let place = Place::empty();
    fill(&place.path("my pictures"));
    let data = ["--dataset", "image-folder:my pictures"];
    refused(
        train(&place, &data),
        2,
        &["hold_out: expected a share such as 0.1", "my pictures train has no test images"],
    );
    let printed = succeeded(train(&place, &[&data[..], &["--hold-out", "0.25"]].concat()));
    assert_has(
        &printed,
        &["image-folder:my pictures at 28 x 28", "of 40 training images are held out", "done in"],
    );
    // What the run has written down: its folder from the root, so that commands find it from anywhere.
    let record: serde_json::Value = serde_json::from_str(&place.read("run/data.json")).unwrap();
    assert_eq!(
        (&record["dataset"], &record["train_images"], &record["test_images"]),
        (&"image-folder".into(), &40.into(), &0.into())
    );
    fs::create_dir(place.path("elsewhere")).unwrap();
    let mut eval = place.nin(&["eval", "../run", "--json"]);
    eval.current_dir(place.path("elsewhere"));
    assert_eq!(json(eval)["classes"], serde_json::json!(["level", "upright one"]));
    // Stopped and gone on with, with nothing kept in memory, on one thread: the same bits.
    let rest = ["--hold-out", "0.25", "--cache-mb", "0", "--run-dir", "other", "--max-steps", "3"];
    let other: Vec<&str> = SMALL[..10].iter().copied().chain(data).chain(rest).collect();
    succeeded(place.command(TRAIN, &other));
    succeeded(place.command(TRAIN, &["--resume", "other", "--threads", "1"]));
    assert!(place.weights("run") == place.weights("other"));
    // A picture that has changed, or is new, is other data; the folder is still the run's own.
    draw(&place.path("my pictures/level/3.jpg"), 1, 99);
    let changed = [
        "run: made of image-folder in /",
        ", whose images have changed since (",
        "--init-from run;",
        "nin predict --weights run",
    ];
    let evaluate = || place.nin(&["eval", "run"]);
    refused(evaluate(), 2, &[&changed[..], &["(as many, but others)"]].concat());
    draw(&place.path("my pictures/level/new.jpg"), 1, 99);
    let more = [&changed[..], &["(40 + 0, now 41 + 0)"]].concat();
    refused(evaluate(), 2, &more);
    refused(place.command(TRAIN, &["--resume", "run"]), 2, &more);
    // In another place they are others, whatever they are.
    fill(&place.path("others"));
    draw(&place.path("others/level/new.jpg"), 1, 98);
    refused(
        place.nin(&["eval", "run", "--data-dir", "others"]),
        2,
        &["run: made of image-folder in /", "; found image-folder in /", "SHA-256", "with --data-dir"],
    );
    // The model answers without the folder.
    fs::rename(place.path("my pictures"), place.path("photos")).unwrap();
    refused(place.nin(&["eval", "run"]), 2, &["run: made of image-folder in /", "which is not there: "]);
    let answer = succeeded(place.nin(&["predict", "photos/level/0.png", "--weights", "run"]));
    assert_has(&answer, &["photos/level/0.png: ", "level 0.", "upright one 0."]);
}

#[test]
fn pictures_that_cannot_be_read_are_named_and_left_out() {
    let place = Place::empty();
    fill(&place.path("p/train"));
    fill(&place.path("p/test"));
    fs::write(place.path("p/train/level/bad.png"), "no image").unwrap();
    fs::write(
        place.path("p/test/level/cut.jpg"),
        &fs::read(place.path("p/test/level/1.jpg")).unwrap()[..200],
    )
    .unwrap();
    let data = ["--dataset", "image-folder", "--data-dir", "p", "--max-steps", "1"];
    let left_out = [
        "warning: p/train/level/bad.png: neither a PNG nor a JPEG image; left out\n",
        "warning: p/test/level/cut.jpg: not a whole image: ",
    ];
    warned(train(&place, &data), &left_out);
    let strict = [&data[..], &["--strict-images", "--run-dir", "strict"]].concat();
    let strict: Vec<&str> = SMALL[..10].iter().copied().chain(strict).collect();
    refused(place.command(TRAIN, &strict), 2, &["p/train/level/bad.png: neither a PNG nor a JPEG image"]);
    assert!(!place.path("strict").exists());
    // Two folders for one data set.
    failed(
        train(&place, &["--dataset", "image-folder:p", "--data-dir", "q"]),
        2,
        &["data_dir: expected one folder, found p and q"],
    );
    refused(train(&place, &["--dataset", "image-folder"]), 2, &["image-folder not found: give its folder"]);
    refused(train(&place, &["--dataset", "image-folder:nowhere"]), 2, &["nowhere: cannot read the folder"]);
}
