//! `nin import`: PyTorch's weights as a file that says what it is.

use std::path::{Path, PathBuf};

use clap::Args;
use nin::checkpoint::{load_parameters, load_tensors};
use nin::data::Normalization;
use nin::names::shown;
use nin::nn::{parameter_count, parameters};
use nin::train::TrainError;
use nin::{Classifier, ModelCard};

use super::network::NetworkArgs;
use super::table::grouped;
use super::{check_file, print, write_file};

/// Weights of PyTorch as a file that `nin predict`, `nin export` and `nin::Classifier` take.
///
/// Takes a state_dict as a safetensors file, of 16, 32 or 64 bits. Its names are those of the network's own state_dict, which
/// `nin summary` shows the layers of; a `module.` before all of them and counters of batches are left out. The channels of the
/// images and the number of classes are read off the first and the last weight.
#[derive(Debug, Args)]
#[command(
    mut_arg("model", |model| model.required(true)),
    after_help = "Examples:
  nin import resnet18.safetensors --model resnet18 --classes imagenet.txt --mean 0.485,0.456,0.406 --std 0.229,0.224,0.225 -o model.safetensors
  nin import lenet.safetensors --model lenet --classes cat,dog -o model.safetensors
In Python: safetensors.torch.save_file(net.state_dict(), \"lenet.safetensors\")"
)]
pub(super) struct ImportArgs {
    /// PyTorch's weights, a safetensors file
    file: PathBuf,
    #[command(flatten)]
    network: NetworkArgs,
    /// Names of the classes, in the order of the logits: with commas between them, or else a file with a line for each [default:
    /// their numbers]
    #[arg(long, value_name = "NAMES|FILE")]
    classes: Option<String>,
    /// Numbers that were subtracted from the pixels of each channel, after division by 255 [default: nothing]
    #[arg(
        long,
        value_name = "NUMBER,...",
        value_delimiter = ',',
        requires = "std",
        allow_negative_numbers = true
    )]
    mean: Vec<f32>,
    /// Numbers that they were divided by then
    #[arg(
        long,
        value_name = "NUMBER,...",
        value_delimiter = ',',
        requires = "mean",
        allow_negative_numbers = true
    )]
    std: Vec<f32>,
    /// The file to write
    #[arg(short, long, value_name = "FILE")]
    output: PathBuf,
}

/// Runs `nin import`.
pub(super) fn import(args: &ImportArgs) -> Result<(), TrainError> {
    let (model, side) = (args.network.model(), args.network.side());
    if ModelCard::read(&args.file)?.is_some() {
        return Err(TrainError::of(&args.file, "says itself what it is: there is nothing to import"));
    }
    let [channels, found] = ends(args)?;
    let classes = match &args.classes {
        Some(asked) => names(asked)?,
        None => (0..found).map(|class| class.to_string()).collect(),
    };
    if classes.len() != found {
        return Err(TrainError::setting(
            "classes",
            format!("{found} names, as the file has logits"),
            classes.len(),
        ));
    }
    for (name, numbers) in [("mean", &args.mean), ("std", &args.std)] {
        if !numbers.is_empty() && numbers.len() != channels {
            let expected = format!("a number for each of the {channels} channels");
            return Err(TrainError::setting(name, expected, numbers.len()));
        }
    }
    let mut network = args.network.build(channels, found)?;
    load_parameters(&args.file, &mut network)?;
    let card = ModelCard {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        network: model.to_string(),
        head: args.network.head().map(|head| head.to_string()),
        image: [channels, side, side],
        classes,
        normalization: (!args.mean.is_empty())
            .then(|| Normalization { mean: args.mean.clone(), std: args.std.clone() }),
        whitening: None,
        recipe: IMPORTED.to_owned(),
        data: None,
        epoch: None,
        test_acc: None,
        judged_by: None,
    };
    check_file(&args.output)?;
    let file = card.file(&network);
    // What it is for must take it.
    Classifier::from_bytes(&file, &args.output)?;
    write_file(&args.output, &file)?;
    print(&format!(
        "{}: {model}, {} tensors, {} parameters, images {channels} x {side} x {side}, {found} classes\n",
        shown(&args.output.display().to_string()),
        parameters(&network).len(),
        grouped(parameter_count(&network)),
    ))
}

/// The recipe of weights from elsewhere, as their card has it.
pub(super) const IMPORTED: &str = "imported";

/// The channels that the file's first convolution takes and the classes that its last layer makes. Where it has no such layer,
/// the network's own numbers: loading says what is missing.
fn ends(args: &ImportArgs) -> Result<[usize; 2], TrainError> {
    let (tensors, _) = load_tensors(&args.file)?;
    let own = args.network.build(1, 10)?;
    let weights = parameters(&own).into_iter().filter(|(_, own)| own.value.shape().len() > 1);
    let names: Vec<String> = weights.map(|(name, _)| name).collect();
    let extent = |name: Option<&String>, axis: usize| {
        let name = name?;
        let tensor = tensors.get(name).or_else(|| tensors.get(&format!("module.{name}")))?;
        tensor.shape().get(axis).copied().filter(|&extent| extent > 0)
    };
    Ok([extent(names.first(), 1).unwrap_or(1), extent(names.last(), 0).unwrap_or(10)])
}

/// Names with commas between them, or in a file, a line each.
fn names(asked: &str) -> Result<Vec<String>, TrainError> {
    if asked.contains(',') {
        return Ok(asked.split(',').map(str::to_owned).collect());
    }
    let path = Path::new(asked);
    let text = std::fs::read_to_string(path).map_err(TrainError::io(path, "read"))?;
    Ok(text.lines().map(str::to_owned).collect())
}
