//! From the second step on, training allocates nothing large: no page is asked of the system, cleared and faulted in again.
//!
//! The allocator of this test counts what is larger than 4 KiB on any thread, and the buffer pools count what they make.
#![allow(unsafe_code, reason = "an allocator is an unsafe trait; this one only counts")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use nin::data::{DataLoader, DataSources, DatasetKind, LoaderOptions, Normalization, Subset, load};
use nin::train::{Recipe, Settings, Trainer};
use tensor::BufferPool;

const LARGE: usize = 4096;

static COUNT: AtomicUsize = AtomicUsize::new(0);
static LARGEST: AtomicUsize = AtomicUsize::new(0);

struct Counting;

fn count(size: usize) {
    if size > LARGE {
        COUNT.fetch_add(1, Ordering::Relaxed);
        LARGEST.fetch_max(size, Ordering::Relaxed);
    }
}

// SAFETY: every call is passed on to the system's allocator unchanged.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(layout.size());
        // SAFETY: the caller's promise.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: the caller's promise.
        unsafe { System.dealloc(pointer, layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        count(layout.size());
        // SAFETY: the caller's promise.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        count(size);
        // SAFETY: the caller's promise.
        unsafe { System.realloc(pointer, layout, size) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// The tests count what the whole process allocates, so they take turns.
static ALONE: Mutex<()> = Mutex::new(());

#[test]
fn the_second_step_allocates_nothing_large() {
    steps(64, 64, 5);
}

/// As the table of docs/performance.md has it.
#[test]
#[ignore = "for release builds: 384 images of 224 pixels"]
fn the_second_step_allocates_nothing_large_at_the_articles_size() {
    steps(224, 128, 3);
}

fn steps(image_size: usize, batch_size: usize, count: usize) {
    let _alone = ALONE.lock().unwrap();
    // What is allocated before, and the buffers of the first step, must be seen, or the test could not fail.
    let splits = load(DatasetKind::FashionMnistMini, &DataSources::new(None)).unwrap();
    let options = LoaderOptions {
        batch_size,
        image_size: Some((image_size, image_size)),
        normalization: Some(Normalization::of(&splits.train).unwrap()),
        ..LoaderOptions::default()
    };
    let loader = DataLoader::new(
        Arc::new(Subset::new(Arc::new(splits.train.clone()), 0..count * batch_size)),
        options,
    )
    .unwrap();
    let config = Settings { image_size, batch_size, ..Settings::of(Recipe::Default) };
    let mut trainer = Trainer::new(config, splits.into(), 2).unwrap();
    let counts = || (COUNT.load(Ordering::Relaxed), BufferPool::bytes_made());
    for (step, batch) in loader.epoch(0).enumerate() {
        let batch = batch.unwrap();
        LARGEST.store(0, Ordering::Relaxed);
        let before = counts();
        trainer.step(&batch).unwrap();
        let (made, largest) = (counts(), LARGEST.load(Ordering::Relaxed));
        if step == 0 {
            assert!(before.0 > 0, "reading the images allocates large blocks");
            assert!(made.1 > before.1, "the first step makes its buffers");
        } else {
            assert_eq!(made, before, "step {step} made a buffer; the largest allocation had {largest} bytes");
        }
    }
}
