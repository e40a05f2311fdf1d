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
//! A training loop, whose convolution finds the kernel that made its targets:
//!
//! ```
//! use tensor::ops::{Conv2d, MseLoss};
//! use tensor::{Context, Op, Purpose, RandomStream, Tensor};
//!
//! let (context, conv, mse) = (Context::default(), Conv2d::default(), MseLoss::default());
//! let mut x = Tensor::<f32>::zeros([4, 1, 8, 8]);
//! RandomStream::new(0, 0, Purpose::Other(0), 0).fill_normal(x.data_mut(), 1.0);
//! let edges = Tensor::from_slice([1, 1, 3, 3], &[-1.0, 0.0, 1.0, -2.0, 0.0, 2.0, -1.0, 0.0, 1.0])?;
//! let target = conv.forward(&context, vec![x.clone(), edges.clone()]).0;
//! let (mut weight, mut losses) = (Tensor::zeros([1, 1, 3, 3]), Vec::new());
//! for _ in 0..60 {
//!     let (y, by_conv) = conv.forward(&context, vec![x.clone(), weight.clone()]);
//!     let (loss, by_mse) = mse.forward(&context, vec![y, target.clone()]);
//!     losses.push(loss.item());
//!     let dy = mse.gradients(&context, by_mse, Tensor::scalar(1.0), &[true, false]).swap_remove(0).expect("wanted");
//!     let dw = conv.gradients(&context, by_conv, dy, &[false, true]).swap_remove(1).expect("wanted");
//!     weight.data_mut().iter_mut().zip(dw.data()).for_each(|(w, dw)| *w -= 0.2 * dw);
//! }
//! assert!(losses[0] > 5.0 && losses[59] < 1e-6 && losses[..20].is_sorted_by(|a, b| a > b), "{losses:?}");
//! assert!(weight.data().iter().zip(edges.data()).all(|(w, edge)| (w - edge).abs() < 1e-3), "{weight:?}");
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
mod lock;
mod op;
pub mod ops;
mod rng;
mod shape;
pub mod simd;
mod sink;
mod sum_slice;
#[allow(clippy::module_inception, reason = "the file of the type that the crate is named for")]
mod tensor;
#[cfg(test)]
mod testing;
mod threads;

pub use buffer_pool::{ALIGNMENT, Buffer, BufferPool};
pub use context::Context;
pub use element::Element;
#[doc(hidden)]
pub use lock::lock;
pub use op::{Op, UnaryOp, expect_inputs};
pub use rng::{Purpose, RandomStream};
pub(crate) use shape::ensure;
pub use shape::{MAX_AXES, Shape, ShapeError};
pub use sink::{GradientSum, GradientSums, Sinks};
pub use tensor::Tensor;
