//! Recycled memory: every tensor's storage comes from a pool and goes back to it when dropped.
//!
//! A fresh large allocation is paid for twice: by the system call, and by a page fault for every 4 KiB touched. A
//! training step uses the same sizes over and over, so after the first step nothing large is ever asked of the
//! operating system again. Buffers are cut off long regions on huge pages (`space`).
//!
//! A buffer remembers its *home pool* and returns there whichever thread drops it. Each worker has a pool of its own, so
//! what a worker needs at its peak does not depend on what others do at the time.

use std::fmt;
use std::marker::PhantomData;
use std::ops::{Deref, DerefMut};
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, OnceLock};

use bytemuck::Pod;

use space::{MemoryBlock, Space};

use crate::lock::lock;

mod space;

/// Buffers begin at a multiple of this many bytes: a cache line, and one 512-bit register.
pub const ALIGNMENT: usize = 64;

/// A source of buffers that are recycled instead of freed. See the module's documentation.
#[derive(Debug, Default)]
pub struct BufferPool {
    /// Cutting and joining does not panic half-way, so it is whole even if a thread panicked while it held it.
    space: Mutex<Space>,
    poison: bool,
}

impl BufferPool {
    /// An empty pool.
    pub fn new() -> Arc<Self> {
        Arc::new(Self::default())
    }

    /// An empty pool that sets every bit of each buffer it hands out, which makes numbers NaN, so that a test sees any element
    /// that an op forgot to write.
    pub fn poisoning() -> Arc<Self> {
        Arc::new(Self { poison: true, ..Self::default() })
    }

    /// The pool of the whole process, for tensors made outside of a training step.
    pub fn global() -> &'static Arc<Self> {
        static GLOBAL: OnceLock<Arc<BufferPool>> = OnceLock::new();
        GLOBAL.get_or_init(Self::new)
    }

    /// A buffer of `len` elements **whose contents are unspecified**: zeros, or what an earlier owner left.
    pub fn take<T: Pod>(self: &Arc<Self>, len: usize) -> Buffer<T> {
        let bytes = len.checked_mul(size_of::<T>()).expect("a buffer fits into the address space");
        let block = lock(&self.space).take(bytes);
        let mut buffer = Buffer { block, len, home: Arc::clone(self), elements: PhantomData };
        if self.poison {
            bytemuck::cast_slice_mut(&mut buffer).fill(u8::MAX);
        }
        buffer
    }

    /// A buffer of `len` zeros.
    pub fn zeros<T: Pod>(self: &Arc<Self>, len: usize) -> Buffer<T> {
        let mut buffer = self.take(len);
        buffer.fill(T::zeroed());
        buffer
    }

    /// Bytes that the pools of this process have ever taken into use: what does not grow asks nothing new of the system.
    pub fn bytes_made() -> u64 {
        space::MADE.load(Ordering::Relaxed)
    }

    /// Bytes that were in use and lie free in the pool.
    pub fn free_bytes(&self) -> usize {
        lock(&self.space).free_bytes()
    }
}

/// A slice of elements that begins on a cache line and goes back to its [`BufferPool`] when dropped.
pub struct Buffer<T: Pod> {
    block: MemoryBlock,
    len: usize,
    home: Arc<BufferPool>,
    elements: PhantomData<T>,
}

impl<T: Pod> Buffer<T> {
    /// The pool that the buffer goes back to.
    pub fn home(&self) -> &Arc<BufferPool> {
        &self.home
    }
}

impl<T: Pod> Deref for Buffer<T> {
    type Target = [T];

    #[inline]
    fn deref(&self) -> &[T] {
        self.block.as_slice(self.len)
    }
}

impl<T: Pod> DerefMut for Buffer<T> {
    #[inline]
    fn deref_mut(&mut self) -> &mut [T] {
        self.block.as_mut_slice(self.len)
    }
}

impl<T: Pod> Clone for Buffer<T> {
    fn clone(&self) -> Self {
        let mut copy = self.home.take(self.len);
        copy.copy_from_slice(self);
        copy
    }
}

impl<T: Pod> Drop for Buffer<T> {
    fn drop(&mut self) {
        let block = std::mem::replace(&mut self.block, MemoryBlock::empty());
        lock(&self.home.space).give(block);
    }
}

impl<T: Pod + fmt::Debug> fmt::Debug for Buffer<T> {
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
    fn a_buffer_may_lie_where_smaller_ones_of_other_types_lay() {
        let pool = BufferPool::new();
        let (bytes, numbers, kept) = (pool.take::<u8>(1000), pool.take::<f32>(1000), pool.take::<f64>(10));
        let address = bytes.as_ptr();
        drop((bytes, numbers));
        let free = pool.free_bytes();
        assert_eq!(free, 1024 + 4032);
        assert_eq!(pool.take::<f64>(600).as_ptr().addr(), address.addr());
        assert_eq!(pool.free_bytes(), free);
        drop(kept);
    }

    #[test]
    #[should_panic(expected = "address space")]
    fn what_no_address_space_can_hold_is_refused() {
        let _ = BufferPool::new().take::<f64>(usize::MAX / 4);
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
