//! Products of f32 matrices, `C = A B`, A of m rows and k columns, B of k rows and n columns.
//!
//! The loops are those of Goto and van de Geijn (2008), named as in BLIS (Van Zee and van de Geijn 2015), from the outermost
//! on: loop 5 cuts n into blocks of NC columns, loop 4 cuts k into blocks of [`KC`], and packs such a block of B into the
//! second-level cache. Loop 3, over blocks of m, has one turn: weights are packed once for many products ([`PackedA`]). Loop 2
//! goes over tiles of MR rows, loop 1 over tiles of NR columns, and [`kernel`] computes a tile.
//!
//! | product | operands | for |
//! |---|---|---|
//! | [`gemm`] | A packed, B an [`Operand`] | forward passes, input gradients |
//! | [`gemm_backward`] | A a block of the output gradient, B an [`Operand`], stage after stage | weight gradients |
//! | [`gemm_strided`] | both where they lie | fully connected layers, blocks of a weight gradient |
//!
//! Loops 2 and 1 are the other way around than in BLIS: a row of tiles of C is written from left to right, since a block of B is
//! packed row by row, and both sides are then long runs of memory, which the processor foresees. A panel at a time, as wide as
//! a tile, takes and leaves a few elements of hundreds of rows, and waits for memory longer than it multiplies.
//!
//! All of it is private, the traits whose answers unsafe code trusts above all: nobody outside can make an operand with an answer
//! of its own about its size, or an output that two threads write.
//!
//! ```compile_fail,E0603
//! #![forbid(unsafe_code)]
//! use std::sync::atomic::{AtomicUsize, Ordering};
//! use tensor::gemm::Operand;
//!
//! /// Has 48 columns when it is asked first, and a million afterwards.
//! struct Liar(AtomicUsize);
//! impl Operand for Liar {
//!     fn extent(&self) -> usize {
//!         if self.0.fetch_add(1, Ordering::Relaxed) == 0 { 48 } else { 1_000_000 }
//!     }
//!     fn k(&self) -> usize {
//!         8
//!     }
//!     fn pack(
//!         &self,
//!         _: tensor::simd::Isa,
//!         _: std::ops::Range<usize>,
//!         _: std::ops::Range<usize>,
//!         _: usize,
//!         _: &mut [f32],
//!     ) {
//!     }
//! }
//! fn main() {}
//! ```
//!
//! ```compile_fail,E0603
//! #![forbid(unsafe_code)]
//! use tensor::gemm::Output;
//!
//! // Images of 48 pixels that lie further apart than the slice is long.
//! let mut c = vec![0.0f32; 8 * 48];
//! let out = Output::planes(&mut c, 8, 48, [2, 48, 1 << 12]);
//! std::thread::scope(|scope| {
//!     for _ in 0..2 {
//!         scope.spawn(|| write_all_of(&out));
//!     }
//! });
//! fn write_all_of(_: &Output<'_>) {}
//! ```
//!
//! Both are refused for the private path alone: what they would do is out of reach. Inside of the crate, products take outputs by
//! `&mut`, and the second program's output is a panic (`tests::sizes_that_cannot_be_counted_are_refused`).

mod backward;
mod blocked;
mod copy;
pub(crate) mod kernel;
mod operand;
mod output;
mod packed;
mod planes;
#[cfg(test)]
pub(crate) mod reference;
mod sparse;
mod strided;
#[cfg(test)]
mod tests;

pub(crate) use backward::{Stage, gemm_backward};
pub(crate) use blocked::gemm;
pub(crate) use copy::{Run, copy_runs};
pub(crate) use operand::{Elements, Operand, check_panel};
pub(crate) use output::{Epilogue, Output};
pub(crate) use packed::PackedA;
pub(crate) use planes::{By, ChannelPlanes};
pub(crate) use strided::gemm_strided;

/// The longest sum that is made in one go; longer ones are cut into equal blocks whose results are added up. A panel of B of so
/// many rows fills most of a first-level cache. The same for every instruction set, since it decides how an element's sum is
/// rounded.
pub(crate) const KC: usize = 256;
