//! The memory of a buffer: the heap, or for large ones a mapping of its own on huge pages.
//!
//! A processor looks up where a page lies in a small cache. At 4 KiB a page, that of a current core covers 8 MiB, less than
//! one layer's feature maps of a shard, and every plane of a tile in the Winograd domain is on a page of its own. With
//! pages of 2 MiB, which Linux gives to those who ask, the look-ups all hit.

use std::sync::atomic::{AtomicU64, Ordering};

use bytemuck::Pod;
use memmap2::MmapMut;

/// Buffers of at least this many bytes, a huge page, are mapped.
const MAPPED_BYTES: usize = 2 << 20;

/// Bytes that were ever asked for.
pub(super) static MADE: AtomicU64 = AtomicU64::new(0);

/// Zeroed memory for elements of `T`.
#[derive(Debug)]
pub(super) enum Storage<T> {
    Heap(Vec<T>),
    Mapped(MmapMut),
}

impl<T> Default for Storage<T> {
    fn default() -> Self {
        Self::Heap(Vec::new())
    }
}

impl<T: Pod> Storage<T> {
    /// `capacity` zeros. Where a mapping is refused, the heap is asked instead.
    pub(super) fn zeroed(capacity: usize) -> Self {
        let bytes = capacity.saturating_mul(size_of::<T>());
        MADE.fetch_add(bytes as u64, Ordering::Relaxed);
        if bytes >= MAPPED_BYTES
            && let Ok(map) = MmapMut::map_anon(bytes)
        {
            // Advice that is not taken costs speed only.
            #[cfg(target_os = "linux")]
            let _ = map.advise(memmap2::Advice::HugePage);
            return Self::Mapped(map);
        }
        Self::Heap(vec![T::zeroed(); capacity])
    }

    /// The number of elements.
    pub(super) fn capacity(&self) -> usize {
        self.as_slice().len()
    }

    pub(super) fn as_slice(&self) -> &[T] {
        match self {
            Self::Heap(elements) => elements,
            Self::Mapped(map) => bytemuck::cast_slice(map),
        }
    }

    pub(super) fn as_mut_slice(&mut self) -> &mut [T] {
        match self {
            Self::Heap(elements) => elements,
            Self::Mapped(map) => bytemuck::cast_slice_mut(map),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn small_and_large_storage_is_zeroed_and_writable() {
        for capacity in [0, 1, 1000, MAPPED_BYTES / 8, MAPPED_BYTES / 8 + 1] {
            let mut storage = Storage::<f64>::zeroed(capacity);
            assert_eq!(matches!(storage, Storage::Mapped(_)), capacity * 8 >= MAPPED_BYTES);
            assert_eq!(storage.capacity(), capacity);
            assert!(storage.as_slice().iter().all(|&x| x == 0.0));
            storage.as_mut_slice().fill(1.5);
            assert!(storage.as_slice().iter().all(|&x| x == 1.5));
        }
    }
}
