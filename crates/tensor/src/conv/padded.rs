//! Planes between zeros: copied once, so that every window lies inside of the copy.

use super::ConvGeometry;

/// The layout of a plane's copy.
///
/// With phases, a row has the columns 0, s, 2 s, ... first, then 1, s + 1, ..., so that what windows a stride of s apart have in
/// the same place are neighbors.
#[derive(Debug, Clone, Copy)]
pub(super) struct Padded {
    /// The plane's rows and columns.
    size: [usize; 2],
    /// The place of its first pixel in the copy: outside, if that is negative.
    origin: [isize; 2],
    /// Rows or columns of the copy from a pixel to the next.
    step: [usize; 2],
    /// Rows of the copy.
    rows: usize,
    phases: usize,
    /// Columns of a phase.
    phase_stride: usize,
}

impl Padded {
    /// A plane as it is, in rows of `columns`.
    pub(super) fn plain(size: [usize; 2], columns: usize) -> Self {
        Self { size, origin: [0; 2], step: [1; 2], rows: size[0], phases: 1, phase_stride: columns }
    }

    /// A plane of the input of `g` in its padding. Phases have at least so many columns.
    pub(super) fn input(g: &ConvGeometry, phases: usize, columns: usize) -> Self {
        let [rows, width] = g.padded();
        let (origin, phase_stride) = (g.padding.map(|p| p as isize), width.div_ceil(phases).max(columns));
        Self { size: g.input, origin, step: [1; 2], rows, phases, phase_stride }
    }

    /// A plane of the output gradient of `g`, with zeros between its pixels where the stride is more than 1: what the input
    /// gradient is a convolution of, with the kernel flipped. Rows have at least so many columns.
    pub(super) fn output_gradient(g: &ConvGeometry, columns: usize) -> Self {
        let origin = [0, 1].map(|axis| g.window(axis) as isize - 1 - g.padding[axis] as isize);
        let [rows, width] = [0, 1].map(|axis| g.input[axis] + g.window(axis) - 1);
        Self { size: g.output(), origin, step: g.stride, rows, phases: 1, phase_stride: width.max(columns) }
    }

    pub(super) fn pixels(&self) -> usize {
        self.size[0] * self.size[1]
    }

    /// Elements between rows.
    pub(super) fn row_stride(&self) -> usize {
        self.phases * self.phase_stride
    }

    /// Elements of a copy.
    pub(super) fn len(&self) -> usize {
        self.rows * self.row_stride()
    }

    /// The place of a column in its row.
    #[inline(always)]
    pub(super) fn column(&self, column: usize) -> usize {
        match self.phases {
            1 => column,
            phases => column / phases + column % phases * self.phase_stride,
        }
    }

    /// Copies a plane. What lies around it and between its pixels is left.
    #[inline(always)]
    pub(super) fn fill(&self, plane: &[f32], copy: &mut [f32]) {
        let (width, step, phases) = (self.size[1], self.step[1], self.phases);
        let place = |axis: usize, at: usize| (at * self.step[axis]).checked_add_signed(self.origin[axis]);
        for row in 0..self.size[0] {
            let Some(to) = place(0, row).filter(|&to| to < self.rows) else { continue };
            let pixels = &plane[row * width..][..width];
            let line = &mut copy[to * self.row_stride()..][..self.row_stride()];
            for (phase, line) in line.chunks_exact_mut(self.phase_stride).enumerate() {
                let own = |&column: &usize| place(1, column).is_some_and(|to| to % phases == phase);
                let Some(first) = (0..width).find(own) else { continue };
                let to = place(1, first).unwrap_or(0) / phases;
                let line = &mut line[to.min(self.phase_stride)..];
                let count = line.len().min(width - first);
                if phases * step == 1 {
                    line[..count].copy_from_slice(&pixels[first..][..count]);
                } else {
                    let own = pixels[first..].iter().step_by(phases);
                    line.iter_mut().step_by(step).zip(own).for_each(|(to, &pixel)| *to = pixel);
                }
            }
        }
    }
}
