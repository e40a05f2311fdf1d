//! A vector of f32 lanes, written once for every instruction set.
//!
//! The transforms are generic over [`Lanes`]; [`dispatch`] runs a [`Job`] with the lanes of an instruction set inside a
//! function compiled for it. Everything on the way from `dispatch` to the innermost loop is `#[inline(always)]`, so that
//! it all becomes part of that one function and is compiled with its instructions.
//!
//! A value of a `Lanes` type is a proof that its instructions exist here (it holds the token that only detection makes),
//! and vectors are only made from such a value: that is why arithmetic on them is safe to call.

#![allow(unsafe_code)]

#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx512;
mod portable;

use crate::simd::Isa;
use std::ops::{Add, Mul, Sub};

/// The vector unit of an instruction set.
pub(super) trait Lanes: Copy {
    /// A register of [`Self::LANES`] f32.
    type Vector: Vector;
    /// `[Vector; LANES]`: the rows of a square that [`Lanes::transpose`] transposes.
    type Square: AsRef<[Self::Vector]> + AsMut<[Self::Vector]>;
    /// Lanes of a register.
    const LANES: usize;
    /// Registers in the widest panel of the multiplication.
    const WIDEST_PANEL: usize;

    /// All lanes hold `value`.
    fn splat(self, value: f32) -> Self::Vector;
    /// The first `LANES` values of `from`. Panics if there are fewer.
    fn load(self, from: &[f32]) -> Self::Vector;
    /// Up to `LANES` values; lanes past the end of `from` are zero.
    fn load_partial(self, from: &[f32]) -> Self::Vector;
    /// `LANES` values.
    ///
    /// # Safety
    /// `from` is valid for reading `LANES` values.
    unsafe fn load_from(self, from: *const f32) -> Self::Vector;
    /// Runs `job` in a function of its own, so that its loops have all registers to themselves.
    fn call<J: Job>(self, job: J);
    /// A square of zeros.
    fn zeros(self) -> Self::Square;
    /// Lane `j` of row `i` becomes lane `i` of row `j`.
    fn transpose(self, square: Self::Square) -> Self::Square;
    /// Hints that the cache line at `at` will be needed: fetches it to the second-level cache. Any address is allowed.
    fn prefetch(self, at: *const f32);
    /// The same, to the first-level cache: for what is needed next.
    fn prefetch_near(self, at: *const f32);
}

/// A register of f32 lanes.
pub(super) trait Vector: Copy + Add<Output = Self> + Sub<Output = Self> + Mul<Output = Self> {
    /// `self * factor + addend`, rounded once where the instruction set can.
    fn mul_add(self, factor: Self, addend: Self) -> Self;
    /// `addend - self * factor`, rounded once where the instruction set can.
    fn neg_mul_add(self, factor: Self, addend: Self) -> Self;
    /// `self * factor - subtrahend`, rounded once where the instruction set can.
    fn mul_sub(self, factor: Self, subtrahend: Self) -> Self;
    /// The larger of each pair of lanes; `other` where `self` is NaN.
    fn max(self, other: Self) -> Self;
    /// `self` where `condition > 0`, zero elsewhere (also where `condition` is NaN).
    fn where_positive(self, condition: Self) -> Self;
    /// Writes all lanes to the start of `to`. Panics if it is shorter.
    fn store(self, to: &mut [f32]);
    /// Writes as many lanes as `to` holds.
    fn store_partial(self, to: &mut [f32]);
    /// Writes all lanes.
    ///
    /// # Safety
    /// `to` is valid for writing all lanes.
    unsafe fn store_to(self, to: *mut f32);
}

/// Work that is generic over the vector unit.
pub(super) trait Job {
    /// Does the work. Implementations are `#[inline(always)]`.
    fn run<S: Lanes>(self, lanes: S);
}

/// Runs `job` with the vector unit of `isa`.
pub(super) fn dispatch<J: Job>(isa: Isa, job: J) {
    match isa {
        #[cfg(target_arch = "x86_64")]
        Isa::Avx512(token) => {
            #[target_feature(enable = "avx512f")]
            fn run<J: Job>(job: J, lanes: avx512::Avx512Lanes) {
                job.run(lanes);
            }
            // SAFETY: the token exists only where detection found AVX-512F.
            unsafe { run(job, avx512::Avx512Lanes::new(token)) }
        }
        #[cfg(target_arch = "x86_64")]
        Isa::Avx2(token) => {
            #[target_feature(enable = "avx2,fma")]
            fn run<J: Job>(job: J, lanes: avx2::Avx2Lanes) {
                job.run(lanes);
            }
            // SAFETY: the token exists only where detection found AVX2 and FMA.
            unsafe { run(job, avx2::Avx2Lanes::new(token)) }
        }
        _ => job.run(portable::PortableLanes),
    }
}

#[cfg(test)]
mod tests;
