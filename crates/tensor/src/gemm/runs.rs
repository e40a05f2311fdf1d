//! Packing by copying runs: for every depth the same short list of contiguous pieces, moved by the depth's offset.
#![allow(unsafe_code)]

use crate::simd::Isa;

/// A piece of a panel's row that is contiguous in the source.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Run {
    /// Where the piece begins in the panel's row.
    pub(crate) lane: usize,
    /// Its length.
    pub(crate) len: usize,
    /// Where it begins in the source, before the depth's offset is added.
    pub(crate) offset: usize,
}

/// For each depth `p` and each run: `panel[p * width + lane ..][..len] = data[offset + depth_offsets[p] ..][..len]`, where
/// elements whose counterpart in `mask` is not above zero are replaced by zero. The runs fill the row from its beginning
/// without gaps; what is left of the width becomes zero.
///
/// # Panics
/// If a run does not lie inside the data, the mask or the panel.
pub(crate) fn copy_runs(
    isa: Isa,
    data: &[f32],
    mask: Option<&[f32]>,
    runs: &[Run],
    depth_offsets: impl ExactSizeIterator<Item = usize> + Clone,
    width: usize,
    panel: &mut [f32],
) {
    let filled = runs.last().map_or(0, |run| run.lane + run.len);
    assert!(filled <= width, "runs of {filled} elements in a row of {width}");
    assert_eq!(panel.len(), depth_offsets.len() * width, "length of a panel of width {width}");
    if width == 0 || depth_offsets.len() == 0 {
        return;
    }
    let furthest = runs.iter().map(|run| run.offset + run.len).max().unwrap_or(0);
    let last = depth_offsets.clone().max().unwrap_or(0);
    assert!(furthest + last <= data.len(), "a run ends at {} of {}", furthest + last, data.len());
    if let Some(mask) = mask {
        assert_eq!(mask.len(), data.len(), "the mask's length");
    }
    match isa {
        #[cfg(target_arch = "x86_64")]
        Isa::Avx512(_) => {
            // SAFETY: the token proves the instruction set; the assertions above are what the function asks for.
            unsafe { avx512::copy(data, mask, runs, depth_offsets, width, filled, panel) }
        }
        #[cfg(target_arch = "x86_64")]
        Isa::Avx2(_) => {
            // SAFETY: the token proves the instruction set.
            unsafe { copy_avx2(data, mask, runs, depth_offsets, width, filled, panel) }
        }
        _ => copy(data, mask, runs, depth_offsets, width, filled, panel),
    }
}

/// # Safety
/// On a processor with AVX2.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma")]
unsafe fn copy_avx2(
    data: &[f32],
    mask: Option<&[f32]>,
    runs: &[Run],
    depth_offsets: impl Iterator<Item = usize>,
    width: usize,
    filled: usize,
    panel: &mut [f32],
) {
    copy(data, mask, runs, depth_offsets, width, filled, panel);
}

#[inline(always)]
fn copy(
    data: &[f32],
    mask: Option<&[f32]>,
    runs: &[Run],
    depth_offsets: impl Iterator<Item = usize>,
    width: usize,
    filled: usize,
    panel: &mut [f32],
) {
    for (row, depth) in panel.chunks_exact_mut(width).zip(depth_offsets) {
        for run in runs {
            let out = &mut row[run.lane..run.lane + run.len];
            let source = run.offset + depth..run.offset + depth + run.len;
            match mask {
                Some(mask) => {
                    for ((out, &value), &mask) in out.iter_mut().zip(&data[source.clone()]).zip(&mask[source])
                    {
                        *out = if mask > 0.0 { value } else { 0.0 };
                    }
                }
                None => {
                    for (out, &value) in out.iter_mut().zip(&data[source]) {
                        *out = value;
                    }
                }
            }
        }
        row[filled..].fill(0.0);
    }
}

#[cfg(target_arch = "x86_64")]
mod avx512 {
    use std::arch::x86_64::{
        __mmask16, _CMP_GT_OQ, _mm512_cmp_ps_mask, _mm512_mask_storeu_ps, _mm512_maskz_loadu_ps,
        _mm512_setzero_ps,
    };

    use super::Run;

    /// # Safety
    /// On a processor with AVX-512; all runs at all depths lie inside `data` and `mask`, all rows inside `panel`.
    #[target_feature(enable = "avx512f,avx512vl,avx512dq,avx512bw,avx2,fma")]
    pub(super) unsafe fn copy(
        data: &[f32],
        mask: Option<&[f32]>,
        runs: &[Run],
        depth_offsets: impl Iterator<Item = usize>,
        width: usize,
        filled: usize,
        panel: &mut [f32],
    ) {
        let (data, mask, panel) = (data.as_ptr(), mask.map(<[f32]>::as_ptr), panel.as_mut_ptr());
        for (p, depth) in depth_offsets.enumerate() {
            let row = panel.wrapping_add(p * width);
            for run in runs {
                let (source, target) = (run.offset + depth, row.wrapping_add(run.lane));
                let mut done = 0;
                while done < run.len {
                    let left = run.len - done;
                    let lanes: __mmask16 = if left >= 16 { !0 } else { (1 << left) - 1 };
                    // SAFETY: the lanes in use lie inside the run, which lies inside data and mask, and the panel.
                    unsafe {
                        let keep = mask.map_or(lanes, |mask| {
                            let mask = _mm512_maskz_loadu_ps(lanes, mask.add(source + done));
                            _mm512_cmp_ps_mask::<_CMP_GT_OQ>(mask, _mm512_setzero_ps())
                        });
                        let value = _mm512_maskz_loadu_ps(keep, data.add(source + done));
                        _mm512_mask_storeu_ps(target.add(done), lanes, value);
                    }
                    done += 16;
                }
            }
            let mut done = filled;
            while done < width {
                let left = width - done;
                let lanes: __mmask16 = if left >= 16 { !0 } else { (1 << left) - 1 };
                // SAFETY: `done + lanes` stays inside the row.
                unsafe { _mm512_mask_storeu_ps(row.add(done), lanes, _mm512_setzero_ps()) };
                done += 16;
            }
        }
    }
}
