//! f32 matrix products: micro-kernels per instruction set, packing, blocking.
//!
//! * [`gemm`]: a packed left operand ([`PackedA`]: weights) times an [`Operand`] that packs itself panel by panel, with
//!   bias and ReLU in the epilogue.
//! * [`gemm_columns`]: some columns of that, for a caller that takes them through several products in a row.
//! * [`gemm_deep`]: long sums into small results: weight gradients, layer after layer.
//! * [`gemm_unpacked`]: operands read where they lie.
//! * [`Planes`] makes operands of N x C x pixels tensors; the convolution's windows are an operand too.

mod blocked;
mod deep;
pub(crate) mod microkernel;
#[cfg(target_arch = "x86_64")]
mod microkernel_avx2;
#[cfg(target_arch = "x86_64")]
mod microkernel_avx512;
pub(crate) mod microkernel_portable;
pub(crate) mod operand;
mod output;
mod packed;
mod planes;
#[cfg(test)]
pub(crate) mod reference;
pub(crate) mod runs;
mod sparse;
#[cfg(test)]
mod tests;
mod transpose;
mod unpacked;

pub use blocked::{gemm, gemm_columns};
pub use deep::{Link, gemm_deep};
pub use operand::{Elements, Operand};
pub use output::{Epilogue, Output};
pub use packed::PackedA;
pub use planes::{ChannelLanes, PixelLanes, Planes};
pub use unpacked::{MatrixRef, gemm_unpacked};
