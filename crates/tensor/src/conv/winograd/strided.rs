//! Vectors at regular distances: the lines of a column of pixels, the planes of a tile. One check covers all of them.

#![allow(unsafe_code)]

use super::lanes::{Lanes, Vector};

/// The vectors at the start of `from` and every `stride` values after it. Panics if the last one does not fit.
#[inline(always)]
pub(super) fn load_strided<S: Lanes, const COUNT: usize>(
    lanes: S,
    from: &[f32],
    stride: usize,
) -> [S::Vector; COUNT] {
    assert!((COUNT - 1).saturating_mul(stride).saturating_add(S::LANES) <= from.len());
    let mut values = [lanes.splat(0.0); COUNT];
    for (i, value) in values.iter_mut().enumerate() {
        // SAFETY: `i * stride + LANES` is at most what the assertion found inside the slice.
        *value = unsafe { lanes.load_from(from.as_ptr().add(i * stride)) };
    }
    values
}

/// Writes `values` to the start of `to` and every `stride` values after it. Panics if the last one does not fit.
#[inline(always)]
pub(super) fn store_strided<S: Lanes, const COUNT: usize>(
    _lanes: S,
    values: [S::Vector; COUNT],
    to: &mut [f32],
    stride: usize,
) {
    assert!((COUNT - 1).saturating_mul(stride).saturating_add(S::LANES) <= to.len());
    for (i, value) in values.into_iter().enumerate() {
        // SAFETY: `i * stride + LANES` is at most what the assertion found inside the slice.
        unsafe { value.store_to(to.as_mut_ptr().add(i * stride)) };
    }
}

#[cfg(test)]
mod tests {
    use super::super::lanes::{Job, dispatch};
    use super::*;
    use crate::simd::Isa;

    /// Copies three vectors and looks at what was written and what was not.
    struct CopyThree;

    impl Job for CopyThree {
        #[inline(always)]
        fn run<S: Lanes>(self, lanes: S) {
            let stride = S::LANES + 3;
            let from: Vec<f32> = (0..2 * stride + S::LANES).map(|i| i as f32).collect();
            let mut to = vec![-1.0; from.len()];
            store_strided::<S, 3>(lanes, load_strided(lanes, &from, stride), &mut to, stride);
            for (i, value) in to.iter().enumerate() {
                assert_eq!(*value, if i % stride < S::LANES { i as f32 } else { -1.0 });
            }
        }
    }

    #[test]
    fn strided_vectors_are_copied_exactly() {
        for isa in Isa::available() {
            dispatch(isa, CopyThree);
        }
    }

    /// The last vector would end one value past the slice.
    struct OneShort;

    impl Job for OneShort {
        #[inline(always)]
        fn run<S: Lanes>(self, lanes: S) {
            load_strided::<S, 3>(lanes, &vec![0.0; 2 * 20 + S::LANES - 1], 20);
        }
    }

    #[test]
    #[should_panic(expected = "assertion failed")]
    fn a_slice_one_short_is_refused() {
        dispatch(Isa::best(), OneShort);
    }
}
