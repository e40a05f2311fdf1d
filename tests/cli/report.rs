//! The page of a run, as `train` leaves it and `nin report` writes it anew.

use std::fs;

use crate::common::{Place, TRAIN, assert_has, failed, json, refused, succeeded, warned};

#[test]
fn a_run_leaves_a_page() {
    let place = Place::of_nin();
    succeeded(place.train("run", &["--image-size", "28", "--epochs", "2"]));
    let page = place.read("run/report.html");
    let last = place.metrics("run").into_iter().rfind(|line| line["epoch"] == 2).unwrap();
    let acc = format!("{:.4}</b>test acc", last["test_acc"].as_f64().unwrap());
    assert_has(
        &page,
        &[&acc, "epoch 2 of 2", "nin-cifar on fashion-mnist-mini at 28 x 28", "lr = 0.02", "Ankle boot"],
    );
    // Nothing of it is elsewhere.
    for from_elsewhere in ["<script", "<link", "@import", "src=\"http", "url("] {
        assert!(!page.contains(from_elsewhere), "{from_elsewhere}");
    }
    // It is the same from the folder alone, and tells the same as `nin eval`.
    fs::remove_file(place.path("run/report.html")).unwrap();
    succeeded(place.nin(&["report", "run"]));
    let anew = place.read("run/report.html");
    let other = anew.split('<').zip(page.split('<')).find(|(anew, page)| anew != page);
    assert!(anew == page, "written anew, it is another: {other:?}");
    let found = json(place.eval("run", &["--json"]));
    let sentence = format!("{} of {} images are answered correctly", found["correct"], found["images"]);
    assert_has(&page, &[&sentence]);
}

#[test]
fn a_stopped_run_has_the_page_of_its_epochs() {
    let place = Place::new();
    // An epoch is five steps.
    place.steps("run", 7, &["--epochs", "3"]);
    let page = place.read("run/report.html");
    assert_has(&page, &["epoch 1 of 3", "The run goes on, or was stopped"]);
    place.steps("none", 3, &[]);
    assert!(!place.path("none/report.html").exists());
    // What follows goes on to the end, fine-tuned from another's weights or not: by its page it can be repeated.
    place.steps("tuned", 7, &["--epochs", "3", "--init-from", "run/model.safetensors"]);
    for (run, begins) in [("run", ""), ("tuned", "init_from = &quot;run/model.safetensors&quot;\n")] {
        succeeded(place.resume(run, &[]));
        let page = place.read(&format!("{run}/report.html"));
        assert_has(&page, &["epoch 3 of 3", "images are answered correctly", begins]);
        assert!(!page.contains("max_steps"), "a limit of the command that began it");
        succeeded(place.nin(&["report", run]));
        assert!(place.read(&format!("{run}/report.html")) == page, "{run}: written anew, it is another");
    }
}

/// Images that a run is judged by have their name, and a number that is shown is one by which the image is found.
#[test]
fn held_out_images_are_no_test_images() {
    let place = Place::new();
    succeeded(place.train("test", &["--epochs", "1"]));
    let page = place.read("test/report.html");
    assert_has(&page, &["Answers to the test images"]);
    let shown = page.split("(test image ").nth(1).and_then(|rest| rest.split(')').next()).unwrap();
    let of = [
        "predict",
        "--dataset",
        "fashion-mnist-mini:data",
        "--weights",
        "test",
        "--index",
        shown,
        "--top",
        "1",
    ];
    let printed = succeeded(place.nin(&of));
    let (answer, label) = printed.split_once(": ").unwrap().1.split_once(" (it is ").unwrap();
    let answer = answer.split_once(" 0.").unwrap().0;
    let label = label.trim_end().trim_end_matches(')');
    assert!(answer != label, "{printed}");
    let caption =
        page.split("<figcaption>").find(|part| part.contains(&format!("(test image {shown})"))).unwrap();
    assert_has(caption, &[&format!(">{answer}</span>"), &format!("<b>{label}</b>")]);

    succeeded(place.train("held", &["--epochs", "1", "--hold-out", "0.3"]));
    let page = place.read("held/report.html");
    assert_has(&page, &["Answers to the images held out of training", "hold_out = 0.3"]);
    assert!(!page.contains("test image "));
}

/// A page is no reason for a run to end, and says how the run did.
#[test]
fn a_run_does_not_end_for_its_page() {
    let place = Place::of_nin();
    place.steps("run", 1, &["--epochs", "2"]);
    fs::create_dir(place.path("run/report.html")).unwrap();
    // Once, though the page is written after each epoch and at the end.
    warned(place.resume("run", &[]), &["warning: run/report.html: "]);
}

/// Files that are there and no pages stay, and what is damaged is left out.
#[test]
fn a_page_costs_nobody_his_weights() {
    let place = Place::new();
    succeeded(place.train("run", &["--epochs", "1"]));
    let weights = place.weights("run");
    let over = ["report", "run", "--html", "run/model.safetensors"];
    refused(
        place.nin(&over),
        2,
        &["html: expected the name of a page, or of nothing yet, found run/model.safetensors"],
    );
    assert!(place.weights("run") == weights);
    succeeded(place.nin(&["report", "run", "--html", "run/report.html"]));

    fs::write(place.path("run/model.safetensors"), "no weights").unwrap();
    warned(place.nin(&["report", "run"]), &["warning: run: without what it answers: "]);
    assert_has(&place.read("run/report.html"), &["epoch 1 of 1", "run/model.safetensors"]);
}

#[test]
fn runs_are_laid_side_by_side() {
    let place = Place::new();
    let lenet = ["--model", "lenet", "--epochs", "1"];
    succeeded(place.train("a", &lenet));
    succeeded(place.train("b", &[&lenet[..], &["--lr", "0.05"]].concat()));
    succeeded(place.nin(&["report", "a", "b", "--html", "pages/both.html"]));
    let page = place.read("pages/both.html");
    assert_has(&page, &["2 runs", "<td>lr</td><td class=\"number\">0.1</td><td class=\"number\">0.05</td>"]);
    succeeded(place.train("seeds", &[&lenet[..], &["--seeds", "3..5"]].concat()));
    succeeded(place.nin(&["report", "seeds"]));
    assert_has(&place.read("seeds/report.html"), &["2 runs", ">seed-3</th>", ">seed-4</th>"]);
    assert_has(&place.read("seeds/seed-4/report.html"), &["images are answered correctly"]);
    refused(place.nin(&["report", "a", "c"]), 2, &["c: "]);
    refused(place.nin(&["report", "a", "--html", "a"]), 2, &["a: "]);
    failed(place.nin(&["report"]), 2, &["<DIR>..."]);
    let mut here = place.nin(&["report", "."]);
    here.current_dir(place.path("a"));
    succeeded(here);
    assert_has(&place.read("a/report.html"), &["<h1>a</h1>"]);

    // The same images by another name are the same; others by the same name are not.
    let of_name =
        ["--dataset", "fashion-mnist-mini:data", "--image-size", "14", "--batch-size", "8", "--run-dir", "d"];
    succeeded(place.command(TRAIN, &[&of_name[..], &lenet].concat()));
    let different = |run: &str| {
        succeeded(place.nin(&["report", "a", run, "--html", "both.html"]));
        place.read("both.html").contains("judged by different images, or of different data")
    };
    assert!(!different("d"));
    let record = place.read("b/data.json");
    let mark = record.split("\"sha256\": \"").nth(1).unwrap()[..64].to_owned();
    assert!(!different("b"));
    fs::write(place.path("b/data.json"), record.replace(&mark, &"0".repeat(64))).unwrap();
    assert!(different("b"));

    // Without its images there is still a page, which says what is missing.
    fs::remove_dir_all(place.path("data")).unwrap();
    warned(place.nin(&["report", "a"]), &["warning: a: without what it answers: ", "data"]);
    assert_has(&place.read("a/report.html"), &["epoch 1 of 1", "data"]);
}
