//! Four lanes in plain Rust, which the compiler turns into whatever vectors the target always has (SSE2, NEON).

use super::{Job, Lanes, Vector};
use std::ops::{Add, Mul, Sub};

/// The vector unit every target has.
#[derive(Clone, Copy)]
pub(in super::super) struct PortableLanes;

/// Four f32.
#[derive(Clone, Copy)]
pub(in super::super) struct F32x4([f32; 4]);

impl Lanes for PortableLanes {
    type Vector = F32x4;
    type Square = [F32x4; 4];
    const LANES: usize = 4;
    const WIDEST_PANEL: usize = 2;

    #[inline(always)]
    fn splat(self, value: f32) -> F32x4 {
        F32x4([value; 4])
    }

    #[inline(always)]
    fn load(self, from: &[f32]) -> F32x4 {
        F32x4([from[0], from[1], from[2], from[3]])
    }

    #[inline(always)]
    fn load_partial(self, from: &[f32]) -> F32x4 {
        let mut lanes = [0.0; 4];
        for (lane, value) in lanes.iter_mut().zip(from) {
            *lane = *value;
        }
        F32x4(lanes)
    }

    #[inline(always)]
    unsafe fn load_from(self, from: *const f32) -> F32x4 {
        // SAFETY: the caller promises four readable values; `[f32; 4]` needs no more alignment than f32.
        F32x4(unsafe { from.cast::<[f32; 4]>().read() })
    }

    #[inline(always)]
    fn call<J: Job>(self, job: J) {
        job.run(self);
    }

    #[inline(always)]
    fn zeros(self) -> [F32x4; 4] {
        [F32x4([0.0; 4]); 4]
    }

    #[inline(always)]
    fn transpose(self, square: [F32x4; 4]) -> [F32x4; 4] {
        let [F32x4(a), F32x4(b), F32x4(c), F32x4(d)] = square;
        [
            F32x4([a[0], b[0], c[0], d[0]]),
            F32x4([a[1], b[1], c[1], d[1]]),
            F32x4([a[2], b[2], c[2], d[2]]),
            F32x4([a[3], b[3], c[3], d[3]]),
        ]
    }

    #[inline(always)]
    fn prefetch(self, _at: *const f32) {}

    #[inline(always)]
    fn prefetch_near(self, _at: *const f32) {}
}

/// Applies `op` to each pair of lanes.
#[inline(always)]
fn lanewise(a: F32x4, b: F32x4, op: impl Fn(f32, f32) -> f32) -> F32x4 {
    let (a, b) = (a.0, b.0);
    F32x4([op(a[0], b[0]), op(a[1], b[1]), op(a[2], b[2]), op(a[3], b[3])])
}

impl Add for F32x4 {
    type Output = Self;
    #[inline(always)]
    fn add(self, other: Self) -> Self {
        lanewise(self, other, |a, b| a + b)
    }
}

impl Sub for F32x4 {
    type Output = Self;
    #[inline(always)]
    fn sub(self, other: Self) -> Self {
        lanewise(self, other, |a, b| a - b)
    }
}

impl Mul for F32x4 {
    type Output = Self;
    #[inline(always)]
    fn mul(self, other: Self) -> Self {
        lanewise(self, other, |a, b| a * b)
    }
}

impl Vector for F32x4 {
    // Two roundings: without an FMA instruction `f32::mul_add` is a slow library call.
    #[inline(always)]
    fn mul_add(self, factor: Self, addend: Self) -> Self {
        self * factor + addend
    }

    #[inline(always)]
    fn neg_mul_add(self, factor: Self, addend: Self) -> Self {
        addend - self * factor
    }

    #[inline(always)]
    fn mul_sub(self, factor: Self, subtrahend: Self) -> Self {
        self * factor - subtrahend
    }

    #[inline(always)]
    fn max(self, other: Self) -> Self {
        lanewise(self, other, |a, b| if a > b { a } else { b })
    }

    #[inline(always)]
    fn where_positive(self, condition: Self) -> Self {
        lanewise(self, condition, |a, c| if c > 0.0 { a } else { 0.0 })
    }

    #[inline(always)]
    fn store(self, to: &mut [f32]) {
        to[..4].copy_from_slice(&self.0);
    }

    #[inline(always)]
    fn store_partial(self, to: &mut [f32]) {
        for (to, lane) in to.iter_mut().zip(self.0) {
            *to = lane;
        }
    }

    #[inline(always)]
    unsafe fn store_to(self, to: *mut f32) {
        // SAFETY: the caller promises room for four values; `[f32; 4]` needs no more alignment than f32.
        unsafe { to.cast::<[f32; 4]>().write(self.0) }
    }
}
