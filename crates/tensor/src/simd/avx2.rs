//! AVX2 with FMA: eight lanes, 16 registers.

use std::arch::x86_64::*;

use super::{Kernel, Registers, Simd};

token! {
    /// Proof that this processor executes AVX2 and FMA.
    Avx2, is_x86_feature_detected: "avx2" "fma"
}

impl Simd for Avx2 {
    type Vector = __m256;
    type Square = [__m256; 8];
    type Mask = __m256i;
    const REGISTERS: Registers = Registers { lanes: 8, tile_rows: [0, 6, 6, 0, 0], tile_vectors: 2, rows_by_row: 6 };

    #[inline(always)]
    fn call<K: Kernel>(self, kernel: K) {
        self.compiled(kernel);
    }

    instructions! {
        splat(value: f32) -> __m256 { _mm256_set1_ps(value) }
        add(a: __m256, b: __m256) -> __m256 { _mm256_add_ps(a, b) }
        sub(a: __m256, b: __m256) -> __m256 { _mm256_sub_ps(a, b) }
        mul(a: __m256, b: __m256) -> __m256 { _mm256_mul_ps(a, b) }
        mul_add(a: __m256, b: __m256, c: __m256) -> __m256 { _mm256_fmadd_ps(a, b, c) }
        neg_mul_add(a: __m256, b: __m256, c: __m256) -> __m256 { _mm256_fnmadd_ps(a, b, c) }
        mul_sub(a: __m256, b: __m256, c: __m256) -> __m256 { _mm256_fmsub_ps(a, b, c) }
        max(a: __m256, b: __m256) -> __m256 { _mm256_max_ps(a, b) }
        square() -> [__m256; 8] { [_mm256_setzero_ps(); 8] }
        mask(count: usize) -> __m256i {
            _mm256_cmpgt_epi32(_mm256_set1_epi32(count.min(8) as i32), _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7))
        }
        prefetch(at: *const f32) { _mm_prefetch::<_MM_HINT_T0>(at.cast()) }
        prefetch_far(at: *const f32) { _mm_prefetch::<_MM_HINT_T1>(at.cast()) }
        transpose(s: [__m256; 8]) -> [__m256; 8] {{
            let mut s = s;
            // Inside each 128-bit half, 4 x 4 blocks of four neighboring rows are transposed...
            for i in (0..8).step_by(4) {
                let (a, b, c, d) = (s[i], s[i + 1], s[i + 2], s[i + 3]);
                let ab_low = _mm256_castps_pd(_mm256_unpacklo_ps(a, b));
                let ab_high = _mm256_castps_pd(_mm256_unpackhi_ps(a, b));
                let cd_low = _mm256_castps_pd(_mm256_unpacklo_ps(c, d));
                let cd_high = _mm256_castps_pd(_mm256_unpackhi_ps(c, d));
                s[i] = _mm256_castpd_ps(_mm256_unpacklo_pd(ab_low, cd_low));
                s[i + 1] = _mm256_castpd_ps(_mm256_unpackhi_pd(ab_low, cd_low));
                s[i + 2] = _mm256_castpd_ps(_mm256_unpacklo_pd(ab_high, cd_high));
                s[i + 3] = _mm256_castpd_ps(_mm256_unpackhi_pd(ab_high, cd_high));
            }
            // ...then the halves of rows i and i + 4 change places crosswise.
            for i in 0..4 {
                let (a, b) = (s[i], s[i + 4]);
                s[i] = _mm256_permute2f128_ps::<0x20>(a, b);
                s[i + 4] = _mm256_permute2f128_ps::<0x31>(a, b);
            }
            s
        }}
    }

    memory_instructions! {
        load_at(from: *const f32) -> __m256 { _mm256_loadu_ps(from) }
        load_masked_at(from: *const f32, mask: __m256i) -> __m256 { _mm256_maskload_ps(from, mask) }
        store_at(to: *mut f32, value: __m256) { _mm256_storeu_ps(to, value) }
        store_masked_at(to: *mut f32, mask: __m256i, value: __m256) { _mm256_maskstore_ps(to, mask, value) }
    }
}
