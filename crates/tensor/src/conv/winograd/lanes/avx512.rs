//! Sixteen lanes: AVX-512F.

use super::{Job, Lanes, Vector};
use crate::simd::Avx512;
use std::arch::x86_64::*;
use std::ops::{Add, Mul, Sub};

/// The vector unit of AVX-512F.
#[derive(Clone, Copy)]
pub(in super::super) struct Avx512Lanes(Avx512);

impl Avx512Lanes {
    pub(super) fn new(token: Avx512) -> Self {
        Self(token)
    }
}

/// Sixteen f32. Made only by [`Avx512Lanes`], so that one exists only where AVX-512F does.
#[derive(Clone, Copy)]
pub(in super::super) struct F32x16(__m512);

/// The mask of the first `count` lanes.
#[inline(always)]
fn first(count: usize) -> __mmask16 {
    if count >= 16 { u16::MAX } else { (1u16 << count) - 1 }
}

// Every unsafe block below calls intrinsics of AVX-512F.
// SAFETY of all of them: `self` holds the token of detection, or is a vector made with its help. Where one also reads or
// writes memory, its own comment says why that memory is there.

impl Lanes for Avx512Lanes {
    type Vector = F32x16;
    type Square = [F32x16; 16];
    const LANES: usize = 16;
    const WIDEST_PANEL: usize = 4;

    #[inline(always)]
    fn splat(self, value: f32) -> F32x16 {
        // SAFETY: see above.
        F32x16(unsafe { _mm512_set1_ps(value) })
    }

    #[inline(always)]
    fn load(self, from: &[f32]) -> F32x16 {
        let from = &from[..16];
        // SAFETY: see above; the slice holds sixteen values.
        F32x16(unsafe { _mm512_loadu_ps(from.as_ptr()) })
    }

    #[inline(always)]
    fn load_partial(self, from: &[f32]) -> F32x16 {
        // SAFETY: see above; masked lanes are not read, and the others are inside the slice.
        F32x16(unsafe { _mm512_maskz_loadu_ps(first(from.len()), from.as_ptr()) })
    }

    #[inline(always)]
    unsafe fn load_from(self, from: *const f32) -> F32x16 {
        // SAFETY: see above; the caller promises sixteen readable values.
        F32x16(unsafe { _mm512_loadu_ps(from) })
    }

    #[inline(always)]
    fn call<J: Job>(self, job: J) {
        #[inline(never)]
        #[target_feature(enable = "avx512f")]
        fn run<J: Job>(job: J, lanes: Avx512Lanes) {
            job.run(lanes);
        }
        // SAFETY: see above.
        unsafe { run(job, self) }
    }

    #[inline(always)]
    fn zeros(self) -> [F32x16; 16] {
        [self.splat(0.0); 16]
    }

    #[inline(always)]
    fn transpose(self, mut s: [F32x16; 16]) -> [F32x16; 16] {
        // SAFETY: see above.
        unsafe {
            // Inside each 128-bit quarter, 4 x 4 blocks of four neighbouring rows are transposed...
            for i in (0..16).step_by(4) {
                let (a, b, c, d) = (s[i].0, s[i + 1].0, s[i + 2].0, s[i + 3].0);
                let ab_low = _mm512_castps_pd(_mm512_unpacklo_ps(a, b));
                let ab_high = _mm512_castps_pd(_mm512_unpackhi_ps(a, b));
                let cd_low = _mm512_castps_pd(_mm512_unpacklo_ps(c, d));
                let cd_high = _mm512_castps_pd(_mm512_unpackhi_ps(c, d));
                s[i].0 = _mm512_castpd_ps(_mm512_unpacklo_pd(ab_low, cd_low));
                s[i + 1].0 = _mm512_castpd_ps(_mm512_unpackhi_pd(ab_low, cd_low));
                s[i + 2].0 = _mm512_castpd_ps(_mm512_unpacklo_pd(ab_high, cd_high));
                s[i + 3].0 = _mm512_castpd_ps(_mm512_unpackhi_pd(ab_high, cd_high));
            }
            // ...then the quarters of rows i, i + 4, i + 8 and i + 12 are transposed as a 4 x 4 of quarters.
            for i in 0..4 {
                let (a, b, c, d) = (s[i].0, s[i + 4].0, s[i + 8].0, s[i + 12].0);
                let ab_even = _mm512_shuffle_f32x4::<0b10_00_10_00>(a, b);
                let ab_odd = _mm512_shuffle_f32x4::<0b11_01_11_01>(a, b);
                let cd_even = _mm512_shuffle_f32x4::<0b10_00_10_00>(c, d);
                let cd_odd = _mm512_shuffle_f32x4::<0b11_01_11_01>(c, d);
                s[i].0 = _mm512_shuffle_f32x4::<0b10_00_10_00>(ab_even, cd_even);
                s[i + 4].0 = _mm512_shuffle_f32x4::<0b10_00_10_00>(ab_odd, cd_odd);
                s[i + 8].0 = _mm512_shuffle_f32x4::<0b11_01_11_01>(ab_even, cd_even);
                s[i + 12].0 = _mm512_shuffle_f32x4::<0b11_01_11_01>(ab_odd, cd_odd);
            }
        }
        s
    }

    #[inline(always)]
    fn prefetch(self, at: *const f32) {
        // SAFETY: see above; a prefetch of any address is a hint without effect on the program.
        unsafe { _mm_prefetch::<_MM_HINT_T1>(at.cast()) }
    }

    #[inline(always)]
    fn prefetch_near(self, at: *const f32) {
        // SAFETY: see above; a prefetch of any address is a hint without effect on the program.
        unsafe { _mm_prefetch::<_MM_HINT_T0>(at.cast()) }
    }
}

impl Add for F32x16 {
    type Output = Self;
    #[inline(always)]
    fn add(self, other: Self) -> Self {
        // SAFETY: see above.
        Self(unsafe { _mm512_add_ps(self.0, other.0) })
    }
}

impl Sub for F32x16 {
    type Output = Self;
    #[inline(always)]
    fn sub(self, other: Self) -> Self {
        // SAFETY: see above.
        Self(unsafe { _mm512_sub_ps(self.0, other.0) })
    }
}

impl Mul for F32x16 {
    type Output = Self;
    #[inline(always)]
    fn mul(self, other: Self) -> Self {
        // SAFETY: see above.
        Self(unsafe { _mm512_mul_ps(self.0, other.0) })
    }
}

impl Vector for F32x16 {
    #[inline(always)]
    fn mul_add(self, factor: Self, addend: Self) -> Self {
        // SAFETY: see above.
        Self(unsafe { _mm512_fmadd_ps(self.0, factor.0, addend.0) })
    }

    #[inline(always)]
    fn neg_mul_add(self, factor: Self, addend: Self) -> Self {
        // SAFETY: see above.
        Self(unsafe { _mm512_fnmadd_ps(self.0, factor.0, addend.0) })
    }

    #[inline(always)]
    fn mul_sub(self, factor: Self, subtrahend: Self) -> Self {
        // SAFETY: see above.
        Self(unsafe { _mm512_fmsub_ps(self.0, factor.0, subtrahend.0) })
    }

    #[inline(always)]
    fn max(self, other: Self) -> Self {
        // SAFETY: see above.
        Self(unsafe { _mm512_max_ps(self.0, other.0) })
    }

    #[inline(always)]
    fn where_positive(self, condition: Self) -> Self {
        // SAFETY: see above.
        unsafe {
            let positive = _mm512_cmp_ps_mask::<_CMP_GT_OQ>(condition.0, _mm512_setzero_ps());
            Self(_mm512_maskz_mov_ps(positive, self.0))
        }
    }

    #[inline(always)]
    fn store(self, to: &mut [f32]) {
        let to = &mut to[..16];
        // SAFETY: see above; the slice has room for sixteen values.
        unsafe { _mm512_storeu_ps(to.as_mut_ptr(), self.0) }
    }

    #[inline(always)]
    fn store_partial(self, to: &mut [f32]) {
        // SAFETY: see above; masked lanes are not written, and the others are inside the slice.
        unsafe { _mm512_mask_storeu_ps(to.as_mut_ptr(), first(to.len()), self.0) }
    }

    #[inline(always)]
    unsafe fn store_to(self, to: *mut f32) {
        // SAFETY: see above; the caller promises room for sixteen values.
        unsafe { _mm512_storeu_ps(to, self.0) }
    }
}
