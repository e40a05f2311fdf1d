//! The flags of a command line, made of the declarations.

use clap::parser::ValueSource;
use clap::{Arg, ArgAction, ArgMatches};

/// A flag without a value, which sets its setting to false if it begins with `no-`, otherwise to true.
pub(super) fn switch(name: &'static str, flag: &'static str) -> Arg {
    let action = if flag.starts_with("no-") { ArgAction::SetFalse } else { ArgAction::SetTrue };
    Arg::new(name).long(flag).action(action)
}

/// A flag with a value.
pub(super) fn option(name: &'static str, value: &'static str) -> Arg {
    Arg::new(name).long(name.replace('_', "-")).value_name(value).allow_negative_numbers(true)
}

/// One paragraph of the lines of a declaration.
pub(super) fn paragraph(lines: &[&str]) -> String {
    lines.iter().map(|line| line.trim()).collect::<Vec<_>>().join(" ")
}

/// The value that a flag was given, if the command has the flag.
pub(super) fn given<T: Clone + Send + Sync + 'static>(matches: &ArgMatches, name: &str) -> Option<T> {
    let value = matches.try_get_one::<T>(name).ok()??;
    // A flag without a value has one where it is not given, too.
    (matches.value_source(name)? == ValueSource::CommandLine).then(|| value.clone())
}
