//! The sources of a command's settings: flags, environment variables, a file. Each is refused by its own name.

use std::path::Path;
use std::str::FromStr;

use tensor::conv::ConvAlgorithm;
use tensor::simd::Isa;

use nin::train::{Overrides, RunDir, Settings, TrainError};

/// The choice that an environment variable asks for; `None` where it is unset or empty.
fn variable<T: FromStr>(name: &str) -> Result<Option<T>, TrainError>
where
    T::Err: std::fmt::Display,
{
    let text = std::env::var_os(name).filter(|text| !text.is_empty());
    text.map(|text| text.to_string_lossy().parse())
        .transpose()
        .map_err(|error| TrainError::Config(format!("{name}: {error}")))
}

fn asked_by_environment() -> Result<Option<ConvAlgorithm>, TrainError> {
    variable("NIN_CONV")
}

/// Reads the environment, and has the process use the instruction set that it asks for.
///
/// # Errors
/// [`TrainError::Config`], naming the variable, what was expected and what was found.
pub(super) fn read_environment() -> Result<(), TrainError> {
    if let Some(isa) = variable::<Isa>("NIN_ISA")? {
        isa.select().map_err(|used| TrainError::Config(format!("NIN_ISA: {used} is in use already")))?;
    }
    asked_by_environment().map(drop)
}

/// The convolution algorithm that was asked for: by the flag, otherwise by the environment variable.
///
/// # Errors
/// [`TrainError::Config`], naming the variable.
pub(super) fn convolution(flag: Option<ConvAlgorithm>) -> Result<Option<ConvAlgorithm>, TrainError> {
    flag.map_or_else(asked_by_environment, |conv| Ok(Some(conv)))
}

/// [`Settings::resolve`], with the path of the file before what the file alone is to blame for.
///
/// # Errors
/// [`TrainError::Config`].
pub(super) fn resolve(
    path: Option<&Path>,
    file: &Overrides,
    flags: &Overrides,
) -> Result<Settings, TrainError> {
    Settings::resolve(file, flags).map_err(|error| match path {
        Some(path) if Settings::resolve(&Overrides::default(), flags).is_ok() => TrainError::of(path, error),
        _ => error,
    })
}

/// The settings of the run in a folder, with flags that win over its file.
///
/// # Errors
/// [`TrainError`] if there is no run, its file cannot be read or a value cannot work, or it names no network: a run that has
/// a part of another program, be it a loss, is that program's.
pub(super) fn of_run(folder: &Path, flags: &Overrides) -> Result<Settings, TrainError> {
    RunDir::check(folder)?;
    let path = folder.join("config.toml");
    let file = Overrides::from_toml(&path)?;
    if file.model.is_none() {
        let what = match file.names().next() {
            Some(_) => "no model: a run with a part of a program's own, which alone can go on with it",
            None => "no settings in this file, expected those of the run",
        };
        return Err(TrainError::of(&path, what));
    }
    resolve(Some(&path), &file, flags)
}

#[cfg(test)]
mod tests {
    use nin::data::{ArrayDataset, Splits};
    use nin::loss::Mse;
    use nin::models::Model;
    use nin::train::{Recipe, Trainer};

    use super::*;

    /// The settings that are left out would be the recipe's again.
    #[test]
    fn a_run_with_a_part_of_a_programs_own_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let set =
            || ArrayDataset::named("toy", &["a", "b"], [1, 28, 28], vec![7u8; 4 * 784], vec![0, 1, 0, 1]);
        let settings = Settings { lr: 0.25, ..Settings::for_model(Recipe::Default, Model::LeNet) };
        let splits = Splits { train: set().unwrap(), test: set().unwrap() };
        let trainer = Trainer::new(settings.clone(), splits.into(), 1).unwrap();
        let of = |toml: String| {
            std::fs::write(folder.path().join("config.toml"), toml).unwrap();
            of_run(folder.path(), &Overrides::default()).map_err(|error| error.to_string())
        };
        assert_eq!(of(trainer.to_toml()), Ok(settings));
        let error = of(String::new()).unwrap_err();
        assert!(
            error.ends_with("config.toml: no settings in this file, expected those of the run"),
            "{error}"
        );
        let error = of(trainer.with_loss(Mse).unwrap().to_toml()).unwrap_err();
        assert!(
            error.ends_with("no model: a run with a part of a program's own, which alone can go on with it"),
            "{error}"
        );
    }

    #[test]
    fn a_file_is_named_for_its_own_settings_only() {
        let path = Path::new("run.toml");
        let (file, flags) = (
            Overrides { lr: Some(-1.0), ..Overrides::default() },
            Overrides { momentum: Some(2.0), ..Overrides::default() },
        );
        let error = resolve(Some(path), &file, &Overrides::default()).unwrap_err().to_string();
        assert_eq!(error, "run.toml: lr: expected a finite number of at least 0, found -1");
        let error = resolve(Some(path), &Overrides::default(), &flags).unwrap_err().to_string();
        assert_eq!(error, "momentum: expected at least 0 and below 1, found 2");
    }
}
