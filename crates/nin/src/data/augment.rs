//! Random variations of the training images, drawn as a function of (seed, epoch, sample).
//!
//! An [`Augmentation`] is a list of [`Step`]s, which are done in its order. They act on the image at its published size, before
//! any resizing, where an image has few pixels, and before normalization. Each draws from a stream of its own, so that no step
//! changes what another draws. The steps compute in `f32`; 8-bit pixels are rounded once, after the last.
//!
//! Steps that move pixels (flip, shift, crop, rotate, scale) are affine maps. Those that follow each other are one resampling:
//! bilinear, with places outside of any of the steps' images 0 and places within half a pixel of an edge as the edge's, as in
//! Pillow. A step of one's own is a closure:
//!
//! ```
//! use nin::data::{Augmentation, LoaderOptions};
//! use nin::tensor::RandomStream;
//!
//! /// A row of pixels that is lost, as on an old television set.
//! fn scratch(image: &mut [f32], [_, h, w]: [usize; 3], random: &mut RandomStream) {
//!     let row = random.below(h as u64) as usize;
//!     for plane in image.chunks_exact_mut(h * w) {
//!         plane[row * w..][..w].fill(0.0);
//!     }
//! }
//! let augmentation: Augmentation = "flip,shift:4".parse()?;
//! let augmentation = augmentation.with("scratch", scratch);
//! assert_eq!(augmentation.to_string(), "flip,shift:4,own:scratch");
//! let options = LoaderOptions { augmentation, ..LoaderOptions::default() };
//! # Ok::<(), nin::names::ParseError>(())
//! ```

use std::fmt;
use std::ops::Range;
use std::str::FromStr;
use std::sync::Arc;

use tensor::{Purpose, RandomStream};

use super::affine::{Map, Resampler};
use super::dataset::hash;
use super::resize::Pixel;
use crate::names::ParseError;

/// A kind of variation. All numbers are drawn uniformly, if nothing else is said.
#[derive(Debug, Clone, PartialEq)]
pub enum Step {
    /// Mirrors half of the images left to right.
    Flip,
    /// Moves the image by up to this many pixels, 1 to 1024, along each axis (`RandomCrop(size, padding)` in torchvision).
    /// Columns are counted as the list's flip leaves them, wherever it stands.
    Shift(usize),
    /// Takes a part of the image, of this share to all of its area (0.01 to 0.99) and with sides whose ratio is the image's times
    /// 3/4 to 4/3, the logarithm uniform, and enlarges it to the whole (`RandomResizedCrop` in torchvision).
    Crop(f64),
    /// Turns the image about its middle by up to this many degrees, 0.01 to 180, to either side.
    Rotate(f64),
    /// Enlarges the image about its middle by a factor of 1 over this to this, 1.01 to 10.
    Scale(f64),
    /// Multiplies brightness, contrast (the distance from the image's mean gray) and, of three channels, saturation (the distance
    /// from the pixel's gray) by factors of 1 less this to 1 plus this, 0.01 to 1 (`ColorJitter` in torchvision, in this order
    /// and with 8-bit pixels kept in their range only after the last step).
    Color(f64),
    /// Sets a square of this many pixels a side, 1 to 1024, about a random pixel, to the mean that the normalization subtracts: 0
    /// for the network, as in DeVries and Taylor 2017. Without a normalization, to 0. It may lie partly outside.
    Cutout(usize),
    /// Mixes the image with another, drawn from the whole data set and varied by its own draws of the steps before: a share from
    /// Beta(alpha, alpha), alpha 0.001 to 1000, of the one and of its target, and the rest of the other (Zhang et al. 2018).
    /// Targets become dense: probabilities of the classes. As label, for the accuracy, counts that of the larger share.
    Mixup(f64),
    /// A closure, with a name.
    Own(OwnStep),
}

/// A closure that varies an image, C x H x W, in place: 8-bit pixels as numbers from 0 to 255, which steps before may have left
/// between whole numbers or out of this range, or numbers as the data set has them. Its stream is a function of (seed, epoch,
/// sample) and its name.
type Closure = dyn Fn(&mut [f32], [usize; 3], &mut RandomStream) + Send + Sync;

/// A closure among the steps; [`Augmentation::with`] makes it.
#[derive(Clone)]
pub struct OwnStep {
    name: String,
    closure: Arc<Closure>,
}

impl fmt::Debug for OwnStep {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("OwnStep").field(&self.name).finish()
    }
}

impl PartialEq for OwnStep {
    /// The same closure under the same name.
    fn eq(&self, other: &Self) -> bool {
        self.name == other.name && Arc::ptr_eq(&self.closure, &other.closure)
    }
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self, self.numbered()) {
            (_, Some((name, number, ..))) => write!(f, "{name}:{number}"),
            (Self::Own(own), None) => write!(f, "own:{}", own.name),
            (_, None) => f.write_str("flip"),
        }
    }
}

impl Step {
    /// Reads what [`Step`]'s `Display` writes, but for closures.
    fn parse(text: &str) -> Option<Self> {
        let Some((name, number)) = text.split_once(':') else {
            return (text == "flip").then_some(Self::Flip);
        };
        let (pixels, real) = (number.parse().ok(), number.parse().ok());
        match name {
            "shift" => pixels.map(Self::Shift),
            "crop" => real.map(Self::Crop),
            "rotate" => real.map(Self::Rotate),
            "scale" => real.map(Self::Scale),
            "color" => real.map(Self::Color),
            "cutout" => pixels.map(Self::Cutout),
            "mixup" => real.map(Self::Mixup),
            _ => None,
        }
    }

    /// Of a step with a number: its name, the number, the least and the most that may be, and its stream of random numbers.
    fn numbered(&self) -> Option<(&'static str, f64, [f64; 2], u32)> {
        Some(match *self {
            Self::Flip | Self::Own(_) => return None,
            // Flip and shift share a stream, of which flip has the first number.
            Self::Shift(pixels) => ("shift", pixels as f64, [1.0, 1024.0], 0),
            Self::Crop(share) => ("crop", share, [0.01, 0.99], 1),
            Self::Rotate(degrees) => ("rotate", degrees, [0.01, 180.0], 2),
            Self::Scale(factor) => ("scale", factor, [1.01, 10.0], 3),
            Self::Color(strength) => ("color", strength, [0.01, 1.0], 4),
            Self::Cutout(pixels) => ("cutout", pixels as f64, [1.0, 1024.0], 5),
            Self::Mixup(alpha) => ("mixup", alpha, [0.001, 1000.0], 6),
        })
    }

    /// Refuses a number out of bounds; says why.
    fn check(&self) -> Result<(), String> {
        match (self, self.numbered()) {
            (_, Some((_, number, [least, most], _))) if !(least..=most).contains(&number) => {
                Err(format!("{self}: expected a number from {least} to {most}"))
            }
            (Self::Own(OwnStep { name, .. }), _)
                if !name.chars().all(|c| c.is_alphanumeric() || "-_".contains(c)) =>
            {
                Err(format!("own:{name:?}: expected a name of letters, digits, - and _"))
            }
            _ => Ok(()),
        }
    }

    /// The number of its stream of random numbers.
    fn stream(&self) -> u32 {
        match self {
            // The highest bit keeps it apart from the others.
            Self::Own(own) => hash(&own.name) as u32 | 1 << 31,
            _ => self.numbered().map_or(0, |(.., stream)| stream),
        }
    }

    /// The affine map that it draws for images of H x W, if it moves pixels. `mirrors_later` if a flip comes after it.
    fn map(&self, random: &mut RandomStream, [h, w]: [f64; 2], mirrors_later: bool) -> Option<Map> {
        let between = |random: &mut RandomStream, low: f64, high: f64| low + (high - low) * random.uniform();
        Some(match *self {
            Self::Flip if random.below(2) == 1 => Map { x: [-1.0, 0.0, w], ..Map::IDENTITY },
            Self::Flip => Map::IDENTITY,
            Self::Shift(pixels) => {
                let mirrored = random.below(2) == 1;
                let mut shift = || random.below(2 * pixels as u64 + 1) as f64 - pixels as f64;
                let (down, right) = (shift(), shift());
                let right = if mirrored && mirrors_later { -right } else { right };
                Map { x: [1.0, 0.0, -right], y: [0.0, 1.0, -down] }
            }
            Self::Crop(share) => Map::window(window(share, random, [h, w]), [h, w]),
            Self::Rotate(degrees) => Map::rotation(between(random, -degrees, degrees), [h, w]),
            Self::Scale(factor) => Map::scaling(between(random, 1.0 / factor, factor), [h, w]),
            Self::Color(_) | Self::Cutout(_) | Self::Mixup(_) | Self::Own(_) => return None,
        })
    }

    /// Changes pixels where they are. `means` has a number for each channel.
    fn change(&self, random: &mut RandomStream, shape: [usize; 3], means: &[f32], image: &mut [f32]) {
        let [_, h, w] = shape;
        match self {
            Self::Color(strength) => {
                let factors = [(); 3].map(|()| 1.0 - strength + 2.0 * strength * random.uniform());
                color(factors.map(|factor| factor as f32), h * w, image);
            }
            Self::Cutout(side) => {
                let mut span = |extent: usize| {
                    let end = random.below(extent as u64) as usize + side - side / 2;
                    end.saturating_sub(*side)..end.min(extent)
                };
                let (rows, columns) = (span(h), span(w));
                for (plane, &mean) in image.chunks_exact_mut(h * w).zip(means) {
                    for y in rows.clone() {
                        plane[y * w..][columns.clone()].fill(mean);
                    }
                }
            }
            Self::Own(own) => (own.closure)(image, shape, random),
            _ => {}
        }
    }
}

/// The variations of images: steps in their order.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Augmentation {
    /// The steps, no two of a kind; [`DataLoader`](super::DataLoader) refuses others. Closures are of a kind if their names are
    /// the same.
    pub steps: Vec<Step>,
}

impl fmt::Display for Augmentation {
    /// As [`Augmentation::from_str`] reads it, but for closures: `own:` and their name, which it refuses.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, step) in self.steps.iter().enumerate() {
            write!(f, "{}{step}", if index > 0 { "," } else { "" })?;
        }
        if self.is_none() { f.write_str("none") } else { Ok(()) }
    }
}

impl FromStr for Augmentation {
    type Err = ParseError;

    /// Reads `none` or steps with commas between them.
    ///
    /// # Errors
    /// [`ParseError`] of any other text, a number out of the bounds that [`Step`] has, or the same step twice.
    fn from_str(text: &str) -> Result<Self, ParseError> {
        const FORM: &str = "none or a list of flip, shift:PIXELS, crop:SHARE, rotate:DEGREES, scale:FACTOR, color:STRENGTH, \
                            cutout:PIXELS, mixup:ALPHA";
        let mut augmentation = Self::default();
        if text == "none" {
            return Ok(augmentation);
        }
        let refused = || ParseError::form(FORM, text);
        for part in text.split(',') {
            if part.starts_with("own:") {
                return Err(refused().since("a closure is part of a program"));
            }
            augmentation.steps.push(Step::parse(part).ok_or_else(refused)?);
        }
        augmentation.check().map_err(|why| refused().since(&why))?;
        Ok(augmentation)
    }
}

/// A sample, its share of the image that is made, and its own image.
type WeightedImage<'a, P> = (usize, f32, &'a [P]);

/// The inputs that the draws and steps of all samples of an epoch have in common.
pub(super) struct Frame<'a> {
    pub(super) seed: u64,
    pub(super) epoch: u64,
    /// C, H and W.
    pub(super) shape: [usize; 3],
    /// The numbers that the normalization subtracts from each channel, in units of 255 for 8-bit pixels.
    pub(super) means: Option<&'a [f32]>,
}

/// Memory that one thread uses for one image after another.
#[derive(Debug, Default)]
pub(super) struct Scratch {
    image: Vec<f32>,
    partner: Vec<f32>,
    resampler: Resampler,
    means: Vec<f32>,
}

impl Augmentation {
    /// Tells whether it changes nothing.
    pub fn is_none(&self) -> bool {
        self.steps.is_empty()
    }

    /// The same with a last step that is a closure: it gets the image, its C, H and W and a stream of random numbers, a function
    /// of (seed, epoch, sample) and the step's name, and changes the image in place. Pixels of 8 bits are numbers from 0 to 255,
    /// which steps before may have left between whole numbers or out of this range; others are as the data set has them.
    #[must_use]
    pub fn with(
        mut self,
        name: impl Into<String>,
        closure: impl Fn(&mut [f32], [usize; 3], &mut RandomStream) + Send + Sync + 'static,
    ) -> Self {
        self.steps.push(Step::Own(OwnStep { name: name.into(), closure: Arc::new(closure) }));
        self
    }

    /// Refuses numbers out of bounds and two steps of a kind; says why.
    fn check(&self) -> Result<(), String> {
        let same = |a: &Step, b: &Step| match (a, b) {
            (Step::Own(a), Step::Own(b)) => a.name == b.name,
            _ => std::mem::discriminant(a) == std::mem::discriminant(b),
        };
        for (index, step) in self.steps.iter().enumerate() {
            step.check()?;
            if self.steps[..index].iter().any(|other| same(step, other)) {
                return Err(format!("{step} is there twice"));
            }
        }
        Ok(())
    }

    /// Refuses what cannot be done to images of H x W, too; says why.
    pub(super) fn check_for(&self, [_, h, w]: [usize; 3]) -> Result<(), String> {
        self.check()?;
        let large = |pixels: usize| pixels > h.min(w);
        self.steps
            .iter()
            .try_for_each(|step| match *step {
                Step::Shift(pixels) if large(pixels) => Err(format!("a shift by {pixels} pixels")),
                Step::Cutout(pixels) if large(pixels) => Err(format!("a cutout of {pixels} pixels")),
                _ => Ok(()),
            })
            .map_err(|what| format!("{what}: expected at most the shorter side of the images, {h} x {w}"))
    }

    /// The samples that are mixed to an image, and their shares: the sample alone, or with a partner, one of all `samples`.
    pub(super) fn shares(
        &self,
        frame: &Frame<'_>,
        sample: usize,
        samples: usize,
    ) -> impl Iterator<Item = (usize, f32)> {
        let partner = self.steps.iter().find_map(|step| {
            let &Step::Mixup(alpha) = step else { return None };
            let mut random = frame.random(step, sample);
            Some((random.below(samples as u64) as usize, random.beta(alpha, alpha) as f32))
        });
        let own = (sample, partner.map_or(1.0, |(_, share)| 1.0 - share));
        std::iter::once(own).chain(partner)
    }

    /// The place of the mixup in the list.
    pub(super) fn mixup(&self) -> Option<usize> {
        self.steps.iter().position(|step| matches!(step, Step::Mixup(_)))
    }

    /// Varies an image, the first of the parts, and its partner before they are mixed.
    pub(super) fn apply<P: Pixel>(
        &self,
        frame: &Frame<'_>,
        parts: &[WeightedImage<'_, P>],
        scratch: &mut Scratch,
        varied: &mut Vec<P>,
    ) {
        scratch.means.clear();
        match frame.means {
            Some(means) => scratch.means.extend(means.iter().map(|mean| mean * P::UNIT)),
            None => scratch.means.resize(frame.shape[0], 0.0),
        }
        let (before, after) = match self.mixup() {
            Some(mixup) => (0..mixup, mixup + 1..self.steps.len()),
            None => (0..self.steps.len(), 0..0),
        };
        if let [_, (sample, _, image)] = *parts {
            load(image, &mut scratch.image);
            self.vary(before.clone(), frame, sample, scratch);
            std::mem::swap(&mut scratch.image, &mut scratch.partner);
        }
        let (sample, share, image) = parts[0];
        load(image, &mut scratch.image);
        self.vary(before, frame, sample, scratch);
        if let [_, (_, rest, _)] = *parts {
            for (pixel, other) in scratch.image.iter_mut().zip(&scratch.partner) {
                *pixel = share * *pixel + rest * other;
            }
        }
        self.vary(after, frame, sample, scratch);
        varied.clear();
        varied.extend(scratch.image.iter().map(|&value| P::nearest(value)));
    }

    /// Does some of the steps to the image in the scratch memory.
    fn vary(&self, steps: Range<usize>, frame: &Frame<'_>, sample: usize, scratch: &mut Scratch) {
        let [_, h, w] = frame.shape;
        let mut maps = Vec::new();
        for index in steps {
            let step = &self.steps[index];
            let mut random = frame.random(step, sample);
            let mirrors_later = self.steps[index..].contains(&Step::Flip);
            if let Some(map) = step.map(&mut random, [h as f64, w as f64], mirrors_later) {
                maps.push(map);
                continue;
            }
            scratch.resampler.resample(&mut maps, [h, w], &mut scratch.image);
            step.change(&mut random, frame.shape, &scratch.means, &mut scratch.image);
        }
        scratch.resampler.resample(&mut maps, [h, w], &mut scratch.image);
    }
}

impl Frame<'_> {
    /// The random numbers of a step on a sample.
    fn random(&self, step: &Step, sample: usize) -> RandomStream {
        RandomStream::new(self.seed, self.epoch, Purpose::Augmentation(step.stream()), sample as u64)
    }
}

/// Pixels as numbers, in the place of others.
fn load<P: Pixel>(image: &[P], numbers: &mut Vec<f32>) {
    numbers.clear();
    numbers.extend(image.iter().map(|&pixel| pixel.into()));
}

/// Multiplies brightness, contrast and, of three planes, saturation by factors.
fn color([brightness, contrast, saturation]: [f32; 3], plane: usize, image: &mut [f32]) {
    let channels = image.len() / plane;
    // Luma of ITU-R BT.601, as torchvision and Pillow have it; otherwise all channels count the same.
    let weights = if channels == 3 { [0.299, 0.587, 0.114] } else { [1.0 / channels as f32; 3] };
    let each = image.chunks_exact(plane).zip(weights.iter().cycle());
    let gray: f64 = each.map(|(pixels, &weight)| f64::from(weight) * sum(pixels) / plane as f64).sum();
    let (gain, offset) = (contrast * brightness, (1.0 - contrast) * brightness * gray as f32);
    image.iter_mut().for_each(|pixel| *pixel = gain * *pixel + offset);
    let (red, rest) = image.split_at_mut(plane);
    if channels == 3 {
        let (green, blue) = rest.split_at_mut(plane);
        for ((r, g), b) in red.iter_mut().zip(green).zip(blue) {
            let gray = (1.0 - saturation) * (weights[0] * *r + weights[1] * *g + weights[2] * *b);
            for pixel in [r, g, b] {
                *pixel = saturation * *pixel + gray;
            }
        }
    }
}

/// The sum, in eight parts that do not wait for each other.
fn sum(values: &[f32]) -> f64 {
    let mut sums = [0.0; 8];
    for chunk in values.chunks(8) {
        sums.iter_mut().zip(chunk).for_each(|(sum, &value)| *sum += f64::from(value));
    }
    sums.iter().sum()
}

/// Top, left, height and width of a random part of an image, in whole pixels: torchvision's `RandomResizedCrop.get_params`.
fn window(share: f64, random: &mut RandomStream, [h, w]: [f64; 2]) -> [f64; 4] {
    let (least, most): (f64, f64) = (3.0 / 4.0, 4.0 / 3.0);
    for _ in 0..10 {
        let area = h * w * (share + (1.0 - share) * random.uniform());
        let ratio = (least.ln() + (most.ln() - least.ln()) * random.uniform()).exp();
        let (height, width) = ((area / ratio).sqrt().round(), (area * ratio).sqrt().round());
        if (1.0..=h).contains(&height) && (1.0..=w).contains(&width) {
            let mut place = |room: f64| random.below(room as u64 + 1) as f64;
            return [place(h - height), place(w - width), height, width];
        }
    }
    // An image so oblong that no part fitted: the largest in the middle.
    let (height, width) = (h.min((w / least).round()), w.min((h * most).round()));
    [((h - height) / 2.0).floor(), ((w - width) / 2.0).floor(), height, width]
}

#[cfg(test)]
mod tests {
    use std::f64::consts::PI;

    use super::*;
    use crate::testing::noise;
    use proptest::prelude::*;

    const ALL: &str = "shift:2,flip,crop:0.5,rotate:20,scale:1.3,color:0.4,cutout:3,mixup:0.4";

    fn of(text: &str) -> Augmentation {
        text.parse().unwrap()
    }

    /// An image varied as sample 3 of epoch 2.
    fn varied<P: Pixel>(
        augmentation: &Augmentation,
        shape: [usize; 3],
        image: &[P],
        means: &[f32],
    ) -> Vec<P> {
        let frame = Frame { seed: 9, epoch: 2, shape, means: Some(means) };
        let mut target = vec![P::default(); 7];
        augmentation.apply(&frame, &[(3, 1.0, image)], &mut Scratch::default(), &mut target);
        target
    }

    /// Runs of earlier versions draw flip and shift so, and their files have `shift:2,flip`.
    #[test]
    fn flip_and_shift_have_the_bits_that_they_always_had() {
        let (h, w) = (5, 6);
        let image: Vec<u8> = (0..2 * h * w).map(|i| i as u8 + 1).collect();
        for (text, padding, flip) in
            [("flip", 0, true), ("shift:2", 2, false), ("shift:2,flip", 2, true), ("flip,shift:2", 2, true)]
        {
            for sample in 0..60 {
                let mut stream = RandomStream::new(7, 4, Purpose::Augmentation(0), sample);
                let mirrored = stream.below(2) == 1 && flip;
                let mut shift = || stream.below(2 * padding + 1) as usize;
                let (down, right, padding) = (shift(), shift(), padding as usize);
                let mut found = Vec::new();
                let frame = Frame { seed: 7, epoch: 4, shape: [2, h, w], means: None };
                of(text).apply(
                    &frame,
                    &[(sample as usize, 1.0, &image)],
                    &mut Scratch::default(),
                    &mut found,
                );
                for (plane, y, x) in (0..2 * h * w).map(|i| (i / (h * w), i / w % h, i % w)) {
                    let (from_y, from_x) =
                        ((y + padding).wrapping_sub(down), (x + padding).wrapping_sub(right));
                    let inside = from_y < h && from_x < w;
                    let from_x = if mirrored { (w - 1).wrapping_sub(from_x) } else { from_x };
                    let expected = if inside { image[plane * h * w + from_y * w + from_x] } else { 0 };
                    assert_eq!(
                        found[(plane * h + y) * w + x],
                        expected,
                        "{text}, {sample}: row {y}, column {x}"
                    );
                }
            }
        }
    }

    #[test]
    fn names_round_trip_and_others_are_refused() {
        for name in ["none", "flip", "shift:4,flip", "flip,shift:4", "rotate:12.5", ALL] {
            assert_eq!(of(name).to_string(), name);
        }
        assert!(of("none").is_none() && !of("flip").is_none());
        for (name, why) in [
            ("", ""),
            ("crop", ""),
            ("shift:", ""),
            ("shift:-1", ""),
            ("flip:2", ""),
            ("flip,none", ""),
            ("flip, color:0.1", ""),
            ("shift:0", " (shift:0: expected a number from 1 to 1024)"),
            ("cutout:9999", " (cutout:9999: expected a number from 1 to 1024)"),
            ("crop:1", " (crop:1: expected a number from 0.01 to 0.99)"),
            ("rotate:181", " (rotate:181: expected a number from 0.01 to 180)"),
            ("scale:0.5", " (scale:0.5: expected a number from 1.01 to 10)"),
            ("color:NaN", " (color:NaN: expected a number from 0.01 to 1)"),
            ("mixup:0", " (mixup:0: expected a number from 0.001 to 1000)"),
            ("color:0.1,flip,color:0.2", " (color:0.2 is there twice)"),
            ("flip,own:fog", " (a closure is part of a program)"),
        ] {
            let expected = format!(
                "expected none or a list of flip, shift:PIXELS, crop:SHARE, rotate:DEGREES, scale:FACTOR, color:STRENGTH, \
                 cutout:PIXELS, mixup:ALPHA, found {name:?}{why}"
            );
            assert_eq!(name.parse::<Augmentation>().unwrap_err().to_string(), expected);
        }
    }

    /// Nothing but the last steps shows in an image of zeros.
    #[test]
    fn no_step_changes_what_another_draws() {
        let own = |image: &mut [f32], shape: [usize; 3], random: &mut RandomStream| {
            assert_eq!(shape, [1, 9, 8]);
            image[0] = random.below(1 << 20) as f32;
        };
        let seen = |before: &str, name: &str| {
            let augmentation = of(before).with(name, own);
            varied(&augmentation, [1, 9, 8], &[0.0f32; 72], &[5.0])
        };
        let alone = seen("cutout:3", "a");
        assert_eq!(alone, seen("shift:2,flip,crop:0.5,rotate:20,scale:1.3,color:0.4,cutout:3", "a"));
        assert_ne!(alone[0], seen("cutout:3", "b")[0], "closures of other names have other numbers");
        let twice = of("flip").with("a", own).with("a", own);
        assert_eq!(twice.check_for([1, 9, 8]).unwrap_err(), "own:a is there twice");
        let odd = of("none").with("a,b", own).check_for([1, 9, 8]).unwrap_err();
        assert_eq!(odd, "own:\"a,b\": expected a name of letters, digits, - and _");
        assert_eq!(twice, twice.clone());
        assert_ne!(of("none").with("a", own), of("none").with("a", own));
    }

    #[test]
    fn a_closure_gets_the_image_as_the_steps_before_left_it() {
        let image = [10u8, 20, 30, 40, 50, 60];
        let shape = [1, 2, 3];
        let before = varied(&of("shift:1"), shape, &image, &[0.0]);
        assert_ne!(before, image);
        let own = move |pixels: &mut [f32], _: [usize; 3], _: &mut RandomStream| {
            assert!(pixels.iter().zip(&before).all(|(&pixel, &byte)| pixel == f32::from(byte)));
            pixels.copy_from_slice(&[-3.0, 0.4, 0.6, 254.6, 255.4, 300.0]);
        };
        // Numbers are rounded after the last step.
        assert_eq!(varied(&of("shift:1").with("own", own), shape, &image, &[0.0]), [0, 0, 1, 255, 255, 255]);
    }

    #[test]
    fn colors_are_blended_with_gray() {
        let image = noise::<f32>(3 * 20);
        for channels in [3, 1] {
            let image = &image[..channels * 20];
            let mut same = image.to_vec();
            color([1.0; 3], 20, &mut same);
            assert_eq!(same, image);
            let [brightness, contrast, saturation] = [1.25f32, 0.75, 0.5];
            let gray = |image: &[f32], i: usize| match channels {
                3 => 0.299 * image[i] + 0.587 * image[20 + i] + 0.114 * image[40 + i],
                _ => image[i],
            };
            let bright: Vec<f32> = image.iter().map(|pixel| brightness * pixel).collect();
            let mean = (0..20).map(|i| gray(&bright, i)).sum::<f32>() / 20.0;
            let flat: Vec<f32> = bright.iter().map(|pixel| mean + contrast * (pixel - mean)).collect();
            let mut found = image.to_vec();
            color([brightness, contrast, saturation], 20, &mut found);
            for (i, found) in found.into_iter().enumerate() {
                let own = gray(&flat, i % 20);
                assert!(
                    (found - (own + saturation * (flat[i] - own))).abs() < 1e-3,
                    "{channels} channels, {i}"
                );
            }
        }
    }

    /// The least and the largest.
    fn spread(found: impl Iterator<Item = f64>) -> [f64; 2] {
        found.fold([f64::INFINITY, f64::NEG_INFINITY], |[low, high], x| [low.min(x), high.max(x)])
    }

    #[test]
    fn numbers_are_drawn_from_all_of_their_range() {
        let draws = |step: Step| {
            (0..2000).map(move |sample| {
                let mut random = RandomStream::new(1, 0, Purpose::Augmentation(step.stream()), sample);
                step.map(&mut random, [40.0, 40.0], false).unwrap()
            })
        };
        let near = |[low, high]: [f64; 2], [least, most]: [f64; 2], within: f64| {
            assert!(
                (least..least + within).contains(&low) && (most - within..=most).contains(&high),
                "{low}, {high}"
            );
        };
        near(spread(draws(Step::Rotate(30.0)).map(|map| map.y[0].asin() * 180.0 / PI)), [-30.0, 30.0], 0.5);
        near(spread(draws(Step::Scale(2.0)).map(|map| 1.0 / map.x[0])), [0.5, 2.0], 0.02);
        near(spread(draws(Step::Crop(0.2)).map(|map| map.x[0] * map.y[1])), [0.19, 1.0], 0.03);
        near(spread(draws(Step::Crop(0.2)).map(|map| map.x[0] / map.y[1])), [0.7, 1.4], 0.08);
        // The factors of a color: of a gray image, gray.
        let bright = |sample| {
            let mut gray = vec![100.0f32; 3];
            let mut random = RandomStream::new(1, 0, Purpose::Augmentation(4), sample);
            Step::Color(0.4).change(&mut random, [3, 1, 1], &[], &mut gray);
            f64::from(gray[0])
        };
        near(spread((0..2000).map(bright)), [59.99, 140.01], 1.0);
    }

    proptest! {
        #[test]
        fn a_cutout_is_a_square_about_a_pixel(h in 1usize..9, w in 1usize..9, side in 1usize..9, seed: u64) {
            let mut random = RandomStream::new(seed, 0, Purpose::Other(0), 0);
            let mut image = vec![1.0; 2 * h * w];
            Step::Cutout(side).change(&mut random.clone(), [2, h, w], &[-2.0, -3.0], &mut image);
            let (middle_y, middle_x) = (random.below(h as u64), random.below(w as u64));
            let within = |place: usize, middle: u64| {
                let first = middle as i64 - side as i64 / 2;
                (first..first + side as i64).contains(&(place as i64))
            };
            for (plane, y, x) in (0..2 * h * w).map(|i| (i / (h * w), i / w % h, i % w)) {
                let cut = within(y, middle_y) && within(x, middle_x);
                let expected = if cut { [-2.0, -3.0][plane] } else { 1.0 };
                prop_assert_eq!(image[(plane * h + y) * w + x], expected);
            }
        }
    }
}
