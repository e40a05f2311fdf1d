//! `nin summary`: what a network is made of.

use super::settings::convolution;
use clap::Args;
use nin::summary::{plan_table, table};
use nin::train::TrainError;
use tensor::Shape;

use super::network::{NetworkArgs, network};
use super::print;

/// Layers, output shapes, parameters and work of a network.
#[derive(Debug, Args)]
pub struct SummaryArgs {
    /// Which network, at which size.
    #[command(flatten)]
    pub network: NetworkArgs,
    /// Channels of the images
    #[arg(long, value_name = "C", allow_negative_numbers = true, default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=1024))]
    pub channels: u16,
    /// Classes
    #[arg(long, value_name = "K", allow_negative_numbers = true, default_value_t = 10, value_parser = clap::value_parser!(u16).range(1..=10_000))]
    pub classes: u16,
    /// Show what a pass computes: ops after fusion, algorithms of convolutions, bytes and the most that is in memory at once
    #[arg(long)]
    pub plan: bool,
}

/// Runs `nin summary`.
///
/// # Errors
/// [`TrainError`] for the binary to print.
pub fn summarize(args: &SummaryArgs) -> Result<(), TrainError> {
    let NetworkArgs { model, head, .. } = args.network;
    let side = args.network.side();
    let (channels, classes) = (usize::from(args.channels), usize::from(args.classes));
    let network = network(model, head, [channels, side, side], classes)?;
    let image = Shape::from([1, channels, side, side]);
    if args.plan {
        print(&plan_table(&network, image, convolution(None)?.unwrap_or_default())?)?;
    } else {
        print(&table(&network, image)?)?;
    }
    Ok(())
}
