//! The loss of classification: softmax, logarithm and the label's entry in one op.

use super::checks::{divides, not_negative};
use super::softmax::normalize;
use crate::{Context, Element, Op, Shape, ShapeError, Sinks, Tensor, ensure, expect_inputs};

/// The cross-entropy of softmax(logits) against targets; inputs are logits, N x K, and class labels, N, or the probabilities of
/// all classes, N x K, the output is a scalar.
///
/// A label is the number of a class: a whole number below K. Of each sample, with p = softmax of its row, y its label, w the
/// class weights (all 1 if not given) and eps the label smoothing: (1 - eps) w\[y\] (-log p\[y\]) + eps / K times the sum over
/// all classes k of w\[k\] (-log p\[k\]), as in PyTorch. With probabilities t it is the sum over k of ((1 - eps) t\[k\] + eps /
/// K) w\[k\] (-log p\[k\]). The output is their sum over the divisor: by default the sum of the labels' weights, which makes it
/// the weighted mean, and with probabilities N, whatever the weights, as in PyTorch.
///
/// Computed from logits less their maximum, so that no exponential overflows (d2l book, section 4.5). Without weights, the
/// gradient is (p - target) / divisor. A label that names no class makes the loss and its row's gradient NaN; see
/// [`SoftmaxCrossEntropy::check_labels`]. That probabilities are some, and sum to 1, is not checked.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct SoftmaxCrossEntropy {
    /// The share of the target spread evenly over all classes, from 0 to 1.
    pub label_smoothing: f64,
    /// The weight of each class, K numbers of at least 0; all 1 if not given.
    pub weights: Option<Vec<f64>>,
    /// The divisor of the sum of the samples' losses; the sum of the labels' weights, or N for probabilities, if not given. A
    /// micro-batch gives the whole batch's, so that micro-batches' losses and gradients add up to the batch's.
    pub divisor: Option<f64>,
}

/// The class that a label names, if there is such a class.
fn class<T: Element>(label: T, classes: usize) -> Option<usize> {
    let label = label.to_f64();
    (label >= 0.0 && label < classes as f64 && label.fract() == 0.0).then_some(label as usize)
}

impl SoftmaxCrossEntropy {
    /// The name in errors and profiles.
    pub const NAME: &'static str = "softmax_cross_entropy";

    /// Refuses labels that name no class of N x K logits. Targets that are probabilities pass.
    ///
    /// # Errors
    /// [`ShapeError`] with the first such label.
    pub fn check_labels<T: Element>(logits: Shape, labels: &Tensor<T>) -> Result<(), ShapeError> {
        let [_, classes] = logits.matrix(Self::NAME)?;
        if labels.shape().len() > 1 {
            return Ok(());
        }
        let unknown = labels.data().iter().position(|&label| class(label, classes).is_none());
        unknown.map_or(Ok(()), |sample| {
            let label = labels.data()[sample];
            let message = format!("label {label} of sample {sample} is not below K = {classes} classes");
            Err(ShapeError::new(Self::NAME, message))
        })
    }

    /// The sum of the labels' weights: the number of samples if all weights are 1, or targets are probabilities, N x K.
    #[must_use]
    pub fn total_weight<T: Element>(&self, labels: &Tensor<T>) -> f64 {
        if let [n, _] = *labels.shape() {
            return n as f64;
        }
        self.weights.as_ref().map_or(labels.len() as f64, |weights| {
            let weight = |&label| class(label, weights.len()).map_or(f64::NAN, |class| weights[class]);
            labels.data().iter().map(weight).sum()
        })
    }

    fn weight<T: Element>(&self, class: usize) -> T {
        self.weights.as_ref().map_or(T::ONE, |weights| T::from_f64(weights[class]))
    }

    /// The factors of each (-log p) of the samples: of each of the K classes, for each of the N targets. A label is the
    /// probability 1 of its class; one that names no class makes all of them NaN.
    fn factors<T: Element>(
        &self,
        [n, classes]: [usize; 2],
        targets: &Tensor<T>,
    ) -> impl Iterator<Item = impl Iterator<Item = T> + Clone> {
        let on_target = T::from_f64(1.0 - self.label_smoothing);
        let everywhere = T::from_f64(self.label_smoothing / classes as f64);
        let labels = targets.shape().len() == 1;
        targets.data().chunks_exact(targets.len() / n).map(move |target| {
            let label = labels.then(|| class(target[0], classes));
            let probability = move |k| match label {
                None => target[k],
                Some(Some(label)) if label == k => T::ONE,
                Some(Some(_)) => T::ZERO,
                Some(None) => T::from_f64(f64::NAN),
            };
            (0..classes).map(move |k| (on_target * probability(k) + everywhere) * self.weight::<T>(k))
        })
    }
}

impl<T: Element> Op<T> for SoftmaxCrossEntropy {
    /// The softmax, N x K, the targets and the divisor.
    type Saved = (Tensor<T>, Tensor<T>, T);

    const NAME: &'static str = Self::NAME;

    fn output_shape(&self, inputs: &[Shape]) -> Result<Shape, ShapeError> {
        expect_inputs(Self::NAME, inputs, 2)?;
        let [n, classes] = inputs[0].matrix(Self::NAME)?;
        ensure!(
            Self::NAME,
            n > 0 && classes > 0 && (*inputs[1] == [n] || *inputs[1] == [n, classes]),
            "expects at least one class and, for each of at least one sample, a label or K probabilities, found logits of \
             {} and targets of {}",
            inputs[0],
            inputs[1]
        );
        let smoothing = self.label_smoothing;
        let share = (0.0..=1.0).contains(&smoothing);
        ensure!(Self::NAME, share, "label smoothing must be from 0 to 1, found {smoothing}");
        if let Some(weights) = &self.weights {
            let found = weights.len();
            ensure!(Self::NAME, found == classes, "expects K = {classes} class weights, found {found}");
            for &weight in weights {
                not_negative(Self::NAME, "a class weight", weight)?;
            }
        }
        divides(Self::NAME, self.divisor)?;
        Ok(Shape::scalar())
    }

    fn forward(&self, context: &Context, inputs: Vec<Tensor<T>>) -> (Tensor<T>, Self::Saved) {
        let [logits, targets] = <[Tensor<T>; 2]>::try_from(inputs).expect("the op takes two inputs");
        let [n, classes] = [logits.shape()[0], logits.shape()[1]];
        let mut probabilities = Tensor::empty_in(context.pool(), logits.shape());
        let mut loss = T::ZERO;
        let rows =
            logits.data().chunks_exact(classes).zip(probabilities.data_mut().chunks_exact_mut(classes));
        for ((x, p), factors) in rows.zip(self.factors([n, classes], &targets)) {
            let (largest, sum) = normalize(x, p, 0..classes);
            let log_sum = sum.ln();
            // Infinity times the factor 0 of a class that is no target would be NaN.
            let terms =
                factors.zip(x).filter(|&(factor, &x)| factor != T::ZERO || x.to_f64() != f64::NEG_INFINITY);
            loss += terms.map(|(factor, &x)| factor * (log_sum - (x - largest))).sum::<T>();
        }
        let divisor = T::from_f64(self.divisor.unwrap_or_else(|| self.total_weight(&targets)));
        let mut output = Tensor::empty_in(context.pool(), Shape::scalar());
        output.data_mut()[0] = loss / divisor;
        (output, (probabilities, targets, divisor))
    }

    /// Targets have no gradient.
    fn backward(
        &self,
        _: &Context,
        (mut probabilities, targets, divisor): Self::Saved,
        dy: Tensor<T>,
        sinks: &mut Sinks<'_, T>,
    ) {
        let Some(sum) = sinks.get(0) else { return };
        let [n, classes] = [probabilities.shape()[0], probabilities.shape()[1]];
        let scale = dy.item() / divisor;
        let rows = probabilities.data_mut().chunks_exact_mut(classes);
        for (p, factors) in rows.zip(self.factors([n, classes], &targets)) {
            let total: T = factors.clone().sum();
            p.iter_mut().zip(factors).for_each(|(p, factor)| *p = (total * *p - factor) * scale);
        }
        sum.add(probabilities);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{check_some_gradients, poisoned, random, refusal};

    fn labels<T: Element>(labels: &[usize]) -> Tensor<T> {
        Tensor::from_fn([labels.len()], |i| T::from_usize(labels[i]))
    }

    fn loss(op: &SoftmaxCrossEntropy, logits: &Tensor<f64>, classes: &[usize]) -> f64 {
        op.forward(&poisoned(), vec![logits.clone(), labels(classes)]).0.item()
    }

    fn mean() -> SoftmaxCrossEntropy {
        SoftmaxCrossEntropy::default()
    }

    #[test]
    fn by_hand() {
        // Row 0: p = (1/4, 3/4). Row 1: p = (1/2, 1/2).
        let logits = Tensor::from_slice([2, 2], &[0.0, 3f64.ln(), 7.0, 7.0]).unwrap();
        let (loss, saved) = mean().forward(&poisoned(), vec![logits.clone(), labels(&[0, 1])]);
        assert!((loss.item() - (4f64.ln() + 2f64.ln()) / 2.0).abs() < 1e-12);
        let gradients = mean().gradients(&poisoned(), saved, Tensor::scalar(1.0), &[true, true]);
        assert!(gradients[1].is_none(), "labels have none");
        for (found, expected) in
            gradients[0].as_ref().unwrap().data().iter().zip([-0.375, 0.375, 0.25, -0.25])
        {
            assert!((found - expected).abs() < 1e-12);
        }
        let smooth = SoftmaxCrossEntropy { label_smoothing: 0.2, ..mean() };
        let row = Tensor::from_slice([1, 2], &[0.0, 3f64.ln()]).unwrap();
        let expected = 0.8 * 4f64.ln() + 0.1 * (4f64.ln() + (4.0f64 / 3.0).ln());
        assert!((self::loss(&smooth, &row, &[0]) - expected).abs() < 1e-12);
        let weighted = SoftmaxCrossEntropy { weights: Some(vec![1.0, 3.0]), ..mean() };
        let expected = (4f64.ln() + 3.0 * 2f64.ln()) / 4.0;
        assert!((self::loss(&weighted, &logits, &[0, 1]) - expected).abs() < 1e-12);
        // Probabilities: the weights have no part in the divisor.
        let dense = Tensor::from_slice([2, 2], &[0.25, 0.75, 1.0, 0.0]).unwrap();
        let expected = (0.25 * 4f64.ln() + 3.0 * 0.75 * (4f64 / 3.0).ln() + 2f64.ln()) / 2.0;
        let found = weighted.forward(&poisoned(), vec![logits.clone(), dense]).0.item();
        assert!((found - expected).abs() < 1e-12, "{found}, {expected}");
    }

    /// A label is the probability 1 of its class, but for the divisor.
    #[test]
    fn labels_are_probabilities() {
        let (logits, numbers) = (random([3, 5], 1), labels::<f64>(&[2, 0, 4]));
        let ones = Tensor::from_fn([3, 5], |i| f64::from(numbers.data()[i / 5] == (i % 5) as f64));
        for weights in [None, Some(vec![0.5, 1.0, 2.0, 0.0, 4.0])] {
            let op = SoftmaxCrossEntropy { label_smoothing: 0.3, weights, divisor: Some(7.0) };
            let both = |targets: &Tensor<f64>| {
                let (loss, saved) = op.forward(&poisoned(), vec![logits.clone(), targets.clone()]);
                let gradient =
                    op.gradients(&poisoned(), saved, Tensor::scalar(1.0), &[true, false]).remove(0);
                [&[loss.item()], gradient.unwrap().data()].concat()
            };
            let pairs = both(&numbers).into_iter().zip(both(&ones));
            assert_eq!(pairs.filter(|(a, b)| (a - b).abs() < 1e-14).count(), 16);
        }
    }

    #[test]
    fn what_is_no_number_or_no_class_shows_in_the_loss() {
        let logits = Tensor::from_slice([1, 2], &[0.0, f64::NAN]).unwrap();
        assert!(loss(&mean(), &logits, &[0]).is_nan());
        let weightless = SoftmaxCrossEntropy { weights: Some(vec![0.0, 1.0]), divisor: Some(1.0), ..mean() };
        assert!(loss(&weightless, &logits, &[0]).is_nan(), "the gradient is no number, either");
        let masked = Tensor::from_slice([1, 3], &[0.0, f64::NEG_INFINITY, 0.0]).unwrap();
        assert!((loss(&mean(), &masked, &[2]) - 2f64.ln()).abs() < 1e-15, "no class of another's");
        let logits = random([2, 3], 1);
        let odd = Tensor::from_slice([2], &[1.0, 1.5]).unwrap();
        let (loss, saved) = mean().forward(&poisoned(), vec![logits.clone(), odd.clone()]);
        assert!(loss.item().is_nan());
        let gradient =
            mean().gradients(&poisoned(), saved, Tensor::scalar(1.0), &[true, false]).remove(0).unwrap();
        assert!(
            gradient.data()[..3].iter().all(|x| x.is_finite())
                && gradient.data()[3..].iter().all(|x| x.is_nan())
        );
        let error = |labels: &[f64]| {
            let labels = Tensor::from_slice([labels.len()], labels).unwrap();
            SoftmaxCrossEntropy::check_labels(logits.shape(), &labels).unwrap_err().to_string()
        };
        assert_eq!(
            error(&[1.0, 1.5]),
            "softmax_cross_entropy: label 1.5 of sample 1 is not below K = 3 classes"
        );
        assert_eq!(
            error(&[3.0, 0.0]),
            "softmax_cross_entropy: label 3 of sample 0 is not below K = 3 classes"
        );
        assert!(error(&[-1.0]).contains("label -1 of sample 0"));
        assert!(error(&[f64::NAN]).contains("label NaN of sample 0"));
    }

    #[test]
    fn errors_name_sizes() {
        let weighted = |weights: &[f64]| SoftmaxCrossEntropy { weights: Some(weights.to_vec()), ..mean() };
        let smooth = SoftmaxCrossEntropy { label_smoothing: 1.5, ..mean() };
        for (op, [input, labels], expected) in [
            (
                mean(),
                [&[3, 10][..], &[2]],
                "expects at least one class and, for each of at least one sample, a label or K probabilities, found logits of \
                 3 x 10 and targets of 2",
            ),
            (
                mean(),
                [&[3, 0], &[3]],
                "expects at least one class and, for each of at least one sample, a label or K probabilities, found logits of \
                 3 x 0 and targets of 3",
            ),
            (
                mean(),
                [&[3, 10], &[3, 9]],
                "expects at least one class and, for each of at least one sample, a label or K probabilities, found logits of \
                 3 x 10 and targets of 3 x 9",
            ),
            (mean(), [&[1, 10, 1, 1], &[1]], "expects a matrix of two axes, input is 1 x 10 x 1 x 1"),
            (smooth, [&[1, 10], &[1]], "label smoothing must be from 0 to 1, found 1.5"),
            (
                SoftmaxCrossEntropy { divisor: Some(0.0), ..mean() },
                [&[1, 10], &[1]],
                "the divisor must be above 0, found 0",
            ),
            (weighted(&[1.0; 9]), [&[1, 10], &[1]], "expects K = 10 class weights, found 9"),
            (
                weighted(&[1.0, -1.0]),
                [&[1, 2], &[1]],
                "a class weight must be finite and 0 or more, found -1",
            ),
        ] {
            assert_eq!(refusal(&op, &[input, labels]), format!("softmax_cross_entropy: {expected}"));
        }
    }

    #[test]
    fn gradients() {
        let dense = random([3, 5], 2);
        let inputs = [labels(&[2, 0, 4]), dense].map(|targets| [random([3, 5], 1), targets]);
        for weights in [None, Some(vec![0.5, 1.0, 2.0, 0.0, 4.0])] {
            for (label_smoothing, divisor) in [(0.0, None), (0.1, None), (0.3, Some(32.0)), (1.0, Some(1.0))]
            {
                let op = SoftmaxCrossEntropy { label_smoothing, weights: weights.clone(), divisor };
                for inputs in &inputs {
                    check_some_gradients(&op, inputs, &[true, false]);
                    check_some_gradients(&op, inputs, &[false, false]);
                }
            }
        }
    }
}
