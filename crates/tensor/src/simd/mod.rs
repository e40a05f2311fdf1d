//! The vector unit: the only place that knows an instruction set.
//!
//! `Simd` is a vector unit as kernels see it, and every kernel is written once, generic over it. Each file of this folder
//! implements it for one instruction set. `dispatch` runs a `Kernel` with the vector unit of an [`Isa`], inside of a
//! function that is compiled for it; all that the kernel calls on its way to the innermost loop is `#[inline(always)]`, so
//! that it becomes part of that one function. A closure does not inherit the function's instructions: loops over vectors are
//! loops, not `map` or `for_each`. Plain loops need no `Kernel` of their own: `compiled!` makes one of a block.
//!
//! A value of a `Simd` type is a proof: only detection makes one, so that whoever has it may use the instructions. That is
//! why arithmetic is safe to call. What touches memory comes in two forms: with a slice, checked, or with an address,
//! unsafe.
#![allow(unsafe_code)]

mod isa;
#[macro_use]
mod macros;
#[cfg(test)]
pub(crate) mod tests;
pub(crate) mod transpose;

pub use isa::IsaError;

/// Declares the instruction sets: the file of each, where it exists, and its name.
macro_rules! instruction_sets {
    ($($(#[$doc:meta])* $file:ident::$token:ident = $name:literal, $target:meta;)*) => {
        $(#[cfg($target)] mod $file;)*

        /// An instruction set that this process may use: the variants carry the proof of it.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum Isa {
            $($(#[$doc])* #[cfg($target)] $token($file::$token),)*
        }

        impl Isa {
            /// The names of all instruction sets, whatever the target.
            pub const NAMES: &[&str] = &[$($name),*];

            /// Every instruction set of this processor, the slowest (always plain Rust) first. Tests run over all.
            #[must_use]
            pub fn available() -> Vec<Self> {
                let all = [$(#[cfg($target)] $file::$token::detect().map(Self::$token)),*];
                all.into_iter().flatten().collect()
            }

            /// The name, which parses back to it.
            #[must_use]
            pub fn name(self) -> &'static str {
                match self {
                    $(#[cfg($target)] Self::$token(_) => $name,)*
                }
            }
        }

        impl Registers {
            /// Those of `isa`.
            pub(crate) fn of(isa: Isa) -> Self {
                match isa {
                    $(#[cfg($target)] Isa::$token(_) => $file::$token::REGISTERS,)*
                }
            }
        }

        /// Runs a kernel with the vector unit of `isa`.
        pub(crate) fn dispatch<K: Kernel>(isa: Isa, kernel: K) {
            match isa {
                $(#[cfg($target)] Isa::$token(s) => s.call(kernel),)*
            }
        }
    };
}

instruction_sets! {
    /// Plain Rust, vectorized by the compiler for the baseline of the target.
    portable::Portable = "portable", all();
    /// 4 lanes of f32, 32 registers, fused multiply-add.
    neon::Neon = "neon", target_arch = "aarch64";
    /// 8 lanes of f32, 16 registers, fused multiply-add.
    avx2::Avx2 = "avx2", target_arch = "x86_64";
    /// 16 lanes of f32, 32 registers, masks.
    avx512::Avx512 = "avx512", target_arch = "x86_64";
}

/// The most registers across a tile of a matrix product.
pub(crate) const MAX_TILE_VECTORS: usize = 4;

/// The sizes of what the registers of an instruction set hold.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Registers {
    /// f32 of a register.
    pub(crate) lanes: usize,
    /// Rows of the tile of a matrix product that is so many registers wide: its sums, a row of B and an element of A
    /// fill the registers. 0 where no such tile is used.
    pub(crate) tile_rows: [usize; MAX_TILE_VECTORS + 1],
    /// Registers across the tile of a product of matrices in memory.
    pub(crate) tile_vectors: usize,
    /// Rows of that tile where A lies row by row. Fewer where an element of A is a lane of a register that holds neighbors, and
    /// so a register for each row.
    pub(crate) rows_by_row: usize,
}

impl Registers {
    /// MR: rows of the tile of a product of matrices in memory.
    pub(crate) const fn mr(&self) -> usize {
        self.tile_rows[self.tile_vectors]
    }

    /// NR: columns of that tile.
    pub(crate) const fn nr(&self) -> usize {
        self.tile_vectors * self.lanes
    }
}

/// A vector unit; see the module's documentation.
pub(crate) trait Simd: Copy + Send + Sync {
    /// A register of [`Self::LANES`] f32.
    type Vector: Copy;
    /// `[Vector; LANES]`: the rows of a square that [`Simd::transpose`] transposes.
    type Square: AsRef<[Self::Vector]> + AsMut<[Self::Vector]>;
    /// The first lanes of a register, so many.
    type Mask: Copy;
    /// Sizes.
    const REGISTERS: Registers;
    /// f32 of a register.
    const LANES: usize = Self::REGISTERS.lanes;
    /// Says whether multiply-adds are rounded once: kernels have the same bits with all instruction sets of which this is true.
    const FUSED: bool = true;

    /// Runs a kernel in a function of its own, so that its loops have all registers to themselves.
    fn call<K: Kernel>(self, kernel: K);

    /// `value` in all lanes.
    fn splat(self, value: f32) -> Self::Vector;
    /// `a + b`.
    fn add(self, a: Self::Vector, b: Self::Vector) -> Self::Vector;
    /// `a - b`.
    fn sub(self, a: Self::Vector, b: Self::Vector) -> Self::Vector;
    /// `a b`.
    fn mul(self, a: Self::Vector, b: Self::Vector) -> Self::Vector;
    /// `a b + c`, rounded once if [`Self::FUSED`].
    fn mul_add(self, a: Self::Vector, b: Self::Vector, c: Self::Vector) -> Self::Vector;
    /// `c - a b`, rounded once if [`Self::FUSED`].
    fn neg_mul_add(self, a: Self::Vector, b: Self::Vector, c: Self::Vector) -> Self::Vector;
    /// `a b - c`, rounded once if [`Self::FUSED`].
    fn mul_sub(self, a: Self::Vector, b: Self::Vector, c: Self::Vector) -> Self::Vector;
    /// `a` where `a > b`, otherwise `b`: also where one of them is NaN.
    fn max(self, a: Self::Vector, b: Self::Vector) -> Self::Vector;
    /// Lane `j` of row `i` becomes lane `i` of row `j`.
    fn transpose(self, square: Self::Square) -> Self::Square;
    /// A square of zeros.
    fn square(self) -> Self::Square;
    /// The first `count` lanes, or all if there are fewer.
    fn mask(self, count: usize) -> Self::Mask;

    /// Hints that the cache line at `at` will be needed soon. Any address is allowed.
    fn prefetch(self, at: *const f32);
    /// The same, into the second-level cache: for what is needed later.
    fn prefetch_far(self, at: *const f32);

    /// The `LANES` values at `from`.
    ///
    /// # Safety
    /// `from` is valid for reading `LANES` values.
    unsafe fn load_at(self, from: *const f32) -> Self::Vector;
    /// The values in the lanes of `mask`, and zeros.
    ///
    /// # Safety
    /// `from` is valid for reading the values in those lanes.
    unsafe fn load_masked_at(self, from: *const f32, mask: Self::Mask) -> Self::Vector;
    /// Writes `LANES` values.
    ///
    /// # Safety
    /// `to` is valid for writing `LANES` values.
    unsafe fn store_at(self, to: *mut f32, value: Self::Vector);
    /// Writes the values in the lanes of `mask`.
    ///
    /// # Safety
    /// `to` is valid for writing the values in those lanes.
    unsafe fn store_masked_at(self, to: *mut f32, mask: Self::Mask, value: Self::Vector);

    /// `max(value, 0)`. A NaN stays, so that a network that has diverged shows it.
    #[inline(always)]
    fn relu(self, value: Self::Vector) -> Self::Vector {
        // The second operand is what the maximum with a NaN is.
        self.max(self.splat(0.0), value)
    }

    /// [`Simd::load_masked_at`] if there is a mask, otherwise [`Simd::load_at`].
    ///
    /// # Safety
    /// `from` is valid for reading those lanes.
    #[inline(always)]
    unsafe fn load_lanes_at(self, from: *const f32, mask: Option<Self::Mask>) -> Self::Vector {
        // SAFETY: the caller promises the lanes of the mask, or all.
        unsafe {
            match mask {
                Some(mask) => self.load_masked_at(from, mask),
                None => self.load_at(from),
            }
        }
    }

    /// [`Simd::store_masked_at`] if there is a mask, otherwise [`Simd::store_at`].
    ///
    /// # Safety
    /// `to` is valid for writing those lanes.
    #[inline(always)]
    unsafe fn store_lanes_at(self, to: *mut f32, mask: Option<Self::Mask>, value: Self::Vector) {
        // SAFETY: the caller promises the lanes of the mask, or all.
        unsafe {
            match mask {
                Some(mask) => self.store_masked_at(to, mask, value),
                None => self.store_at(to, value),
            }
        }
    }

    /// Value `i` of the `N` neighbors at `from`, in all lanes.
    ///
    /// # Safety
    /// `from` is valid for reading `N` values, and `i < N`.
    #[inline(always)]
    unsafe fn broadcast_at<const N: usize>(self, from: *const f32, i: usize) -> Self::Vector {
        // SAFETY: the caller promises that there is a value.
        self.splat(unsafe { *from.add(i) })
    }

    /// Writes the lanes that are not zero to `values`, without gaps, and to `indices` which they are, counted from `first`.
    /// Returns their number.
    ///
    /// # Safety
    /// Both places are valid for writing `LANES` values: what lies behind the values in use is overwritten, too.
    #[inline(always)]
    unsafe fn compress_at(self, value: Self::Vector, first: u8, values: *mut f32, indices: *mut u8) -> usize {
        let mut lanes = [0.0; 16];
        self.store(value, &mut lanes);
        let mut count = 0;
        for (lane, &value) in lanes[..Self::LANES].iter().enumerate() {
            // SAFETY: fewer than `LANES` values were written, and there is room for so many.
            unsafe {
                values.add(count).write(value);
                indices.add(count).write(first.wrapping_add(lane as u8));
            }
            count += usize::from(value != 0.0);
        }
        count
    }

    /// The first `LANES` values of `from`. Panics if there are fewer.
    #[inline(always)]
    fn load(self, from: &[f32]) -> Self::Vector {
        assert!(from.len() >= Self::LANES);
        // SAFETY: the slice holds so many values.
        unsafe { self.load_at(from.as_ptr()) }
    }

    /// Up to `LANES` values; lanes past the end of `from` are zero.
    #[inline(always)]
    fn load_partial(self, from: &[f32]) -> Self::Vector {
        // SAFETY: the lanes of the mask are values of the slice.
        unsafe { self.load_masked_at(from.as_ptr(), self.mask(from.len())) }
    }

    /// Writes all lanes to the start of `to`. Panics if it is shorter.
    #[inline(always)]
    fn store(self, value: Self::Vector, to: &mut [f32]) {
        assert!(to.len() >= Self::LANES);
        // SAFETY: the slice has room for so many values.
        unsafe { self.store_at(to.as_mut_ptr(), value) }
    }

    /// Writes as many lanes as `to` holds.
    #[inline(always)]
    fn store_partial(self, value: Self::Vector, to: &mut [f32]) {
        // A masked store takes some processors twenty times as long as one of all lanes.
        let mask = (to.len() < Self::LANES).then_some(self.mask(to.len()));
        // SAFETY: all lanes, or those of the mask, have a place in the slice.
        unsafe { self.store_lanes_at(to.as_mut_ptr(), mask, value) }
    }

    /// The vectors at the start of `from` and every `stride` values after it. Panics if the last one does not fit.
    #[inline(always)]
    fn load_strided<const COUNT: usize>(self, from: &[f32], stride: usize) -> [Self::Vector; COUNT] {
        assert!((COUNT - 1).saturating_mul(stride).saturating_add(Self::LANES) <= from.len());
        let mut values = [self.splat(0.0); COUNT];
        for (i, value) in values.iter_mut().enumerate() {
            // SAFETY: `i * stride + LANES` is at most what the assertion found inside the slice.
            *value = unsafe { self.load_at(from.as_ptr().add(i * stride)) };
        }
        values
    }

    /// Writes `values` to the start of `to` and every `stride` values after it. Panics if the last one does not fit.
    #[inline(always)]
    fn store_strided<const COUNT: usize>(self, values: [Self::Vector; COUNT], to: &mut [f32], stride: usize) {
        assert!((COUNT - 1).saturating_mul(stride).saturating_add(Self::LANES) <= to.len());
        for (i, value) in values.into_iter().enumerate() {
            // SAFETY: `i * stride + LANES` is at most what the assertion found inside the slice.
            unsafe { self.store_at(to.as_mut_ptr().add(i * stride), value) };
        }
    }
}

/// Work that is generic over the vector unit.
///
/// The compiler makes vectors of plain loops, too, with the instructions of the function that they become part of: a kernel
/// need not use its vector unit to profit from it.
pub(crate) trait Kernel {
    /// Does the work. Implementations are `#[inline(always)]`.
    fn run<S: Simd>(self, s: S);
}

/// Plain loops, made by `compiled!` alone.
pub(crate) struct Loops<F>(pub(crate) F);

/// Called by `FnMut`, whose call is the closure itself: what would call it by `FnOnce` is a function of its own, which nothing
/// makes a part of the one that is compiled for the instruction set.
impl<F: FnMut()> Kernel for Loops<F> {
    #[inline(always)]
    fn run<S: Simd>(mut self, _: S) {
        (self.0)();
    }
}

/// Runs plain loops, compiled for the instruction set `isa`: a block that moves in what it uses, and consumes none of it. A
/// number behind a reference would not be loaded ahead of a condition, and a loop with such a load is not made of vectors.
macro_rules! compiled {
    ($isa:expr, $body:block) => {
        $crate::simd::dispatch(
            $isa,
            $crate::simd::Loops(
                #[inline(always)]
                move || $body,
            ),
        )
    };
}
pub(crate) use compiled;
