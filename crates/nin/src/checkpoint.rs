//! Weights on disk: safetensors files with the names of PyTorch's `state_dict`.

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::io::Read;
use std::marker::PhantomData;
use std::path::Path;

use safetensors::tensor::{Dtype, TensorInfo};
use serde::de::{Deserialize, Deserializer, Error, MapAccess, Visitor};
use serde::ser::Serialize;
use serde_json::json;
use serde_json::value::RawValue;
use tensor::{Shape, Tensor};

use crate::data::whiten;
use crate::disk::{self, FileError, atomic_write, content, io};
use crate::nn::{Module, Parameter, parameters, parameters_mut};
use crate::optim::matches;

#[cfg(target_endian = "big")]
compile_error!("safetensors files are little-endian: weights are written and read as they lie in memory");

/// The most bytes of a header, as the format has it.
const MAX_HEADER: u64 = 100_000_000;

/// The name under which a header has the text.
const TEXT: &str = "__metadata__";

/// The key in a file's text under which the checksum of all other text is. Behind it and a dot, the name of each tensor is the key
/// of that tensor's: were one key damaged, the others would still say that the file is to be checked.
const CHECKSUM: &str = "nin.crc32";

/// The end of the names of the counters that PyTorch's normalizations have: of the batches that they have seen.
const COUNTER: &str = "num_batches_tracked";

/// The key of a tensor's checksum.
fn key(name: &str) -> String {
    format!("{CHECKSUM}.{name}")
}

/// The CRC-32 of what is said about bytes and of the bytes.
fn checksum(about: &impl Serialize, bytes: &[u8]) -> String {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&serde_json::to_vec(about).expect("plain data"));
    hasher.update(bytes);
    format!("{:08x}", hasher.finalize())
}

/// Saves named tensors and text, with a checksum of each in the text, under keys that begin with `nin.crc32`. The same ones make the
/// same bytes.
///
/// # Errors
/// [`FileError::Io`]; an old file of that name is whole then.
///
/// # Panics
/// If two tensors have one name, or one is called `__metadata__`, the format's own name for the text.
pub fn save_tensors(
    path: &Path,
    tensors: &[(String, &Tensor<f32>)],
    metadata: HashMap<String, String>,
) -> Result<(), FileError> {
    atomic_write(path, &encode(tensors, metadata))
}

/// The file of tensors and text. Written here rather than by the crate, whose order of the text is another one in each process.
fn encode(tensors: &[(String, &Tensor<f32>)], metadata: HashMap<String, String>) -> Vec<u8> {
    let mut text: BTreeMap<String, String> = metadata.into_iter().collect();
    let mut header = BTreeMap::new();
    // In the order of the header, whatever order they come in.
    let mut tensors: Vec<_> = tensors.iter().collect();
    tensors.sort_unstable_by_key(|(name, _)| name);
    let mut end = 0;
    for (name, tensor) in &tensors {
        let bytes: &[u8] = bytemuck::cast_slice(tensor.data());
        let (dtype, shape) = (Dtype::F32, &tensor.shape()[..]);
        text.insert(key(name), checksum(&(name, dtype, shape), bytes));
        let offsets = [end, end + bytes.len()];
        end = offsets[1];
        let entry = json!({"dtype": dtype, "shape": shape, "data_offsets": offsets});
        assert!(header.insert(name.as_str(), entry).is_none(), "two tensors are called {name}");
    }
    text.insert(CHECKSUM.to_owned(), checksum(&text, &[]));
    assert!(header.insert(TEXT, json!(text)).is_none(), "a tensor has the name of the text");
    let mut header = serde_json::to_vec(&header).expect("plain data");
    // The numbers begin at a multiple of eight bytes.
    header.resize(header.len().next_multiple_of(8), b' ');
    let mut file = Vec::with_capacity(8 + header.len() + end);
    file.extend((header.len() as u64).to_le_bytes());
    file.append(&mut header);
    for (_, tensor) in tensors {
        file.extend_from_slice(bytemuck::cast_slice(tensor.data()));
    }
    file
}

/// Tensors by their names, and the text beside them.
pub type Contents = (BTreeMap<String, Tensor<f32>>, HashMap<String, String>);

/// Loads every tensor of a file by its name, and the text beside them, without the checksums. A file that has checksums holds exactly
/// what they were made of. Numbers of 16 bits (half, bfloat) are converted exactly, those of 64 bits rounded. PyTorch's counters of
/// batches (`num_batches_tracked`), with which nothing is computed, are left out.
///
/// # Errors
/// [`FileError::Io`] if it cannot be read, [`FileError::Content`] if it is no safetensors file, is cut off or too long, has a name
/// twice, holds anything but floating-point tensors of at most four axes within the range of `f32`, or differs from its checksums.
pub fn load_tensors(path: &Path) -> Result<Contents, FileError> {
    read_tensors(disk::open(path)?, path)
}

/// Loads the tensors of a stream. `source` is the name that errors carry. Memory grows with what arrives, whatever a header promises.
///
/// # Errors
/// As [`load_tensors`].
pub fn read_tensors(mut reader: impl Read, source: &Path) -> Result<Contents, FileError> {
    let mut take = |bytes: u64| {
        let mut taken = Vec::new();
        reader.by_ref().take(bytes).read_to_end(&mut taken).map_err(io(source, "read"))?;
        Ok(taken)
    };
    let refuse = |reason| content(source, reason);
    let start = take(8)?;
    let length = <[u8; 8]>::try_from(start.as_slice()).map(u64::from_le_bytes);
    let Ok(length) = length.map_err(drop).and_then(|n| if n > MAX_HEADER { Err(()) } else { Ok(n) }) else {
        let start = start.escape_ascii();
        return Err(refuse(format!("not a safetensors file: \"{start}\" is no length of a header")));
    };
    let header = take(length)?;
    let (tensors, text) = match parse(&header) {
        _ if (header.len() as u64) < length => {
            return Err(refuse(format!(
                "cut off in its header: expected {length} bytes, found {}",
                header.len()
            )));
        }
        parsed => parsed.map_err(refuse)?,
    };
    let end = tensors.last().map_or(0, |(_, info)| info.data_offsets.1);
    let data = take((end as u64).saturating_add(1))?;
    if data.len() != end {
        let found = if data.len() < end { data.len().to_string() } else { "more".to_owned() };
        return Err(refuse(format!("{end} bytes of tensors are expected behind the header, found {found}")));
    }
    let of = |info: &TensorInfo| &data[info.data_offsets.0..info.data_offsets.1];
    let text = verified(&tensors, of, text).map_err(refuse)?;
    let read = |(name, info): &(String, TensorInfo)| {
        let tensor = numbers(info, of(info)).map_err(|reason| refuse(format!("tensor {name} {reason}")))?;
        Ok((name.clone(), tensor))
    };
    let no_counters = tensors.iter().filter(|(_, info)| info.dtype != Dtype::I64);
    Ok((no_counters.map(read).collect::<Result<_, _>>()?, text))
}

/// An object whose keys differ. The usual maps keep the last value of a key and lose the others.
struct Unique<V>(BTreeMap<String, V>);

impl<'de, V: Deserialize<'de>> Deserialize<'de> for Unique<V> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Keys<V>(PhantomData<V>);
        impl<'de, V: Deserialize<'de>> Visitor<'de> for Keys<V> {
            type Value = Unique<V>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Self::Value, A::Error> {
                let mut map = BTreeMap::new();
                while let Some((key, value)) = entries.next_entry::<String, V>()? {
                    if map.contains_key(&key) {
                        return Err(A::Error::custom(format!("the name {key} is there twice")));
                    }
                    map.insert(key, value);
                }
                Ok(Unique(map))
            }
        }
        deserializer.deserialize_map(Keys(PhantomData))
    }
}

/// The tensors of a header in the order of their bytes, which they fill without a gap, and its text.
#[allow(clippy::type_complexity, reason = "a list and a map")]
fn parse(header: &[u8]) -> Result<(Vec<(String, TensorInfo)>, BTreeMap<String, String>), String> {
    let Unique(mut entries) = serde_json::from_slice::<Unique<&RawValue>>(header)
        .map_err(|error| format!("not a safetensors file: broken header: {error}"))?;
    let text = match entries.remove(TEXT) {
        Some(text) => serde_json::from_str::<Option<Unique<String>>>(text.get())
            .map_err(|error| format!("broken {TEXT} in the header: {error}"))?,
        None => None,
    };
    let mut tensors = Vec::new();
    for (name, entry) in entries {
        let info = serde_json::from_str::<TensorInfo>(entry.get())
            .map_err(|error| format!("tensor {name} has a broken entry in the header: {error}"))?;
        tensors.push((name, info));
    }
    tensors.sort_by_key(|(_, info)| info.data_offsets);
    let mut expected = 0;
    for (name, info) in &tensors {
        let shape = Shape::checked(&info.shape).map_err(|error| format!("tensor {name}: {error}"))?;
        let bytes = match info.dtype {
            Dtype::F16 | Dtype::BF16 => 2,
            Dtype::F32 => 4,
            Dtype::F64 => 8,
            Dtype::I64 if name.ends_with(COUNTER) => 8,
            other => return Err(format!("tensor {name} is {other}, expected F16, BF16, F32 or F64")),
        };
        let (begin, end) = info.data_offsets;
        let filled = shape.elements().checked_mul(bytes).and_then(|bytes| begin.checked_add(bytes));
        if begin != expected || filled != Some(end) {
            let offsets = format!("has the bytes {begin} to {end}");
            let dtype = info.dtype;
            return Err(format!(
                "tensor {name} {offsets}, expected {shape} numbers of {dtype} from {expected}"
            ));
        }
        expected = end;
    }
    Ok((tensors, text.map_or_else(BTreeMap::new, |Unique(text)| text)))
}

/// The tensor that a header's entry and bytes make.
fn numbers(info: &TensorInfo, bytes: &[u8]) -> Result<Tensor<f32>, String> {
    let shape = Shape::new(&info.shape);
    let short = |index: usize| u16::from_le_bytes(bytes.as_chunks().0[index]);
    let double = |index: usize| f64::from_le_bytes(bytes.as_chunks().0[index]);
    Ok(match info.dtype {
        Dtype::F16 => Tensor::from_fn(shape, |index| half(short(index))),
        Dtype::BF16 => Tensor::from_fn(shape, |index| f32::from_bits(u32::from(short(index)) << 16)),
        Dtype::F64 => {
            let tensor = Tensor::from_fn(shape, |index| double(index) as f32);
            let lost = |&index: &usize| double(index).is_finite() && tensor.data()[index].is_infinite();
            if let Some(index) = (0..shape.elements()).find(lost) {
                let value = double(index);
                return Err(format!("has {value:e} at element {index}, which is beyond 32-bit numbers"));
            }
            tensor
        }
        _ => {
            let mut tensor = Tensor::zeros(shape);
            bytemuck::cast_slice_mut(tensor.data_mut()).copy_from_slice(bytes);
            tensor
        }
    })
}

/// The number of IEEE 754's 16 bits: a sign, five bits of exponent, ten of fraction. Each has its like in 32 bits.
fn half(bits: u16) -> f32 {
    let sign = u32::from(bits >> 15) << 31;
    let exponent = u32::from(bits >> 10 & 31);
    let fraction = u32::from(bits & 1023);
    f32::from_bits(
        sign | match exponent {
            // Without a leading one: a multiple of 2^-24.
            0 => (fraction as f32 / (1 << 24) as f32).to_bits(),
            // Infinity, and NaN with what it carries.
            31 => 255 << 23 | fraction << 13,
            _ => (exponent + (127 - 15)) << 23 | fraction << 13,
        },
    )
}

/// A file's text without its checksums, once all of them are right. Text that has none comes from elsewhere.
fn verified<'a>(
    tensors: &[(String, TensorInfo)],
    bytes: impl Fn(&TensorInfo) -> &'a [u8],
    mut text: BTreeMap<String, String>,
) -> Result<HashMap<String, String>, String> {
    if !text.keys().any(|key| key.starts_with(CHECKSUM)) {
        return Ok(text.into_iter().collect());
    }
    let compare = |what: &str, expected: Option<String>, found: &str| match expected {
        Some(expected) if expected == found => Ok(()),
        Some(expected) => Err(format!("{what} is damaged: its checksum is {found}, expected {expected}")),
        None => Err(format!("{what} is damaged: its checksum is missing")),
    };
    let expected = text.remove(CHECKSUM);
    compare("the header", expected, &checksum(&text, &[]))?;
    for (name, info) in tensors {
        let found = checksum(&(name, info.dtype, &info.shape), bytes(info));
        compare(&format!("tensor {name}"), text.remove(&key(name)), &found)?;
    }
    match text.keys().find_map(|key| key.strip_prefix(CHECKSUM)) {
        Some(name) => Err(format!("tensor {} is missing, of which there is a checksum", &name[1..])),
        None => Ok(text.into_iter().collect()),
    }
}

/// Saves a network's parameters under the names of PyTorch's `state_dict`.
///
/// # Errors
/// [`FileError::Io`]; an old file of that name is whole then.
pub fn save_parameters(path: &Path, module: &dyn Module<f32>) -> Result<(), FileError> {
    let all: Vec<(String, &Tensor<f32>)> =
        parameters(module).into_iter().map(|(name, parameter)| (name, &parameter.value)).collect();
    save_tensors(path, &all, HashMap::new())
}

/// Loads a network's parameters. Nothing is changed unless the file holds exactly them, in any type that [`load_tensors`] reads, and
/// where all names begin with `module.`, as PyTorch's `DataParallel` has them, without that.
///
/// # Errors
/// [`FileError::Content`] with the first name that is missing, too many, or of another shape, or of NaN and infinities;
/// otherwise as [`load_tensors`].
pub fn load_parameters(path: &Path, module: &mut dyn Module<f32>) -> Result<(), FileError> {
    put(path, module, load_tensors(path)?.0, None).map(drop)
}

/// Loads the parameters whose names match a pattern, in which `*` stands for any text, from a file that may hold others, and says
/// how many they are: all but a new last layer, for instance. Nothing is changed unless the file holds all of them.
///
/// # Errors
/// [`FileError::Content`] if no name matches; otherwise as [`load_parameters`].
pub fn load_matching(path: &Path, module: &mut dyn Module<f32>, pattern: &str) -> Result<usize, FileError> {
    put(path, module, load_tensors(path)?.0, Some(pattern))
}

/// Puts the tensors of a file in the place of a network's parameters, all of them or those that match.
pub(crate) fn put(
    path: &Path,
    module: &mut dyn Module<f32>,
    mut tensors: BTreeMap<String, Tensor<f32>>,
    pattern: Option<&str>,
) -> Result<usize, FileError> {
    let mut own = parameters(module);
    // What is done to images is no weight.
    drop(whiten::taken(&mut tensors));
    // The name that PyTorch's `DataParallel` puts before all others.
    const WRAPPER: &str = "module.";
    if tensors.keys().all(|name| name.starts_with(WRAPPER))
        && !own.iter().any(|(name, _)| name.starts_with(WRAPPER))
    {
        tensors =
            tensors.into_iter().map(|(name, tensor)| (name[WRAPPER.len()..].to_owned(), tensor)).collect();
    }
    let mismatch = |difference| Err(content(path, format!("weights of another network: {difference}")));
    if let Some(pattern) = pattern {
        own.retain(|(name, _)| matches(pattern, name));
        tensors.retain(|name, _| own.iter().any(|(own, _)| own == name));
        if own.is_empty() {
            return mismatch(format!("no parameter's name matches {pattern:?}"));
        }
    }
    if let Some(difference) = difference(&own, &tensors) {
        return mismatch(difference);
    }
    for (name, tensor) in &tensors {
        if let Some(index) = tensor.data().iter().position(|x| !x.is_finite()) {
            let value = tensor.data()[index];
            let found = format!("tensor {name} has a weight of {value} at element {index}");
            return Err(content(path, format!("{found}, expected finite numbers")));
        }
    }
    let count = tensors.len();
    replace_values(module, tensors);
    Ok(count)
}

/// The difference of tensors from a network's parameters: the first name that is missing, of another shape, or too many.
pub(crate) fn difference(
    own: &[(String, &Parameter<f32>)],
    tensors: &BTreeMap<String, Tensor<f32>>,
) -> Option<String> {
    for (name, parameter) in own {
        let expected = parameter.value.shape();
        match tensors.get(name).map(Tensor::shape) {
            Some(found) if found == expected => {}
            Some(found) => return Some(format!("tensor {name} is {found}, expected {expected}")),
            None => return Some(format!("no tensor {name}, expected {expected}")),
        }
    }
    let extra = tensors.keys().find(|name| own.iter().all(|(own, _)| own != *name))?;
    Some(format!("tensor {extra} is not one of the network's {}", own.len()))
}

/// Puts tensors in the place of the parameters of their names.
pub(crate) fn replace_values(module: &mut dyn Module<f32>, mut tensors: BTreeMap<String, Tensor<f32>>) {
    for (name, parameter) in parameters_mut(module) {
        if let Some(tensor) = tensors.remove(&name) {
            parameter.value = tensor;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use safetensors::tensor::TensorView;
    use tensor::init::Init;

    use super::*;
    use crate::models::nin_block;
    use crate::nn::{BatchNorm2d, Conv2d, Relu, Sequential, initialize};

    fn block(width: usize, seed: u64) -> Sequential<f32> {
        let mut block = nin_block(1, width, 3, 1, 1);
        initialize(&mut block, Init::HeNormal, Init::Constant(0.5), seed);
        block
    }

    fn values(module: &dyn Module<f32>) -> Vec<Tensor<f32>> {
        parameters(module).into_iter().map(|(_, parameter)| parameter.value.clone()).collect()
    }

    /// The place of a file in a folder of its own.
    fn place() -> (tempfile::TempDir, PathBuf) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("model.safetensors");
        (folder, path)
    }

    /// The error of loading a file, which changes nothing.
    fn refused(path: &Path) -> String {
        let mut own = block(4, 2);
        let error = load_parameters(path, &mut own).unwrap_err().to_string();
        assert_eq!(values(&own), values(&block(4, 2)), "nothing is changed");
        error
    }

    #[test]
    fn what_is_saved_loads_again() {
        let (folder, path) = place();
        save_parameters(&path, &block(4, 1)).unwrap();
        let mut other = block(4, 2);
        load_parameters(&path, &mut other).unwrap();
        assert_eq!(values(&other), values(&block(4, 1)));
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1, "nothing is left beside the file");
    }

    /// The first two layers of a block whose third has another width.
    #[test]
    fn a_part_loads_by_its_names() {
        let (_folder, path) = place();
        save_parameters(&path, &block(4, 1)).unwrap();
        let net =
            || Sequential::new().with(Conv2d::new(1, 4, 3, 1, 1)).with(Relu).with(Conv2d::new(4, 7, 1, 1, 0));
        let mut other = net();
        assert_eq!(load_matching(&path, &mut other, "0.*").unwrap(), 2);
        assert_eq!(values(&other)[..2], values(&block(4, 1))[..2]);
        assert_eq!(values(&other)[2..], values(&net())[2..]);
        let mut refused = |pattern| load_matching(&path, &mut other, pattern).unwrap_err().to_string();
        assert!(refused("2.*").ends_with("tensor 2.weight is 4 x 4 x 1 x 1, expected 7 x 4 x 1 x 1"));
        assert!(refused("1.*").ends_with("no parameter's name matches \"1.*\""));
    }

    #[test]
    fn other_networks_and_broken_files_are_refused_and_change_nothing() {
        let (_folder, path) = place();
        assert!(refused(&path).contains("model.safetensors: cannot open: "));
        save_parameters(&path, &block(4, 1)).unwrap();
        let whole = std::fs::read(&path).unwrap();
        for (bytes, expected) in [
            (
                &b"PK\x03\x04\x14\0\0\0, and so on"[..],
                r#"not a safetensors file: "PK\x03\x04\x14\x00\x00\x00" is no length of a header"#,
            ),
            (b"{\"a\\n\"", r#"not a safetensors file: "{\"a\\n\"" is no length of a header"#),
            (&whole[..100], "cut off in its header: expected 624 bytes, found 92"),
            (&whole[..whole.len() - 9], "320 bytes of tensors are expected behind the header, found 311"),
            (&[&whole[..], b"x"].concat(), "320 bytes of tensors are expected behind the header, found more"),
        ] {
            std::fs::write(&path, bytes).unwrap();
            let error = refused(&path);
            assert!(error.ends_with(expected), "{error}");
        }
        save_parameters(&path, &block(5, 1)).unwrap();
        let expected = "weights of another network: tensor 0.weight is 5 x 1 x 3 x 3, expected 4 x 1 x 3 x 3";
        assert!(refused(&path).ends_with(expected));
        for value in [f32::NAN, f32::NEG_INFINITY] {
            let mut broken = block(4, 1);
            parameters_mut(&mut broken)[2].1.value.data_mut()[5] = value;
            save_parameters(&path, &broken).unwrap();
            let expected = format!("tensor 2.weight has a weight of {value} at element 5");
            assert!(refused(&path).contains(&expected));
        }
    }

    /// A file whose tensors have the wrong names or element type is another network's, however whole it is.
    #[test]
    fn names_and_element_types_must_be_the_networks() {
        let (_folder, path) = place();
        let source = block(4, 1);
        let mut all: Vec<(String, &Tensor<f32>)> =
            parameters(&source).into_iter().map(|(name, parameter)| (name, &parameter.value)).collect();
        let extra = Tensor::full([2], 1.0);
        all.push(("9.weight".to_owned(), &extra));
        save_tensors(&path, &all, HashMap::new()).unwrap();
        assert!(refused(&path).ends_with("tensor 9.weight is not one of the network's 6"), "too many");
        save_tensors(&path, &all[..5], HashMap::new()).unwrap();
        assert!(refused(&path).ends_with("no tensor 4.bias, expected 4"), "one is missing");
        let view = TensorView::new(Dtype::I16, vec![4], &[0; 8]).unwrap();
        std::fs::write(&path, safetensors::serialize([("0.bias", view)], None).unwrap()).unwrap();
        let error = refused(&path);
        assert!(error.ends_with("tensor 0.bias is I16, expected F16, BF16, F32 or F64"), "{error}");
    }

    #[test]
    fn numbers_that_are_not_finite_and_text_come_back() {
        let (_folder, path) = place();
        let odd = Tensor::from_slice([3], &[f32::NAN, f32::NEG_INFINITY, -0.0]).unwrap();
        let text = HashMap::from([("epoch".to_owned(), "3".to_owned())]);
        save_tensors(&path, &[("velocity".to_owned(), &odd)], text.clone()).unwrap();
        let (tensors, metadata) = load_tensors(&path).unwrap();
        assert_eq!(metadata, text);
        let bits = |tensor: &Tensor<f32>| tensor.data().iter().map(|x| x.to_bits()).collect::<Vec<_>>();
        assert_eq!(bits(&tensors["velocity"]), bits(&odd));
    }

    fn bits(tensors: &BTreeMap<String, Tensor<f32>>) -> Vec<(&str, Shape, Vec<u32>)> {
        let of = |tensor: &Tensor<f32>| tensor.data().iter().map(|x| x.to_bits()).collect();
        tensors.iter().map(|(name, tensor)| (name.as_str(), tensor.shape(), of(tensor))).collect()
    }

    /// Whichever bit of a file flips: it is refused. One is harmless here, which turns `\u001b` into `\u001B`: that is the same text.
    #[test]
    fn every_flipped_bit_is_found() {
        let [weight, bias, step] =
            [&[2, 3][..], &[2], &[]].map(|shape| Tensor::from_fn(Shape::new(shape), |i| i as f32 - 1.5));
        let tensors = [("0.weight", &weight), ("0.bias", &bias), ("0.step", &step)];
        let tensors = tensors.map(|(name, tensor)| (name.to_owned(), tensor));
        let text = [("step", "7"), ("parameters", "0.weight,0.bias"), ("note", "\u{1b}\"\\\n")];
        let text = HashMap::from(text.map(|(key, value)| (key.to_owned(), value.to_owned())));
        let file = encode(&tensors, text.clone());
        for _ in 0..4 {
            assert_eq!(encode(&tensors, text.iter().map(|(k, v)| (k.clone(), v.clone())).collect()), file);
        }
        let path = Path::new("some.safetensors");
        let whole = read_tensors(&file[..], path).unwrap();
        assert_eq!((whole.0.len(), &whole.1), (3, &text));
        let mut harmless = Vec::new();
        for bit in 0..file.len() * 8 {
            let mut flipped = file.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            if let Ok(found) = read_tensors(&flipped[..], path) {
                assert_eq!((bits(&found.0), &found.1), (bits(&whole.0), &text), "bit {bit}");
                harmless.push(bit);
            }
        }
        assert_eq!(harmless.len(), 1, "{harmless:?} of {}", file.len() * 8);
        assert_eq!(file[harmless[0] / 8 - 5..=harmless[0] / 8], *b"\\u001b");
        let mut flipped = file.clone();
        *flipped.last_mut().unwrap() ^= 128;
        let error = read_tensors(&flipped[..], path).unwrap_err().to_string();
        let expected = "some.safetensors: tensor 0.weight is damaged: its checksum is ";
        assert!(error.starts_with(expected), "{error}");
    }

    /// Checksums and tensors are those of each other, both ways; a file without any is one of another program.
    #[test]
    fn checksums_are_of_all_tensors_and_of_no_others() {
        let numbers = Tensor::full([2], 1.0);
        let path = Path::new("some.safetensors");
        let sums = |names: &[&str], about: &str| {
            let of = |name: &&str| {
                let bytes = bytemuck::cast_slice(numbers.data());
                (key(name), checksum(&(about, Dtype::F32, &numbers.shape()[..]), bytes))
            };
            names.iter().map(of).collect::<BTreeMap<String, String>>()
        };
        let read = |mut text: BTreeMap<String, String>, mark: bool| {
            if mark {
                text.insert(CHECKSUM.to_owned(), checksum(&text, &[]));
            }
            let bytes = bytemuck::cast_slice(numbers.data());
            let view = TensorView::new(Dtype::F32, vec![2], bytes).unwrap();
            let file = safetensors::serialize([("a", view)], Some(text.into_iter().collect())).unwrap();
            read_tensors(&file[..], path).map(|(tensors, text)| (tensors["a"].clone(), text.len()))
        };
        let refused =
            |text, mark| read(text, mark).unwrap_err().to_string().replace("some.safetensors: ", "");
        assert_eq!(read(sums(&["a"], "a"), true).unwrap(), (numbers.clone(), 0));
        assert_eq!(read(BTreeMap::new(), false).unwrap(), (numbers.clone(), 0));
        let missing = "tensor a is damaged: its checksum is missing";
        assert_eq!(refused(BTreeMap::new(), true), missing);
        assert_eq!(refused(sums(&["a"], "a"), false), "the header is damaged: its checksum is missing");
        assert_eq!(
            refused(sums(&["a", "b"], "a"), true),
            "tensor b is missing, of which there is a checksum"
        );
        assert!(refused(sums(&["a"], "b"), true).contains("tensor a is damaged: its checksum is "));
    }

    /// A file of a header that is written out and a number of bytes.
    fn with_header(header: &str, bytes: usize) -> Vec<u8> {
        [&(header.len() as u64).to_le_bytes(), header.as_bytes(), &vec![0; bytes]].concat()
    }

    #[test]
    fn headers_that_lie_are_refused_in_one_printable_line() {
        let tensor = |name: &str, dtype: &str, shape: &str, begin: usize, end: usize| {
            format!(r#""{name}":{{"dtype":"{dtype}","shape":{shape},"data_offsets":[{begin},{end}]}}"#)
        };
        let a = tensor("a", "F32", "[2]", 0, 8);
        for (entries, expected) in [
            (
                format!("{a},{}", tensor("a", "F32", "[2]", 0, 8)),
                "broken header: the name a is there twice at line 1",
            ),
            (format!("{a},{}", tensor("\\u0061", "F32", "[0]", 8, 8)), "the name a is there twice"),
            (
                format!(r#""__metadata__":{{"k":"1","k":"2"}},{a}"#),
                "broken __metadata__ in the header: the name k is there twice",
            ),
            (
                format!(r#""__metadata__":{{}},"__metadata__":{{}},{a}"#),
                "the name __metadata__ is there twice",
            ),
            (
                tensor("a", "F32", "[9223372036854775808,2]", 0, 8),
                "tensor a: shape: [9223372036854775808, 2] are more elements",
            ),
            (tensor("a", "F32", "[0,9223372036854775808,2]", 0, 8), "are more elements than can be counted"),
            (
                tensor("a", "F32", "[9223372036854775808]", 0, 8),
                "expected 9223372036854775808 numbers of F32 from 0",
            ),
            (tensor("a", "F64", "[2305843009213693952]", 0, 8), "tensor a has the bytes 0 to 8, expected "),
            (
                tensor("a", "F32", "[1,1,1,1,2]", 0, 8),
                "tensor a: shape: at most 4 axes are expected, found 5",
            ),
            (
                tensor("a", "F32", "[-1]", 0, 8),
                "tensor a has a broken entry in the header: invalid value: integer `-1`",
            ),
            (
                tensor("a", "F32", "[2]", 8, 0),
                "tensor a has the bytes 8 to 0, expected 2 numbers of F32 from 0",
            ),
            (
                format!("{a},{}", tensor("b", "F32", "[1]", 4, 8)),
                "tensor b has the bytes 4 to 8, expected 1 numbers of F32 from 8",
            ),
            (format!("{a},{}", tensor("b", "F32", "[1]", 12, 16)), "tensor b has the bytes 12 to 16"),
            (tensor("a", "F32", "[18446744073709551615]", 18446744073709551612, 0), "tensor a has the bytes"),
            (tensor("\\u001b[31m\\nred", "I8", "[8]", 0, 8), "tensor \\u{1b}[31m\\nred is I8, expected"),
            (tensor("a", "\\u001b[31m", "[8]", 0, 8), "unknown variant `\\u{1b}[31m`"),
            (format!("{}1{}", "[".repeat(100_000), "]".repeat(100_000)), "broken header: "),
        ] {
            let error = read_tensors(&with_header(&format!("{{{entries}}}"), 8)[..], Path::new("f"))
                .unwrap_err()
                .to_string();
            assert!(error.contains(expected) && !error.contains(char::is_control), "{error}");
        }
        let (tensors, text) = read_tensors(&with_header("{}", 0)[..], Path::new("f")).unwrap();
        assert!(tensors.is_empty() && text.is_empty(), "no tensors are none");
    }

    /// Each number of 16 bits, by the definition of the type.
    #[test]
    fn half_numbers_are_exact() {
        for bits in 0..=u16::MAX {
            let [exponent, fraction] = [i32::from(bits >> 10 & 31), i32::from(bits & 1023)];
            let magnitude = match exponent {
                0 => f64::from(fraction) * 2f64.powi(-24),
                31 if fraction == 0 => f64::INFINITY,
                31 => f64::NAN,
                _ => f64::from(1024 + fraction) * 2f64.powi(exponent - 25),
            };
            let expected = if bits >> 15 == 0 { magnitude } else { -magnitude };
            let found = f64::from(half(bits));
            assert!(found == expected || found.is_nan() && expected.is_nan(), "{bits:#06x}: {found}");
            assert_eq!(found.is_sign_negative(), bits >> 15 == 1, "{bits:#06x}");
        }
    }

    #[test]
    fn doubles_beyond_the_range_are_refused() {
        let read = |values: &[f64]| {
            let bytes: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
            let view = TensorView::new(Dtype::F64, vec![values.len()], &bytes).unwrap();
            let file = safetensors::serialize([("a", view)], None).unwrap();
            read_tensors(&file[..], Path::new("f")).map(|(tensors, _)| tensors["a"].clone())
        };
        let most = f64::from(f32::MAX);
        let numbers = read(&[0.1, -most, f64::INFINITY, 1e-300, f64::NAN]).unwrap();
        assert_eq!(numbers.data()[..4], [0.1, -f32::MAX, f32::INFINITY, 0.0]);
        assert!(numbers.data()[4].is_nan());
        let error = read(&[1.0, -1e39]).unwrap_err().to_string();
        assert_eq!(error, "f: tensor a has -1e39 at element 1, which is beyond 32-bit numbers");
    }

    /// As `DataParallel` saves them. A network whose own names begin so keeps them, and one name without it keeps all.
    #[test]
    fn a_wrapper_before_all_names_is_taken_off() {
        let (_folder, path) = place();
        let source = block(4, 1);
        let save = |wrapped: usize| {
            let all = parameters(&source).into_iter().enumerate();
            let wrapper = |index| if index < wrapped { "module." } else { "" };
            let all: Vec<(String, &Tensor<f32>)> =
                all.map(|(index, (name, own))| (format!("{}{name}", wrapper(index)), &own.value)).collect();
            save_tensors(&path, &all, HashMap::new()).unwrap();
        };
        save(6);
        let mut other = block(4, 2);
        load_parameters(&path, &mut other).unwrap();
        assert_eq!(values(&other), values(&source));
        let mut own = Sequential::new().named("module", block(4, 2));
        load_parameters(&path, &mut own).unwrap();
        assert_eq!(values(&own), values(&source));
        save(5);
        assert!(refused(&path).ends_with("no tensor 0.weight, expected 4 x 1 x 3 x 3"));
    }

    /// A normalization as PyTorch saves it.
    #[test]
    fn counters_of_batches_are_left_out() {
        let (_folder, path) = place();
        let numbers: Vec<u8> = [1.5f32, -2.0].iter().flat_map(|number| number.to_le_bytes()).collect();
        let save = |counter: &'static str| {
            let names = ["bn.weight", "bn.bias", "bn.running_mean", "bn.running_var"];
            let mut all =
                names.map(|name| (name, TensorView::new(Dtype::F32, vec![2], &numbers).unwrap())).to_vec();
            all.insert(3, (counter, TensorView::new(Dtype::I64, vec![], &[7, 0, 0, 0, 0, 0, 0, 0]).unwrap()));
            std::fs::write(&path, safetensors::serialize(all, None).unwrap()).unwrap();
        };
        save("bn.num_batches_tracked");
        let mut net = Sequential::new().named("bn", BatchNorm2d::new(2));
        load_parameters(&path, &mut net).unwrap();
        assert!(values(&net).iter().all(|value| value.data() == [1.5, -2.0]));
        save("bn.counter");
        assert!(refused(&path).ends_with("tensor bn.counter is I64, expected F16, BF16, F32 or F64"));
    }
}
