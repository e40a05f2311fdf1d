//! Whitening against NumPy's.

use nin::checkpoint::load_tensors;
use nin::data::{ArrayDataset, Image, Whiten, Whitening};
use nin::tensor::{BufferPool, Tensor};

use super::file;

#[test]
fn images_are_whitened_to_the_same_numbers() {
    let (tensors, _) = load_tensors(&file("whitening.safetensors")).unwrap();
    let bytes = |name: &str| tensors[name].data().iter().map(|&pixel| pixel as u8).collect::<Vec<_>>();
    let (shape, count) = ([3, 4, 5], 24);
    let set = ArrayDataset::new(shape, bytes("images"), vec![0usize; count]).unwrap();
    let others = bytes("others");
    let others: Vec<_> = others.chunks(60).map(|image| Image::from(image.to_vec())).collect();
    for kind in [Whiten::Gcn, Whiten::GcnZca] {
        let whitening = Whitening::fit(kind, &set).unwrap().unwrap();
        assert_eq!((whitening.kind(), whitening.image_shape()), (kind, shape));
        let close = |found: &Tensor<f32>, expected: &Tensor<f32>, what: &str| {
            let largest = expected.data().iter().fold(0.0f32, |largest, value| largest.max(value.abs()));
            assert_eq!(found.len(), expected.len(), "{kind}: {what}");
            for (found, expected) in found.data().iter().zip(expected.data()) {
                assert!(
                    (found - expected).abs() <= 2e-6 * largest,
                    "{kind}, {what}: {found}, NumPy {expected}"
                );
            }
        };
        let expected = &tensors[&format!("others.{kind}")];
        close(&whitening.apply(BufferPool::global(), others.iter()).unwrap(), expected, "images");
    }
}
