//! AVX-512: sixteen lanes, 32 registers, masks.

use std::arch::x86_64::*;

use super::{Kernel, Registers, Simd};

token! {
    /// Proof that this processor executes AVX-512 (F, VL, DQ, BW) and what came before it.
    Avx512, is_x86_feature_detected: "avx512f" "avx512vl" "avx512dq" "avx512bw" "avx2" "fma" "popcnt"
}

impl Simd for Avx512 {
    type Vector = __m512;
    type Square = [__m512; 16];
    type Mask = __mmask16;
    const REGISTERS: Registers = Registers { lanes: 16, tile_rows: [0, 12, 12, 8, 6], tile_vectors: 3, rows_by_row: 8 };

    #[inline(always)]
    fn call<K: Kernel>(self, kernel: K) {
        self.compiled(kernel);
    }

    #[inline(always)]
    fn mask(self, count: usize) -> __mmask16 {
        if count >= 16 { !0 } else { (1 << count) - 1 }
    }

    instructions! {
        splat(value: f32) -> __m512 { _mm512_set1_ps(value) }
        add(a: __m512, b: __m512) -> __m512 { _mm512_add_ps(a, b) }
        sub(a: __m512, b: __m512) -> __m512 { _mm512_sub_ps(a, b) }
        mul(a: __m512, b: __m512) -> __m512 { _mm512_mul_ps(a, b) }
        mul_add(a: __m512, b: __m512, c: __m512) -> __m512 { _mm512_fmadd_ps(a, b, c) }
        neg_mul_add(a: __m512, b: __m512, c: __m512) -> __m512 { _mm512_fnmadd_ps(a, b, c) }
        mul_sub(a: __m512, b: __m512, c: __m512) -> __m512 { _mm512_fmsub_ps(a, b, c) }
        max(a: __m512, b: __m512) -> __m512 { _mm512_max_ps(a, b) }
        square() -> [__m512; 16] { [_mm512_setzero_ps(); 16] }
        prefetch(at: *const f32) { _mm_prefetch::<_MM_HINT_T0>(at.cast()) }
        prefetch_far(at: *const f32) { _mm_prefetch::<_MM_HINT_T1>(at.cast()) }
        transpose(s: [__m512; 16]) -> [__m512; 16] {{
            let mut s = s;
            // Inside each 128-bit quarter, 4 x 4 blocks of four neighboring rows are transposed...
            for i in (0..16).step_by(4) {
                let (a, b, c, d) = (s[i], s[i + 1], s[i + 2], s[i + 3]);
                let ab_low = _mm512_castps_pd(_mm512_unpacklo_ps(a, b));
                let ab_high = _mm512_castps_pd(_mm512_unpackhi_ps(a, b));
                let cd_low = _mm512_castps_pd(_mm512_unpacklo_ps(c, d));
                let cd_high = _mm512_castps_pd(_mm512_unpackhi_ps(c, d));
                s[i] = _mm512_castpd_ps(_mm512_unpacklo_pd(ab_low, cd_low));
                s[i + 1] = _mm512_castpd_ps(_mm512_unpackhi_pd(ab_low, cd_low));
                s[i + 2] = _mm512_castpd_ps(_mm512_unpacklo_pd(ab_high, cd_high));
                s[i + 3] = _mm512_castpd_ps(_mm512_unpackhi_pd(ab_high, cd_high));
            }
            // ...then the quarters of rows i, i + 4, i + 8 and i + 12 are transposed as a 4 x 4 of quarters.
            for i in 0..4 {
                let (a, b, c, d) = (s[i], s[i + 4], s[i + 8], s[i + 12]);
                let ab_even = _mm512_shuffle_f32x4::<0b10_00_10_00>(a, b);
                let ab_odd = _mm512_shuffle_f32x4::<0b11_01_11_01>(a, b);
                let cd_even = _mm512_shuffle_f32x4::<0b10_00_10_00>(c, d);
                let cd_odd = _mm512_shuffle_f32x4::<0b11_01_11_01>(c, d);
                s[i] = _mm512_shuffle_f32x4::<0b10_00_10_00>(ab_even, cd_even);
                s[i + 4] = _mm512_shuffle_f32x4::<0b10_00_10_00>(ab_odd, cd_odd);
                s[i + 8] = _mm512_shuffle_f32x4::<0b11_01_11_01>(ab_even, cd_even);
                s[i + 12] = _mm512_shuffle_f32x4::<0b11_01_11_01>(ab_odd, cd_odd);
            }
            s
        }}
    }

    memory_instructions! {
        load_at(from: *const f32) -> __m512 { _mm512_loadu_ps(from) }
        load_masked_at(from: *const f32, mask: __mmask16) -> __m512 { _mm512_maskz_loadu_ps(mask, from) }
        store_at(to: *mut f32, value: __m512) { _mm512_storeu_ps(to, value) }
        store_masked_at(to: *mut f32, mask: __mmask16, value: __m512) { _mm512_mask_storeu_ps(to, mask, value) }
        compress_at(value: __m512, first: u8, values: *mut f32, indices: *mut u8) -> usize {{
            let others = _mm512_cmp_ps_mask::<_CMP_NEQ_UQ>(value, _mm512_setzero_ps());
            let index = _mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
            let index = _mm512_add_epi32(index, _mm512_set1_epi32(i32::from(first)));
            _mm512_storeu_ps(values, _mm512_maskz_compress_ps(others, value));
            let bytes = _mm512_cvtepi32_epi8(_mm512_maskz_compress_epi32(others, index));
            _mm_storeu_si128(indices.cast(), bytes);
            others.count_ones() as usize
        }}
    }
}
