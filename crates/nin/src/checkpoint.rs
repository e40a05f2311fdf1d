//! Weights on disk: safetensors files with the names of PyTorch's `state_dict`.

use std::collections::{BTreeMap, HashMap};
use std::fmt::Display;
use std::path::Path;

use safetensors::SafeTensors;
use safetensors::tensor::Dtype;
use serde::Serialize;
use serde_json::json;
use tensor::{Shape, Tensor};

use crate::disk::{self, FileError, atomic_write, content};
use crate::nn::{Module, Parameter, parameters, parameters_mut};
use crate::optim::matches;

fn broken(path: &Path, reason: impl Display) -> FileError {
    content(path, format!("not a whole safetensors file: {reason}"))
}

#[cfg(target_endian = "big")]
compile_error!("safetensors files are little-endian: weights are written and read as they lie in memory");

/// The key in a file's text under which the checksum of all other text is. Behind it and a dot, the name of each tensor is the key
/// of that tensor's: were one key damaged, the others would still say that the file is to be checked.
const CHECKSUM: &str = "nin.crc32";

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
    let mut end = 0;
    for (name, tensor) in tensors {
        let bytes: &[u8] = bytemuck::cast_slice(tensor.data());
        let (dtype, shape) = (Dtype::F32, &tensor.shape()[..]);
        text.insert(key(name), checksum(&(name, dtype, shape), bytes));
        let offsets = [end, end + bytes.len()];
        end = offsets[1];
        let entry = json!({"dtype": dtype, "shape": shape, "data_offsets": offsets});
        assert!(header.insert(name.as_str(), entry).is_none(), "two tensors are called {name}");
    }
    text.insert(CHECKSUM.to_owned(), checksum(&text, &[]));
    assert!(header.insert("__metadata__", json!(text)).is_none(), "a tensor has the name of the text");
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

/// Loads every tensor of a file by its name, and the text beside them, without the checksums. A file that has checksums holds exactly
/// what they were made of.
///
/// # Errors
/// [`FileError::Io`] if it cannot be read, [`FileError::Content`] if it is no safetensors file, holds anything but `f32` tensors of at
/// most four axes, or differs from its checksums.
#[allow(clippy::type_complexity, reason = "two maps side by side")]
pub fn load_tensors(
    path: &Path,
) -> Result<(BTreeMap<String, Tensor<f32>>, HashMap<String, String>), FileError> {
    decode(path, &disk::read(path)?)
}

#[allow(clippy::type_complexity, reason = "two maps side by side")]
fn decode(
    path: &Path,
    bytes: &[u8],
) -> Result<(BTreeMap<String, Tensor<f32>>, HashMap<String, String>), FileError> {
    let file = SafeTensors::deserialize(bytes).map_err(|error| broken(path, error))?;
    let (_, header) = SafeTensors::read_metadata(bytes).map_err(|error| broken(path, error))?;
    let metadata = header.metadata().iter().flatten().map(|(key, text)| (key.clone(), text.clone()));
    let metadata = verified(&file, metadata.collect()).map_err(|reason| content(path, reason))?;
    let mut tensors = BTreeMap::new();
    for (name, view) in file.tensors() {
        if view.dtype() != Dtype::F32 {
            return Err(broken(path, format!("tensor {name} is {:?}, expected F32", view.dtype())));
        }
        let shape =
            Shape::checked(view.shape()).map_err(|error| broken(path, format!("tensor {name}: {error}")))?;
        let mut tensor = Tensor::zeros(shape);
        bytemuck::cast_slice_mut(tensor.data_mut()).copy_from_slice(view.data());
        tensors.insert(name, tensor);
    }
    Ok((tensors, metadata))
}

/// A file's text without its checksums, once all of them are right. Text that has none comes from elsewhere.
fn verified(
    file: &SafeTensors<'_>,
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
    for (name, view) in file.iter() {
        let found = checksum(&(name, view.dtype(), view.shape()), view.data());
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

/// Loads a network's parameters. Nothing is changed unless the file holds exactly them.
///
/// # Errors
/// [`FileError::Content`] with the first name that is missing, too many, or of another shape, or of NaN and infinities;
/// otherwise as [`load_tensors`].
pub fn load_parameters(path: &Path, module: &mut dyn Module<f32>) -> Result<(), FileError> {
    load(path, module, None).map(drop)
}

/// Loads the parameters whose names match a pattern, in which `*` stands for any text, from a file that may hold others, and says
/// how many they are: all but a new last layer, for instance. Nothing is changed unless the file holds all of them.
///
/// # Errors
/// [`FileError::Content`] if no name matches; otherwise as [`load_parameters`].
pub fn load_matching(path: &Path, module: &mut dyn Module<f32>, pattern: &str) -> Result<usize, FileError> {
    load(path, module, Some(pattern))
}

fn load(path: &Path, module: &mut dyn Module<f32>, pattern: Option<&str>) -> Result<usize, FileError> {
    let (mut tensors, _) = load_tensors(path)?;
    let mismatch = |difference| Err(content(path, format!("weights of another network: {difference}")));
    let mut own = parameters(module);
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
    use crate::nn::{Conv2d, Relu, Sequential, initialize};

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
        assert!(refused(&path).contains("model.safetensors: cannot read: "));
        save_parameters(&path, &block(4, 1)).unwrap();
        let whole = std::fs::read(&path).unwrap();
        for bytes in [b"not a safetensors file", &whole[..whole.len() - 9]] {
            std::fs::write(&path, bytes).unwrap();
            assert!(refused(&path).contains("not a whole safetensors file"));
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
        let view = TensorView::new(Dtype::F16, vec![4], &[0; 8]).unwrap();
        std::fs::write(&path, safetensors::serialize([("0.bias", view)], None).unwrap()).unwrap();
        assert!(refused(&path).ends_with("tensor 0.bias is F16, expected F32"), "another element type");
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
        let whole = decode(path, &file).unwrap();
        assert_eq!((whole.0.len(), &whole.1), (3, &text));
        let mut harmless = Vec::new();
        for bit in 0..file.len() * 8 {
            let mut flipped = file.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            if let Ok(found) = decode(path, &flipped) {
                assert_eq!((bits(&found.0), &found.1), (bits(&whole.0), &text), "bit {bit}");
                harmless.push(bit);
            }
        }
        assert_eq!(harmless.len(), 1, "{harmless:?} of {}", file.len() * 8);
        assert_eq!(file[harmless[0] / 8 - 5..=harmless[0] / 8], *b"\\u001b");
        let mut flipped = file.clone();
        *flipped.last_mut().unwrap() ^= 128;
        let error = decode(path, &flipped).unwrap_err().to_string();
        let expected = "some.safetensors: tensor 0.step is damaged: its checksum is ";
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
            decode(path, &file).map(|(tensors, text)| (tensors["a"].clone(), text.len()))
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
}
