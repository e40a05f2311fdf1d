//! A function of one number applied to every element, and its derivative: one loop each, compiled for every instruction set.

use crate::simd::{Isa, Kernel, Simd, dispatch};
use crate::{Context, Element, Tensor};

/// A differentiable function of a number. Implementations are `#[inline(always)]` and choose by `if`, so that loops become
/// vectors.
pub(super) trait Function<T: Element>: Copy {
    /// `f(x)`.
    fn value(self, x: T) -> T;
    /// `f'(x)`, or the same from `y = f(x)` where the op keeps its output.
    fn derivative(self, kept: T) -> T;
}

/// `y = f(x)` of every element, and `x`. Works in place where no one else holds the input and no gradient is wanted.
pub(super) fn apply<T: Element>(
    context: &Context,
    f: impl Function<T>,
    x: Tensor<T>,
) -> (Tensor<T>, Tensor<T>) {
    if !context.grad_enabled && x.is_unique() {
        return apply_in_place(f, x);
    }
    let mut y = Tensor::empty_in(context.pool(), x.shape());
    dispatch(Isa::current(), Values { f, x: x.data(), y: y.data_mut() });
    (y, x)
}

/// `y = f(x)` of every element, twice: for a derivative that is read off the output. In place where no one else holds the input.
pub(super) fn apply_in_place<T: Element>(f: impl Function<T>, mut x: Tensor<T>) -> (Tensor<T>, Tensor<T>) {
    dispatch(Isa::current(), ValuesInPlace { f, x: x.data_mut() });
    (x.clone(), x)
}

/// `dx = f'(kept) dy` of every element, in place where no one else holds the gradient.
pub(super) fn gradient<T: Element>(f: impl Function<T>, kept: &Tensor<T>, mut dy: Tensor<T>) -> Tensor<T> {
    dispatch(Isa::current(), Derivatives { f, kept: kept.data(), dy: dy.data_mut() });
    dy
}

struct Values<'a, T, F> {
    f: F,
    x: &'a [T],
    y: &'a mut [T],
}

impl<T: Element, F: Function<T>> Kernel for Values<'_, T, F> {
    #[inline(always)]
    fn run<S: Simd>(self, _: S) {
        for (y, &x) in self.y.iter_mut().zip(self.x) {
            *y = self.f.value(x);
        }
    }
}

struct ValuesInPlace<'a, T, F> {
    f: F,
    x: &'a mut [T],
}

impl<T: Element, F: Function<T>> Kernel for ValuesInPlace<'_, T, F> {
    #[inline(always)]
    fn run<S: Simd>(self, _: S) {
        for x in self.x {
            *x = self.f.value(*x);
        }
    }
}

struct Derivatives<'a, T, F> {
    f: F,
    kept: &'a [T],
    dy: &'a mut [T],
}

impl<T: Element, F: Function<T>> Kernel for Derivatives<'_, T, F> {
    #[inline(always)]
    fn run<S: Simd>(self, _: S) {
        for (dy, &kept) in self.dy.iter_mut().zip(self.kept) {
            *dy *= self.f.derivative(kept);
        }
    }
}

/// Checks `f` in f32 against f64 on every instruction set, into NaN: to `bound` of the larger of 1 and the value.
#[cfg(test)]
pub(super) fn check_every_isa<F: Function<f32> + Function<f64>>(f: F, bound: f64) {
    let x: Vec<f32> = (-12_003i16..12_004).map(|i| f32::from(i) / 1000.0).collect();
    for isa in Isa::available() {
        let mut y = vec![f32::NAN; x.len()];
        dispatch(isa, Values { f, x: &x, y: &mut y });
        let mut in_place = x.clone();
        dispatch(isa, ValuesInPlace { f, x: &mut in_place });
        assert_eq!(in_place, y, "{isa}");
        let mut dx = vec![2.0f32; x.len()];
        dispatch(isa, Derivatives { f, kept: &x, dy: &mut dx });
        for ((&x, &y), &dx) in x.iter().zip(&y).zip(&dx) {
            let wide = f64::from(x);
            for (found, expected) in [(y, f.value(wide)), (dx, 2.0 * f.derivative(wide))] {
                let error = (f64::from(found) - expected).abs() / expected.abs().max(1.0);
                assert!(error < bound, "{isa}: at {x}: {found}, expected {expected}, error {error:e}");
            }
        }
    }
}
