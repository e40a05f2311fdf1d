//! Reverse-mode differentiation: a [`Tape`] records the ops that [`Var`]s go through, [`Tape::backward`] walks it in
//! reverse and returns [`TapeGradients`], and [`gradcheck`] tests the result against central differences.
//!
//! A [`Graph`] is the same record without values, made once ([`Graph::trace`]); its ops are fused and run as a [`Plan`].
//!
//! The mathematics of each op, backward pass included, is in the `tensor` crate; this one knows only order.
//!
//! A line through points, by gradient descent on the mean squared error:
//!
//! ```
//! use autograd::{Context, Tape};
//! use tensor::{Tensor, ops::MseLoss};
//!
//! let x = Tensor::from_fn([9, 1], |i| i as f32 / 4.0 - 1.0);
//! let target = Tensor::from_fn([9, 1], |i| 2.0 * x.data()[i] - 0.5);
//! let mut parameters = [Tensor::zeros([1, 1]), Tensor::zeros([1])]; // weight and bias
//! for _ in 0..50 {
//!     let tape = Tape::new(Context::default());
//!     let [weight, bias] = parameters.each_ref().map(|parameter| tape.leaf(parameter.clone()));
//!     let output = tape.constant(x.clone()).linear(weight.clone(), Some(bias.clone()))?;
//!     let loss = output.mse_loss(tape.constant(target.clone()), MseLoss::default())?;
//!     let gradients = tape.backward(loss)?;
//!     for (parameter, leaf) in parameters.iter_mut().zip([weight, bias]) {
//!         let gradient = gradients.get(&leaf).expect("the loss depends on both");
//!         parameter.data_mut().iter_mut().zip(gradient.data()).for_each(|(p, g)| *p -= 0.5 * g);
//!     }
//! }
//! let [weight, bias] = parameters.map(|parameter| parameter.data()[0]);
//! assert!((weight - 2.0).abs() < 1e-4 && (bias + 0.5).abs() < 1e-4);
//! # Ok::<(), autograd::AutogradError>(())
//! ```
#![forbid(unsafe_code)]

mod backward;
mod error;
mod fuse;
mod gradcheck;
mod gradients;
mod graph;
mod ops;
mod plan;
mod run;
mod tape;
mod var;

pub use error::AutogradError;
pub use gradcheck::{Gradcheck, GradcheckError, GradcheckReport, gradcheck};
pub use gradients::TapeGradients;
pub use graph::{Backward, Graph, Node};
pub use plan::Plan;
pub use run::{Bound, ParameterSums, Part, Run};
pub use tape::Tape;
pub use tensor::Context;
pub use var::Var;
