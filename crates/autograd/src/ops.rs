//! Ops as methods of [`Var`], named as in PyTorch. Each gives its variable away; clone what is still needed.

use tensor::Element;
use tensor::ops;

use crate::error::AutogradError;
use crate::var::Var;

type Result<V> = std::result::Result<V, AutogradError>;

/// Every method returns [`AutogradError::Shape`] if the shapes do not fit, and [`AutogradError::OtherTape`] if an input
/// belongs to another tape.
#[allow(clippy::missing_errors_doc, reason = "the errors are the same for all and stated above")]
impl<'t, T: Element> Var<'t, T> {
    /// Convolution of an N x C x H x W input with an O x C/groups x KH x KW weight and, if given, a bias of O:
    /// [`ops::Conv2d`].
    pub fn conv2d(self, weight: Self, bias: Option<Self>, op: ops::Conv2d) -> Result<Self> {
        self.tape().apply(op, [self, weight].into_iter().chain(bias))
    }

    /// max(x, 0): [`ops::Relu`].
    pub fn relu(self) -> Result<Self> {
        self.tape().apply(ops::Relu, [self])
    }
}
