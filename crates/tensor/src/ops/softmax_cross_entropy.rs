//! The loss of classification: cross-entropy of a softmax (d2l book, section 4.1).

use crate::context::Context;
use crate::element::Element;
use crate::op::{Op, expect_inputs, only};
use crate::shape::{Shape, ShapeError};
use crate::tensor::Tensor;

/// Logits N x K to a scalar: the sum over the samples of `-sum_k t_k ln softmax(z)_k`, over `divisor`.
///
/// The target t is 1 at the label and 0 elsewhere; with label smoothing e it is `(1 - e)` of that plus e / K everywhere, as
/// PyTorch's `cross_entropy` has it. The largest logit is subtracted first, so that no exponential overflows.
#[derive(Debug, Clone, PartialEq)]
pub struct SoftmaxCrossEntropy {
    /// The class of each sample, below K.
    pub labels: Vec<usize>,
    /// e, at least 0 and at most 1.
    pub label_smoothing: f64,
    /// What the sum is divided by: N if `None`. A shard of a batch gives the batch's N, so that shards' losses add up to the
    /// batch's mean.
    pub divisor: Option<usize>,
}

impl SoftmaxCrossEntropy {
    /// The mean loss over these labels, without smoothing.
    #[must_use]
    pub fn mean(labels: Vec<usize>) -> Self {
        Self { labels, label_smoothing: 0.0, divisor: None }
    }

    fn share<T: Element>(&self) -> T {
        T::ONE / T::from_usize(self.divisor.unwrap_or(self.labels.len()).max(1))
    }

    /// The target of class `k` for a sample with this label.
    fn target<T: Element>(&self, k: usize, label: usize, classes: usize) -> T {
        let spread = self.label_smoothing / classes as f64;
        T::from_f64(if k == label { 1.0 - self.label_smoothing + spread } else { spread })
    }
}

impl<T: Element> Op<T> for SoftmaxCrossEntropy {
    /// softmax(z), N x K.
    type Saved = Tensor<T>;

    fn name(&self) -> &'static str {
        "softmax_cross_entropy"
    }

    fn output_shape(&self, inputs: &[Shape]) -> Result<Shape, ShapeError> {
        const OP: &str = "softmax_cross_entropy";
        expect_inputs(OP, inputs, 1)?;
        let [n, classes] = inputs[0].matrix(OP)?;
        if self.labels.len() != n {
            return Err(ShapeError::new(
                OP,
                format!("logits have N = {n}, found {} labels", self.labels.len()),
            ));
        }
        if let Some(row) = self.labels.iter().position(|&label| label >= classes) {
            let message = format!("label {} of sample {row} is not below K = {classes}", self.labels[row]);
            return Err(ShapeError::new(OP, message));
        }
        if !(0.0..=1.0).contains(&self.label_smoothing) {
            let message = format!("label smoothing must be 0 to 1, found {}", self.label_smoothing);
            return Err(ShapeError::new(OP, message));
        }
        Ok(Shape::scalar())
    }

    fn forward(&self, context: &Context, inputs: Vec<Tensor<T>>) -> (Tensor<T>, Tensor<T>) {
        let z = only(inputs);
        let classes = z.shape()[1];
        let mut softmax = Tensor::uninit_in(context.pool(), z.shape());
        let mut total = T::ZERO;
        let rows = z.data().chunks_exact(classes).zip(softmax.data_mut().chunks_exact_mut(classes));
        for ((z, p), &label) in rows.zip(&self.labels) {
            let largest = z.iter().copied().fold(T::NEG_INFINITY, |most, z| if z > most { z } else { most });
            let mut sum = T::ZERO;
            for (p, &z) in p.iter_mut().zip(z) {
                *p = (z - largest).exp();
                sum += *p;
            }
            let log_sum = sum.ln();
            for (k, (p, &z)) in p.iter_mut().zip(z).enumerate() {
                *p = *p / sum;
                let target: T = self.target(k, label, classes);
                if target != T::ZERO {
                    total += target * (log_sum - (z - largest));
                }
            }
        }
        let mut loss = Tensor::uninit_in(context.pool(), Shape::scalar());
        loss.data_mut()[0] = total * self.share();
        (loss, softmax)
    }

    fn backward(
        &self,
        _: &Context,
        mut softmax: Tensor<T>,
        grad_output: Tensor<T>,
        wanted: &[bool],
    ) -> Vec<Option<Tensor<T>>> {
        if !wanted[0] {
            return vec![None];
        }
        let classes = softmax.shape()[1];
        let scale = grad_output.item() * self.share();
        for (p, &label) in softmax.data_mut().chunks_exact_mut(classes).zip(&self.labels) {
            for (k, p) in p.iter_mut().enumerate() {
                *p = (*p - self.target(k, label, classes)) * scale;
            }
        }
        vec![Some(softmax)]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_logits_cost_the_logarithm_of_their_number() {
        let loss = SoftmaxCrossEntropy::mean(vec![3, 0]);
        let context = Context::default();
        let (value, saved) = loss.forward(&context, vec![Tensor::<f64>::full([2, 10], 1000.0)]);
        assert!((value.item() - 10f64.ln()).abs() < 1e-12);
        let dz = loss.backward(&context, saved, Tensor::scalar(1.0), &[true]).remove(0).unwrap();
        assert!((dz.data()[3] + 0.45).abs() < 1e-12 && (dz.data()[0] - 0.05).abs() < 1e-12);
    }

    #[test]
    fn shards_add_up_to_the_batch() {
        let z = Tensor::<f64>::from_fn([4, 3], |i| (i * i % 7) as f64);
        let context = Context::default();
        let op = |labels: &[usize]| SoftmaxCrossEntropy {
            labels: labels.to_vec(),
            label_smoothing: 0.1,
            divisor: Some(4),
        };
        let whole = op(&[0, 1, 2, 0]).forward(&context, vec![z.clone()]).0.item();
        let first = op(&[0, 1]).forward(&context, vec![z.entries_in(context.pool(), 0, 2)]).0.item();
        let second = op(&[2, 0]).forward(&context, vec![z.entries_in(context.pool(), 2, 4)]).0.item();
        assert!((whole - first - second).abs() < 1e-12);
    }

    #[test]
    fn labels_are_checked() {
        let shape = |labels: Vec<usize>| {
            Op::<f32>::output_shape(&SoftmaxCrossEntropy::mean(labels), &[[2, 10].into()])
                .unwrap_err()
                .to_string()
        };
        assert_eq!(shape(vec![1]), "softmax_cross_entropy: logits have N = 2, found 1 labels");
        assert_eq!(shape(vec![1, 10]), "softmax_cross_entropy: label 10 of sample 1 is not below K = 10");
    }
}
