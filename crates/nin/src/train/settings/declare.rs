//! The macro that settings are declared with, and what a value of one can be.
//!
//! From one declaration come a field of `Settings`, an optional field of `Overrides`, its flag (with the feature `clap`), the
//! line of `config.toml`, reading it again, and the refusal of values out of bounds.

use std::path::PathBuf;

use serde::{Deserialize, Deserializer};

use crate::data::HoldOut;

/// A value that a setting can have.
pub(super) trait Value: Sized {
    /// Reads it from a file.
    fn read<'de, D: Deserializer<'de>>(file: D) -> Result<Self, D::Error>;

    /// Writes it for a file.
    fn toml(&self) -> String;
}

macro_rules! plain {
    ($($type:ty),+) => {
        $(impl Value for $type {
            fn read<'de, D: Deserializer<'de>>(file: D) -> Result<Self, D::Error> {
                Self::deserialize(file)
            }

            fn toml(&self) -> String {
                format!("{self:?}")
            }
        })+
    };
}
plain!(f64, usize, u64, bool);

impl Value for PathBuf {
    fn read<'de, D: Deserializer<'de>>(file: D) -> Result<Self, D::Error> {
        Self::deserialize(file)
    }

    fn toml(&self) -> String {
        serde_json::Value::from(self.to_string_lossy()).to_string()
    }
}

impl Value for HoldOut {
    /// A whole number of images, or a share.
    fn read<'de, D: Deserializer<'de>>(file: D) -> Result<Self, D::Error> {
        let number = f64::deserialize(file)?;
        number.to_string().parse().map_err(serde::de::Error::custom)
    }

    fn toml(&self) -> String {
        self.to_string()
    }
}

/// Values that are written as `Display` and `FromStr` say.
macro_rules! text {
    ($($type:ty),+) => {
        $(impl $crate::train::settings::declare::Value for $type {
            fn read<'de, D: serde::Deserializer<'de>>(file: D) -> Result<Self, D::Error> {
                let text = <String as serde::Deserialize>::deserialize(file)?;
                text.parse().map_err(serde::de::Error::custom)
            }

            fn toml(&self) -> String {
                // Texts of JSON are texts of TOML, too.
                serde_json::Value::from(self.to_string()).to_string()
            }
        })+
    };
}
pub(super) use text;

/// Reads a key that is there.
pub(super) fn read<'de, D: Deserializer<'de>, V: Value>(file: D) -> Result<Option<V>, D::Error> {
    V::read(file).map(Some)
}

/// Declares the settings: documentation (the help), name, what stands for a value in the help, type, `(Option)` if there may be
/// none, default, and, where not every value of the type can work, its [`Bounds`](crate::optim::Bounds). Of a `bool`, its flag
/// stands in the place of the value; it sets it to false if it begins with `no-`. Beside it stands what the setting is
/// [about](super::About), if that is a part of the run that a program may replace, or the command.
macro_rules! settings {
    (@flag $name:ident bool $flag:literal) => { flags::switch(stringify!($name), $flag) };
    (@flag $name:ident $type:ident $value:literal) => {
        flags::option(stringify!($name), $value).value_parser(clap::value_parser!($type))
    };
    (@field $type:ident $option:ident) => { $option<$type> };
    (@field $type:ident) => { $type };
    (@end [Command Option] $place:expr) => { $place = None };
    (@end [$($other:ident)*] $place:expr) => {};
    ($(
        $(#[doc = $help:literal])+
        $name:ident($value:literal $(, $about:ident)?): $type:ident $(($option:ident))? = $default:expr $(, $bounds:expr)?;
    )+) => {
        /// Everything that the bits of a run depend on, and when it saves and stops. The number of threads is not among it.
        ///
        /// `Settings::default()` has the recipe [`Recipe::Default`]; [`Settings::of`] has those of every recipe.
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

        impl Settings {
            /// The settings as they are declared.
            fn declared() -> Self {
                Self { $($name: $default,)+ }
            }

            fn apply(&mut self, overrides: &Overrides) {
                $(if let Some(given) = &overrides.$name {
                    self.$name = given.clone().into();
                })+
            }

            /// The same run under the limits of another command; how often it saves stays unless that command says so.
            #[must_use]
            pub fn under(mut self, command: &Overrides) -> Self {
                $(settings!(@end [$($about)? $($option)?] self.$name);)+
                self.apply(&command.of_a_command());
                self
            }

            /// The name of the first value out of its bounds, what was expected there and what was found.
            fn out_of_bounds(&self) -> Option<(&'static str, &'static str, String)> {
                $($(let (expected, holds): $crate::optim::Bounds<$type> = $bounds;
                if let Some(given) = Option::<&$type>::from(&self.$name)
                    && !holds(*given)
                {
                    return Some((stringify!($name), expected, given.to_string()));
                })?)+
                None
            }

            /// The value of a setting as TOML has it; `None` where there is none.
            pub(in crate::train) fn value(&self, name: &str) -> Option<String> {
                match name {
                    $(stringify!($name) => Option::<&$type>::from(&self.$name).map(Value::toml),)+
                    _ => None,
                }
            }

            /// The settings as TOML, as [`Overrides`] are read.
            #[must_use]
            pub fn to_toml(&self) -> String {
                self.to_toml_without(&[])
            }

            /// [`Settings::to_toml`] without some of the settings.
            pub(in crate::train) fn to_toml_without(&self, left_out: &[&str]) -> String {
                let names = [$(stringify!($name)),+].into_iter().filter(|name| !left_out.contains(name));
                names.filter_map(|name| Some(format!("{name} = {}\n", self.value(name)?))).collect()
            }
        }

        /// The settings that are about a part of the run, or about the command.
        const ABOUT: &[(&str, About)] = &[$($((stringify!($name), About::$about),)?)+];

        impl Overrides {
            /// Those that are a command's ([`is_of_a_command`]) alone.
            #[must_use]
            pub fn of_a_command(&self) -> Self {
                Self { $($name: self.$name.clone().filter(|_| is_of_a_command(stringify!($name))),)+ }
            }

            /// The names of the settings that are given.
            pub fn names(&self) -> impl Iterator<Item = &'static str> {
                [$(self.$name.is_some().then_some(stringify!($name))),+].into_iter().flatten()
            }
        }

        #[cfg(feature = "clap")]
        impl clap::Args for Overrides {
            fn augment_args(command: clap::Command) -> clap::Command {
                command.args([$(settings!(@flag $name $type $value).help(flags::paragraph(&[$($help),+]))),+])
            }

            fn augment_args_for_update(command: clap::Command) -> clap::Command {
                Self::augment_args(command)
            }
        }

        #[cfg(feature = "clap")]
        impl clap::FromArgMatches for Overrides {
            /// Of a command that has some of the flags, those.
            fn from_arg_matches(matches: &clap::ArgMatches) -> Result<Self, clap::Error> {
                Ok(Self { $($name: flags::given(matches, stringify!($name)),)+ })
            }

            fn update_from_arg_matches(&mut self, matches: &clap::ArgMatches) -> Result<(), clap::Error> {
                *self = Self::from_arg_matches(matches)?;
                Ok(())
            }
        }
    };
}
pub(super) use settings;
