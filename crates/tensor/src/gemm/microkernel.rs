//! The micro-kernel: one small tile of C held in registers while the whole depth of A and B streams past it.
//!
//! All kernels compute the same sum: from zero, one fused multiply-add per depth in increasing order, then the
//! addition of the old C if asked for, then bias, then ReLU. No tile, edge or mask changes that order, so an element's
//! bits depend neither on its place in the matrix nor on the tile that computes it, and AVX2 and AVX-512 agree
//! bit for bit. (The portable kernel rounds the product where the target has no fused multiply-add.)
#![allow(unsafe_code)]

/// Elements between the rows of a block of A that is copied row by row: a constant, so that the kernels' row offsets are
/// constants too, and not a power of two, which would make the rows compete for the same lines of the cache.
pub(crate) const BLOCK_ROW_STRIDE: usize = super::packed::MAX_DEPTH + 16;

/// What happens to a tile between the last multiply-add and the store.
#[derive(Clone, Copy, Debug)]
pub(crate) struct TileEpilogue {
    /// Adds the tile to what C holds; otherwise C is overwritten, and never read.
    pub(crate) accumulate: bool,
    /// Address of the bias of the tile's first row, one per row; null for none.
    pub(crate) bias: *const f32,
    /// Stores `max(value, 0)`. A NaN is stored as it is.
    pub(crate) relu: bool,
}

/// A tile product: `C[rows x cols] (+)= A[rows x depth] . B[depth x cols]`, every operand by address and strides.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Tile {
    /// Rows of the tile, `1..=MR`.
    pub(crate) rows: usize,
    /// Columns of the tile, `1..=NR`.
    pub(crate) cols: usize,
    /// Length of the sum; zero is allowed.
    pub(crate) depth: usize,
    /// `A[i, p]` is at `a + i * a_row_stride + p * a_depth_stride`.
    pub(crate) a: *const f32,
    /// Elements between rows of A; fastest if 1 (a packed panel) or [`BLOCK_ROW_STRIDE`].
    pub(crate) a_row_stride: usize,
    /// Elements between depths of A.
    pub(crate) a_depth_stride: usize,
    /// `B[p, j]` is at `b + p * b_depth_stride + j`.
    pub(crate) b: *const f32,
    /// Elements between depths of B.
    pub(crate) b_depth_stride: usize,
    /// `C[i, j]` is at `c + i * c_row_stride + j`.
    pub(crate) c: *mut f32,
    /// Elements between rows of C.
    pub(crate) c_row_stride: usize,
    /// What is done on the way to memory.
    pub(crate) epilogue: TileEpilogue,
}

/// A family of tile kernels of one instruction set.
pub(crate) trait MicroKernel: Copy + Send + Sync {
    /// Lanes of a vector: panels of B are padded to a multiple of it.
    const LANES: usize;
    /// Rows of a full tile in a blocked product; panels of A have this width.
    const MR: usize;
    /// Columns of a full tile in a blocked product.
    const NR: usize;

    /// Computes one tile with `rows <= MR` and `cols <= NR`.
    ///
    /// # Safety
    /// For all `i < rows`, `p < depth`, `j < cols`: the addresses of `A[i, p]` and `B[p, j]` are valid for reads, that of
    /// `C[i, j]` for writes (and reads, if accumulating) and aliased by no other access; a non-null bias is
    /// valid for `rows` reads.
    unsafe fn run(self, tile: &Tile);
}

/// Runs `$body` with `$kernel` bound to the micro-kernel of `$isa`: one copy of the body is compiled per kernel.
macro_rules! with_kernel {
    ($isa:expr, $kernel:ident => $body:expr) => {
        match $isa {
            $crate::simd::Isa::Portable => {
                let $kernel = $crate::gemm::microkernel_portable::Portable;
                $body
            }
            #[cfg(target_arch = "x86_64")]
            $crate::simd::Isa::Avx2($kernel) => $body,
            #[cfg(target_arch = "x86_64")]
            $crate::simd::Isa::Avx512($kernel) => $body,
            #[cfg(not(target_arch = "x86_64"))]
            _ => unreachable!("no token of an x86 instruction set exists on this target"),
        }
    };
}
pub(crate) use with_kernel;
