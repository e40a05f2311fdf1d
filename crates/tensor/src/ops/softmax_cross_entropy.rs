//! The loss of classification: softmax, logarithm and the label's entry in one op.

use super::softmax::normalize;
use crate::{Context, Element, Shape, ShapeError, Tensor, UnaryOp};

/// The cross-entropy of softmax(logits) against labels; logits are N x K, the output is a scalar.
///
/// Of each sample, with p = softmax of its row: (1 - eps) (-log p of its label) + eps / K times the sum over all classes of
/// -log p, where eps is the label smoothing, as in PyTorch. The output is their sum over the divisor: the mean, by default.
///
/// Computed from logits less their maximum, so that no exponential overflows (d2l book, section 4.5). The gradient is
/// (p - target) / divisor.
#[derive(Debug, Clone, PartialEq)]
pub struct SoftmaxCrossEntropy {
    /// The class of each sample, below K.
    pub labels: Vec<usize>,
    /// The share of the target spread evenly over all classes, from 0 to 1.
    pub label_smoothing: f64,
    /// The divisor of the sum of the samples' losses; N if not given. A micro-batch gives the whole batch's N, so that
    /// micro-batches' losses and gradients add up to the batch's.
    pub divisor: Option<usize>,
}

impl SoftmaxCrossEntropy {
    /// The mean over the samples, without label smoothing.
    pub fn mean(labels: Vec<usize>) -> Self {
        Self { labels, label_smoothing: 0.0, divisor: None }
    }

    fn divisor<T: Element>(&self) -> T {
        T::from_usize(self.divisor.unwrap_or(self.labels.len()))
    }
}

impl UnaryOp for SoftmaxCrossEntropy {
    /// The probabilities, N x K.
    type Saved<T: Element> = Tensor<T>;

    const NAME: &'static str = "softmax_cross_entropy";

    fn shape(&self, input: Shape) -> Result<Shape, ShapeError> {
        let error = |message| Err(ShapeError::new(Self::NAME, message));
        let [n, classes] = input.matrix(Self::NAME)?;
        if n == 0 || self.labels.len() != n {
            return error(format!(
                "expects a label for each of at least one sample, found N = {n} and {} labels",
                self.labels.len()
            ));
        }
        if let Some((sample, label)) = self.labels.iter().enumerate().find(|&(_, &label)| label >= classes) {
            return error(format!("label {label} of sample {sample} is not below K = {classes} classes"));
        }
        if !(0.0..=1.0).contains(&self.label_smoothing) {
            return error(format!("label smoothing must be from 0 to 1, found {}", self.label_smoothing));
        }
        if self.divisor == Some(0) {
            return error("the divisor must be at least 1, found 0".to_owned());
        }
        Ok(Shape::scalar())
    }

    fn compute<T: Element>(&self, context: &Context, logits: Tensor<T>) -> (Tensor<T>, Tensor<T>) {
        let classes = logits.shape()[1];
        let smoothing = T::from_f64(self.label_smoothing);
        let mut probabilities = Tensor::empty_in(context.pool(), logits.shape());
        let mut loss = T::ZERO;
        let rows =
            logits.data().chunks_exact(classes).zip(probabilities.data_mut().chunks_exact_mut(classes));
        for ((x, p), &label) in rows.zip(&self.labels) {
            let (largest, sum) = normalize(x, p, 0..classes);
            let log_sum = sum.ln();
            let mut sample = (T::ONE - smoothing) * (log_sum - (x[label] - largest));
            if smoothing > T::ZERO {
                let all: T = x.iter().map(|&x| log_sum - (x - largest)).sum();
                sample += smoothing / T::from_usize(classes) * all;
            }
            loss += sample;
        }
        let mut output = Tensor::empty_in(context.pool(), Shape::scalar());
        output.data_mut()[0] = loss / self.divisor();
        (output, probabilities)
    }

    fn gradient<T: Element>(&self, _: &Context, mut probabilities: Tensor<T>, dy: Tensor<T>) -> Tensor<T> {
        let classes = probabilities.shape()[1];
        let scale = dy.item() / self.divisor();
        let on_label = T::from_f64(1.0 - self.label_smoothing);
        let everywhere = T::from_f64(self.label_smoothing / classes as f64);
        for (p, &label) in probabilities.data_mut().chunks_exact_mut(classes).zip(&self.labels) {
            p[label] -= on_label;
            p.iter_mut().for_each(|p| *p = (*p - everywhere) * scale);
        }
        probabilities
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::op::Op;
    use crate::testing::{check_gradients, poisoned, random};

    fn loss(op: &SoftmaxCrossEntropy, logits: &Tensor<f64>) -> f64 {
        op.forward(&poisoned(), vec![logits.clone()]).0.item()
    }

    #[test]
    fn by_hand() {
        // Row 0: p = (1/4, 3/4). Row 1: p = (1/2, 1/2).
        let logits = Tensor::from_slice([2, 2], &[0.0, 3f64.ln(), 7.0, 7.0]).unwrap();
        let op = SoftmaxCrossEntropy::mean(vec![0, 1]);
        let (loss, saved) = op.forward(&poisoned(), vec![logits.clone()]);
        assert!((loss.item() - (4f64.ln() + 2f64.ln()) / 2.0).abs() < 1e-12);
        let gradient = op.backward(&poisoned(), saved, Tensor::scalar(1.0), &[true]).remove(0).unwrap();
        for (found, expected) in gradient.data().iter().zip([-0.375, 0.375, 0.25, -0.25]) {
            assert!((found - expected).abs() < 1e-12);
        }
        let smooth = SoftmaxCrossEntropy { label_smoothing: 0.2, ..SoftmaxCrossEntropy::mean(vec![0]) };
        let row = Tensor::from_slice([1, 2], &[0.0, 3f64.ln()]).unwrap();
        let expected = 0.8 * 4f64.ln() + 0.1 * (4f64.ln() + (4.0f64 / 3.0).ln());
        assert!((self::loss(&smooth, &row) - expected).abs() < 1e-12);
    }

    #[test]
    fn large_logits_do_not_overflow() {
        let logits = Tensor::from_slice([1, 3], &[1000.0f32, 0.0, -1000.0]).unwrap();
        let (loss, _) = SoftmaxCrossEntropy::mean(vec![2]).forward(&poisoned(), vec![logits]);
        assert_eq!(loss.item(), 2000.0);
    }

    #[test]
    fn nan_shows_in_the_loss() {
        let logits = Tensor::from_slice([1, 2], &[0.0, f64::NAN]).unwrap();
        assert!(loss(&SoftmaxCrossEntropy::mean(vec![0]), &logits).is_nan());
    }

    #[test]
    fn micro_batches_add_up_to_the_batch() {
        let logits = random([5, 4], 1);
        let labels = vec![0, 3, 1, 2, 3];
        let whole = loss(&SoftmaxCrossEntropy::mean(labels.clone()), &logits);
        let parts: f64 = [(0, 2), (2, 5)]
            .map(|(from, to)| {
                let op = SoftmaxCrossEntropy {
                    divisor: Some(5),
                    ..SoftmaxCrossEntropy::mean(labels[from..to].to_vec())
                };
                loss(&op, &logits.narrow_in(poisoned().pool(), from, to))
            })
            .iter()
            .sum();
        assert!((whole - parts).abs() < 1e-12);
    }

    #[test]
    fn errors_name_sizes() {
        let error = |op: SoftmaxCrossEntropy, input: &[usize]| {
            Op::<f32>::output_shape(&op, &[Shape::new(input)]).unwrap_err().to_string()
        };
        let op = SoftmaxCrossEntropy::mean;
        assert_eq!(
            error(op(vec![0, 1]), &[3, 10]),
            "softmax_cross_entropy: expects a label for each of at least one sample, found N = 3 and 2 labels"
        );
        assert_eq!(
            error(op(vec![0, 10]), &[2, 10]),
            "softmax_cross_entropy: label 10 of sample 1 is not below K = 10 classes"
        );
        assert_eq!(
            error(op(vec![0]), &[1, 10, 1, 1]),
            "softmax_cross_entropy: expects a matrix of two axes, input is 1 x 10 x 1 x 1"
        );
        assert_eq!(
            error(SoftmaxCrossEntropy { label_smoothing: 1.5, ..op(vec![0]) }, &[1, 10]),
            "softmax_cross_entropy: label smoothing must be from 0 to 1, found 1.5"
        );
        assert_eq!(
            error(SoftmaxCrossEntropy { divisor: Some(0), ..op(vec![0]) }, &[1, 10]),
            "softmax_cross_entropy: the divisor must be at least 1, found 0"
        );
    }

    #[test]
    fn gradients() {
        for (label_smoothing, divisor) in [(0.0, None), (0.1, None), (0.3, Some(32)), (1.0, Some(1))] {
            let op = SoftmaxCrossEntropy { labels: vec![2, 0, 4], label_smoothing, divisor };
            check_gradients(&op, &[random([3, 5], 1)]);
        }
    }
}
