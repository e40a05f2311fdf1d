//! The sum of a slice, in an order that vectorizes and that depends on the length alone.

use crate::Element;

/// Parts of the sum, which are summed side by side.
pub(crate) const PARTS: usize = 16;

/// The sum: sixteen running sums side by side, then added up. Rounding errors grow with a sixteenth of the length.
#[inline(always)]
pub(crate) fn sum_slice<T: Element>(values: &[T]) -> T {
    let (chunks, rest) = values.as_chunks::<PARTS>();
    let mut sums = [T::ZERO; PARTS];
    for chunk in chunks {
        for (sum, &value) in sums.iter_mut().zip(chunk) {
            *sum += value;
        }
    }
    let mut total: T = rest.iter().copied().sum();
    for sum in sums {
        total += sum;
    }
    total
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_element_counts_once() {
        for len in [0usize, 1, 15, 16, 17, 100] {
            let values: Vec<f64> = (1..=len).map(|i| i as f64).collect();
            assert_eq!(sum_slice(&values), (len * (len + 1) / 2) as f64);
        }
    }
}
