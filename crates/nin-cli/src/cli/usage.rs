//! Arguments that make no sense, told in one line as every other error is.

use std::num::{IntErrorKind, ParseFloatError, ParseIntError};
use std::process::ExitCode;

use clap::error::{ContextKind, ContextValue, Error, ErrorKind};
use clap::{ColorChoice, Parser};

use super::progress::dumb_terminal;
use super::settings::read_environment;
use super::{fail, log, printed};

/// The arguments of this process, in an environment that can be; or the exit code to end with, after the help, the version or
/// what is wrong was printed.
///
/// # Errors
/// 0 after `--help` and `--version`, 1 if they could not be printed, 2 after one line on standard error that says what is wrong
/// and where to read on.
pub(super) fn parse<A: Parser>() -> Result<A, ExitCode> {
    // Left to itself, help has colors wherever a variable `CI` is set, on a terminal that has none, too.
    let color = if dumb_terminal() { ColorChoice::Never } else { ColorChoice::Auto };
    let mut command = A::command().color(color);
    let matches = command.try_get_matches_from_mut(std::env::args_os());
    let arguments =
        matches.and_then(|matches| A::from_arg_matches(&matches).map_err(|error| error.format(&mut command)));
    let arguments = arguments.map_err(|error| match error.kind() {
        ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => {
            printed(error.print()).map_or_else(|error| fail(&error), |()| ExitCode::SUCCESS)
        }
        _ => {
            let words = std::env::args_os().map(|word| word.to_string_lossy().into_owned());
            log(&format!("error: {}", one_line(&A::command(), words, &error)));
            ExitCode::from(2)
        }
    })?;
    read_environment().map_err(|error| fail(&error))?;
    Ok(arguments)
}

/// The error of these words and where help is, without line breaks.
fn one_line(command: &clap::Command, words: impl Iterator<Item = String>, error: &Error) -> String {
    let what = match error.kind() {
        ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand | ErrorKind::MissingSubcommand => {
            let all: Vec<&str> = command.get_subcommands().map(clap::Command::get_name).collect();
            format!("expected a command ({}), found none", all.join(", "))
        }
        ErrorKind::ValueValidation => bad_value(error).unwrap_or_else(|| unwrapped(error)),
        ErrorKind::InvalidValue => no_choice(error).unwrap_or_else(|| unwrapped(error)),
        _ => unwrapped(error),
    };
    format!("{what} (try {} --help)", asked_command(command, words))
}

/// The command, or the command below it, that the words after the program's name were given to.
fn asked_command(command: &clap::Command, words: impl Iterator<Item = String>) -> String {
    let (mut asked, mut name) = (command, command.get_name().to_owned());
    for word in words.skip(1) {
        if let Some(below) = asked.find_subcommand(&word) {
            (asked, name) = (below, format!("{name} {word}"));
        } else if !word.starts_with('-') {
            break;
        }
    }
    name
}

/// `--head <NAME>: expected gap, fc or fc-dropout, found "mlp"`, of a value that is none of a flag's choices.
fn no_choice(error: &Error) -> Option<String> {
    let Some(ContextValue::Strings(choices)) = error.get(ContextKind::ValidValue) else { return None };
    let Some(ContextValue::String(flag)) = error.get(ContextKind::InvalidArg) else { return None };
    let found = match error.get(ContextKind::InvalidValue) {
        Some(ContextValue::String(found)) if !found.is_empty() => format!("{found:?}"),
        _ => "nothing".to_owned(),
    };
    let (last, others) = choices.split_last()?;
    let expected = if others.is_empty() { last.clone() } else { format!("{} or {last}", others.join(", ")) };
    Some(format!("{flag}: expected {expected}, found {found}"))
}

/// `--lr <RATE>: expected a number, found "fast"`.
fn bad_value(error: &Error) -> Option<String> {
    let text = |kind| match error.get(kind) {
        Some(ContextValue::String(text)) => Some(text),
        _ => None,
    };
    let (flag, found) = (text(ContextKind::InvalidArg)?, text(ContextKind::InvalidValue)?);
    let source = std::error::Error::source(error)?;
    let text = source.to_string();
    let expected = match source.downcast_ref::<ParseIntError>().map(ParseIntError::kind) {
        Some(IntErrorKind::PosOverflow) => "a smaller whole number",
        Some(_) => "a whole number of at least 0",
        None if source.is::<ParseFloatError>() => "a number",
        None => match text.split_once(" is not in ") {
            Some((_, range)) => range,
            // The texts of names and forms say what is expected and what was found.
            None => return Some(format!("{flag}: {text}")),
        },
    };
    Some(format!("{flag}: expected {expected}, found {found:?}"))
}

/// The parser's own words up to its usage, its lines joined.
fn unwrapped(error: &Error) -> String {
    let text = error.render().to_string();
    let lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
    let mut joined = String::new();
    for line in
        lines.take_while(|line| !line.starts_with("Usage:") && !line.starts_with("For more information"))
    {
        let line = line.strip_prefix("error: ").unwrap_or(line);
        if !joined.is_empty() {
            joined += match line {
                _ if joined.ends_with(':') => " ",
                tip if tip.starts_with("tip: ") => "; ",
                _ => ", ",
            };
        }
        joined += line;
    }
    joined
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;
    use crate::cli::train::TrainArgs;

    fn refused(arguments: &[&str]) -> String {
        let words: Vec<String> = ["train"].iter().chain(arguments).map(|&word| word.to_owned()).collect();
        let error = TrainArgs::try_parse_from(&words).unwrap_err();
        one_line(&TrainArgs::command(), words.into_iter(), &error)
    }

    #[test]
    fn every_kind_is_one_line() {
        for (arguments, expected) in [
            (
                &["--learning-rate", "1"] as &[&str],
                "unexpected argument '--learning-rate' found; tip: a similar argument exists: '--lr'",
            ),
            (&["--epochs", "many"], "--epochs <N>: expected a whole number of at least 0, found \"many\""),
            (&["--epochs", "-1"], "--epochs <N>: expected a whole number of at least 0, found \"-1\""),
            (
                &["--seed", "18446744073709551616"],
                "--seed <N>: expected a smaller whole number, found \"18446744073709551616\"",
            ),
            (&["--lr", "fast"], "--lr <RATE>: expected a number, found \"fast\""),
            (
                &["--schedule", "linear"],
                "--schedule <NAME>: expected constant, cosine, one-cycle, one-cycle:RISE or step:EPOCHS:FACTOR, found \"linear\"",
            ),
            (&["--head", "mlp"], "--head <NAME>: expected gap, fc or fc-dropout, found \"mlp\""),
            (&["--head", ""], "--head <NAME>: expected gap, fc or fc-dropout, found nothing"),
            (&["--lr"], "a value is required for '--lr <RATE>' but none was supplied"),
            (&["runs/nin"], "unexpected argument 'runs/nin' found"),
            (
                &["--resume", "a", "--model", "nin", "--lr", "1"],
                "the argument '--resume <DIR>' cannot be used with: --model <NAME>, --lr <RATE>",
            ),
        ] {
            assert_eq!(refused(arguments), format!("{expected} (try train --help)"));
        }
    }
}
