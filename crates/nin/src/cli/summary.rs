//! `nin summary`: what a network is made of.

use std::process::ExitCode;

use clap::Args;
use tensor::Shape;

use super::print;
use super::settings::check_environment;
use crate::models::{Model, Network};
use crate::names::ParseError;
use crate::summary::table;
use crate::train::TrainError;

/// Layers, output shapes, parameters and work of a network.
#[derive(Debug, Args)]
pub struct SummaryArgs {
    /// Network: nin, nin-d2l, nin-cifar, lenet, alexnet or vgg11
    #[arg(long, value_name = "NAME", default_value = "nin")]
    pub model: String,
    /// What the class maps of a nin network go through: gap, fc or fc-dropout [default: its own end]
    #[arg(long, value_name = "NAME")]
    pub head: Option<String>,
    /// Rows and columns of the images [default: what the network was made for]
    #[arg(long, value_name = "PIXELS", allow_negative_numbers = true)]
    pub image_size: Option<usize>,
    /// Channels of the images
    #[arg(long, value_name = "C", allow_negative_numbers = true, default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=1024))]
    pub channels: u16,
    /// Classes
    #[arg(long, value_name = "K", allow_negative_numbers = true, default_value_t = 10, value_parser = clap::value_parser!(u16).range(1..=10_000))]
    pub classes: u16,
}

/// Runs `nin summary`.
///
/// # Errors
/// [`TrainError`] for the binary to print.
pub fn summarise(args: &SummaryArgs) -> Result<ExitCode, TrainError> {
    check_environment()?;
    let model: Model = args.model.parse().map_err(|error| TrainError::Config(format!("model: {error}")))?;
    let side = args.image_size.unwrap_or_else(|| model.default_image_size());
    if side == 0 || side > 4096 {
        return Err(TrainError::Config(format!("image_size: expected 1 to 4096, found {side}")));
    }
    let (channels, classes) = (usize::from(args.channels), usize::from(args.classes));
    let head = args.head.as_ref().map(|name| name.parse()).transpose();
    let head = head.map_err(|error: ParseError| TrainError::Config(format!("head: {error}")))?;
    let network = Network { head, ..Network::new(model, [channels, side, side], classes) }.build::<f32>()?;
    print(&table(&network, Shape::from([1, channels, side, side]))?)?;
    Ok(ExitCode::SUCCESS)
}
