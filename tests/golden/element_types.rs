//! Weights of 16 and 64 bits: the numbers that PyTorch's own conversion makes of them.

use nin::checkpoint::load_tensors;
use nin::tensor::Tensor;

use super::file;

#[test]
fn other_widths_become_the_same_numbers() {
    let (tensors, _) = load_tensors(&file("element_types.safetensors")).unwrap();
    assert_eq!(tensors.len(), 6);
    let bits = |tensor: &Tensor<f32>| tensor.data().iter().map(|x| x.to_bits()).collect::<Vec<_>>();
    for name in ["half", "bfloat16", "double"] {
        let [found, expected] = ["input", "output"].map(|part| bits(&tensors[&format!("{name}.{part}")]));
        assert_eq!(found.len(), 16 + 3 * 48);
        assert_eq!(found, expected, "{name}");
    }
}
