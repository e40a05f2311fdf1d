//! A network's weights on disk, under the names of PyTorch's `state_dict`.

use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;

use tensor::{Shape, Tensor};

use crate::data::whiten;
use crate::disk::{FileError, content};
use crate::nn::{Module, Parameter, check_names, parameters, parameters_mut, values};
pub use crate::weights_file::{Contents, load_tensors, read_tensors, save_tensors};

/// Saves a network's parameters under the names of PyTorch's `state_dict`.
///
/// # Errors
/// [`FileError::Content`] if two parameters have one name, otherwise [`FileError::Io`]; an old file of that name is whole then.
pub fn save_parameters(path: &Path, module: &dyn Module<f32>) -> Result<(), FileError> {
    save_tensors(path, &values(module), BTreeMap::new())
}

/// The tensors of a file that fit a network, by their names, and with their shapes those that do not.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Fit {
    /// Tensors of the network that the file has, in the network's order.
    pub taken: Vec<String>,
    /// Tensors of the network that the file has not.
    pub missing: Vec<(String, Shape)>,
    /// Tensors of the file that the network has no place for.
    pub unexpected: Vec<(String, Shape)>,
    /// Tensors of both that differ in shape: that in the file, and that in the network.
    pub mismatched: Vec<(String, Shape, Shape)>,
}

impl Fit {
    /// Compares a network's parameters with tensors.
    pub(crate) fn of(own: &[(String, &Parameter<f32>)], tensors: &BTreeMap<String, Tensor<f32>>) -> Self {
        let mut fit = Self::default();
        for (name, parameter) in own {
            let expected = parameter.value.shape();
            match tensors.get(name).map(Tensor::shape) {
                Some(found) if found == expected => fit.taken.push(name.clone()),
                Some(found) => fit.mismatched.push((name.clone(), found, expected)),
                None => fit.missing.push((name.clone(), expected)),
            }
        }
        let extra = tensors.iter().filter(|(name, _)| own.iter().all(|(own, _)| own != *name));
        fit.unexpected = extra.map(|(name, tensor)| (name.clone(), tensor.shape())).collect();
        fit
    }

    /// Tells whether the network has a tensor that is not from the file.
    #[must_use]
    pub fn leaves_some_new(&self) -> bool {
        !self.missing.is_empty() || !self.mismatched.is_empty()
    }

    /// The first difference; `None` if the file holds exactly the network's tensors.
    #[must_use]
    pub fn difference(&self) -> Option<String> {
        if let Some((name, found, expected)) = self.mismatched.first() {
            return Some(format!("tensor {name} is {found}, expected {expected}"));
        }
        if let Some((name, expected)) = self.missing.first() {
            return Some(format!("no tensor {name}, expected {expected}"));
        }
        let (extra, _) = self.unexpected.first()?;
        Some(format!("tensor {extra} is not one of the network's {}", self.taken.len()))
    }
}

impl fmt::Display for Fit {
    /// One line: how many tensors were taken, and all that were not.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let all = self.taken.len() + self.missing.len() + self.mismatched.len();
        write!(f, "{} of {all} tensors taken", self.taken.len())?;
        let alone = |all: &[(String, Shape)]| all.iter().map(|(name, own)| format!("{name} {own}")).collect();
        let both = self.mismatched.iter();
        let both = both.map(|(name, found, expected)| format!("{name} {found}, expected {expected}"));
        let parts: [(&str, Vec<String>); 3] = [
            ("new", alone(&self.missing)),
            ("left in the file", alone(&self.unexpected)),
            ("of another shape and new", both.collect()),
        ];
        for (what, tensors) in parts.iter().filter(|(_, tensors)| !tensors.is_empty()) {
            write!(f, "; {what}: {}", tensors.join(", "))?;
        }
        Ok(())
    }
}

/// Loads a network's parameters. Nothing is changed unless the file holds exactly them, in any type that [`load_tensors`] reads,
/// and where all names begin with `module.`, as PyTorch's `DataParallel` has them, without that.
///
/// # Errors
/// [`FileError::Content`] with the first tensor that is of another shape, missing, too many, or has NaN or infinities, or with a
/// name that two of the network's parameters have; otherwise as [`load_tensors`].
pub fn load_parameters(path: &Path, module: &mut dyn Module<f32>) -> Result<(), FileError> {
    put_all(path, module, load_tensors(path)?.0)
}

/// Loads those of a network's parameters that a file has in their shape, and says which they are and what is left on both sides;
/// the others stay as they are: a new last layer, for instance. Names and types are as in [`load_parameters`].
///
/// # Errors
/// [`FileError::Content`] if it is another network's file: if none of the convolutions' weights fits, or, of a network without
/// convolutions, no tensor; or if any tensor has NaN or infinities. Nothing is changed then. Otherwise as [`load_tensors`].
pub fn load_fitting(path: &Path, module: &mut dyn Module<f32>) -> Result<Fit, FileError> {
    let all = parameters(module);
    let convolutions = all.into_iter().filter(|(_, own)| own.value.shape().len() == 4);
    let convolutions: Vec<String> = convolutions.map(|(name, _)| name).collect();
    put(path, module, load_tensors(path)?.0, |fit| {
        let (what, fits) = if convolutions.is_empty() {
            ("tensor", !fit.taken.is_empty())
        } else {
            ("weight of a convolution", convolutions.iter().any(|name| fit.taken.contains(name)))
        };
        (!fits).then(|| format!("no {what} fits: {}", fit.difference().unwrap_or_default()))
    })
}

/// Puts the tensors of a file in the place of a network's parameters, if they are exactly these.
pub(crate) fn put_all(
    path: &Path,
    module: &mut dyn Module<f32>,
    tensors: BTreeMap<String, Tensor<f32>>,
) -> Result<(), FileError> {
    put(path, module, tensors, Fit::difference).map(drop)
}

/// Puts the tensors of a file that fit in the place of a network's parameters, unless `refuse` says why not.
fn put(
    path: &Path,
    module: &mut dyn Module<f32>,
    mut tensors: BTreeMap<String, Tensor<f32>>,
    refuse: impl FnOnce(&Fit) -> Option<String>,
) -> Result<Fit, FileError> {
    let own = parameters(module);
    check_names(own.iter().map(|(name, _)| name)).map_err(|reason| content(path, reason))?;
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
    let fit = Fit::of(&own, &tensors);
    if let Some(reason) = refuse(&fit) {
        return Err(content(path, format!("weights of another network: {reason}")));
    }
    for (name, tensor) in &tensors {
        if let Some(index) = tensor.data().iter().position(|x| !x.is_finite()) {
            let value = tensor.data()[index];
            let found = format!("tensor {name} has a weight of {value} at element {index}");
            return Err(content(path, format!("{found}, expected finite numbers")));
        }
    }
    tensors.retain(|name, _| fit.taken.contains(name));
    replace_values(module, tensors);
    Ok(fit)
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
    use safetensors::tensor::{Dtype, TensorView};
    use tensor::init::Init;

    use super::*;
    use crate::models::nin_block;
    use crate::nn::{BatchNorm2d, Conv2d, Linear, Relu, Sequential, initialize};
    use crate::testing::place;

    fn block(width: usize, seed: u64) -> Sequential<f32> {
        let mut block = nin_block(1, width, 3, 1, 1);
        initialize(&mut block, Init::HeNormal, Init::Constant(0.5), seed);
        block
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
        let (folder, path) = place("model.safetensors");
        save_parameters(&path, &block(4, 1)).unwrap();
        let mut other = block(4, 2);
        load_parameters(&path, &mut other).unwrap();
        assert_eq!(values(&other), values(&block(4, 1)));
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1, "nothing is left beside the file");
    }

    #[test]
    fn what_fits_is_taken_and_all_that_does_not_is_told() {
        let (_folder, path) = place("model.safetensors");
        save_parameters(&path, &block(4, 1)).unwrap();
        // The first two layers of the file's block, a third of another width, none where it has one more, and one that is new.
        let net = || {
            let convolutions = Sequential::new().with(Conv2d::new(1, 4, 3, 1, 1)).with(Relu);
            convolutions.with(Conv2d::new(4, 7, 1, 1, 0)).named("head", Linear::new(7, 2))
        };
        let mut other = net();
        let fit = load_fitting(&path, &mut other).unwrap();
        assert_eq!(values(&other)[..2], values(&block(4, 1))[..2]);
        assert_eq!(values(&other)[2..], values(&net())[2..], "the others stay as they are");
        assert_eq!(
            fit.to_string(),
            "2 of 6 tensors taken; new: head.weight 2 x 7, head.bias 2; left in the file: 4.bias 4, 4.weight 4 x 4 x 1 x 1; of \
             another shape and new: 2.weight 4 x 4 x 1 x 1, expected 7 x 4 x 1 x 1, 2.bias 4, expected 7"
        );
        assert!(fit.leaves_some_new() && !load_fitting(&path, &mut block(4, 2)).unwrap().leaves_some_new());

        // A bias that happens to fit does not make it this network's file; nor does anything where numbers are broken.
        let mut refused = |width, value: f32| {
            let mut file = block(width, 1);
            parameters_mut(&mut file)[5].1.value.data_mut()[0] = value;
            save_parameters(&path, &file).unwrap();
            let error = load_fitting(&path, &mut other).unwrap_err().to_string();
            assert_eq!(values(&other)[2..], values(&net())[2..]);
            error
        };
        let expected = "weights of another network: no weight of a convolution fits: tensor 0.weight is 7 x 1 x 3 x 3, expected 4 x";
        assert!(refused(7, 0.0).contains(expected));
        assert!(
            refused(4, f32::NAN)
                .ends_with("tensor 4.bias has a weight of NaN at element 0, expected finite numbers")
        );
        let mut linear = Sequential::new().named("head", Linear::new(7, 2));
        let error = load_fitting(&path, &mut linear).unwrap_err().to_string();
        assert!(
            error.ends_with("another network: no tensor fits: no tensor head.weight, expected 2 x 7"),
            "{error}"
        );
    }

    #[test]
    fn other_networks_and_broken_files_are_refused_and_change_nothing() {
        let (_folder, path) = place("model.safetensors");
        assert!(refused(&path).contains("model.safetensors: cannot open: "));
        save_parameters(&path, &block(4, 1)).unwrap();
        let whole = std::fs::read(&path).unwrap();
        for (bytes, expected) in [
            (
                &b"PK\x03\x04\0\0\x08\x08, and so on"[..],
                "not a safetensors file but a zip archive, as torch.save writes: save the state dict with \
                 safetensors.torch.save_file",
            ),
            (
                b"\x80\x02\x8a\x0a\x6c\xfc\x9c\x46\xf9",
                "not a safetensors file but a pickle, as torch.save wrote before 1.6: save the state dict with \
                 safetensors.torch.save_file",
            ),
            (
                b"\x08\x08\x12\x03nin, a",
                "not a safetensors file but, it seems, an ONNX file: weights are read from safetensors files alone",
            ),
            (
                b"version https://git-lfs.github.com/spec/v1\n",
                "not a safetensors file but, it seems, a pointer of Git LFS: fetch the file with git lfs pull",
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
        let (_folder, path) = place("model.safetensors");
        let source = block(4, 1);
        let mut all = values(&source);
        let extra = Tensor::full([2], 1.0);
        all.push(("9.weight".to_owned(), &extra));
        save_tensors(&path, &all, BTreeMap::new()).unwrap();
        assert!(refused(&path).ends_with("tensor 9.weight is not one of the network's 6"), "too many");
        save_tensors(&path, &all[..5], BTreeMap::new()).unwrap();
        assert!(refused(&path).ends_with("no tensor 4.bias, expected 4"), "one is missing");
        let view = TensorView::new(Dtype::I16, vec![4], &[0; 8]).unwrap();
        std::fs::write(&path, safetensors::serialize([("0.bias", view)], None).unwrap()).unwrap();
        let error = refused(&path);
        assert!(error.ends_with("tensor 0.bias is I16, expected F16, BF16, F32 or F64"), "{error}");
    }

    /// As `DataParallel` saves them. A network whose own names begin so keeps them, and one name without it keeps all.
    #[test]
    fn a_wrapper_before_all_names_is_taken_off() {
        let (_folder, path) = place("model.safetensors");
        let source = block(4, 1);
        let save = |wrapped: usize| {
            let mut all = values(&source);
            all[..wrapped].iter_mut().for_each(|(name, _)| name.insert_str(0, "module."));
            save_tensors(&path, &all, BTreeMap::new()).unwrap();
        };
        save(6);
        let mut other = block(4, 2);
        load_parameters(&path, &mut other).unwrap();
        assert_eq!(values(&other), values(&source));
        let mut own = Sequential::new().named("module", block(4, 2));
        load_parameters(&path, &mut own).unwrap();
        assert!(
            values(&own).iter().map(|(_, value)| value).eq(values(&source).iter().map(|(_, value)| value))
        );
        save(5);
        assert!(refused(&path).ends_with("no tensor 0.weight, expected 4 x 1 x 3 x 3"));
    }

    /// A normalization as PyTorch saves it.
    #[test]
    fn counters_of_batches_are_left_out() {
        let (_folder, path) = place("model.safetensors");
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
        assert!(values(&net).iter().all(|(_, value)| value.data() == [1.5, -2.0]));
        save("bn.counter");
        assert!(refused(&path).ends_with("tensor bn.counter is I64, expected F16, BF16, F32 or F64"));
    }
}
