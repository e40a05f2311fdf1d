//! Extents of zero and one, gradients against differences of the outputs, and layers that are one another under another name.

mod extents;
mod ops;
mod pointwise;
