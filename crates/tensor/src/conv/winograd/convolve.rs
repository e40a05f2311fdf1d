//! The forward pass, and the input gradient, which is another: correlations with transformed weights.

use std::sync::Arc;

use super::ConvGeometry;
use super::factored::InputSide;
use super::images::Images;
use super::layout::{CHANNEL_ALIGNMENT, Planes};
use super::multiply::{MultiplyPanel, PixelPrefetch};
use super::tiles::{Extent, Grid, Step};
use super::transforms::{InputTransform, Maps, OutputTransform, TileKernel, dispatch_tile};
use super::weights::DomainWeights;
use crate::buffer_pool::BufferPool;
use crate::gemm::Epilogue;
use crate::simd::Simd;
use crate::threads;

/// Bytes of the planes of one row, inputs and products, of a block of tiles, at most: a third of the second-level cache, through
/// which the weights stream meanwhile.
const ROW_BYTES: usize = 640 << 10;

/// Computes the convolution `g`, overwritten: `y` (N x O x OH x OW) from `x` (N x C x H x W), weights that were transformed for
/// it and an epilogue with O biases. With `parallel` on rayon's threads, with the same bits. Scratch comes from `pool`.
///
/// # Panics
/// If the weights are those of another convolution, or a slice does not have the geometry's length.
pub(in crate::conv) fn convolve(
    pool: &Arc<BufferPool>,
    weights: &DomainWeights,
    g: &ConvGeometry,
    x: &[f32],
    epilogue: Epilogue<'_>,
    parallel: bool,
    y: &mut [f32],
) {
    assert!(weights.fits(weights.tile, g), "the weights are for another convolution than {g:?}");
    assert_eq!([x.len(), y.len()], [g.input_len(), g.output_len()]);
    assert!(epilogue.bias.is_none_or(|bias| bias.len() == g.c_out));
    if y.is_empty() {
        return;
    }
    let (outputs, pixels, tile) = (g.c_out / g.groups, g.out_pixels(), weights.tile);
    for group in 0..g.groups {
        let (sizes, extent) = ((g.c_in, g.input), Extent::inputs(tile));
        let own = group * outputs..(group + 1) * outputs;
        let maps = Maps {
            data: &mut y[own.start * pixels..],
            channels: outputs,
            size: g.output(),
            image_stride: g.c_out * pixels,
        };
        let correlation = Correlation {
            pool,
            weights,
            panels: weights.planes.panel(group * tile.inputs() * tile.inputs(), 0),
            images: Images::of_group(x, g.n, sizes, [group, g.groups], extent, g.padding),
            epilogue: epilogue.of_rows(own),
        };
        correlation.run(parallel, maps);
    }
}

/// A correlation of images with some panels of the weights.
#[derive(Clone, Copy)]
struct Correlation<'a> {
    pool: &'a Arc<BufferPool>,
    weights: &'a DomainWeights,
    /// The place of the first panel in the first plane.
    panels: usize,
    images: Images<'a>,
    epilogue: Epilogue<'a>,
}

impl Correlation<'_> {
    /// Computes all images, on several threads if `parallel`.
    ///
    /// Each output value is the same sum whichever thread makes it, so that the cut decides nothing but the time.
    fn run(self, parallel: bool, maps: Maps<'_>) {
        let (all, count, pixels) = (maps.data, self.images.planes.images, maps.size[0] * maps.size[1]);
        if count >= threads::count(parallel) {
            let share = threads::units_each(parallel, count);
            threads::spread(all.chunks_mut(share * maps.image_stride).enumerate(), |(chunk, data)| {
                let own = chunk * share..count.min((chunk + 1) * share);
                Correlation { images: self.images.range(own), ..self }.serial(Maps { data, ..maps });
            });
        } else {
            // Few images: each thread takes some panels of channels, and with them its part of the weights, which are more to
            // read than the inputs that every thread transforms for itself.
            let planes = &self.weights.planes;
            let panels = threads::units_each(parallel, maps.channels.div_ceil(planes.width));
            let share = panels * planes.width;
            for (image, data) in all.chunks_mut(maps.image_stride).enumerate() {
                let images = self.images.range(image..image + 1);
                let data = &mut data[..maps.channels * pixels];
                threads::spread(data.chunks_mut(share * pixels).enumerate(), |(chunk, data)| {
                    let own = chunk * share..maps.channels.min((chunk + 1) * share);
                    let maps = Maps { data, channels: own.len(), ..maps };
                    let panels = self.panels + planes.panel(0, chunk * panels);
                    let epilogue = self.epilogue.of_rows(own);
                    Correlation { panels, images, epilogue, ..self }.serial(maps);
                });
            }
        }
    }

    /// Computes all images on this thread.
    fn serial(self, maps: Maps<'_>) {
        dispatch_tile(self.weights.isa, self.weights.tile, (self, maps));
    }
}

impl TileKernel for (Correlation<'_>, Maps<'_>) {
    #[inline(always)]
    fn run<S: Simd, const M: usize, const R: usize, const N: usize>(self, s: S) {
        let (Correlation { pool, weights, panels: first, images, epilogue }, maps) = self;
        let (planes, width, channels) = (&weights.planes, weights.planes.width, images.planes.channels);
        let most = ROW_BYTES / (N * (channels + width) * size_of::<f32>());
        let tile_rows = S::REGISTERS.tile_rows[width / S::LANES];
        let grid = Grid::new(weights.tile, images.planes.images, maps.size, most, tile_rows);
        let mut inputs =
            InputTransform::new(pool, grid, images, [channels.next_multiple_of(CHANNEL_ALIGNMENT), 1]);
        let mut products = Planes::new(pool, N, grid.size, [width, 1]);
        let mut scratch = pool.take(grid.pixels() * S::LANES);
        let panels = maps.channels.div_ceil(width);
        let mut outputs = OutputTransform::new(pool, grid, maps);
        let place = |row: usize, panel: usize| first + planes.panel(row * N, panel);
        // The outputs are fetched during the second half of the rows of planes, so that they are still there when they are
        // written.
        let early = N / 2 * panels;
        for step in grid.steps(N, panels) {
            let Step { block, row, panel, share: [number, count] } = step;
            if step.begins_block() {
                inputs.load_block::<S, InputSide, N, N>(s, block, &mut scratch, None);
            }
            if step.begins_row() {
                inputs.row_into_planes::<S, InputSide, N, N>(s, block, row);
            }
            let next = if panel + 1 < panels { place(row, panel + 1) } else { place((row + 1) % N, 0) };
            let fetch_output = (number >= early)
                .then(|| PixelPrefetch(outputs.maps.as_images(grid), block, [number - early, count - early]));
            let fetch_input = block.next().map(|next| PixelPrefetch(images, next, step.share));
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
            if step.ends_block() {
                outputs.store_block::<S, N, M>(s, block, epilogue, &mut scratch);
            }
        }
    }
}
