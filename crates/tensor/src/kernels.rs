//! Matrix products by slices: for the benchmarks and tests of this workspace, with no promise of stability.
//!
//! The kernels themselves are private, and so are the traits whose answers they trust. Whoever is outside hands over slices
//! and sizes, which are checked, and outputs by exclusive reference. An operand with an answer of its own about its size
//! cannot be made:
//!
//! ```compile_fail,E0603
//! use tensor::gemm::Operand;
//!
//! struct Changing(std::sync::atomic::AtomicUsize);
//!
//! impl Operand for Changing {
//!     fn extent(&self) -> usize {
//!         self.0.fetch_add(1 << 20, std::sync::atomic::Ordering::Relaxed)
//!     }
//!     fn k(&self) -> usize {
//!         48
//!     }
//!     fn pack(
//!         &self,
//!         _: tensor::simd::Isa,
//!         _: std::ops::Range<usize>,
//!         _: std::ops::Range<usize>,
//!         _: usize,
//!         _: &mut [f32],
//!     ) {
//!     }
//! }
//! ```
//!
//! Nor can one output be written by two threads:
//!
//! ```compile_fail,E0499
//! use tensor::kernels::{Images, Weights, product};
//! use tensor::{BufferPool, simd::Isa};
//!
//! let (pool, images) = (BufferPool::new(), Images { images: 1, channels: 8, pixels: 48 });
//! let w = Weights::new(&pool, Isa::best(), [8, 8], &[0.5; 64]);
//! let (x, mut y) = ([1.0; 8 * 48], [0.0; 8 * 48]);
//! std::thread::scope(|threads| {
//!     threads.spawn(|| product(&pool, &w, images, &x, None, false, &mut y));
//!     threads.spawn(|| product(&pool, &w, images, &x, None, false, &mut y));
//! });
//! ```
//!
//! What can be done is the same with an output for each:
//!
//! ```
//! use tensor::kernels::{Images, Weights, product};
//! use tensor::{BufferPool, simd::Isa};
//!
//! let (pool, images) = (BufferPool::new(), Images { images: 1, channels: 8, pixels: 48 });
//! let w = Weights::new(&pool, Isa::best(), [8, 8], &[0.5; 64]);
//! let (x, mut y, mut z) = ([1.0; 8 * 48], [0.0; 8 * 48], [0.0; 8 * 48]);
//! std::thread::scope(|threads| {
//!     threads.spawn(|| product(&pool, &w, images, &x, None, false, &mut y));
//!     threads.spawn(|| product(&pool, &w, images, &x, None, false, &mut z));
//! });
//! assert_eq!((y, z), ([4.0; 8 * 48], [4.0; 8 * 48]));
//! ```

use std::sync::Arc;

use crate::buffer_pool::BufferPool;
use crate::gemm::{
    self, By, Elements, Epilogue, MatrixRef, Output, PackedA, Planes, Stage, gemm_backward, gemm_strided,
};
use crate::simd::Isa;

/// Sizes of a batch of feature maps: images x channels x pixels, without gaps.
#[derive(Clone, Copy, Debug)]
pub struct Images {
    /// Images.
    pub images: usize,
    /// Channels of each.
    pub channels: usize,
    /// Pixels of each channel.
    pub pixels: usize,
}

impl Images {
    /// The elements of an image, after it is clear that all images' can be counted.
    fn image_stride(self) -> usize {
        let Self { images, channels, pixels } = self;
        let image = channels.checked_mul(pixels);
        let all = image.and_then(|image| image.checked_mul(images));
        all.and(image).unwrap_or_else(|| panic!("{self:?} are more elements than can be counted"))
    }

    /// Feature maps of these sizes as an operand.
    fn planes<'a>(self, data: &'a [f32], mask: Option<&'a [f32]>) -> Planes<'a> {
        let Self { images, channels, pixels } = self;
        let image_stride = self.image_stride();
        assert_eq!(data.len(), images * image_stride, "elements of {self:?}");
        assert!(mask.is_none_or(|mask| mask.len() == data.len()), "a mask as long as the data");
        Planes { data, mask, images, channels, pixels, image_stride }
    }

    /// Feature maps of these sizes as the result of a product.
    fn output(self, data: &mut [f32]) -> Output<'_> {
        let image_stride = self.image_stride();
        assert_eq!(data.len(), self.images * image_stride, "elements of {self:?}");
        Output::planes(data, self.channels, self.pixels, [self.images, self.pixels, image_stride])
    }

    /// The same images with other channels.
    fn with_channels(self, channels: usize) -> Self {
        Self { channels, ..self }
    }
}

/// Weights of a pointwise convolution, packed for the kernels of one instruction set.
#[derive(Debug)]
pub struct Weights {
    packed: PackedA,
    /// The matrix transposed, row-major.
    transposed: Vec<f32>,
    isa: Isa,
    sizes: [usize; 2],
}

impl Weights {
    /// Packs a row-major matrix of `rows` rows and `columns` columns: with a row per output channel for [`product`], with a
    /// row per input channel for [`gradients`].
    ///
    /// # Panics
    /// If there are not so many elements.
    #[must_use]
    pub fn new(pool: &Arc<BufferPool>, isa: Isa, [rows, columns]: [usize; 2], elements: &[f32]) -> Self {
        assert_eq!(Some(elements.len()), rows.checked_mul(columns), "elements of {rows} x {columns}");
        let at = |row: usize, column: usize| elements[row * columns + column];
        let packed = PackedA::new(pool, isa, &Elements { extent: rows, k: columns, at });
        let transposed = (0..columns).flat_map(|column| (0..rows).map(move |row| at(row, column))).collect();
        Self { packed, transposed, isa, sizes: [rows, columns] }
    }
}

/// `y = w x + bias`, with ReLU if asked for, of each pixel: `x` has the sizes `images`, `y` as many channels as the weights have
/// rows.
///
/// # Panics
/// If a slice has not the length of its sizes.
pub fn product(
    pool: &Arc<BufferPool>,
    weights: &Weights,
    images: Images,
    x: &[f32],
    bias: Option<&[f32]>,
    relu: bool,
    y: &mut [f32],
) {
    let [rows, columns] = weights.sizes;
    assert_eq!(images.channels, columns, "channels of x and columns of w");
    let epilogue = Epilogue { accumulate: false, bias, relu };
    let mut output = images.with_channels(rows).output(y);
    gemm::gemm(pool, &weights.packed, &images.planes(x, None).by(By::Position), epilogue, &mut output, false);
}

/// The places that [`gradients`] writes to, and what else it reads for it.
#[derive(Debug)]
pub struct Gradients<'a> {
    /// The sums of `dy x^T`: row-major, a row per channel of `dy`, a column per channel of `x`.
    pub dw: &'a mut [f32],
    /// The sum of each channel of `dy`, if wanted.
    pub db: Option<&'a mut [f32]>,
    /// `w^T dy`, if wanted, as long as `x`; with the weights, a row per channel of `x`.
    pub dx: Option<(&'a Weights, &'a mut [f32])>,
}

/// The gradients of a pointwise convolution: `dy` has the sizes `images`, `x` has `channels` channels. With a mask, elements of
/// `dy` whose mask is not above zero count as zero.
///
/// # Panics
/// If a slice has not the length of its sizes.
pub fn gradients(
    pool: &Arc<BufferPool>,
    isa: Isa,
    images: Images,
    (dy, mask): (&[f32], Option<&[f32]>),
    (x, channels): (&[f32], usize),
    gradients: Gradients<'_>,
) {
    let inputs = images.with_channels(channels);
    let Gradients { dw, db, dx } = gradients;
    let (weights, dx) = dx.unzip();
    let sizes = [images.channels, channels];
    assert_eq!(Some(dw.len()), sizes[0].checked_mul(sizes[1]), "elements of dw, {sizes:?}");
    assert!(
        weights.is_none_or(|weights| weights.sizes == [channels, images.channels]),
        "rows and columns of w"
    );
    assert!(weights.is_none_or(|weights| weights.isa == isa), "weights packed for {isa}");
    let (a, input) = (images.planes(dy, mask), inputs.planes(x, None).by(By::Element));
    let mut out = dx.map(|dx| inputs.output(dx));
    let weights = weights.map(|weights| (&weights.packed, &*weights.transposed));
    let stage = Stage { input: &input, dw, db, weights, relu_mask: None };
    gemm_backward(pool, isa, &a, &mut [stage], false, out.as_mut());
}

/// `c = a b`, without packing: A of `m` columns-first rows (element `[i, p]` at `p * m + i`) and B of `k` rows, row-major.
///
/// # Panics
/// If a slice has not the length of its sizes.
pub fn multiply_in_place(isa: Isa, [m, n, k]: [usize; 3], a: &[f32], b: &[f32], c: &mut [f32]) {
    for (len, [rows, columns], name) in
        [(a.len(), [m, k], "A"), (b.len(), [k, n], "B"), (c.len(), [m, n], "C")]
    {
        assert_eq!(Some(len), rows.checked_mul(columns), "elements of {name}, {rows} x {columns}");
    }
    gemm_strided(isa, [m, n, k], MatrixRef { data: a, strides: [1, m] }, (b, n), (c, n), false);
}

#[cfg(test)]
mod tests {
    use super::*;

    const SIZES: Images = Images { images: 2, channels: 3, pixels: 5 };

    /// 0, 1, 2, ...
    fn counted(len: usize) -> Vec<f32> {
        (0..len).map(|i| i as f32).collect()
    }

    #[test]
    fn products_and_gradients_are_those_of_the_definition() {
        let pool = BufferPool::poisoning();
        let (w, x, dy) = (counted(6), counted(30), counted(20));
        let outputs = SIZES.with_channels(2);
        let at = |data: &[f32], sizes: Images, image: usize, channel: usize, pixel: usize| {
            data[(image * sizes.channels + channel) * sizes.pixels + pixel]
        };
        for isa in Isa::available() {
            let (mut y, mut dx) = ([f32::NAN; 20], [f32::NAN; 30]);
            product(
                &pool,
                &Weights::new(&pool, isa, [2, 3], &w),
                SIZES,
                &x,
                Some(&[1.0, -200.0]),
                true,
                &mut y,
            );
            let (mut dw, mut db) = ([f32::NAN; 6], [f32::NAN; 2]);
            let transposed = [w[0], w[3], w[1], w[4], w[2], w[5]];
            let weights = Weights::new(&pool, isa, [3, 2], &transposed);
            let wanted = Gradients { dw: &mut dw, db: Some(&mut db), dx: Some((&weights, &mut dx)) };
            gradients(&pool, isa, outputs, (&dy, None), (&x, 3), wanted);
            for (image, pixel) in (0..2).flat_map(|image| (0..5).map(move |pixel| (image, pixel))) {
                for o in 0..2 {
                    let sum: f32 = (0..3).map(|c| w[3 * o + c] * at(&x, SIZES, image, c, pixel)).sum();
                    let expected = (sum + [1.0, -200.0][o]).max(0.0);
                    assert_eq!(at(&y, outputs, image, o, pixel), expected, "{isa}");
                }
                for c in 0..3 {
                    let expected: f32 =
                        (0..2).map(|o| w[3 * o + c] * at(&dy, outputs, image, o, pixel)).sum();
                    assert_eq!(at(&dx, SIZES, image, c, pixel), expected, "{isa}");
                }
            }
            for o in 0..2 {
                let sum_of = |f: &dyn Fn(usize, usize) -> f32| -> f32 {
                    (0..10).map(|i| at(&dy, outputs, i / 5, o, i % 5) * f(i / 5, i % 5)).sum()
                };
                assert_eq!(db[o], sum_of(&|_, _| 1.0), "{isa}");
                for c in 0..3 {
                    assert_eq!(
                        dw[3 * o + c],
                        sum_of(&|image, pixel| at(&x, SIZES, image, c, pixel)),
                        "{isa}"
                    );
                }
            }
            let mut c = [f32::NAN; 4];
            multiply_in_place(isa, [2, 2, 3], &w, &x[..6], &mut c);
            assert_eq!(c, [20.0, 26.0, 26.0, 35.0], "{isa}");
        }
    }

    /// Each refuses with a message, in builds without overflow checks, too, where sizes wrap around to those of the slices.
    #[test]
    fn sizes_that_cannot_be_counted_are_refused() {
        let message = |call: &dyn Fn()| {
            let panic = std::panic::catch_unwind(std::panic::AssertUnwindSafe(call)).expect_err("must panic");
            panic.downcast_ref::<String>().cloned().unwrap_or_default()
        };
        const HALF: usize = 1 << (usize::BITS / 2);
        let (pool, isa) = (BufferPool::new(), Isa::best());
        let weights = |sizes, elements: &[f32]| Weights::new(&pool, isa, sizes, elements);
        let wide = Images { images: HALF, channels: HALF, pixels: 1 };
        let empty = Images { images: 0, channels: usize::MAX, pixels: 2 };

        let found = message(&|| _ = weights([HALF, HALF], &[]));
        assert!(found.contains("elements of"), "{found}");
        for sizes in [wide, empty] {
            let found = message(&|| _ = sizes.planes(&[], None));
            assert!(found.contains("more elements than can be counted"), "{found}");
            let found = message(&|| _ = sizes.output(&mut []));
            assert!(found.contains("more elements than can be counted"), "{found}");
        }
        let found = message(&|| {
            let (sizes, wanted) =
                (Images { images: 0, ..wide }, Gradients { dw: &mut [], db: None, dx: None });
            gradients(&pool, isa, sizes, (&[], None), (&[], HALF), wanted);
        });
        assert!(found.contains("elements of dw"), "{found}");
        for (sizes, name) in [([HALF, 1, HALF], "A"), ([1, HALF, HALF], "A"), ([HALF, HALF, 0], "C")] {
            let found = message(&|| multiply_in_place(isa, sizes, &[], &[], &mut []));
            assert!(found.contains(&format!("elements of {name}")), "{found}");
        }

        // One level down: strides near the end of the address space.
        let matrix = |strides| MatrixRef { data: &[0.0; 16], strides };
        for strides in
            [[usize::MAX, 1], [usize::MAX / 2 + 1, 1], [1, usize::MAX], [usize::MAX / 3 + 1, usize::MAX]]
        {
            let found = message(&|| {
                gemm_strided(isa, [4, 4, 4], matrix(strides), (&[0.0; 16], 4), (&mut [0.0; 16], 4), false);
            });
            assert!(found.contains("A is too short"), "{found}");
        }
        for stride in [usize::MAX, usize::MAX / 3 + 1, usize::MAX / 2 + 1] {
            let a = matrix([4, 1]);
            let found =
                message(&|| gemm_strided(isa, [4; 3], a, (&[0.0; 16], stride), (&mut [0.0; 16], 4), false));
            assert!(found.contains("B is too short"), "{found}");
            let found =
                message(&|| gemm_strided(isa, [4; 3], a, (&[0.0; 16], 4), (&mut [0.0; 16], stride), false));
            assert!(found.contains("C is too short"), "{found}");
            let found = message(&|| _ = Output::planes(&mut [0.0; 16], 4, stride, [1, 4, 16]));
            assert!(found.contains("C needs"), "{found}");
            let found = message(&|| _ = Output::planes(&mut [0.0; 16], 1, 4, [4, 4, stride]));
            assert!(found.contains("C needs"), "{found}");
        }
        // What the images of one output have between them is more than the slice is long.
        let found = message(&|| _ = Output::planes(&mut [0.0; 8 * 48], 8, 48, [2, 48, 1 << 12]));
        assert!(found.contains("C needs Some(4480) elements, the slice has 384"), "{found}");
    }
}
