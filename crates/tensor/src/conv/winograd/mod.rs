//! Winograd convolution: stride-1 convolutions with 3x3 and 5x5 kernels, with a fraction of the multiplications.
//!
//! A tile of `m x m` outputs is computed from `n x n` inputs (`n = m + r - 1`) as `A^T [ (G g G^T) . (B^T d B) ] A`
//! (Lavin and Gray 2015): `n * n` multiplications instead of `m * m * r * r`. The sum over channels turns
//! each of the `n * n` element-wise products into a matrix product of its own: tiles x channels times channels x channels.
//!
//! | pass | from -> to | code |
//! |---|---|---|
//! | weights, once per step | `G g G^T` | [`DomainWeights`] |
//! | forward | `A^T [U . (B^T d B)] A` | [`convolve`] |
//! | input gradient | forward, of the output gradient with flipped and transposed kernels | [`convolve`] |
//! | weight gradient | `G^T [ sum over tiles (B^T d B) . (A dY A^T) ] G` | [`WeightGradientAccumulator`] |
//!
//! Each pass takes a block of tiles through the domain one row of planes at a time, which stays in the second-level cache;
//! between it and the pixels are tiles that are transformed along one axis. A group of channels is a convolution of its own, with
//! planes of its own for the weights. Tiles and algorithms depend on the geometry and the instruction set alone, so results do
//! not depend on threads.
//!
//! Rounding: the rms error over the rms of the exact result, standard normal data, against f64 sums, stays below
//! [`Tile::error_bound`]; direct summation in f32 has 3e-7 to 1e-6.

mod choice;
mod convolve;
mod factored;
mod images;
mod layout;
mod matrices;
mod multiply;
mod tiles;
mod transforms;
mod weight_gradient;
mod weights;

#[cfg(test)]
mod tests;

pub(super) use choice::tile_for;
pub(super) use convolve::convolve;
pub(super) use weight_gradient::WeightGradientAccumulator;
pub(super) use weights::DomainWeights;

use super::direct::part;
use super::{ConvGeometry, Pass};

/// A tile size: outputs and kernel.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Tile {
    /// F(5x5, 5x5): points +-1/4, +-5/8, +-5/4, +-2, infinity; 7.72 times fewer multiplications.
    F5x5K5x5,
    /// F(4x4, 5x5): points 0, +-1, +-2, +-1/2, infinity; 6.25 times fewer multiplications.
    F4x4K5x5,
    /// F(6x6, 3x3): points 0, +-1, +-2, +-1/2, infinity; 5.06 times fewer multiplications.
    F6x6K3x3,
    /// F(4x4, 3x3): points 0, +-3/4, +-3/2, infinity; 4 times fewer multiplications.
    F4x4K3x3,
}

impl Tile {
    /// All tiles.
    pub const ALL: [Self; 4] = [Self::F5x5K5x5, Self::F4x4K5x5, Self::F6x6K3x3, Self::F4x4K3x3];

    /// m and r: outputs and kernel taps along each axis.
    const fn sizes(self) -> [usize; 2] {
        match self {
            Self::F5x5K5x5 => [5, 5],
            Self::F4x4K5x5 => [4, 5],
            Self::F6x6K3x3 => [6, 3],
            Self::F4x4K3x3 => [4, 3],
        }
    }

    /// m: outputs along each axis.
    pub const fn outputs(self) -> usize {
        self.sizes()[0]
    }

    /// r: kernel taps along each axis.
    pub const fn kernel(self) -> usize {
        self.sizes()[1]
    }

    /// n = m + r - 1: inputs along each axis.
    pub(crate) const fn inputs(self) -> usize {
        self.outputs() + self.kernel() - 1
    }

    /// The bound of the rms error over the rms of the exact result, in all three passes, for standard normal data.
    pub const fn error_bound(self) -> f64 {
        match self {
            Self::F5x5K5x5 => 1.2e-5,
            Self::F4x4K5x5 => 6e-6,
            Self::F6x6K3x3 => 1e-5,
            Self::F4x4K3x3 => 4e-6,
        }
    }

    /// Tells whether this tile can compute all passes of the convolution: its kernel, stride 1, no dilation, padding smaller than
    /// the kernel, and groups, if there are any, of more than a channel on either side.
    pub(crate) fn supports(self, g: &ConvGeometry) -> bool {
        g.kernel == [self.kernel(); 2]
            && g.stride == [1, 1]
            && g.dilation == [1, 1]
            && (g.groups == 1 || (g.groups < g.c_in && g.groups < g.c_out))
            && g.padding.iter().all(|&p| p < self.kernel())
    }
}
