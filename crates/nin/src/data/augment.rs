//! Random variations of the training images, drawn as a function of (seed, epoch, sample).
//!
//! They act on the image at its published size, before any resizing, where an image has few pixels.

use std::fmt;
use std::str::FromStr;

use tensor::{Purpose, RandomStream};

use crate::names::ParseError;

/// The variations that are drawn.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Augmentation {
    /// The image is padded by this many pixels of 0 on each side, then cut to its size at a random place: a
    /// shift by up to this many pixels along each axis (`RandomCrop(size, padding)` in torchvision).
    pub padding: usize,
    /// Mirrors half of the images left to right.
    pub flip: bool,
}

impl fmt::Display for Augmentation {
    /// As [`Augmentation::from_str`] reads it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.padding, self.flip) {
            (0, false) => f.write_str("none"),
            (0, true) => f.write_str("flip"),
            (padding, false) => write!(f, "shift:{padding}"),
            (padding, true) => write!(f, "shift:{padding},flip"),
        }
    }
}

impl FromStr for Augmentation {
    type Err = ParseError;

    /// Reads `none`, `flip`, `shift:PIXELS` or both with a comma between them.
    ///
    /// # Errors
    /// [`ParseError`] of any other text, a shift of more than 1024 pixels, or the same twice.
    fn from_str(text: &str) -> Result<Self, ParseError> {
        let refuse = |why: &str| ParseError::form("none, flip, shift:PIXELS or shift:PIXELS,flip", text, why);
        let mut augmentation = Self::default();
        if text == "none" {
            return Ok(augmentation);
        }
        for part in text.split(',') {
            let twice = match part.split_once(':') {
                None if part == "flip" => std::mem::replace(&mut augmentation.flip, true),
                Some(("shift", pixels)) => {
                    let pixels: usize = pixels.parse().map_err(|_| refuse(""))?;
                    if pixels == 0 || pixels > LARGEST_SHIFT {
                        return Err(refuse(&format!(" (a shift is of 1 to {LARGEST_SHIFT} pixels)")));
                    }
                    std::mem::replace(&mut augmentation.padding, pixels) > 0
                }
                _ => return Err(refuse("")),
            };
            if twice {
                return Err(refuse(&format!(" ({part} is there twice)")));
            }
        }
        Ok(augmentation)
    }
}

/// The largest shift that can be asked for by name; the images themselves may allow less.
const LARGEST_SHIFT: usize = 1024;

/// One drawn variation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Variation {
    /// Rows by which the image moves down; up if negative.
    pub down: isize,
    /// Columns by which the image moves to the right; to the left if negative.
    pub right: isize,
    /// True if the image is mirrored left to right, before it is moved.
    pub mirrored: bool,
}

impl Augmentation {
    /// Tells whether it changes nothing.
    pub fn is_none(&self) -> bool {
        *self == Augmentation::default()
    }

    /// The variation of `sample` (its index in the data set) in `epoch` of a run with `seed`.
    pub fn draw(&self, seed: u64, epoch: u64, sample: u64) -> Variation {
        let mut stream = RandomStream::new(seed, epoch, Purpose::Augmentation, sample);
        // The mirror is drawn first and always, so that neither setting changes what the other draws.
        let mirrored = stream.below(2) == 1 && self.flip;
        let mut shift = || stream.below(2 * self.padding as u64 + 1) as isize - self.padding as isize;
        Variation { down: shift(), right: shift(), mirrored }
    }
}

impl Variation {
    /// Writes the varied image to `target`. `source` and `target` hold planes of `height` x `width` pixels.
    ///
    /// # Panics
    /// If the slices differ in length or are not whole planes.
    pub fn apply<P: Copy + Default>(&self, height: usize, width: usize, source: &[P], target: &mut [P]) {
        let plane = height * width;
        assert!(source.len() == target.len() && source.len().is_multiple_of(plane), "whole planes");
        // Mirrored, then moved right, is the same as moved left, then mirrored.
        let right = if self.mirrored { -self.right } else { self.right };
        let reach = right.unsigned_abs().min(width);
        let (from, to) = if right < 0 { (reach, 0) } else { (0, reach) };
        for (source, target) in source.chunks_exact(plane).zip(target.chunks_exact_mut(plane)) {
            for (y, row) in target.chunks_exact_mut(width).enumerate() {
                row.fill(P::default());
                if let Some(y) = y.checked_add_signed(-self.down).filter(|&y| y < height) {
                    let moved = &source[y * width..][..width][from..width - to];
                    row[to..width - from].copy_from_slice(moved);
                }
                if self.mirrored {
                    row.reverse();
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn draws_are_functions_of_seed_epoch_and_sample() {
        let augmentation = Augmentation { padding: 2, flip: true };
        let draws = |seed, epoch| (0..200).map(|i| augmentation.draw(seed, epoch, i)).collect::<Vec<_>>();
        assert_eq!(draws(1, 0), draws(1, 0));
        assert_ne!(draws(1, 0), draws(2, 0));
        assert_ne!(draws(1, 0), draws(1, 1));
        for shift in -2..=2 {
            assert!(draws(1, 0).iter().any(|v| v.down == shift));
            assert!(draws(1, 0).iter().any(|v| v.right == shift));
        }
        assert!(draws(1, 0).iter().all(|v| v.down.abs() <= 2 && v.right.abs() <= 2));
        let mirrored = draws(1, 0).iter().filter(|v| v.mirrored).count();
        assert!((60..140).contains(&mirrored), "{mirrored} of 200 mirrored");
    }

    #[test]
    fn each_setting_leaves_the_other_alone() {
        let both = Augmentation { padding: 3, flip: true };
        for sample in 0..50 {
            let drawn = both.draw(9, 4, sample);
            let shifted = Augmentation { flip: false, ..both }.draw(9, 4, sample);
            assert_eq!(shifted, Variation { mirrored: false, ..drawn });
            assert_eq!(Augmentation::default().draw(9, 4, sample), Variation::default());
        }
        assert!(Augmentation::default().is_none() && !both.is_none());
    }

    #[test]
    fn names_round_trip_and_others_are_refused() {
        for name in ["none", "flip", "shift:2", "shift:4,flip"] {
            assert_eq!(name.parse::<Augmentation>().unwrap().to_string(), name);
        }
        assert_eq!("flip,shift:4".parse::<Augmentation>().unwrap(), Augmentation { padding: 4, flip: true });
        for name in [
            "",
            "crop",
            "shift",
            "shift:",
            "shift:-1",
            "shift:0",
            "shift:9999",
            "flip,flip",
            "flip,none",
            "flip:2",
        ] {
            let error = name.parse::<Augmentation>().unwrap_err().to_string();
            assert!(
                error.starts_with("expected none, flip, shift:PIXELS") && error.contains(name),
                "{error}"
            );
        }
    }

    proptest! {
        #[test]
        fn every_pixel_comes_from_where_the_variation_says(
            h in 1usize..7, w in 1usize..7, down in -8isize..8, right in -8isize..8, mirrored: bool,
        ) {
            let source: Vec<u8> = (0..2 * h * w).map(|i| i as u8 + 1).collect();
            let mut target = vec![0xAA; 2 * h * w];
            Variation { down, right, mirrored }.apply(h, w, &source, &mut target);
            for (plane, y, x) in (0..2 * h * w).map(|i| (i / (h * w), i / w % h, i % w)) {
                let (from_y, from_x) = (y as isize - down, x as isize - right);
                let inside = (0..h as isize).contains(&from_y) && (0..w as isize).contains(&from_x);
                let from_x = if mirrored { w as isize - 1 - from_x } else { from_x };
                let from = |plane: usize| plane * h * w + (from_y * w as isize + from_x) as usize;
                let expected = if inside { source[from(plane)] } else { 0 };
                prop_assert_eq!(target[(plane * h + y) * w + x], expected, "row {}, column {}", y, x);
            }
        }
    }
}
