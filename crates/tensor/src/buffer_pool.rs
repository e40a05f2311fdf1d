//! Recycled memory: every tensor's storage comes from a pool and goes back to it when dropped.
//!
//! A fresh large allocation is paid for twice: by the system call, and by a page fault for every 4 KiB touched. A
//! training step uses the same sizes over and over, so after the first step nothing large is ever asked of the
//! operating system again. Large buffers are mapped on huge pages where the system has them (`storage`).
//!
//! A buffer remembers its *home pool* and returns there whichever thread drops it. Each worker has a pool of its own, so
//! what a worker needs at its peak does not depend on what others do at the time.

use std::collections::BTreeMap;
use std::fmt;
use std::ops::{Deref, DerefMut};
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use bytemuck::Pod;

use storage::Storage;

mod storage;

/// Buffers begin at a multiple of this many bytes: a cache line, and one 512-bit register.
pub const ALIGNMENT: usize = 64;

/// Free buffers of one element type, by capacity in elements.
#[derive(Default)]
pub struct FreeList<T> {
    by_capacity: BTreeMap<usize, Vec<Storage<T>>>,
}

impl<T: Pod> FreeList<T> {
    /// The smallest free buffer that holds `capacity` elements without wasting more than three quarters of itself.
    fn take(&mut self, capacity: usize) -> Option<Storage<T>> {
        let (&found, free) = self
            .by_capacity
            .range_mut(capacity..=capacity.saturating_mul(4))
            .find(|(_, free)| !free.is_empty())?;
        debug_assert!(found >= capacity);
        free.pop()
    }

    fn give(&mut self, storage: Storage<T>) {
        // The list of a capacity stays when it empties, so that giving back allocates nothing either.
        self.by_capacity.entry(storage.capacity()).or_default().push(storage);
    }

    fn elements(&self) -> usize {
        self.by_capacity.iter().map(|(capacity, free)| capacity * free.len()).sum()
    }
}

/// An element type that a [`BufferPool`] keeps buffers of: `f32`, `f64` and `u8`.
pub trait Pooled: Pod + Default + Send + Sync {
    /// What fresh and recycled buffers are filled with in a poisoning pool.
    const POISON: Self;
    /// This type's free buffers in a pool.
    fn free_list(pool: &BufferPool) -> &Mutex<FreeList<Self>>;
}

macro_rules! pooled {
    ($type:ident, $poison:expr) => {
        impl Pooled for $type {
            const POISON: Self = $poison;
            fn free_list(pool: &BufferPool) -> &Mutex<FreeList<Self>> {
                &pool.$type
            }
        }
    };
}

pooled!(f32, f32::NAN);
pooled!(f64, f64::NAN);
pooled!(u8, 0xA5);

/// A source of buffers that are recycled instead of freed. See the module's documentation.
#[derive(Default)]
pub struct BufferPool {
    f32: Mutex<FreeList<f32>>,
    f64: Mutex<FreeList<f64>>,
    u8: Mutex<FreeList<u8>>,
    poison: bool,
}

/// A list is only ever changed by one push or pop, so it is whole even if a thread panicked while holding it.
fn lock<T>(list: &Mutex<FreeList<T>>) -> MutexGuard<'_, FreeList<T>> {
    list.lock().unwrap_or_else(PoisonError::into_inner)
}

impl BufferPool {
    /// An empty pool.
    #[must_use]
    pub fn new() -> Arc<Self> {
        Arc::new(Self::default())
    }

    /// An empty pool that fills each buffer it hands out with NaN, so that a test sees any element that an op forgot
    /// to write.
    #[must_use]
    pub fn poisoning() -> Arc<Self> {
        Arc::new(Self { poison: true, ..Self::default() })
    }

    /// The pool of the whole process, for tensors made outside of a training step.
    #[must_use]
    pub fn global() -> &'static Arc<Self> {
        static GLOBAL: OnceLock<Arc<BufferPool>> = OnceLock::new();
        GLOBAL.get_or_init(Self::new)
    }

    /// A buffer of `len` elements **whose contents are unspecified**: zeros, or what an earlier owner left.
    #[must_use]
    pub fn take<T: Pooled>(self: &Arc<Self>, len: usize) -> Buffer<T> {
        let padding = ALIGNMENT / size_of::<T>();
        let recycled = lock(T::free_list(self)).take(len + padding);
        let storage = recycled.unwrap_or_else(|| Storage::zeroed(len + padding));
        let start = storage.as_slice().as_ptr().align_offset(ALIGNMENT);
        // `align_offset` may decline to answer; an unaligned buffer is slower, not wrong.
        let start = if start <= padding { start } else { 0 };
        let mut buffer = Buffer { storage, start, len, home: Arc::clone(self) };
        if self.poison {
            buffer.fill(T::POISON);
        }
        buffer
    }

    /// A buffer of `len` zeros.
    #[must_use]
    pub fn zeros<T: Pooled>(self: &Arc<Self>, len: usize) -> Buffer<T> {
        let mut buffer = self.take(len);
        buffer.fill(T::default());
        buffer
    }

    /// Bytes that the pools of this process have ever asked the system for: what does not grow allocates nothing.
    #[must_use]
    pub fn bytes_made() -> u64 {
        storage::MADE.load(Ordering::Relaxed)
    }

    /// Bytes that lie free in the pool.
    #[must_use]
    pub fn free_bytes(&self) -> usize {
        4 * lock(&self.f32).elements() + 8 * lock(&self.f64).elements() + lock(&self.u8).elements()
    }

    /// Gives the free buffers back to the operating system.
    pub fn clear(&self) {
        lock(&self.f32).by_capacity.clear();
        lock(&self.f64).by_capacity.clear();
        lock(&self.u8).by_capacity.clear();
    }
}

impl fmt::Debug for BufferPool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BufferPool").field("free_bytes", &self.free_bytes()).finish()
    }
}

/// A slice of elements that begins on a cache line and goes back to its [`BufferPool`] when dropped.
pub struct Buffer<T: Pooled> {
    storage: Storage<T>,
    start: usize,
    len: usize,
    home: Arc<BufferPool>,
}

impl<T: Pooled> Deref for Buffer<T> {
    type Target = [T];

    fn deref(&self) -> &[T] {
        &self.storage.as_slice()[self.start..self.start + self.len]
    }
}

impl<T: Pooled> DerefMut for Buffer<T> {
    fn deref_mut(&mut self) -> &mut [T] {
        &mut self.storage.as_mut_slice()[self.start..self.start + self.len]
    }
}

impl<T: Pooled> Clone for Buffer<T> {
    fn clone(&self) -> Self {
        let mut copy = self.home.take(self.len);
        copy.copy_from_slice(self);
        copy
    }
}

impl<T: Pooled> Drop for Buffer<T> {
    fn drop(&mut self) {
        lock(T::free_list(&self.home)).give(std::mem::take(&mut self.storage));
    }
}

impl<T: Pooled + fmt::Debug> fmt::Debug for Buffer<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.iter()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_dropped_buffer_is_used_again_and_aligned() {
        let pool = BufferPool::new();
        let first = pool.take::<f32>(1000);
        let address = first.as_ptr();
        assert_eq!(address as usize % ALIGNMENT, 0);
        drop(first);
        assert!(pool.free_bytes() >= 4000);
        let second = pool.take::<f32>(1000);
        assert_eq!(second.as_ptr(), address);
        assert_eq!(pool.free_bytes(), 0);
    }

    #[test]
    fn a_smaller_request_may_use_a_larger_buffer_but_not_a_huge_one() {
        let pool = BufferPool::new();
        drop(pool.take::<f32>(1000));
        assert_eq!(pool.take::<f32>(600).len(), 600);
        assert_eq!(pool.take::<f32>(10).len(), 10);
        assert!(pool.free_bytes() > 4000, "the small request must not have taken the large buffer");
    }

    #[test]
    fn buffers_go_home_from_other_threads() {
        let pool = BufferPool::new();
        let buffer = pool.take::<f64>(10);
        std::thread::spawn(move || drop(buffer)).join().unwrap();
        assert!(pool.free_bytes() >= 80);
    }

    #[test]
    fn a_poisoning_pool_hands_out_nan_and_zeros_are_zero() {
        let pool = BufferPool::poisoning();
        assert!(pool.take::<f32>(5).iter().all(|x| x.is_nan()));
        assert!(pool.zeros::<f32>(5).iter().all(|&x| x == 0.0));
    }
}
