//! Operands of a product: matrices that may exist only as a rule for packing.
//!
//! A blocked product never reads its operands element by element: it asks for panels. An operand may therefore be an
//! image's windows or a transposed matrix without any of these ever being stored.

use std::ops::Range;

use crate::simd::Isa;

/// B, or A before it is packed.
pub(crate) trait Operand: Sync {
    /// n: columns of B; m: rows of A.
    fn extent(&self) -> usize;

    /// k: the length of the sums.
    fn k(&self) -> usize;

    /// Fills a panel with some columns of B, or rows of A: row `p` of the panel, `width` values, has the elements at
    /// `ks.start + p` of all columns, and zeros after them. Every value of the panel is written.
    ///
    /// # Panics
    /// If a range exceeds the operand, `width < columns.len()`, or the panel's length is not `ks.len() * width`.
    fn pack(&self, isa: Isa, columns: Range<usize>, ks: Range<usize>, width: usize, panel: &mut [f32]);
}

/// Checks the arguments of [`Operand::pack`].
pub(crate) fn check_panel(
    operand: &impl Operand,
    columns: &Range<usize>,
    ks: &Range<usize>,
    width: usize,
    panel: &[f32],
) {
    assert!(columns.end <= operand.extent(), "columns {columns:?} of {}", operand.extent());
    assert!(ks.end <= operand.k(), "rows {ks:?} of {}", operand.k());
    assert!(columns.len() <= width, "{} columns in a panel of width {width}", columns.len());
    assert_eq!(panel.len(), ks.len() * width, "length of a panel of width {width}");
}

/// An operand given by a function of (column of B or row of A, k): the slowest kind, for weights, which are packed once.
pub(crate) struct Elements<F> {
    /// Columns of B, or rows of A.
    pub(crate) extent: usize,
    /// Length of the sums.
    pub(crate) k: usize,
    /// The element at (column of B or row of A, k).
    pub(crate) at: F,
}

impl<F: Fn(usize, usize) -> f32 + Sync> Operand for Elements<F> {
    fn extent(&self) -> usize {
        self.extent
    }

    fn k(&self) -> usize {
        self.k
    }

    fn pack(&self, _: Isa, columns: Range<usize>, ks: Range<usize>, width: usize, panel: &mut [f32]) {
        check_panel(self, &columns, &ks, width, panel);
        for (out, k) in panel.chunks_exact_mut(width.max(1)).zip(ks) {
            out.fill(0.0);
            for (out, column) in out.iter_mut().zip(columns.clone()) {
                *out = (self.at)(column, k);
            }
        }
    }
}
