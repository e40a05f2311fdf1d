//! Choices that are asked for by name, the error of a text that says nothing, and paths as words of a command.

use std::path::Path;

use thiserror::Error;

/// A text that names no choice, or is not written as its setting is: what was found, and what is expected.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("{0}")]
pub struct ParseError(String);

impl ParseError {
    /// A text of another form than `expected`.
    pub(crate) fn form(expected: &str, found: &str) -> Self {
        Self(format!("expected {expected}, found {found:?}"))
    }

    /// The same with a reason.
    pub(crate) fn since(self, why: &str) -> Self {
        Self(format!("{self} ({why})"))
    }

    /// A name that is none of the choices. `what` was to be named, such as a network.
    pub(crate) fn unknown(what: &str, found: &str, known: &[&str]) -> Self {
        Self(format!("no {what} {found:?}; there are: {}", known.join(", ")))
    }
}

/// Declares choices and their names, after what one of them is called in an error. The second form begins with a method, which
/// answers for each choice what stands beside its name. The documentation of a choice is its line in the help of a command.
macro_rules! choices {
    ($(#[$about:meta])* $what:literal enum $choice:ident { $($(#[$of_one:meta])* $one:ident = $name:literal,)+ }) => {
        $(#[$about])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        #[cfg_attr(feature = "clap", derive(clap::ValueEnum))]
        pub enum $choice {
            $($(#[$of_one])* #[cfg_attr(feature = "clap", value(name = $name))] $one,)+
        }

        impl $choice {
            /// Every choice.
            pub const ALL: [Self; [$($name),+].len()] = [$(Self::$one),+];

            /// The name by which it is asked for, on a command line and in files.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self {
                    $(Self::$one => $name,)+
                }
            }
        }

        impl std::fmt::Display for $choice {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.pad(self.name())
            }
        }

        impl std::str::FromStr for $choice {
            type Err = $crate::names::ParseError;

            /// # Errors
            /// [`ParseError`](crate::names::ParseError), with the names that there are.
            fn from_str(name: &str) -> Result<Self, Self::Err> {
                let found = Self::ALL.into_iter().find(|choice| choice.name() == name);
                found.ok_or_else(|| $crate::names::ParseError::unknown($what, name, &Self::ALL.map(Self::name)))
            }
        }
    };
    ($(#[$about:meta])* $what:literal enum $choice:ident {
        $(#[$of_method:meta])*
        $view:vis fn $method:ident $(<$T:ident: $bound:path>)? ($($argument:ident: $type:ty),*) -> $answer:ty;

        $($(#[$of_one:meta])+ $one:ident = $name:literal => $value:expr,)+
    }) => {
        $crate::names::choices! {
            $(#[$about])* $what enum $choice { $($(#[$of_one])+ $one = $name,)+ }
        }

        impl $choice {
            $(#[$of_method])*
            $view fn $method $(<$T: $bound>)? (self $(, $argument: $type)*) -> $answer {
                match self {
                    $(Self::$one => $value,)+
                }
            }
        }
    };
}
pub(crate) use choices;

/// A number and what there are so many of: `1 epoch`, `2 epochs`, `3 classes`.
#[must_use]
pub fn count_of(number: impl Into<u128>, one: &str) -> String {
    match number.into() {
        1 => format!("1 {one}"),
        number if one.ends_with('s') => format!("{number} {one}es"),
        number => format!("{number} {one}s"),
    }
}

/// A path as one word of a command that is shown to be typed: bare where every shell takes it so, otherwise in single quotes.
/// What has control characters, or bytes that are no text, is written as `$'...'`, which POSIX has since 2024 and common shells
/// before.
#[must_use]
pub fn quoted(path: &Path) -> String {
    let bytes = path.as_os_str().as_encoded_bytes();
    // What begins so would be a flag.
    let here = if bytes.starts_with(b"-") { "./" } else { "" };
    let bare = |c: char| c.is_alphanumeric() || "/._-+,:@".contains(c) || (cfg!(windows) && c == '\\');
    match std::str::from_utf8(bytes) {
        Ok(text) if !text.is_empty() && text.chars().all(bare) => format!("{here}{text}"),
        Ok(text) if !text.chars().any(unprintable) => format!("'{here}{}'", text.replace('\'', r"'\''")),
        _ => {
            let mut word = format!("$'{here}");
            for chunk in bytes.utf8_chunks() {
                for c in chunk.valid().chars() {
                    match c {
                        '\'' | '\\' => word.extend(['\\', c]),
                        _ if unprintable(c) => word += &octal(c.encode_utf8(&mut [0; 4]).as_bytes()),
                        _ => word.push(c),
                    }
                }
                word += &octal(chunk.invalid());
            }
            word + "'"
        }
    }
}

fn octal(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("\\{byte:03o}")).collect()
}

/// Text for one line of a terminal or a place in a picture: what is [`unprintable`] as Rust writes it, such as `\n` and `\u{1b}`.
#[must_use]
pub fn shown(text: &str) -> String {
    let mut line = String::with_capacity(text.len());
    for c in text.chars() {
        if unprintable(c) { line.extend(c.escape_default()) } else { line.push(c) }
    }
    line
}

/// Tells characters that a terminal obeys instead of showing them, or that XML has none of: control characters, those that turn
/// the direction of text or break a line, and two that are no characters.
#[must_use]
pub fn unprintable(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{fffe}' | '\u{ffff}')
        || matches!(c, '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{200e}' | '\u{200f}' | '\u{61c}')
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::{count_of, quoted, shown};
    use crate::data::DatasetKind;
    use crate::models::{Head, Model};
    use crate::train::Recipe;

    #[test]
    fn numbers_agree_with_what_they_count() {
        let found = [0u64, 1, 2].map(|number| [count_of(number, "epoch"), count_of(number, "named class")]);
        assert_eq!(
            found.concat(),
            ["0 epochs", "0 named classes", "1 epoch", "1 named class", "2 epochs", "2 named classes"]
        );
    }

    #[test]
    fn names_are_read_and_others_list_those_that_exist() {
        assert!(Model::ALL.iter().all(|model| model.name().parse::<Model>() == Ok(*model)));
        assert!(Head::ALL.iter().all(|head| head.name().parse::<Head>() == Ok(*head)));
        assert!(Recipe::ALL.iter().all(|recipe| recipe.name().parse::<Recipe>() == Ok(*recipe)));
        assert!(DatasetKind::ALL.iter().all(|kind| kind.name().parse::<DatasetKind>() == Ok(*kind)));
        let known = Model::ALL.map(Model::name).join(", ");
        assert_eq!(
            "resnet".parse::<Model>().unwrap_err().to_string(),
            format!("no network \"resnet\"; there are: {known}")
        );
    }

    #[test]
    fn a_path_is_one_word_of_a_command() {
        for (path, word) in [
            ("runs/nin-2.x_3", "runs/nin-2.x_3"),
            ("runs/L\u{e4}ufe", "runs/L\u{e4}ufe"),
            ("my run", "'my run'"),
            ("", "''"),
            ("it's", r"'it'\''s'"),
            ("~/a$b*;&", "'~/a$b*;&'"),
            ("-r", "./-r"),
            ("-r x", "'./-r x'"),
            ("a\u{1b}[2J\n'\\", r"$'a\033[2J\012\'\\'"),
            ("a\u{9b}\u{202e}", r"$'a\302\233\342\200\256'"),
        ] {
            assert_eq!(quoted(Path::new(path)), word, "{path:?}");
        }
    }

    #[test]
    fn what_a_terminal_would_obey_is_shown() {
        assert_eq!(shown("L\u{e4}ufe/\u{1b}[2J\n\\"), "L\u{e4}ufe/\\u{1b}[2J\\n\\");
        assert_eq!(shown("\u{7f}\u{9b}\u{202e}\u{ffff}"), r"\u{7f}\u{9b}\u{202e}\u{ffff}");
    }

    #[cfg(unix)]
    #[test]
    fn a_shell_reads_the_bytes_of_a_path_back() {
        use std::ffi::OsStr;
        use std::os::unix::ffi::OsStrExt;

        let every: Vec<u8> = (1..=255).collect();
        for bytes in [&every[..], b"a b", b"'", b"\xff", "\u{9b}\\".as_bytes()] {
            let command = format!("printf %s {}", quoted(Path::new(OsStr::from_bytes(bytes))));
            // Without a shell that knows $'...' there is nothing to ask.
            let Ok(output) = std::process::Command::new("bash").args(["-c", &command]).output() else {
                return;
            };
            assert_eq!(output.stdout, bytes, "{command:?}");
        }
    }
}
