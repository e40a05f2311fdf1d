//! Packing by transposition: the source is contiguous along the depth, the panel along the lanes.
#![allow(unsafe_code)]

use crate::simd::Isa;

/// `panel[p * width + l] = data[l * lane_stride + p]` for `l < lanes` and `p < depth`, and zero for `lanes <= l < width`.
///
/// # Panics
/// If the data or the panel is too short.
pub(crate) fn transpose(
    isa: Isa,
    data: &[f32],
    lane_stride: usize,
    lanes: usize,
    depth: usize,
    width: usize,
    panel: &mut [f32],
) {
    assert!(lanes <= width, "{lanes} lanes in a panel of width {width}");
    assert!(depth * width <= panel.len(), "a panel of {depth} x {width} in {}", panel.len());
    if lanes > 0 && depth > 0 {
        assert!((lanes - 1) * lane_stride + depth <= data.len(), "the source is too short");
    }
    match isa {
        #[cfg(target_arch = "x86_64")]
        Isa::Avx512(_) => {
            for first in (0..width).step_by(16) {
                for p in (0..depth).step_by(16) {
                    let block = Block {
                        // Lanes beyond the last have no address.
                        source: data.as_ptr().wrapping_add(first * lane_stride + p),
                        lane_stride,
                        lanes: lanes.saturating_sub(first).min(16),
                        depth: (depth - p).min(16),
                        target: panel.as_mut_ptr().wrapping_add(p * width + first),
                        width,
                        columns: (width - first).min(16),
                    };
                    // SAFETY: the token proves the instruction set; the block lies inside the ranges asserted above.
                    unsafe { transpose_block(&block) };
                }
            }
        }
        _ => {
            // Blocks small enough for the lines of both sides to stay in the cache.
            for first in (0..width).step_by(8) {
                for l in first..width.min(first + 8) {
                    let target = panel.iter_mut().skip(l).step_by(width).take(depth);
                    if l < lanes {
                        for (out, &value) in target.zip(&data[l * lane_stride..]) {
                            *out = value;
                        }
                    } else {
                        target.for_each(|out| *out = 0.0);
                    }
                }
            }
        }
    }
}

/// One 16 x 16 corner of the work, or less at the edges.
#[cfg(target_arch = "x86_64")]
struct Block {
    source: *const f32,
    lane_stride: usize,
    /// Lanes that exist; the rest of `columns` are zeros.
    lanes: usize,
    depth: usize,
    target: *mut f32,
    width: usize,
    /// Columns written.
    columns: usize,
}

/// # Safety
/// On a processor with AVX-512; `depth` elements are readable at each of the `lanes` lanes, and `columns` writable in each
/// of the `depth` rows.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f,avx512vl,avx512dq,avx512bw,avx2,fma")]
unsafe fn transpose_block(block: &Block) {
    use std::arch::x86_64::*;

    let mask = |count: usize| -> __mmask16 { if count >= 16 { !0 } else { (1 << count) - 1 } };
    let inner = mask(block.depth);
    let mut rows = [_mm512_setzero_ps(); 16];
    for lane in 0..block.lanes {
        // SAFETY: the masked elements of an existing lane.
        rows[lane] = unsafe { _mm512_maskz_loadu_ps(inner, block.source.add(lane * block.lane_stride)) };
    }
    // Within each group of four lanes, a 4 x 4 transposition of every 128-bit quarter: quarter q of `quads[g][d]` holds
    // lanes 4g..4g+4 at depth 4q + d.
    let mut quads = [[_mm512_setzero_ps(); 4]; 4];
    for g in 0..4 {
        let (a, b, c, d) = (rows[4 * g], rows[4 * g + 1], rows[4 * g + 2], rows[4 * g + 3]);
        let (ab_low, ab_high) = (_mm512_unpacklo_ps(a, b), _mm512_unpackhi_ps(a, b));
        let (cd_low, cd_high) = (_mm512_unpacklo_ps(c, d), _mm512_unpackhi_ps(c, d));
        quads[g] = [
            _mm512_shuffle_ps::<0b01_00_01_00>(ab_low, cd_low),
            _mm512_shuffle_ps::<0b11_10_11_10>(ab_low, cd_low),
            _mm512_shuffle_ps::<0b01_00_01_00>(ab_high, cd_high),
            _mm512_shuffle_ps::<0b11_10_11_10>(ab_high, cd_high),
        ];
    }
    // Then a 4 x 4 transposition of the quarters themselves.
    let outer = mask(block.columns);
    for d in 0..4 {
        let (a, b, c, e) = (quads[0][d], quads[1][d], quads[2][d], quads[3][d]);
        let (ab_low, ab_high) =
            (_mm512_shuffle_f32x4::<0b10_00_10_00>(a, b), _mm512_shuffle_f32x4::<0b11_01_11_01>(a, b));
        let (ce_low, ce_high) =
            (_mm512_shuffle_f32x4::<0b10_00_10_00>(c, e), _mm512_shuffle_f32x4::<0b11_01_11_01>(c, e));
        let by_quarter = [
            _mm512_shuffle_f32x4::<0b10_00_10_00>(ab_low, ce_low),
            _mm512_shuffle_f32x4::<0b10_00_10_00>(ab_high, ce_high),
            _mm512_shuffle_f32x4::<0b11_01_11_01>(ab_low, ce_low),
            _mm512_shuffle_f32x4::<0b11_01_11_01>(ab_high, ce_high),
        ];
        for (q, row) in by_quarter.into_iter().enumerate() {
            let p = 4 * q + d;
            if p < block.depth {
                // SAFETY: row `p` exists, and the mask keeps to its columns.
                unsafe { _mm512_mask_storeu_ps(block.target.add(p * block.width), outer, row) };
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::gemm::reference::random;

    proptest! {
        #[test]
        fn each_element_is_moved_and_the_rest_is_zero(
            lanes in 0usize..70, more in 0usize..20, depth in 0usize..50, gap in 0usize..3,
        ) {
            let width = lanes + more;
            let data = random(lanes * (depth + gap), 5);
            for isa in Isa::available() {
                let mut panel = vec![f32::NAN; depth * width + 3];
                transpose(isa, &data, depth + gap, lanes, depth, width, &mut panel);
                for p in 0..depth {
                    for l in 0..width {
                        let expected = if l < lanes { data[l * (depth + gap) + p] } else { 0.0 };
                        prop_assert_eq!(panel[p * width + l], expected, "{} at depth {}, lane {}", isa, p, l);
                    }
                }
                prop_assert!(panel[depth * width..].iter().all(|x| x.is_nan()));
            }
        }
    }
}
