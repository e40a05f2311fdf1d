//! [`Parameter`]: a tensor that training changes.

use std::sync::atomic::{AtomicU64, Ordering};

use autograd::Var;
use tensor::ops::batch_norm2d::{BatchStatistics, Statistic};
use tensor::{Element, Shape, Tensor};

/// A tensor that training changes, with an identity by which its gradient is found.
#[derive(Debug)]
pub struct Parameter<T: Element> {
    /// Unique in the process. It tells parameters apart and has no other meaning: no result depends on it.
    pub identity: u64,
    /// The value.
    pub value: Tensor<T>,
    /// True if weight decay applies: to weights, not to biases.
    pub decays: bool,
    /// True if gradients are computed and optimizers move it: unless it is frozen ([`freeze`](super::freeze)) or a buffer.
    pub requires_grad: bool,
    /// Fan-in and fan-out of the layer's weight, which the initializers scale by.
    pub fans: (usize, usize),
    /// The value that initializers leave it at, if it is not drawn: a normalization's ones and zeros.
    pub constant: Option<f64>,
    running: Option<Running>,
}

/// The origin of a buffer's next value.
#[derive(Debug)]
struct Running {
    seen: BatchStatistics,
    statistic: Statistic,
    momentum: f64,
}

impl<T: Element> Parameter<T> {
    /// Zeros of this shape.
    #[must_use]
    pub fn new(shape: impl Into<Shape>, decays: bool, fans: (usize, usize)) -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let identity = NEXT.fetch_add(1, Ordering::Relaxed);
        let value = Tensor::zeros(shape);
        Self { identity, value, decays, requires_grad: true, fans, constant: None, running: None }
    }

    /// The same number in every element, which initializers leave and weight decay does not touch.
    #[must_use]
    pub fn constant(shape: impl Into<Shape>, value: f64) -> Self {
        let shape = shape.into();
        let all = Tensor::full(shape, T::from_f64(value));
        Self { value: all, constant: Some(value), ..Self::new(shape, false, (1, 1)) }
    }

    /// A buffer: saved like a parameter, moved not by gradients but toward a statistic of each batch, by `momentum` of the way.
    #[must_use]
    pub fn running(
        channels: usize,
        start: f64,
        seen: &BatchStatistics,
        statistic: Statistic,
        momentum: f64,
    ) -> Self {
        let running = Running { seen: seen.clone(), statistic, momentum };
        Self { requires_grad: false, running: Some(running), ..Self::constant([channels], start) }
    }

    /// Tells whether it is a buffer, which no gradient moves.
    #[must_use]
    pub fn is_buffer(&self) -> bool {
        self.running.is_some()
    }

    /// Moves a buffer toward what the last forward pass in training saw, if there was one since the last call.
    pub(super) fn update_buffer(&mut self) {
        if let Some(Running { seen, statistic, momentum }) = &self.running {
            seen.follow(*statistic, self.value.data_mut(), *momentum);
        }
    }

    /// The parameter on the tape of `x`, without a gradient if it needs none.
    pub fn on<'t>(&self, x: &Var<'t, T>) -> Var<'t, T> {
        if self.requires_grad {
            x.tape().parameter(self.identity, self.value.clone())
        } else {
            x.tape().frozen(self.identity, self.value.clone())
        }
    }
}
