//! A flag for each setting of a run, made of its declaration: name, help and how its values are written.

use std::ffi::OsStr;

use clap::{Arg, ArgAction, ArgMatches, Args, Command, Error, FromArgMatches, value_parser};
use nin::names::Choice;
use nin::train::{Kind, Overrides, Setting, Settings, TrainError};

/// The settings that flags were given for, as they were written. `OF_A_START` leaves the flags that what is seen at a recipe's
/// start depends on.
#[derive(Debug)]
pub struct SettingFlags<const OF_A_START: bool = false>(Vec<(&'static Setting, String)>);

impl<const OF_A_START: bool> SettingFlags<OF_A_START> {
    fn all() -> impl Iterator<Item = &'static Setting> {
        let of_a_start = ["model", "image_size", "init", "head_scale", "head_bias", "dataset"];
        Settings::ALL.iter().filter(move |setting| !OF_A_START || of_a_start.contains(&setting.name))
    }

    /// The names of the settings that were given.
    pub fn names(&self) -> impl Iterator<Item = &'static str> {
        self.0.iter().map(|(setting, _)| setting.name)
    }

    /// What was given.
    ///
    /// # Errors
    /// [`TrainError::Config`], naming the flag, what was expected and what was found.
    pub fn overrides(&self) -> Result<Overrides, TrainError> {
        let mut overrides = Overrides::default();
        for (setting, text) in &self.0 {
            let refuse = |error| TrainError::Config(format!("--{}: {error}", flag(setting)));
            overrides.set(setting.name, text).map_err(refuse)?;
        }
        Ok(overrides)
    }
}

/// The name of a setting's flag.
fn flag(setting: &Setting) -> String {
    if setting.kind == Kind::Switch { setting.value.to_owned() } else { setting.name.replace('_', "-") }
}

/// One paragraph of the lines of a declaration.
fn paragraph(lines: &[&str]) -> String {
    lines.iter().map(|line| line.trim()).collect::<Vec<_>>().join(" ")
}

/// What a setting is, and a line for each name that it can have.
pub(super) fn help(what: &[&str], choices: &[Choice]) -> String {
    let names = choices.iter().map(|(name, about)| format!("\n  {name}: {}", paragraph(about)));
    names.fold(paragraph(what), |help, name| help + &name)
}

fn argument(setting: &'static Setting) -> Arg {
    let argument = Arg::new(setting.name).long(flag(setting)).help(help(setting.help, setting.choices));
    match setting.kind {
        Kind::Switch => argument.action(ArgAction::SetTrue),
        Kind::Text => argument.value_name(setting.value),
        Kind::Number => {
            argument.value_name(setting.value).allow_negative_numbers(true).value_parser(value_parser!(f64))
        }
        Kind::Whole => {
            argument.value_name(setting.value).allow_negative_numbers(true).value_parser(value_parser!(u64))
        }
    }
}

impl<const OF_A_START: bool> Args for SettingFlags<OF_A_START> {
    fn augment_args(command: Command) -> Command {
        command.args(Self::all().map(argument))
    }

    fn augment_args_for_update(command: Command) -> Command {
        Self::augment_args(command)
    }
}

impl<const OF_A_START: bool> FromArgMatches for SettingFlags<OF_A_START> {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, Error> {
        let given = Self::all().filter_map(|setting| {
            let text = match setting.kind {
                Kind::Switch => matches.get_flag(setting.name).then(|| {
                    let value = !setting.value.starts_with("no-");
                    value.to_string()
                })?,
                _ => matches.get_raw(setting.name)?.next_back().map(OsStr::to_string_lossy)?.into_owned(),
            };
            Some((setting, text))
        });
        Ok(Self(given.collect()))
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), Error> {
        *self = Self::from_arg_matches(matches)?;
        Ok(())
    }
}
