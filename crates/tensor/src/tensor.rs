//! [`Tensor`]: a shape and its elements, contiguous, outermost axis first (NCHW for images).

use std::any::{Any, TypeId};
use std::fmt;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use crate::buffer_pool::{Buffer, BufferPool};
use crate::element::Element;
use crate::lock::lock;
use crate::shape::{Shape, ShapeError, ensure};
use crate::simd::{Isa, compiled};

/// A contiguous tensor of `f32` or `f64`.
///
/// A clone shares the elements and costs a reference count. Changing a shared tensor ([`Tensor::data_mut`]) first copies
/// it, so a clone never changes behind anyone's back.
#[derive(Clone)]
pub struct Tensor<T: Element> {
    shape: Shape,
    storage: Arc<Storage<T>>,
}

struct Storage<T: Element> {
    /// The elements; none of zeros that nobody has asked for yet.
    buffer: OnceLock<Buffer<T>>,
    /// Forms made from the elements, such as packed weights; see [`Tensor::cached`]. Only weights ever have any.
    cached: OnceLock<Box<Mutex<Vec<Cached>>>>,
}

struct Cached {
    kind: TypeId,
    /// The shape of the tensor that asked, and the form.
    key: (Shape, u64),
    /// Made from the elements as they are now.
    fresh: bool,
    value: Arc<dyn Any + Send + Sync>,
}

impl<T: Element> Storage<T> {
    fn new(buffer: Buffer<T>) -> Arc<Self> {
        Arc::new(Self { buffer: OnceLock::from(buffer), cached: OnceLock::new() })
    }
}

impl<T: Element> Tensor<T> {
    /// A tensor over a buffer.
    ///
    /// # Panics
    /// If the buffer does not hold exactly the shape's elements.
    pub fn from_buffer(shape: impl Into<Shape>, buffer: Buffer<T>) -> Self {
        let shape = shape.into();
        assert_eq!(buffer.len(), shape.elements(), "a tensor of {shape} has {} elements", shape.elements());
        Self { shape, storage: Storage::new(buffer) }
    }

    /// A tensor **whose elements are unspecified**, with storage from `pool`. For outputs that are overwritten whole.
    pub fn empty_in(pool: &Arc<BufferPool>, shape: impl Into<Shape>) -> Self {
        let shape = shape.into();
        Self::from_buffer(shape, pool.take(shape.elements()))
    }

    /// Zeros, with storage from `pool`.
    pub fn zeros_in(pool: &Arc<BufferPool>, shape: impl Into<Shape>) -> Self {
        let shape = shape.into();
        Self::from_buffer(shape, pool.zeros(shape.elements()))
    }

    /// Zeros. They take no memory until they are looked at, so that a network can be described at any size.
    pub fn zeros(shape: impl Into<Shape>) -> Self {
        let storage = Storage { buffer: OnceLock::new(), cached: OnceLock::new() };
        Self { shape: shape.into(), storage: Arc::new(storage) }
    }

    /// Every element the same.
    pub fn full(shape: impl Into<Shape>, value: T) -> Self {
        let mut tensor = Self::empty_in(BufferPool::global(), shape);
        tensor.data_mut().fill(value);
        tensor
    }

    /// A tensor of no axes and one element.
    pub fn scalar(value: T) -> Self {
        Self::full(Shape::scalar(), value)
    }

    /// The element at linear index `i` is `element(i)`.
    pub fn from_fn(shape: impl Into<Shape>, mut element: impl FnMut(usize) -> T) -> Self {
        let mut tensor = Self::empty_in(BufferPool::global(), shape);
        for (index, value) in tensor.data_mut().iter_mut().enumerate() {
            *value = element(index);
        }
        tensor
    }

    /// A copy of `data`, in row-major order.
    ///
    /// # Errors
    /// [`ShapeError`] if the number of elements is not that of the shape.
    pub fn from_slice(shape: impl Into<Shape>, data: &[T]) -> Result<Self, ShapeError> {
        let shape = shape.into();
        let (elements, len) = (shape.elements(), data.len());
        ensure!("tensor", len == elements, "a shape of {shape} has {elements} elements, data has {len}");
        let mut tensor = Self::empty_in(BufferPool::global(), shape);
        tensor.data_mut().copy_from_slice(data);
        Ok(tensor)
    }

    /// The extents.
    pub fn shape(&self) -> Shape {
        self.shape
    }

    /// The number of elements.
    pub fn len(&self) -> usize {
        self.shape.elements()
    }

    /// Tells whether there are no elements.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The elements, outermost axis first.
    pub fn data(&self) -> &[T] {
        self.storage.buffer.get_or_init(|| BufferPool::global().zeros(self.len()))
    }

    /// The elements, to be changed. Copies them first if another tensor shares them, and outdates what was made of them.
    pub fn data_mut(&mut self) -> &mut [T] {
        let len = self.len();
        if Arc::get_mut(&mut self.storage).is_none() {
            let copy = self.storage.buffer.get().cloned();
            self.storage = Storage::new(copy.unwrap_or_else(|| BufferPool::global().zeros(len)));
        }
        let storage =
            Arc::get_mut(&mut self.storage).expect("the storage has one owner: it was copied if it had more");
        if let Some(cached) = storage.cached.get_mut() {
            for cached in cached.get_mut().unwrap_or_else(PoisonError::into_inner) {
                cached.fresh = false;
            }
        }
        storage.buffer.get_or_init(|| BufferPool::global().zeros(len));
        storage.buffer.get_mut().expect("it was made just now")
    }

    /// Tells whether no other tensor shares the elements, so that an op may work in place.
    pub fn is_unique(&self) -> bool {
        Arc::strong_count(&self.storage) == 1
    }

    /// The one element of a tensor that has one.
    ///
    /// # Panics
    /// If there are more or none.
    pub fn item(&self) -> T {
        assert_eq!(self.len(), 1, "item() is for tensors of one element, not {}", self.shape);
        self.data()[0]
    }

    /// The same elements under another shape. No copy.
    ///
    /// # Errors
    /// [`ShapeError`] if the number of elements differs.
    pub fn reshape(self, shape: impl Into<Shape>) -> Result<Self, ShapeError> {
        Ok(Self { shape: self.shape.reshaped(shape.into())?, storage: self.storage })
    }

    /// A copy of the entries `from..to` of the outermost axis (images of a batch), with storage from `pool`.
    ///
    /// # Panics
    /// If the range lies outside of the axis or the tensor is a scalar.
    pub fn narrow_in(&self, pool: &Arc<BufferPool>, from: usize, to: usize) -> Self {
        assert!(from <= to && to <= self.shape[0], "entries {from}..{to} of a tensor of {}", self.shape);
        let entry: usize = self.shape[1..].iter().product();
        let mut tensor = Self::empty_in(pool, &*[&[to - from], &self.shape[1..]].concat());
        tensor.data_mut().copy_from_slice(&self.data()[from * entry..to * entry]);
        tensor
    }

    /// Adds `other` element by element.
    ///
    /// # Panics
    /// If the shapes differ.
    pub fn add_assign(&mut self, other: &Self) {
        assert_eq!(self.shape, other.shape, "add_assign: shapes differ");
        let (sums, terms) = (self.data_mut(), other.data());
        compiled!(Isa::current(), {
            for (sum, &term) in sums.iter_mut().zip(terms) {
                *sum += term;
            }
        });
    }

    /// A form of the elements that is worth keeping, such as a convolution's packed or transformed weights: filled when first
    /// asked for, kept beside the elements, and filled again once they have changed.
    ///
    /// `key` tells apart several forms of the same type and shape. Threads that ask at the same time wait for the first to make
    /// it.
    pub(crate) fn cached<D: Send + Sync + 'static>(
        &self,
        key: u64,
        make: impl Fn() -> D,
        fill: impl FnOnce(&mut D, &[T]),
    ) -> Arc<D> {
        let cached = self.storage.cached.get_or_init(Box::default);
        let mut all = lock(cached);
        let (kind, key) = (TypeId::of::<D>(), (self.shape, key));
        let position = all.iter().position(|cached| cached.kind == kind && cached.key == key);
        let index = position.unwrap_or_else(|| {
            all.push(Cached { kind, key, fresh: false, value: Arc::new(make()) });
            all.len() - 1
        });
        let entry = &mut all[index];
        if !entry.fresh {
            if Arc::get_mut(&mut entry.value).is_none() {
                // Someone still holds the outdated form.
                entry.value = Arc::new(make());
            }
            let value = Arc::get_mut(&mut entry.value).and_then(|value| value.downcast_mut());
            fill(
                value.expect("entries are found by their type, and nobody else holds this one"),
                self.data(),
            );
            entry.fresh = true;
        }
        Arc::clone(&entry.value).downcast().expect("entries are found by their type")
    }
}

impl<T: Element> PartialEq for Tensor<T> {
    fn eq(&self, other: &Self) -> bool {
        self.shape == other.shape && self.data() == other.data()
    }
}

impl<T: Element> fmt::Debug for Tensor<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const SHOWN: usize = 8;
        write!(f, "Tensor<{}>[{}] [", T::NAME, self.shape)?;
        for (index, value) in self.data().iter().take(SHOWN).enumerate() {
            write!(f, "{}{value}", if index > 0 { ", " } else { "" })?;
        }
        f.write_str(if self.len() > SHOWN { ", ...]" } else { "]" })
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    #[test]
    fn a_clone_shares_until_one_is_changed() {
        let mut a = Tensor::<f32>::full([2, 2], 1.0);
        let b = a.clone();
        assert!(!a.is_unique());
        assert_eq!(a.data().as_ptr(), b.data().as_ptr());
        a.data_mut()[0] = 5.0;
        assert_eq!(b.data(), [1.0; 4]);
        assert!(a.is_unique() && b.is_unique());
    }

    #[test]
    fn zeros_take_no_memory_until_they_are_looked_at() {
        let huge = Tensor::<f32>::zeros([1 << 20, 1 << 20]);
        assert_eq!(huge.clone().reshape([1 << 40]).unwrap().len(), 1 << 40);
        let mut a = Tensor::<f32>::zeros([2, 2]);
        let b = a.clone();
        a.data_mut()[3] = 5.0;
        assert_eq!((a.data(), b.data()), (&[0.0, 0.0, 0.0, 5.0][..], &[0.0; 4][..]));
        let mut alone = Tensor::<f64>::zeros([1]);
        alone.data_mut()[0] += 2.0;
        assert_eq!(alone.item(), 2.0);
    }

    #[test]
    fn shapes_are_checked() {
        let error = Tensor::<f32>::from_slice([2, 3], &[0.0; 5]).unwrap_err();
        assert_eq!(error.to_string(), "tensor: a shape of 2 x 3 has 6 elements, data has 5");
        let error = Tensor::<f32>::zeros([2, 3]).reshape([4, 2]).unwrap_err();
        assert_eq!(error.to_string(), "reshape: 2 x 3 has 6 elements, 4 x 2 has 8");
    }

    #[test]
    fn entries_are_images_of_a_batch() {
        let batch = Tensor::<f32>::from_fn([3, 1, 2, 2], |i| i as f32);
        let image = batch.narrow_in(BufferPool::global(), 1, 2);
        assert_eq!(image.shape(), Shape::from([1, 1, 2, 2]));
        assert_eq!(image.data(), [4.0, 5.0, 6.0, 7.0]);
    }

    #[test]
    fn a_derived_form_is_made_once_and_again_after_a_change() {
        let mut weight = Tensor::<f32>::full([3], 2.0);
        let (made, filled) = (Cell::new(0), Cell::new(0));
        let total = |weight: &Tensor<f32>| {
            let make = || {
                made.set(made.get() + 1);
                vec![f32::NAN]
            };
            let sum = weight.cached(7, make, |sum, data| {
                filled.set(filled.get() + 1);
                sum[0] = data.iter().sum();
            });
            (sum[0], sum.as_ptr())
        };
        let (first, address) = total(&weight);
        assert_eq!((first, total(&weight).0), (6.0, 6.0));
        weight.data_mut()[0] = 10.0;
        assert_eq!(total(&weight), (14.0, address), "filled again in the same memory");
        assert_eq!((made.get(), filled.get()), (1, 2));
    }
}
