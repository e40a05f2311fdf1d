//! A function of one number applied to every element: one loop forward and one backward, compiled for every instruction set.

use std::fmt::Debug;

use crate::simd::{Isa, compiled};
use crate::{Context, Element, Shape, ShapeError, Tensor, UnaryOp};

/// A differentiable function of a number, which makes an op: `y = f(x)` element by element, for any shape.
///
/// `value` and `pull_back` are `#[inline(always)]` and choose by `if`, so that loops become vectors.
pub trait Pointwise: Copy + Debug + Send + Sync + 'static {
    /// As [`UnaryOp::NAME`].
    const NAME: &'static str;
    /// The gradient is read off the output: the input is not kept, and is overwritten if no one else holds it.
    const KEEPS_OUTPUT: bool;

    /// As [`UnaryOp::describe`]. Unless written, what `Debug` shows.
    fn title(&self) -> String {
        format!("{self:?}")
    }

    /// Refuses hyper-parameters.
    ///
    /// # Errors
    /// As [`UnaryOp::shape`].
    fn check(&self) -> Result<(), ShapeError> {
        Ok(())
    }

    /// `f(x)`.
    fn value<T: Element>(self, x: T) -> T;

    /// `dy f'(x)`, given `f(x)` if that is kept, otherwise x.
    fn pull_back<T: Element>(self, kept: T, dy: T) -> T;
}

impl<F: Pointwise> UnaryOp for F {
    /// The output if it is kept, otherwise the input.
    type Saved<T: Element> = Tensor<T>;

    const NAME: &'static str = F::NAME;

    fn describe(&self) -> String {
        self.title()
    }

    fn shape(&self, input: Shape) -> Result<Shape, ShapeError> {
        self.check()?;
        Ok(input)
    }

    /// Works in place where no one else holds the input, nor the gradient will ask for it.
    fn compute<T: Element>(&self, context: &Context, mut x: Tensor<T>) -> (Tensor<T>, Tensor<T>) {
        let isa = Isa::current();
        if x.is_unique() && (F::KEEPS_OUTPUT || !context.grad_enabled) {
            apply(isa, *self, None, x.data_mut());
            return (x.clone(), x);
        }
        let mut y = Tensor::empty_in(context.pool(), x.shape());
        apply(isa, *self, Some(x.data()), y.data_mut());
        let kept = if F::KEEPS_OUTPUT { y.clone() } else { x };
        (y, kept)
    }

    fn gradient<T: Element>(&self, _: &Context, kept: Tensor<T>, mut dy: Tensor<T>) -> Tensor<T> {
        pull_back(Isa::current(), *self, kept.data(), dy.data_mut());
        dy
    }
}

/// `y = f(x)`, or `y = f(y)` if there is no x.
pub(crate) fn apply<T: Element, F: Pointwise>(isa: Isa, f: F, x: Option<&[T]>, y: &mut [T]) {
    compiled!(isa, {
        if let Some(x) = x {
            for (y, &x) in y.iter_mut().zip(x) {
                *y = f.value(x);
            }
        } else {
            for y in y.iter_mut() {
                *y = f.value(*y);
            }
        }
    });
}

/// `dy = dy f'(x)`.
pub(crate) fn pull_back<T: Element, F: Pointwise>(isa: Isa, f: F, kept: &[T], dy: &mut [T]) {
    compiled!(isa, {
        for (dy, &kept) in dy.iter_mut().zip(kept) {
            *dy = f.pull_back(kept, *dy);
        }
    });
}

/// Checks that `f` has these values, its gradient up to `spread` from 0 and at a scalar, and `f` in f32 against f64 on every
/// instruction set, into NaN, to `bound` of the larger of 1 and the value; that the op works in place where it may and nowhere
/// else; and that NaN stays.
#[cfg(test)]
pub(super) fn check_pointwise<F: Pointwise>(f: F, values: &[(f64, f64)], spread: f64, bound: f64) {
    use crate::testing::{check_gradients, distinct, poisoned};

    for &(x, expected) in values {
        let y = f.compute(&poisoned(), Tensor::scalar(x)).0.item();
        assert!(y == expected || (y - expected).abs() < 1e-15, "{f:?} of {x} is {y}, expected {expected}");
    }
    for spread in [0.6, spread] {
        let mut x = distinct([2, 3, 4, 5], 1);
        x.data_mut().iter_mut().for_each(|x| *x *= spread / 0.6);
        check_gradients(&f, &[x]);
    }
    check_gradients(&f, &[distinct([], 2)]);
    let x: Vec<f32> = (-12_003i16..12_004).map(|i| f32::from(i) / 1000.0).collect();
    for isa in Isa::available() {
        let mut y = vec![f32::NAN; x.len()];
        apply(isa, f, Some(&x), &mut y);
        let mut in_place = x.clone();
        apply(isa, f, None, &mut in_place);
        assert_eq!(in_place, y, "{isa}");
        let mut dx = vec![2.0f32; x.len()];
        pull_back(isa, f, &x, &mut dx);
        for ((&x, &y), &dx) in x.iter().zip(&y).zip(&dx) {
            let wide = f64::from(x);
            for (found, expected) in [(y, f.value(wide)), (dx, f.pull_back(wide, 2.0))] {
                let error = (f64::from(found) - expected).abs() / expected.abs().max(1.0);
                assert!(error < bound, "{isa}: at {x}: {found}, expected {expected}, error {error:e}");
            }
        }
    }
    for grad_enabled in [false, true] {
        let context = Context { grad_enabled, ..poisoned() };
        let x = Tensor::from_slice([3], &[0.5f32, -1.5, f32::NAN]).unwrap();
        let (y, saved) = f.compute(&context, x.clone());
        assert!(x.data()[..2] == [0.5, -1.5] && y.data()[2].is_nan(), "{f:?}: x {x:?}, y {y:?}");
        drop(saved);
        let address = x.data().as_ptr();
        let (in_place, _saved) = f.compute(&context, x);
        assert_eq!(in_place.data()[..2], y.data()[..2]);
        assert_eq!(in_place.data().as_ptr() == address, F::KEEPS_OUTPUT || !grad_enabled, "{f:?}");
    }
}
