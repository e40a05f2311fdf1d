//! f32 matrix products: micro-kernels per instruction set, packing, blocking.
//!
//! * [`gemm`]: a packed left operand ([`PackedA`]: weights) times an [`Operand`] that packs itself panel by panel, with
//!   bias and ReLU in the epilogue.
//! * [`gemm_deep`]: a long sum into a small result: weight gradients.
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
#[cfg(test)]
mod tests;
mod transpose;
mod unpacked;

pub use blocked::gemm;
pub use deep::{Also, gemm_deep};
pub use operand::{Elements, Operand};
pub use output::{Epilogue, Output};
pub use packed::PackedA;
pub use planes::{ChannelLanes, PixelLanes, Planes};
pub use unpacked::{MatrixRef, gemm_unpacked};
