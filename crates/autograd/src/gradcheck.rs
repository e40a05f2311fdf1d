//! Gradients against central differences, in `f64`.
//!
//! For an output y(x) and fixed random numbers r, the scalar s(x) = sum(r y(x)) has the derivative
//! (s(x + h e) - s(x - h e)) / 2h along each coordinate e, up to O(h^2), and the tape's answer must agree with it. Inputs
//! must lie further than h from kinks (ReLU at 0, ties of a maximum): a derivative does not exist there.

use tensor::{BufferPool, Context, Purpose, RandomStream, Tensor};

use crate::error::AutogradError;
use crate::tape::Tape;
use crate::var::Var;

/// The function that is checked.
type Function<'a> =
    dyn for<'t> Fn(&'t Tape<f64>, &[Var<'t, f64>]) -> Result<Var<'t, f64>, AutogradError> + 'a;

/// Settings of a check.
#[derive(Debug, Clone)]
pub struct Gradcheck {
    /// h: the step of the central difference.
    pub step: f64,
    /// The largest relative error that passes.
    pub tolerance: f64,
    /// The number of elements of each input that are tried, spread evenly over it; all if it has fewer.
    pub elements: usize,
    /// The surroundings of the passes: training mode with a pool that poisons what it hands out, unless changed.
    pub context: Context,
}

impl Default for Gradcheck {
    fn default() -> Self {
        Self {
            step: 1e-5,
            tolerance: 1e-6,
            elements: usize::MAX,
            context: Context::training(BufferPool::poisoning()),
        }
    }
}

/// A check that passed.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct GradcheckReport {
    /// The number of derivatives that were compared.
    pub compared: usize,
    /// The largest relative error among them.
    pub largest_error: f64,
    /// The number of inputs with a gradient of zeros alone, or none: right, maybe, but nothing was checked of those.
    pub zero_gradients: usize,
}

/// The reason why a check did not pass.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum GradcheckError {
    /// The function itself failed.
    #[error("gradcheck of {name}: {source}")]
    Function {
        /// The name of what was checked.
        name: String,
        /// The function's error.
        source: AutogradError,
    },
    /// A derivative is wrong.
    #[error(
        "gradcheck of {name}: input {input} at {index:?}: backward says {analytic:e}, the central difference \
         {numeric:e} (relative error {error:.1e}, tolerance {tolerance:.1e})"
    )]
    Mismatch {
        /// The name of what was checked.
        name: String,
        /// The number of the input, counted from 0.
        input: usize,
        /// The place in that input, an index per axis.
        index: Vec<usize>,
        /// The derivative by the backward pass.
        analytic: f64,
        /// The derivative by the central difference.
        numeric: f64,
        /// |analytic - numeric| over the larger of the two and of the input's largest derivative / 1000.
        error: f64,
        /// The largest error that would have passed.
        tolerance: f64,
    },
}

/// Checks every derivative of `function` at `inputs` with the default [`Gradcheck`].
///
/// `name` is what errors call it: the op's or the network's name.
///
/// # Errors
/// [`GradcheckError`] at the first derivative that is wrong, or if the function fails.
///
/// ```
/// use tensor::Tensor;
///
/// let x = Tensor::from_slice([2, 2], &[0.5, -1.0, 2.0, -0.3])?;
/// autograd::gradcheck("relu", &[x], |_, inputs| inputs[0].clone().relu())?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn gradcheck<F>(
    name: &str,
    inputs: &[Tensor<f64>],
    function: F,
) -> Result<GradcheckReport, GradcheckError>
where
    F: for<'t> Fn(&'t Tape<f64>, &[Var<'t, f64>]) -> Result<Var<'t, f64>, AutogradError>,
{
    Gradcheck::default().run(name, inputs, function)
}

impl Gradcheck {
    /// Checks the derivatives of `function` at `inputs`. See [`gradcheck`].
    ///
    /// # Errors
    /// [`GradcheckError`] at the first derivative that is wrong, or if the function fails.
    pub fn run<F>(
        &self,
        name: &str,
        inputs: &[Tensor<f64>],
        function: F,
    ) -> Result<GradcheckReport, GradcheckError>
    where
        F: for<'t> Fn(&'t Tape<f64>, &[Var<'t, f64>]) -> Result<Var<'t, f64>, AutogradError>,
    {
        self.run_any(name, inputs, &function)
    }

    /// [`Gradcheck::run`], compiled once for all functions.
    fn run_any(
        &self,
        name: &str,
        inputs: &[Tensor<f64>],
        function: &Function<'_>,
    ) -> Result<GradcheckReport, GradcheckError> {
        let failed = |source| GradcheckError::Function { name: name.to_owned(), source };
        let tape = Tape::new(self.context.clone());
        let leaves: Vec<_> = inputs.iter().map(|input| tape.leaf(input.clone())).collect();
        let output = function(&tape, &leaves).map_err(failed)?;
        let mut weights = Tensor::zeros(output.shape());
        RandomStream::new(0, 0, Purpose::Other(0), 0).fill_uniform(weights.data_mut(), 1.0);
        let gradients = tape.backward_with(output, weights.clone()).map_err(failed)?;

        let scalar = |inputs: &[Tensor<f64>]| -> Result<f64, GradcheckError> {
            let tape = Tape::new(Context { grad_enabled: false, ..self.context.clone() });
            let inputs: Vec<_> = inputs.iter().map(|input| tape.constant(input.clone())).collect();
            let output = function(&tape, &inputs).map_err(failed)?;
            Ok(output.value().data().iter().zip(weights.data()).map(|(y, r)| y * r).sum())
        };

        let mut report = GradcheckReport { compared: 0, largest_error: 0.0, zero_gradients: 0 };
        let mut moved = inputs.to_vec();
        for (input, original) in inputs.iter().enumerate() {
            let analytic = gradients.get(&leaves[input]);
            let scale = analytic.map_or(0.0, |g| g.data().iter().fold(0.0, |most: f64, g| most.max(g.abs())));
            report.zero_gradients += usize::from(scale == 0.0);
            let tried = original.len().min(self.elements);
            for trial in 0..tried {
                let element = trial * original.len() / tried;
                let value = original.data()[element];
                moved[input].data_mut()[element] = value + self.step;
                let above = scalar(&moved)?;
                moved[input].data_mut()[element] = value - self.step;
                let below = scalar(&moved)?;
                moved[input].data_mut()[element] = value;
                let numeric = (above - below) / (2.0 * self.step);
                let analytic = analytic.map_or(0.0, |gradient| gradient.data()[element]);
                // A derivative far below its neighbors drowns in the rounding of s, hence the floor.
                let size = analytic.abs().max(numeric.abs()).max(1e-3 * scale).max(1e-9);
                let error = (analytic - numeric).abs() / size;
                report.compared += 1;
                report.largest_error = report.largest_error.max(error);
                if error.is_nan() || error > self.tolerance {
                    return Err(GradcheckError::Mismatch {
                        name: name.to_owned(),
                        input,
                        index: unravel(element, &original.shape()),
                        analytic,
                        numeric,
                        error,
                        tolerance: self.tolerance,
                    });
                }
            }
            moved[input] = original.clone();
        }
        Ok(report)
    }
}

/// The index per axis of a linear index.
fn unravel(mut element: usize, extents: &[usize]) -> Vec<usize> {
    let mut index = vec![0; extents.len()];
    for (axis, &extent) in extents.iter().enumerate().rev() {
        index[axis] = element % extent;
        element /= extent;
    }
    index
}

#[cfg(test)]
mod tests {
    use tensor::{Op, Shape, ShapeError, Sinks};

    use super::*;

    /// y = 3x with a backward pass that is wrong at one element.
    #[derive(Debug)]
    struct Wrong;

    impl Op<f64> for Wrong {
        type Saved = ();
        const NAME: &'static str = "wrong";
        fn output_shape(&self, inputs: &[Shape]) -> Result<Shape, ShapeError> {
            Ok(inputs[0])
        }
        fn forward(&self, _: &Context, inputs: Vec<Tensor<f64>>) -> (Tensor<f64>, ()) {
            (Tensor::from_fn(inputs[0].shape(), |i| 3.0 * inputs[0].data()[i]), ())
        }
        fn backward(&self, _: &Context, (): (), g: Tensor<f64>, sinks: &mut Sinks<'_, f64>) {
            sinks.add(0, || Tensor::from_fn(g.shape(), |i| if i == 4 { 2.9 } else { 3.0 } * g.data()[i]));
        }
    }

    #[test]
    fn a_wrong_derivative_is_named() {
        let x = Tensor::from_fn([2, 3], |i| i as f64);
        let error =
            gradcheck("wrong", &[x], |tape, inputs| tape.apply(Wrong, [inputs[0].clone()])).unwrap_err();
        let GradcheckError::Mismatch { name, input, index, analytic, numeric, .. } = &error else {
            panic!("expected a mismatch, found {error}");
        };
        assert_eq!((name.as_str(), *input, index.as_slice()), ("wrong", 0, [1, 1].as_slice()));
        assert!((analytic / numeric - 2.9 / 3.0).abs() < 1e-6);
        assert!(
            error.to_string().starts_with("gradcheck of wrong: input 0 at [1, 1]: backward says"),
            "{error}"
        );
    }

    #[test]
    fn right_derivatives_pass_and_failures_are_passed_on() {
        let x = Tensor::from_fn([2, 3], |i| i as f64 - 2.5);
        let report =
            gradcheck("relu", std::slice::from_ref(&x), |_, inputs| inputs[0].clone().relu()).unwrap();
        assert_eq!((report.compared, report.zero_gradients), (6, 0));
        assert!(report.largest_error < 1e-8);
        let report = gradcheck("first", &[x.clone(), x.clone()], |_, inputs| inputs[0].clone().scale(2.0));
        assert_eq!(report.unwrap().zero_gradients, 1, "the second input is not used");
        let y = Tensor::from_fn([4], |i| i as f64);
        let error =
            gradcheck("add", &[x, y], |_, inputs| inputs[0].clone().add(inputs[1].clone())).unwrap_err();
        assert!(matches!(error, GradcheckError::Function { source: AutogradError::Shape(_), .. }), "{error}");
    }
}
