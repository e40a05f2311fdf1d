//! The weights that a run begins with, by name.

use tensor::init::Init;

use crate::names::choices;

choices! {
    /// The way weights and biases are first filled.
    "initial weights" enum InitialWeights {
        /// The first values of weights and of biases.
        #[must_use]
        pub fn weights_and_biases() -> (Init, Init);

        /// Uniform, by the numbers of inputs and outputs (Glorot and Bengio 2010); biases 0.
        Xavier = "xavier" => (Init::XavierUniform, ZERO),
        /// Normal, by the number of inputs, for layers before a ReLU (He et al. 2015); biases 0.
        He = "he" => (Init::HeNormal, ZERO),
        /// As he, but uniform.
        HeUniform = "he-uniform" => (Init::HeUniform, ZERO),
        /// As he, then each convolution scaled and shifted for its channels to have mean 0 and deviation 1 over some training
        /// images (LSUV: Mishkin and Matas 2016).
        DataDependent = "data-dependent" => (Init::HeNormal, ZERO),
        /// As PyTorch's layers begin, biases too.
        PyTorch = "pytorch" => (Init::PyTorch, Init::PyTorch),
    }
}

const ZERO: Init = Init::Constant(0.0);
