//! Ops, networks, optimizers and files against PyTorch.

mod element_types;
mod models;
mod ops;
mod optimizers;
mod whitening;

/// A file of this folder.
fn file(name: &str) -> std::path::PathBuf {
    std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/golden").join(name)
}
