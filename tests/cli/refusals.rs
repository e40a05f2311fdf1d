//! What the tests of whole commands share: a folder to work in, and what a refusal looks like.

use std::path::{Path, PathBuf};
use std::process::Output;

use assert_cmd::Command;
use tempfile::TempDir;

use crate::common::{small_train, write_dataset};

pub(crate) fn nin() -> Command {
    Command::new(env!("CARGO_BIN_EXE_nin"))
}

/// A folder with the small data set in `data`.
pub(crate) fn folder_with_data() -> (TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    write_dataset(&data);
    (folder, data)
}

pub(crate) fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

/// Asserts that the command was refused with this exit code and one line that has all of `parts` in it.
pub(crate) fn assert_refused(output: &Output, code: i32, parts: &[&str]) {
    let stderr = text(&output.stderr);
    assert_eq!(output.status.code(), Some(code), "{stderr}");
    assert_eq!(stderr.lines().count(), 1, "one line: {stderr}");
    assert!(stderr.starts_with("error: ") && !stderr.contains("panicked"), "{stderr}");
    for part in parts {
        assert!(stderr.contains(part), "no {part:?} in: {stderr}");
    }
}

pub(crate) fn assert_refused_nothing(output: &Output) {
    assert!(output.status.success(), "{}", text(&output.stderr));
    assert!(!text(&output.stderr).contains("error"), "{}", text(&output.stderr));
}

/// Makes a run of two steps and returns its folder.
pub(crate) fn two_steps(folder: &Path, data: &Path) -> PathBuf {
    let run = folder.join("run");
    small_train(data, &[]).args(["--max-steps", "2", "--run-dir"]).arg(&run).assert().success();
    run
}
