//! The algorithms of two-dimensional convolution, behind one interface.
//!
//! Each algorithm has the same three passes: the output, the gradient with respect to the input, and the gradient with
//! respect to the weight. [`ConvAlgorithm`] says which may be used and [`choose`] picks one for a geometry.

pub(crate) mod chain;
mod depthwise;
mod direct;
mod fast;
mod geometry;
pub(crate) mod im2col;
pub(crate) mod naive;
#[cfg(test)]
mod tests;
mod windows;
mod winograd;

use std::fmt;
use std::str::FromStr;
use std::sync::OnceLock;

pub use geometry::ConvGeometry;
pub use winograd::Tile;

use crate::context::Context;
use crate::element::Element;
use crate::sink::Sinks;
use crate::tensor::Tensor;

/// Name of the environment variable that asks for a convolution algorithm: `auto`, `naive`, `im2col`, `direct` or `winograd`.
pub const CONV_VARIABLE: &str = "NIN_CONV";

/// A convolution algorithm: what a user asks for, and what [`choose`] makes of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum ConvAlgorithm {
    /// The fastest for each geometry. Never chosen: a question, not an answer.
    #[default]
    Auto,
    /// The naive loop: the oracle that all others are tested against. Slow.
    Naive,
    /// im2col and a matrix product by the `matrixmultiply` crate: the portable reference. A 1x1 convolution of stride 1 is
    /// multiplied in place, without copying the image.
    Im2col,
    /// Our own matrix product, whose packing reads the windows off the image; depthwise, where there is nothing to multiply by,
    /// vectors of outputs. `f32` only.
    Direct,
    /// Winograd's. Asked for without a tile, wherever the geometry allows it, even where it does not pay; chosen with one.
    /// `f32` only.
    Winograd(Option<Tile>),
}

impl ConvAlgorithm {
    /// All that can be asked for by name.
    const ASKED: [Self; 5] = [Self::Auto, Self::Naive, Self::Im2col, Self::Direct, Self::Winograd(None)];

    /// Reads what the environment variable [`CONV_VARIABLE`] asks for; `None` where it is unset or empty.
    ///
    /// # Errors
    /// [`UnknownConvAlgorithm`] if it has another value. A command-line program should call this first and report the error;
    /// [`ConvAlgorithm::current`] falls back instead.
    pub fn from_environment() -> Result<Option<Self>, UnknownConvAlgorithm> {
        match std::env::var_os(CONV_VARIABLE) {
            Some(name) if !name.is_empty() => name.to_string_lossy().parse().map(Some),
            _ => Ok(None),
        }
    }

    /// The algorithm of this process: [`ConvAlgorithm::from_environment`], asked once, otherwise [`ConvAlgorithm::Auto`]. If the
    /// variable has a value that is none, a line on standard error says so, once.
    #[must_use]
    pub fn current() -> Self {
        static CURRENT: OnceLock<ConvAlgorithm> = OnceLock::new();
        *CURRENT.get_or_init(|| {
            let asked = Self::from_environment().unwrap_or_else(|error| {
                eprintln!("{CONV_VARIABLE}: {error}; using {}", Self::Auto);
                None
            });
            asked.unwrap_or_default()
        })
    }
}

/// A name that is no [`ConvAlgorithm`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("expected auto, naive, im2col, direct or winograd, found {name:?}")]
pub struct UnknownConvAlgorithm {
    /// The name that was asked for.
    pub name: String,
}

impl fmt::Display for ConvAlgorithm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Auto => "auto",
            Self::Naive => "naive",
            Self::Im2col => "im2col",
            Self::Direct => "direct",
            Self::Winograd(None) => "winograd",
            Self::Winograd(Some(tile)) => {
                let (m, r) = (tile.outputs(), tile.kernel());
                return write!(f, "F({m}x{m}, {r}x{r})");
            }
        })
    }
}

impl FromStr for ConvAlgorithm {
    type Err = UnknownConvAlgorithm;

    fn from_str(name: &str) -> Result<Self, UnknownConvAlgorithm> {
        let asked = Self::ASKED.into_iter().find(|algorithm| algorithm.to_string() == name);
        asked.ok_or_else(|| UnknownConvAlgorithm { name: name.to_owned() })
    }
}

/// A pass that uses the weights.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Pass {
    /// The output: inputs to outputs, with the weights as they are.
    Forward,
    /// The gradient with respect to the input: output gradients to input gradients, input and output channels exchanged.
    InputGradient,
}

/// One convolution: its sizes and its parameters.
#[derive(Debug, Clone, Copy)]
pub struct Convolution<'a, T: Element> {
    /// The sizes.
    pub geometry: ConvGeometry,
    /// O x C/groups x KH x KW.
    pub weight: &'a Tensor<T>,
    /// O.
    pub bias: Option<&'a Tensor<T>>,
    /// Applies ReLU to the output.
    pub relu: bool,
}

impl<T: Element> Convolution<'_, T> {
    /// The algorithm that computes it.
    fn algorithm(&self, context: &Context) -> ConvAlgorithm {
        choose::<T>(&self.geometry, context.conv)
    }

    fn check(&self, x: &Tensor<T>, y: Option<&Tensor<T>>) {
        let g = &self.geometry;
        let found = (x.shape(), self.weight.shape(), self.bias.map(Tensor::shape));
        let bias = self.bias.map(|_| g.bias_shape());
        assert_eq!(found, (g.input_shape(), g.weight_shape(), bias), "conv2d: shapes of x, w and b");
        assert!(
            y.is_none_or(|y| y.shape() == g.output_shape()),
            "conv2d: the output is {}",
            g.output_shape()
        );
    }
}

/// The convolutions of an element type: `f32` has fast ones, and what has none has the reference's.
///
/// In the methods, the shapes have been checked.
pub trait Convolve: Sized {
    /// See [`choose`].
    fn choose(_: &ConvGeometry, asked: ConvAlgorithm) -> ConvAlgorithm {
        if asked == ConvAlgorithm::Naive { ConvAlgorithm::Naive } else { ConvAlgorithm::Im2col }
    }

    /// See [`forward`].
    fn forward(context: &Context, layer: &Convolution<'_, Self>, x: &Tensor<Self>) -> Tensor<Self>
    where
        Self: Element,
    {
        reference_forward(context, layer, x)
    }

    /// See [`backward`].
    fn backward(
        context: &Context,
        layer: &Convolution<'_, Self>,
        x: &Tensor<Self>,
        output: Option<&Tensor<Self>>,
        grad_output: Tensor<Self>,
        input_wanted: bool,
        sinks: &mut Sinks<'_, Self>,
    ) -> Option<Tensor<Self>>
    where
        Self: Element,
    {
        reference_backward(context, layer, x, output, grad_output, input_wanted, sinks)
    }

    /// The outputs of layers one after the other, all if `keep`, otherwise of the last alone.
    fn forward_chain(
        context: &Context,
        layers: &[Convolution<'_, Self>],
        x: &Tensor<Self>,
        keep: bool,
    ) -> Vec<Tensor<Self>>
    where
        Self: Element,
    {
        chain::one_by_one(context, layers, x, keep)
    }

    /// [`backward`] of one or more layers at the end of a chain: how many layers are left, and the gradient with respect to the
    /// input of the first that is not, from that with respect to the output of the last. `outputs` has those of the layers before
    /// the last, and that of the last if it has a ReLU; the sinks are those of all layers' weights and biases.
    fn backward_chain_end(
        context: &Context,
        layers: &[Convolution<'_, Self>],
        x: &Tensor<Self>,
        outputs: &[Tensor<Self>],
        gradient: Tensor<Self>,
        input_wanted: bool,
        sinks: &mut Sinks<'_, Self>,
    ) -> (usize, Option<Tensor<Self>>)
    where
        Self: Element,
    {
        chain::backward_last(context, layers, x, outputs, gradient, input_wanted, sinks)
    }
}

impl Convolve for f64 {}

/// Picks the algorithm for elements of `T`: a pure function of the geometry (but for N) and of what was asked for, so that it
/// is the same for any number of threads and any micro-batch. `f64` has the reference algorithms only.
#[must_use]
pub fn choose<T: Element>(geometry: &ConvGeometry, asked: ConvAlgorithm) -> ConvAlgorithm {
    T::choose(geometry, asked)
}

/// The output of a convolution of x (N x C x H x W): N x O x OH x OW, with the bias and ReLU that the layer has.
///
/// # Panics
/// If a tensor does not have the geometry's shape.
#[must_use]
pub fn forward<T: Element>(context: &Context, layer: &Convolution<'_, T>, x: &Tensor<T>) -> Tensor<T> {
    layer.check(x, None);
    T::forward(context, layer, x)
}

/// The gradient of a convolution with respect to its input, if wanted, from that with respect to its output. Those with respect to
/// the weight and the bias are added to the `sinks` 0 and 1. `output` is the layer's if ReLU was applied to it: the gradient
/// passes only where it is above 0.
///
/// # Panics
/// If a tensor does not have the geometry's shape.
pub fn backward<T: Element>(
    context: &Context,
    layer: &Convolution<'_, T>,
    x: &Tensor<T>,
    output: Option<&Tensor<T>>,
    grad_output: Tensor<T>,
    input_wanted: bool,
    sinks: &mut Sinks<'_, T>,
) -> Option<Tensor<T>> {
    layer.check(x, Some(&grad_output));
    layer.check(x, output);
    T::backward(context, layer, x, output, grad_output, input_wanted, sinks)
}

/// [`forward`] by the reference algorithms.
fn reference_forward<T: Element>(context: &Context, layer: &Convolution<'_, T>, x: &Tensor<T>) -> Tensor<T> {
    let g = &layer.geometry;
    let mut y = Tensor::empty_in(context.pool(), g.output_shape());
    let (x, w, bias) = (x.data(), layer.weight.data(), layer.bias.map(Tensor::data));
    match layer.algorithm(context) {
        ConvAlgorithm::Naive => naive::forward(g, x, w, bias, y.data_mut()),
        _ => im2col::forward(context.pool(), g, x, w, bias, y.data_mut()),
    }
    if layer.relu {
        y.data_mut().iter_mut().for_each(|y| *y = if *y < T::ZERO { T::ZERO } else { *y });
    }
    y
}

/// [`backward`] by the reference algorithms.
fn reference_backward<T: Element>(
    context: &Context,
    layer: &Convolution<'_, T>,
    x: &Tensor<T>,
    output: Option<&Tensor<T>>,
    mut grad_output: Tensor<T>,
    input_wanted: bool,
    sinks: &mut Sinks<'_, T>,
) -> Option<Tensor<T>> {
    let (g, pool, naive) =
        (&layer.geometry, context.pool(), layer.algorithm(context) == ConvAlgorithm::Naive);
    if let Some(output) = output {
        for (gradient, &y) in grad_output.data_mut().iter_mut().zip(output.data()) {
            *gradient = if y > T::ZERO { *gradient } else { T::ZERO };
        }
    }
    let (x, w, dy) = (x.data(), layer.weight.data(), grad_output.data());
    sinks.add(0, || {
        let mut dw = Tensor::empty_in(pool, g.weight_shape());
        if naive {
            naive::weight_gradient(g, x, dy, dw.data_mut());
        } else {
            im2col::weight_gradient(pool, g, x, dy, dw.data_mut());
        }
        dw
    });
    sinks.add(1, || {
        let mut db = Tensor::empty_in(pool, g.bias_shape());
        bias_gradient(g, dy, None, db.data_mut());
        db
    });
    input_wanted.then(|| {
        let mut dx = Tensor::empty_in(pool, g.input_shape());
        if naive {
            naive::input_gradient(g, dy, w, dx.data_mut());
        } else {
            im2col::input_gradient(pool, g, dy, w, dx.data_mut());
        }
        dx
    })
}

/// The gradient with respect to the bias, overwritten: the sum of each channel's output gradient, where `mask` is above 0 if it
/// is given.
fn bias_gradient<T: Element>(g: &ConvGeometry, dy: &[T], mask: Option<&[T]>, sums: &mut [T]) {
    sums.fill(T::ZERO);
    let pixels = g.out_pixels();
    for (plane, dy) in dy.chunks_exact(pixels).enumerate() {
        sums[plane % g.c_out] += match mask {
            None => dy.iter().copied().sum(),
            Some(mask) => {
                let passes = dy.iter().zip(&mask[plane * pixels..]).filter(|&(_, &y)| y > T::ZERO);
                passes.map(|(&gradient, _)| gradient).sum::<T>()
            }
        };
    }
}
