//! Affine maps of images, and the resampling by one or several that follow each other: bilinear. Places outside of the image are
//! 0, places within half a pixel of an edge as the edge's, as in Pillow.

use std::f64::consts::PI;
use std::ops::Range;

/// From a place (x, y) of the moved image to that of the image before: x\[0\] x + x\[1\] y + x\[2\], and the same of y, in pixels
/// from the upper left corner; the middle of the first pixel is (1/2, 1/2).
#[derive(Debug, Clone, Copy)]
pub(super) struct Map {
    pub(super) x: [f64; 3],
    pub(super) y: [f64; 3],
}

impl Map {
    pub(super) const IDENTITY: Map = Map { x: [1.0, 0.0, 0.0], y: [0.0, 1.0, 0.0] };

    /// The part of an image with this top, left, height and width becomes the whole.
    pub(super) fn window([top, left, height, width]: [f64; 4], [h, w]: [f64; 2]) -> Map {
        Map { x: [width / w, 0.0, left], y: [0.0, height / h, top] }
    }

    /// Enlarges the image about its middle.
    pub(super) fn scaling(factor: f64, [h, w]: [f64; 2]) -> Map {
        let part = |extent: f64| extent / factor;
        Map::window([0.5 * (h - part(h)), 0.5 * (w - part(w)), part(h), part(w)], [h, w])
    }

    /// A turn about the middle, counterclockwise as it is seen.
    pub(super) fn rotation(degrees: f64, [h, w]: [f64; 2]) -> Map {
        let ((sin, cos), my, mx) = ((degrees * PI / 180.0).sin_cos(), 0.5 * h, 0.5 * w);
        Map { x: [cos, -sin, mx - cos * mx + sin * my], y: [sin, cos, my - sin * mx - cos * my] }
    }

    /// This map, then another.
    fn then(self, next: Map) -> Map {
        let Map { x, y } = self;
        let row = |[a, b, c]: [f64; 3]| [a * x[0] + b * y[0], a * x[1] + b * y[1], a * x[2] + b * y[2] + c];
        Map { x: row(next.x), y: row(next.y) }
    }
}

/// A pixel, as a coordinate in fixed point, which has whole pixels exactly wherever a row begins.
const ONE: i64 = 1 << 32;

/// A coordinate along a row of the moved image.
#[derive(Debug, Clone, Copy)]
struct Line {
    start: i64,
    step: i64,
}

impl Line {
    /// Through the middles of the pixels of row `y`.
    fn new([a, b, c]: [f64; 3], y: usize) -> Line {
        let fixed = |value: f64| (value * ONE as f64).round() as i64;
        Line { start: fixed(0.5 * a + b * (y as f64 + 0.5) + c), step: fixed(a) }
    }

    /// The pixels among the first `width` at which it lies in `extent` pixels.
    fn inside(self, extent: usize, width: usize) -> Range<usize> {
        let end = extent as i64 * ONE;
        // Falling, it is a rising line seen from the other end.
        let (start, step) =
            if self.step < 0 { (end - 1 - self.start, -self.step) } else { (self.start, self.step) };
        if step == 0 {
            return if (0..end).contains(&start) { 0..width } else { 0..0 };
        }
        let first = |bound: i64| (-(start - bound).div_euclid(step)).clamp(0, width as i64) as usize;
        first(0)..first(end)
    }

    /// The pixel of `extent` whose middle is at its place or before, and the weight of the next.
    fn pixel(self, x: usize, extent: usize) -> (usize, f32) {
        let place = (self.start + self.step * x as i64 - ONE / 2).clamp(0, (extent as i64 - 1) * ONE);
        ((place / ONE) as usize, ((place % ONE) as f64 / ONE as f64) as f32)
    }

    /// Tells whether it goes from the middle of one pixel to that of the next, in either direction.
    fn is_whole(self) -> bool {
        self.step.abs() == ONE && (self.start - ONE / 2) % ONE == 0
    }
}

/// Four pixels of a plane, and the weights of those to the right and below.
#[derive(Debug, Clone, Copy)]
struct Tap {
    first: usize,
    right: usize,
    below: usize,
    weights: [f32; 2],
}

/// Memory for resampling one image after another.
#[derive(Debug, Default)]
pub(super) struct Resampler {
    moved: Vec<f32>,
    taps: Vec<Tap>,
}

impl Resampler {
    /// Moves the pixels of an image, planes of H x W, by the maps of steps that follow each other, which are no more afterwards.
    pub(super) fn resample(&mut self, maps: &mut Vec<Map>, [h, w]: [usize; 2], image: &mut Vec<f32>) {
        // From the moved image back to the image before each of the steps, the last step first.
        let ways: Vec<Map> = maps
            .drain(..)
            .rev()
            .scan(Map::IDENTITY, |way, map| {
                *way = way.then(map);
                Some(*way)
            })
            .collect();
        let Some(last) = ways.last() else { return };
        let Self { moved, taps } = self;
        moved.clear();
        moved.resize(image.len(), 0.0);
        for y in 0..h {
            let mut inside = 0..w;
            for way in &ways {
                for (row, extent) in [(way.x, w), (way.y, h)] {
                    let own = Line::new(row, y).inside(extent, w);
                    inside = inside.start.max(own.start)..inside.end.min(own.end);
                }
            }
            if inside.is_empty() {
                continue;
            }
            let (across, down) = (Line::new(last.x, y), Line::new(last.y, y));
            let (at, row) = (y * w + inside.start, inside.len());
            let planes = image.chunks_exact(h * w).zip(moved.chunks_exact_mut(h * w));
            let (v, between_rows) = down.pixel(0, h);
            if across.is_whole() && down.step == 0 && between_rows == 0.0 {
                let (first, last) = (across.pixel(inside.start, w).0, across.pixel(inside.end - 1, w).0);
                for (source, target) in planes {
                    let target = &mut target[at..][..row];
                    target.copy_from_slice(&source[v * w + first.min(last)..][..row]);
                    if first > last {
                        target.reverse();
                    }
                }
                continue;
            }
            taps.clear();
            taps.extend(inside.map(|x| {
                let ((u, right), (v, below)) = (across.pixel(x, w), down.pixel(x, h));
                let first = v * w + u;
                Tap {
                    first,
                    right: usize::from(u + 1 < w),
                    below: if v + 1 < h { w } else { 0 },
                    weights: [right, below],
                }
            }));
            for (source, target) in planes {
                for (pixel, &Tap { first, right, below, weights: [x, y] }) in
                    target[at..].iter_mut().zip(&*taps)
                {
                    let row = |from: usize| source[from] * (1.0 - x) + source[from + right] * x;
                    *pixel = row(first) * (1.0 - y) + row(first + below) * y;
                }
            }
        }
        std::mem::swap(image, moved);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::noise;
    use proptest::prelude::*;

    #[test]
    fn a_quarter_turn_is_exact() {
        let (n, image) = (7, noise::<f32>(2 * 49));
        let mut moved = image.clone();
        Resampler::default().resample(&mut vec![Map::rotation(90.0, [7.0, 7.0])], [n, n], &mut moved);
        for (i, &found) in moved.iter().enumerate() {
            let (plane, y, x) = (i / (n * n), i / n % n, i % n);
            assert_eq!(found, image[(plane * n + x) * n + n - 1 - y], "row {y}, column {x}");
        }
    }

    proptest! {
        /// Steps that follow each other are one resampling: each place is followed back through all of them.
        #[test]
        fn a_pixel_comes_from_where_the_steps_say(
            h in 1usize..9, w in 1usize..9, degrees in -180f64..180.0, factor in 0.5f64..2.0, mirrored: bool,
            window in [0.0..0.5, 0.0..0.5, 0.1..0.5, 0.1..0.5], order in Just(vec![0usize, 1, 2, 3]).prop_shuffle(),
        ) {
            let size = [h as f64, w as f64];
            let window = Map::window([0, 1, 2, 3].map(|i| window[i] * size[i % 2]), size);
            let x = if mirrored { [-1.0, 0.0, size[1]] } else { Map::IDENTITY.x };
            let flip = Map { x, ..Map::IDENTITY };
            let all = [Map::rotation(degrees, size), Map::scaling(factor, size), window, flip];
            let maps: Vec<Map> = order.iter().map(|&index| all[index]).collect();
            let image = noise(2 * h * w);
            let mut moved = image.clone();
            Resampler::default().resample(&mut maps.clone(), [h, w], &mut moved);
            for (plane, y, x) in (0..2 * h * w).map(|i| (i / (h * w), i / w % h, i % w)) {
                let (mut u, mut v) = (x as f64 + 0.5, y as f64 + 0.5);
                // The distance from the nearest edge, at which rounding decides.
                let (mut inside, mut edge) = (true, f64::INFINITY);
                for Map { x, y } in maps.iter().rev() {
                    (u, v) = (x[0] * u + x[1] * v + x[2], y[0] * u + y[1] * v + y[2]);
                    inside &= (0.0..size[1]).contains(&u) && (0.0..size[0]).contains(&v);
                    edge = [u, v, size[1] - u, size[0] - v].into_iter().fold(edge, |edge, x| edge.min(x.abs()));
                }
                if edge < 1e-6 {
                    continue;
                }
                let pixel = |v: f64, u: f64| {
                    let at = |place: f64, extent: usize| place.clamp(0.0, (extent - 1) as f64) as usize;
                    f64::from(image[(plane * h + at(v, h)) * w + at(u, w)])
                };
                let (u, v) = (u - 0.5, v - 0.5);
                let (i, j) = (u.floor(), v.floor());
                let row = |j| pixel(j, i) * (1.0 - u + i) + pixel(j, i + 1.0) * (u - i);
                let expected = if inside { row(j) * (1.0 - v + j) + row(j + 1.0) * (v - j) } else { 0.0 };
                let found = f64::from(moved[(plane * h + y) * w + x]);
                prop_assert!((found - expected).abs() < 1e-3, "row {}, column {}: {}, {}", y, x, found, expected);
            }
        }
    }
}
