//! The most that a layer's weights can stretch what comes in.

use tensor::Tensor;

use super::norm;

/// Turns at most; a random matrix needs some thirty.
const TURNS: usize = 100;
/// The relative change in a turn at which the value counts as found.
const WITHIN: f64 = 1e-4;

/// The largest singular value of a weight as a matrix: a row for each output channel, a column for each number of the patch that
/// it is multiplied with. By power iteration from a fixed start: from below, exact where one direction is well ahead of the
/// others, and within 0.5 % of a full decomposition for random weights and weights that training has changed.
pub(super) fn spectral_norm(weight: &Tensor<f32>) -> f64 {
    let rows = weight.shape().first().copied().unwrap_or(1).max(1);
    let columns = weight.len() / rows;
    if columns == 0 {
        return 0.0;
    }
    // Any start does that is not at right angles to the direction that is looked for; this one has no pattern.
    let mut direction: Vec<f64> =
        (1..=columns).map(|column| (column as f64 * 0.618_033_988_749_895).fract() - 0.5).collect();
    let mut found = 0.0;
    for _ in 0..TURNS {
        let length = norm(direction.iter().copied());
        if length == 0.0 {
            return 0.0;
        }
        direction.iter_mut().for_each(|value| *value /= length);
        let mut back = vec![0.0; columns];
        let mut square = 0.0;
        for row in weight.data().chunks_exact(columns) {
            let output: f64 = row.iter().zip(&direction).map(|(&w, d)| f64::from(w) * d).sum();
            square += output * output;
            back.iter_mut().zip(row).for_each(|(sum, &w)| *sum += output * f64::from(w));
        }
        direction = back;
        let before = std::mem::replace(&mut found, square.sqrt());
        if (found - before).abs() <= WITHIN * found {
            break;
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use tensor::init::Init;

    use super::*;

    #[test]
    fn one_direction_among_many_is_found() {
        // An outer product of length 6 has a single singular value, its length.
        let outer: Vec<f32> =
            [2.0, -1.0, 2.0].iter().flat_map(|&u| [0.0, 1.2, 0.0, -1.6].map(|v: f32| u * v)).collect();
        let outer = Tensor::from_slice([3, 1, 2, 2], &outer).unwrap();
        assert!((spectral_norm(&outer) - 6.0).abs() < 1e-6);
        // A diagonal's is its largest entry.
        let diagonal = Tensor::from_slice([2, 3], &[0.5, 0.0, 0.0, 0.0, 0.0, -3.0]).unwrap();
        assert!((spectral_norm(&diagonal) - 3.0).abs() < 1e-3);
        assert_eq!(spectral_norm(&Tensor::from_slice([2, 2], &[0.0; 4]).unwrap()), 0.0);
    }

    /// A random matrix of variance s2 stretches by at most s (sqrt(rows) + sqrt(columns)), but for a few percent.
    #[test]
    fn a_random_matrix_stretches_as_theory_says() {
        let (rows, columns) = (64, 400);
        let deviation = 0.05;
        let weight = Init::Normal(deviation).fill([rows, columns].into(), (columns, rows), 3, 0);
        let limit = deviation * ((rows as f64).sqrt() + (columns as f64).sqrt());
        let found = spectral_norm(&weight);
        assert!((0.93 * limit..1.02 * limit).contains(&found), "{found} of {limit}");
    }
}
