//! The tile kernel in plain Rust, shaped so that the compiler vectorises it for any target.
#![allow(unsafe_code)]

use super::microkernel::{MicroKernel, Tile};

/// The kernel that needs nothing of the processor.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Portable;

const MR: usize = 4;
const NR: usize = 8;

impl MicroKernel for Portable {
    const LANES: usize = 4;
    const MR: usize = MR;
    const NR: usize = NR;

    unsafe fn run(self, tile: &Tile) {
        debug_assert!(tile.rows <= MR && tile.cols <= NR);
        // SAFETY: the caller promises what `multiply` asks for; the arms pass the tile's own row count, and whether it is full.
        unsafe {
            match (tile.rows, tile.cols == NR) {
                (1, false) => multiply::<1, false>(tile),
                (2, false) => multiply::<2, false>(tile),
                (3, false) => multiply::<3, false>(tile),
                (_, false) => multiply::<4, false>(tile),
                (1, true) => multiply::<1, true>(tile),
                (2, true) => multiply::<2, true>(tile),
                (3, true) => multiply::<3, true>(tile),
                (_, true) => multiply::<4, true>(tile),
            }
        }
    }
}

/// One multiply-add: fused where the baseline of the target has the instruction (a call into the mathematics library
/// otherwise, some fifty times slower), else rounded twice.
#[inline(always)]
fn multiply_add(a: f32, b: f32, c: f32) -> f32 {
    if cfg!(any(target_feature = "fma", target_arch = "aarch64")) { a.mul_add(b, c) } else { a * b + c }
}

/// # Safety
/// As [`MicroKernel::run`], with `ROWS == tile.rows` and `FULL == (tile.cols == NR)`.
unsafe fn multiply<const ROWS: usize, const FULL: bool>(tile: &Tile) {
    let mut sums = [[0.0f32; NR]; ROWS];
    let (mut a, mut b) = (tile.a, tile.b);
    for _ in 0..tile.depth {
        let mut b_row = [0.0f32; NR];
        // SAFETY: `cols` elements of B are readable at each depth, and `cols <= NR`; the fixed-size copy of a full tile
        // is what lets the compiler keep the row in registers.
        unsafe {
            if FULL {
                b_row = b.cast::<[f32; NR]>().read_unaligned();
            } else {
                std::ptr::copy_nonoverlapping(b, b_row.as_mut_ptr(), tile.cols);
            }
        }
        for (i, row) in sums.iter_mut().enumerate() {
            // SAFETY: `i < rows`, and `a` has advanced by fewer than `depth` depths.
            let value = unsafe { *a.add(i * tile.a_row_stride) };
            for (sum, &b) in row.iter_mut().zip(&b_row) {
                *sum = multiply_add(value, b, *sum);
            }
        }
        a = a.wrapping_add(tile.a_depth_stride);
        b = b.wrapping_add(tile.b_depth_stride);
    }
    let epilogue = tile.epilogue;
    for (i, row) in sums.iter().enumerate() {
        // SAFETY: a non-null bias has `rows` elements.
        let bias = unsafe { if epilogue.bias.is_null() { 0.0 } else { *epilogue.bias.add(i) } };
        for (j, &sum) in row.iter().enumerate().take(tile.cols) {
            // SAFETY: `i < rows` and `j < cols`; C is read only when it is accumulated into.
            unsafe {
                let c = tile.c.add(i * tile.c_row_stride + j);
                let mut value = if epilogue.accumulate { *c + sum } else { sum };
                value += bias;
                *c = if epilogue.relu && value < 0.0 { 0.0 } else { value };
            }
        }
    }
}
