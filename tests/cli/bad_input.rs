//! Bad input: data files, settings, weights and folders that cannot work. Every refusal is one line that says what is wrong and
//! where, with exit code 1 or 2, and never a panic.

use std::fs;
use std::net::TcpListener;
use std::path::Path;
use std::process::Command;

use crate::common::{FILES, NIN, Place, TRAIN, failed, idx, refused, succeeded};

/// Asserts that a run that cannot begin is refused, and leaves no folder.
fn refused_run(place: &Place, more: &[&str], code: i32, parts: &[&str]) {
    refused(place.train("run", &[more, &["--max-steps", "1"]].concat()), code, parts);
    assert!(!place.path("run").exists(), "a run that cannot begin leaves no folder");
}

/// Spoils the small data set and asserts the refusal: which file, what was expected and found.
fn refused_data(spoil: impl Fn(&Path), parts: &[&str]) {
    let place = Place::new();
    spoil(&place.path("data"));
    refused_run(&place, &[], 2, parts);
}

#[test]
fn broken_data_files_are_named() {
    let changed = |name: &'static str, change: fn(&mut Vec<u8>)| {
        move |data: &Path| {
            let mut bytes = fs::read(data.join(name)).unwrap();
            change(&mut bytes);
            fs::write(data.join(name), bytes).unwrap();
        }
    };
    refused_data(|data| fs::remove_file(data.join(FILES[3])).unwrap(), &[FILES[3]]);
    refused_data(|data| fs::remove_dir_all(data).unwrap(), &["train-images-idx3-ubyte"]);
    refused_data(changed(FILES[0], |bytes| bytes.truncate(1000)), &[FILES[0], "truncated", "31376", "1000"]);
    refused_data(changed(FILES[1], |bytes| bytes[8 + 7] = 10), &[FILES[1], "label 10 of sample 7", "0 to 9"]);
    let fewer_labels = |data: &Path| fs::write(data.join(FILES[1]), idx(&[39], &[1; 39])).unwrap();
    refused_data(fewer_labels, &["40 images", "39 labels"]);
}

/// The environment says where downloads come from and go to: nobody listens at the address.
#[test]
fn a_download_that_fails_is_reported_and_leaves_nothing() {
    let place = Place::new();
    // Three files are in the cache, so that the small one alone is asked for; `data` lacks one, so that the cache is looked in.
    fs::remove_file(place.path("data").join(FILES[3])).unwrap();
    let cache = place.path("cache/fashion-mnist");
    fs::create_dir_all(&cache).unwrap();
    for name in &FILES[..3] {
        fs::write(cache.join(format!("{name}.gz")), "").unwrap();
    }
    let closed = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let url = format!("http://{closed}");
    let mut command = place.train("run", &["--dataset", "fashion-mnist", "--max-steps", "1"]);
    for proxy in ["http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"] {
        command.env_remove(proxy);
    }
    command.env("NIN_FASHION_MNIST_URL", &url).env("NIN_CACHE_DIR", place.path("cache"));
    let stderr =
        failed(command, 1, &[&format!("{url}/{}.gz: ", FILES[3]), "download stopped at byte 0 of 5148"]);
    assert!(stderr.starts_with("warning: data: not all four files"), "{stderr}");
    assert_eq!(fs::read_dir(&cache).unwrap().count(), 3, "nothing of it stays");
    assert!(!place.path("run").exists(), "a run that cannot begin leaves no folder");
}

#[test]
fn settings_that_cannot_work_are_refused_by_name() {
    let place = Place::new();
    fs::write(place.path("settings.toml"), "lr = 0.1\nlearning_rate = 3\n").unwrap();
    for (flag, value, code, parts) in [
        ("--config", "settings.toml", 2, &["settings.toml", "learning_rate"] as &[&str]),
        ("--config", "absent.toml", 2, &["absent.toml"]),
        ("--lr", "NaN", 2, &["lr", "NaN"]),
        ("--lr", "-0.1", 2, &["lr", "-0.1"]),
        ("--augment", "crop", 2, &["augment", "shift:PIXELS", "crop"]),
        ("--augment", "flip,rotate:200", 2, &["augment", "rotate:200", "from 0.01 to 180"]),
        ("--augment", "shift:29", 2, &["augment", "29 pixels", "28 x 28"]),
        ("--hold-out", "40", 2, &["hold_out", "fewer than the 40 training images", "found 40"]),
        ("--optimizer", "adam", 2, &["optimizer", "adam", "sgd, adamw"]),
        ("--init-from", "nowhere.safetensors", 2, &["nowhere.safetensors"]),
    ] {
        refused_run(&place, &[flag, value], code, parts);
    }
    let too_large = ["--batch-size", "41", "--drop-last"];
    refused_run(&place, &too_large, 2, &["drop_last: expected at least 41 training images, found 40"]);
}

/// Runs `train` with arguments that come to nothing before data are looked for: there are none.
fn refused_arguments(args: &[&str], parts: &[&str]) {
    let place = Place::empty();
    refused(place.command(TRAIN, args), 2, parts);
    assert_eq!(fs::read_dir(place.path("")).unwrap().count(), 0, "nothing is left behind");
}

#[test]
fn unknown_names_and_impossible_sizes_are_refused_before_data_are_read() {
    refused_arguments(&["--model", "resnet"], &["resnet", "nin, nin-d2l", "nin-cifar"]);
    refused_arguments(&["--dataset", "imagenet"], &["imagenet", "fashion-mnist-mini", "mnist"]);
    refused_arguments(&["--batch-size", "0"], &["batch_size", "found 0"]);
    refused_arguments(&["--image-size", "0"], &["image_size", "found 0"]);
    refused_arguments(&["--epochs", "0"], &["epochs", "found 0"]);
    refused_arguments(&["--max-steps", "0"], &["max_steps", "found 0"]);
    refused_arguments(&["--image-size", "8"], &["layer 0.0", "8"]);
    refused_arguments(&["--image-size", "20"], &["layer", "MaxPool2d"]);
    refused_arguments(&["--model", "alexnet", "--image-size", "60"], &["layer 12, MaxPool2d(3/2)"]);
    refused_arguments(&["--model", "vgg11", "--image-size", "28"], &["layer 4.4, MaxPool2d(2/2)"]);
    refused_arguments(&["--model", "lenet", "--head", "gap"], &["lenet", "class maps"]);
    refused_arguments(&["--head", "mlp"], &["head", "mlp", "gap, fc or fc-dropout"]);
    // Nothing that is asked for is without effect in silence.
    refused_arguments(
        &["--model", "lenet", "--dropout", "0.3"],
        &["dropout: expected a network that has it", "lenet"],
    );
}

/// What is named on the command line and is not there, or is no such thing, is a request that cannot be, whichever command it is.
#[test]
fn paths_that_are_not_there_or_are_no_such_thing_are_code_2_for_every_command() {
    let place = Place::new();
    place.steps("run", 2, &[]);
    fs::create_dir(place.path("folder")).unwrap();
    fs::write(place.path("bytes"), [0xFF, 0xFE, 0xFD]).unwrap();
    for command in [
        &["eval", "PATH"] as &[&str],
        &["plot", "PATH"],
        &["report", "PATH"],
        &["inspect", "PATH"],
        &["export", "PATH", "--onnx", "a.onnx"],
        &["serve", "PATH", "--port", "0"],
        &["import", "PATH", "--model", "lenet", "--output", "b.safetensors"],
        &["predict", "PATH"],
        &["predict", "run/report.html", "--weights", "PATH"],
        &["compare", "--run", "PATH", "--no-speed"],
        &["train", "--resume", "PATH"],
        &["train", "--config", "PATH"],
        &["train", "--data-dir", "data", "--init-from", "PATH"],
        &["train", "--dataset", "fashion-mnist-mini", "--data-dir", "PATH"],
        &["train", "--dataset", "image-folder:PATH"],
    ] {
        for path in ["nowhere", "folder", "bytes", "bytes/below"] {
            let command: Vec<String> = command.iter().map(|word| word.replace("PATH", path)).collect();
            let command: Vec<&str> = command.iter().map(String::as_str).collect();
            failed(place.nin(&command), 2, &[path]);
        }
    }
    refused(
        place.nin(&["train", "--dataset", "image-folder"]),
        2,
        &["image-folder not found: give its folder"],
    );
}

/// Before data are looked for: there are none here.
#[test]
fn folders_without_a_run_and_impossible_numbers_of_threads_are_refused() {
    for threads in ["0", "1025", "18446744073709551615"] {
        let what = ["threads: expected 1 to 1024", threads];
        refused_arguments(&["--threads", threads, "--data-dir", "nowhere"], &what);
    }
    let place = Place::new();
    place.steps("run", 2, &[]);
    let before = place.metrics("run");
    for (program, flag) in [(NIN, "eval"), (TRAIN, "--resume")] {
        refused(place.command(program, &[flag, "nowhere"]), 2, &["nowhere: no run in this folder"]);
        let command = place.command(program, &[flag, "run", "--threads", "0", "--data-dir", "nowhere"]);
        refused(command, 2, &["threads: expected 1 to 1024, found 0"]);
    }
    assert_eq!(place.metrics("run"), before);
}

#[test]
fn arguments_that_make_no_sense_are_refused_in_one_line() {
    refused_arguments(&["--epochs", "many"], &["--epochs", "whole number", "\"many\"", "train --help"]);
    let place = Place::empty();
    for (args, parts) in [
        (&[] as &[&str], &["eval", "summary", "nin --help"] as &[&str]),
        (&["evl"], &["evl", "'eval'"]),
        (&["eval"], &["<RUN>", "nin eval --help"]),
        (&["summary", "--channels", "0"], &["--channels", "1..=1024", "\"0\"", "(try nin summary --help)"]),
        (&["serve", "--port", "99999"], &["--port", "(try nin serve --help)"]),
        (&["completions", "foo"], &["expected bash, ", "\"foo\"", "(try nin completions --help)"]),
        (&["summary", "--chanels", "3"], &["'--channels'", "nin summary --help"]),
    ] {
        refused(place.nin(args), 2, parts);
    }
    for program in [NIN, TRAIN] {
        assert!(succeeded(place.command(program, &["--version"])).contains(env!("CARGO_PKG_VERSION")));
    }
}

#[test]
fn weights_that_do_not_fit_or_are_broken_are_refused() {
    let place = Place::of_nin();
    let bytes = place.steps("run", 2, &[]);
    let init = |model: &str, size: &str, file: &str| -> Command {
        let more = ["--model", model, "--image-size", size, "--max-steps", "1", "--init-from", file];
        place.train("other", &more)
    };
    let weights = "run/model.safetensors";
    refused(init("lenet", "14", weights), 2, &["model.safetensors", "weights of another network"]);
    refused(init("nin", "64", weights), 2, &["model.safetensors", "0.0.weight", "192", "96"]);
    for (part, what) in [
        (&bytes[..bytes.len() - 1], "bytes of tensors are expected behind the header, found "),
        (&bytes[..100], "cut off in its header: expected "),
        (&bytes[..4], "not a safetensors file"),
        (b"", "not a safetensors file"),
        (b"{\"json\": true, \"tensors\": none}", "not a safetensors file"),
    ] {
        fs::write(place.path("broken.safetensors"), part).unwrap();
        let what = ["broken.safetensors", what];
        refused(init("nin-cifar", "14", "broken.safetensors"), 2, &what);
    }
    assert!(!place.path("other").exists(), "a refused run leaves no folder");
    refused(place.eval("run", &["--weights", "broken.safetensors"]), 2, &["broken.safetensors"]);

    // A run whose checkpoint is broken does not go on, and stays as it is.
    fs::write(place.path("run/checkpoint.safetensors"), &bytes[..1000]).unwrap();
    let metrics = place.metrics("run");
    refused(place.resume("run", &[]), 2, &["checkpoint.safetensors"]);
    assert_eq!(place.metrics("run"), metrics);

    // The weights themselves are good; where all fit, no initial ones are asked for.
    let printed = succeeded(init("nin-cifar", "14", weights));
    assert!(printed.contains("init-from run/model.safetensors: 18 of 18 tensors taken\n"), "{printed}");
    let printed = succeeded(place.train("third", &["--max-steps", "1", "--init-from", "run"]));
    assert!(printed.contains("init-from run/model.safetensors: 18 of 18 tensors taken\n"), "{printed}");
    let start = |more: &[&str]| {
        place.train("fc", &[&["--max-steps", "1", "--init-from", weights, "--init", "he"], more].concat())
    };
    refused(start(&[]), 2, &["init: expected new weights that it is about, found run/model.safetensors"]);
    let printed = succeeded(start(&["--head", "fc"]));
    assert!(printed.contains("18 of 20 tensors taken; new: 8.weight 10 x 90, 8.bias 10\n"), "{printed}");
}

#[test]
fn a_run_whose_settings_were_changed_does_not_go_on() {
    let place = Place::of_nin();
    place.steps("run", 2, &[]);
    let config = place.read("run/config.toml");
    type Changes<'a> = &'a [(&'a str, &'a str)];
    for (changes, parts) in [
        (
            &[("batch_size = 8", "batch_size = 4")] as Changes<'_>,
            &["16 images in 2 batches", "of 4"] as &[&str],
        ),
        (
            &[("\"nin-cifar\"", "\"nin\""), ("_size = 14", "_size = 64")],
            &["another network", "18 tensors, expected 24"],
        ),
        (&[("lr = ", "lr = -")], &["config.toml: lr: expected"]),
        (&[("seed = ", "seeds = ")], &["config.toml", "`seeds`"]),
        // As the library writes it of a network of one's own.
        (&[("model = \"nin-cifar\"\n", "")], &["config.toml: no model: ", "a part of a program's own"]),
    ] {
        let mut changed = config.clone();
        for (from, to) in changes {
            assert!(changed.contains(from), "{from} is a setting");
            changed = changed.replace(from, to);
        }
        fs::write(place.path("run/config.toml"), changed).unwrap();
        let before = place.saved("run");
        refused(place.resume("run", &[]), 2, parts);
        assert_eq!(place.saved("run"), before);
    }
}

#[test]
fn a_run_folder_that_cannot_be_made_is_named() {
    let place = Place::new();
    fs::write(place.path("file"), "no folder").unwrap();
    refused(place.train("file/run", &["--max-steps", "1"]), 2, &["file/run: cannot make the folder: "]);
    assert_eq!(place.read("file"), "no folder");
}
