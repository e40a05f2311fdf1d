//! The page of a run, as `train` leaves it and `nin report` writes it anew.

use std::fs;

use crate::common::{Place, assert_has, failed, refused, succeeded, text};

#[test]
fn a_run_leaves_a_page() {
    let place = Place::new();
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
    assert_eq!(other, None, "written anew, it is another");
    let found: serde_json::Value = serde_json::from_str(&succeeded(place.eval("run", &["--json"]))).unwrap();
    let told = format!("{} of {} images are answered correctly", found["correct"], found["images"]);
    assert_has(&page, &[&told]);
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
    succeeded(place.resume("run", &[]));
    let page = place.read("run/report.html");
    assert_has(&page, &["epoch 3 of 3", "images are answered correctly"]);
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
    refused(place.nin(&["report", "a", "c"]), 1, &["c: "]);
    refused(place.nin(&["report", "a", "--html", "a"]), 1, &["a: "]);
    failed(place.nin(&["report"]), 2, &["<DIR>..."]);

    // Without its images there is still a page, which says what is missing.
    fs::remove_dir_all(place.path("data")).unwrap();
    let output = place.nin(&["report", "a"]).output().unwrap();
    assert!(output.status.success());
    assert_has(&text(&output.stderr), &["warning: without what it answers: ", "data"]);
    assert_has(&place.read("a/report.html"), &["epoch 1 of 1", "data"]);
}
