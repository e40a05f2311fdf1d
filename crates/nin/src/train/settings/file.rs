//! Reading settings from TOML files.

use std::io::Read;
use std::path::Path;

use super::Overrides;
use crate::disk;
use crate::train::TrainError;

impl Overrides {
    /// Reads a TOML file (with the feature `toml`).
    ///
    /// # Errors
    /// [`TrainError::File`] if it cannot be read, [`TrainError::Config`] with path, line and key if it is longer than any
    /// settings are (1 MiB), is not TOML, has a key that is none of these, or a value of the wrong type.
    pub fn from_toml(path: &Path) -> Result<Self, TrainError> {
        let mut text = String::new();
        let read = disk::open(path)?.take(LONGEST + 1).read_to_string(&mut text);
        read.map_err(TrainError::io(path, "read the configuration"))?;
        if text.len() as u64 > LONGEST {
            return Err(TrainError::of(path, format!("no settings: longer than {LONGEST} bytes")));
        }
        Self::from_text(&text, path)
    }

    /// Reads settings from TOML (with the feature `toml`). `source` is the name that errors carry.
    ///
    /// # Errors
    /// As [`Overrides::from_toml`].
    pub fn from_text(text: &str, source: &Path) -> Result<Self, TrainError> {
        toml::from_str(text).map_err(|error| TrainError::of(source, one_line(&error.to_string())))
    }
}

/// The most bytes of a file of settings.
const LONGEST: u64 = 1 << 20;

/// TOML's errors are a small picture over several lines; a command's error is one line.
fn one_line(text: &str) -> String {
    let lines: Vec<&str> =
        text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('|')).collect();
    let mut line = lines.join(": ");
    for (rust, plain) in
        [("f64", "a number"), ("usize", WHOLE), ("u64", WHOLE), ("a boolean", "true or false")]
    {
        if let Some(start) = line.strip_suffix(&format!("expected {rust}")) {
            line = format!("{start}expected {plain}");
        }
    }
    line
}

const WHOLE: &str = "a whole number of at least 0";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::place;

    #[test]
    fn types_of_values_are_said_in_plain_words() {
        let (_folder, path) = place("run.toml");
        for (line, expected) in [
            ("lr = \"fast\"", "expected a number"),
            ("batch_size = -1", "expected a whole number of at least 0"),
            ("epochs = 1.5", "expected a whole number of at least 0"),
            ("shuffle = 1", "expected true or false"),
        ] {
            std::fs::write(&path, line).unwrap();
            let error = Overrides::from_toml(&path).unwrap_err().to_string();
            assert!(error.contains(line) && error.ends_with(expected), "{error}");
        }
    }
}
