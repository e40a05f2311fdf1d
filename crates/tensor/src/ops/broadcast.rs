//! Broadcasting by NumPy's rules: shapes are aligned at their last axes, and an extent of 1 is repeated.

use std::sync::Arc;

use super::sum_slice::sum_slice;
use crate::simd::{Isa, dispatch};
use crate::{BufferPool, Element, MAX_AXES, Shape, ShapeError, Tensor};

/// The extents with ones put before them up to four axes.
fn aligned(shape: Shape) -> [usize; MAX_AXES] {
    let mut extents = [1; MAX_AXES];
    extents[MAX_AXES - shape.len()..].copy_from_slice(&shape);
    extents
}

/// The shape that both inputs broadcast to.
pub(super) fn broadcast_shape(op: &'static str, a: Shape, b: Shape) -> Result<Shape, ShapeError> {
    let mut extents = [1; MAX_AXES];
    for (extent, of_both) in extents.iter_mut().zip(aligned(a).into_iter().zip(aligned(b))) {
        *extent = match of_both {
            (1, other) | (other, 1) => other,
            (same, other) if same == other => same,
            (one, other) => {
                let message =
                    format!("{a} and {b} do not broadcast: {one} and {other} differ and neither is 1");
                return Err(ShapeError::new(op, message));
            }
        };
    }
    Shape::checked(&extents[MAX_AXES - a.len().max(b.len())..])
}

/// Calls `visit(row, start)` for each row (last axis) of a tensor of shape `whole`, with the place in a tensor of shape
/// `part`, which broadcasts to it, where the row's part begins.
fn for_each_row(whole: Shape, part: Shape, mut visit: impl FnMut(usize, usize)) {
    let (whole, part) = (aligned(whole), aligned(part));
    let mut strides = [0; MAX_AXES];
    let mut stride = 1;
    for axis in (0..MAX_AXES).rev() {
        strides[axis] = if part[axis] == 1 { 0 } else { stride };
        stride *= part[axis];
    }
    let mut row = 0;
    for i in 0..whole[0] {
        for j in 0..whole[1] {
            for k in 0..whole[2] {
                visit(row, i * strides[0] + j * strides[1] + k * strides[2]);
                row += 1;
            }
        }
    }
}

/// The extent of the last axis, 1 for a scalar.
fn row_len(shape: Shape) -> usize {
    shape.last().copied().unwrap_or(1)
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
            let elements = y.data_mut().iter_mut().zip(a.data().iter().zip(b.data()));
            dispatch(Isa::current(), move || {
                for (y, (&a, &b)) in elements {
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
    let (shape, width) = (a.shape(), row_len(a.shape()));
    let (a, b_data) = (a.data_mut(), b.data());
    if shape == b.shape() {
        let elements = a.iter_mut().zip(b_data);
        return dispatch(Isa::current(), move || {
            for (a, &b) in elements {
                *a = f(*a, b);
            }
        });
    }
    let repeated = row_len(b.shape()) == 1;
    for_each_row(shape, b.shape(), |row, start| {
        let a = &mut a[row * width..][..width];
        if repeated && width > 0 {
            let b = b_data[start];
            a.iter_mut().for_each(|a| *a = f(*a, b));
        } else {
            a.iter_mut().zip(&b_data[start..][..width]).for_each(|(a, &b)| *a = f(*a, b));
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
    let width = row_len(whole.shape());
    let (sums, data) = (part.data_mut(), whole.data());
    let repeated = row_len(shape) == 1;
    for_each_row(whole.shape(), shape, |row, start| {
        let row = &data[row * width..][..width];
        if repeated && width > 0 {
            sums[start] += sum_slice(row);
        } else {
            sums[start..][..width].iter_mut().zip(row).for_each(|(sum, &value)| *sum += value);
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
    fn expand_and_reduce_are_adjoint() {
        let context = poisoned();
        let whole = Shape::from([2, 3, 4, 5]);
        for part in [&[][..], &[5], &[1], &[4, 1], &[3, 1, 5], &[2, 1, 1, 1], &[1, 3, 4, 1], &[2, 3, 4, 5]] {
            let (x, y) = (random(part, 1), random(whole, 2));
            let dot = |a: &Tensor<f64>, b: &Tensor<f64>| -> f64 {
                assert_eq!(a.shape(), b.shape());
                a.data().iter().zip(b.data()).map(|(a, b)| a * b).sum()
            };
            let left = dot(&expand(context.pool(), &x, whole), &y);
            let right = dot(&x, &reduce(context.pool(), y.clone(), Shape::new(part)));
            assert!((left - right).abs() < 1e-12, "{part:?}: {left} and {right}");
        }
    }
}
