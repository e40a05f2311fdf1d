//! A network's weights on disk, under the names of PyTorch's `state_dict`.

use std::collections::{BTreeMap, HashMap};
use std::path::Path;

use tensor::Tensor;

use crate::data::whiten;
use crate::disk::{FileError, content};
use crate::nn::{Module, Parameter, parameters, parameters_mut};
use crate::optim::matches;
pub use crate::weights_file::{Contents, load_tensors, read_tensors, save_tensors};

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

    use safetensors::tensor::{Dtype, TensorView};
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
