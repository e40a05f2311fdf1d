//! The forward pass and the input gradient: correlations with transformed weights.

use std::sync::Arc;

use rayon::prelude::*;

use super::factored::InputSide;
use super::images::Images;
use super::layout::{CHANNEL_ALIGNMENT, Planes};
use super::multiply::{MultiplyPanel, Prefetch};
use super::tiles::{Extent, Grid};
use super::transforms::{Sink, Source, TileKernel, dispatch_tile};
use super::weights::PreparedWeights;
use super::{ConvGeometry, Masked, Pass};
use crate::buffer_pool::BufferPool;
use crate::simd::Simd;

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
    let (shape, extent) = ([g.c_in, g.h, g.w], Extent::inputs(weights.tile()));
    let images = Images { count: g.n, data: x, mask: None, shape, extent, padding: g.padding };
    let shape = [g.c_out, g.out_h(), g.out_w()];
    Correlation { pool, weights, images, shape, epilogue, first_panel: 0 }.run(parallel, y);
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
    // Each input pixel lies under r x r outputs: the correlation of the output gradient with the flipped kernel.
    let padding = g.padding.map(|p| weights.tile().kernel() - 1 - p);
    let (shape, extent) = ([g.c_out, g.out_h(), g.out_w()], Extent::inputs(weights.tile()));
    let images = Images { count: g.n, data: dy, mask, shape, extent, padding };
    let (shape, epilogue) = ([g.c_in, g.h, g.w], (None, false));
    Correlation { pool, weights, images, shape, epilogue, first_panel: 0 }.run(parallel, dx);
}

/// A correlation of images with the weights' panels from `first_panel` on.
#[derive(Clone, Copy)]
struct Correlation<'a> {
    pool: &'a Arc<BufferPool>,
    weights: &'a PreparedWeights,
    images: Images<'a>,
    /// `[C, H, W]` of the output.
    shape: [usize; 3],
    /// One bias per output channel, and whether ReLU follows.
    epilogue: (Option<&'a [f32]>, bool),
    first_panel: usize,
}

impl Correlation<'_> {
    /// Computes all images, on several threads if `parallel` and there are several.
    ///
    /// Each output value is the same sum whichever thread makes it, so that the cut decides nothing but the time.
    fn run(self, parallel: bool, out: &mut [f32]) {
        let threads = if parallel { rayon::current_num_threads() } else { 1 };
        let ([channels, height, width], count) = (self.shape, self.images.count);
        let volume = channels * height * width;
        if threads == 1 {
            self.serial(out);
        } else if count >= threads {
            let share = count.div_ceil(threads);
            out.par_chunks_mut(share * volume).enumerate().for_each(|(chunk, out)| {
                let own = chunk * share..count.min((chunk + 1) * share);
                Correlation { images: self.images.range(own), ..self }.serial(out);
            });
        } else {
            // Few images: each thread takes some panels of channels, and with them its part of the weights, which are more to
            // read than the inputs that every thread transforms for itself.
            let panel = self.weights.planes.width;
            let panels = channels.div_ceil(panel).div_ceil(threads);
            let share = panels * panel;
            for (image, out) in out.chunks_exact_mut(volume).enumerate() {
                let images = self.images.range(image..image + 1);
                out.par_chunks_mut(share * height * width).enumerate().for_each(|(chunk, out)| {
                    let own = chunk * share..channels.min((chunk + 1) * share);
                    let (shape, first_panel) = ([own.len(), height, width], chunk * panels);
                    let epilogue = (self.epilogue.0.map(|bias| &bias[own]), self.epilogue.1);
                    Correlation { images, shape, epilogue, first_panel, ..self }.serial(out);
                });
            }
        }
    }

    /// Computes all images on this thread.
    fn serial(self, out: &mut [f32]) {
        dispatch_tile(self.weights.isa(), self.weights.tile(), (self, out));
    }
}

impl TileKernel for (Correlation<'_>, &mut [f32]) {
    #[inline(always)]
    fn run<S: Simd, const M: usize, const R: usize, const N: usize>(self, s: S) {
        let (Correlation { pool, weights, images, shape, epilogue, first_panel }, out) = self;
        let (planes, width, channels) = (&weights.planes, weights.planes.width, images.shape[0]);
        let most = ROW_BYTES / (N * (channels + width) * size_of::<f32>());
        let tile_rows = S::REGISTERS.tile_rows[width / S::LANES];
        let grid = Grid::new(weights.tile(), images.count, [shape[1], shape[2]], most, tile_rows);
        let mut inputs = Source::new(pool, grid, images, [channels.next_multiple_of(CHANNEL_ALIGNMENT), 1]);
        let mut products = Planes::new(pool, N, grid.size, [width, 1]);
        let mut outputs = Sink::new(pool, grid, out, shape);
        let mut scratch = pool.take(grid.pixels() * S::LANES);
        let panels = shape[0].div_ceil(width);
        let place = |row: usize, panel: usize| planes.panel(row * N, first_panel + panel);
        // The outputs are fetched during the second half of the rows of planes, so that they are still there when they are written.
        let early = N / 2 * panels;
        for block in grid.blocks() {
            inputs.load_block::<S, InputSide, N, N>(s, block, &mut scratch, None);
            for row in 0..N {
                inputs.row_into_planes::<S, InputSide, N, N>(s, block, row);
                for panel in 0..panels {
                    let (step, steps) = (row * panels + panel, N * panels);
                    let next =
                        if panel + 1 < panels { place(row, panel + 1) } else { place((row + 1) % N, 0) };
                    let fetch_output = (step >= early).then(|| {
                        let (extent, padding) = (Extent::outputs(grid.tile), [0; 2]);
                        let images =
                            Images { data: outputs.out, mask: None, shape, extent, padding, ..images };
                        Prefetch(images, block, [step - early, steps - early])
                    });
                    let fetch_input = block.next().map(|next| Prefetch(images, next, [step, steps]));
                    s.call(MultiplyPanel {
                        planes: N,
                        m: block.len(),
                        k: channels,
                        a: &inputs.planes,
                        a_transposed: false,
                        b: planes,
                        b_places: [place(row, panel), next],
                        c: &mut products,
                        c_place: 0,
                        accumulate: false,
                        prefetch: [fetch_output, fetch_input],
                    });
                    outputs.store_panel::<S, N, M>(s, &products, (block, row, panel * width));
                }
            }
            outputs.store_block::<S, N, M>(s, block, epilogue, &mut scratch);
        }
    }
}
