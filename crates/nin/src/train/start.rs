//! The weights that a run begins with.

use autograd::{Context, Tape};
use tensor::{BufferPool, ShapeError, Tensor};

use super::error::TrainError;
use super::lanes::Lanes;
use super::settings::Settings;
use crate::nn::{Sequential, parameters, parameters_mut};
use crate::summary::leaves;

/// The number, among the parameters, of the bias of the convolution that makes the class maps: the last one's.
pub(super) fn class_map_bias(model: &Sequential<f32>, settings: &Settings) -> Option<usize> {
    let last = parameters(model).iter().rposition(|(_, parameter)| parameter.value.shape().len() == 4);
    last.filter(|_| settings.model.has_class_maps()).map(|weight| weight + 1)
}

/// Gives the convolution that makes the class maps the configured start: smaller weights, and a bias that opens its ReLU for
/// every class. A fully connected layer behind it keeps its own start.
pub(super) fn scale_head(model: &mut Sequential<f32>, settings: &Settings) {
    let Some(bias) = class_map_bias(model, settings) else { return };
    let mut all = parameters_mut(model);
    for value in all[bias - 1].1.value.data_mut() {
        *value *= settings.head_scale as f32;
    }
    for value in all[bias].1.value.data_mut() {
        *value = *value * settings.head_scale as f32 + settings.head_bias as f32;
    }
}

/// Scales and shifts every convolution, in the order of the layers, so that each channel of its output has mean 0 and standard
/// deviation 1 over these images and their pixels: no unit begins dead, none begins as a constant, and what tells two images
/// apart is as large at the end of the network as at its beginning. Layers of other kinds stay as they are.
///
/// # Errors
/// [`TrainError`] if the network does not fit the images.
pub(super) fn standardise(
    model: &mut Sequential<f32>,
    images: Tensor<f32>,
    lanes: &Lanes,
) -> Result<(), TrainError> {
    // Of its own, so that its memory is given back.
    let pool = BufferPool::new();
    let mut x = images;
    for index in 0..leaves(model).len() {
        let (path, mut y, convolves) = {
            let all = leaves(model);
            let (path, layer) = &all[index];
            let context = Context { conv: lanes.conv, parallel: true, ..Context::evaluation(pool.clone()) };
            let convolves = layer.convolution(x.shape()).is_some();
            let y = lanes.install(|| {
                let tape = Tape::new(context);
                let y = layer.forward(tape.constant(x))?;
                Ok::<_, TrainError>(y.into_value())
            })?;
            (path.clone(), y, convolves)
        };
        if convolves {
            let moments = standardise_channels(&mut y)?;
            for (name, parameter) in parameters_mut(model) {
                let Some(own) = name.strip_prefix(&path).and_then(|rest| rest.strip_prefix('.')) else {
                    continue;
                };
                let per_channel = parameter.value.len() / moments.len();
                for (row, &(mean, deviation)) in
                    parameter.value.data_mut().chunks_mut(per_channel).zip(&moments)
                {
                    for value in row {
                        let shift = if own == "bias" { mean } else { 0.0 };
                        *value = ((f64::from(*value) - shift) / deviation) as f32;
                    }
                }
            }
        }
        x = y;
    }
    Ok(())
}

/// Brings each channel of N x C x H x W to mean 0 and standard deviation 1, and answers what they were. A channel that is the
/// same everywhere is only shifted.
fn standardise_channels(y: &mut Tensor<f32>) -> Result<Vec<(f64, f64)>, ShapeError> {
    let [_, channels, height, width] = y.shape().nchw("standardise")?;
    let (pixels, image) = (height * width, channels * height * width);
    let mut moments = Vec::with_capacity(channels);
    for channel in 0..channels {
        let planes =
            || y.data().chunks(image).flat_map(|image| &image[channel * pixels..(channel + 1) * pixels]);
        let count = planes().count() as f64;
        let mean = planes().map(|&v| f64::from(v)).sum::<f64>() / count;
        let variance = planes().map(|&v| (f64::from(v) - mean).powi(2)).sum::<f64>() / count;
        moments.push((mean, if variance > 1e-12 { variance.sqrt() } else { 1.0 }));
    }
    for image in y.data_mut().chunks_mut(image) {
        for (plane, &(mean, deviation)) in image.chunks_mut(pixels).zip(&moments) {
            for value in plane {
                *value = ((f64::from(*value) - mean) / deviation) as f32;
            }
        }
    }
    Ok(moments)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::nn::{Conv2d, Flatten, GlobalAvgPool2d, Linear, MaxPool2d, Module, Relu, initialise};
    use tensor::init::Init;

    fn network() -> Sequential<f32> {
        let block =
            Sequential::new().with(Conv2d::new(2, 6, 3, 1, 1)).with(Relu).with(Conv2d::new(6, 5, 1, 1, 0));
        let mut all = Sequential::new()
            .with(block.with(Relu))
            .with(MaxPool2d::new(3, 2))
            .with(Sequential::new().with(Conv2d::new(5, 4, 3, 1, 0)))
            .with(GlobalAvgPool2d)
            .with(Flatten)
            .with(Linear::new(4, 3));
        initialise(&mut all, Init::XavierUniform, Init::Constant(0.3), 5);
        all
    }

    fn images() -> Tensor<f32> {
        Tensor::from_fn([6, 2, 9, 9], |i| 3.0 + ((i * 7919 % 1013) as f32 / 200.0).sin())
    }

    /// The outputs of the layers, one after the other.
    fn outputs(network: &Sequential<f32>) -> Vec<(bool, Tensor<f32>)> {
        let mut x = images();
        let layers = leaves(network);
        let forward = |(_, layer): &(String, &dyn Module<f32>)| {
            let convolves = layer.convolution(x.shape()).is_some();
            let tape = Tape::new(Context::evaluation(BufferPool::new()));
            x = layer.forward(tape.constant(x.clone())).unwrap().into_value();
            (convolves, x.clone())
        };
        layers.iter().map(forward).collect()
    }

    #[test]
    fn every_channel_of_every_convolution_is_standardised() {
        let mut network = network();
        let linear: Vec<f32> =
            parameters(&network).iter().rev().take(2).flat_map(|own| own.1.value.data().to_vec()).collect();
        standardise(&mut network, images(), &Lanes::new(2).unwrap()).unwrap();
        let mut convolutions = 0;
        for (convolves, mut output) in outputs(&network) {
            if convolves {
                convolutions += 1;
                for (mean, deviation) in standardise_channels(&mut output).unwrap() {
                    assert!(mean.abs() < 1e-4 && (deviation - 1.0).abs() < 1e-3, "{mean} {deviation}");
                }
            }
        }
        assert_eq!(convolutions, 3);
        let after: Vec<f32> =
            parameters(&network).iter().rev().take(2).flat_map(|own| own.1.value.data().to_vec()).collect();
        assert_eq!(linear, after, "a fully connected layer keeps its start");
    }

    #[test]
    fn the_start_does_not_depend_on_the_threads() {
        let start = |threads| {
            let mut network = network();
            standardise(&mut network, images(), &Lanes::new(threads).unwrap()).unwrap();
            let bits = |value: &f32| value.to_bits();
            parameters(&network)
                .iter()
                .flat_map(|own| own.1.value.data().iter().map(bits).collect::<Vec<_>>())
                .collect::<Vec<u32>>()
        };
        assert_eq!(start(1), start(3));
    }

    #[test]
    fn a_channel_without_any_difference_is_only_shifted() {
        let mut y = Tensor::from_fn([2, 2, 1, 2], |i| if i % 4 < 2 { 7.0 } else { i as f32 });
        let moments = standardise_channels(&mut y).unwrap();
        assert_eq!(moments[0], (7.0, 1.0));
        assert_eq!(moments[1], (4.5, 4.25f64.sqrt()));
        assert_eq!([y.data()[0], y.data()[1], y.data()[4]], [0.0; 3]);
    }
}
