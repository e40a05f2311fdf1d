//! NCHW tensors on the CPU: the kernels under the ops of a small convolutional network.

pub mod gemm;
pub mod simd;
