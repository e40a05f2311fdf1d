//! The AVX2 tile kernels: up to 6 x 16 (12 accumulators of 8 lanes, two vectors of B, one broadcast of A).
#![allow(unsafe_code)]

use std::arch::x86_64::{
    __m256, __m256i, _mm256_add_ps, _mm256_cmpgt_epi32, _mm256_fmadd_ps, _mm256_loadu_ps, _mm256_maskload_ps,
    _mm256_maskstore_ps, _mm256_max_ps, _mm256_set1_epi32, _mm256_set1_ps, _mm256_setr_epi32,
    _mm256_setzero_ps, _mm256_storeu_ps,
};

use super::microkernel::{BLOCK_ROW_STRIDE, MicroKernel, Tile};
use crate::simd::Avx2;

const LANES: usize = 8;
const MR: usize = 6;
const NR: usize = 16;

impl MicroKernel for Avx2 {
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
        [$([multiply::<$rows, 1, $masked>, multiply::<$rows, 2, $masked>]),*]
    };
}
static FULL: [[Kernel; 2]; MR] = table!(false: 1 2 3 4 5 6);
static MASKED: [[Kernel; 2]; MR] = table!(true: 1 2 3 4 5 6);

/// # Safety
/// As [`MicroKernel::run`], on a processor with AVX2 and FMA, with `ROWS == tile.rows`,
/// `VECTORS == ceil(tile.cols / 8)`, and `MASKED` unless `tile.cols` is a multiple of 8.
#[target_feature(enable = "avx2,fma")]
unsafe fn multiply<const ROWS: usize, const VECTORS: usize, const MASKED: bool>(tile: &Tile) {
    // All bits set in the lanes of the last vector that exist.
    let existing = if MASKED { (tile.cols % LANES) as i32 } else { LANES as i32 };
    let tail = _mm256_cmpgt_epi32(_mm256_set1_epi32(existing), _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7));
    let mut sums = [[_mm256_setzero_ps(); VECTORS]; ROWS];
    // SAFETY: the caller's promise is passed on unchanged; the usual strides get copies of the loop in which the row
    // offsets are constants.
    unsafe {
        match tile.a_row_stride {
            1 => sum_depth::<ROWS, VECTORS, MASKED>(tile, 1, tail, &mut sums),
            BLOCK_ROW_STRIDE => sum_depth::<ROWS, VECTORS, MASKED>(tile, BLOCK_ROW_STRIDE, tail, &mut sums),
            stride => sum_depth::<ROWS, VECTORS, MASKED>(tile, stride, tail, &mut sums),
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
                sums[i][v] = _mm256_add_ps(old, sums[i][v]);
            }
        }
    }
    if !epilogue.bias.is_null() {
        for i in 0..ROWS {
            // SAFETY: a bias that is not null has `rows` elements.
            let bias = _mm256_set1_ps(unsafe { *epilogue.bias.add(i) });
            for v in 0..VECTORS {
                sums[i][v] = _mm256_add_ps(sums[i][v], bias);
            }
        }
    }
    if epilogue.relu {
        for i in 0..ROWS {
            for v in 0..VECTORS {
                // The second operand is what the instruction returns for a NaN.
                sums[i][v] = _mm256_max_ps(_mm256_setzero_ps(), sums[i][v]);
            }
        }
    }
    for i in 0..ROWS {
        for v in 0..VECTORS {
            let (c, masked) = (address(i, v), MASKED && v + 1 == VECTORS);
            // SAFETY: row `i` and the (unmasked) lanes of vector `v` lie inside the tile.
            unsafe {
                if masked {
                    _mm256_maskstore_ps(c, tail, sums[i][v]);
                } else {
                    _mm256_storeu_ps(c, sums[i][v]);
                }
            }
        }
    }
}

/// # Safety
/// As [`multiply`]; `row_stride == tile.a_row_stride`.
#[inline]
#[target_feature(enable = "avx2,fma")]
unsafe fn sum_depth<const ROWS: usize, const VECTORS: usize, const MASKED: bool>(
    tile: &Tile,
    row_stride: usize,
    tail: __m256i,
    sums: &mut [[__m256; VECTORS]; ROWS],
) {
    let (mut a, mut b) = (tile.a, tile.b);
    for _ in 0..tile.depth {
        let mut row = [_mm256_setzero_ps(); VECTORS];
        for v in 0..VECTORS {
            // SAFETY: the (unmasked) lanes of vector `v` are columns of the tile.
            row[v] = unsafe { load(b.add(v * LANES), MASKED && v + 1 == VECTORS, tail) };
        }
        for i in 0..ROWS {
            // SAFETY: `i < rows`, and `a` has advanced by fewer than `depth` depths.
            let value = _mm256_set1_ps(unsafe { *a.add(i * row_stride) });
            for v in 0..VECTORS {
                sums[i][v] = _mm256_fmadd_ps(value, row[v], sums[i][v]);
            }
        }
        a = a.wrapping_add(tile.a_depth_stride);
        b = b.wrapping_add(tile.b_depth_stride);
    }
}

/// # Safety
/// 8 elements at `address` are readable, or those of `tail` if `masked`.
#[inline]
#[target_feature(enable = "avx2")]
unsafe fn load(address: *const f32, masked: bool, tail: __m256i) -> __m256 {
    // SAFETY: the caller's promise.
    unsafe { if masked { _mm256_maskload_ps(address, tail) } else { _mm256_loadu_ps(address) } }
}
