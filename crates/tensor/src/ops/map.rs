//! Element-by-element functions in place where possible.

use std::sync::Arc;

use crate::buffer_pool::BufferPool;
use crate::element::Element;
use crate::tensor::Tensor;

/// `f` of each element, in place if no one else holds the tensor.
pub(super) fn map<T: Element>(pool: &Arc<BufferPool>, mut x: Tensor<T>, f: impl Fn(T) -> T) -> Tensor<T> {
    if x.is_unique() {
        x.data_mut().iter_mut().for_each(|x| *x = f(*x));
        return x;
    }
    let mut y = Tensor::uninit_in(pool, x.shape());
    y.data_mut().iter_mut().zip(x.data()).for_each(|(y, &x)| *y = f(x));
    y
}

/// `f(a, b)` for tensors of one shape, in `a` if no one else holds it.
pub(super) fn zip_map<T: Element>(
    pool: &Arc<BufferPool>,
    mut a: Tensor<T>,
    b: &Tensor<T>,
    f: impl Fn(T, T) -> T,
) -> Tensor<T> {
    assert_eq!(a.shape(), b.shape(), "the shapes differ");
    if a.is_unique() {
        a.data_mut().iter_mut().zip(b.data()).for_each(|(a, &b)| *a = f(*a, b));
        return a;
    }
    let mut y = Tensor::uninit_in(pool, a.shape());
    let inputs = a.data().iter().zip(b.data());
    y.data_mut().iter_mut().zip(inputs).for_each(|(y, (&a, &b))| *y = f(a, b));
    y
}
