//! The reciprocal square root.

use crate::{Context, Element, Shape, ShapeError, Tensor, UnaryOp};

/// `y = 1 / sqrt(x + eps)`, element by element, for any shape: the factor of a normalization by a variance x. With an eps of 0 it is
/// PyTorch's `rsqrt`; below -eps it is NaN.
///
/// Its gradient is `-y^3 / 2`, so the input is not kept and is overwritten if no one else holds it.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Rsqrt {
    /// Added to x: 0 or more.
    pub eps: f64,
}

impl UnaryOp for Rsqrt {
    /// The output.
    type Saved<T: Element> = Tensor<T>;

    const NAME: &'static str = "rsqrt";

    fn shape(&self, input: Shape) -> Result<Shape, ShapeError> {
        super::group_norm::check_eps(Self::NAME, self.eps)?;
        Ok(input)
    }

    fn compute<T: Element>(&self, _: &Context, mut x: Tensor<T>) -> (Tensor<T>, Tensor<T>) {
        let eps = T::from_f64(self.eps);
        for x in x.data_mut() {
            *x = T::ONE / (*x + eps).sqrt();
        }
        (x.clone(), x)
    }

    fn gradient<T: Element>(&self, _: &Context, y: Tensor<T>, mut dy: Tensor<T>) -> Tensor<T> {
        let half = T::from_f64(0.5);
        for (dy, &y) in dy.data_mut().iter_mut().zip(y.data()) {
            *dy *= -half * y * y * y;
        }
        dy
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Op;
    use crate::testing::{check_gradients, poisoned, random};

    #[test]
    fn values_and_gradients() {
        let x = Tensor::from_slice([4], &[4.0, 0.25, 0.0, -9.0]).unwrap();
        let (y, _) = Rsqrt::default().compute::<f64>(&poisoned(), x);
        assert_eq!(y.data()[..3], [0.5, 2.0, f64::INFINITY]);
        assert!(y.data()[3].is_nan());
        check_gradients(&Rsqrt { eps: 1.5 }, &[random([2, 3], 1)]);
        let error = Op::<f32>::output_shape(&Rsqrt { eps: -1.0 }, &[[3].into()]).unwrap_err().to_string();
        assert_eq!(error, "rsqrt: eps must be finite and 0 or more, found -1");
    }
}
