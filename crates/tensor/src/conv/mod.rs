//! The algorithms of two-dimensional convolution, behind one interface.
//!
//! Each algorithm has the same three passes: the output, the gradient with respect to the input, and the gradient with
//! respect to the weight. [`ConvPath`] says which may be used and [`choose`] picks one for a geometry.

mod fast;
mod geometry;
pub mod im2col;
pub mod implicit_gemm;
pub mod naive;
pub mod stack;
#[cfg(test)]
mod tests;
mod weight_sums;
mod windows;
pub mod winograd;

use std::fmt;
use std::str::FromStr;
use std::sync::OnceLock;

pub use geometry::ConvGeometry;
pub use weight_sums::WeightSums;

use crate::context::Context;
use crate::element::Element;
use crate::tensor::Tensor;

/// Name of the environment variable that asks for a convolution algorithm: `auto`, `naive`, `im2col`, `direct` or `winograd`.
pub const CONV_VARIABLE: &str = "NIN_CONV";

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
    /// Our own matrix product, never Winograd's.
    Direct,
    /// Winograd's wherever the geometry allows it, even where it does not pay.
    Winograd,
}

impl ConvPath {
    /// What the environment variable [`CONV_VARIABLE`] asks for; `None` where it is unset or empty.
    ///
    /// # Errors
    /// [`UnknownConvPath`] if it has another value. A command-line program should call this first and report the error;
    /// [`ConvPath::current`] falls back instead.
    pub fn from_environment() -> Result<Option<Self>, UnknownConvPath> {
        match std::env::var_os(CONV_VARIABLE) {
            Some(name) if !name.is_empty() => name.to_string_lossy().parse().map(Some),
            _ => Ok(None),
        }
    }

    /// The algorithm of this process: [`ConvPath::from_environment`], asked once, otherwise [`ConvPath::Auto`]. If the variable
    /// has a value that is none, a line on standard error says so, once.
    #[must_use]
    pub fn current() -> Self {
        static CURRENT: OnceLock<ConvPath> = OnceLock::new();
        *CURRENT.get_or_init(|| {
            let asked = Self::from_environment().unwrap_or_else(|error| {
                eprintln!("{CONV_VARIABLE}: {error}; using {}", Self::Auto);
                None
            });
            asked.unwrap_or_default()
        })
    }
}

/// A name that is no [`ConvPath`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("expected auto, naive, im2col, direct or winograd, found {name:?}")]
pub struct UnknownConvPath {
    /// What was asked for.
    pub name: String,
}

impl fmt::Display for ConvPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Auto => "auto",
            Self::Naive => "naive",
            Self::Im2col => "im2col",
            Self::Direct => "direct",
            Self::Winograd => "winograd",
        })
    }
}

impl FromStr for ConvPath {
    type Err = UnknownConvPath;

    fn from_str(name: &str) -> Result<Self, UnknownConvPath> {
        [Self::Auto, Self::Naive, Self::Im2col, Self::Direct, Self::Winograd]
            .into_iter()
            .find(|path| path.to_string() == name)
            .ok_or_else(|| UnknownConvPath { name: name.to_owned() })
    }
}

/// The algorithm that computes a convolution.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Algorithm {
    /// [`naive`].
    Naive,
    /// [`im2col`]; a 1x1 convolution of stride 1 is multiplied in place, without copying the image.
    Im2col,
    /// [`implicit_gemm`]: our own matrix product, whose packing reads the windows off the image. `f32` only.
    Direct,
    /// [`mod@winograd`] with this tile. `f32` only.
    Winograd(winograd::Tile),
}

impl fmt::Display for Algorithm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Naive => f.write_str("naive"),
            Self::Im2col => f.write_str("im2col"),
            Self::Direct => f.write_str("direct"),
            Self::Winograd(tile) => {
                let (m, r) = (tile.outputs(), tile.kernel());
                write!(f, "F({m}x{m}, {r}x{r})")
            }
        }
    }
}

/// Images that the choice counts with, whatever a shard holds, so that a short last shard is computed as the others are.
const NOMINAL_IMAGES: usize = 8;

/// Picks the algorithm for elements of `T`: a pure function of the geometry (but for N) and of what was asked for, so that it
/// is the same for any number of threads and any shard. `f64` has the reference algorithms only.
#[must_use]
pub fn choose<T: Element>(geometry: &ConvGeometry, path: ConvPath) -> Algorithm {
    let single = T::as_f32(&[]).is_some();
    let nominal = ConvGeometry { n: NOMINAL_IMAGES, ..*geometry };
    match path {
        ConvPath::Naive => Algorithm::Naive,
        ConvPath::Auto if single => {
            winograd::tile_for(&nominal).map_or(Algorithm::Direct, Algorithm::Winograd)
        }
        ConvPath::Winograd if single => {
            let tile = winograd::Tile::ALL.into_iter().find(|tile| tile.supports(geometry));
            tile.map_or(Algorithm::Direct, Algorithm::Winograd)
        }
        ConvPath::Direct if single => Algorithm::Direct,
        _ => Algorithm::Im2col,
    }
}

impl Algorithm {
    fn fast(self) -> Option<fast::Fast> {
        match self {
            Self::Direct => Some(fast::Fast::Direct),
            Self::Winograd(tile) => Some(fast::Fast::Winograd(tile)),
            Self::Naive | Self::Im2col => None,
        }
    }
}

/// Whether the input gradient can be computed as a convolution with the turned window.
fn turns(g: &ConvGeometry) -> bool {
    !g.is_pointwise() && g.stride == [1, 1] && (0..2).all(|axis| g.padding[axis] < g.window(axis))
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
    let algorithm = choose::<T>(geometry, context.conv);
    let (x, bias, y) = (x.data(), bias.map(Tensor::data), y.data_mut());
    if let (Some(fast), Some(x)) = (algorithm.fast(), T::as_f32(x)) {
        let y = T::as_f32_mut(y).expect("y has x's type");
        fast::forward(context, geometry, fast, x, w, bias.and_then(T::as_f32), relu, y);
        return;
    }
    match algorithm {
        Algorithm::Naive => naive::forward(geometry, x, w.data(), bias, y),
        _ => im2col::forward(context.pool(), geometry, x, w.data(), bias, y),
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
    let algorithm = choose::<T>(geometry, context.conv);
    if let Some(fast) = algorithm.fast() {
        return fast_backward(context, geometry, fast, x, w, &grad_output, rectified, wanted);
    }
    let pool = context.pool();
    if let Some(output) = rectified {
        for (gradient, &y) in grad_output.data_mut().iter_mut().zip(output.data()) {
            *gradient = if y > T::ZERO { *gradient } else { T::ZERO };
        }
    }
    let dy = grad_output.data();
    let weight = wanted.weight.then(|| {
        let mut gradient = Tensor::uninit_in(pool, geometry.weight_shape());
        match algorithm {
            Algorithm::Naive => naive::weight_gradient(geometry, x.data(), dy, gradient.data_mut()),
            _ => im2col::weight_gradient(pool, geometry, x.data(), dy, gradient.data_mut()),
        }
        gradient
    });
    let input = wanted.input.then(|| {
        let mut gradient = Tensor::uninit_in(pool, geometry.input_shape());
        match algorithm {
            Algorithm::Naive => naive::input_gradient(geometry, dy, w.data(), gradient.data_mut()),
            _ => im2col::input_gradient(pool, geometry, dy, w.data(), gradient.data_mut()),
        }
        gradient
    });
    let bias = wanted.bias.then(|| bias_gradient(context, geometry, dy, None));
    ConvGradients { input, weight, bias }
}

/// The gradient with respect to the bias: the sum of each channel's output gradient, where `mask` is above 0 if it is given.
fn bias_gradient<T: Element>(
    context: &Context,
    geometry: &ConvGeometry,
    dy: &[T],
    mask: Option<&[T]>,
) -> Tensor<T> {
    let mut gradient = Tensor::zeros_in(context.pool(), [geometry.c_out]);
    let (sums, pixels) = (gradient.data_mut(), geometry.out_pixels());
    for (plane, dy) in dy.chunks_exact(pixels).enumerate() {
        sums[plane % geometry.c_out] += match mask {
            None => dy.iter().copied().sum(),
            Some(mask) => {
                let passes = dy.iter().zip(&mask[plane * pixels..]).filter(|&(_, &y)| y > T::ZERO);
                passes.map(|(&gradient, _)| gradient).sum::<T>()
            }
        };
    }
    gradient
}

/// [`backward`] on the SIMD kernels, which apply the mask of ReLU while they read the gradient.
fn fast_backward<T: Element>(
    context: &Context,
    geometry: &ConvGeometry,
    fast: fast::Fast,
    x: &Tensor<T>,
    w: &Tensor<T>,
    grad_output: &Tensor<T>,
    rectified: Option<&Tensor<T>>,
    wanted: Wanted,
) -> ConvGradients<T> {
    const F32: &str = "the fast passes are chosen for f32 only";
    let pool = context.pool();
    let single = |tensor| T::as_f32(Tensor::data(tensor)).expect(F32);
    let (dy, mask) = (single(grad_output), rectified.map(single));
    let mut gradients = ConvGradients { input: None, weight: None, bias: None };
    if wanted.weight && wanted.input && fast::at_once(context, geometry, fast) {
        let mut dw = Tensor::<T>::uninit_in(pool, geometry.weight_shape());
        let mut dx = Tensor::<T>::uninit_in(pool, geometry.input_shape());
        let mut db = wanted.bias.then(|| Tensor::<T>::uninit_in(pool, [geometry.c_out]));
        let bias = db.as_mut().map(|db| T::as_f32_mut(db.data_mut()).expect(F32));
        let weight = T::as_f32_mut(dw.data_mut()).expect(F32);
        let input = T::as_f32_mut(dx.data_mut()).expect(F32);
        fast::gradients(context, geometry, fast, single(x), w, (dy, mask), weight, bias, input);
        return ConvGradients { input: Some(dx), weight: Some(dw), bias: db };
    }
    if wanted.weight {
        let mut dw =
            (!fast::summed(context, fast)).then(|| Tensor::<T>::uninit_in(pool, geometry.weight_shape()));
        let mut db = wanted.bias.then(|| Tensor::<T>::uninit_in(pool, [geometry.c_out]));
        let bias = db.as_mut().map(|db| T::as_f32_mut(db.data_mut()).expect(F32));
        let weight = dw.as_mut().map(|dw| T::as_f32_mut(dw.data_mut()).expect(F32));
        fast::weight_gradient(context, geometry, fast, single(x), w, dy, mask, weight, bias);
        (gradients.weight, gradients.bias) = (dw, db);
    } else if wanted.bias {
        let mask = rectified.map(Tensor::data);
        gradients.bias = Some(bias_gradient(context, geometry, grad_output.data(), mask));
    }
    if wanted.input {
        let mut dx = Tensor::<T>::uninit_in(pool, geometry.input_shape());
        let input = T::as_f32_mut(dx.data_mut()).expect(F32);
        fast::input_gradient(context, geometry, fast, dy, mask, w, input);
        gradients.input = Some(dx);
    }
    gradients
}
