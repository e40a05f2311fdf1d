//! What a matrix product multiplies: matrices that may exist only as a rule for filling a packed panel.
//!
//! A blocked product never reads its operands element by element: it asks for panels. An operand may therefore be an
//! image's windows, a masked gradient or a transposed matrix without any of these ever being stored.

use std::ops::Range;

use crate::simd::Isa;

/// A matrix operand, seen from its panels: B has a *lane* per column, A a lane per row; both have a *depth*, the axis
/// that is summed over.
pub trait Operand: Sync {
    /// Columns of B, or rows of A.
    fn lanes(&self) -> usize;

    /// Length of the sum.
    fn depth(&self) -> usize;

    /// Fills a panel: element (lane `lanes.start + l`, depth `depths.start + p`) goes to `panel[p * width + l]`, and the
    /// columns `lanes.len()..width` become zero. Every element of the panel is written.
    ///
    /// # Panics
    /// If a range exceeds the operand, `width < lanes.len()`, or the panel's length is not `depths.len() * width`.
    fn pack(&self, isa: Isa, lanes: Range<usize>, depths: Range<usize>, width: usize, panel: &mut [f32]);
}

/// Checks the arguments of [`Operand::pack`].
#[inline]
pub(crate) fn check_panel(
    operand: &impl Operand,
    lanes: &Range<usize>,
    depths: &Range<usize>,
    width: usize,
    panel: &[f32],
) {
    assert!(lanes.end <= operand.lanes(), "lanes {lanes:?} of {}", operand.lanes());
    assert!(depths.end <= operand.depth(), "depths {depths:?} of {}", operand.depth());
    assert!(lanes.len() <= width, "{} lanes in a panel of width {width}", lanes.len());
    assert_eq!(panel.len(), depths.len() * width, "length of a panel of width {width}");
}

/// An operand given by a function of (lane, depth): the slowest kind, for weights, which are packed once.
#[derive(Clone, Copy, Debug)]
pub struct Elements<F> {
    /// Columns of B, or rows of A.
    pub lanes: usize,
    /// Length of the sum.
    pub depth: usize,
    /// The element at (lane, depth).
    pub at: F,
}

impl<F: Fn(usize, usize) -> f32 + Sync> Operand for Elements<F> {
    fn lanes(&self) -> usize {
        self.lanes
    }

    fn depth(&self) -> usize {
        self.depth
    }

    fn pack(&self, _: Isa, lanes: Range<usize>, depths: Range<usize>, width: usize, panel: &mut [f32]) {
        check_panel(self, &lanes, &depths, width, panel);
        if width == 0 {
            return;
        }
        for (out, depth) in panel.chunks_exact_mut(width).zip(depths) {
            let (filled, padding) = out.split_at_mut(lanes.len());
            for (out, lane) in filled.iter_mut().zip(lanes.clone()) {
                *out = (self.at)(lane, depth);
            }
            padding.fill(0.0);
        }
    }
}
