//! NCHW tensors on the CPU and the ops of a small convnet: every forward pass, and every backward pass by hand.
//!
//! * [`Tensor`] holds a [`Shape`] and its elements, `f32` or `f64` ([`Element`]), in storage from a [`BufferPool`].
//! * [`Op`] is the contract of an op; [`ops`] has one file per op.
//! * [`conv`] has the algorithms behind [`ops::Conv2d`] and the rule that picks one.
//! * [`Context`] carries what a pass depends on: memory, mode, threads, random numbers ([`RandomStream`]).
//!
//! Recording and differentiation live one crate up, in `autograd`.

mod buffer_pool;
mod context;
pub mod conv;
mod element;
mod gemm;
pub mod init;
#[doc(hidden)]
pub mod kernels;
mod op;
pub mod ops;
mod rng;
mod shape;
pub mod simd;
#[allow(clippy::module_inception, reason = "the file of the type that the crate is named for")]
mod tensor;
#[cfg(test)]
mod testing;

pub use buffer_pool::{ALIGNMENT, Buffer, BufferPool, Pooled};
pub use context::Context;
pub use element::Element;
pub use op::{Op, UnaryOp, expect_inputs};
pub use rng::{Purpose, RandomStream};
pub use shape::{MAX_AXES, Shape, ShapeError};
pub use tensor::Tensor;
