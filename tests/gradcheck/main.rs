//! Gradients against differences of the outputs, and layers that are one another under another name.

mod ops;
mod pointwise;
