//! Choices that are asked for by name, and the error of a text that says nothing.

use thiserror::Error;

/// A text that names no choice, or is not written as its setting is: what was found, and what is expected.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("{0}")]
pub struct ParseError(String);

impl ParseError {
    /// A text of another form than `expected`; `why` says more about it, in brackets after a space, or nothing.
    pub(crate) fn form(expected: &str, found: &str, why: &str) -> Self {
        Self(format!("expected {expected}, found {found:?}{why}"))
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

#[cfg(test)]
mod tests {
    use crate::data::DatasetKind;
    use crate::models::{Head, Model};
    use crate::train::Recipe;

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
}
