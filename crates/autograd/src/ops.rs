//! Ops of several inputs, and those that most networks and losses have, as methods of [`Var`], named as in PyTorch;
//! [`Tape::apply`] applies any op. Each gives its variable away; clone what is still needed.
//!
//! [`Tape::apply`]: crate::Tape::apply

use tensor::{Element, Op, Shape, ops};

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

    /// Drops each element with probability `p` while training: [`ops::Dropout`].
    ///
    /// With nothing to drop there is no op: evaluation goes on with the input.
    pub fn dropout(self, p: f64) -> Result<Self> {
        let layer = self.tape().next_random_op();
        if !self.tape().context().training {
            Op::<T>::output_shape(&ops::Dropout { p, layer }, &[self.shape()])?;
            return Ok(self);
        }
        self.tape().apply(ops::Dropout { p, layer }, [self])
    }

    /// All axes but the first as one: [`ops::Flatten`].
    pub fn flatten(self) -> Result<Self> {
        self.tape().apply(ops::Flatten, [self])
    }

    /// The same elements under another shape: [`ops::Reshape`].
    pub fn reshape(self, shape: impl Into<Shape>) -> Result<Self> {
        self.tape().apply(ops::Reshape { shape: shape.into() }, [self])
    }

    /// Cross-entropy of the softmax of N x K logits against N class labels or N x K probabilities, a scalar:
    /// [`ops::SoftmaxCrossEntropy`]. A label that names no class is an error, too.
    pub fn softmax_cross_entropy(self, targets: Self, op: ops::SoftmaxCrossEntropy) -> Result<Self> {
        // Shapes first: their error says more.
        Op::<T>::output_shape(&op, &[self.shape(), targets.shape()])?;
        ops::SoftmaxCrossEntropy::check_labels(self.shape(), targets.value())?;
        self.tape().apply(op, [self, targets])
    }

    /// The mean squared difference from a target of the same shape, a scalar: [`ops::MseLoss`].
    pub fn mse_loss(self, target: Self, op: ops::MseLoss) -> Result<Self> {
        self.tape().apply(op, [self, target])
    }

    /// Binary cross-entropy of logits against targets of the same shape, a scalar: [`ops::BceWithLogits`].
    pub fn bce_with_logits(self, target: Self, op: ops::BceWithLogits) -> Result<Self> {
        self.tape().apply(op, [self, target])
    }

    /// x w^T + b of an N x IN input, an OUT x IN weight and, if given, a bias of OUT: [`ops::Linear`].
    pub fn linear(self, weight: Self, bias: Option<Self>) -> Result<Self> {
        self.tape().apply(ops::Linear, [self, weight].into_iter().chain(bias))
    }

    /// Channels in groups, each normalized in each image, times a weight of C and plus a bias of C: [`ops::GroupNorm`].
    pub fn group_norm(self, weight: Self, bias: Self, op: ops::GroupNorm) -> Result<Self> {
        self.tape().apply(op, [self, weight, bias])
    }

    /// Each channel normalized over the batch, or by `statistics`, a mean and a variance of C each, times a weight of C and plus
    /// a bias of C: [`ops::BatchNorm2d`].
    pub fn batch_norm2d(
        self,
        weight: Self,
        bias: Self,
        statistics: Option<[Self; 2]>,
        op: ops::BatchNorm2d,
    ) -> Result<Self> {
        self.tape().apply(op, [self, weight, bias].into_iter().chain(statistics.into_iter().flatten()))
    }

    /// This tensor and `others` one after the other along an axis, 1 for channels: [`ops::Concat`].
    pub fn concat(self, others: impl IntoIterator<Item = Self>, axis: usize) -> Result<Self> {
        let (tape, first) = (self.tape(), [self]);
        tape.apply(ops::Concat { axis }, first.into_iter().chain(others))
    }

    /// The sum with another tensor, both broadcast: [`ops::Add`].
    #[allow(clippy::should_implement_trait, reason = "the operator cannot return an error")]
    pub fn add(self, other: Self) -> Result<Self> {
        self.tape().apply(ops::Add, [self, other])
    }

    /// The difference from another tensor, both broadcast: [`ops::Sub`].
    #[allow(clippy::should_implement_trait, reason = "the operator cannot return an error")]
    pub fn sub(self, other: Self) -> Result<Self> {
        self.tape().apply(ops::Sub, [self, other])
    }

    /// The product with another tensor element by element, both broadcast: [`ops::Mul`].
    #[allow(clippy::should_implement_trait, reason = "the operator cannot return an error")]
    pub fn mul(self, other: Self) -> Result<Self> {
        self.tape().apply(ops::Mul, [self, other])
    }

    /// Times a constant: [`ops::Scale`].
    pub fn scale(self, factor: f64) -> Result<Self> {
        self.tape().apply(ops::Scale { factor }, [self])
    }

    /// |x|: [`ops::Abs`].
    pub fn abs(self) -> Result<Self> {
        self.tape().apply(ops::Abs, [self])
    }

    /// e^x: [`ops::Exp`].
    pub fn exp(self) -> Result<Self> {
        self.tape().apply(ops::Exp, [self])
    }

    /// The natural logarithm: [`ops::Log`].
    pub fn log(self) -> Result<Self> {
        self.tape().apply(ops::Log, [self])
    }

    /// The sum over all axes or some: [`ops::Sum`].
    pub fn sum(self, op: ops::Sum) -> Result<Self> {
        self.tape().apply(op, [self])
    }

    /// The mean over all axes or some: [`ops::Mean`].
    pub fn mean(self, op: ops::Mean) -> Result<Self> {
        self.tape().apply(op, [self])
    }
}
