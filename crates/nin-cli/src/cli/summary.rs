//! `nin summary`: what a network is made of.

use std::sync::Arc;

use clap::Args;
use nin::nn::{Module, parameter_count};
use nin::summary::{Work, layers};
use nin::train::TrainError;
use tensor::conv::ConvAlgorithm;
use tensor::{BufferPool, Context, Shape};

use super::network::{EndArgs, NetworkArgs};
use super::print;
use super::settings::convolution;
use super::table::{Table, grouped};
use crate::bench::layers::convolutions;

/// Layers, output shapes, parameters and work of a network.
///
/// Without flags it is the article's network at the size that it was made for.
#[derive(Debug, Args)]
pub(super) struct SummaryArgs {
    #[command(flatten)]
    network: NetworkArgs,
    #[command(flatten)]
    ends: EndArgs,
    /// Show what a pass computes: ops after fusion, algorithms of convolutions, bytes and the most that is in memory at once
    #[arg(long)]
    plan: bool,
}

/// Runs `nin summary`.
pub(super) fn summarize(args: &SummaryArgs) -> Result<(), TrainError> {
    let (channels, side) = (usize::from(args.ends.channels), args.network.side());
    let network = args.network.build(channels, usize::from(args.ends.classes))?;
    let image = Shape::from([1, channels, side, side]);
    let asked = convolution(None)?.unwrap_or(ConvAlgorithm::Auto);
    let table = if args.plan { plan_table(&network, image, asked)? } else { layer_table(&network, image)? };
    print(&table.text())
}

/// Millions of operations; nothing where there are none to speak of.
fn mflop(flops: u64) -> String {
    if flops > 0 { format!("{:.1}", flops as f64 / 1e6) } else { String::new() }
}

/// The layers, with totals.
pub(super) fn layer_table(network: &dyn Module<f32>, image: Shape) -> Result<Table, TrainError> {
    let all = layers(network, image)?;
    let mut table = Table::new(["layer", "kind", "output", "parameters", "MFLOP"]);
    let mut line = |path: &str, kind: &str, output: String, parameters: usize, flops: u64| {
        let parameters = if parameters > 0 { grouped(parameters) } else { String::new() };
        table.push(vec![path.to_owned(), kind.to_owned(), output, parameters, mflop(flops)]);
    };
    line("", "input", image.to_string(), 0, 0);
    for layer in &all {
        line(&layer.path, &layer.kind, layer.output.to_string(), layer.parameters, layer.flops);
    }
    line("total", "", String::new(), parameter_count(network), Work::of(&all).forward);
    Ok(table)
}

/// The plan that an evaluation of an input of this shape follows: each op after fusion with its algorithm for convolutions, its
/// output, its work and the bytes of its output, and what is in memory at once in evaluation.
pub(super) fn plan_table(
    network: &dyn Module<f32>,
    image: Shape,
    asked: ConvAlgorithm,
) -> Result<Table, TrainError> {
    let plan = network.plan(&Context::evaluation(Arc::clone(BufferPool::global())), image)?;
    let graph = plan.graph();
    let mut table = Table::new(["node", "op", "algorithm", "output", "MFLOP", "KiB"]);
    let kib = |elements: usize| format!("{:.0}", (elements * size_of::<f32>()) as f64 / 1024.0);
    let mut line = |cells: [&str; 6]| table.push(cells.map(str::to_owned).to_vec());
    line(["", "input", "", &image.to_string(), "", &kib(image.elements())]);
    let mut total = 0;
    for (index, node) in graph.nodes().iter().enumerate().filter(|(index, _)| plan.runs(*index)) {
        let flops = graph.flops(index);
        total += flops;
        let parts = convolutions(graph, index, asked).into_iter();
        let mut parts: Vec<_> = parts.map(|(op, [algorithm, _])| (op, algorithm.to_string())).collect();
        if parts.is_empty() {
            parts.push((graph.describe(index), String::new()));
        }
        // A line for each convolution of a chain; what is true of the whole op stands in the last.
        let (last, rows) = parts.split_last().expect("there is a part");
        let mut path = node.path();
        for (op, algorithm) in rows {
            line([std::mem::take(&mut path), op, algorithm, "", "", ""]);
        }
        let (output, bytes) = (node.shape().to_string(), kib(node.shape().elements()));
        line([path, &last.0, &last.1, &output, &mflop(flops), &bytes]);
    }
    let bytes = kib(plan.peak_elements());
    line(["total", "activations in memory at once, at most", "", "", &mflop(total), &bytes]);
    Ok(table)
}

#[cfg(test)]
mod tests {
    use nin::models::Model;

    use super::*;

    const IMAGE: [usize; 4] = [1, 1, 224, 224];

    /// The lines of a table, with one space between cells.
    fn lines(table: &Table) -> Vec<String> {
        table.text().lines().map(|line| line.split_whitespace().collect::<Vec<_>>().join(" ")).collect()
    }

    #[test]
    fn the_articles_table() {
        let network = Model::Nin.build::<f32>(1, 10, 0.5);
        let lines = lines(&layer_table(&network, IMAGE.into()).unwrap());
        assert_eq!(lines[1], "input 1 x 1 x 224 x 224");
        assert_eq!(lines[2], "0.0 Conv2d(1, 96, 11x11, stride 3) 1 x 96 x 72 x 72 11,712 120.4");
        assert!(lines.iter().any(|line| line.ends_with("MaxPool2d(3/2) 1 x 384 x 8 x 8")), "{lines:?}");
        assert_eq!(lines.last().unwrap(), "total 1,992,166 2824.2");
    }

    #[test]
    fn the_plan_of_the_article() {
        let network = Model::Nin.build::<f32>(1, 10, 0.5);
        let table = plan_table(&network, IMAGE.into(), ConvAlgorithm::Auto).unwrap();
        let text = table.text();
        let paths = text.lines().skip(2).map(|line| line[..5].trim().to_owned());
        let ops: Vec<_> = paths.filter(|path| !path.is_empty()).collect();
        // Four blocks, three poolings, average and flatten; evaluation drops nothing out.
        assert_eq!(ops, ["0.0", "1", "2.0", "3", "4.0", "5", "7.0", "8", "9", "total"]);
        let lines = lines(&table);
        let first = "0.0 Conv2d(1, 96, 11x11, stride 3) + ReLU direct";
        assert!(lines.iter().any(|line| line.starts_with(first)), "{text}");
        assert!(lines.iter().any(|line| line.contains("ReLU + MaxPool2d(3/2)")), "{text}");
        // The first block's output and the pooling's are together the most that is in memory.
        let kib = (96 * (72 * 72 + 35 * 35) * 4) as f64 / 1024.0;
        assert!(lines.last().unwrap().ends_with(&format!(" 2824.2 {kib:.0}")), "{text}");
    }
}
