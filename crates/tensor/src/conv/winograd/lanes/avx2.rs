//! Eight lanes: AVX2 with FMA.

use super::{Job, Lanes, Vector};
use crate::simd::Avx2;
use std::arch::x86_64::*;
use std::ops::{Add, Mul, Sub};

/// The vector unit of AVX2 and FMA.
#[derive(Clone, Copy)]
pub(in super::super) struct Avx2Lanes(Avx2);

impl Avx2Lanes {
    pub(super) fn new(token: Avx2) -> Self {
        Self(token)
    }
}

/// Eight f32. Made only by [`Avx2Lanes`], so that one exists only where AVX2 and FMA do.
#[derive(Clone, Copy)]
pub(in super::super) struct F32x8(__m256);

/// Eight set words, then eight clear ones: a window starting at `8 - count` masks the first `count` lanes.
const WINDOW: [i32; 16] = [-1, -1, -1, -1, -1, -1, -1, -1, 0, 0, 0, 0, 0, 0, 0, 0];

// Every unsafe block below calls intrinsics of AVX2 or FMA.
// SAFETY of all of them: `self` holds the token of detection, or is a vector made with its help. Where one also reads or
// writes memory, its own comment says why that memory is there.

/// The mask of the first `count` lanes, in the form of AVX's masked loads and stores.
#[inline(always)]
fn first(_proof: Avx2, count: usize) -> __m256i {
    let window = &WINDOW[8 - count.min(8)..][..8];
    // SAFETY: see above; the slice holds eight words.
    unsafe { _mm256_loadu_si256(window.as_ptr().cast()) }
}

impl Lanes for Avx2Lanes {
    type Vector = F32x8;
    type Square = [F32x8; 8];
    const LANES: usize = 8;
    const WIDEST_PANEL: usize = 2;

    #[inline(always)]
    fn splat(self, value: f32) -> F32x8 {
        // SAFETY: see above.
        F32x8(unsafe { _mm256_set1_ps(value) })
    }

    #[inline(always)]
    fn load(self, from: &[f32]) -> F32x8 {
        let from = &from[..8];
        // SAFETY: see above; the slice holds eight values.
        F32x8(unsafe { _mm256_loadu_ps(from.as_ptr()) })
    }

    #[inline(always)]
    fn load_partial(self, from: &[f32]) -> F32x8 {
        // SAFETY: see above; masked lanes are not read, and the others are inside the slice.
        F32x8(unsafe { _mm256_maskload_ps(from.as_ptr(), first(self.0, from.len())) })
    }

    #[inline(always)]
    unsafe fn load_from(self, from: *const f32) -> F32x8 {
        // SAFETY: see above; the caller promises eight readable values.
        F32x8(unsafe { _mm256_loadu_ps(from) })
    }

    #[inline(always)]
    fn call<J: Job>(self, job: J) {
        #[inline(never)]
        #[target_feature(enable = "avx2,fma")]
        fn run<J: Job>(job: J, lanes: Avx2Lanes) {
            job.run(lanes);
        }
        // SAFETY: see above.
        unsafe { run(job, self) }
    }

    #[inline(always)]
    fn zeros(self) -> [F32x8; 8] {
        [self.splat(0.0); 8]
    }

    #[inline(always)]
    fn transpose(self, mut s: [F32x8; 8]) -> [F32x8; 8] {
        // SAFETY: see above.
        unsafe {
            // Inside each 128-bit half, 4 x 4 blocks of four neighbouring rows are transposed...
            for i in (0..8).step_by(4) {
                let (a, b, c, d) = (s[i].0, s[i + 1].0, s[i + 2].0, s[i + 3].0);
                let ab_low = _mm256_castps_pd(_mm256_unpacklo_ps(a, b));
                let ab_high = _mm256_castps_pd(_mm256_unpackhi_ps(a, b));
                let cd_low = _mm256_castps_pd(_mm256_unpacklo_ps(c, d));
                let cd_high = _mm256_castps_pd(_mm256_unpackhi_ps(c, d));
                s[i].0 = _mm256_castpd_ps(_mm256_unpacklo_pd(ab_low, cd_low));
                s[i + 1].0 = _mm256_castpd_ps(_mm256_unpackhi_pd(ab_low, cd_low));
                s[i + 2].0 = _mm256_castpd_ps(_mm256_unpacklo_pd(ab_high, cd_high));
                s[i + 3].0 = _mm256_castpd_ps(_mm256_unpackhi_pd(ab_high, cd_high));
            }
            // ...then the halves of rows i and i + 4 change places crosswise.
            for i in 0..4 {
                let (a, b) = (s[i].0, s[i + 4].0);
                s[i].0 = _mm256_permute2f128_ps::<0x20>(a, b);
                s[i + 4].0 = _mm256_permute2f128_ps::<0x31>(a, b);
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

impl Add for F32x8 {
    type Output = Self;
    #[inline(always)]
    fn add(self, other: Self) -> Self {
        // SAFETY: see above.
        Self(unsafe { _mm256_add_ps(self.0, other.0) })
    }
}

impl Sub for F32x8 {
    type Output = Self;
    #[inline(always)]
    fn sub(self, other: Self) -> Self {
        // SAFETY: see above.
        Self(unsafe { _mm256_sub_ps(self.0, other.0) })
    }
}

impl Mul for F32x8 {
    type Output = Self;
    #[inline(always)]
    fn mul(self, other: Self) -> Self {
        // SAFETY: see above.
        Self(unsafe { _mm256_mul_ps(self.0, other.0) })
    }
}

impl Vector for F32x8 {
    #[inline(always)]
    fn mul_add(self, factor: Self, addend: Self) -> Self {
        // SAFETY: see above.
        Self(unsafe { _mm256_fmadd_ps(self.0, factor.0, addend.0) })
    }

    #[inline(always)]
    fn neg_mul_add(self, factor: Self, addend: Self) -> Self {
        // SAFETY: see above.
        Self(unsafe { _mm256_fnmadd_ps(self.0, factor.0, addend.0) })
    }

    #[inline(always)]
    fn mul_sub(self, factor: Self, subtrahend: Self) -> Self {
        // SAFETY: see above.
        Self(unsafe { _mm256_fmsub_ps(self.0, factor.0, subtrahend.0) })
    }

    #[inline(always)]
    fn max(self, other: Self) -> Self {
        // SAFETY: see above.
        Self(unsafe { _mm256_max_ps(self.0, other.0) })
    }

    #[inline(always)]
    fn where_positive(self, condition: Self) -> Self {
        // SAFETY: see above.
        unsafe {
            let positive = _mm256_cmp_ps::<_CMP_GT_OQ>(condition.0, _mm256_setzero_ps());
            Self(_mm256_and_ps(positive, self.0))
        }
    }

    #[inline(always)]
    fn store(self, to: &mut [f32]) {
        let to = &mut to[..8];
        // SAFETY: see above; the slice has room for eight values.
        unsafe { _mm256_storeu_ps(to.as_mut_ptr(), self.0) }
    }

    #[inline(always)]
    fn store_partial(self, to: &mut [f32]) {
        let window = &WINDOW[8 - to.len().min(8)..][..8];
        // SAFETY: see above; the window holds eight words, masked lanes are not written, and the others are inside the slice.
        unsafe { _mm256_maskstore_ps(to.as_mut_ptr(), _mm256_loadu_si256(window.as_ptr().cast()), self.0) }
    }

    #[inline(always)]
    unsafe fn store_to(self, to: *mut f32) {
        // SAFETY: see above; the caller promises room for eight values.
        unsafe { _mm256_storeu_ps(to, self.0) }
    }
}
