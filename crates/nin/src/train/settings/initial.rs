//! The weights that a run begins with, by name.

use std::str::FromStr;

use tensor::init::Init;

use crate::names::{ParseError, choices};

choices! {
    /// How weights and biases are first filled.
    enum InitialWeights {
        /// The first values of weights and of biases.
        #[must_use]
        pub fn weights_and_biases() -> (Init, Init);

        /// `xavier`: [`Init::XavierUniform`], biases 0.
        Xavier = "xavier" => (Init::XavierUniform, ZERO),
        /// `he`: [`Init::HeNormal`], biases 0.
        He = "he" => (Init::HeNormal, ZERO),
        /// `he-uniform`: [`Init::HeUniform`], biases 0.
        HeUniform = "he-uniform" => (Init::HeUniform, ZERO),
        /// `data-dependent`: as `he`, then each convolution scaled and shifted for its channels to have mean 0 and deviation 1 over
        /// some training images (LSUV: Mishkin and Matas 2016).
        DataDependent = "data-dependent" => (Init::HeNormal, ZERO),
        /// `pytorch`: [`Init::PyTorch`], biases too.
        PyTorch = "pytorch" => (Init::PyTorch, Init::PyTorch),
    }
}

const ZERO: Init = Init::Constant(0.0);

impl FromStr for InitialWeights {
    type Err = ParseError;

    /// # Errors
    /// [`ParseError`] of any other name.
    fn from_str(name: &str) -> Result<Self, ParseError> {
        let found = Self::ALL.into_iter().find(|choice| choice.name() == name);
        found.ok_or_else(|| ParseError::form("xavier, he, he-uniform, data-dependent or pytorch", name, ""))
    }
}
