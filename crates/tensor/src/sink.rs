//! Places for gradients: [`GradientSum`], the running sum of one value's gradients, and [`Sinks`], those of an op's inputs.

use std::any::Any;
use std::fmt::Debug;
use std::sync::Arc;

use crate::buffer_pool::BufferPool;
use crate::element::Element;
use crate::shape::Shape;
use crate::tensor::Tensor;

/// A part of a gradient in a form of its own, which is cheaper to add to than the gradient: the Winograd domain, or the factors
/// of a product.
pub(crate) trait Deferred<T: Element>: Any + Debug + Send {
    /// The shape of the gradient.
    fn shape(&self) -> Shape;

    /// Writes the gradient, or adds it if `add`. The form is not asked again.
    fn finish(&mut self, gradient: &mut [T], add: bool);
}

/// The running sum of the gradients of one value. The first tensor is moved in, later ones are added.
///
/// Sums are made in the order of the calls. An op may leave part of the sum in a cheaper form, which is computed when the sum is
/// finished: from micro-batch to micro-batch nothing but that form is added to.
#[derive(Debug)]
pub struct GradientSum<T: Element> {
    sum: Option<Tensor<T>>,
    deferred: Option<Box<dyn Deferred<T>>>,
    /// The pool that a form of its own takes memory of, if not that of the gradients.
    pool: Option<Arc<BufferPool>>,
}

impl<T: Element> Default for GradientSum<T> {
    fn default() -> Self {
        Self { sum: None, deferred: None, pool: None }
    }
}

impl<T: Element> From<Tensor<T>> for GradientSum<T> {
    /// A sum of one tensor, moved in.
    fn from(first: Tensor<T>) -> Self {
        Self { sum: Some(first), ..Self::default() }
    }
}

impl<T: Element> GradientSum<T> {
    /// A sum of nothing.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// A sum of nothing whose own forms take memory of `pool`: whoever adds to it, what lives as long as the sum is not in his
    /// memory.
    #[must_use]
    pub fn in_pool(pool: &Arc<BufferPool>) -> Self {
        Self { pool: Some(Arc::clone(pool)), ..Self::default() }
    }

    /// Tells whether all of the sum is in a form of its own.
    #[cfg(test)]
    pub(crate) fn is_deferred(&self) -> bool {
        self.sum.is_none() && self.deferred.is_some()
    }

    /// Adds a gradient.
    ///
    /// # Panics
    /// If its shape is another than that of an earlier one.
    pub fn add(&mut self, gradient: Tensor<T>) {
        match &mut self.sum {
            Some(sum) => sum.add_assign(&gradient),
            first => *first = Some(gradient),
        }
    }

    /// Adds in the form `D`, which is made when first added to. Where another form was begun, or one that does not fit, the
    /// gradient is computed at once, in memory of `pool`.
    pub(crate) fn add_deferred<D: Deferred<T>>(
        &mut self,
        pool: &Arc<BufferPool>,
        make: impl FnOnce(&Arc<BufferPool>) -> D,
        fits: impl FnOnce(&D) -> bool,
        add: impl FnOnce(&mut D),
    ) {
        let begun = self.deferred.as_deref().map(|form| form as &dyn Any);
        if begun.is_none_or(|form| form.downcast_ref().is_some_and(fits)) {
            let own = self.pool.as_ref().unwrap_or(pool);
            let form: &mut dyn Any = &mut **self.deferred.get_or_insert_with(|| Box::new(make(own)));
            add(form.downcast_mut().expect("the form that fits"));
        } else {
            let mut form = make(pool);
            add(&mut form);
            let mut gradient = Tensor::empty_in(pool, form.shape());
            form.finish(gradient.data_mut(), false);
            self.add(gradient);
        }
    }

    /// Tells whether nothing was added.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.sum.is_none() && self.deferred.is_none()
    }

    /// The whole sum, `None` if nothing was added. Memory of `pool` is taken only where no tensor was added.
    #[must_use]
    pub fn finish(self, pool: &Arc<BufferPool>) -> Option<Tensor<T>> {
        let (mut gradient, add) = match (self.sum, &self.deferred) {
            (Some(sum), _) => (sum, true),
            (None, Some(form)) => (Tensor::empty_in(pool, form.shape()), false),
            (None, None) => return None,
        };
        if let Some(mut form) = self.deferred {
            form.finish(gradient.data_mut(), add);
        }
        Some(gradient)
    }

    /// Writes the whole sum to `total`, 0 if nothing was added, or adds it if `add`, with the bits of
    /// [`GradientSum::finish`] and [`Tensor::add_assign`]. A sum that is all in a form of its own needs no tensor for it.
    ///
    /// # Panics
    /// If the shapes differ.
    pub fn write_to(mut self, total: &mut Tensor<T>, add: bool) {
        if let (Some(form), None) = (&mut self.deferred, &self.sum) {
            assert_eq!(form.shape(), total.shape(), "write_to: shapes differ");
            return form.finish(total.data_mut(), add);
        }
        match self.finish(BufferPool::global()) {
            Some(sum) if add => total.add_assign(&sum),
            Some(sum) => {
                assert_eq!(sum.shape(), total.shape(), "write_to: shapes differ");
                total.data_mut().copy_from_slice(sum.data());
            }
            None if add => {}
            None => total.data_mut().fill(T::ZERO),
        }
    }
}

/// Sums that are found by index. Whoever keeps them may give each out as late as when it is first asked for.
pub trait GradientSums<T: Element> {
    /// The sum of an index.
    ///
    /// # Panics
    /// If there is none.
    fn sum(&mut self, index: usize) -> &mut GradientSum<T>;
}

impl<T: Element, S: AsMut<[GradientSum<T>]>> GradientSums<T> for S {
    fn sum(&mut self, index: usize) -> &mut GradientSum<T> {
        &mut self.as_mut()[index]
    }
}

/// The sinks of one op's inputs: an input is unwanted, or has a [`GradientSum`].
///
/// Sums are found by index, so that a value that is two inputs of an op has one sum. Inputs that an op does not have, such as a
/// bias, are unwanted. Other threads may wait for a parameter's sum from when an op first asks for it until the op is over: what
/// can be computed before that should be.
pub struct Sinks<'a, T: Element> {
    sums: &'a mut dyn GradientSums<T>,
    inputs: &'a [Option<usize>],
}

impl<'a, T: Element> Sinks<'a, T> {
    /// Sinks of inputs, for each its index in `sums`, or `None` if its gradient is not wanted.
    pub fn new(sums: &'a mut dyn GradientSums<T>, inputs: &'a [Option<usize>]) -> Self {
        Self { sums, inputs }
    }

    /// Tells whether the gradient of an input is wanted.
    #[must_use]
    pub fn wanted(&self, input: usize) -> bool {
        self.inputs.get(input).is_some_and(Option::is_some)
    }

    /// The sum of an input's gradients, `None` if the gradient is not wanted.
    pub fn get(&mut self, input: usize) -> Option<&mut GradientSum<T>> {
        let &sum = self.inputs.get(input)?.as_ref()?;
        Some(self.sums.sum(sum))
    }

    /// Adds to an input's gradient what `gradient` computes, which is not called if the gradient is not wanted.
    pub fn add(&mut self, input: usize, gradient: impl FnOnce() -> Tensor<T>) {
        if self.wanted(input) {
            let gradient = gradient();
            self.get(input).expect("it is wanted").add(gradient);
        }
    }

    /// The sinks of the inputs from `first` on, counted from 0 again.
    pub(crate) fn tail(&mut self, first: usize) -> Sinks<'_, T> {
        Sinks { sums: self.sums, inputs: self.inputs.get(first..).unwrap_or_default() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Counts, and writes the count.
    #[derive(Debug)]
    struct Count(f64);

    impl Deferred<f64> for Count {
        fn shape(&self) -> Shape {
            [2].into()
        }

        fn finish(&mut self, gradient: &mut [f64], add: bool) {
            for element in gradient {
                *element = self.0 + if add { *element } else { 0.0 };
            }
        }
    }

    /// Another form.
    #[derive(Debug)]
    struct Sevens;

    impl Deferred<f64> for Sevens {
        fn shape(&self) -> Shape {
            [2].into()
        }

        fn finish(&mut self, gradient: &mut [f64], add: bool) {
            Count(7.0).finish(gradient, add);
        }
    }

    fn sum(tensors: &[f64], counts: &[f64]) -> GradientSum<f64> {
        let mut sum = GradientSum::new();
        tensors.iter().for_each(|&value| sum.add(Tensor::full([2], value)));
        for count in counts {
            sum.add_deferred(&BufferPool::poisoning(), |_| Count(0.0), |_| true, |sum| sum.0 += count);
        }
        sum
    }

    #[test]
    fn the_first_is_moved_and_later_ones_are_added_whatever_their_form() {
        let pool = BufferPool::poisoning();
        let first = Tensor::full([2], 1.0);
        let address = first.data().as_ptr();
        let mut moved = GradientSum::new();
        moved.add(first);
        moved.add(Tensor::full([2], 2.0));
        let moved = moved.finish(&pool).unwrap();
        assert_eq!((moved.data(), moved.data().as_ptr()), (&[3.0; 2][..], address));

        for (tensors, counts, expected) in [
            (&[1.0, 2.0][..], &[][..], Some(3.0)),
            (&[], &[4.0, 5.0], Some(9.0)),
            (&[1.0, 2.0], &[4.0, 5.0], Some(12.0)),
            (&[], &[], None),
        ] {
            let found = sum(tensors, counts).finish(&pool);
            assert_eq!(found, expected.map(|value| Tensor::full([2], value)));
            for (add, before) in [(true, 100.0), (false, 0.0)] {
                let mut total = Tensor::full([2], 100.0);
                sum(tensors, counts).write_to(&mut total, add);
                assert_eq!(total.data(), [before + expected.unwrap_or(0.0); 2]);
            }
        }
    }

    #[test]
    fn a_sum_has_one_form_and_what_does_not_fit_is_finished_at_once() {
        let (mut sum, pool) = (sum(&[], &[1.0]), BufferPool::poisoning());
        sum.add_deferred(&pool, |_| Sevens, |_| true, |_| {});
        sum.add_deferred(&pool, |_| Count(20.0), |count| count.0 > 1.0, |count| count.0 += 10.0);
        sum.add_deferred(&pool, |_| Count(0.0), |count| count.0 == 1.0, |count| count.0 += 100.0);
        assert_eq!(sum.sum.as_ref().unwrap().data(), [37.0; 2], "what did not fit");
        assert_eq!(sum.finish(&pool).unwrap().data(), [138.0; 2]);
    }

    #[test]
    fn an_input_is_unwanted_or_has_a_sum_which_two_may_share() {
        let mut sums = [GradientSum::new(), GradientSum::new()];
        let mut sinks = Sinks::new(&mut sums, &[Some(1), None, Some(1)]);
        assert_eq!([0, 1, 2, 3].map(|input| sinks.wanted(input)), [true, false, true, false]);
        for input in 0..4 {
            sinks.add(input, || Tensor::full([2], 1.0));
        }
        sinks.tail(2).add(0, || Tensor::full([2], 1.0));
        assert!(sinks.tail(1).get(0).is_none() && sinks.tail(9).get(0).is_none());
        let [zeroth, first] = sums.map(|sum| sum.finish(BufferPool::global()));
        assert_eq!((zeroth, first), (None, Some(Tensor::full([2], 3.0))));
    }
}
