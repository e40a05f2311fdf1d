//! The algorithms of two-dimensional convolution, behind one interface.
//!
//! Each algorithm has the same three passes: the output, the gradient with respect to the input, and the gradient with
//! respect to the weight. [`ConvPath`] says which may be used and [`choose`] picks one for a geometry.

mod geometry;
pub mod im2col;
pub mod implicit_gemm;
pub mod naive;
mod windows;
pub mod winograd;

use std::fmt;
use std::str::FromStr;

pub use geometry::ConvGeometry;

use crate::context::Context;
use crate::element::Element;
use crate::tensor::Tensor;

/// Which convolution algorithm a user asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum ConvPath {
    /// The fastest for each geometry.
    #[default]
    Auto,
    /// The naive loop: the oracle that all others are tested against. Slow.
    Naive,
    /// im2col and a matrix product by the `matrixmultiply` crate: the portable reference.
    Im2col,
}

impl ConvPath {
    /// What the environment variable `NIN_CONV` asks for (`auto`, `naive`, `im2col`), otherwise [`ConvPath::Auto`].
    #[must_use]
    pub fn from_environment() -> Self {
        std::env::var("NIN_CONV").ok().and_then(|name| name.parse().ok()).unwrap_or_default()
    }
}

impl fmt::Display for ConvPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Auto => "auto",
            Self::Naive => "naive",
            Self::Im2col => "im2col",
        })
    }
}

impl FromStr for ConvPath {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        [Self::Auto, Self::Naive, Self::Im2col]
            .into_iter()
            .find(|path| path.to_string() == name)
            .ok_or_else(|| format!("expected auto, naive or im2col, found {name:?}"))
    }
}

/// The algorithm that computes a convolution.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Algorithm {
    /// [`naive`].
    Naive,
    /// [`im2col`]; a 1x1 convolution of stride 1 is multiplied in place, without copying the image.
    Im2col,
}

/// Picks the algorithm: a pure function of the geometry and of what was asked for, so that it is the same for any number
/// of threads.
#[must_use]
pub fn choose(_geometry: &ConvGeometry, path: ConvPath) -> Algorithm {
    match path {
        ConvPath::Naive => Algorithm::Naive,
        ConvPath::Auto | ConvPath::Im2col => Algorithm::Im2col,
    }
}

/// The output of a convolution, overwritten: y (N x O x OH x OW) from x, w and a bias of O elements, with ReLU if `relu`.
///
/// # Panics
/// If a tensor does not have the geometry's shape.
pub fn forward<T: Element>(
    context: &Context,
    geometry: &ConvGeometry,
    x: &Tensor<T>,
    w: &Tensor<T>,
    bias: Option<&Tensor<T>>,
    relu: bool,
    y: &mut Tensor<T>,
) {
    let (x, w, bias, y) = (x.data(), w.data(), bias.map(Tensor::data), y.data_mut());
    match choose(geometry, context.conv) {
        Algorithm::Naive => naive::forward(geometry, x, w, bias, y),
        Algorithm::Im2col => im2col::forward(context.pool(), geometry, x, w, bias, y),
    }
    if relu {
        for y in y {
            *y = if *y < T::ZERO { T::ZERO } else { *y };
        }
    }
}

/// Which gradients of a convolution are asked for.
#[derive(Debug, Clone, Copy)]
pub struct Wanted {
    /// With respect to the input: never for the first layer.
    pub input: bool,
    /// With respect to the weight.
    pub weight: bool,
    /// With respect to the bias.
    pub bias: bool,
}

/// The gradients of a convolution that were asked for.
#[derive(Debug)]
pub struct ConvGradients<T: Element> {
    /// N x C x H x W.
    pub input: Option<Tensor<T>>,
    /// O x C/groups x KH x KW.
    pub weight: Option<Tensor<T>>,
    /// O.
    pub bias: Option<Tensor<T>>,
}

/// The gradients of a convolution. `rectified` is its output if ReLU was applied to it: the gradient passes only where the
/// output is above 0.
///
/// # Panics
/// If a tensor does not have the geometry's shape.
pub fn backward<T: Element>(
    context: &Context,
    geometry: &ConvGeometry,
    x: &Tensor<T>,
    w: &Tensor<T>,
    mut grad_output: Tensor<T>,
    rectified: Option<&Tensor<T>>,
    wanted: Wanted,
) -> ConvGradients<T> {
    let pool = context.pool();
    if let Some(output) = rectified {
        for (gradient, &y) in grad_output.data_mut().iter_mut().zip(output.data()) {
            *gradient = if y > T::ZERO { *gradient } else { T::ZERO };
        }
    }
    let dy = grad_output.data();
    let algorithm = choose(geometry, context.conv);
    let weight = wanted.weight.then(|| {
        let mut gradient = Tensor::uninit_in(pool, geometry.weight_shape());
        match algorithm {
            Algorithm::Naive => naive::weight_gradient(geometry, x.data(), dy, gradient.data_mut()),
            Algorithm::Im2col => im2col::weight_gradient(pool, geometry, x.data(), dy, gradient.data_mut()),
        }
        gradient
    });
    let input = wanted.input.then(|| {
        let mut gradient = Tensor::uninit_in(pool, geometry.input_shape());
        match algorithm {
            Algorithm::Naive => naive::input_gradient(geometry, dy, w.data(), gradient.data_mut()),
            Algorithm::Im2col => im2col::input_gradient(pool, geometry, dy, w.data(), gradient.data_mut()),
        }
        gradient
    });
    let bias = wanted.bias.then(|| {
        let mut gradient = Tensor::zeros_in(pool, [geometry.c_out]);
        let sums = gradient.data_mut();
        for (plane, dy) in dy.chunks_exact(geometry.out_pixels()).enumerate() {
            sums[plane % geometry.c_out] += dy.iter().copied().sum();
        }
        gradient
    });
    ConvGradients { input, weight, bias }
}
