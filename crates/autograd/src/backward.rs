//! The backward pass: the tape in reverse, with a [`GradientSum`] for each node.

use tensor::{Element, GradientSum, Sinks, Tensor};

use crate::error::AutogradError;
use crate::gradients::{LeafGradient, TapeGradients};
use crate::tape::Tape;
use crate::var::Var;

impl<T: Element> Tape<T> {
    /// The gradients of a scalar loss with respect to every leaf. The tape can be walked once: backward passes use up what
    /// they saved, so that memory is free for the next op as soon as possible.
    ///
    /// # Errors
    /// [`AutogradError::NotScalar`], [`AutogradError::NotRecorded`], [`AutogradError::Spent`], [`AutogradError::OtherTape`].
    pub fn backward(&self, loss: Var<'_, T>) -> Result<TapeGradients<T>, AutogradError> {
        if !self.is_tracing() && loss.shape().elements() != 1 {
            return Err(AutogradError::NotScalar { shape: loss.shape() });
        }
        let mut one = Tensor::empty_in(self.context().pool(), loss.shape());
        one.data_mut().fill(T::ONE);
        self.backward_with(loss, one)
    }

    /// The gradients of `sum(output * gradient)` with respect to every leaf: backward from an output of any shape.
    ///
    /// # Errors
    /// As [`Tape::backward`], and [`AutogradError::GradientShape`] if the shapes differ.
    pub fn backward_with(
        &self,
        output: Var<'_, T>,
        gradient: Tensor<T>,
    ) -> Result<TapeGradients<T>, AutogradError> {
        if self.is_tracing() {
            return Err(AutogradError::NotRecorded);
        }
        if !std::ptr::eq(output.tape(), self) {
            return Err(AutogradError::OtherTape { op: "backward" });
        }
        if output.shape() != gradient.shape() {
            return Err(AutogradError::GradientShape { output: output.shape(), gradient: gradient.shape() });
        }
        let last = output.node().ok_or(AutogradError::NotRecorded)?;
        drop(output);
        let mut record = self.record.borrow_mut();
        if std::mem::replace(&mut record.spent, true) {
            return Err(AutogradError::Spent);
        }
        let nodes = std::mem::take(&mut record.nodes);
        drop(record);

        let mut sums: Vec<_> = nodes.iter().map(|_| GradientSum::new()).collect();
        sums[last].add(gradient);
        let mut gradients = TapeGradients { leaves: Vec::new() };
        // Nodes are dropped as the walk passes them, with what they saved.
        for (index, node) in nodes.into_iter().enumerate().rev() {
            let sum = std::mem::take(&mut sums[index]);
            let Some(gradient) = sum.finish(self.context().pool()) else { continue };
            debug_assert_eq!(gradient.shape(), node.shape);
            match node.backward {
                Some(backward) => {
                    backward.run(self.context(), gradient, &mut Sinks::new(&mut sums, &node.inputs));
                }
                None => {
                    let parameter = node.parameter;
                    gradients.leaves.push(LeafGradient { node: index, parameter, gradient });
                }
            }
        }
        Ok(gradients)
    }
}

#[cfg(test)]
mod tests {
    use tensor::{BufferPool, Context};

    use super::*;

    fn vector(values: &[f64]) -> Tensor<f64> {
        Tensor::from_slice([values.len()], values).unwrap()
    }

    #[test]
    fn gradients_move_first_and_then_add() {
        let tape = Tape::new(Context::default());
        let x = tape.leaf(vector(&[1.0, -1.0]));
        let y = tape.parameter(7, vector(&[2.0, 3.0]));
        let again = tape.parameter(7, vector(&[2.0, 3.0]));
        let sum = x.clone().add(y).unwrap().add(again).unwrap().add(x.clone()).unwrap();
        let gradients = tape.backward_with(sum, vector(&[1.0, 10.0])).unwrap();
        assert_eq!(gradients.get(&x).unwrap().data(), [2.0, 20.0]);
        assert_eq!(gradients.parameter(7).unwrap().data(), [2.0, 20.0]);
        assert_eq!(gradients.leaves.len(), 2, "the parameter is one leaf");
    }

    #[test]
    fn what_needs_no_gradient_gets_none() {
        let tape = Tape::new(Context::default());
        let x = tape.constant(vector(&[1.0]));
        let y = tape.leaf(vector(&[2.0]));
        let gradients = tape.backward(x.clone().mul(y.clone()).unwrap()).unwrap();
        assert!(gradients.get(&x).is_none());
        assert_eq!(gradients.get(&y).unwrap().data(), [1.0]);
    }

    #[test]
    fn evaluation_records_nothing() {
        let tape = Tape::new(Context::evaluation(BufferPool::new()));
        let x = tape.leaf(vector(&[1.0]));
        let y = x.relu().unwrap();
        assert!(tape.is_empty());
        assert_eq!(tape.backward(y).unwrap_err(), AutogradError::NotRecorded);
    }

    #[test]
    fn misuse_is_an_error() {
        let tape = Tape::new(Context::default());
        let x = tape.leaf(vector(&[1.0, 2.0]));
        let error = tape.backward(x.clone().relu().unwrap()).unwrap_err();
        assert_eq!(
            error.to_string(),
            "backward starts from a scalar loss, found 2; use backward_with to give its gradient"
        );
        let other = Tape::new(Context::default());
        let stranger = other.leaf(vector(&[1.0, 2.0]));
        assert_eq!(x.clone().add(stranger).unwrap_err(), AutogradError::OtherTape { op: "add" });
        let y = x.relu().unwrap();
        tape.backward_with(y.clone(), vector(&[1.0, 1.0])).unwrap();
        assert_eq!(tape.backward_with(y, vector(&[1.0, 1.0])).unwrap_err(), AutogradError::Spent);
    }
}
