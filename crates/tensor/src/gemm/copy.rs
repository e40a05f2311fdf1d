//! Packing by copying runs: for every row of a panel the same short list of contiguous pieces, moved by the row's offset.
#![allow(unsafe_code)]

use crate::simd::{Isa, Kernel, Simd, dispatch};

/// A piece of a panel's row that is contiguous in the source.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Run {
    /// The place where it begins in the panel's row.
    pub(crate) column: usize,
    /// The place where it begins in the source, before the row's offset is added.
    pub(crate) offset: usize,
    pub(crate) len: usize,
}

/// Copies to each row of `panel` (`width` values), for each run: `row[column..][..len] = data[offset + row_offset..][..len]`. The
/// runs fill the row from its beginning without gaps; what is left of the width becomes zero.
///
/// # Panics
/// If a run does not lie inside the data or the panel.
pub(crate) fn copy_runs(
    isa: Isa,
    data: &[f32],
    runs: &[Run],
    row_offsets: impl ExactSizeIterator<Item = usize>,
    width: usize,
    panel: &mut [f32],
) {
    let filled = runs.iter().map(|run| run.column + run.len).max().unwrap_or(0);
    assert!(filled <= width, "runs of {filled} elements in a row of {width}");
    assert_eq!(panel.len(), row_offsets.len() * width, "length of a panel of width {width}");
    let furthest = runs.iter().map(|run| run.offset + run.len).max().unwrap_or(0);
    if width > 0 {
        dispatch(isa, CopyRuns { data, runs, row_offsets, width, filled, furthest, panel });
    }
}

/// The arguments of [`copy_runs`], which has checked them but for the row offsets.
struct CopyRuns<'a, I> {
    data: &'a [f32],
    runs: &'a [Run],
    row_offsets: I,
    width: usize,
    /// The end of the runs in a row.
    filled: usize,
    /// The end of the runs in the source, before the row's offset is added.
    furthest: usize,
    panel: &'a mut [f32],
}

/// Rows that a run is copied to before the next run's turn: they stay in the first-level cache meanwhile.
const ROWS: usize = 32;

impl<I: Iterator<Item = usize>> Kernel for CopyRuns<'_, I> {
    #[inline(always)]
    fn run<S: Simd>(mut self, s: S) {
        let mut offsets = [0; ROWS];
        for rows in self.panel.chunks_mut(ROWS * self.width) {
            let count = rows.len() / self.width;
            let mut end = self.furthest;
            for (offset, row) in offsets.iter_mut().zip(self.row_offsets.by_ref().take(count)) {
                *offset = row;
                end = end.max(row.saturating_add(self.furthest));
            }
            assert!(end <= self.data.len(), "a run ends at {end} of {}", self.data.len());
            for run in self.runs.iter().filter(|run| run.len > 0) {
                let data = self.data.as_ptr().wrapping_add(run.offset);
                let target = rows.as_mut_ptr().wrapping_add(run.column);
                let piece = Piece { data, target, width: self.width, len: run.len };
                // SAFETY: the assertion above found the furthest run, moved by each of these offsets (those not given are 0 or of
                // an earlier chunk, which were asserted then), inside of the data, and `copy_runs` the runs inside of the width
                // of a row. Short ones get a copy of the loop with a constant number of vectors.
                unsafe {
                    match run.len.div_ceil(S::LANES) {
                        1 => piece.copy(s, &offsets[..count], 1),
                        2 => piece.copy(s, &offsets[..count], 2),
                        3 => piece.copy(s, &offsets[..count], 3),
                        vectors => piece.copy(s, &offsets[..count], vectors),
                    }
                }
            }
            for row in rows.chunks_exact_mut(self.width) {
                row[self.filled..].fill(0.0);
            }
        }
    }
}

/// A run as addresses before the row's offset is added.
struct Piece {
    data: *const f32,
    target: *mut f32,
    width: usize,
    len: usize,
}

impl Piece {
    /// Copies the run to so many rows, of which the offsets are given.
    ///
    /// # Safety
    /// The run lies inside the data at each offset, and in each row of the target; it is so many vectors long.
    #[inline(always)]
    unsafe fn copy<S: Simd>(&self, s: S, offsets: &[usize], vectors: usize) {
        let last = self.len - (vectors - 1) * S::LANES;
        let tail = (last < S::LANES).then_some(s.mask(last));
        let mut target = self.target;
        for &offset in offsets {
            for v in 0..vectors {
                let lanes = if v + 1 == vectors { tail } else { None };
                let at = v * S::LANES;
                // SAFETY: the lanes in use lie inside the run.
                unsafe {
                    let value = s.load_lanes_at(self.data.add(offset + at), lanes);
                    s.store_lanes_at(target.add(at), lanes, value);
                };
            }
            target = target.wrapping_add(self.width);
        }
    }
}
