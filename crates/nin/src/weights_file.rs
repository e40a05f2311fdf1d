//! Safetensors files: named tensors with text beside them, and checksums of both.

use std::collections::BTreeMap;
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

use crate::disk::{self, FileError, atomic_write, content, io};

#[cfg(target_endian = "big")]
compile_error!("safetensors files are little-endian: weights are written and read as they lie in memory");

/// The most bytes of a header, as the format has it.
const MAX_HEADER: u64 = 100_000_000;

/// The name under which a header has the text.
const TEXT: &str = "__metadata__";

/// The key in a file's text under which the checksum of all other text is. Behind it and a dot, the name of each tensor is the
/// key of that tensor's: were one key damaged, the others would still say that the file is to be checked.
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

/// Saves named tensors and text, with a checksum of each in the text, under keys that begin with `nin.crc32`. The same ones make
/// the same bytes.
///
/// # Errors
/// [`FileError::Content`] if two tensors have one name, or one is called `__metadata__`, the format's own name for the text;
/// otherwise [`FileError::Io`]. An old file of that name is whole then.
pub fn save_tensors(
    path: &Path,
    tensors: &[(String, &Tensor<f32>)],
    text: BTreeMap<String, String>,
) -> Result<(), FileError> {
    atomic_write(path, &encode(tensors, text).map_err(|reason| content(path, reason))?)
}

/// The file of tensors and text, or which name cannot be in it. Written here rather than by the crate, whose order of the text is
/// another one in each process.
pub(crate) fn encode(
    tensors: &[(String, &Tensor<f32>)],
    mut text: BTreeMap<String, String>,
) -> Result<Vec<u8>, String> {
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
        if name == TEXT {
            return Err(format!("a tensor is called {TEXT}, as the text is"));
        }
        if header.insert(name.as_str(), entry).is_some() {
            return Err(format!("two tensors are called {name}"));
        }
    }
    text.insert(CHECKSUM.to_owned(), checksum(&text, &[]));
    header.insert(TEXT, json!(text));
    let mut header = serde_json::to_vec(&header).expect("plain data");
    // The numbers begin at a multiple of eight bytes.
    header.resize(header.len().next_multiple_of(8), b' ');
    let mut file = Vec::with_capacity(8 + header.len() + end);
    file.extend((header.len() as u64).to_le_bytes());
    file.append(&mut header);
    for (_, tensor) in tensors {
        file.extend_from_slice(bytemuck::cast_slice(tensor.data()));
    }
    Ok(file)
}

/// Tensors by their names, and the text beside them.
pub type Contents = (BTreeMap<String, Tensor<f32>>, BTreeMap<String, String>);

/// Loads every tensor of a file by its name, and the text beside them, without the checksums. A file that has checksums holds
/// exactly what they were made of. Numbers of 16 bits (half, bfloat) are converted exactly, those of 64 bits rounded. PyTorch's
/// counters of batches (`num_batches_tracked`), with which nothing is computed, are left out.
///
/// # Errors
/// [`FileError::Io`] if it cannot be read, [`FileError::Content`] if it is no safetensors file, is cut off or too long, has a
/// name twice, holds anything but floating-point tensors of at most four axes within the range of `f32`, or differs from its
/// checksums.
pub fn load_tensors(path: &Path) -> Result<Contents, FileError> {
    read_tensors(disk::open(path)?, path)
}

/// Loads the tensors of a stream. `source` is the name that errors carry. Memory grows with what arrives, whatever a header
/// promises.
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
    let length = start.as_array().map(|&bytes| u64::from_le_bytes(bytes));
    let Some(length) = length.filter(|&length| length <= MAX_HEADER) else {
        return Err(refuse(format!("not a safetensors file{}", told_by(&start))));
    };
    let header = take(length)?;
    if (header.len() as u64) < length {
        let found = header.len();
        return Err(refuse(format!("cut off in its header: expected {length} bytes, found {found}")));
    }
    let (tensors, text) = parse(&header).map_err(refuse)?;
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

/// The rest of an error of a file that begins otherwise: of the files that weights come in as well, what it is and what to do.
fn told_by(start: &[u8]) -> String {
    const SAVE: &str = "save the state dict with safetensors.torch.save_file";
    match start {
        [b'P', b'K', 3, 4, ..] => format!(" but a zip archive, as torch.save writes: {SAVE}"),
        [0x80, 2..=5, ..] => format!(" but a pickle, as torch.save wrote before 1.6: {SAVE}"),
        // The fields of a model: its version, and who made it.
        [8, _, 0x12, ..] => {
            " but, it seems, an ONNX file: weights are read from safetensors files alone".to_owned()
        }
        b"version " => " but, it seems, a pointer of Git LFS: fetch the file with git lfs pull".to_owned(),
        _ => format!(": \"{}\" is no length of a header", start.escape_ascii()),
    }
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
    let (shorts, doubles) = (bytes.as_chunks().0, bytes.as_chunks().0);
    let short = |index: usize| u16::from_le_bytes(shorts[index]);
    let double = |index: usize| f64::from_le_bytes(doubles[index]);
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
) -> Result<BTreeMap<String, String>, String> {
    if !text.keys().any(|key| key.starts_with(CHECKSUM)) {
        return Ok(text);
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
        None => Ok(text),
    }
}

#[cfg(test)]
mod tests {
    use safetensors::tensor::TensorView;

    use super::*;
    use crate::testing::place;

    #[test]
    fn numbers_that_are_not_finite_and_text_come_back() {
        let (_folder, path) = place("some.safetensors");
        let odd = Tensor::from_slice([3], &[f32::NAN, f32::NEG_INFINITY, -0.0]).unwrap();
        let text = BTreeMap::from([("epoch".to_owned(), "3".to_owned())]);
        save_tensors(&path, &[("velocity".to_owned(), &odd)], text.clone()).unwrap();
        let (tensors, metadata) = load_tensors(&path).unwrap();
        assert_eq!(metadata, text);
        let bits = |tensor: &Tensor<f32>| tensor.data().iter().map(|x| x.to_bits()).collect::<Vec<_>>();
        assert_eq!(bits(&tensors["velocity"]), bits(&odd));
    }

    #[test]
    fn a_name_is_one_tensors() {
        let (_folder, path) = place("some.safetensors");
        let number = Tensor::full([1], 1.0);
        let save = |names: &[&str]| {
            let all: Vec<_> = names.iter().map(|&name| (name.to_owned(), &number)).collect();
            save_tensors(&path, &all, BTreeMap::new())
        };
        save(&["a"]).unwrap();
        for (names, expected) in [
            (["b", "b"], "some.safetensors: two tensors are called b"),
            (["b", TEXT], "some.safetensors: a tensor is called __metadata__, as the text is"),
        ] {
            let error = save(&names).unwrap_err().to_string();
            assert!(error.ends_with(expected), "{error}");
        }
        assert!(load_tensors(&path).unwrap().0.contains_key("a"), "the old file is whole");
    }

    fn bits(tensors: &BTreeMap<String, Tensor<f32>>) -> Vec<(&str, Shape, Vec<u32>)> {
        let of = |tensor: &Tensor<f32>| tensor.data().iter().map(|x| x.to_bits()).collect();
        tensors.iter().map(|(name, tensor)| (name.as_str(), tensor.shape(), of(tensor))).collect()
    }

    /// Whichever bit of a file flips: it is refused. One is harmless here, which turns `\u001b` into `\u001B`: that is the same
    /// text.
    #[test]
    fn every_flipped_bit_is_found() {
        let [weight, bias, step] =
            [&[2, 3][..], &[2], &[]].map(|shape| Tensor::from_fn(Shape::new(shape), |i| i as f32 - 1.5));
        let tensors = [("0.weight", &weight), ("0.bias", &bias), ("0.step", &step)];
        let tensors = tensors.map(|(name, tensor)| (name.to_owned(), tensor));
        let text = [("step", "7"), ("parameters", "0.weight,0.bias"), ("note", "\u{1b}\"\\\n")];
        let text = BTreeMap::from(text.map(|(key, value)| (key.to_owned(), value.to_owned())));
        let file = encode(&tensors, text.clone()).unwrap();
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
}
