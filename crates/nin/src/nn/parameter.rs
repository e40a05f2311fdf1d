//! [`Parameter`]: a tensor that training changes.

use std::sync::atomic::{AtomicU64, Ordering};

use autograd::Var;
use tensor::{Element, Shape, Tensor};

/// A tensor that training changes, with an identity by which a tape's gradient is found.
#[derive(Debug)]
pub struct Parameter<T: Element> {
    /// Unique in the process. It tells parameters apart and has no other meaning: no result depends on it.
    pub identity: u64,
    /// The value.
    pub value: Tensor<T>,
    /// Whether weight decay applies: to weights, not to biases.
    pub decays: bool,
    /// Fan-in and fan-out of the layer's weight, which the initialisers scale by.
    pub fans: (usize, usize),
}

impl<T: Element> Parameter<T> {
    /// Zeros of this shape.
    #[must_use]
    pub fn new(shape: impl Into<Shape>, decays: bool, fans: (usize, usize)) -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        Self { identity: NEXT.fetch_add(1, Ordering::Relaxed), value: Tensor::zeros(shape), decays, fans }
    }

    /// The parameter on the tape of `x`.
    pub fn on<'t>(&self, x: &Var<'t, T>) -> Var<'t, T> {
        x.tape().parameter(self.identity, self.value.clone())
    }
}
