//! [`Classifier`]: a trained network in a program of one's own.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use autograd::{AutogradError, Context, Graph, Plan};
use serde::Serialize;
use tensor::{BufferPool, Shape, Tensor, ops};

use crate::card::ModelCard;
use crate::checkpoint::put_all;
use crate::data::normalize::PixelTable;
use crate::data::whiten::{Whitening, taken};
use crate::data::{Image, Picture};
use crate::disk::content;
use crate::nn::{Module, Planned, Sequential, bound};
use crate::train::{TrainError, Workers, refuse_no_numbers, softmax};
use crate::weights_file::{Contents, load_tensors, read_tensors};

/// The most bytes that the maps of images on their way may take: a file is small, whatever size of images its card says.
const MOST_BYTES: u64 = 1 << 30;

/// The most images that are sent through together.
const TOGETHER: u64 = 32;

/// A network with its weights, the names of its classes and the way its images are made, all from one file. It can be shared by
/// threads.
///
/// ```no_run
/// use nin::Classifier;
/// use nin::data::Picture;
///
/// let classifier = Classifier::load("runs/nin-20260101-120000/model.safetensors".as_ref())?;
/// let picture = Picture::new([1, 28, 28], vec![0; 28 * 28])?;
/// for answer in classifier.classify(&picture)?.iter().take(3) {
///     println!("{} {:.3}", answer.name, answer.probability);
/// }
/// # Ok::<(), nin::train::TrainError>(())
/// ```
#[derive(Debug)]
pub struct Classifier {
    source: PathBuf,
    /// Images that are sent through together.
    together: usize,
    card: ModelCard,
    model: Planned<f32, Sequential<f32>>,
    workers: Workers,
    table: PixelTable,
    whitening: Option<Whitening>,
    maps: Option<MapNode>,
}

/// One class's share of an answer.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Answer {
    /// The number of the class.
    pub class: usize,
    /// Its name.
    pub name: String,
    /// The probability of the class, 0 to 1: softmax of the logits.
    pub probability: f64,
}

/// The places in an image where each class was seen: the maps that a Network in Network averages (section 3.2 of Lin, Chen and
/// Yan 2014, figure 4).
#[derive(Debug, Clone)]
pub struct ClassMaps {
    /// K x h x w: the maps of the classes.
    pub maps: Tensor<f32>,
    /// H and W of the image that the network saw.
    pub image: [usize; 2],
    /// Of rows and of columns, the image's coordinate of the middle of what the first number of a map looks at, with 0 at the
    /// image's edge, and the distance to the next.
    pub places: [(f64, f64); 2],
}

/// The first of the maps that a block of a network made of an image.
#[derive(Debug, Clone)]
pub struct BlockMaps {
    /// The block's name, as its parameters' names begin with: `0`.
    pub name: String,
    /// Its ops in their order: `Conv2d(1, 192, 5x5, padding 2)`.
    pub ops: Vec<String>,
    /// C, H and W of all that it made.
    pub shape: [usize; 3],
    /// c x H x W: the first of its C maps.
    pub maps: Tensor<f32>,
}

impl Classifier {
    /// Loads a file of weights with its card, `model.safetensors` of a run. Threads: one for each core.
    ///
    /// # Errors
    /// [`TrainError::File`] if it cannot be read, has no card or not the weights of its card's network.
    pub fn load(path: &Path) -> Result<Self, TrainError> {
        Self::of_contents(load_tensors(path)?, path)
    }

    /// Loads such a file from memory. `source` is the name that errors carry.
    ///
    /// # Errors
    /// As [`Classifier::load`].
    pub fn from_bytes(bytes: &[u8], source: &Path) -> Result<Self, TrainError> {
        Self::of_contents(read_tensors(bytes, source)?, source)
    }

    fn of_contents((mut tensors, text): Contents, source: &Path) -> Result<Self, TrainError> {
        let refuse = |reason: String| TrainError::from(content(source, reason));
        let card = ModelCard::of_text(&text).ok_or_else(|| {
            refuse("no card in it, which would say what network it is of and what its classes are".to_owned())
        })?;
        let card = card.map_err(|error| refuse(format!("a broken card: {error}")))?;
        let mut network = card.network().map_err(|error| refuse(format!("its card's network: {error}")))?;
        let kind = card.whiten().map_err(|error| refuse(format!("its card's whitening: {error}")))?;
        let whitening = Whitening::of_tensors(kind, card.image, taken(&mut tensors)).map_err(refuse)?;
        put_all(source, &mut network, tensors)?;
        let context = Context::evaluation(BufferPool::new());
        let [c, h, w] = card.image;
        let bytes = 4 * network.plan(&context, [1, c, h, w].into())?.peak_elements() as u64;
        if bytes > MOST_BYTES {
            let most = MOST_BYTES >> 30;
            return Err(refuse(format!(
                "the maps of an image of its card, {c} x {h} x {w}, would take {bytes} bytes, expected at most {most} GiB"
            )));
        }
        let table = PixelTable::new(card.image[0], card.normalization.as_ref())
            .map_err(|error| refuse(format!("its card's {error}")))?;
        let maps = map_node(&network, [1, c, h, w].into(), card.classes.len())?;
        let threads = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        let source = source.to_path_buf();
        let together = (MOST_BYTES / bytes.max(1)).clamp(1, TOGETHER) as usize;
        Ok(Self {
            source,
            together,
            card,
            model: Planned::new(network),
            workers: Workers::new(threads)?,
            table,
            whitening,
            maps,
        })
    }

    /// The same classifier on so many threads.
    ///
    /// # Errors
    /// [`TrainError::Config`] of a number that cannot be.
    pub fn with_threads(self, threads: usize) -> Result<Self, TrainError> {
        Ok(Self { workers: Workers::new(threads)?, ..self })
    }

    /// The file's card.
    #[must_use]
    pub fn card(&self) -> &ModelCard {
        &self.card
    }

    /// Tells whether [`Classifier::class_maps`] has maps to show.
    #[must_use]
    pub fn has_class_maps(&self) -> bool {
        self.maps.is_some()
    }

    /// The network.
    #[must_use]
    pub fn network(&self) -> &Sequential<f32> {
        self.model.get()
    }

    /// An image with the network's channels, at its size. It has the answers and maps of the image itself, and takes no more
    /// memory than what the network sees.
    ///
    /// # Errors
    /// [`TrainError::Data`] if the network has neither 1 nor 3 channels.
    pub fn fitted(&self, picture: Picture) -> Result<Picture, TrainError> {
        let [channels, height, width] = self.card.image;
        Ok(picture.with_channels(channels)?.resized([height, width])?)
    }

    /// Images as the network sees them, N x C x H x W: with its channels, at its size, normalized or whitened.
    ///
    /// # Errors
    /// [`TrainError::Data`] if an image cannot be brought to that.
    pub fn tensor(&self, pictures: &[Picture]) -> Result<Tensor<f32>, TrainError> {
        let [channels, height, width] = self.card.image;
        let mut bytes = Vec::with_capacity(pictures.len() * channels * height * width);
        for picture in pictures {
            bytes.extend_from_slice(self.fitted(picture.clone())?.pixels());
        }
        if let Some(whitening) = &self.whitening {
            let images = bytes.chunks(channels * height * width).map(|image| Image::Bytes(image.into()));
            let images: Vec<_> = images.collect();
            return Ok(whitening.apply(BufferPool::global(), images.iter())?);
        }
        let mut images = Tensor::zeros([pictures.len(), channels, height, width]);
        self.table.apply(height * width, &bytes, images.data_mut());
        Ok(images)
    }

    /// Classifies an image: all classes, the most likely first, the first of equals before the others.
    ///
    /// # Errors
    /// As [`Classifier::classify_all`].
    pub fn classify(&self, picture: &Picture) -> Result<Vec<Answer>, TrainError> {
        Ok(self.classify_all(std::slice::from_ref(picture))?.remove(0))
    }

    /// The answers to several images at once, which takes less time than one by one.
    ///
    /// # Errors
    /// [`TrainError::Data`] if an image cannot be brought to the network's channels and size, [`TrainError::File`] if a logit is
    /// no number.
    pub fn classify_all(&self, pictures: &[Picture]) -> Result<Vec<Vec<Answer>>, TrainError> {
        let mut all = Vec::with_capacity(pictures.len());
        for some in pictures.chunks(self.together) {
            let logits = self.workers.predict(&self.model, &self.tensor(some)?)?;
            refuse_no_numbers(&logits, &self.source)?;
            all.extend(logits.data().chunks(self.card.classes.len()).map(|row| self.answers(row)));
        }
        Ok(all)
    }

    fn answers(&self, logits: &[f32]) -> Vec<Answer> {
        let answer = |(class, probability): (usize, f64)| Answer {
            class,
            name: self.card.classes[class].clone(),
            probability,
        };
        let mut answers: Vec<Answer> = softmax(logits).into_iter().enumerate().map(answer).collect();
        answers.sort_by(|a, b| b.probability.total_cmp(&a.probability));
        answers
    }

    /// The maps of the classes for an image.
    ///
    /// # Errors
    /// [`TrainError::Config`] if the network makes no maps for its classes, [`TrainError::Data`] if the image cannot be brought
    /// to its size.
    pub fn class_maps(&self, picture: &Picture) -> Result<ClassMaps, TrainError> {
        let (node, places) = self.maps.ok_or_else(|| {
            TrainError::Config(format!("{} makes no maps for its classes", self.card.network_with_head()))
        })?;
        let maps = self.values(self.graph()?, &[node], picture)?.remove(0);
        let [_, k, h, w] = maps.shape().nchw("class maps").expect("four axes");
        let maps = Tensor::from_slice([k, h, w], maps.data())?;
        let [_, height, width] = self.card.image;
        Ok(ClassMaps { maps, image: [height, width], places })
    }

    /// At most `most` maps of each block for an image, where a block is what one name directly below the network stands for, and
    /// ends in maps.
    ///
    /// # Errors
    /// [`TrainError::Data`] if the image cannot be brought to the network's size.
    pub fn block_maps(&self, picture: &Picture, most: usize) -> Result<Vec<BlockMaps>, TrainError> {
        let graph = self.graph()?;
        // Of each block its name, its ops and the last of them.
        let mut blocks = Vec::<(String, Vec<String>, usize)>::new();
        for (index, node) in graph.nodes().iter().enumerate().filter(|(_, node)| node.is_op()) {
            let (name, op) = (node.path().split('.').next().unwrap_or_default(), graph.describe(index));
            match blocks.last_mut().filter(|(own, ..)| own == name) {
                Some((_, ops, last)) => {
                    ops.push(op);
                    *last = index;
                }
                None => blocks.push((name.to_owned(), vec![op], index)),
            }
        }
        let ends: Vec<usize> = blocks.iter().map(|(.., last)| *last).collect();
        let values = self.values(graph, &ends, picture)?;
        let mut all = Vec::new();
        for ((name, ops, _), value) in blocks.into_iter().zip(values) {
            if let Ok([_, c, h, w]) = value.shape().nchw("block") {
                let shown = c.min(most);
                let maps = Tensor::from_slice([shown, h, w], &value.data()[..shown * h * w])?;
                all.push(BlockMaps { name, ops, shape: [c, h, w], maps });
            }
        }
        Ok(all)
    }

    /// The network's ops for one image, in evaluation, as they are before fusion.
    fn graph(&self) -> Result<Graph<f32>, TrainError> {
        let [c, h, w] = self.card.image;
        Ok(Graph::trace(&self.context(), [1, c, h, w], |x| self.model.forward(x))?)
    }

    fn context(&self) -> Context {
        Context { conv: self.workers.conv(), ..Context::evaluation(BufferPool::new()) }
    }

    /// The values of some ops of the network's graph for an image.
    fn values(
        &self,
        graph: Graph<f32>,
        nodes: &[usize],
        picture: &Picture,
    ) -> Result<Vec<Tensor<f32>>, TrainError> {
        let images = self.tensor(std::slice::from_ref(picture))?;
        let context = self.context();
        let bound = bound(self.model.get(), Arc::new(Plan::unfused(graph)), &context);
        let mut values = vec![None; nodes.len()];
        bound.visit(&context, images, |index, y| {
            for (value, _) in values.iter_mut().zip(nodes).filter(|&(_, &node)| node == index) {
                *value = Some(y.clone());
            }
        });
        Ok(values.into_iter().map(|value| value.expect("the node runs")).collect())
    }
}

/// The node of a network's graph that makes its class maps, N x K x h x w, and [`ClassMaps::places`].
type MapNode = (usize, [(f64, f64); 2]);

/// `None` if no map is a class's own: if logits are not the means of maps, or the way from the image to those has a branch, or
/// something other than a window on it. To a fully connected layer all maps are of all classes.
fn map_node(
    network: &dyn Module<f32>,
    input: Shape,
    classes: usize,
) -> Result<Option<MapNode>, AutogradError> {
    let context = Context::evaluation(BufferPool::new());
    let graph = Graph::trace(&context, input, |x| network.forward(x))?;
    Ok(map_node_of(&graph, classes))
}

fn map_node_of(graph: &Graph<f32>, classes: usize) -> Option<MapNode> {
    let nodes = graph.nodes();
    let end = nodes.iter().position(|node| node.op::<ops::AdaptiveAvgPool2d>().is_some())?;
    let node = *nodes[end].inputs().first()?;
    let mean = nodes[end].shape()[2..].iter().all(|&extent| extent == 1);
    let mixed = nodes[end..].iter().any(|node| node.parameter().is_some());
    if !mean || mixed || nodes[node].shape()[1] != classes {
        return None;
    }
    let mut places = [(0.5, 1.0); 2];
    let mut way = vec![node];
    while let Some(&before) = nodes[*way.last()?].inputs().first() {
        way.push(before);
    }
    for &index in way.iter().rev() {
        let node = &nodes[index];
        let window = if let Some(conv) = node.op::<ops::Conv2d>() {
            let weight = nodes[node.inputs()[1]].shape();
            Some(([weight[2], weight[3]], conv.stride, conv.padding, conv.dilation))
        } else if let Some(pool) = node.op::<ops::MaxPool2d>() {
            Some((pool.kernel, pool.stride, pool.padding, [1, 1]))
        } else if let Some(pool) = node.op::<ops::AvgPool2d>() {
            Some((pool.kernel, pool.stride, pool.padding, [1, 1]))
        } else {
            // What keeps the height and the width keeps every place.
            let before = node.inputs().first().map(|&before| nodes[before].shape());
            let same = before.is_none_or(|before| before.len() == 4 && before[2..] == node.shape()[2..]);
            if !same {
                return None;
            }
            None
        };
        if let Some((kernel, stride, padding, dilation)) = window {
            for axis in 0..2 {
                let (first, step) = places[axis];
                let middle = (dilation[axis] * (kernel[axis] - 1)) as f64 / 2.0 - padding[axis] as f64;
                places[axis] = (first + step * middle, step * stride[axis] as f64);
            }
        }
    }
    Some((node, places))
}

impl ClassMaps {
    /// Tells whether a network's answers for images of N x C x H x W are made of maps of the classes: each logit the mean of one.
    ///
    /// # Errors
    /// [`AutogradError`] if the network cannot work on these images.
    pub fn are_made_by(
        network: &dyn Module<f32>,
        input: impl Into<Shape>,
        classes: usize,
    ) -> Result<bool, AutogradError> {
        Ok(map_node(network, input.into(), classes)?.is_some())
    }

    /// A class's map over the image, drawn with H x W pixels: between the middles of what its numbers look at, in proportion;
    /// beyond the outermost, as they are.
    ///
    /// # Panics
    /// If there is no such class.
    #[must_use]
    pub fn over_image(&self, class: usize, [height, width]: [usize; 2]) -> Tensor<f32> {
        let (h, w) = (self.maps.shape()[1], self.maps.shape()[2]);
        let map = &self.maps.data()[class * h * w..(class + 1) * h * w];
        let scale = [self.image[0] as f64 / height as f64, self.image[1] as f64 / width as f64];
        // The numbers on either side of a pixel's middle, and the share of the second.
        let between = |pixel: usize, scale: f64, (first, step): (f64, f64), count: usize| {
            let at = (((pixel as f64 + 0.5) * scale - first) / step).clamp(0.0, (count - 1) as f64);
            let low = at.floor();
            (low as usize, (low as usize + 1).min(count - 1), (at - low) as f32)
        };
        let across: Vec<_> = (0..width).map(|x| between(x, scale[1], self.places[1], w)).collect();
        Tensor::from_fn([height, width], |index| {
            let (top, bottom, down) = between(index / width, scale[0], self.places[0], h);
            let (left, right, across) = across[index % width];
            let row = |y: usize| map[y * w + left] * (1.0 - across) + map[y * w + right] * across;
            row(top) * (1.0 - down) + row(bottom) * down
        })
    }

    /// A class's map in red over an image, in color, H x W as the image. The brightest number of all classes' maps is the
    /// strongest red, so that pictures of several classes can be compared.
    ///
    /// # Panics
    /// If there is no such class.
    #[must_use]
    pub fn drawn_over(&self, class: usize, picture: &Picture) -> Picture {
        let [channels, h, w] = picture.shape();
        let map = self.over_image(class, [h, w]);
        let brightest = self.maps.data().iter().copied().fold(0.0, f32::max);
        let strength =
            |value: f32| if brightest > 0.0 { 0.7 * (value / brightest).clamp(0.0, 1.0) } else { 0.0 };
        let mut pixels = Vec::with_capacity(3 * h * w);
        for (channel, heat) in [255.0, 40.0, 0.0].into_iter().enumerate() {
            let plane = picture.pixels()[channel % channels * h * w..].iter();
            pixels.extend(plane.zip(map.data()).map(|(&own, &value)| {
                let strength = strength(value);
                (f32::from(own) * (1.0 - strength) + heat * strength).round() as u8
            }));
        }
        Picture::new([3, h, w], pixels).expect("as many pixels as the picture has, three times")
    }
}

impl BlockMaps {
    /// One of the maps in gray, H x W: black is the smallest number of all that are here, or 0 if none is below, white the
    /// largest.
    ///
    /// # Panics
    /// If there is no such map, or it is larger than a picture can be.
    #[must_use]
    pub fn drawn(&self, map: usize) -> Picture {
        let [_, h, w] = self.shape;
        let least = self.maps.data().iter().copied().fold(0.0, f32::min);
        let most = self.maps.data().iter().copied().fold(least, f32::max);
        let gray = |&value: &f32| {
            if most > least { (255.0 * (value - least) / (most - least)).round() as u8 } else { 0 }
        };
        let pixels = self.maps.data()[map * h * w..(map + 1) * h * w].iter().map(gray).collect();
        Picture::new([1, h, w], pixels).expect("maps are no larger than images may be")
    }
}

#[cfg(test)]
mod tests {
    use tensor::init::Init;

    use super::*;
    use crate::data::Normalization;
    use crate::models::{Head, Model, Network};
    use crate::nn::{initialize, parameters_mut};
    use crate::testing::place;
    use crate::weights_file::save_tensors;

    fn card(model: Model, side: usize) -> ModelCard {
        ModelCard {
            version: "0".to_owned(),
            network: model.to_string(),
            head: None,
            image: [1, side, side],
            classes: ["a", "b", "c"].map(str::to_owned).to_vec(),
            normalization: None,
            whitening: None,
            recipe: "default".to_owned(),
            data: None,
            epoch: None,
            test_acc: None,
            judged_by: None,
        }
    }

    /// A classifier as it comes from a file, with weights that `change` makes of He's.
    fn classifier(card: &ModelCard, change: impl Fn(&str, &mut f32)) -> Classifier {
        let mut network = card.network().unwrap();
        initialize(&mut network, Init::HeNormal, Init::Constant(0.1), 3);
        for (name, parameter) in parameters_mut(&mut network) {
            parameter.value.data_mut().iter_mut().for_each(|weight| change(&name, weight));
        }
        let (_folder, path) = place("model.safetensors");
        std::fs::write(&path, card.file(&network)).unwrap();
        assert_eq!(ModelCard::read(&path).unwrap().as_ref(), Some(card));
        let loaded = Classifier::load(&path).unwrap();
        let bytes = std::fs::read(&path).unwrap();
        let again = Classifier::from_bytes(&bytes, &path).unwrap();
        assert_eq!(loaded.card(), again.card());
        loaded
    }

    fn noise(shape: [usize; 3]) -> Picture {
        let pixels = (0..shape.iter().product()).map(|i: usize| (i * 7919 % 251) as u8).collect();
        Picture::new(shape, pixels).unwrap()
    }

    #[test]
    fn an_answer_is_the_softmax_of_the_network_on_the_image_as_it_was_trained() {
        let normalization = Some(Normalization { mean: vec![0.25], std: vec![0.5] });
        let card = ModelCard { normalization, ..card(Model::LeNet, 28) };
        let classifier = classifier(&card, |_, _| ());
        let gray = noise([1, 28, 28]);
        let images = classifier.tensor(std::slice::from_ref(&gray)).unwrap();
        assert_eq!(images.data()[5], (f32::from(gray.pixels()[5]) / 255.0 - 0.25) / 0.5);
        let logits = Workers::new(1).unwrap().predict(classifier.network(), &images).unwrap();
        let sum: f64 = logits.data().iter().map(|&logit| f64::from(logit).exp()).sum();
        let answers = classifier.classify(&gray).unwrap();
        assert!(answers.windows(2).all(|pair| pair[0].probability >= pair[1].probability));
        for answer in &answers {
            let expected = f64::from(logits.data()[answer.class]).exp() / sum;
            assert!((answer.probability - expected).abs() < 1e-6, "{answer:?}, expected {expected}");
            assert_eq!(answer.name, card.classes[answer.class]);
        }
        // Any size and any channels; several at once are as one by one, from any thread.
        let pictures = [gray, noise([3, 50, 31]), noise([1, 7, 9])];
        let all = classifier.classify_all(&pictures).unwrap();
        std::thread::scope(|scope| {
            for (picture, answers) in pictures.iter().zip(&all) {
                let classifier = &classifier;
                scope.spawn(move || assert_eq!(&classifier.classify(picture).unwrap(), answers));
            }
        });
        assert!(classifier.class_maps(&pictures[0]).unwrap_err().to_string().contains("lenet makes no maps"));
    }

    /// No map is a class's if something learns what to make of all of them together.
    #[test]
    fn only_an_average_has_maps_of_the_classes() {
        for model in Model::ALL {
            let side = model.default_image_size();
            let maps = |head: Option<Head>, classes| {
                let network = Network { head, narrow: 16, ..Network::new(model, [1, side, side], classes) };
                ClassMaps::are_made_by(&network.build().unwrap(), [1, 1, side, side], classes).unwrap()
            };
            // As many as resnet18 has maps before its last layer then.
            assert_eq!(maps(None, 32), model.has_class_maps(), "{model}");
            for head in Head::ALL.into_iter().filter(|_| model.has_class_maps()) {
                assert_eq!(maps(Some(head), 3), head == Head::Gap, "{model}, {head}");
            }
        }
        let card = ModelCard { head: Some("fc".to_owned()), ..card(Model::NinCifar, 28) };
        let classifier = classifier(&card, |_, _| ());
        assert!(!classifier.has_class_maps());
        let error = classifier.class_maps(&noise([1, 28, 28])).unwrap_err().to_string();
        assert_eq!(error, "nin-cifar with the head fc makes no maps for its classes");
    }

    #[test]
    fn an_image_that_is_fitted_has_its_answers_and_maps() {
        let classifier = even(Model::NinCifar, 28);
        for picture in [noise([3, 50, 31]), noise([1, 7, 9]), noise([1, 28, 28])] {
            let fitted = classifier.fitted(picture.clone()).unwrap();
            assert_eq!(fitted.shape(), [1, 28, 28]);
            assert_eq!(classifier.classify(&fitted).unwrap(), classifier.classify(&picture).unwrap());
            let maps = |picture| classifier.class_maps(picture).unwrap().maps;
            assert_eq!(maps(&fitted).data(), maps(&picture).data());
        }
    }

    /// A block is as its own layers make it of what came before.
    #[test]
    fn blocks_show_what_their_layers_made() {
        let classifier = classifier(&card(Model::NinCifar, 28), |_, _| ());
        let picture = noise([1, 28, 28]);
        let blocks = classifier.block_maps(&picture, 16).unwrap();
        let shapes: Vec<_> = blocks.iter().map(|block| (block.name.as_str(), block.shape)).collect();
        assert_eq!(shapes[..3], [("0", [96, 28, 28]), ("1", [96, 14, 14]), ("3", [192, 14, 14])]);
        assert_eq!(blocks[0].ops.len(), 6, "three convolutions, each with its ReLU: {:?}", blocks[0].ops);
        assert_eq!(blocks[1].maps.shape()[..], [16, 14, 14]);
        for (x, y) in (0..13).flat_map(|y| (0..13).map(move |x| (x, y))) {
            let first = |dx, dy| blocks[0].maps.data()[(2 * y + dy) * 28 + 2 * x + dx];
            let most = (0..9).map(|i| first(i % 3, i / 3)).fold(0.0, f32::max);
            assert_eq!(blocks[1].maps.data()[y * 14 + x], most);
        }
        // The last with maps has the class maps.
        let maps = classifier.class_maps(&picture).unwrap().maps;
        assert!(blocks.iter().any(|block| block.maps.data() == maps.data()), "{shapes:?}");
        let drawn = blocks[0].drawn(3);
        let largest = blocks[0].maps.data().iter().copied().fold(0.0, f32::max);
        let map = blocks[0].maps.data()[3 * 784..4 * 784].iter();
        let expected: Vec<u8> = map.map(|value| (255.0 * value / largest).round() as u8).collect();
        assert_eq!(drawn.pixels(), expected);
        // Vectors are no maps, and a network has as many as it has.
        let lenet = self::classifier(&card(Model::LeNet, 28), |_, _| ());
        let blocks = lenet.block_maps(&picture, 100).unwrap();
        let shapes: Vec<_> = blocks.iter().map(|block| block.shape).collect();
        assert_eq!(shapes[0], [6, 28, 28]);
        assert!(blocks.iter().all(|block| block.maps.shape()[0] == block.shape[0]), "{shapes:?}");
        let flat = BlockMaps {
            name: String::new(),
            ops: Vec::new(),
            shape: [1, 1, 2],
            maps: Tensor::zeros([1, 1, 2]),
        };
        assert_eq!(flat.drawn(0).pixels(), [0, 0]);
        let signed = BlockMaps { maps: Tensor::from_slice([1, 1, 2], &[-1.0, 1.0]).unwrap(), ..flat };
        assert_eq!(signed.drawn(0).pixels(), [0, 255]);
    }

    /// A small file cannot ask for all memory of the machine.
    #[test]
    fn images_too_large_for_a_network_are_refused() {
        let large = ModelCard { image: [1, 4096, 4096], ..card(Model::NinCifar, 28) };
        let network = large.network().unwrap();
        let (_folder, path) = place("a.safetensors");
        std::fs::write(&path, large.file(&network)).unwrap();
        let error = Classifier::load(&path).unwrap_err().to_string();
        assert!(
            error.contains("1 x 4096 x 4096, would take ") && error.ends_with("at most 1 GiB"),
            "{error}"
        );
    }

    #[test]
    fn files_that_do_not_say_what_they_are_are_refused() {
        let (_folder, path) = place("a.safetensors");
        let weight = Tensor::full([2], 1.0);
        let refused = |text| {
            save_tensors(&path, &[("0.weight".to_owned(), &weight)], text).unwrap();
            Classifier::load(&path).unwrap_err().to_string()
        };
        assert!(refused(Default::default()).contains("a.safetensors: no card in it"));
        let broken = [("nin".to_owned(), "{}".to_owned())].into();
        assert!(refused(broken).contains("a.safetensors: a broken card: missing field"));
        let lenet = card(Model::LeNet, 28);
        let other = ModelCard { network: "other".to_owned(), ..lenet.clone() };
        assert!(refused(other.text()).contains("its card's network: no network \"other\""));
        assert!(refused(lenet.text()).contains("weights of another network"));
        for image in [[1, 1 << 32, 1 << 32], [1, usize::MAX, 3], [1, 4097, 28], [1 << 20, 28, 28]] {
            let large = ModelCard { image, ..lenet.clone() };
            assert!(
                refused(large.text()).contains("image: expected at most 1024 x 4096 x 4096"),
                "{image:?}"
            );
        }
        let no_classes = ModelCard { classes: Vec::new(), ..lenet };
        assert!(refused(no_classes.text()).contains("needs at least 1 class"));
    }

    /// With weights that are all the same, a number of a map is as large as what it sees is bright.
    fn even(model: Model, side: usize) -> Classifier {
        classifier(&card(model, side), |name, weight| {
            *weight = if name.ends_with("weight") { 0.01 } else { 0.0 };
        })
    }

    /// A bright column moves over the image: the middle of where a number of a map sees it is that number's place.
    #[test]
    fn places_are_the_middles_of_what_the_numbers_look_at() {
        let (side, cell) = (44, 5);
        let classifier = even(Model::NinCifar, side);
        let (mut sum, mut moment, mut place) = (0.0, 0.0, f64::NAN);
        for column in 0..side {
            let pixels = (0..side * side).map(|i| if i % side == column { 255 } else { 0 }).collect();
            let maps = classifier.class_maps(&Picture::new([1, side, side], pixels).unwrap()).unwrap();
            let width = maps.maps.shape()[2];
            let seen = f64::from(maps.maps.data()[cell * width + cell]);
            sum += seen;
            moment += seen * (column as f64 + 0.5);
            place = maps.places[1].0 + maps.places[1].1 * cell as f64;
        }
        assert!(sum > 0.0 && (moment / sum - place).abs() < 1e-3 * place, "{} and {place}", moment / sum);
    }

    #[test]
    fn a_bright_corner_lights_that_corner() {
        let side = 44;
        let classifier = even(Model::NinCifar, side);
        for (top, left) in [(true, true), (true, false), (false, true), (false, false)] {
            let within = |place: usize, first: bool| if first { place < 11 } else { place >= 33 };
            let bright = |i: usize| within(i / side, top) && within(i % side, left);
            let pixels = (0..side * side).map(|i| if bright(i) { 255 } else { 0 }).collect();
            let maps = classifier.class_maps(&Picture::new([1, side, side], pixels).unwrap()).unwrap();
            let over = maps.over_image(1, [side, side]);
            // On black, the picture's red is the map.
            let black = Picture::new([1, side, side], vec![0; side * side]).unwrap();
            let drawn = maps.drawn_over(1, &black);
            let strongest = maps.maps.data().iter().copied().fold(0.0, f32::max);
            let red = |value: f32| (255.0 * 0.7 * (value / strongest)).round();
            for (&drawn, &value) in drawn.pixels().iter().zip(over.data()) {
                assert!((f32::from(drawn) - red(value)).abs() <= 1.0, "{drawn} and {value}");
            }
            let sum = |rows: std::ops::Range<usize>, columns: std::ops::Range<usize>| -> f32 {
                rows.flat_map(|y| columns.clone().map(move |x| y * side + x)).map(|i| over.data()[i]).sum()
            };
            let half = |first: bool| if first { 0..side / 2 } else { side / 2..side };
            let own = sum(half(top), half(left));
            for (rows, columns) in [(!top, left), (top, !left), (!top, !left)] {
                assert!(own > 1.5 * sum(half(rows), half(columns)), "top {top}, left {left}");
            }
        }
    }
}
