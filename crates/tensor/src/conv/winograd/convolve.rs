//! The forward pass and the input gradient: correlations with transformed weights.

use std::ops::Range;
use std::sync::Arc;

use rayon::prelude::*;

use super::blocks::{Blocks, PanelPass, Turn};
use super::images::Images;
use super::layout::{PartialTiles, Planes};
use super::multiply::{MultiplyPanel, Prefetch};
use super::tiles::{Block, Extent, Grid};
use super::transforms::{PanelIntoPartial, Source, StoreBlock, dispatch_tile};
use super::weights::PreparedWeights;
use super::{ConvGeometry, Masked, Pass};
use crate::buffer_pool::BufferPool;
use crate::simd::{Registers, dispatch};

/// Bytes of the planes of one row, inputs and products, of a block of tiles, at most: a third of the second-level cache, through
/// which the weights stream meanwhile.
const ROW_BYTES: usize = 640 << 10;

/// Computes the output of a convolution, overwritten: `y` (N x O x OH x OW) from `x` (N x C x H x W), transformed weights and an
/// epilogue: a bias of O elements, and whether ReLU follows. With `parallel` on rayon's threads, with the same bits. Scratch comes
/// from `pool`.
///
/// # Panics
/// If the weights were prepared for another pass or other channels, or a slice does not have the geometry's length.
pub fn forward(
    pool: &Arc<BufferPool>,
    weights: &PreparedWeights,
    g: &ConvGeometry,
    x: &[f32],
    epilogue: (Option<&[f32]>, bool),
    parallel: bool,
    y: &mut [f32],
) {
    weights.check(g, Pass::Forward);
    assert_eq!([x.len(), y.len()], [g.input_len(), g.output_len()]);
    assert!(epilogue.0.is_none_or(|bias| bias.len() == g.c_out));
    let extent = Extent::inputs(weights.tile());
    let images = Images { data: x, mask: None, shape: [g.c_in, g.h, g.w], extent, padding: g.padding };
    let shape = [g.c_out, g.out_h(), g.out_w()];
    Correlation { weights, images, epilogue, shape, first_panel: 0 }.run(pool, g.n, parallel, y);
}

/// Computes the gradient with respect to the input, overwritten: `dx` (N x C x H x W) from `dy` (N x O x OH x OW) and transformed
/// weights. With a mask, the saved output of ReLU, `dy` counts only where the output is positive. With `parallel` on rayon's
/// threads, with the same bits. Scratch comes from `pool`.
///
/// # Panics
/// If the weights were prepared for another pass or other channels, or a slice does not have the geometry's length.
pub fn input_gradient(
    pool: &Arc<BufferPool>,
    weights: &PreparedWeights,
    g: &ConvGeometry,
    (dy, mask): Masked<'_>,
    parallel: bool,
    dx: &mut [f32],
) {
    weights.check(g, Pass::InputGradient);
    assert_eq!([dy.len(), dx.len()], [g.output_len(), g.input_len()]);
    assert!(mask.is_none_or(|mask| mask.len() == dy.len()));
    let extent = Extent::inputs(weights.tile());
    // Each input pixel lies under r x r outputs: the correlation of the output gradient with the flipped kernel.
    let padding = g.padding.map(|p| weights.tile().kernel() - 1 - p);
    let images = Images { data: dy, mask, shape: [g.c_out, g.out_h(), g.out_w()], extent, padding };
    let shape = [g.c_in, g.h, g.w];
    Correlation { weights, images, epilogue: (None, false), shape, first_panel: 0 }
        .run(pool, g.n, parallel, dx);
}

/// A correlation of images with the weights' panels from `first_panel` on.
#[derive(Clone, Copy)]
struct Correlation<'a> {
    weights: &'a PreparedWeights,
    images: Images<'a>,
    /// One per output channel, and whether ReLU follows.
    epilogue: (Option<&'a [f32]>, bool),
    /// `[C, H, W]` of the output.
    shape: [usize; 3],
    first_panel: usize,
}

impl Correlation<'_> {
    /// Computes `count` images, on several threads if `parallel` and there are several.
    ///
    /// Each output value is the same sum whichever thread makes it, so that the cut decides nothing but the time.
    fn run(self, pool: &Arc<BufferPool>, count: usize, parallel: bool, out: &mut [f32]) {
        let threads = if parallel { rayon::current_num_threads() } else { 1 };
        let [channels, height, width] = self.shape;
        let volume = channels * height * width;
        if threads == 1 {
            self.serial(pool, 0..count, out);
        } else if count >= threads {
            let share = count.div_ceil(threads);
            out.par_chunks_mut(share * volume).enumerate().for_each(|(chunk, out)| {
                let start = chunk * share;
                self.serial(pool, start..count.min(start + share), out);
            });
        } else {
            // Few images: each thread takes some panels of channels, and with them its part of the weights, which are more to
            // read than the inputs that every thread transforms for itself.
            let panel = self.weights.planes.width;
            let panels = channels.div_ceil(panel).div_ceil(threads);
            let share = panels * panel;
            for (image, out) in out.chunks_exact_mut(volume).enumerate() {
                out.par_chunks_mut(share * height * width).enumerate().for_each(|(chunk, out)| {
                    let first = chunk * share;
                    let own = (channels - first).min(share);
                    let (bias, relu) = self.epilogue;
                    let epilogue = (bias.map(|bias| &bias[first..first + own]), relu);
                    let shape = [own, height, width];
                    let part = Correlation { epilogue, shape, first_panel: chunk * panels, ..self };
                    part.serial(pool, image..image + 1, out);
                });
            }
        }
    }

    /// Computes the images `range`.
    fn serial(self, pool: &Arc<BufferPool>, range: Range<usize>, out: &mut [f32]) {
        let (tile, isa, width) = (self.weights.tile(), self.weights.isa(), self.weights.planes.width);
        let images = self.images.range(&range);
        let [channels, rows, columns] = self.shape;
        let grid = Grid::new(range.len(), [rows, columns], tile.outputs());
        let Registers { lanes, tile_rows, .. } = Registers::of(isa);
        let values = images.shape[0] + width;
        let blocks = Blocks::new((tile, isa), grid, values, ROW_BYTES, tile_rows[width / lanes]);
        let products = Planes::new(pool, tile.inputs(), blocks.size, [width, 1]);
        let partial = blocks.partial(pool, Extent::outputs(tile), channels);
        let mut outputs = Outputs { correlation: self, products, partial, out };
        blocks.run(pool, images, channels.div_ceil(width), &mut outputs);
    }
}

/// The products with weights on their way to the output.
struct Outputs<'a> {
    correlation: Correlation<'a>,
    /// Of one panel.
    products: Planes,
    partial: PartialTiles,
    out: &'a mut [f32],
}

impl PanelPass for Outputs<'_> {
    fn multiply(&mut self, inputs: &Source<'_>, turn: Turn) {
        let Self { correlation: Correlation { weights, shape, first_panel, .. }, .. } = *self;
        let Turn { block, row, panel, step, steps, .. } = turn;
        let (tile, isa, width) = (weights.tile(), weights.isa(), weights.planes.width);
        let n = tile.inputs();
        // The outputs are fetched during the second half of the rows of planes, so that they are still there when they are written.
        let early = n / 2 * (steps / n);
        let output = (step >= early).then(|| {
            let extent = Extent::outputs(tile);
            let images = Images { data: self.out, mask: None, shape, extent, padding: [0; 2] };
            Prefetch { images, block, step: step - early, steps: steps - early }
        });
        let next = if step + 1 < steps { step + 1 } else { 0 };
        let weights_of = |step: usize| {
            let (row, panel) = (step / (steps / n), step % (steps / n));
            &weights.planes.values[weights.planes.panel(row * n, first_panel + panel)..]
        };
        let product = MultiplyPanel {
            planes: n,
            m: block.len(),
            k: inputs.images.shape[0],
            width,
            a: (&inputs.planes.values, inputs.planes.stride),
            a_strides: [inputs.planes.width, 1],
            b: (weights_of(step), weights.planes.stride),
            c: (&mut self.products.values, self.products.stride),
            accumulate: false,
            next: weights_of(next),
            prefetch: [output, turn.prefetch(&inputs.images)],
        };
        dispatch(isa, product);
        let (products, partial, channels) = (&self.products, &mut self.partial, shape[0]);
        let first = panel * width;
        dispatch_tile(isa, tile, PanelIntoPartial { products, partial, block, row, first, channels });
    }

    fn end_block(&mut self, block: Block, scratch: &mut [f32]) {
        let Self { correlation: Correlation { weights, epilogue, shape, .. }, partial, out, .. } = self;
        let store = StoreBlock { partial, block, epilogue: *epilogue, out, shape: *shape, scratch };
        dispatch_tile(weights.isa(), weights.tile(), store);
    }
}
