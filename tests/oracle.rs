//! Answers that are not our own: PyTorch's, those of differences, those of other programs that read our ONNX files. One binary,
//! compiled in half the processor time of one for each; `cargo test -p nin --test oracle golden::ops` runs a part of it.

mod golden;
mod gradcheck;
mod onnx;
