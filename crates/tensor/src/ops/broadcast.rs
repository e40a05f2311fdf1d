//! Broadcasting by NumPy's rules: shapes are aligned at their last axes, and an extent of 1 is repeated.

use std::ops::Range;
use std::sync::Arc;

use crate::simd::{Isa, compiled};
use crate::sum_slice::sum_slice;
use crate::{BufferPool, Element, MAX_AXES, Shape, ShapeError, Tensor, ensure};

/// The extents with ones put before them up to four axes.
fn aligned(shape: Shape) -> [usize; MAX_AXES] {
    let mut extents = [1; MAX_AXES];
    extents[MAX_AXES - shape.len()..].copy_from_slice(&shape);
    extents
}

/// The shape that both inputs broadcast to.
pub(super) fn broadcast_shape(op: &'static str, a: Shape, b: Shape) -> Result<Shape, ShapeError> {
    let mut extents = [1; MAX_AXES];
    for (extent, (one, other)) in extents.iter_mut().zip(aligned(a).into_iter().zip(aligned(b))) {
        ensure!(
            op,
            one == other || one == 1 || other == 1,
            "{a} and {b} do not broadcast: {one} and {other} differ and neither is 1"
        );
        *extent = if one == 1 { other } else { one };
    }
    Shape::checked(&extents[MAX_AXES - a.len().max(b.len())..])
}

/// Tells whether an input that has the samples along its first axis has them along another one of the output: its axes are fewer.
pub(super) fn shifts_samples(inputs: &[Shape], of_samples: &[bool]) -> bool {
    let axes = inputs.iter().map(|input| input.len()).max();
    inputs.iter().zip(of_samples).any(|(input, &own)| own && Some(input.len()) < axes)
}

/// The rows of a tensor of shape `whole`: the place of each, and that of its part in a tensor of shape `part`, which broadcasts
/// to it: as many elements, or one that is repeated. A row is the last axes that are the same in both, at least one.
#[inline(always)]
fn rows(whole: Shape, part: Shape) -> impl Iterator<Item = (Range<usize>, Range<usize>)> {
    let (mut whole, part) = (aligned(whole), aligned(part));
    let mut strides = [0; MAX_AXES];
    let mut stride = 1;
    for axis in (0..MAX_AXES).rev() {
        strides[axis] = if part[axis] == 1 { 0 } else { stride };
        stride *= part[axis];
    }
    let same = (0..MAX_AXES).rev().take_while(|&axis| whole[axis] == part[axis]).count();
    let joined = &mut whole[MAX_AXES - same.max(1)..];
    let width = joined.iter().product::<usize>();
    let own = if same == 0 { 1 } else { width };
    joined.fill(1);
    (0..whole[..MAX_AXES - 1].iter().product()).map(move |row| {
        let places = [row / whole[2] / whole[1], row / whole[2] % whole[1], row % whole[2]];
        let start = places.iter().zip(strides).map(|(place, stride)| place * stride).sum::<usize>();
        (row * width..(row + 1) * width, start..start + own)
    })
}

/// `f(a, b)` element by element, both broadcast to the output's shape. Works in place in an input that has that shape and no
/// other owner; two of that shape that have others are read once, and only the output is written.
pub(super) fn combine<T: Element>(
    pool: &Arc<BufferPool>,
    mut a: Tensor<T>,
    mut b: Tensor<T>,
    f: impl Fn(T, T) -> T,
) -> Tensor<T> {
    let shape = broadcast_shape("broadcast", a.shape(), b.shape()).expect("the shapes were checked");
    let in_place = |x: &Tensor<T>| x.shape() == shape && x.is_unique();
    if !in_place(&a) {
        if in_place(&b) {
            update(&mut b, &a, |b, a| f(a, b));
            return b;
        }
        if a.shape() == b.shape() {
            let mut y = Tensor::empty_in(pool, shape);
            let (elements, a, b) = (y.data_mut(), a.data(), b.data());
            compiled!(Isa::current(), {
                for (y, (&a, &b)) in elements.iter_mut().zip(a.iter().zip(b)) {
                    *y = f(a, b);
                }
            });
            return y;
        }
        a = expand(pool, &a, shape);
    }
    update(&mut a, &b, f);
    a
}

/// `a = f(a, b)` with b broadcast to a's shape.
fn update<T: Element>(a: &mut Tensor<T>, b: &Tensor<T>, f: impl Fn(T, T) -> T) {
    let (shapes, a, b) = ([a.shape(), b.shape()], a.data_mut(), b.data());
    compiled!(Isa::current(), {
        for (row, part) in rows(shapes[0], shapes[1]) {
            let row = &mut a[row];
            if let [b] = b[part.clone()] {
                for a in row {
                    *a = f(*a, b);
                }
            } else {
                for (a, &b) in row.iter_mut().zip(&b[part]) {
                    *a = f(*a, b);
                }
            }
        }
    });
}

/// A copy of `part`, repeated to `shape`.
pub(super) fn expand<T: Element>(pool: &Arc<BufferPool>, part: &Tensor<T>, shape: Shape) -> Tensor<T> {
    let mut whole = Tensor::empty_in(pool, shape);
    update(&mut whole, part, |_, value| value);
    whole
}

/// Sums a tensor over the axes along which `shape` was broadcast to it: the adjoint of [`expand`].
pub(super) fn reduce<T: Element>(pool: &Arc<BufferPool>, whole: Tensor<T>, shape: Shape) -> Tensor<T> {
    if whole.shape() == shape {
        return whole;
    }
    let mut part = Tensor::zeros_in(pool, shape);
    let (sums, data, whole) = (part.data_mut(), whole.data(), whole.shape());
    compiled!(Isa::current(), {
        for (row, part) in rows(whole, shape) {
            if let [sum] = &mut sums[part.clone()] {
                *sum += sum_slice(&data[row]);
            } else {
                for (sum, &value) in sums[part].iter_mut().zip(&data[row]) {
                    *sum += value;
                }
            }
        }
    });
    part
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{poisoned, random};

    #[test]
    fn shapes_align_at_their_last_axes() {
        let shape = |a: &[usize], b: &[usize]| broadcast_shape("add", Shape::new(a), Shape::new(b));
        assert_eq!(shape(&[2, 3, 4, 5], &[3, 1, 1]), Ok(Shape::from([2, 3, 4, 5])));
        assert_eq!(shape(&[4, 1], &[3]), Ok(Shape::from([4, 3])));
        assert_eq!(shape(&[], &[2, 2]), Ok(Shape::from([2, 2])));
        assert_eq!(shape(&[1], &[]), Ok(Shape::from([1])));
        assert_eq!(
            shape(&[2, 3], &[2, 4]).unwrap_err().to_string(),
            "add: 2 x 3 and 2 x 4 do not broadcast: 3 and 4 differ and neither is 1"
        );
    }

    #[test]
    fn the_input_without_another_owner_becomes_the_output() {
        let full = |value: f64| Tensor::full([17, 59], value);
        let pool = BufferPool::poisoning();
        for (shared_a, shared_b) in [(false, false), (false, true), (true, false), (true, true)] {
            let (a, b) = (full(5.0), full(2.0));
            let (kept_a, kept_b) = (shared_a.then(|| a.clone()), shared_b.then(|| b.clone()));
            let places = [a.data().as_ptr(), b.data().as_ptr()];
            let y = combine(&pool, a, b, |a, b| a - b);
            assert!(y.data().iter().all(|&y| y == 3.0));
            let expected = if shared_a { (!shared_b).then_some(places[1]) } else { Some(places[0]) };
            match expected {
                Some(place) => assert_eq!(y.data().as_ptr(), place),
                None => assert!(!places.contains(&y.data().as_ptr())),
            }
            assert!(kept_a.is_none_or(|a| a == full(5.0)) && kept_b.is_none_or(|b| b == full(2.0)));
        }
    }

    #[test]
    fn expand_repeats_and_reduce_is_its_adjoint() {
        let context = poisoned();
        let whole = Shape::from([2, 3, 4, 5]);
        for part in [&[][..], &[5], &[1], &[4, 1], &[3, 1, 5], &[2, 1, 1, 1], &[1, 3, 4, 1], &[2, 3, 4, 5]] {
            let (x, y) = (random(part, 1), random(whole, 2));
            let dot = |a: &Tensor<f64>, b: &Tensor<f64>| -> f64 {
                assert_eq!(a.shape(), b.shape());
                a.data().iter().zip(b.data()).map(|(a, b)| a * b).sum()
            };
            let expanded = expand(context.pool(), &x, whole);
            let repeated = |at: usize| {
                let place = [at / 60, at / 20 % 3, at / 5 % 4, at % 5];
                let axes = aligned(x.shape()).into_iter().zip(place);
                x.data()[axes.fold(0, |index, (extent, place)| index * extent + place % extent)]
            };
            assert_eq!(expanded, Tensor::from_fn(whole, repeated), "{part:?}");
            let left = dot(&expanded, &y);
            let right = dot(&x, &reduce(context.pool(), y.clone(), Shape::new(part)));
            assert!((left - right).abs() < 1e-12, "{part:?}: {left} and {right}");
        }
    }
}
