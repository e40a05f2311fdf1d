//! The sizes that pooling ops share: PyTorch's rule for the output's extent, with and without ceil mode.

use crate::shape::{Shape, ShapeError};

/// The windows of a pooling op: pairs are (vertical, horizontal).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Windows {
    pub kernel: [usize; 2],
    pub stride: [usize; 2],
    pub padding: [usize; 2],
    pub ceil_mode: bool,
}

/// Planes, and the extents of a plane before and after pooling.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct PoolSizes {
    pub n: usize,
    pub c: usize,
    pub h: usize,
    pub w: usize,
    pub oh: usize,
    pub ow: usize,
}

impl Windows {
    /// The sizes for an N x C x H x W input.
    pub(super) fn sizes(&self, op: &'static str, input: Shape) -> Result<PoolSizes, ShapeError> {
        let [n, c, h, w] = input.nchw(op)?;
        let mut out = [0; 2];
        for (axis, (name, extent)) in [("H", h), ("W", w)].into_iter().enumerate() {
            let (kernel, stride, padding) = (self.kernel[axis], self.stride[axis], self.padding[axis]);
            if kernel == 0 || stride == 0 {
                return Err(ShapeError::new(
                    op,
                    format!("window and stride must be at least 1, found {kernel} and {stride}"),
                ));
            }
            if padding > kernel / 2 {
                return Err(ShapeError::new(
                    op,
                    format!("padding {padding} is more than half of a window of {kernel}"),
                ));
            }
            if extent + 2 * padding < kernel {
                let message =
                    format!("a window of {kernel} does not fit {name} = {extent} with padding {padding}");
                return Err(ShapeError::new(op, message));
            }
            let span = extent + 2 * padding - kernel;
            out[axis] = if self.ceil_mode { span.div_ceil(stride) } else { span / stride } + 1;
            // PyTorch: the last window must begin inside of the input or its left padding.
            if self.ceil_mode && (out[axis] - 1) * stride >= extent + padding {
                out[axis] -= 1;
            }
        }
        Ok(PoolSizes { n, c, h, w, oh: out[0], ow: out[1] })
    }

    /// The part `from..to` of the input's rows (axis 0) or columns (axis 1) under the window at output position `out`.
    pub(super) fn span(&self, axis: usize, out: usize, extent: usize) -> (usize, usize) {
        let start = out * self.stride[axis];
        let from = start.saturating_sub(self.padding[axis]);
        let to = (start + self.kernel[axis]).saturating_sub(self.padding[axis]).min(extent);
        (from, to)
    }
}
