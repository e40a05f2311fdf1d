//! Files of events for TensorBoard: scalars by step, images, and the graph of a network.
//!
//! A file is a row of records (TFRecord): the length of the data, 64 bits, little-endian; the masked CRC-32C of these eight
//! bytes; the data; their masked CRC-32C. The data are `Event` messages of Protocol Buffers. Numbers of fields are those of
//! `event.proto`, `summary.proto`, `graph.proto`, `node_def.proto`, `attr_value.proto` and `tensor_shape.proto` of
//! <https://github.com/tensorflow/tensorboard/tree/2.20/tensorboard/compat/proto>.

use std::collections::HashMap;
use std::path::Path;
use std::time::SystemTime;

use autograd::{AutogradError, Graph};
use tensor::{BufferPool, Context, Shape};

#[cfg(feature = "image")]
use crate::data::Picture;
use crate::disk::{FileError, Log, make_folder};
use crate::nn::{Module, parameters};
use crate::protobuf::Message;

/// The version of the format, which readers look for in the first event.
const VERSION: &str = "brain.Event:2";

/// The status of a session that begins.
const START: i64 = 1;

/// A file of events. Each record is written at once.
///
/// ```
/// use nin::tensorboard::EventFile;
///
/// # let folder = tempfile::tempdir()?;
/// # let folder = folder.path();
/// let mut events = EventFile::create(folder, 1)?;
/// for step in 1..=3 {
///     events.scalars(step, &[("loss", 1.0 / step as f64), ("lr", 0.1)])?;
/// }
/// events.sync()?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct EventFile {
    log: Log,
    /// Seconds since 1970.
    clock: fn() -> f64,
}

impl EventFile {
    /// Begins a file in a folder, which is made if there is none. `first` is the first step that will be written: what earlier
    /// files of the folder say of it and of later steps is void.
    ///
    /// # Errors
    /// [`FileError::Io`].
    pub fn create(folder: &Path, first: u64) -> Result<Self, FileError> {
        Self::begin(folder, first, now)
    }

    fn begin(folder: &Path, first: u64, clock: fn() -> f64) -> Result<Self, FileError> {
        make_folder(folder)?;
        // Readers take the files of a folder in the order of their names.
        let name = format!("events.out.tfevents.{:020.9}.nin.{}", clock(), std::process::id());
        let mut own = Self { log: Log::open(folder.join(name))?, clock };
        own.add(0, |event| event.bytes(3, VERSION))?;
        own.add(first, |event| event.bytes(7, Message::default().integer(1, START)))?;
        Ok(own)
    }

    /// Writes numbers by their tags: `train/loss` is the chart `loss` in the group `train`.
    ///
    /// # Errors
    /// [`FileError::Io`].
    pub fn scalars(&mut self, step: u64, scalars: &[(&str, f64)]) -> Result<(), FileError> {
        let value = |(tag, value): &(&str, f64)| Message::default().bytes(1, tag).float(2, *value as f32);
        self.add(step, |event| event.bytes(5, summary(scalars.iter().map(value))))
    }

    /// Writes an image (with the feature `image`).
    ///
    /// # Errors
    /// [`FileError::Io`].
    #[cfg(feature = "image")]
    pub fn image(&mut self, step: u64, tag: &str, picture: &Picture) -> Result<(), FileError> {
        let [c, h, w] = picture.shape();
        let image = Message::default()
            .integer(1, h as i64)
            .integer(2, w as i64)
            .integer(3, c as i64)
            .bytes(4, picture.to_png());
        let value = Message::default().bytes(1, tag).bytes(4, image);
        self.add(step, |event| event.bytes(5, summary([value])))
    }

    /// Writes a graph ([`graph_def`]).
    ///
    /// # Errors
    /// [`FileError::Io`].
    pub fn graph(&mut self, graph: &[u8]) -> Result<(), FileError> {
        self.add(0, |event| event.bytes(4, graph))
    }

    /// Brings the file to the disk.
    ///
    /// # Errors
    /// [`FileError::Io`].
    pub fn sync(&self) -> Result<(), FileError> {
        self.log.sync()
    }

    fn add(&mut self, step: u64, what: impl FnOnce(Message) -> Message) -> Result<(), FileError> {
        let event = Message::default().double(1, (self.clock)()).integer(2, step.cast_signed());
        self.log.add(&record(&what(event).into_bytes()))
    }
}

/// Seconds since 1970. TensorBoard draws curves over them; no result depends on them.
fn now() -> f64 {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(0.0, |time| time.as_secs_f64())
}

fn summary(values: impl IntoIterator<Item = Message>) -> Message {
    Message::default().each(values, |summary, value| summary.bytes(1, value))
}

/// A record: data with their length, and a checksum of each.
fn record(data: &[u8]) -> Vec<u8> {
    let length = (data.len() as u64).to_le_bytes();
    [&length[..], &masked(crc32c(&length)).to_le_bytes(), data, &masked(crc32c(data)).to_le_bytes()].concat()
}

/// A checksum as records have it: turned and moved, so that a checksum over data with checksums in them is none of these.
fn masked(crc: u32) -> u32 {
    crc.rotate_right(15).wrapping_add(0xa282_ead8)
}

/// CRC-32C, by Castagnoli's polynomial, its bits in reverse order. (That of `crc32fast` is another.)
fn crc32c(data: &[u8]) -> u32 {
    const TABLE: [u32; 256] = {
        let (mut table, mut byte) = ([0; 256], 0);
        while byte < 256 {
            let (mut crc, mut bit) = (byte as u32, 0);
            while bit < 8 {
                crc = crc >> 1 ^ if crc & 1 == 1 { 0x82f6_3b78 } else { 0 };
                bit += 1;
            }
            table[byte] = crc;
            byte += 1;
        }
        table
    };
    !data.iter().fold(!0, |crc: u32, &byte| crc >> 8 ^ TABLE[usize::from(crc as u8 ^ byte)])
}

/// The graph of a module's forward pass in evaluation, for an input of this shape, as a `GraphDef` message.
///
/// Ops are called by their place and kind (`0/2/Conv2d`), and have their settings and the shape of their output with them;
/// parameters are called by their name (`0/2/weight`). TensorBoard folds what has a `/` in common into one node.
///
/// # Errors
/// [`AutogradError`], naming the layer, if the input does not fit.
pub fn graph_def(module: &dyn Module<f32>, input: impl Into<Shape>) -> Result<Vec<u8>, AutogradError> {
    let context = Context::evaluation(BufferPool::new());
    let graph = Graph::trace(&context, input, |x| module.forward(x))?;
    let parameters: HashMap<u64, String> =
        parameters(module).into_iter().map(|(name, own)| (own.identity, name)).collect();
    let (mut names, mut uses) = (Vec::<String>::new(), HashMap::new());
    let mut message = Message::default();
    for (index, node) in graph.nodes().iter().enumerate() {
        let settings = graph.describe(index);
        let kind = match node.parameter() {
            Some(_) => "Parameter",
            None if node.is_input() => "Placeholder",
            None if node.is_op() => settings.split('(').next().unwrap_or_default(),
            None => "Const",
        };
        let place = match node.parameter().and_then(|identity| parameters.get(&identity)) {
            Some(name) => name.clone(),
            None if node.is_input() => "input".to_owned(),
            None if node.path().is_empty() => kind.to_owned(),
            None => format!("{}.{kind}", node.path()),
        };
        let name = free_name(&place, &mut uses);
        let shape = Message::default().each(&*node.shape(), |shape, &extent| {
            shape.bytes(2, Message::default().integer(1, extent as i64))
        });
        let shapes = Message::default().bytes(7, shape);
        let def = Message::default()
            .bytes(1, &name)
            .bytes(2, legal(kind))
            .each(node.inputs(), |def, &input| def.bytes(3, &names[input]))
            .bytes(5, attribute("_output_shapes", Message::default().bytes(1, shapes)))
            .each((!settings.is_empty()).then_some(&settings), |def, settings| {
                def.bytes(5, attribute("settings", Message::default().bytes(2, settings)))
            });
        message = message.bytes(1, def);
        names.push(name);
    }
    Ok(message.into_bytes())
}

/// An entry of a node's attributes.
fn attribute(name: &str, value: Message) -> Message {
    Message::default().bytes(1, name).bytes(2, value)
}

/// The name of a place, with a number if other nodes have it.
fn free_name(place: &str, uses: &mut HashMap<String, usize>) -> String {
    let name = legal(&place.replace('.', "/"));
    let before = uses.entry(name.clone()).or_default();
    *before += 1;
    if *before == 1 { name } else { format!("{name}_{}", *before - 1) }
}

/// A name of characters that names in a graph may have.
fn legal(name: &str) -> String {
    name.replace(|c: char| !c.is_ascii_alphanumeric() && !"_/-".contains(c), "_")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disk::testing::{Fault, on_a_disk};

    /// The check value of the polynomial, and RFC 3720, B.4.
    #[test]
    fn checksums_are_castagnolis() {
        assert_eq!(crc32c(b"123456789"), 0xe306_9283);
        assert_eq!(crc32c(&[0; 32]), 0x8a91_36aa);
        assert_eq!(crc32c(&[0xff; 32]), 0x62a8_ab43);
        assert_eq!(crc32c(&std::array::from_fn::<u8, 32, _>(|i| i as u8)), 0x46dd_794e);
    }

    /// Every byte, once by hand.
    #[test]
    fn a_file_is_a_row_of_records() {
        let folder = tempfile::tempdir().unwrap();
        let mut file = EventFile::begin(folder.path(), 8, || 1.5).unwrap();
        file.scalars(9, &[("a", 1.0)]).unwrap();
        let entry = std::fs::read_dir(folder.path()).unwrap().next().unwrap().unwrap();
        let name = entry.file_name().into_string().unwrap();
        assert_eq!(
            name,
            format!("events.out.tfevents.0000000001.500000000.nin.{}", std::process::id()),
            "in the order of time"
        );
        let time = [0x09, 0, 0, 0, 0, 0, 0, 0xf8, 0x3f];
        let events = [
            [&time[..], &[0x10, 0, 0x1a, 13], b"brain.Event:2"].concat(),
            [&time[..], &[0x10, 8, 0x3a, 2, 0x08, 1]].concat(),
            [&time[..], &[0x10, 9, 0x2a, 10, 0x0a, 8, 0x0a, 1, b'a', 0x15, 0, 0, 0x80, 0x3f]].concat(),
        ];
        let mut expected = Vec::new();
        for event in &events {
            let length = [event.len() as u8, 0, 0, 0, 0, 0, 0, 0];
            expected.extend_from_slice(&length);
            expected.extend(masked(crc32c(&length)).to_le_bytes());
            expected.extend_from_slice(event);
            expected.extend(masked(crc32c(event)).to_le_bytes());
        }
        assert_eq!(std::fs::read(entry.path()).unwrap(), expected);
    }

    #[test]
    fn a_full_disk_is_an_error_that_names_the_file() {
        const FULL: i32 = 28;
        let folder = tempfile::tempdir().unwrap();
        let write = || {
            let mut file = EventFile::begin(folder.path(), 1, || 0.0)?;
            file.scalars(1, &[("loss", 1.0)])?;
            file.sync()
        };
        let (done, touches) = on_a_disk(None, write);
        done.unwrap();
        // Making the folder, opening, three writes, bringing it to the disk.
        assert_eq!(touches.len(), 6, "{touches:?}");
        for at in 0..touches.len() {
            let error = on_a_disk(Some((at, Fault::Refused(FULL))), write).0.unwrap_err();
            assert!(error.to_string().contains("cannot"), "{at}: {error}");
            assert_eq!(error.to_string().contains("tfevents"), at > 0, "{at}: {error}");
        }
    }

    #[test]
    fn names_of_nodes_are_free_and_legal() {
        let mut uses = HashMap::new();
        let mut name = |place: &str| free_name(place, &mut uses);
        assert_eq!(
            ["0.2.ReLU", "0.2.ReLU", "0.2.ReLU", "a b.ä"].map(&mut name),
            ["0/2/ReLU", "0/2/ReLU_1", "0/2/ReLU_2", "a_b/_"]
        );
    }
}
