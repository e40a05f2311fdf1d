//! Reverse-mode differentiation: a [`Tape`] records the ops that [`Var`]s go through, [`Tape::backward`] walks it in
//! reverse and returns [`Gradients`], and [`gradcheck`] tests the result against central differences.
//!
//! A [`Graph`] is the same record without values, made once ([`Graph::trace`]); its ops are fused and run as a [`Plan`].
//!
//! The mathematics of each op, backward pass included, is in the `tensor` crate; this one knows only order.
//!
//! ```
//! use autograd::{Context, Tape};
//! use tensor::Tensor;
//!
//! let tape = Tape::new(Context::default());
//! let x = tape.leaf(Tensor::from_slice([3], &[1.0f32, -2.0, 3.0])?);
//! let y = x.clone().relu()?;
//! let gradients = tape.backward_with(y, Tensor::full([3], 1.0))?;
//! assert_eq!(gradients.get(&x).unwrap().data(), [1.0, 0.0, 1.0]);
//! # Ok::<(), Box<dyn std::error::Error>>(())
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
mod tape;
mod var;

pub use error::AutogradError;
pub use gradcheck::{Gradcheck, GradcheckError, GradcheckReport, gradcheck};
pub use gradients::Gradients;
pub use graph::{Backward, Graph, Node};
pub use plan::{Plan, PlanOp, Run};
pub use tape::Tape;
pub use tensor::Context;
pub use var::Var;
