//! `nin export`: a trained network as a file for other programs.

use std::path::PathBuf;

use clap::Args;
use nin::ModelCard;
use nin::checkpoint::load_parameters;
use nin::data::{Normalization, Whitening};
use nin::disk::content;
use nin::names::shown;
use nin::onnx::{Export, ExportError, Exported};
use nin::train::TrainError;
use tensor::init::Init;

use super::network::{EndArgs, NetworkArgs};
use super::table::grouped;
use super::{WeightsArgs, check_file, print, write_file};

/// Images that a file is tried on before it is written.
const IMAGES: usize = 3;

/// A trained network as an ONNX file (opset 17), for ONNX Runtime, browsers and other programs.
///
/// Its input is called `input`, N x C x H x W of 32-bit floats, its output `logits`, N x K. N may be any, and H and W, too, where
/// the network ends in global average pooling. Weights have the names that they have in PyTorch's state_dict. Before the file is
/// written, it is read again and run on three images of noise: its logits must be the network's.
#[derive(Debug, Args)]
#[command(mut_arg("weights", |flag| flag.conflicts_with("run")), after_help = "Examples:
  nin export runs/nin-20260101-120000 --onnx nin.onnx                 input: pixels less mean, over deviation
  nin export runs/nin-20260101-120000 --onnx nin.onnx --normalize     input: pixels from 0 to 255
  nin export --weights lenet.safetensors --model lenet --onnx lenet.onnx
The file's metadata say what its input is (`input`: normalized, whitened or pixels), with which `unit`, `mean` and `std` a pixel
becomes (pixel / unit - mean) / std, and the names of the `classes`, lists as JSON. The options of a network are for weights from
elsewhere, which do not say themselves what they are of.")]
pub(super) struct ExportArgs {
    /// Run folder, whose model.safetensors is exported
    run: Option<PathBuf>,
    #[command(flatten)]
    weights: WeightsArgs,
    /// The file to write
    #[arg(long, value_name = "FILE")]
    onnx: PathBuf,
    /// Begin with the division by 255 and the normalization, or with the whitening, so that the input is pixels from 0 to 255
    #[arg(long)]
    normalize: bool,
    #[command(flatten)]
    network: NetworkArgs,
    #[command(flatten)]
    ends: EndArgs,
}

/// Runs `nin export`.
pub(super) fn export(args: &ExportArgs) -> Result<(), TrainError> {
    let run = args.run.as_ref().map(|run| run.join("model.safetensors"));
    let Some(weights) = args.weights.file().or(run) else {
        return Err(TrainError::setting("run", "a run's folder or --weights", "none"));
    };
    let asked = Some(&args.network).filter(|network| network.0.names().next().is_some());
    let refused = |reason| Err(TrainError::of(&weights, reason));
    let (mut network, image, about) = match (ModelCard::read(&weights)?, asked) {
        (Some(card), None) => {
            let [c, h, w] = card.image;
            // Pixels that are divided only.
            let plain = || Normalization { mean: vec![0.0; c], std: vec![1.0; c] };
            let whitening = Whitening::load(card.whiten()?, card.image, &weights)?;
            let normalization = card.normalization.clone();
            let about = Export {
                name: card.network.clone(),
                classes: card.classes.clone(),
                normalization: normalization.or_else(|| whitening.is_none().then(plain)),
                whitening,
                normalize: args.normalize,
                ..Export::default()
            };
            (card.network()?, [IMAGES, c, h, w], about)
        }
        (None, Some(asked)) if !args.normalize => {
            let (side, channels) = (asked.side(), usize::from(args.ends.channels));
            let network = asked.build(channels, usize::from(args.ends.classes))?;
            let about = Export { name: asked.model().name().to_owned(), ..Export::default() };
            (network, [IMAGES, channels, side, side], about)
        }
        (Some(_), Some(_)) => {
            return refused(
                "it says itself what network it is of: --model, --head and --image-size are for others",
            );
        }
        (None, None) => return refused("it does not say what network it is of: --model and others would"),
        (None, Some(_)) => {
            return refused("it does not say how images were normalized, as --normalize would need");
        }
    };
    check_file(&args.onnx)?;
    load_parameters(&weights, &mut network)?;
    let images = Init::Normal(1.0).fill(image.into(), (1, 1), 0, 0);
    let Exported { file, any_size } =
        nin::onnx::export(&network, &images, &about).map_err(|error| match error {
            ExportError::Module(error) => error.into(),
            error @ ExportError::Check(_) => content(&args.onnx, error.to_string()).into(),
            error => TrainError::of(&args.onnx, error),
        })?;
    write_file(&args.onnx, &file)?;
    let (path, [_, c, h, w]) = (shown(&args.onnx.display().to_string()), image);
    let size = if any_size { "H x W".to_owned() } else { format!("{h} x {w}") };
    let input = match (about.normalize, &about.whitening) {
        (true, _) => "pixels from 0 to 255",
        (false, None) => "normalized pixels",
        (false, Some(_)) => "whitened pixels",
    };
    print(&format!(
        "{path}: {}, {} bytes, input N x {c} x {size} of {input}; {IMAGES} images gave the network's logits\n",
        about.name,
        grouped(file.len()),
    ))
}
