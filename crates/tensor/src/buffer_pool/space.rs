//! The memory of a pool: address space that is cut into blocks, and whose blocks are joined again when they come back.
//!
//! The buffers of a training step have many sizes and short lives. Memory kept by size would need half as much again as is ever
//! in use: the maps of one layer could not lie where those of another, a little smaller or larger, lay before. So blocks are cut
//! off one long region, each in the smallest gap that has room for it, and a block that comes back becomes one gap with its
//! neighbors. In the smallest rather than in the lowest: a size that is taken again finds the place that it had, whichever thread
//! came in between, and no small block breaks a long gap while a short one is left. A region is much longer than what is used of
//! it: the system backs only what is written.
//!
//! A processor looks up where a page lies in a small cache. At 4 KiB a page, that of a current core covers 8 MiB, less than
//! one layer's feature maps of a micro-batch, and every plane of a tile in the Winograd domain is on a page of its own. With
//! pages of 2 MiB, which Linux gives to those who ask, the look-ups all hit.
#![allow(unsafe_code)]

use std::collections::BTreeMap;
use std::ops::Range;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU64, Ordering};

use bytemuck::Pod;
use memmap2::{MmapMut, MmapOptions};

use super::ALIGNMENT;

/// Bytes of address space that a region asks for, where asking costs nothing.
const REGION: usize = if cfg!(all(unix, target_pointer_width = "64")) { 1 << 30 } else { 8 << 20 };
/// A huge page. A region's first is left in small ones, so that a pool of a few small buffers takes no more than they need, and
/// so is any of which less than half was handed out: each pool's last, on average.
const HUGE_PAGE: usize = 2 << 20;

/// Bytes of all regions that were ever handed out.
pub(super) static MADE: AtomicU64 = AtomicU64::new(0);

/// Bytes that their owner has to himself, at a multiple of [`ALIGNMENT`]. To be given back to the [`Space`] that they are from.
#[derive(Debug)]
pub(super) struct MemoryBlock {
    start: NonNull<u8>,
    bytes: usize,
}

// SAFETY: a block owns its bytes, as a `Box<[u8]>` does: nobody else reads or writes them, whichever thread has it.
unsafe impl Send for MemoryBlock {}
// SAFETY: through a shared block its bytes can only be read, and those of plain data by any number of threads.
unsafe impl Sync for MemoryBlock {}

impl MemoryBlock {
    /// No bytes, of any space.
    pub(super) fn empty() -> Self {
        Self { start: NonNull::<CacheLine>::dangling().cast(), bytes: 0 }
    }

    /// The first `len` elements.
    #[inline]
    pub(super) fn as_slice<T: Pod>(&self, len: usize) -> &[T] {
        const { assert!(align_of::<T>() <= ALIGNMENT && size_of::<T>() > 0) }
        assert!(len <= self.bytes / size_of::<T>());
        // SAFETY: the bytes are this block's and aligned; they were zeroed when the region was made and have held plain data
        // since, of which any is a `T`.
        unsafe { std::slice::from_raw_parts(self.start.as_ptr().cast(), len) }
    }

    /// The first `len` elements, to be changed.
    #[inline]
    pub(super) fn as_mut_slice<T: Pod>(&mut self, len: usize) -> &mut [T] {
        const { assert!(align_of::<T>() <= ALIGNMENT && size_of::<T>() > 0) }
        assert!(len <= self.bytes / size_of::<T>());
        // SAFETY: the bytes are this block's alone, aligned, and plain data since the region was made of zeros, so that they
        // are `T`s; the block is borrowed mutably for as long as the slice lives.
        unsafe { std::slice::from_raw_parts_mut(self.start.as_ptr().cast(), len) }
    }
}

/// The regions of a pool.
#[derive(Debug, Default)]
pub(super) struct Space {
    regions: Vec<Region>,
}

impl Space {
    /// A block of at least this many bytes, whose contents are unspecified.
    pub(super) fn take(&mut self, bytes: usize) -> MemoryBlock {
        let bytes = bytes.checked_next_multiple_of(ALIGNMENT).expect("a buffer fits into the address space");
        if bytes == 0 {
            return MemoryBlock::empty();
        }
        if let Some(block) = self.regions.iter_mut().find_map(|region| region.take(bytes)) {
            return block;
        }
        let mut region = Region::new(bytes);
        let block = region.take(bytes).expect("a region has room for what it was made for");
        self.regions.push(region);
        block
    }

    /// Takes back a block that is from this space.
    #[allow(clippy::needless_pass_by_value, reason = "nobody is to use the block afterwards")]
    pub(super) fn give(&mut self, block: MemoryBlock) {
        if block.bytes > 0 {
            let home = self.regions.iter_mut().find(|region| region.offset(&block).is_some());
            home.expect("a block comes back to its space").give(&block);
        }
    }

    /// Bytes that were handed out once and are not now.
    pub(super) fn free_bytes(&self) -> usize {
        self.regions.iter().map(Region::free_bytes).sum()
    }
}

/// The unit of memory from the heap.
#[derive(Debug, Clone, Copy)]
#[repr(C, align(64))]
struct CacheLine([u8; ALIGNMENT]);

/// The owner of a region's memory.
#[derive(Debug)]
enum Memory {
    Mapped(MmapMut),
    Heap(Vec<CacheLine>),
}

#[derive(Debug)]
struct Region {
    memory: Memory,
    /// The way to the bytes.
    start: NonNull<u8>,
    len: usize,
    /// The start of each free stretch, and its length. No two touch.
    gaps: BTreeMap<usize, usize>,
    /// The end of what was ever handed out.
    used: usize,
    /// The end of what the system was asked to have on huge pages.
    huge: usize,
}

// SAFETY: the memory belongs to the region, and `start` is only ever used to make blocks.
unsafe impl Send for Region {}

impl Region {
    /// A region of zeros with room for `bytes` at least.
    fn new(bytes: usize) -> Self {
        let (memory, len) = reserve(bytes);
        debug_assert!(len >= bytes);
        Self::over(memory, len)
    }

    /// A region over memory of `len` bytes.
    fn over(mut memory: Memory, len: usize) -> Self {
        let start = match &mut memory {
            Memory::Mapped(map) => map.as_mut_ptr(),
            Memory::Heap(lines) => lines.as_mut_ptr().cast(),
        };
        let start = NonNull::new(start).expect("memory is not at address 0");
        assert!(start.as_ptr().addr().is_multiple_of(ALIGNMENT));
        let huge = first_huge_page(start.addr().get());
        Self { memory, start, len, gaps: BTreeMap::from([(0, len)]), used: 0, huge }
    }

    /// The lowest part of the smallest gap that has room, of equal ones the lowest.
    fn take(&mut self, bytes: usize) -> Option<MemoryBlock> {
        let fits = self.gaps.iter().filter(|&(_, &len)| len >= bytes);
        let (&at, &len) = fits.min_by_key(|&(_, &len)| len)?;
        self.gaps.remove(&at);
        if len > bytes {
            self.gaps.insert(at + bytes, len - bytes);
        }
        MADE.fetch_add((at + bytes).saturating_sub(self.used) as u64, Ordering::Relaxed);
        self.used = self.used.max(at + bytes);
        self.ask_for_huge_pages();
        // SAFETY: gaps lie within the region, which is one allocation, and so do `bytes` bytes from the start of this one.
        let start = unsafe { self.start.add(at) };
        Some(MemoryBlock { start, bytes })
    }

    /// Asks for huge pages as far as they pay, which is before most of them is written: the system makes a page huge when it is
    /// first written, or later.
    fn ask_for_huge_pages(&mut self) {
        let Memory::Mapped(map) = &self.memory else { return };
        let end = huge_pages(self.start.addr().get(), self.used).min(self.len);
        if end > self.huge {
            advise(map, self.huge..end);
            self.huge = end;
        }
    }

    /// The place of a block, if it is of this region.
    fn offset(&self, block: &MemoryBlock) -> Option<usize> {
        let offset = block.start.as_ptr().addr().checked_sub(self.start.as_ptr().addr())?;
        (offset < self.len).then_some(offset)
    }

    /// Makes a gap of a block of this region, which must not be used any more.
    fn give(&mut self, block: &MemoryBlock) {
        let (mut at, mut len) = (self.offset(block).expect("a block of this region"), block.bytes);
        if let Some(after) = self.gaps.remove(&(at + len)) {
            len += after;
        }
        if let Some((&before, &gap)) = self.gaps.range(..at).next_back()
            && before + gap == at
        {
            (at, len) = (before, gap + len);
        }
        self.gaps.insert(at, len);
    }

    fn free_bytes(&self) -> usize {
        let below = |(&at, &len): (&usize, &usize)| (at + len).min(self.used).saturating_sub(at);
        self.gaps.iter().map(below).sum()
    }
}

/// The start of the first page that may be huge, as a distance from the start of its region.
fn first_huge_page(start: usize) -> usize {
    HUGE_PAGE + start.wrapping_neg() % HUGE_PAGE
}

/// The end of the huge pages, as the distance from the start of a region of which so many bytes were used.
fn huge_pages(start: usize, used: usize) -> usize {
    ((start + used + HUGE_PAGE / 2) / HUGE_PAGE * HUGE_PAGE).saturating_sub(start)
}

/// Asks the system to have this part of a map on huge pages. Advice that is not taken costs speed only.
#[cfg(target_os = "linux")]
fn advise(map: &MmapMut, part: Range<usize>) {
    let _ = map.advise_range(memmap2::Advice::HugePage, part.start, part.len());
}

#[cfg(not(target_os = "linux"))]
fn advise(_: &MmapMut, _: Range<usize>) {}

/// Zeroed memory of at least `bytes` bytes, and its length: a region's length of address space, or what of it the system
/// grants; from the heap where it grants no mapping at all.
fn reserve(bytes: usize) -> (Memory, usize) {
    let mut len = bytes.max(REGION);
    loop {
        if let Ok(map) = MmapOptions::new().len(len).no_reserve_swap().map_anon() {
            return (Memory::Mapped(map), len);
        }
        if len == bytes {
            let lines = vec![CacheLine([0; ALIGNMENT]); bytes / ALIGNMENT];
            return (Memory::Heap(lines), bytes);
        }
        len = bytes.max(len / 2);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn neighbors_are_joined_and_cut_anew() {
        let mut space = Space::default();
        let blocks = [100, 200, 300, 64].map(|bytes| space.take(bytes));
        let [first, second, third, last] = blocks;
        let starts = [first.start, second.start, third.start];
        assert_eq!(space.free_bytes(), 0);
        space.give(second);
        space.give(first);
        assert_eq!(space.free_bytes(), 128 + 256);
        space.give(third);
        assert_eq!(space.regions[0].gaps.len(), 2, "one gap before the last block, one behind it");
        let joined = space.take(700);
        assert_eq!(joined.start, starts[0], "what three blocks had is one block's");
        assert_eq!(space.free_bytes(), 0, "to the last byte: 128 + 256 + 320 = 704");
        space.give(joined);
        space.give(last);
        assert_eq!(space.free_bytes(), 768);
    }

    #[test]
    fn a_size_that_is_taken_again_finds_its_place() {
        let mut space = Space::default();
        let [long, _between, short, _behind] = [640, 64, 128, 64].map(|bytes| space.take(bytes));
        let [at_long, at_short] = [long.start, short.start];
        space.give(long);
        space.give(short);
        let (short, long) = (space.take(100), space.take(640));
        assert_eq!([short.start, long.start], [at_short, at_long], "the lower gap has room for either");
    }

    #[test]
    fn a_block_that_comes_back_is_of_its_own_region() {
        let mut space = Space::default();
        let mut small = space.take(1000);
        small.as_mut_slice::<u8>(1000).fill(7);
        let large = space.take(REGION);
        assert_eq!(space.regions.len(), 2);
        space.give(large);
        assert_eq!(space.regions[1].gaps, BTreeMap::from([(0, REGION)]));
        assert!(small.as_slice::<u8>(1000).iter().all(|&x| x == 7));
        assert_eq!(MemoryBlock::empty().as_slice::<f64>(0), [0.0; 0]);
    }

    /// Each page of which at least half was handed out, but for the first, and none beyond the region.
    #[test]
    fn pages_are_huge_where_half_of_them_is_used() {
        const PAGE: usize = HUGE_PAGE;
        for start in [8 * PAGE, 8 * PAGE + PAGE / 4] {
            let off = start % PAGE;
            assert_eq!(huge_pages(start, 0), 0);
            let ends = [PAGE, 3 * PAGE / 2 - off - ALIGNMENT, 3 * PAGE / 2 - off, 3 * PAGE];
            assert_eq!(
                ends.map(|used| huge_pages(start, used)),
                [1, 1, 2, 3].map(|pages| pages * PAGE - off)
            );
        }
        let mut region = Region::new(4 * PAGE);
        region.take(PAGE).unwrap();
        assert_eq!(region.huge, first_huge_page(region.start.addr().get()), "the first page is left small");
        region.take(region.len - PAGE).unwrap();
        assert!(region.huge <= region.len && region.huge + PAGE > region.len);
    }

    #[test]
    fn memory_from_the_heap_does_as_well() {
        let mut region = Region::over(Memory::Heap(vec![CacheLine([0; ALIGNMENT]); 4]), 256);
        let mut block = region.take(256).unwrap();
        assert!(region.take(64).is_none());
        assert_eq!(block.as_slice::<f32>(64), [0.0; 64]);
        block.as_mut_slice::<f32>(64).fill(1.5);
        region.give(&block);
        assert_eq!(region.gaps, BTreeMap::from([(0, 256)]));
    }

    proptest! {
        /// Whatever is taken and given back, blocks do not overlap, and in the end all is one gap.
        #[test]
        fn blocks_keep_what_is_written_to_them(orders in prop::collection::vec((0usize..8, 0usize..5000), 0..100)) {
            let mut space = Space::default();
            let mut held: Vec<(MemoryBlock, usize, u8)> = Vec::new();
            for (number, &(kind, bytes)) in orders.iter().enumerate() {
                if kind < 3 && !held.is_empty() {
                    let (block, bytes, mark) = held.swap_remove(bytes % held.len());
                    prop_assert!(block.as_slice::<u8>(bytes).iter().all(|&x| x == mark));
                    space.give(block);
                } else {
                    let (mut block, mark) = (space.take(bytes), number as u8);
                    prop_assert!(block.start.as_ptr().addr().is_multiple_of(ALIGNMENT));
                    block.as_mut_slice::<u8>(bytes).fill(mark);
                    held.push((block, bytes, mark));
                }
            }
            for (block, bytes, mark) in held {
                prop_assert!(block.as_slice::<u8>(bytes).iter().all(|&x| x == mark));
                space.give(block);
            }
            prop_assert!(space.regions.iter().all(|region| region.gaps.len() == 1));
            prop_assert_eq!(space.free_bytes(), space.regions.iter().map(|region| region.used).sum::<usize>());
        }
    }
}
