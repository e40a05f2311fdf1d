//! [`TapeGradients`]: what a backward pass answers.

use tensor::{Element, Tensor};

use crate::var::Var;

/// The gradients of the leaves of a tape.
#[derive(Debug)]
pub struct TapeGradients<T: Element> {
    pub(crate) leaves: Vec<LeafGradient<T>>,
}

#[derive(Debug)]
pub(crate) struct LeafGradient<T: Element> {
    pub node: usize,
    pub parameter: Option<u64>,
    pub gradient: Tensor<T>,
}

impl<T: Element> TapeGradients<T> {
    /// The gradient of a leaf: `None` if the loss does not depend on it, or if it is not a leaf.
    #[must_use]
    pub fn get(&self, leaf: &Var<'_, T>) -> Option<&Tensor<T>> {
        let node = leaf.node()?;
        self.leaves.iter().find(|leaf| leaf.node == node).map(|leaf| &leaf.gradient)
    }

    /// The gradient of a parameter by its identity: `None` if the loss does not depend on it.
    #[must_use]
    pub fn parameter(&self, identity: u64) -> Option<&Tensor<T>> {
        self.leaves.iter().find(|leaf| leaf.parameter == Some(identity)).map(|leaf| &leaf.gradient)
    }
}
