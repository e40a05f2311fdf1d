//! The beginning of a run: its network, which parameters learn, what its images go through, its weights.

use std::sync::Arc;

use autograd::{AutogradError, Context, Graph, Plan};
use tensor::{BufferPool, Shape, ShapeError, Tensor, ops};

use super::error::TrainError;
use super::settings::Settings;
use super::workers::Workers;
use crate::card::ModelCard;
use crate::data::whiten::{self, Whiten, Whitening};
use crate::data::{Augmentation, DataLoader, Dataset, LoaderOptions, Normalization, Splits, Target};
use crate::disk::content;
use crate::names::count_of;
use crate::nn::{
    Module, Parameter, Sequential, bound, check_names, freeze, output_shape, parameters, parameters_mut,
};
use crate::optim::matches;
use crate::weights_file::load_tensors;

/// Images that the data-dependent start looks at, at most: enough for each channel's mean and deviation where maps are one pixel.
const DATA_IMAGES: usize = 64;

/// Bytes of their maps that are in memory at once, at most, but for one image's, which may have more.
const DATA_BYTES: usize = 256 << 20;

/// The most names of parameters in an error.
const NAMES: usize = 8;

/// The number, among the parameters, of the bias of the convolution that makes the class maps: the last one's.
pub(super) fn class_map_bias(model: &dyn Module<f32>, settings: &Settings) -> Option<usize> {
    let last = parameters(model).iter().rposition(|(_, parameter)| parameter.value.shape().len() == 4);
    last.filter(|_| settings.model.has_class_maps()).map(|weight| weight + 1)
}

/// Gives the convolution that makes the class maps the configured start: smaller weights, and a bias that opens its ReLU for
/// every class. A fully connected layer behind it keeps its own start.
pub(super) fn scale_head(model: &mut dyn Module<f32>, settings: &Settings) {
    let Some(bias) = class_map_bias(model, settings) else { return };
    let mut all = parameters_mut(model);
    for value in all[bias - 1].1.value.data_mut() {
        *value *= settings.head_scale as f32;
    }
    for value in all[bias].1.value.data_mut() {
        *value = *value * settings.head_scale as f32 + settings.head_bias as f32;
    }
}

/// The number of images to [`initialize_by_data`] with. `image` is the shape of one, 1 x C x H x W: fewer of those that make
/// large maps, of which each channel has many values.
///
/// # Errors
/// [`TrainError`] if the network does not fit the image.
pub(super) fn images_to_initialize_on(model: &dyn Module<f32>, image: Shape) -> Result<usize, TrainError> {
    let graph = Graph::trace(&Context::evaluation(BufferPool::new()), image, |x| model.forward(x))?;
    let bytes = Plan::unfused(graph).peak_elements().saturating_mul(size_of::<f32>());
    Ok((DATA_BYTES / bytes.max(1)).clamp(1, DATA_IMAGES))
}

/// Initializes by data, as LSUV does (Mishkin and Matas 2016): scales and shifts every convolution with a new weight (`new`:
/// their identities), in the order of the layers, so that each channel of its output has mean 0 and standard deviation 1 over
/// these images and their pixels: no unit begins dead, none begins as a constant, and what tells two images apart is as large at
/// the end of the network as at its beginning. Layers of other kinds stay as they are.
///
/// # Errors
/// [`TrainError`] if the network does not fit the images.
pub(super) fn initialize_by_data(
    model: &mut dyn Module<f32>,
    images: Tensor<f32>,
    workers: &Workers,
    new: &[u64],
) -> Result<(), TrainError> {
    // A pool of its own, so that its memory is given back.
    let context = Context { conv: workers.conv, parallel: true, ..Context::evaluation(BufferPool::new()) };
    let graph = Graph::trace(&context, images.shape(), |x| model.forward(x))?;
    let bound = bound(model, Arc::new(Plan::unfused(graph)), &context);
    let graph = bound.plan().graph();
    // The parameters of each convolution, with the moments of its channels.
    let mut found = Vec::new();
    workers.install(|| {
        bound.visit(&context, images, |index, y| {
            let node = &graph.nodes()[index];
            if node.op::<ops::Conv2d>().is_some() {
                let of = |input: usize| graph.nodes()[input].parameter();
                let own: Vec<u64> = node.inputs().iter().skip(1).filter_map(|&input| of(input)).collect();
                if new.contains(&own[0]) {
                    found.push((own, standardize_channels(y)));
                }
            }
        })
    });
    // The weights have one owner again: they change in their place.
    drop(bound);
    for (_, parameter) in parameters_mut(model) {
        let Some((own, moments)) = found.iter().find(|(own, _)| own.contains(&parameter.identity)) else {
            continue;
        };
        let is_bias = own[0] != parameter.identity;
        let per_channel = parameter.value.len() / moments.len();
        let rows = parameter.value.data_mut().chunks_mut(per_channel);
        for (row, &(mean, deviation)) in rows.zip(moments) {
            for value in row {
                let shift = if is_bias { mean } else { 0.0 };
                *value = ((f64::from(*value) - shift) / deviation) as f32;
            }
        }
    }
    Ok(())
}

/// Brings each channel of N x C x H x W to mean 0 and standard deviation 1, and answers what they were. A channel that is the
/// same everywhere is only shifted.
fn standardize_channels(y: &mut Tensor<f32>) -> Vec<(f64, f64)> {
    let [_, channels, height, width] = y.shape().nchw("standardize").expect("it is a convolution's output");
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
    moments
}

/// The whitening of whole images: that of the weights that the run begins with, if it is ZCA and they have one, or else what fits
/// the training images. The weights' own must be of the run's kind.
pub(super) fn whitening(settings: &Settings, train: &dyn Dataset) -> Result<Option<Whitening>, TrainError> {
    if let Some(file) = &settings.init_from {
        let (mut tensors, text) = load_tensors(file)?;
        let card = ModelCard::of_text(&text).transpose();
        let card = card.map_err(|error| content(file, format!("a broken card: {error}")))?;
        if let Some(kind) =
            card.and_then(|card| card.whitening).filter(|kind| *kind != settings.whiten.name())
        {
            let expected = format!("{kind}, as the weights of {} had it", file.display());
            return Err(TrainError::setting("whiten", expected, settings.whiten));
        }
        let tensors = whiten::taken(&mut tensors);
        if settings.whiten == Whiten::GcnZca && !tensors.is_empty() {
            let own = Whitening::of_tensors(settings.whiten, train.image_shape(), tensors);
            return own.map_err(|reason| content(file, reason).into());
        }
    }
    Ok(Whitening::fit(settings.whiten, train)?)
}

/// The most threads that prepare batches.
const LOADERS: usize = 4;

/// Images of a test batch: enough to keep all threads busy, few enough to take less memory than a step. No result depends on it
/// but the last bits of the loss, which is summed in f32 within a batch.
const TEST_BATCH: usize = 64;

/// The loaders of the training images and of those that the run is judged by, which are not varied, as the settings say.
///
/// # Errors
/// [`TrainError`] if the images cannot be read or cannot be brought to numbers as the settings say.
pub(super) fn loaders(
    settings: &Settings,
    images: Splits<Arc<dyn Dataset>>,
    whitening: Option<Whitening>,
    workers: &Workers,
) -> Result<Splits<DataLoader>, TrainError> {
    let Splits { train, test } = images;
    let (side, [_, h, w]) = (settings.image_size, train.image_shape());
    if settings.whiten != Whiten::None && [h, w] != [side; 2] {
        let expected = format!("{h} x {w}, the images' own size, at which they are whitened");
        return Err(TrainError::setting("image_size", expected, side));
    }
    let normalization = settings.normalize.then(|| workers.install(|| Normalization::of(&*train)));
    let options = LoaderOptions {
        batch_size: settings.batch_size,
        image_size: Some((side, side)),
        shuffle: settings.shuffle,
        drop_last: settings.drop_last,
        seed: settings.seed,
        normalization: normalization.transpose()?,
        whitening: whitening.map(Arc::new),
        augmentation: settings.augment.clone(),
        // Of images in memory, one thread is ahead by itself; files may have to be decoded.
        workers: workers.threads().clamp(1, LOADERS),
    };
    let of_test = LoaderOptions {
        shuffle: false,
        drop_last: false,
        batch_size: TEST_BATCH,
        augmentation: Augmentation::default(),
        ..options.clone()
    };
    Ok(Splits { train: DataLoader::new(train, options)?, test: DataLoader::new(test, of_test)? })
}

/// Refuses parts with which no step can be made, or none can learn.
///
/// # Errors
/// [`TrainError::Config`] of loaders without a batch, of two parameters of one name, and of several layers whose weights are all
/// zeros: every gradient of theirs would be, too. [`TrainError::Shape`] if the network does not fit the images of one.
pub(super) fn check_parts(model: &dyn Module<f32>, loaders: &Splits<DataLoader>) -> Result<(), TrainError> {
    for (loader, images) in [(&loaders.train, "training"), (&loaders.test, "test")] {
        if loader.batches_per_epoch() == 0 {
            let expected = format!("at least {} {images} images", loader.options().batch_size);
            return Err(TrainError::setting("drop_last", expected, loader.dataset().len()));
        }
        // Test images that do not fit would be found after an epoch.
        let [c, h, w] = loader.image_shape();
        output_shape(model, Shape::from([1, c, h, w])).map_err(|error| match error {
            AutogradError::Shape(ShapeError { op, message }) => {
                ShapeError::new(op, format!("{message} ({images} images of {c} x {h} x {w})")).into()
            }
            error => TrainError::from(error),
        })?;
    }
    let all = parameters(model);
    check_names(all.iter().map(|(name, _)| name)).map_err(TrainError::Config)?;
    check_weights(all.into_iter().map(|(_, own)| own))
}

/// Refuses several layers whose weights are all zeros, as layers are made: every gradient of theirs would be, too.
///
/// # Errors
/// [`TrainError::Config`] of such.
pub(super) fn check_weights<'a>(
    parameters: impl Iterator<Item = &'a Parameter<f32>>,
) -> Result<(), TrainError> {
    let weights: Vec<_> = parameters.map(|own| &own.value).filter(|value| value.shape().len() > 1).collect();
    if weights.len() > 1 && weights.iter().all(|value| value.data().iter().all(|&weight| weight == 0.0)) {
        let message = "all weights are zeros, and would stay so: `nn::initialize` the network first";
        return Err(TrainError::Config(message.to_owned()));
    }
    Ok(())
}

/// Tells of which images the targets are classes. One may learn from probabilities and be judged by classes.
///
/// # Errors
/// [`TrainError::Data`] as [`Dataset::target`].
pub(super) fn are_classes(loaders: &Splits<DataLoader>) -> Result<Splits<bool>, TrainError> {
    let are =
        |loader: &DataLoader| loader.dataset().target(0).map(|target| matches!(target, Target::Class(_)));
    Ok(Splits { train: are(&loaders.train)?, test: are(&loaders.test)? })
}

/// Freezes the parameters that the settings say, and checks that their patterns are of some that learn.
pub(super) fn choose_parameters(settings: &Settings, model: &mut dyn Module<f32>) -> Result<(), TrainError> {
    let check = |setting: &str, pattern: &str, model: &dyn Module<f32>| {
        let learning = parameters(model).into_iter().filter(|(_, own)| own.requires_grad);
        let names: Vec<String> = learning.map(|(name, _)| name).collect();
        if names.iter().any(|name| matches(pattern, name)) {
            return Ok(());
        }
        let mut some = names[..names.len().min(NAMES)].join(", ");
        if names.len() > NAMES {
            some += &format!(" and {} more", names.len() - NAMES);
        }
        let message = format!("{setting}: no parameter that learns matches {pattern:?}; there are: {some}");
        Err(TrainError::Config(message))
    };
    let frozen = settings.freeze.iter().flat_map(|patterns| &patterns.0);
    frozen.clone().try_for_each(|pattern| check("freeze", pattern, model))?;
    for pattern in frozen {
        freeze(model, pattern);
    }
    if let Some(patterns) = &settings.freeze
        && !parameters(model).iter().any(|(_, own)| own.requires_grad)
    {
        return Err(TrainError::setting("freeze", "some parameter that is left to learn", patterns));
    }
    let factors: Vec<&str> =
        settings.lr_of.iter().flat_map(|factors| &factors.0).map(|group| group.pattern.as_str()).collect();
    for (at, pattern) in factors.iter().enumerate() {
        check("lr_of", pattern, model)?;
        // A parameter belongs to the first group that has it.
        let own =
            |name: &str| matches(pattern, name) && !factors[..at].iter().any(|other| matches(other, name));
        if !parameters(model).iter().any(|(name, parameter)| parameter.requires_grad && own(name)) {
            let message =
                format!("lr_of: all that matches {pattern:?} belongs to a pattern before it already");
            return Err(TrainError::Config(message));
        }
    }
    Ok(())
}

/// The network for a data set.
pub(super) fn network(
    settings: &Settings,
    train: &dyn Dataset,
    test: &dyn Dataset,
) -> Result<Sequential<f32>, TrainError> {
    let of = |set: &dyn Dataset| (set.image_shape()[0], set.class_names().len());
    let ((channels, classes), (test_channels, test_classes)) = (of(train), of(test));
    if of(train) != of(test) {
        return Err(TrainError::Config(format!(
            "{} does not fit the data: the {} images have {channels} channels and {classes} classes, the {} images \
             {test_channels} and {test_classes}",
            settings.model,
            train.name(),
            test.name(),
        )));
    }
    if classes < 2 {
        let name = train.name();
        let found = count_of(classes as u64, "named class");
        let message = format!("{name} has {found}, a network needs at least 2 to tell apart");
        return Err(TrainError::Config(message));
    }
    settings.network(channels, classes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::models::Model;
    use crate::nn::{AdaptiveAvgPool2d, Conv2d, Flatten, Linear, MaxPool2d, Relu, initialize};
    use tensor::init::Init;

    fn network() -> Sequential<f32> {
        let block =
            Sequential::new().with(Conv2d::new(2, 6, 3, 1, 1)).with(Relu).with(Conv2d::new(6, 5, 1, 1, 0));
        let mut all = Sequential::new()
            .with(block.with(Relu))
            .with(MaxPool2d::new(3, 2))
            .with(Sequential::new().with(Conv2d::new(5, 4, 3, 1, 0)))
            .with(AdaptiveAvgPool2d::GLOBAL)
            .with(Flatten)
            .with(Linear::new(4, 3));
        initialize(&mut all, Init::XavierUniform, Init::Constant(0.3), 5);
        all
    }

    /// The identities of the weights of its convolutions.
    fn weights(network: &Sequential<f32>) -> Vec<u64> {
        let all = parameters(network).into_iter().filter(|(_, own)| own.value.shape().len() == 4);
        all.map(|(_, own)| own.identity).collect()
    }

    fn images() -> Tensor<f32> {
        Tensor::from_fn([6, 2, 9, 9], |i| 3.0 + ((i * 7919 % 1013) as f32 / 200.0).sin())
    }

    /// The output of each convolution.
    fn convolved(network: &Sequential<f32>) -> Vec<Tensor<f32>> {
        let context = Context::evaluation(BufferPool::new());
        let graph = Graph::trace(&context, images().shape(), |x| network.forward(x)).unwrap();
        let bound = bound(network, Arc::new(Plan::unfused(graph)), &context);
        let graph = bound.plan().graph();
        let mut all = Vec::new();
        bound.visit(&context, images(), |index, y| {
            if graph.nodes()[index].op::<ops::Conv2d>().is_some() {
                all.push(y.clone());
            }
        });
        all
    }

    #[test]
    fn every_channel_of_every_convolution_is_standardized() {
        let mut network = network();
        let linear = |network: &Sequential<f32>| {
            let last = parameters(network).into_iter().rev().take(2);
            last.map(|(_, own)| own.value.clone()).collect::<Vec<_>>()
        };
        let before = linear(&network);
        let (weights, workers) = (weights(&network), Workers::new(2).unwrap());
        initialize_by_data(&mut network, images(), &workers, &weights).unwrap();
        let mut outputs = convolved(&network);
        assert_eq!(outputs.len(), 3);
        for output in &mut outputs {
            for (mean, deviation) in standardize_channels(output) {
                assert!(mean.abs() < 1e-4 && (deviation - 1.0).abs() < 1e-3, "{mean} {deviation}");
            }
        }
        assert_eq!(before, linear(&network), "a fully connected layer keeps its start");
    }

    /// The second of three is new: it is standardized behind the first as that is, and the others stay.
    #[test]
    fn weights_from_a_file_stay_as_they_are() {
        let (mut network, workers) = (network(), Workers::new(2).unwrap());
        let before = convolved(&network);
        let new = weights(&network)[1];
        initialize_by_data(&mut network, images(), &workers, &[new]).unwrap();
        let mut outputs = convolved(&network);
        assert_eq!(outputs[0], before[0]);
        assert!(standardize_channels(&mut outputs[1]).iter().all(|(mean, _)| mean.abs() < 1e-4));
        assert!(standardize_channels(&mut outputs[2]).iter().any(|(mean, _)| mean.abs() > 0.1));
    }

    /// At the sizes that they were made for, all of our networks look at as many; far above, their maps would take gigabytes.
    #[test]
    fn networks_of_large_maps_are_initialized_by_fewer_images() {
        let images = |model: Model, side| {
            let network = model.build::<f32>(1, 10, 0.5);
            images_to_initialize_on(&network, Shape::from([1, 1, side, side])).unwrap()
        };
        assert_eq!(
            [(Model::Nin, 224), (Model::NinCifar, 28)].map(|(model, side)| images(model, side)),
            [64; 2]
        );
        assert_eq!([224, 2048].map(|side| images(Model::NinCifar, side)), [3, 1]);
    }

    #[test]
    fn a_channel_without_any_difference_is_only_shifted() {
        let mut y = Tensor::from_fn([2, 2, 1, 2], |i| if i % 4 < 2 { 7.0 } else { i as f32 });
        let moments = standardize_channels(&mut y);
        assert_eq!(moments[0], (7.0, 1.0));
        assert_eq!(moments[1], (4.5, 4.25f64.sqrt()));
        assert_eq!([y.data()[0], y.data()[1], y.data()[4]], [0.0; 3]);
    }
}
