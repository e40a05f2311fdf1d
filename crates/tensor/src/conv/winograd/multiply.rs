//! The multiplication: in each of the `n * n` planes an independent matrix product, a panel of columns at a time.

#![allow(unsafe_code)]

use super::ahead::{Ahead, Queue};
use super::lanes::{Job, Lanes, Vector};
use super::layout::panel_vectors;

/// How the left matrix lies in memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Left {
    /// `rows` rows of `depth` neighbouring values, `stride` apart.
    Rows {
        /// Distance between rows.
        stride: usize,
    },
    /// Transposed: `depth` rows of `rows` neighbouring values, `stride` apart.
    Columns {
        /// Distance between the values summed over.
        stride: usize,
    },
}

/// `product = left * right` (or `+=`) in every plane. `right` and `product` are panels of `width` columns, stored
/// row after row, of `depth` and `rows` rows.
pub(super) struct MultiplyPlanes<'a> {
    pub(super) planes: usize,
    pub(super) rows: usize,
    pub(super) depth: usize,
    pub(super) width: usize,
    pub(super) left: &'a [f32],
    pub(super) left_layout: Left,
    /// Distance between planes of `left`.
    pub(super) left_stride: usize,
    pub(super) right: &'a [f32],
    pub(super) right_stride: usize,
    pub(super) product: &'a mut [f32],
    pub(super) product_stride: usize,
    /// Adds to `product` instead of overwriting it.
    pub(super) add: bool,
    /// What is multiplied next, after these planes: fetched during the last one.
    pub(super) then: &'a [f32],
    /// Other pixels that are needed soon, fetched meanwhile.
    pub(super) ahead: [Option<Ahead<'a>>; 2],
}

impl Job for MultiplyPlanes<'_> {
    #[inline(always)]
    fn run<S: Lanes>(self, lanes: S) {
        match (panel_vectors::<S>(self.width), self.left_layout) {
            (4, Left::Rows { stride }) => self.multiply::<S, 4, 6, false>(lanes, stride),
            (3, Left::Rows { stride }) => self.multiply::<S, 3, 8, false>(lanes, stride),
            (2, Left::Rows { stride }) => self.narrow::<S, false>(lanes, stride),
            (4, Left::Columns { stride }) => self.multiply::<S, 4, 6, true>(lanes, stride),
            (3, Left::Columns { stride }) => self.multiply::<S, 3, 8, true>(lanes, stride),
            (2, Left::Columns { stride }) => self.narrow::<S, true>(lanes, stride),
            (vectors, _) => unreachable!("no micro-kernel is {vectors} registers wide"),
        }
    }
}

impl MultiplyPlanes<'_> {
    /// Panels of two registers, with as many rows as the registers of the vector unit can accumulate.
    #[inline(always)]
    fn narrow<S: Lanes, const TRANSPOSED: bool>(self, lanes: S, stride: usize) {
        match S::LANES {
            16 => self.multiply::<S, 2, 12, TRANSPOSED>(lanes, stride),
            8 => self.multiply::<S, 2, 6, TRANSPOSED>(lanes, stride),
            _ => self.multiply::<S, 2, 4, TRANSPOSED>(lanes, stride),
        }
    }

    #[inline(always)]
    fn multiply<S: Lanes, const VECTORS: usize, const ROWS: usize, const TRANSPOSED: bool>(
        self,
        lanes: S,
        stride: usize,
    ) {
        if S::WIDEST_PANEL < VECTORS {
            return;
        }
        let (rows, depth, width) = (self.rows, self.depth, self.width);
        assert_eq!(width, VECTORS * S::LANES);
        let (row_step, depth_step) = if TRANSPOSED { (1, stride) } else { (stride, 1) };
        let mut queue = Queue::new();
        for plane in 0..self.planes {
            queue.clear();
            for ahead in self.ahead.iter().flatten() {
                ahead.queue(plane, &mut queue);
            }
            let left = &self.left[plane * self.left_stride..];
            let right = &self.right[plane * self.right_stride..][..depth * width];
            let product = &mut self.product[plane * self.product_stride..][..rows * width];
            assert!(rows == 0 || depth == 0 || (rows - 1) * row_step + (depth - 1) * depth_step < left.len());
            let next = if plane + 1 < self.planes {
                right.as_ptr().wrapping_add(self.right_stride)
            } else {
                self.then.as_ptr()
            };
            let mut row = 0;
            macro_rules! rows_of {
                ($count:expr) => {
                    while rows - row >= $count {
                        let left = left[row * row_step..].as_ptr();
                        let product = product[row * width..].as_mut_ptr();
                        // The next plane's panel is on its way to the cache while this one is in use.
                        let (call, calls) = (row / ROWS, rows.div_ceil(ROWS));
                        let share = depth * width / calls;
                        let fetch = Fetch {
                            panel: next.wrapping_add(call * share),
                            lines: share / 16,
                            others: queue.share(call.min(calls - 1), calls),
                        };
                        // SAFETY: the assertions above keep the last value read of `left` and all rows of `right` and
                        // `product` inside their slices: `row + $count <= rows`.
                        let kernel = unsafe {
                            Kernel::<$count, VECTORS, TRANSPOSED>::new(
                                depth,
                                left,
                                stride,
                                right.as_ptr(),
                                product,
                                self.add,
                                fetch,
                            )
                        };
                        lanes.call(kernel);
                        row += $count;
                    }
                };
            }
            rows_of!(ROWS);
            rows_of!(4);
            rows_of!(2);
            rows_of!(1);
        }
    }
}

/// What a micro-kernel fetches while it multiplies, a line or two in each round: many at once would have to wait for each other,
/// and the multiplication for them.
struct Fetch<'a> {
    /// The part of the next plane's panel,
    panel: *const f32,
    /// so many lines of 16 values.
    lines: usize,
    /// Other lines.
    others: &'a [*const f32],
}

/// `ROWS` rows of the product of one panel of `VECTORS` registers, accumulated in registers.
struct Kernel<'a, const ROWS: usize, const VECTORS: usize, const TRANSPOSED: bool> {
    depth: usize,
    left: *const f32,
    stride: usize,
    right: *const f32,
    product: *mut f32,
    add: bool,
    fetch: Fetch<'a>,
}

impl<'a, const ROWS: usize, const VECTORS: usize, const TRANSPOSED: bool>
    Kernel<'a, ROWS, VECTORS, TRANSPOSED>
{
    /// # Safety
    /// For as long as the kernel lives, and for registers of the lanes that it is run with: `left` is valid for reading
    /// `ROWS` rows of `depth` values (`stride` apart, or with `TRANSPOSED` neighbours, the next value `stride` further),
    /// `right` for `depth` rows of `VECTORS` registers, `product` for writing (with `add` also reading) `ROWS` such rows.
    unsafe fn new(
        depth: usize,
        left: *const f32,
        stride: usize,
        right: *const f32,
        product: *mut f32,
        add: bool,
        fetch: Fetch<'a>,
    ) -> Self {
        Self { depth, left, stride, right, product, add, fetch }
    }
}

impl<const ROWS: usize, const VECTORS: usize, const TRANSPOSED: bool> Job
    for Kernel<'_, ROWS, VECTORS, TRANSPOSED>
{
    #[inline(always)]
    fn run<S: Lanes>(self, lanes: S) {
        let Self { depth, mut left, stride, mut right, product, add, fetch } = self;
        let mut sums = [[lanes.splat(0.0); VECTORS]; ROWS];
        for round in 0..depth {
            if round < ROWS * VECTORS {
                // A line that the sums will be stored to.
                lanes.prefetch_near(product.wrapping_add(round * S::LANES));
            }
            if round < fetch.lines {
                lanes.prefetch(fetch.panel.wrapping_add(round * 16));
            }
            if let Some(&line) = fetch.others.get(round) {
                lanes.prefetch(line);
            }
            let mut columns = [lanes.splat(0.0); VECTORS];
            for (v, column) in columns.iter_mut().enumerate() {
                // SAFETY: a row of the panel, as promised to `new`.
                *column = unsafe { lanes.load_from(right.add(v * S::LANES)) };
            }
            for (i, sums) in sums.iter_mut().enumerate() {
                // SAFETY: a value of row `i`, as promised to `new`.
                let value = lanes.splat(unsafe { *left.add(if TRANSPOSED { i } else { i * stride }) });
                for (sum, column) in sums.iter_mut().zip(columns) {
                    *sum = value.mul_add(column, *sum);
                }
            }
            left = left.wrapping_add(if TRANSPOSED { stride } else { 1 });
            right = right.wrapping_add(VECTORS * S::LANES);
        }
        // What did not find a round: where few values are summed up.
        for line in depth..fetch.lines {
            lanes.prefetch(fetch.panel.wrapping_add(line * 16));
        }
        for &line in fetch.others.get(depth..).unwrap_or_default() {
            lanes.prefetch(line);
        }
        for (i, sums) in sums.iter().enumerate() {
            for (v, sum) in sums.iter().enumerate() {
                // SAFETY: register `v` of row `i` of the product, as promised to `new`.
                unsafe {
                    let to = product.add((i * VECTORS + v) * S::LANES);
                    let sum = if add { *sum + lanes.load_from(to) } else { *sum };
                    sum.store_to(to);
                }
            }
        }
    }
}
