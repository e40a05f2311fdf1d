//! The weights that a run begins with, by name.

use std::fmt;
use std::str::FromStr;

use tensor::init::Init;

use crate::names::ParseError;

/// How weights and biases are first filled.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum InitialWeights {
    /// `xavier`: [`Init::XavierUniform`], biases 0.
    Xavier,
    /// `he`: [`Init::HeNormal`], biases 0.
    He,
    /// `he-uniform`: [`Init::HeUniform`], biases 0.
    HeUniform,
    /// `data-dependent`: as `he`, then each convolution scaled and shifted for its channels to have mean 0 and deviation 1 over
    /// some training images (LSUV: Mishkin and Matas 2016).
    DataDependent,
    /// `pytorch`: [`Init::PyTorch`], biases too.
    PyTorch,
}

impl InitialWeights {
    /// Every choice.
    pub const ALL: [Self; 5] = [Self::Xavier, Self::He, Self::HeUniform, Self::DataDependent, Self::PyTorch];

    /// The first values of weights and of biases.
    #[must_use]
    pub fn weights_and_biases(self) -> (Init, Init) {
        let zero = Init::Constant(0.0);
        match self {
            Self::Xavier => (Init::XavierUniform, zero),
            Self::He | Self::DataDependent => (Init::HeNormal, zero),
            Self::HeUniform => (Init::HeUniform, zero),
            Self::PyTorch => (Init::PyTorch, Init::PyTorch),
        }
    }
}

impl fmt::Display for InitialWeights {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Xavier => "xavier",
            Self::He => "he",
            Self::HeUniform => "he-uniform",
            Self::DataDependent => "data-dependent",
            Self::PyTorch => "pytorch",
        })
    }
}

impl FromStr for InitialWeights {
    type Err = ParseError;

    /// # Errors
    /// [`ParseError::Form`] of any other name.
    fn from_str(name: &str) -> Result<Self, ParseError> {
        Self::ALL.into_iter().find(|choice| choice.to_string() == name).ok_or_else(|| ParseError::Form {
            expected: "xavier, he, he-uniform, data-dependent or pytorch",
            found: name.to_owned(),
            why: String::new(),
        })
    }
}
