//! [`Var`]: a value on a tape.

use tensor::{Element, Shape, Tensor};

use crate::tape::Tape;

/// A value and, if a gradient passes through it, its place on a [`Tape`]. Ops consume it; a clone shares the value.
#[derive(Clone)]
pub struct Var<'t, T: Element> {
    tape: &'t Tape<T>,
    value: Tensor<T>,
    node: Option<usize>,
}

impl<'t, T: Element> Var<'t, T> {
    pub(crate) fn new(tape: &'t Tape<T>, value: Tensor<T>, node: Option<usize>) -> Self {
        Self { tape, value, node }
    }

    pub(crate) fn into_parts(self) -> (Tensor<T>, Option<usize>) {
        (self.value, self.node)
    }

    pub(crate) fn node(&self) -> Option<usize> {
        self.node
    }

    /// The tape.
    #[must_use]
    pub fn tape(&self) -> &'t Tape<T> {
        self.tape
    }

    /// The value.
    #[must_use]
    pub fn value(&self) -> &Tensor<T> {
        &self.value
    }

    /// The value, given away.
    #[must_use]
    pub fn into_value(self) -> Tensor<T> {
        self.value
    }

    /// The value's extents.
    #[must_use]
    pub fn shape(&self) -> Shape {
        self.value.shape()
    }

    /// Whether a gradient passes through it.
    #[must_use]
    pub fn needs_gradient(&self) -> bool {
        self.node.is_some()
    }
}

impl<T: Element> std::fmt::Debug for Var<'_, T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Var").field("value", &self.value).field("node", &self.node).finish()
    }
}
