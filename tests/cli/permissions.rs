//! Files and folders that a command may not look at.
#![cfg(unix)]

use std::fs;
use std::os::unix::fs::PermissionsExt;

use crate::common::{NIN, Place, TRAIN, copy, failed, succeeded};

/// A path through a file, or one that is too long, cannot be looked at, as one without permission: it is not called missing.
#[test]
fn what_cannot_be_looked_at_is_not_called_missing() {
    let place = Place::new();
    fs::write(place.path("file"), "").unwrap();
    let long = "n".repeat(300);
    for (path, why) in [("file/below", "ot a directory"), (&*long, "ame too long")] {
        // Data, the folders of runs, weights.
        for dataset in ["fashion-mnist-mini", "fashion-mnist", "kmnist", "mnist"] {
            let command = place.train("run", &["--dataset", dataset, "--data-dir", path, "--max-steps", "1"]);
            failed(command, 2, &[path, "cannot look at", why]);
        }
        failed(place.nin(&["plot", path]), 2, &[path, "cannot look at", why]);
        failed(place.nin(&["inspect", path]), 2, &[path, "cannot look at", why]);
    }
    // The cache.
    let mut command = place.command(TRAIN, &["--dataset", "fashion-mnist", "--run-dir", "run"]);
    command.env("NIN_CACHE_DIR", "file").env("NIN_FASHION_MNIST_URL", "http://127.0.0.1:9");
    failed(command, 2, &["file/fashion-mnist/", "cannot look at", "ot a directory"]);
    // A seed's folder among others.
    succeeded(place.train("seeds", &["--epochs", "1", "--seeds", "0..1"]));
    fs::write(place.path("seeds/seed-7"), "no folder").unwrap();
    succeeded(place.nin(&["plot", "seeds"]));
}

/// The permission itself, for a user whom it binds.
#[cfg(target_os = "linux")]
#[test]
fn a_missing_permission_is_called_one() {
    let place = Place::new();
    succeeded(place.train("locked/run", &["--epochs", "1"]));
    copy(&place.path("locked/run"), &place.path("run"));
    fs::rename(place.path("data"), place.path("locked/data")).unwrap();
    let open = |mode| fs::set_permissions(place.path("locked"), PermissionsExt::from_mode(mode)).unwrap();
    let all = |mode| fs::set_permissions(place.path(""), PermissionsExt::from_mode(mode)).unwrap();
    all(0o777);
    open(0o000);
    // As root nothing is refused: as somebody else, where there is a way to be.
    let asked = "test ! -r locked || set -- setpriv --reuid=65534 --regid=65534 --clear-groups \"$@\"";
    let command = |program: &str, arguments: &[&str]| place.after(asked, program, arguments);
    if command(NIN, &["--version"]).output().unwrap().status.success() {
        let denied = "ermission denied";
        failed(command(NIN, &["plot", "locked/run"]), 1, &["locked/run", denied]);
        failed(command(NIN, &["inspect", "locked/run"]), 1, &["locked/run", denied]);
        for dataset in ["fashion-mnist-mini", "fashion-mnist"] {
            let arguments = ["--dataset", dataset, "--data-dir", "locked/data", "--run-dir", "new"];
            failed(command(TRAIN, &arguments), 1, &["locked/data", denied]);
        }
        failed(command(NIN, &["plot", "run", "--picture", "locked/out"]), 1, &["locked/out", denied]);
        failed(command(NIN, &["compare", "lenet", "--output", "locked/out"]), 1, &["locked/out", denied]);
    } else {
        eprintln!("not tested: there is no way to be a user without permissions");
    }
    open(0o755);
}
