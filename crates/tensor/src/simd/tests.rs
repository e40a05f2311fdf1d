use super::transpose::{Rows, transpose, transpose_on};
use super::*;

/// Checks every method of the vector unit lane by lane.
struct CheckLanes;

impl Kernel for CheckLanes {
    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let n = S::LANES;
        let a: Vec<f32> = (0..n).map(|i| i as f32 * 1.5 - 4.0).collect();
        let b: Vec<f32> = (0..n).map(|i| 3.0 - i as f32).collect();
        let (va, vb) = (s.load(&a), s.load(&b));
        let stored = |v: S::Vector| {
            let mut out = vec![f32::NAN; n];
            s.store(v, &mut out);
            out
        };
        let zip = |op: fn(f32, f32) -> f32| a.iter().zip(&b).map(|(&a, &b)| op(a, b)).collect::<Vec<_>>();
        assert_eq!(stored(s.add(va, vb)), zip(|a, b| a + b));
        assert_eq!(stored(s.sub(va, vb)), zip(|a, b| a - b));
        assert_eq!(stored(s.mul(va, vb)), zip(|a, b| a * b));
        assert_eq!(stored(s.mul_add(va, vb, va)), zip(|a, b| a * b + a));
        assert_eq!(stored(s.neg_mul_add(va, vb, va)), zip(|a, b| a - a * b));
        assert_eq!(stored(s.mul_sub(va, vb, va)), zip(|a, b| a * b - a));
        assert_eq!(stored(s.max(va, vb)), zip(f32::max));
        let nan = s.splat(f32::NAN);
        assert_eq!(stored(s.max(nan, va)), a);
        assert!(stored(s.max(va, nan)).iter().all(|lane| lane.is_nan()), "the second operand wins");
        let negative_zero = stored(s.max(s.splat(0.0), s.splat(-0.0)));
        assert!(negative_zero.iter().all(|lane| lane.to_bits() == (-0.0f32).to_bits()));
        for i in 0..4 {
            // SAFETY: there are four values, and more on wider units.
            assert_eq!(stored(unsafe { s.broadcast_at::<4>(a.as_ptr(), i) }), vec![a[i]; n]);
            // SAFETY: value `i` is the last of `i + 1`; there is none behind it that may be read.
            let last = unsafe { s.broadcast_at::<3>(a[..3].to_vec().as_ptr(), i.min(2)) };
            assert_eq!(stored(last), vec![a[i.min(2)]; n]);
        }
        for count in 0..=n {
            let mut expected = vec![0.0; n];
            expected[..count].copy_from_slice(&a[..count]);
            assert_eq!(stored(s.load_partial(&a[..count])), expected, "{count} of {n} lanes read");
            let mut out = vec![-1.0; n];
            s.store_partial(va, &mut out[..count]);
            expected[count..].fill(-1.0);
            assert_eq!(out, expected, "{count} of {n} lanes written");
        }
        let mut square = s.square();
        for (i, row) in square.as_mut().iter_mut().enumerate() {
            let values: Vec<f32> = (0..n).map(|j| (i * n + j) as f32).collect();
            *row = s.load(&values);
        }
        for (j, row) in s.transpose(square).as_ref().iter().enumerate() {
            let expected: Vec<f32> = (0..n).map(|i| (i * n + j) as f32).collect();
            assert_eq!(stored(*row), expected, "row {j} of the transposed square");
        }
        // Every pattern of zeros of up to eight lanes, NaN and negative zero among the others.
        for pattern in 0u32..256 {
            let lane = |i: usize| match (pattern >> (i % 8) & 1, i % 3) {
                (0, 0) => -0.0,
                (0, _) => 0.0,
                (_, 0) => f32::NAN,
                (..) => i as f32 + 1.0,
            };
            let values: Vec<f32> = (0..n).map(lane).collect();
            let others: Vec<usize> = (0..n).filter(|&i| values[i] != 0.0).collect();
            let vector = s.load(&values);
            let (mut listed, mut indices) = (vec![7.0; n], vec![7u8; n]);
            // SAFETY: both have room for all lanes.
            let count = unsafe { s.compress_at(vector, 100, listed.as_mut_ptr(), indices.as_mut_ptr()) };
            assert_eq!(count, others.len());
            for (at, &i) in others.iter().enumerate() {
                assert_eq!((listed[at].to_bits(), indices[at]), (values[i].to_bits(), 100 + i as u8));
            }
        }
    }
}

/// The product of two numbers just above and below 1, less 1: zero where it is rounded before the subtraction. And whether the
/// vector unit says that it is not.
struct SmallDifference<'a>(&'a mut [f32], &'a mut bool);

impl Kernel for SmallDifference<'_> {
    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let difference = s.mul_add(s.splat(1.0 + f32::EPSILON), s.splat(1.0 - f32::EPSILON), s.splat(-1.0));
        s.store_partial(difference, self.0);
        *self.1 = S::FUSED;
    }
}

/// Tells whether multiply-adds of `isa` are rounded once. Kernels have the same bits with all such instruction sets.
pub(crate) fn is_fused(isa: Isa) -> bool {
    let (mut lane, mut said) = ([0.0], false);
    dispatch(isa, SmallDifference(&mut lane, &mut said));
    assert_eq!(lane != [0.0], said, "multiply-adds of {isa}");
    said
}

#[test]
fn vector_units_round_as_they_say() {
    Isa::available().into_iter().for_each(|isa| _ = is_fused(isa));
}

#[test]
fn every_vector_unit_agrees_with_scalars() {
    for isa in Isa::available() {
        dispatch(isa, CheckLanes);
        dispatch(isa, CopyThree);
        dispatch(isa, TransposeAll);
    }
}

/// Copies three vectors and looks at what was written and what was not.
struct CopyThree;

impl Kernel for CopyThree {
    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let stride = S::LANES + 3;
        let from: Vec<f32> = (0..2 * stride + S::LANES).map(|i| i as f32).collect();
        let mut to = vec![-1.0; from.len()];
        s.store_strided::<3>(s.load_strided(&from, stride), &mut to, stride);
        for (i, value) in to.iter().enumerate() {
            assert_eq!(*value, if i % stride < S::LANES { i as f32 } else { -1.0 });
        }
    }
}

/// The last vector would end one value past the slice.
struct OneShort;

impl Kernel for OneShort {
    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        s.load_strided::<3>(&vec![0.0; 2 * 20 + S::LANES - 1], 20);
    }
}

#[test]
#[should_panic(expected = "assertion failed")]
fn a_slice_one_short_is_refused() {
    dispatch(Isa::best(), OneShort);
}

/// Transposes matrices of every size up to two squares and a half into wider rows with something behind them.
struct TransposeAll;

impl Kernel for TransposeAll {
    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let sizes = [0, 1, S::LANES - 1, S::LANES, S::LANES + 1, 2 * S::LANES, 2 * S::LANES + 3];
        for (rows, columns) in sizes.into_iter().flat_map(|rows| sizes.map(|columns| (rows, columns))) {
            let (from_stride, width, stride) = (columns + 2, rows + 5, rows + 7);
            let data: Vec<f32> = (0..rows * from_stride).map(|i| i as f32 + 1.0).collect();
            let from = Rows { data: &data, stride: from_stride, rows, columns };
            let mut to = vec![-1.0; columns * stride];
            transpose::<S, false>(s, from, &mut to, stride, width);
            transpose::<S, true>(s, from, &mut to, stride, width);
            for (index, &found) in to.iter().enumerate() {
                let (column, row) = (index / stride, index % stride);
                let expected = match (row < rows, row < width) {
                    (true, _) => 2.0 * data[row * from_stride + column],
                    (_, true) => 0.0,
                    _ => -1.0,
                };
                assert_eq!(found, expected, "{rows} x {columns}: row {row}, column {column}");
            }
        }
    }
}

#[test]
#[should_panic(expected = "values to transpose")]
fn rows_outside_of_the_slice_are_refused() {
    let from = Rows { data: &[0.0; 9], stride: usize::MAX / 2 + 2, rows: 3, columns: 3 };
    transpose_on(Isa::best(), from, &mut [0.0; 9], 3, 3);
}
