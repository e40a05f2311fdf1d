//! What the tests of the networks share.

use autograd::{Context, Tape};
use tensor::Tensor;
use tensor::init::Init;

use crate::nn::{Module, Sequential, initialize, output_shape, parameters, parameters_mut};

/// Compares a few elements of every parameter's gradient with central differences, in f64, with fresh weights, for two
/// images of C x H x W. The scalar that is differentiated is a sum of the logits with unequal factors.
pub(super) fn check_gradients(network: &mut Sequential<f64>, [c, h, w]: [usize; 3]) {
    const STEP: f64 = 1e-6;
    let input = [2, c, h, w];
    initialize(network, Init::HeNormal, Init::Constant(0.1), 3);
    // A normalization without a bias is undone by the next one behind a depthwise convolution: its gradient would be zeros.
    for (_, own) in parameters_mut(network) {
        if let (Some(constant), false) = (own.constant, own.is_buffer()) {
            own.value = Tensor::from_fn(own.value.shape(), |i| constant + 0.1 * (1 + i % 3) as f64);
        }
    }
    let x = Tensor::from_fn(input, |i| ((i * 7919 % 1000) as f64) / 500.0 - 1.0);
    let factors = Tensor::from_fn(output_shape(network, input.into()).unwrap(), |i| 1.0 - 0.3 * i as f64);
    let context = Context::default();
    let tape = Tape::new(context.clone());
    let output = network.forward(tape.constant(x.clone())).unwrap();
    let gradients = tape.backward_with(output, factors.clone()).unwrap();
    let total = |network: &Sequential<f64>| -> f64 {
        let tape = Tape::new(context.clone());
        let logits = network.forward(tape.constant(x.clone())).unwrap();
        logits.value().data().iter().zip(factors.data()).map(|(logit, factor)| logit * factor).sum()
    };
    let known: Vec<(usize, String, Vec<f64>)> = parameters(network)
        .into_iter()
        .enumerate()
        .filter(|(_, (_, own))| !own.is_buffer())
        .map(|(index, (name, own))| (index, name, gradients.parameter(own.identity).unwrap().data().to_vec()))
        .collect();
    for (index, name, gradient) in &known {
        let largest = gradient.iter().fold(0.0, |most: f64, g| most.max(g.abs()));
        assert!(largest > 1e-9, "{name}: a gradient of zeros shows nothing");
        for element in (0..gradient.len()).step_by(gradient.len().div_ceil(5)) {
            let mut moved = |step: f64| {
                let mut all = parameters_mut(network);
                let value = &mut all[*index].1.value.data_mut()[element];
                let before = *value;
                *value += step;
                drop(all);
                let sum = total(network);
                parameters_mut(network)[*index].1.value.data_mut()[element] = before;
                sum
            };
            let numeric = (moved(STEP) - moved(-STEP)) / (2.0 * STEP);
            let error = (numeric - gradient[element]).abs() / largest;
            assert!(
                error < 1e-5,
                "{name}, element {element}: {numeric}, backward says {}",
                gradient[element]
            );
        }
    }
}
