//! Where values lie in the Winograd domain: `n * n` planes, each a matrix.

use super::Tile;
use crate::simd::{Isa, Registers};

/// Channels of a row of transformed inputs are padded to this many, so that every vector unit fits.
const ROW_ALIGNMENT: usize = 16;

/// A matrix of `rows` rows repeated in every plane, its columns (channels) in panels of `width`: a panel is stored whole,
/// row after row, before the next one.
///
/// Transformed inputs have a single panel. Transformed weights, output gradients and products have panels as wide as
/// the micro-kernel, which then reads them from front to back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Planes {
    /// Rows: tiles, or channels summed over.
    pub(super) rows: usize,
    /// Columns of a panel.
    pub(super) width: usize,
    /// Panels.
    pub(super) panels: usize,
    /// Distance between planes.
    pub(super) stride: usize,
}

impl Planes {
    /// `panels` panels of `width` columns and `rows` rows.
    pub(super) fn new(rows: usize, width: usize, panels: usize) -> Self {
        // An odd number of cache lines: the same place of neighbouring planes then never maps to the same cache sets, as it
        // would with the powers of two that channel counts like to be (a tile touches all planes at once).
        let lines = (rows * width * panels).div_ceil(16) | 1;
        Self { rows, width, panels, stride: lines * 16 }
    }

    /// One panel that holds all `channels`.
    pub(super) fn single(rows: usize, channels: usize) -> Self {
        Self::new(rows, channels.next_multiple_of(ROW_ALIGNMENT), 1)
    }

    /// `channels` in panels of the micro-kernel.
    pub(super) fn panelled(rows: usize, channels: usize, isa: Isa) -> Self {
        let width = panel_width(channels, isa);
        Self::new(rows, width, channels.div_ceil(width))
    }

    /// Values of all planes of `tile`.
    pub(super) fn len(&self, tile: Tile) -> usize {
        self.stride * tile.inputs() * tile.inputs()
    }

    /// Values of the planes of one row of `tile`.
    pub(super) fn row_len(&self, tile: Tile) -> usize {
        self.stride * tile.inputs()
    }

    /// Place of row 0 of `channel` in a plane; row `i` is `i * width` further.
    #[inline(always)]
    pub(super) fn column(&self, channel: usize) -> usize {
        channel / self.width * (self.rows * self.width) + channel % self.width
    }

    /// Panel columns over all panels.
    pub(super) fn columns(&self) -> usize {
        self.width * self.panels
    }
}

/// The panel width for so many columns: of the widths that there are tiles for, the widest that pads least.
pub(super) fn panel_width(columns: usize, isa: Isa) -> usize {
    let Registers { lanes, tile_rows, .. } = Registers::of(isa);
    let widths =
        (2..tile_rows.len()).filter(|&vectors| tile_rows[vectors] > 0).map(|vectors| vectors * lanes);
    let widest = widths.min_by_key(|&width| (columns.next_multiple_of(width), std::cmp::Reverse(width)));
    widest.expect("every instruction set has a tile of two vectors")
}

/// Rows of a tile of the product for panels of `width` columns.
pub(super) fn kernel_rows(width: usize, isa: Isa) -> usize {
    let Registers { lanes, tile_rows, .. } = Registers::of(isa);
    tile_rows[width / lanes]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn panels_pad_as_little_as_they_can() {
        let Some(isa) = Isa::available().into_iter().find(|isa| Registers::of(*isa).lanes == 16) else {
            return;
        };
        for (columns, width) in
            [(256, 64), (384, 64), (96, 48), (192, 64), (144, 48), (32, 32), (160, 32), (10, 32)]
        {
            assert_eq!(panel_width(columns, isa), width, "{columns} columns");
        }
    }

    #[test]
    fn planes_are_an_odd_number_of_cache_lines_apart() {
        for rows in [1, 16, 81] {
            for channels in [1, 16, 96, 256] {
                let planes = Planes::single(rows, channels);
                assert_eq!(planes.stride / 16 % 2, 1);
                assert!(planes.stride >= rows * channels);
                assert_eq!(planes.stride % 16, 0);
            }
        }
    }
}
