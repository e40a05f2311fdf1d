//! Resizing of 8-bit images, bit for bit as the book's `transforms.Resize` does it.
//!
//! `torchvision.transforms.Resize` on an 8-bit image is Pillow's bilinear resampling: each output pixel is a
//! weighted mean of the input pixels under a triangle. When the image shrinks, the triangle widens with it
//! (its half-width is the scale), so that no input pixel is skipped. The image is resampled along one
//! axis, rounded to 8 bits, then along the other. The weights are integers with 22 fractional bits, as in Pillow,
//! so that the result does not depend on how a machine adds.
//!
//! Along the rows first, as a rule; along the columns first where the height shrinks by more than twice as many
//! pixels as the width, as Pillow does since its version 13. Earlier ones always begin with the rows, which may
//! round a pixel of such an image to the level beside. Images that stay square are the same in all.
//!
//! The weights of one pair of sizes are computed once, not for each image.

use std::fmt::Debug;
use std::ops::{Add, AddAssign};

use super::dataset::Image;
use super::error::DataError;

/// Fractional bits of the weights. 8 bits of pixel, 22 of fraction and 2 spare make up 32: sums never
/// overflow.
const FRACTION_BITS: u32 = 32 - 8 - 2;

/// One half in the weights' fixed point: added to each sum, so that dropping the fraction rounds to nearest.
const HALF: i32 = 1 << (FRACTION_BITS - 1);

/// The largest image side that a resizer makes. Larger ones are typing errors and would ask for absurd
/// memory.
pub const MAX_SIDE: usize = 1 << 14;

/// For each output position along one axis: which input positions it reads, and how much each weighs.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Taps {
    /// The first input position of each output position.
    first: Vec<usize>,
    /// The places at which the weights of each output position begin in `weights`, and, last, their total number.
    start: Vec<usize>,
    /// The weights in fixed point, those of one output position after those of another.
    weights: Vec<i32>,
}

impl Taps {
    /// The taps of a triangle filter from `input` to `output` positions.
    fn triangle(input: usize, output: usize) -> Taps {
        let scale = input as f64 / output as f64;
        // Half the width of the triangle, in input pixels: never less than one, more when the image shrinks.
        let radius = scale.max(1.0);
        let mut taps = Taps { first: Vec::new(), start: vec![0], weights: Vec::new() };
        for position in 0..output {
            let center = (position as f64 + 0.5) * scale;
            // Truncation toward zero after adding a half, then clamping to the image, is what fixes which
            // pixels take part; weights of pixels beyond the edge go to those within, by the division below.
            let from = ((center - radius + 0.5) as i64).max(0) as usize;
            let to = ((center + radius + 0.5) as i64).clamp(0, input as i64) as usize;
            let weight = |pixel| {
                let distance = (pixel as f64 - center + 0.5) * (1.0 / radius);
                (1.0 - distance.abs()).max(0.0)
            };
            // The sum runs in pixel order, as the result is rounded: another order could round to another
            // integer.
            let total: f64 = (from..to).fold(0.0, |sum, pixel| sum + weight(pixel));
            let share = |pixel| if total == 0.0 { weight(pixel) } else { weight(pixel) / total };
            let fixed = |pixel| (share(pixel) * f64::from(1u32 << FRACTION_BITS) + 0.5) as i32;
            // Leading and trailing weights of zero cost time and change nothing.
            let lead = (from..to).take_while(|&pixel| fixed(pixel) == 0).count();
            let tail = (from + lead..to).rev().take_while(|&pixel| fixed(pixel) == 0).count();
            taps.first.push(from + lead);
            taps.weights.extend((from + lead..to - tail).map(fixed));
            taps.start.push(taps.weights.len());
        }
        taps
    }

    /// The number of output positions.
    fn len(&self) -> usize {
        self.first.len()
    }

    /// The first input position and the weights of one output position.
    fn of(&self, position: usize) -> (usize, &[i32]) {
        (self.first[position], &self.weights[self.start[position]..self.start[position + 1]])
    }
}

/// Resizes planes from one fixed size to another.
#[derive(Debug, Clone)]
pub(super) struct Resizer {
    from: (usize, usize),
    to: (usize, usize),
    /// Along a row (x); `None` if the width stays.
    along_rows: Option<Taps>,
    /// Along a column (y); `None` if the height stays.
    along_columns: Option<Taps>,
}

/// Memory between the two passes, kept by the caller so that resizing allocates nothing once it is warm.
#[derive(Debug, Default, Clone)]
pub(super) struct ResizeScratch<P: Pixel> {
    /// The image after the first pass: one side of the input, the other of the output.
    halfway: Vec<P>,
    /// The sums of one output row.
    sums: Vec<P::Sum>,
}

/// A pixel that can be resized: 8 bits in fixed point, or `f32`.
pub(super) trait Pixel: Copy + Debug + Default + Into<f32> + Send + Sync + 'static {
    /// The pixel that the network sees as 1 without a normalization.
    const UNIT: f32;
    /// A weighted sum of pixels.
    type Sum: Copy + Debug + Default + Add<Output = Self::Sum> + AddAssign + Send + Sync;
    /// The sum of no pixels.
    const START: Self::Sum;
    /// The pixel times a weight in fixed point.
    fn times(self, weight: i32) -> Self::Sum;
    /// The pixel that a sum is.
    fn of_sum(sum: Self::Sum) -> Self;
    /// The pixel nearest to a number.
    fn nearest(number: f32) -> Self;
    /// The pixels of an image, if they are of this kind.
    fn of<'a>(image: &'a Image<'_>) -> Option<&'a [Self]>;
}

impl Pixel for u8 {
    type Sum = i32;
    const UNIT: f32 = 255.0;
    const START: i32 = HALF;

    fn times(self, weight: i32) -> i32 {
        weight * i32::from(self)
    }

    fn of_sum(sum: i32) -> u8 {
        (sum >> FRACTION_BITS).clamp(0, 255) as u8
    }

    fn nearest(number: f32) -> u8 {
        (number + 0.5) as u8
    }

    fn of<'a>(image: &'a Image<'_>) -> Option<&'a [u8]> {
        if let Image::Bytes(pixels) = image { Some(pixels) } else { None }
    }
}

impl Pixel for f32 {
    type Sum = f32;
    const UNIT: f32 = 1.0;
    const START: f32 = 0.0;

    fn times(self, weight: i32) -> f32 {
        self * (weight as f32 * (1.0 / (1 << FRACTION_BITS) as f32))
    }

    fn of_sum(sum: f32) -> f32 {
        sum
    }

    fn nearest(number: f32) -> f32 {
        number
    }

    fn of<'a>(image: &'a Image<'_>) -> Option<&'a [f32]> {
        if let Image::Floats(pixels) = image { Some(pixels) } else { None }
    }
}

impl Resizer {
    /// Prepares to resize planes of `from` to planes of `to`, each (height, width) in pixels. Refuses sides of 0 and those larger
    /// than [`MAX_SIDE`].
    pub(super) fn new(from: (usize, usize), to: (usize, usize)) -> Result<Resizer, DataError> {
        for (h, w) in [from, to] {
            if !(1..=MAX_SIDE).contains(&h) || !(1..=MAX_SIDE).contains(&w) {
                let expected = format!("expected 1 to {MAX_SIDE} pixels a side");
                return Err(DataError::Options(format!("image size {h} x {w} is impossible: {expected}")));
            }
        }
        Ok(Resizer {
            from,
            to,
            along_rows: (from.1 != to.1).then(|| Taps::triangle(from.1, to.1)),
            along_columns: (from.0 != to.0).then(|| Taps::triangle(from.0, to.0)),
        })
    }

    /// Height and width of what it makes.
    pub(super) fn output_size(&self) -> (usize, usize) {
        self.to
    }

    /// Resizes one plane: `source` holds height x width pixels of the input size, `target` of the output
    /// size.
    pub(super) fn resize<P: Pixel>(&self, source: &[P], target: &mut [P], scratch: &mut ResizeScratch<P>) {
        assert_eq!(source.len(), self.from.0 * self.from.1, "input plane of {:?}", self.from);
        assert_eq!(target.len(), self.to.0 * self.to.1, "output plane of {:?}", self.to);
        let ResizeScratch { halfway, sums } = scratch;
        match (&self.along_rows, &self.along_columns) {
            (None, None) => target.copy_from_slice(source),
            (Some(rows), None) => resample_rows(rows, self.from.1, source, target),
            (None, Some(columns)) => resample_columns(columns, self.to.1, source, target, sums),
            (Some(rows), Some(columns)) if self.columns_first() => {
                halfway.resize(self.to.0 * self.from.1, P::default());
                resample_columns(columns, self.from.1, source, halfway, sums);
                resample_rows(rows, self.from.1, halfway, target);
            }
            (Some(rows), Some(columns)) => {
                halfway.resize(self.from.0 * self.to.1, P::default());
                resample_rows(rows, self.from.1, source, halfway);
                resample_columns(columns, self.to.1, halfway, target, sums);
            }
        }
    }

    /// Tells which pass comes first, as the module says.
    fn columns_first(&self) -> bool {
        let shrinks = |from: usize, to: usize| from as isize - to as isize;
        let [height, width] = [shrinks(self.from.0, self.to.0), shrinks(self.from.1, self.to.1)];
        height > 0 && height > 2 * width
    }
}

/// Resamples each row of `source` (rows of `width` pixels) to a row of `target`.
fn resample_rows<P: Pixel>(taps: &Taps, width: usize, source: &[P], target: &mut [P]) {
    for (input, output) in source.chunks_exact(width).zip(target.chunks_exact_mut(taps.len())) {
        for (x, pixel) in output.iter_mut().enumerate() {
            let (first, weights) = taps.of(x);
            let products = weights.iter().zip(&input[first..]).map(|(&weight, &pixel)| pixel.times(weight));
            *pixel = P::of_sum(products.fold(P::START, |sum, product| sum + product));
        }
    }
}

/// Resamples the rows of `source` (of `width` pixels) to as many rows of `target` as there are output
/// positions: each output row is a weighted sum of input rows, so that the inner loops run over neighboring
/// pixels.
fn resample_columns<P: Pixel>(
    taps: &Taps,
    width: usize,
    source: &[P],
    target: &mut [P],
    sums: &mut Vec<P::Sum>,
) {
    sums.resize(width, P::START);
    for (y, output) in target.chunks_exact_mut(width).enumerate() {
        let (first, weights) = taps.of(y);
        let row = |tap: usize| &source[(first + tap) * width..][..width];
        match weights {
            // Enlarging reads two rows in most places: no need to keep the sums.
            [upper, lower] => {
                for ((pixel, &a), &b) in output.iter_mut().zip(row(0)).zip(row(1)) {
                    *pixel = P::of_sum(P::START + a.times(*upper) + b.times(*lower));
                }
            }
            _ => {
                sums.fill(P::START);
                for (tap, &weight) in weights.iter().enumerate() {
                    for (sum, &pixel) in sums.iter_mut().zip(row(tap)) {
                        *sum += pixel.times(weight);
                    }
                }
                for (pixel, &sum) in output.iter_mut().zip(&*sums) {
                    *pixel = P::of_sum(sum);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::record::hex;
    use proptest::prelude::*;
    use sha2::{Digest, Sha256};

    /// A plane of pixels without any pattern that a wrong offset would preserve.
    fn plane(h: usize, w: usize) -> Vec<u8> {
        (0..h * w)
            .map(|i| ((i as u32).wrapping_mul(2_654_435_761).wrapping_add(12_345) >> 24) as u8)
            .collect()
    }

    fn resize(from: (usize, usize), to: (usize, usize), source: &[u8]) -> Vec<u8> {
        let mut target = vec![0xAA; to.0 * to.1];
        Resizer::new(from, to).unwrap().resize(source, &mut target, &mut ResizeScratch::default());
        target
    }

    /// The first 16 bytes of the SHA-256 of Pillow 13.0.0's result, for enlarging, shrinking and both at
    /// once.
    #[test]
    fn large_planes_equal_pillows_bit_for_bit() {
        let expected = [
            ((28, 28), (224, 224), "dfb63074db3cb227f754129a071246de"),
            ((28, 28), (96, 96), "08b28d3692a4ef3e830120c13214a19a"),
            ((28, 28), (32, 32), "a758a1902f9976c72943d692471dffe2"),
            ((28, 28), (27, 27), "27348107d2ff7eb9562af03466c6e9a6"),
            ((28, 28), (14, 14), "5825299e42a4cf5d73ee4a82e2fcee65"),
            ((28, 28), (9, 9), "bf5f4dd9dd671797968d46ce5ab9da47"),
            ((28, 28), (28, 64), "c7ee6e3a5e217d05386b5eac612b2989"),
            ((28, 28), (50, 28), "515c8fc866bee329f0c6240ffe8bcce8"),
            ((53, 37), (100, 5), "3f5d47d5a03df567f3e632685e72f79e"),
            ((1, 1), (4, 3), "15ec7bf0b50732b49f8228e07d243653"),
            ((300, 200), (7, 13), "16933e6ba589f8fd4a4902a998242ec2"),
            ((28, 28), (1, 1), "76be8b528d0075f7aae98d6fa57a6d3c"),
            ((28, 28), (384, 384), "19855ace8b812c76f6ccef77a9a26fad"),
            ((69, 40), (8, 19), "ec59f5e15fa610e7c555e81b939a2ce0"),
            ((67, 60), (29, 50), "72326c70e33e56fb3e1860c2d18cf428"),
            ((500, 333), (96, 131), "76c2d94917709a9cbe9fa44d1b98f7e2"),
            ((333, 500), (224, 224), "1091af582622d40b06733c9128828ad3"),
            ((300, 200), (100, 100), "14fa8cd5601f43cb9ffdb32b982634c3"),
            ((301, 200), (100, 100), "fc0ec722d10e49a44fefe94051f43bd6"),
            ((40, 30), (20, 90), "602c181cfb5cfcd82522c2aa83bdd163"),
            ((40, 30), (90, 10), "d15a81b942a960ccdb7b5dfca7cae6e1"),
        ];
        for (from, to, hash) in expected {
            let target = resize(from, to, &plane(from.0, from.1));
            assert_eq!(hex(&Sha256::digest(&target)[..16]), hash, "{from:?} -> {to:?}");
        }
    }

    /// Real images through torchvision's `Resize`; how they were made is in `tests/golden/README.md`.
    #[test]
    fn bundled_images_equal_torchvisions() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/golden/resize.safetensors");
        let bytes = std::fs::read(path).unwrap();
        let golden = safetensors::SafeTensors::deserialize(&bytes).unwrap();
        let mut planes = 0;
        for (name, input) in golden.tensors().iter().filter(|(name, _)| name.ends_with(".input")) {
            let output = golden.tensor(&name.replace("input", "output")).unwrap();
            let (&[n, h, w], &[m, height, width]) = (input.shape(), output.shape()) else { panic!("{name}") };
            assert_eq!(n, m, "{name}");
            for (image, expected) in input.data().chunks(h * w).zip(output.data().chunks(height * width)) {
                assert!(resize((h, w), (height, width), image) == expected, "{name}");
                planes += 1;
            }
        }
        assert_eq!(planes, 23);
    }

    #[test]
    fn the_same_size_is_a_copy() {
        assert_eq!(resize((7, 9), (7, 9), &plane(7, 9)), plane(7, 9));
    }

    #[test]
    fn scratch_of_another_size_does_not_show() {
        let mut scratch = ResizeScratch::default();
        for (from, to) in [((28, 28), (96, 96)), ((5, 6), (3, 2)), ((28, 28), (40, 10))] {
            let source = plane(from.0, from.1);
            let mut target = vec![0; to.0 * to.1];
            Resizer::new(from, to).unwrap().resize(&source, &mut target, &mut scratch);
            assert_eq!(target, resize(from, to, &source));
        }
    }

    #[test]
    fn impossible_sides_are_refused() {
        for to in [(0, 5), (5, 0), (MAX_SIDE + 1, 5)] {
            let error = Resizer::new((28, 28), to).unwrap_err().to_string();
            assert_eq!(
                error,
                format!("image size {} x {} is impossible: expected 1 to 16384 pixels a side", to.0, to.1)
            );
        }
    }

    proptest! {
        /// A weighted mean of equal pixels is that pixel, and no mean leaves the range of what it is made of.
        #[test]
        fn means_stay_within_their_pixels(
            from in (1usize..40, 1usize..40), to in (1usize..90, 1usize..90), low in 0u8..=255, span in 0u8..=255,
        ) {
            let high = low.saturating_add(span);
            let source: Vec<u8> = plane(from.0, from.1)
                .iter()
                .map(|&p| low + (u32::from(p) * u32::from(high - low) / 255) as u8)
                .collect();
            let target = resize(from, to, &source);
            prop_assert!(target.iter().all(|p| (low..=high).contains(p)));
            prop_assert!(resize(from, to, &vec![low; from.0 * from.1]).iter().all(|&p| p == low));
        }
    }
}
