//! A convolution and the 1x1 convolutions after it as one op: the paper's mlpconv layer.

use super::conv2d::{self, Conv2d, Saved};
use crate::{Context, Element, Op, Shape, ShapeError, Sinks, Tensor, ensure};

/// Convolutions one after the other, each with a bias and perhaps its ReLU, of which all but the first are meant to be 1x1: a
/// small fully connected network that slides over the pixels (Lin, Chen and Yan 2014, arXiv 1312.4400, section 3.1).
///
/// The inputs are x (N x C x H x W), and then w (O x C/groups x KH x KW) and b (O) of each layer; the output is the last
/// layer's. Output and gradients are those of [`Conv2d`]s one after the other. What the op gains is that the maps between them
/// stay in the cache: see `conv::chain`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MlpConv {
    /// The layers, in their order.
    pub layers: Vec<Conv2d>,
}

impl<T: Element> Op<T> for MlpConv {
    type Saved = Saved<T>;

    const NAME: &'static str = "mlp_conv";

    /// The layers' own descriptions, one after the other.
    fn describe(&self, inputs: &[Shape]) -> String {
        let weights = inputs.get(1..).unwrap_or_default().chunks(2);
        let layers = self.layers.iter().zip(weights);
        let all = layers.map(|(layer, own)| Op::<T>::describe(layer, &[inputs[0], own[0]]));
        all.collect::<Vec<_>>().join(", ")
    }

    fn flops(&self, inputs: &[Shape]) -> u64 {
        let mut x = inputs[0];
        let flops = |(layer, &weight): (&Conv2d, _)| {
            let geometry = layer.geometry(x, weight).expect("the shapes were checked");
            x = geometry.output_shape();
            geometry.flops()
        };
        self.layers.iter().zip(inputs[1..].iter().step_by(2)).map(flops).fold(0, u64::saturating_add)
    }

    fn output_shape(&self, inputs: &[Shape]) -> Result<Shape, ShapeError> {
        let (expected, found) = (1 + 2 * self.layers.len(), inputs.len());
        ensure!(
            "mlp_conv",
            found == expected && expected > 1,
            "expects x and the w and b of one or more layers ({expected} inputs), found {found}"
        );
        let (layers, parameters) = (self.layers.iter(), inputs[1..].chunks_exact(2));
        layers.zip(parameters).enumerate().try_fold(inputs[0], |x, (index, (layer, parameters))| {
            let shape = Op::<T>::output_shape(layer, &[x, parameters[0], parameters[1]]);
            shape.map_err(|error| ShapeError::new("mlp_conv", format!("layer {index}: {}", error.message)))
        })
    }

    fn forward(&self, context: &Context, inputs: Vec<Tensor<T>>) -> (Tensor<T>, Saved<T>) {
        conv2d::forward(&self.layers, context, inputs)
    }

    fn backward(&self, context: &Context, saved: Saved<T>, dy: Tensor<T>, sinks: &mut Sinks<'_, T>) {
        conv2d::backward(&self.layers, context, saved, dy, sinks);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::conv::ConvAlgorithm;
    use crate::testing::{check_gradients, check_some_gradients, poisoned, random, refusal};

    fn relu(relu: bool) -> Conv2d {
        Conv2d { relu, ..Conv2d::default() }
    }

    /// x and the parameters of layers from so many channels to so many, with the first layer's window.
    fn inputs(x: [usize; 4], channels: &[usize], window: [usize; 2]) -> Vec<Tensor<f64>> {
        let mut inputs = vec![random(x, 1)];
        for (index, &outputs) in channels.iter().enumerate() {
            let (c_in, [kh, kw]) = if index == 0 { (x[1], window) } else { (channels[index - 1], [1, 1]) };
            inputs.push(random([outputs, c_in, kh, kw], 2 + 2 * index as u64));
            inputs.push(random([outputs], 3 + 2 * index as u64));
        }
        inputs
    }

    #[test]
    fn gradients() {
        // Without a ReLU, whose kink a central difference may step over; those are compared below.
        let plain = MlpConv { layers: vec![Conv2d { padding: [1, 0], ..relu(false) }, relu(false)] };
        let values = inputs([2, 2, 4, 3], &[3, 2], [3, 2]);
        check_gradients(&plain, &values);
        check_some_gradients(&plain, &values, &[false, true, true, true, true]);
        check_some_gradients(&plain, &values, &[true, false, true, true, false]);
    }

    #[test]
    fn layers_together_are_layers_one_after_the_other() {
        let stride = |stride, padding| Conv2d { stride: [stride; 2], padding: [padding; 2], ..relu(true) };
        for (layers, values) in [
            // A stem, whose input has no gradient or has one; pointwise layers alone; Winograd before them.
            (vec![stride(3, 0), relu(true), relu(false)], inputs([3, 1, 29, 26], &[9, 11, 10], [5, 5])),
            (vec![stride(2, 2), relu(true)], inputs([2, 3, 13, 17], &[8, 50], [5, 3])),
            (
                vec![relu(true), relu(false), relu(true), relu(true)],
                inputs([3, 5, 11, 9], &[7, 60, 4, 6], [1, 1]),
            ),
            (vec![stride(1, 2), relu(true), relu(true)], inputs([2, 16, 16, 15], &[24, 20, 12], [5, 5])),
            (vec![stride(1, 1), relu(true), relu(false)], inputs([2, 16, 13, 12], &[16, 3, 8], [3, 3])),
            // Maps too wide for one pass.
            (vec![relu(true), relu(true), relu(false)], inputs([1, 400, 5, 3], &[300, 420, 30], [1, 1])),
            (vec![relu(true)], inputs([2, 3, 4, 5], &[6], [1, 1])),
        ] {
            let op = MlpConv { layers };
            let values: Vec<_> = values.iter().map(Tensor::cast::<f32>).collect();
            for conv in [ConvAlgorithm::Auto, ConvAlgorithm::Im2col, ConvAlgorithm::Direct] {
                for parallel in [false, true] {
                    for input in [false, true] {
                        let context = Context { conv, parallel, ..poisoned() };
                        compare(&context, &op, &values, input);
                    }
                }
            }
        }
    }

    /// Output and gradients of the op, and of its layers one by one.
    fn compare(context: &Context, op: &MlpConv, values: &[Tensor<f32>], input: bool) {
        let (y, saved) = op.forward(context, values.to_vec());
        let evaluation = Context { grad_enabled: false, ..context.clone() };
        assert_eq!(op.forward(&evaluation, values.to_vec()).0, y, "{op:?}: without recording");
        let shapes: Vec<_> = values.iter().map(Tensor::shape).collect();
        assert_eq!(Op::<f32>::output_shape(op, &shapes).unwrap(), y.shape());

        let (mut z, mut passed) = (values[0].clone(), Vec::new());
        for (layer, parameters) in op.layers.iter().zip(values[1..].chunks_exact(2)) {
            let (output, saved) =
                layer.forward(context, vec![z, parameters[0].clone(), parameters[1].clone()]);
            passed.push((layer, saved));
            z = output;
        }
        assert_eq!(y, z, "{op:?}: the output");

        let dy = random(y.shape(), 77).cast::<f32>();
        let mut wanted = vec![true; values.len()];
        wanted[0] = input;
        let found = op.gradients(context, saved, dy.clone(), &wanted);
        let (mut gradient, mut expected) = (Some(dy), Vec::new());
        while let Some((layer, saved)) = passed.pop() {
            let input = input || !passed.is_empty();
            let gradients = layer.gradients(context, saved, gradient.take().unwrap(), &[input, true, true]);
            let mut gradients = gradients.into_iter();
            gradient = gradients.next().unwrap();
            expected.splice(0..0, gradients);
        }
        expected.insert(0, gradient);
        assert_eq!(found.len(), expected.len());
        for (index, (found, expected)) in found.iter().zip(&expected).enumerate() {
            let (Some(found), Some(expected)) = (found, expected) else {
                assert!(index == 0 && !input && found.is_none() && expected.is_none());
                continue;
            };
            assert_eq!(found.shape(), expected.shape());
            // A loop nest that a stem goes with cuts the pixels elsewhere, so that sums are rounded otherwise.
            let scale = expected.data().iter().fold(1e-3f32, |most, x| most.max(x.abs()));
            for (found, expected) in found.data().iter().zip(expected.data()) {
                assert!((found - expected).abs() <= 3e-6 * scale, "{op:?}, {index}: {found}, {expected}");
            }
        }
    }

    #[test]
    fn errors_name_the_layer() {
        let error = |inputs: &[&[usize]]| refusal(&MlpConv { layers: vec![relu(true), relu(false)] }, inputs);
        let (x, w, b) = (&[1, 2, 5, 5][..], &[3, 2, 3, 3][..], &[3][..]);
        let expected = "mlp_conv: layer 1: weight expects 2 input channels, input has C = 3";
        assert_eq!(error(&[x, w, b, &[4, 2, 1, 1], &[4]]), expected);
        let expected = "mlp_conv: expects x and the w and b of one or more layers (5 inputs), found 3";
        assert_eq!(error(&[x, w, b]), expected);
    }
}
