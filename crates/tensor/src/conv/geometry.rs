//! The sizes of a two-dimensional convolution, and the rule that derives the output's.

use super::Pass;
use crate::shape::{Shape, ShapeError, ensure};

/// The sizes of a convolution of an N x C x H x W input with an O x C/groups x KH x KW weight.
///
/// Pairs are (vertical, horizontal). Only [`ConvGeometry::new`] makes one: kernels rely on sizes that fit together, and whose
/// products fit into an address space.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct ConvGeometry {
    /// N: images.
    pub(crate) n: usize,
    /// C: input channels.
    pub(crate) c_in: usize,
    /// H and W: rows and columns of the input.
    pub(crate) input: [usize; 2],
    /// O: output channels.
    pub(crate) c_out: usize,
    /// KH and KW: the window.
    pub(crate) kernel: [usize; 2],
    /// The step of the window over the input.
    pub(crate) stride: [usize; 2],
    /// Zeros added on each side.
    pub(crate) padding: [usize; 2],
    /// The step between the window's elements.
    pub(crate) dilation: [usize; 2],
    /// Groups: output channels of one group see only that group's C / groups input channels.
    pub(crate) groups: usize,
}

/// The extent of an image with its padding.
pub(crate) fn padded(extent: usize, padding: usize) -> usize {
    extent.saturating_add(padding.saturating_mul(2))
}

/// Tells whether the product of these extents, zeros left out, fits into an address space.
pub(crate) fn addressable<const N: usize>(extents: [usize; N]) -> bool {
    extents.into_iter().fold(1, |all: usize, extent| all.saturating_mul(extent.max(1))) <= isize::MAX as usize
}

/// The number of windows along an axis, H or W: floor, or with `ceil` ceil, of (extent + 2 padding - window) / stride, plus 1.
///
/// # Errors
/// [`ShapeError`] of `op` if none fits.
pub(crate) fn windows_along(
    op: &'static str,
    (name, extent): (&str, usize),
    window: usize,
    stride: usize,
    padding: usize,
    ceil: bool,
) -> Result<usize, ShapeError> {
    let room = padded(extent, padding).saturating_add(if ceil { stride - 1 } else { 0 });
    let fits = extent > 0 && room >= window;
    ensure!(op, fits, "a window of {window} does not fit {name} = {extent} with padding {padding}");
    Ok((room - window) / stride + 1)
}

impl ConvGeometry {
    /// Checks the sizes and returns them together.
    ///
    /// `weight` is O x C/groups x KH x KW.
    ///
    /// # Errors
    /// [`ShapeError`] naming the axis and sizes: wrong numbers of axes, channels that do not match or do not divide into
    /// groups, a zero other than N, a window larger than the padded input.
    pub fn new(
        input: Shape,
        weight: Shape,
        stride: [usize; 2],
        padding: [usize; 2],
        dilation: [usize; 2],
        groups: usize,
    ) -> Result<Self, ShapeError> {
        let [n, c_in, h, w] = input.nchw("conv2d")?;
        let &[c_out, c_weight, kh, kw] = &*weight else {
            return Err(ShapeError::new("conv2d", format!("weight expects O x C x KH x KW, found {weight}")));
        };
        let empty = [&input[1..], &*weight, &stride, &dilation, &[groups]].iter().any(|all| all.contains(&0));
        ensure!(
            "conv2d",
            !empty,
            "channels, pixels, window, stride, dilation and groups must be at least 1, found input {input}, weight \
             {weight}, {stride:?}, {dilation:?} and {groups}"
        );
        let divide = c_in.is_multiple_of(groups) && c_out.is_multiple_of(groups);
        ensure!("conv2d", divide, "C = {c_in} and O = {c_out} must divide into {groups} groups");
        // The product is at most C/groups x O, which are two extents of the weight.
        let expected = c_weight * groups;
        ensure!("conv2d", c_in == expected, "weight expects {expected} input channels, input has C = {c_in}");
        let geometry =
            Self { n, c_in, input: [h, w], c_out, kernel: [kh, kw], stride, padding, dilation, groups };
        ensure!(
            "conv2d",
            geometry.is_addressable(),
            "input {input}, weight {weight}, padding {padding:?} and dilation {dilation:?} are too large for memory"
        );
        for (axis, extent) in [("H", h), ("W", w)].into_iter().enumerate() {
            windows_along("conv2d", extent, geometry.window(axis), stride[axis], padding[axis], false)?;
        }
        Ok(geometry)
    }

    /// Tells whether every index into the padded input, the output, the weight and a matrix of windows fits into an address
    /// space.
    fn is_addressable(&self) -> bool {
        let [kh, kw] = self.kernel;
        let [h, w] = [0, 1].map(|axis| {
            let window = self.dilation[axis].saturating_mul(self.kernel[axis]);
            padded(self.input[axis], self.padding[axis]).max(window)
        });
        addressable([self.n, self.c_in.max(self.c_out), h, w, kh, kw, size_of::<f64>()])
    }

    /// The extent that the dilated window spans along an axis (0 vertical, 1 horizontal).
    pub(crate) fn window(&self, axis: usize) -> usize {
        self.dilation[axis] * (self.kernel[axis] - 1) + 1
    }

    /// Rows and columns of the input with its padding.
    pub(crate) fn padded(&self) -> [usize; 2] {
        [0, 1].map(|axis| self.input[axis] + 2 * self.padding[axis])
    }

    /// OH and OW, rows and columns of the output: floor((H + 2 padding - window) / stride) + 1.
    pub(crate) fn output(&self) -> [usize; 2] {
        [0, 1].map(|axis| (self.padded()[axis] - self.window(axis)) / self.stride[axis] + 1)
    }

    /// Pixels of one output plane.
    pub(crate) fn out_pixels(&self) -> usize {
        self.output().iter().product()
    }

    /// Pixels of one input plane.
    pub(crate) fn in_pixels(&self) -> usize {
        self.input.iter().product()
    }

    /// Elements of the input.
    pub(crate) fn input_len(&self) -> usize {
        self.n * self.c_in * self.in_pixels()
    }

    /// Elements of the output.
    pub(crate) fn output_len(&self) -> usize {
        self.n * self.c_out * self.out_pixels()
    }

    /// Elements of the weight.
    pub(crate) fn weight_len(&self) -> usize {
        self.c_out * self.patch()
    }

    /// Elements under one window: C/groups x KH x KW, the length of each output element's sum.
    pub(crate) fn patch(&self) -> usize {
        self.c_in / self.groups * self.kernel[0] * self.kernel[1]
    }

    /// N x O x OH x OW.
    #[must_use]
    pub fn output_shape(&self) -> Shape {
        let [oh, ow] = self.output();
        Shape::from([self.n, self.c_out, oh, ow])
    }

    /// N x C x H x W.
    #[must_use]
    pub fn input_shape(&self) -> Shape {
        Shape::from([self.n, self.c_in, self.input[0], self.input[1]])
    }

    /// O.
    pub(crate) fn bias_shape(&self) -> Shape {
        Shape::from([self.c_out])
    }

    /// O x C/groups x KH x KW.
    #[must_use]
    pub fn weight_shape(&self) -> Shape {
        Shape::from([self.c_out, self.c_in / self.groups, self.kernel[0], self.kernel[1]])
    }

    /// Floating-point operations of a direct forward pass, a multiplication and an addition each counting one. The input
    /// gradient and the weight gradient cost as much each.
    #[must_use]
    pub fn flops(&self) -> u64 {
        (2 * self.output_len() as u64).saturating_mul(self.patch() as u64)
    }

    /// Tells whether this is a 1x1 convolution of stride 1 without padding: a plain matrix product over the pixels.
    pub(crate) fn is_pointwise(&self) -> bool {
        self.kernel == [1, 1] && self.stride == [1, 1] && self.padding == [0, 0]
    }

    /// Tells whether every input channel is a group of its own, of several.
    pub(crate) fn is_depthwise(&self) -> bool {
        self.groups > 1 && self.groups == self.c_in
    }

    /// Tells whether the input gradient is a convolution with the flipped kernel.
    pub(crate) fn flips(&self) -> bool {
        !self.is_pointwise()
            && self.stride == [1, 1]
            && (0..2).all(|axis| self.padding[axis] < self.window(axis))
    }

    /// The convolution that a pass is: itself, or that of the output gradient that gives the input gradient, where there is one:
    /// with the kernel flipped, or pointwise.
    pub(crate) fn of(&self, pass: Pass) -> Self {
        match pass {
            Pass::Forward => *self,
            Pass::InputGradient => {
                let padding = [0, 1].map(|axis| self.window(axis) - 1 - self.padding[axis]);
                Self { c_in: self.c_out, input: self.output(), c_out: self.c_in, padding, ..*self }
            }
        }
    }

    /// The input row (axis 0) or column (axis 1) under window element `k` of output position `out`, `None` in the padding.
    #[inline]
    pub(crate) fn source(&self, axis: usize, out: usize, k: usize) -> Option<usize> {
        let padded = out * self.stride[axis] + k * self.dilation[axis];
        padded.checked_sub(self.padding[axis]).filter(|&position| position < self.input[axis])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn geometry(input: [usize; 4], weight: [usize; 4]) -> Result<ConvGeometry, ShapeError> {
        ConvGeometry::new(input.into(), weight.into(), [1, 1], [0, 0], [1, 1], 1)
    }

    #[test]
    fn output_sizes_of_the_network() {
        let stem =
            ConvGeometry::new([8, 1, 224, 224].into(), [96, 1, 11, 11].into(), [3, 3], [0, 0], [1, 1], 1)
                .unwrap();
        assert_eq!(stem.output_shape(), Shape::from([8, 96, 72, 72]));
        assert_eq!(stem.flops(), 8 * 2 * 96 * 121 * 72 * 72);
    }

    #[test]
    fn errors_name_axes_and_sizes() {
        let error = geometry([1, 64, 8, 8], [10, 96, 3, 3]).unwrap_err();
        assert_eq!(error.to_string(), "conv2d: weight expects 96 input channels, input has C = 64");
        let error = geometry([1, 1, 8, 5], [10, 1, 3, 7]).unwrap_err();
        assert_eq!(error.to_string(), "conv2d: a window of 7 does not fit W = 5 with padding 0");
        let error = ConvGeometry::new([1, 3, 8, 8].into(), [4, 1, 3, 3].into(), [1, 1], [0, 0], [1, 1], 2)
            .unwrap_err();
        assert_eq!(error.to_string(), "conv2d: C = 3 and O = 4 must divide into 2 groups");
        assert!(
            ConvGeometry::new([1, 1, 8, 8].into(), [4, 1, 3, 3].into(), [0, 1], [0, 0], [1, 1], 1).is_err()
        );
    }

    #[test]
    fn sizes_that_no_memory_holds_are_refused_and_never_wrap() {
        for (padding, dilation) in [
            ([usize::MAX / 2 + 1, 0], [1, 1]),
            ([0, usize::MAX / 4], [1, 1]),
            ([0, 0], [1, usize::MAX / 2 + 1]),
        ] {
            let (x, w) = ([1, 1, 8, 8].into(), [4, 1, 3, 3].into());
            let error = ConvGeometry::new(x, w, [1, 1], padding, dilation, 1).unwrap_err().to_string();
            assert!(error.ends_with("are too large for memory"), "{error}");
        }
        let wide = Shape::from([0, 1 << 40, 1 << 20, 1]);
        assert!(ConvGeometry::new(wide, [0, 1 << 40, 1, 1].into(), [1, 1], [0, 0], [1, 1], 1).is_err());
    }

    #[test]
    fn what_has_no_channels_or_pixels_is_refused() {
        for (input, weight, groups) in [
            ([1, 0, 8, 8], [4, 0, 3, 3], 1),
            ([1, 3, 8, 8], [0, 3, 3, 3], 1),
            ([1, 0, 8, 8], [0, 2, 3, 3], usize::MAX),
            ([1, 1, 0, 8], [1, 1, 2, 2], 1),
        ] {
            let (input, weight) = (Shape::from(input), Shape::from(weight));
            let error = ConvGeometry::new(input, weight, [1, 1], [1, 1], [1, 1], groups).unwrap_err();
            let expected =
                format!("at least 1, found input {input}, weight {weight}, [1, 1], [1, 1] and {groups}");
            assert!(error.message.ends_with(&expected), "{error}");
        }
    }

    #[test]
    fn more_operations_than_can_be_counted_are_the_most_that_can() {
        let wide = geometry([1, 1 << 20, 1 << 19, 1 << 19], [1 << 20, 1 << 20, 1, 1]).unwrap();
        assert_eq!(wide.flops(), u64::MAX);
    }

    #[test]
    fn sources_leave_out_the_padding() {
        let g =
            ConvGeometry::new([1, 1, 5, 5].into(), [1, 1, 3, 3].into(), [2, 2], [1, 1], [1, 1], 1).unwrap();
        assert_eq!(g.source(0, 0, 0), None);
        assert_eq!(g.source(0, 0, 1), Some(0));
        assert_eq!(g.source(1, 2, 1), Some(4));
        assert_eq!(g.source(1, 2, 2), None);
    }
}
