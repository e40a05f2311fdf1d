//! f32 matrix products on one core: micro-kernels per instruction set, packing, blocking.

pub(crate) mod microkernel;
#[cfg(target_arch = "x86_64")]
mod microkernel_avx2;
#[cfg(target_arch = "x86_64")]
mod microkernel_avx512;
pub(crate) mod microkernel_portable;
#[cfg(test)]
pub(crate) mod reference;
mod unpacked;

pub use unpacked::{MatrixRef, gemm_unpacked};
