//! NCHW tensors on the CPU and the ops of a small convnet: every forward pass, and every backward pass by hand.
//!
//! * [`Tensor`] holds a [`Shape`] and its elements, `f32` or `f64` ([`Element`]), in storage from a [`BufferPool`].
//! * [`Op`] is the contract of an op; [`ops`] has one file per op.
//! * [`conv`] has the algorithms behind [`ops::Conv2d`] and the rule that picks one.
//! * [`Context`] carries what a pass depends on: memory, mode, threads, random numbers ([`RandomStream`]).
//!
//! A convolution of one image, forward and backward:
//!
//! ```
//! use tensor::ops::Conv2d;
//! use tensor::{Context, Op, Tensor};
//!
//! let (context, conv) = (Context::default(), Conv2d { padding: [1, 1], ..Conv2d::default() });
//! let x = Tensor::from_fn([1, 1, 4, 4], |i| i as f32); // N x C x H x W
//! let weight = Tensor::full([2, 1, 3, 3], 1.0); // O x C x KH x KW
//! let bias = Tensor::from_slice([2], &[0.0, 100.0])?;
//! let shape = Op::<f32>::output_shape(&conv, &[x.shape(), weight.shape(), bias.shape()])?;
//! let (y, saved) = conv.forward(&context, vec![x, weight, bias]);
//! assert_eq!((y.shape(), y.data()[0], y.data()[16]), (shape, 0.0 + 1.0 + 4.0 + 5.0, 110.0));
//!
//! let dy = Tensor::full(shape, 1.0);
//! let gradients = conv.gradients(&context, saved, dy, &[false, true, true]);
//! let [None, Some(dw), Some(db)] = &gradients[..] else { panic!("as wanted") };
//! assert_eq!((dw.data()[4], db.data()[0]), (120.0, 16.0)); // the sum of x, and the pixels
//! # Ok::<(), tensor::ShapeError>(())
//! ```
//!
//! Recording and differentiation live one crate up, in `autograd`.

mod buffer_pool;
mod context;
pub mod conv;
mod element;
mod gemm;
pub mod init;
mod op;
pub mod ops;
mod rng;
mod shape;
pub mod simd;
mod sink;
#[allow(clippy::module_inception, reason = "the file of the type that the crate is named for")]
mod tensor;
#[cfg(test)]
mod testing;

pub use buffer_pool::{ALIGNMENT, Buffer, BufferPool};
pub use context::Context;
pub use element::Element;
pub use op::{Op, UnaryOp, expect_inputs};
pub use rng::{Purpose, RandomStream};
pub use shape::{MAX_AXES, Shape, ShapeError};
pub use sink::{GradientSum, GradientSums, Sinks};
pub use tensor::Tensor;
