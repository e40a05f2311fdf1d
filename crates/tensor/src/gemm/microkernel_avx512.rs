//! The AVX-512 tile kernels: up to 8 x 48 (24 accumulators of 16 lanes, three vectors of B, one broadcast of A).
#![allow(unsafe_code)]

use std::arch::x86_64::{
    __m512, __mmask16, _MM_HINT_T0, _mm_prefetch, _mm512_add_ps, _mm512_fmadd_ps, _mm512_loadu_ps,
    _mm512_mask_storeu_ps, _mm512_maskz_loadu_ps, _mm512_max_ps, _mm512_set1_ps, _mm512_setzero_ps,
    _mm512_storeu_ps,
};

use super::microkernel::{BLOCK_ROW_STRIDE, MicroKernel, Tile};
use crate::simd::Avx512;

const LANES: usize = 16;
const MR: usize = 8;
const NR: usize = 48;
/// Depths in one turn of the inner loop.
const UNROLL: usize = 4;

impl MicroKernel for Avx512 {
    const LANES: usize = LANES;
    const MR: usize = MR;
    const NR: usize = NR;

    unsafe fn run(self, tile: &Tile) {
        debug_assert!((1..=MR).contains(&tile.rows) && (1..=NR).contains(&tile.cols));
        let vectors = tile.cols.div_ceil(LANES);
        let table = if tile.cols.is_multiple_of(LANES) { &FULL } else { &MASKED };
        // SAFETY: `self` proves the instruction set; the entry is made for these rows and vectors; the caller
        // promises the addresses.
        unsafe { table[tile.rows - 1][vectors - 1](tile) }
    }
}

type Kernel = unsafe fn(&Tile);

macro_rules! table {
    ($masked:literal: $($rows:literal)*) => {
        [$([multiply::<$rows, 1, $masked>, multiply::<$rows, 2, $masked>, multiply::<$rows, 3, $masked>]),*]
    };
}
static FULL: [[Kernel; 3]; MR] = table!(false: 1 2 3 4 5 6 7 8);
static MASKED: [[Kernel; 3]; MR] = table!(true: 1 2 3 4 5 6 7 8);

/// # Safety
/// As [`MicroKernel::run`], on a processor with AVX-512, with `ROWS == tile.rows`, `VECTORS == ceil(tile.cols / 16)`, and
/// `MASKED` unless `tile.cols` is a multiple of 16.
#[target_feature(enable = "avx512f,avx512vl,avx512dq,avx512bw,avx2,fma")]
unsafe fn multiply<const ROWS: usize, const VECTORS: usize, const MASKED: bool>(tile: &Tile) {
    // Lanes of the last vector that exist.
    let tail: __mmask16 = if MASKED { (1u16 << (tile.cols % LANES)) - 1 } else { !0 };
    for i in 0..ROWS {
        // The sums take far longer than fetching the lines of C they will be added to or stored over.
        let row = tile.c.wrapping_add(i * tile.c_row_stride);
        for v in 0..VECTORS {
            _mm_prefetch::<_MM_HINT_T0>(row.wrapping_add(v * LANES).cast());
        }
        _mm_prefetch::<_MM_HINT_T0>(row.wrapping_add(tile.cols - 1).cast());
    }
    let mut sums = [[_mm512_setzero_ps(); VECTORS]; ROWS];
    // SAFETY: the caller's promise is passed on unchanged; the usual strides get copies of the loop in which all offsets
    // are constants.
    unsafe {
        match (tile.a_row_stride, tile.a_depth_stride, tile.b_depth_stride) {
            (1, a, b) if a == ROWS && b == VECTORS * LANES => {
                sum_depth::<ROWS, VECTORS, MASKED, PACKED_BOTH>(tile, tail, &mut sums);
            }
            (1, a, BLOCK_ROW_STRIDE) if a == ROWS => {
                sum_depth::<ROWS, VECTORS, MASKED, PACKED_A>(tile, tail, &mut sums);
            }
            (BLOCK_ROW_STRIDE, 1, b) if b == VECTORS * LANES => {
                sum_depth::<ROWS, VECTORS, MASKED, PACKED_B>(tile, tail, &mut sums);
            }
            _ => sum_depth::<ROWS, VECTORS, MASKED, ANY_STRIDES>(tile, tail, &mut sums),
        }
    }
    // Each step is decided once and done for the whole tile, in registers.
    let epilogue = tile.epilogue;
    let address = |i: usize, v: usize| tile.c.wrapping_add(i * tile.c_row_stride + v * LANES);
    if epilogue.accumulate {
        for i in 0..ROWS {
            for v in 0..VECTORS {
                // SAFETY: row `i` and the (unmasked) lanes of vector `v` lie inside the tile.
                let old = unsafe { load(address(i, v), MASKED && v + 1 == VECTORS, tail) };
                sums[i][v] = _mm512_add_ps(old, sums[i][v]);
            }
        }
    }
    if !epilogue.bias.is_null() {
        for i in 0..ROWS {
            // SAFETY: a bias that is not null has `rows` elements.
            let bias = _mm512_set1_ps(unsafe { *epilogue.bias.add(i) });
            for v in 0..VECTORS {
                sums[i][v] = _mm512_add_ps(sums[i][v], bias);
            }
        }
    }
    if epilogue.relu {
        for i in 0..ROWS {
            for v in 0..VECTORS {
                // The second operand is what the instruction returns for a NaN.
                sums[i][v] = _mm512_max_ps(_mm512_setzero_ps(), sums[i][v]);
            }
        }
    }
    for i in 0..ROWS {
        for v in 0..VECTORS {
            let (c, masked) = (address(i, v), MASKED && v + 1 == VECTORS);
            // SAFETY: row `i` and the (unmasked) lanes of vector `v` lie inside the tile.
            unsafe {
                if masked {
                    _mm512_mask_storeu_ps(c, tail, sums[i][v]);
                } else {
                    _mm512_storeu_ps(c, sums[i][v]);
                }
            }
        }
    }
}

/// Both operands in panels as wide as the tile.
const PACKED_BOTH: u8 = 0;
/// A in a panel as wide as the tile, B in a block of rows.
const PACKED_A: u8 = 1;
/// A in a block of rows, B in a panel as wide as the tile.
const PACKED_B: u8 = 2;
/// Whatever the tile says.
const ANY_STRIDES: u8 = 3;

/// # Safety
/// As [`multiply`]; the tile's strides are those of `STRIDES`.
#[inline]
#[target_feature(enable = "avx512f,avx512vl,avx512dq,avx512bw,avx2,fma")]
unsafe fn sum_depth<const ROWS: usize, const VECTORS: usize, const MASKED: bool, const STRIDES: u8>(
    tile: &Tile,
    tail: __mmask16,
    sums: &mut [[__m512; VECTORS]; ROWS],
) {
    let [a_row_stride, a_depth_stride, b_depth_stride] = match STRIDES {
        PACKED_BOTH => [1, ROWS, VECTORS * LANES],
        PACKED_A => [1, ROWS, BLOCK_ROW_STRIDE],
        PACKED_B => [BLOCK_ROW_STRIDE, 1, VECTORS * LANES],
        _ => [tile.a_row_stride, tile.a_depth_stride, tile.b_depth_stride],
    };
    let (mut a, mut b, mut left) = (tile.a, tile.b, tile.depth);
    while left > 0 {
        // Several depths for each turn of the loop: counting competes with the multiply-adds for the same units.
        let unroll = if STRIDES == ANY_STRIDES || left < UNROLL { 1 } else { UNROLL };
        for _ in 0..unroll {
            let mut row = [_mm512_setzero_ps(); VECTORS];
            for v in 0..VECTORS {
                // SAFETY: the (unmasked) lanes of vector `v` are columns of the tile.
                row[v] = unsafe { load(b.add(v * LANES), MASKED && v + 1 == VECTORS, tail) };
            }
            for i in 0..ROWS {
                // SAFETY: `i < rows`, and `a` has advanced by fewer than `depth` depths.
                let value = _mm512_set1_ps(unsafe { *a.add(i * a_row_stride) });
                for v in 0..VECTORS {
                    sums[i][v] = _mm512_fmadd_ps(value, row[v], sums[i][v]);
                }
            }
            a = a.wrapping_add(a_depth_stride);
            b = b.wrapping_add(b_depth_stride);
        }
        left -= unroll;
    }
}

/// # Safety
/// 16 elements at `address` are readable, or those of `tail` if `masked`.
#[inline]
#[target_feature(enable = "avx512f")]
unsafe fn load(address: *const f32, masked: bool, tail: __mmask16) -> __m512 {
    // SAFETY: the caller's promise.
    unsafe { if masked { _mm512_maskz_loadu_ps(tail, address) } else { _mm512_loadu_ps(address) } }
}
