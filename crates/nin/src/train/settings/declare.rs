//! The macro that settings are declared with, and what a value of one can be.
//!
//! From one declaration come a field of `Settings`, an optional field of `Overrides`, a row of `Settings::ALL` (from which a
//! command line makes a flag), the line of `config.toml`, reading it again, and the refusal of values out of bounds.

use std::path::PathBuf;

use serde::{Deserialize, Deserializer};

use crate::names::Choice;

/// A setting, as a command line needs to know it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Setting {
    /// Its name in files and in `Settings`; in a flag with hyphens.
    pub name: &'static str,
    /// What it means, for `--help`: lines of one paragraph.
    pub help: &'static [&'static str],
    /// What stands for its value in `--help`. Of a [`Kind::Switch`], its flag, which sets it to false if it begins with `no-`.
    pub value: &'static str,
    /// How its values are written.
    pub kind: Kind,
    /// The names that it can have with their meanings, if it is one of many.
    pub choices: &'static [Choice],
}

/// How the values of a setting are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A name or a short text.
    Text,
    /// A number.
    Number,
    /// A whole number of at least 0.
    Whole,
    /// True or false.
    Switch,
}

/// A value that a setting can have.
pub(super) trait Value: Sized {
    const KIND: Kind;
    const CHOICES: &'static [Choice] = &[];

    /// Reads it from the command line.
    fn parse(text: &str) -> Result<Self, String>;

    /// Reads it from a file.
    fn read<'de, D: Deserializer<'de>>(file: D) -> Result<Self, D::Error>;

    /// Writes it for a file.
    fn toml(&self) -> String;
}

macro_rules! number {
    ($($type:ty: $kind:ident, $expected:literal);+) => {
        $(impl Value for $type {
            const KIND: Kind = Kind::$kind;

            fn parse(text: &str) -> Result<Self, String> {
                text.parse().map_err(|_| format!("expected {}, found {text:?}", $expected))
            }

            fn read<'de, D: Deserializer<'de>>(file: D) -> Result<Self, D::Error> {
                Self::deserialize(file)
            }

            fn toml(&self) -> String {
                format!("{self:?}")
            }
        })+
    };
}
number!(f64: Number, "a number"; usize: Whole, "a whole number of at least 0"; u64: Whole, "a whole number of at least 0";
    bool: Switch, "true or false");

impl Value for PathBuf {
    const KIND: Kind = Kind::Text;

    fn parse(text: &str) -> Result<Self, String> {
        Ok(text.into())
    }

    fn read<'de, D: Deserializer<'de>>(file: D) -> Result<Self, D::Error> {
        Self::deserialize(file)
    }

    fn toml(&self) -> String {
        // Texts of JSON are texts of TOML, too.
        serde_json::Value::from(self.to_string_lossy()).to_string()
    }
}

/// Values that are written as `Display` and `FromStr` say, and the names that there are.
macro_rules! text {
    ($($type:ty $(= $choices:expr)?),+) => {
        $(impl $crate::train::settings::declare::Value for $type {
            const KIND: Kind = Kind::Text;
            $(const CHOICES: &'static [$crate::names::Choice] = $choices;)?

            fn parse(text: &str) -> Result<Self, String> {
                text.parse().map_err(|error: <Self as std::str::FromStr>::Err| error.to_string())
            }

            fn read<'de, D: serde::Deserializer<'de>>(file: D) -> Result<Self, D::Error> {
                let text = <String as serde::Deserialize>::deserialize(file)?;
                Self::parse(&text).map_err(serde::de::Error::custom)
            }

            fn toml(&self) -> String {
                format!("\"{self}\"")
            }
        })+
    };
}
pub(super) use text;

/// Reads a key that is there.
pub(super) fn read<'de, D: Deserializer<'de>, V: Value>(file: D) -> Result<Option<V>, D::Error> {
    V::read(file).map(Some)
}

/// Declares the settings: documentation (the help), name, what stands for a value in the help, type, `(Option)` if there may be none,
/// default, and, where not every value of the type can work, what is expected and the test of it.
macro_rules! settings {
    (@field $type:ident $option:ident) => { $option<$type> };
    (@field $type:ident) => { $type };
    ($(
        $(#[doc = $help:literal])+
        $name:ident($value:literal): $type:ident $(($option:ident))? = $default:expr $(, $expected:literal if $holds:expr)?;
    )+) => {
        /// Everything that the bits of a run depend on. The number of threads is not among it.
        ///
        /// `Settings::default()` has the chapter's recipe; [`Settings::of`] has those of every recipe.
        #[derive(Debug, Clone, PartialEq)]
        pub struct Settings {
            $($(#[doc = $help])+ pub $name: settings!(@field $type $($option)?),)+
        }

        /// Settings that replace a recipe's: from a TOML file, or from flags. Unknown keys are refused.
        #[derive(Debug, Clone, Default, PartialEq, Deserialize)]
        #[serde(deny_unknown_fields)]
        pub struct Overrides {
            $($(#[doc = $help])+
            #[serde(default, deserialize_with = "declare::read")]
            pub $name: Option<$type>,)+
        }

        impl Default for Settings {
            fn default() -> Self {
                Self { $($name: $default,)+ }
            }
        }

        impl Settings {
            /// Every setting, in the order of the declarations.
            pub const ALL: &[Setting] = &[$(Setting {
                name: stringify!($name),
                help: &[$($help),+],
                value: $value,
                kind: <$type as Value>::KIND,
                choices: <$type as Value>::CHOICES,
            },)+];

            fn apply(&mut self, overrides: &Overrides) {
                $(if let Some(given) = &overrides.$name {
                    self.$name = given.clone().into();
                })+
            }

            /// The name of the first value out of its bounds, what was expected there and what was found.
            fn out_of_bounds(&self) -> Option<(&'static str, &'static str, String)> {
                $($(let holds: fn($type) -> bool = $holds;
                if let Some(given) = Option::<&$type>::from(&self.$name)
                    && !holds(*given)
                {
                    return Some((stringify!($name), $expected, given.to_string()));
                })?)+
                None
            }

            /// The settings as TOML, as [`Overrides`] are read.
            #[must_use]
            pub fn to_toml(&self) -> String {
                let mut text = String::new();
                $(if let Some(given) = Option::<&$type>::from(&self.$name) {
                    text += &format!("{} = {}\n", stringify!($name), given.toml());
                })+
                text
            }
        }

        impl Overrides {
            /// The names of the settings that are given.
            fn names(&self) -> impl Iterator<Item = &'static str> {
                [$(self.$name.is_some().then_some(stringify!($name))),+].into_iter().flatten()
            }

            /// Sets one by its name, as it is written on a command line.
            ///
            /// # Errors
            /// A text of what was expected and found, without the name.
            pub fn set(&mut self, name: &str, text: &str) -> Result<(), String> {
                match name {
                    $(stringify!($name) => self.$name = Some(Value::parse(text)?),)+
                    _ => return Err("no setting of this name".to_owned()),
                }
                Ok(())
            }
        }
    };
}
pub(super) use settings;
