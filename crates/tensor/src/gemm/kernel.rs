//! The micro-kernel: one micro-tile of C held in registers while all of k streams past it. Every dense product of f32 is made of
//! it, of matrices in memory as in the Winograd domain.
//!
//! The sum is the same for every tile: from zero, one multiply-add for each k in increasing order, then the addition of the old
//! C if asked for, then bias, then ReLU. No tile, edge or mask changes that order, so an element's bits depend neither on its
//! place in the matrix nor on the tile that computes it, and all instruction sets with a fused multiply-add agree bit for bit.
#![allow(unsafe_code)]

use crate::simd::{Kernel, Simd};

/// Values between the rows of a block that is copied row by row: a constant, so that the kernel's row offsets are constants
/// too, and not a power of two, which would make the rows compete for the same lines of the cache.
pub(crate) const BLOCK_STRIDE: usize = super::KC + 16;

/// k's in one turn of the inner loop: counting competes with the multiply-adds for the same units.
const UNROLL: usize = 4;

/// Cache lines that are fetched while a tile is multiplied, one or two for each k: many at once would have to wait for each
/// other, and the multiplication for them.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Prefetch<'a> {
    /// The panel of B that is multiplied next, or a part of it,
    pub(crate) panel: *const f32,
    /// so many lines of 16 values.
    pub(crate) lines: usize,
    /// Other lines.
    pub(crate) others: &'a [*const f32],
}

/// A micro-tile of a product: `C[rows x columns] (+)= A[rows x k] B[k x columns]`, every matrix by address and strides.
#[derive(Clone, Copy, Debug)]
pub(crate) struct MicroTile<'a> {
    /// Rows, as many as [`tile_rows`](crate::simd::Registers::tile_rows) has for the columns' vectors at most.
    pub(crate) rows: usize,
    pub(crate) columns: usize,
    /// Length of the sums; 0 is allowed.
    pub(crate) k: usize,
    /// `A[i, p]` is at `a + i * a_strides[0] + p * a_strides[1]`.
    pub(crate) a: *const f32,
    /// Values between rows and between columns of A; fastest if one of them is 1.
    pub(crate) a_strides: [usize; 2],
    /// `B[p, j]` is at `b + p * b_stride + j`.
    pub(crate) b: *const f32,
    /// Values between rows of B; fastest if they are a panel's, whole vectors side by side, or [`BLOCK_STRIDE`].
    pub(crate) b_stride: usize,
    /// `C[i, j]` is at `c + i * c_stride + j`.
    pub(crate) c: *mut f32,
    /// Values between rows of C.
    pub(crate) c_stride: usize,
    /// Adds to C. Otherwise C is overwritten, and never read.
    pub(crate) accumulate: bool,
    /// Address of the bias of the first row, one per row; null for none.
    pub(crate) bias: *const f32,
    /// Stores `max(value, 0)`. A NaN is stored as it is.
    pub(crate) relu: bool,
    /// Lines that are fetched meanwhile. Whole vectors, a panel of B, and a stride of A that is 1, are then a must.
    pub(crate) prefetch: Option<Prefetch<'a>>,
}

impl MicroTile<'_> {
    /// The fields that a caller may leave out, among others that it must not.
    pub(crate) const OPEN: Self = Self {
        rows: 0,
        columns: 0,
        k: 0,
        a: std::ptr::null(),
        a_strides: [0; 2],
        b: std::ptr::null(),
        b_stride: 0,
        c: std::ptr::null_mut(),
        c_stride: 0,
        accumulate: false,
        bias: std::ptr::null(),
        relu: false,
        prefetch: None,
    };

    /// Computes the tile.
    ///
    /// # Safety
    /// For all `i < rows`, `p < k`, `j < columns`: the addresses of `A[i, p]` and `B[p, j]` are valid for reads, that of
    /// `C[i, j]` for writes (and reads, if accumulating) and aliased by no other access; a bias that is not null is valid for
    /// `rows` reads.
    #[inline(always)]
    pub(crate) unsafe fn run<S: Simd>(&self, s: S) {
        let (vectors, masked) = (self.columns.div_ceil(S::LANES), !self.columns.is_multiple_of(S::LANES));
        macro_rules! run {
            ($($rows:literal)*) => {
                match (self.rows, vectors, masked) {
                    $(
                        ($rows, 1, false) => s.call(ConstMicroTile::<$rows, 1, false>(self)),
                        ($rows, 2, false) => s.call(ConstMicroTile::<$rows, 2, false>(self)),
                        ($rows, 3, false) => s.call(ConstMicroTile::<$rows, 3, false>(self)),
                        ($rows, 4, false) => s.call(ConstMicroTile::<$rows, 4, false>(self)),
                        ($rows, 1, true) => s.call(ConstMicroTile::<$rows, 1, true>(self)),
                        ($rows, 2, true) => s.call(ConstMicroTile::<$rows, 2, true>(self)),
                        ($rows, 3, true) => s.call(ConstMicroTile::<$rows, 3, true>(self)),
                    )*
                    _ => unreachable!("no tile has {} rows and {} columns", self.rows, self.columns),
                }
            };
        }
        run!(1 2 3 4 5 6 7 8 9 10 11 12);
    }
}

/// A tile of `ROWS` rows and `VECTORS` vectors, the last of which lies partly outside if `MASKED`. Made by [`MicroTile::run`]
/// alone, whose caller answers for the addresses.
struct ConstMicroTile<'a, const ROWS: usize, const VECTORS: usize, const MASKED: bool>(&'a MicroTile<'a>);

impl<const ROWS: usize, const VECTORS: usize, const MASKED: bool> Kernel
    for ConstMicroTile<'_, ROWS, VECTORS, MASKED>
{
    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        // A constant, so that nothing is compiled of the tiles that an instruction set does not have.
        if const { ROWS > S::REGISTERS.tile_rows[VECTORS] } {
            unreachable!("the registers do not hold {ROWS} rows of {VECTORS} vectors");
        }
        let (tile, panel) = (self.0, VECTORS * S::LANES);
        let tail = s.mask(if MASKED { tile.columns % S::LANES } else { S::LANES });
        let mut sums = [[s.splat(0.0); VECTORS]; ROWS];
        // Strides that are usual get copies of the loop in which all offsets are constants. SAFETY: `MicroTile::run` matched
        // rows, vectors and mask to the tile, and its caller promised that A and B are valid for reads at the tile's strides,
        // which are those that are passed on, and k's: constants stand only where they were compared with them.
        unsafe {
            if let (Some(fetch), false) = (&tile.prefetch, MASKED) {
                assert_eq!(tile.b_stride, panel, "what is fetched meanwhile needs a panel of B");
                match tile.a_strides {
                    [1, k] => accumulate_and_fetch(s, tile, [1, k, panel], fetch, &mut sums),
                    [row, 1] => accumulate_and_fetch(s, tile, [row, 1, panel], fetch, &mut sums),
                    strides => unreachable!("no stride of A is 1: {strides:?}"),
                }
            } else if const { ROWS <= S::REGISTERS.mr() && VECTORS <= S::REGISTERS.tile_vectors } {
                // The sums of a wide tile take far longer than fetching the lines of C that they will be added to or stored over;
                // those of a narrow one do not, and have a hint for every few multiply-adds.
                if panel > 16 {
                    for i in 0..ROWS {
                        let row = tile.c.wrapping_add(i * tile.c_stride);
                        for line in 0..panel.div_ceil(16) {
                            s.prefetch(row.wrapping_add(line * 16));
                        }
                        s.prefetch(row.wrapping_add(tile.columns - 1));
                    }
                }
                let (tail, sums) = (MASKED.then_some(tail), &mut sums);
                let whole_turns = match (tile.a_strides, tile.b_stride) {
                    ([1, k], b) if k == ROWS && b == panel => {
                        accumulate::<_, _, _, UNROLL>(s, tile, [1, ROWS, panel], 0, tail, sums)
                    }
                    ([1, k], BLOCK_STRIDE) if k == ROWS => {
                        accumulate::<_, _, _, UNROLL>(s, tile, [1, ROWS, BLOCK_STRIDE], 0, tail, sums)
                    }
                    ([BLOCK_STRIDE, 1], b) if b == panel && ROWS <= S::REGISTERS.rows_by_row => {
                        accumulate::<_, _, _, UNROLL>(s, tile, [BLOCK_STRIDE, 1, panel], 0, tail, sums)
                    }
                    _ => 0,
                };
                let [row, k] = tile.a_strides;
                accumulate::<_, _, _, 1>(s, tile, [row, k, tile.b_stride], whole_turns, tail, sums);
            } else {
                unreachable!("a tile of {ROWS} rows and {VECTORS} vectors is for panels alone");
            }
        }
        // Each step is decided once and done for the whole tile, in registers.
        let address = |i: usize, v: usize| tile.c.wrapping_add(i * tile.c_stride + v * S::LANES);
        let lanes = |v: usize| (MASKED && v + 1 == VECTORS).then_some(tail);
        if tile.accumulate {
            for i in 0..ROWS {
                for v in 0..VECTORS {
                    // SAFETY: row `i` and the lanes in use of vector `v` lie inside the tile.
                    let old = unsafe { s.load_lanes_at(address(i, v), lanes(v)) };
                    sums[i][v] = s.add(old, sums[i][v]);
                }
            }
        }
        if !tile.bias.is_null() {
            for i in 0..ROWS {
                // SAFETY: a bias that is not null has a value for each row.
                let bias = s.splat(unsafe { *tile.bias.add(i) });
                for v in 0..VECTORS {
                    sums[i][v] = s.add(sums[i][v], bias);
                }
            }
        }
        if tile.relu {
            for i in 0..ROWS {
                for v in 0..VECTORS {
                    sums[i][v] = s.relu(sums[i][v]);
                }
            }
        }
        for i in 0..ROWS {
            for v in 0..VECTORS {
                // SAFETY: row `i` and the lanes in use of vector `v` lie inside the tile.
                unsafe { s.store_lanes_at(address(i, v), lanes(v), sums[i][v]) };
            }
        }
    }
}

/// Adds to the sums the k's of the tile from `first` on, `TURN` of them in a turn without a jump, as far as whole turns go.
/// Returns the first k that is left. The strides are [rows of A, columns of A, rows of B]. With a `tail`, that is what is used of
/// the last vector.
///
/// # Safety
/// As for [`MicroTile::run`], for a tile of these rows and vectors.
#[inline(always)]
unsafe fn accumulate<S: Simd, const ROWS: usize, const VECTORS: usize, const TURN: usize>(
    s: S,
    tile: &MicroTile<'_>,
    strides: [usize; 3],
    first: usize,
    tail: Option<S::Mask>,
    sums: &mut [[S::Vector; VECTORS]; ROWS],
) -> usize {
    const { assert!(TURN == 1 || (TURN == UNROLL && UNROLL == 4)) };
    let mut a = tile.a.wrapping_add(first * strides[1]);
    let mut b = tile.b.wrapping_add(first * strides[2]);
    let turns = (tile.k - first) / TURN;
    for _ in 0..turns {
        // SAFETY: `a` and `b` are at a k of which `TURN` are left. Written out: as a loop, the compiler leaves it one.
        unsafe {
            step::<_, _, _, TURN>(s, a, b, strides, 0, tail, sums);
            if TURN == UNROLL {
                step::<_, _, _, TURN>(s, a, b, strides, 1, tail, sums);
                step::<_, _, _, TURN>(s, a, b, strides, 2, tail, sums);
                step::<_, _, _, TURN>(s, a, b, strides, 3, tail, sums);
            }
        }
        a = a.wrapping_add(TURN * strides[1]);
        b = b.wrapping_add(TURN * strides[2]);
    }
    first + turns * TURN
}

/// [`accumulate`], and fetches meanwhile: what the tile is stored over, what is multiplied next, and other lines.
///
/// # Safety
/// As for [`MicroTile::run`], for a tile of these rows and whole vectors.
#[inline(always)]
unsafe fn accumulate_and_fetch<S: Simd, const ROWS: usize, const VECTORS: usize>(
    s: S,
    tile: &MicroTile<'_>,
    strides: [usize; 3],
    fetch: &Prefetch<'_>,
    sums: &mut [[S::Vector; VECTORS]; ROWS],
) {
    let (mut a, mut b) = (tile.a, tile.b);
    // So long as there is something to fetch, at most a line of each kind for each k.
    let busy = tile.k.min((ROWS * VECTORS).max(fetch.lines).max(fetch.others.len()));
    for p in 0..busy {
        if p < ROWS * VECTORS {
            s.prefetch(tile.c.wrapping_add(p / VECTORS * tile.c_stride + p % VECTORS * S::LANES));
        }
        if p < fetch.lines {
            s.prefetch_far(fetch.panel.wrapping_add(p * 16));
        }
        if let Some(&line) = fetch.others.get(p) {
            s.prefetch_far(line);
        }
        // SAFETY: `a` and `b` have advanced by fewer than `k` steps.
        unsafe { step::<_, _, _, 1>(s, a, b, strides, 0, None, sums) };
        a = a.wrapping_add(strides[1]);
        b = b.wrapping_add(strides[2]);
    }
    // SAFETY: the rest of the same tile. Row by row, a register for each row would not leave room for all of these sums.
    unsafe {
        let whole_turns = if strides[0] == 1 {
            accumulate::<_, _, _, UNROLL>(s, tile, strides, busy, None, sums)
        } else {
            busy
        };
        accumulate::<_, _, _, 1>(s, tile, strides, whole_turns, None, sums);
    }
    // What did not find a turn: where few values are summed up.
    for line in tile.k..fetch.lines {
        s.prefetch_far(fetch.panel.wrapping_add(line * 16));
    }
    for &line in fetch.others.get(tile.k..).unwrap_or_default() {
        s.prefetch_far(line);
    }
}

/// Adds the products of a column of A with a row of B: number `p` of the `TURN` that begin at `a` and `b`.
///
/// # Safety
/// All `ROWS` values of A and all `VECTORS` vectors of B, of the last one the lanes of the tail, are valid for reads in each of
/// the `TURN`, and `p` is one of them.
#[inline(always)]
unsafe fn step<S: Simd, const ROWS: usize, const VECTORS: usize, const TURN: usize>(
    s: S,
    a: *const f32,
    b: *const f32,
    strides: [usize; 3],
    p: usize,
    tail: Option<S::Mask>,
    sums: &mut [[S::Vector; VECTORS]; ROWS],
) {
    let mut row = [s.splat(0.0); VECTORS];
    for v in 0..VECTORS {
        let b = b.wrapping_add(p * strides[2] + v * S::LANES);
        // SAFETY: the caller promises these lanes.
        row[v] = unsafe { s.load_lanes_at(b, if v + 1 == VECTORS { tail } else { None }) };
    }
    for i in 0..ROWS {
        // SAFETY: the caller promises `ROWS` values side by side, or `TURN` of each row, or the one.
        let value = unsafe {
            match strides {
                [1, k, _] => s.broadcast_at::<ROWS>(a.wrapping_add(p * k), i),
                [row, 1, _] if TURN > 1 => s.broadcast_at::<TURN>(a.wrapping_add(i * row), p),
                [row, k, _] => s.splat(*a.wrapping_add(i * row + p * k)),
            }
        };
        for v in 0..VECTORS {
            sums[i][v] = s.mul_add(value, row[v], sums[i][v]);
        }
    }
}
