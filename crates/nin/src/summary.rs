//! A table of a network's layers: output shapes, parameters and work.

use std::fmt::Write;

use tensor::{Element, Shape, ShapeError};

use crate::nn::{Module, parameter_count, parameters};

/// One line of the table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LayerSummary {
    /// Where the layer is: `0.2`.
    pub path: String,
    /// Its kind and settings.
    pub kind: String,
    /// The shape of its output.
    pub output: Shape,
    /// How many numbers training changes in it.
    pub parameters: usize,
    /// Floating-point operations of its forward pass for the whole input; convolutions and fully connected layers only, the rest is negligible.
    pub flops: u64,
}

/// The layers of a network for an input of this shape, nested ones in their order.
///
/// # Errors
/// [`ShapeError`], naming the layer, if the input does not fit.
pub fn layers<T: Element>(module: &dyn Module<T>, input: Shape) -> Result<Vec<LayerSummary>, ShapeError> {
    module.output_shape(input)?;
    let mut all = Vec::new();
    collect(module, "", input, &mut all)?;
    Ok(all)
}

fn collect<T: Element>(
    module: &dyn Module<T>,
    path: &str,
    input: Shape,
    all: &mut Vec<LayerSummary>,
) -> Result<Shape, ShapeError> {
    if !module.children().is_empty() {
        return module.children().iter().enumerate().try_fold(input, |shape, (index, child)| {
            let path = if path.is_empty() { index.to_string() } else { format!("{path}.{index}") };
            collect(child.as_ref(), &path, shape, all)
        });
    }
    let output = module.output_shape(input)?;
    // Each element of a convolution's output takes a multiplication and an addition per weight of its channel.
    let flops = parameters(module)
        .iter()
        .filter(|(name, _)| name == "weight")
        .map(|(_, weight)| {
            let per_output = weight.value.len() / weight.value.shape()[0];
            2 * (output.elements() * per_output) as u64
        })
        .sum();
    all.push(LayerSummary {
        path: path.to_owned(),
        kind: module.kind(),
        output,
        parameters: parameter_count(module),
        flops,
    });
    Ok(output)
}

/// The table as text, with totals.
///
/// # Errors
/// [`ShapeError`], naming the layer, if the input does not fit.
pub fn table<T: Element>(module: &dyn Module<T>, input: Shape) -> Result<String, ShapeError> {
    let all = layers(module, input)?;
    let mut text = String::new();
    let mut line = |path: &str, kind: &str, output: &str, parameters: &str, work: &str| {
        writeln!(text, "{path:<6} {kind:<40} {output:<20} {parameters:>12} {work:>9}")
            .expect("a string takes any text");
    };
    line("layer", "kind", "output", "parameters", "MFLOP");
    line("", "input", &input.to_string(), "", "");
    for layer in &all {
        let work = if layer.flops > 0 { format!("{:.1}", layer.flops as f64 / 1e6) } else { String::new() };
        let parameters = if layer.parameters > 0 { grouped(layer.parameters) } else { String::new() };
        line(&layer.path, &layer.kind, &layer.output.to_string(), &parameters, &work);
    }
    let flops: u64 = all.iter().map(|layer| layer.flops).sum();
    line("total", "", "", &grouped(parameter_count(module)), &format!("{:.1}", flops as f64 / 1e6));
    Ok(text)
}

/// A number with a comma between thousands.
fn grouped(number: usize) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::models::Model;

    #[test]
    fn the_articles_table() {
        let network = Model::Nin.build::<f32>(1, 10, 0.5);
        let text = table(&network, [1, 1, 224, 224].into()).unwrap();
        for part in [
            "0.0    Conv2d(1, 96, 11x11, stride 3)",
            "1 x 96 x 72 x 72",
            "MaxPool2d(3/2)",
            "1 x 384 x 17 x 17",
            "1,992,166    2824.2",
        ] {
            assert!(text.contains(part), "no {part:?} in\n{text}");
        }
    }
}
