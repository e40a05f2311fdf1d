//! `curves.svg`: train loss, train acc and test acc over the epochs.

use std::path::Path;

use plotters::prelude::*;

use nin::checkpoint::atomic_write;
use nin::train::{EpochMetrics, TrainError};

/// Draws the curves as in the d2l book: loss and both accuracies over the epochs. Writes nothing before there is an epoch.
///
/// # Errors
/// [`TrainError`] if the file cannot be written.
pub(super) fn write_curves(path: &Path, title: &str, epochs: &[EpochMetrics]) -> Result<(), TrainError> {
    let Some(last) = epochs.last() else { return Ok(()) };
    let mut svg = String::new();
    draw(&mut svg, title, epochs, last)
        .map_err(|error| TrainError::Config(format!("{}: {error}", path.display())))?;
    Ok(atomic_write(path, svg.as_bytes())?)
}

fn draw(
    svg: &mut String,
    title: &str,
    epochs: &[EpochMetrics],
    last: &EpochMetrics,
) -> Result<(), Box<dyn std::error::Error>> {
    let root = SVGBackend::with_string(svg, (720, 440)).into_drawing_area();
    root.fill(&WHITE)?;
    let highest = epochs.iter().map(|epoch| epoch.train_loss).fold(1.0, f64::max) * 1.05;
    let end = (last.epoch as f64).max(2.0);
    let mut chart = ChartBuilder::on(&root)
        .caption(title, ("sans-serif", 18))
        .margin(12)
        .x_label_area_size(36)
        .y_label_area_size(44)
        .build_cartesian_2d(1.0..end, 0.0..highest)?;
    chart
        .configure_mesh()
        .x_desc("epoch")
        .y_desc("loss, accuracy")
        .light_line_style(WHITE.mix(0.0))
        .draw()?;
    type Figure = fn(&EpochMetrics) -> f64;
    let series: [(&str, RGBColor, Figure); 3] = [
        ("train loss", RGBColor(31, 119, 180), |epoch| epoch.train_loss),
        ("train acc", RGBColor(214, 39, 140), |epoch| epoch.train_acc),
        ("test acc", RGBColor(44, 140, 60), |epoch| epoch.test_acc),
    ];
    for (name, colour, figure) in series {
        let points: Vec<(f64, f64)> =
            epochs.iter().map(|epoch| (epoch.epoch as f64, figure(epoch))).collect();
        chart
            .draw_series(LineSeries::new(points.clone(), colour.stroke_width(2)))?
            .label(format!("{name} {:.3}", figure(last)))
            .legend(move |(x, y)| PathElement::new([(x, y), (x + 18, y)], colour.stroke_width(2)));
        chart.draw_series(points.into_iter().map(|point| Circle::new(point, 3, colour.filled())))?;
    }
    chart
        .configure_series_labels()
        .position(SeriesLabelPosition::MiddleRight)
        .background_style(WHITE.mix(0.85))
        .border_style(BLACK.mix(0.3))
        .draw()?;
    root.present()?;
    drop(chart);
    drop(root);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_picture_names_every_curve_with_its_last_value() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("curves.svg");
        let epoch = |epoch, test_acc| EpochMetrics {
            epoch,
            train_loss: 0.5,
            train_acc: 0.8,
            test_acc,
            images_per_s: 100.0,
            data_wait: 0.0,
            dead_maps: 0,
        };
        write_curves(&path, "nin", &[epoch(1, 0.7), epoch(2, 0.875)]).unwrap();
        let svg = std::fs::read_to_string(&path).unwrap();
        for text in ["train loss 0.500", "train acc 0.800", "test acc 0.875", "epoch"] {
            assert!(svg.contains(text), "no {text:?} in the picture");
        }
    }
}
