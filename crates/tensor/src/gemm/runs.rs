//! Packing by copying runs: for every depth the same short list of contiguous pieces, moved by the depth's offset.
#![allow(unsafe_code)]

use crate::simd::{Isa, dispatch};

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

/// The other way round: elements of `rows` whose counterpart in `mask` is not above zero become zero, and the rest of the row
/// stays as it is.
///
/// # Panics
/// If a run does not lie inside the mask or the row.
pub(crate) fn mask_runs(
    mask: &[f32],
    runs: &[Run],
    depth_offsets: impl Iterator<Item = usize>,
    width: usize,
    rows: &mut [f32],
) {
    dispatch::run(Masking { mask, runs, depth_offsets, width, rows });
}

/// The arguments of [`mask_runs`].
struct Masking<'a, I> {
    mask: &'a [f32],
    runs: &'a [Run],
    depth_offsets: I,
    width: usize,
    rows: &'a mut [f32],
}

impl<I: Iterator<Item = usize>> dispatch::Kernel for Masking<'_, I> {
    #[inline(always)]
    fn run(self) {
        for (row, depth) in self.rows.chunks_exact_mut(self.width).zip(self.depth_offsets) {
            for run in self.runs {
                let values = &mut row[run.lane..run.lane + run.len];
                for (value, &mask) in values.iter_mut().zip(&self.mask[run.offset + depth..][..run.len]) {
                    *value = if mask > 0.0 { *value } else { 0.0 };
                }
            }
        }
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

    /// Depths that a run is copied through before the next run's turn: their rows of the panel stay in the first-level
    /// cache meanwhile.
    const DEPTHS: usize = 32;

    /// # Safety
    /// On a processor with AVX-512; all runs at all depths lie inside `data` and `mask`, all rows inside `panel`.
    #[target_feature(enable = "avx512f,avx512vl,avx512dq,avx512bw,avx2,fma")]
    pub(super) unsafe fn copy(
        data: &[f32],
        mask: Option<&[f32]>,
        runs: &[Run],
        mut depth_offsets: impl Iterator<Item = usize>,
        width: usize,
        filled: usize,
        panel: &mut [f32],
    ) {
        let (data, mask) = (data.as_ptr(), mask.map(<[f32]>::as_ptr));
        let mut offsets = [0; DEPTHS];
        for rows in panel.chunks_mut(DEPTHS * width) {
            let depths = rows.len() / width;
            for (offset, depth) in offsets.iter_mut().zip(depth_offsets.by_ref().take(depths)) {
                *offset = depth;
            }
            let offsets = &offsets[..depths];
            for run in runs {
                let piece = Piece {
                    data: data.wrapping_add(run.offset),
                    mask: mask.map(|mask| mask.wrapping_add(run.offset)),
                    target: rows.as_mut_ptr().wrapping_add(run.lane),
                    width,
                    vectors: run.len.div_ceil(16),
                    tail: lanes(run.len - (run.len.max(1) - 1) / 16 * 16),
                };
                // SAFETY: the piece is a run. Short ones get a copy of the loop with a constant number of vectors.
                unsafe {
                    match piece.vectors {
                        1 => piece.copy(offsets, 1),
                        2 => piece.copy(offsets, 2),
                        3 => piece.copy(offsets, 3),
                        vectors => piece.copy(offsets, vectors),
                    }
                }
            }
            for row in rows.chunks_exact_mut(width) {
                for rest in row[filled..].chunks_mut(16) {
                    // SAFETY: the mask keeps to the slice.
                    unsafe {
                        _mm512_mask_storeu_ps(rest.as_mut_ptr(), lanes(rest.len()), _mm512_setzero_ps());
                    };
                }
            }
        }
    }

    /// The mask of the first `count` lanes.
    fn lanes(count: usize) -> __mmask16 {
        if count >= 16 { !0 } else { (1 << count) - 1 }
    }

    /// A run as addresses before the depth is added.
    struct Piece {
        data: *const f32,
        mask: Option<*const f32>,
        target: *mut f32,
        width: usize,
        vectors: usize,
        /// Lanes of the last vector.
        tail: __mmask16,
    }

    impl Piece {
        /// # Safety
        /// On a processor with AVX-512; the run lies inside data and mask at each offset, and in each row of the target;
        /// `vectors` is `self.vectors`.
        #[inline]
        #[target_feature(enable = "avx512f,avx512vl,avx512dq,avx512bw,avx2,fma")]
        unsafe fn copy(&self, offsets: &[usize], vectors: usize) {
            let mut target = self.target;
            for &offset in offsets {
                for v in 0..vectors {
                    let lanes = if v + 1 == vectors { self.tail } else { !0 };
                    // SAFETY: the lanes in use lie inside the run.
                    unsafe {
                        let keep = self.mask.map_or(lanes, |mask| {
                            let mask = _mm512_maskz_loadu_ps(lanes, mask.add(offset + v * 16));
                            _mm512_cmp_ps_mask::<_CMP_GT_OQ>(mask, _mm512_setzero_ps())
                        });
                        let value = _mm512_maskz_loadu_ps(keep, self.data.add(offset + v * 16));
                        _mm512_mask_storeu_ps(target.add(v * 16), lanes, value);
                    }
                }
                target = target.wrapping_add(self.width);
            }
        }
    }
}
