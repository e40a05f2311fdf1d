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
    /// Whether gradients are computed and optimizers move it: true, unless it is frozen ([`freeze`](super::freeze)).
    pub requires_grad: bool,
    /// Fan-in and fan-out of the layer's weight, which the initialisers scale by.
    pub fans: (usize, usize),
    /// The value that initializers leave it at, if it is not drawn: a normalization's ones and zeros.
    pub constant: Option<f64>,
}

impl<T: Element> Parameter<T> {
    /// Zeros of this shape.
    #[must_use]
    pub fn new(shape: impl Into<Shape>, decays: bool, fans: (usize, usize)) -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let identity = NEXT.fetch_add(1, Ordering::Relaxed);
        Self { identity, value: Tensor::zeros(shape), decays, requires_grad: true, fans, constant: None }
    }

    /// The same number in every element, which initializers leave and weight decay does not touch.
    #[must_use]
    pub fn constant(shape: impl Into<Shape>, value: f64) -> Self {
        let shape = shape.into();
        let all = Tensor::full(shape, T::from_f64(value));
        Self { value: all, constant: Some(value), ..Self::new(shape, false, (1, 1)) }
    }

    /// The parameter on the tape of `x`: a constant if it needs no gradient, so that none is computed.
    pub fn on<'t>(&self, x: &Var<'t, T>) -> Var<'t, T> {
        if !self.requires_grad {
            return x.tape().constant(self.value.clone());
        }
        x.tape().parameter(self.identity, self.value.clone())
    }
}
