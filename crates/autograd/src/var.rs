//! [`Var`]: a value on a tape.

use tensor::{Element, Shape, Tensor};

use crate::tape::Tape;

/// A value and, if a gradient passes through it, its place on a [`Tape`]. Ops consume it; a clone shares the value.
#[derive(Clone)]
pub struct Var<'t, T: Element> {
    tape: &'t Tape<T>,
    shape: Shape,
    /// `None` on a tape that traces.
    value: Option<Tensor<T>>,
    node: Option<usize>,
}

impl<'t, T: Element> Var<'t, T> {
    pub(crate) fn new(tape: &'t Tape<T>, value: Tensor<T>, node: Option<usize>) -> Self {
        Self { tape, shape: value.shape(), value: Some(value), node }
    }

    /// A variable without a value, of a tape that traces.
    pub(crate) fn traced(tape: &'t Tape<T>, shape: Shape, node: usize) -> Self {
        Self { tape, shape, value: None, node: Some(node) }
    }

    /// # Panics
    /// If the variable is traced.
    pub(crate) fn into_parts(self) -> (Tensor<T>, Option<usize>) {
        let Some(value) = self.value else { self.tape.refuse_value() };
        (value, self.node)
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
    ///
    /// # Panics
    /// While a [`Graph`](crate::Graph) is traced: a module whose control flow depends on values runs on a recording tape.
    #[must_use]
    #[track_caller]
    pub fn value(&self) -> &Tensor<T> {
        let Some(value) = &self.value else { self.tape.refuse_value() };
        value
    }

    /// The value's extents.
    #[must_use]
    pub fn shape(&self) -> Shape {
        self.shape
    }
}

impl<T: Element> std::fmt::Debug for Var<'_, T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut text = f.debug_struct("Var");
        match &self.value {
            Some(value) => text.field("value", value),
            None => text.field("shape", &self.shape),
        };
        text.field("node", &self.node).finish()
    }
}
