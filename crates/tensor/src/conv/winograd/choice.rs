//! The choice of the tile that pays for a geometry: a count of work, no measurement, so that every machine and thread count
//! agrees.

use super::weight_gradient::blocks;
use super::{ConvGeometry, Tile};

/// Transforming one value of a tile costs as much as this many multiply-adds in the multiplication.
const TRANSFORM: u64 = 14;
/// Reading one weight from memory costs as much as this many multiply-adds. It decides where images are few and small: the
/// transformed weights are up to seven times as many as the weights.
const WEIGHT: u64 = 18;
/// A direct multiply-add, with the copying around it, costs this many hundredths of one in the planes' small products.
const DIRECT_PERCENT: u64 = 105;

/// Rows of a tile of the direct product, which output channels fill: fewer take the time of so many.
const DIRECT_ROWS: usize = 8;

/// The tile that computes this convolution with least work, or `None` where direct summation is cheaper or no tile fits.
///
/// The number of images counts: decide once for a step, and keep to it in a smaller last micro-batch, whose weights are the same.
/// Whether a tile pays is asked for the first of these numbers, which tile for the second, which is as large or larger. With
/// `sums` it is about the weights' gradient.
pub(in crate::conv) fn tile_for(g: &ConvGeometry, images: [usize; 2], sums: bool) -> Option<Tile> {
    let [few, many] = images.map(|n| ConvGeometry { n, ..*g });
    let fitting = || Tile::ALL.into_iter().filter(|tile| tile.supports(g));
    let direct = direct_work(&few, sums);
    let pays = fitting().any(|tile| work(tile, &few, sums) < direct);
    fitting().filter(|_| pays).min_by_key(|&tile| work(tile, &many, sums))
}

/// Multiply-adds over whole tiles of one group, those that hang over the edge included, with channels padded to 16, the
/// transforms of inputs and outputs, and one pass over the weights; with `sums`, of the weights' gradient, a pass to read and
/// one to write them for each block of tiles.
///
/// In u64: an ordinary layer has more multiply-adds than a usize of 32 bits can count.
fn work(tile: Tile, g: &ConvGeometry, sums: bool) -> u64 {
    let [inputs, outputs] =
        [g.c_in, g.c_out].map(|channels| (channels / g.groups).next_multiple_of(16) as u64);
    let tiles: usize = g.output().iter().map(|size| size.div_ceil(tile.outputs())).product();
    let square = (tile.inputs() * tile.inputs()) as u64;
    let passes = if sums { 2 * blocks(tile, g) as u64 } else { 1 };
    g.n as u64 * tiles as u64 * square * (inputs * outputs + TRANSFORM * (inputs + outputs))
        + passes * WEIGHT * square * inputs * outputs
}

/// The same for direct summation.
fn direct_work(g: &ConvGeometry, sums: bool) -> u64 {
    let rows = (g.c_out / g.groups).next_multiple_of(DIRECT_ROWS) as u64;
    let products = g.n as u64 * rows * g.out_pixels() as u64 * g.patch() as u64;
    let passes = if sums { 2 } else { 1 };
    products * DIRECT_PERCENT / 100 + passes * WEIGHT * g.weight_len() as u64 / g.groups as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tile(g: &ConvGeometry, sums: bool) -> Option<Tile> {
        tile_for(g, [g.n; 2], sums)
    }

    fn square(c_in: usize, size: usize, c_out: usize, kernel: usize, padding: usize) -> ConvGeometry {
        let (x, weight) = ([8, c_in, size, size], [c_out, c_in, kernel, kernel]);
        ConvGeometry::new(x.into(), weight.into(), [1; 2], [padding; 2], [1; 2], 1).unwrap()
    }

    #[test]
    fn tiles_of_the_network() {
        assert_eq!(tile(&square(96, 35, 256, 5, 2), false), Some(Tile::F5x5K5x5));
        assert_eq!(tile(&square(256, 17, 384, 3, 1), false), Some(Tile::F6x6K3x3));
        assert_eq!(tile(&square(256, 12, 384, 3, 1), false), Some(Tile::F6x6K3x3));
        // 8 x 8 outputs are four tiles of either size, and the smaller tiles waste less.
        assert_eq!(tile(&square(192, 8, 192, 3, 1), false), Some(Tile::F4x4K3x3));
    }

    /// Sums of two images' gradients are few tiles' work: where they fill memory, smaller tiles have fewer of them. A second
    /// block of tiles would read and write them again.
    #[test]
    fn sums_of_a_gradient_have_tiles_of_their_own() {
        let two = |g| ConvGeometry { n: 2, ..g };
        let wide = two(square(256, 17, 384, 3, 1));
        assert_eq!([false, true].map(|sums| tile(&wide, sums)), [Some(Tile::F6x6K3x3), Some(Tile::F4x4K3x3)]);
        assert_eq!(tile(&two(square(96, 26, 256, 5, 2)), true), Some(Tile::F5x5K5x5));
        assert_eq!(tile(&two(square(96, 35, 256, 5, 2)), true), Some(Tile::F5x5K5x5));
    }

    /// With one small image most of the time goes into reading weights.
    #[test]
    fn one_small_image_does_not_pay() {
        let one = |g| ConvGeometry { n: 1, ..g };
        assert_eq!(tile(&one(square(256, 6, 384, 3, 1)), false), None);
        assert_eq!(tile(&one(square(192, 8, 192, 3, 1)), false), None);
        assert_eq!(tile(&one(square(96, 35, 256, 5, 2)), false), Some(Tile::F5x5K5x5));
        assert_eq!(tile(&square(256, 6, 384, 3, 1), false), Some(Tile::F6x6K3x3));
    }

    #[test]
    fn few_channels_do_not_pay() {
        assert_eq!(tile(&square(1, 28, 16, 5, 2), false), None);
        assert_eq!(tile(&square(3, 32, 192, 5, 2), false), None);
        assert_eq!(tile(&square(4, 64, 4, 3, 1), false), None);
    }

    /// A group is a convolution of its own, and has the tile of one of its size; of a channel alone it has none.
    #[test]
    fn groups_count_by_themselves() {
        for g in [
            square(32, 28, 32, 3, 1),
            square(96, 35, 128, 5, 2),
            square(256, 6, 384, 3, 1),
            square(4, 64, 4, 3, 1),
        ] {
            for groups in [2, 4, 7] {
                let grouped = ConvGeometry { c_in: groups * g.c_in, c_out: groups * g.c_out, groups, ..g };
                assert_eq!(tile(&grouped, false), tile(&g, false), "{grouped:?}");
            }
        }
        assert_eq!(tile(&ConvGeometry { groups: 64, ..square(64, 28, 2048, 3, 1) }, false), None);
    }

    #[test]
    fn other_geometries_have_no_tile() {
        let fits = square(96, 35, 256, 5, 2);
        assert_eq!(tile(&ConvGeometry { stride: [2, 1], ..fits }, false), None);
        assert_eq!(tile(&ConvGeometry { dilation: [1, 2], ..fits }, false), None);
        assert_eq!(tile(&ConvGeometry { padding: [5, 2], ..fits }, false), None);
        assert_eq!(tile(&ConvGeometry { kernel: [5, 3], ..fits }, false), None);
        assert_eq!(tile(&ConvGeometry { kernel: [7, 7], padding: [3, 3], ..fits }, false), None);
        assert_eq!(tile(&ConvGeometry { n: 0, ..fits }, false), None);
    }
}
