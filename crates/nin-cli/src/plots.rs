//! Plots (SVG) of many runs side by side: panels of thin lines, a color for each group of runs.

use std::error::Error;
use std::path::Path;

use plotters::coord::Shift;
use plotters::prelude::*;

use nin::names::shown;
use nin::train::TrainError;

use crate::cli::write_file;

/// The colors of the groups, told apart also by those who see no red or green.
const COLORS: [RGBColor; 6] = [
    RGBColor(213, 94, 0),
    RGBColor(0, 114, 178),
    RGBColor(0, 158, 115),
    RGBColor(204, 121, 167),
    RGBColor(86, 180, 233),
    RGBColor(90, 90, 90),
];
/// Width and height of a panel; one alone is as wide as the least picture.
const PANEL: (u32, u32) = (440, 360);
const LEAST: u32 = 720;
/// Rows above the panels, for the names of the groups.
const LEGEND: u32 = 34;

/// Points from left to right, drawn as a line; a single point is drawn as a dot.
pub(crate) type Line = Vec<(f64, f64)>;

/// A part of a picture with axes of its own.
#[derive(Debug, Clone, Default)]
pub(crate) struct Panel {
    /// The title.
    pub(crate) title: String,
    /// The name of the horizontal axis.
    pub(crate) across: String,
    /// Names of the whole numbers 0, 1, ... of the horizontal axis; empty for numbers.
    pub(crate) names: Vec<String>,
    /// True for powers of ten on the vertical axis.
    pub(crate) logarithmic: bool,
    /// The ends of the vertical axis; those of the points if there are none.
    pub(crate) range: Option<(f64, f64)>,
    /// The lines of each group.
    pub(crate) groups: Vec<Vec<Line>>,
}

impl Panel {
    /// A value's place on the vertical axis. What has no logarithm lies at the lower end.
    fn place(&self, value: f64) -> Option<f64> {
        let place = if self.logarithmic { value.log10() } else { value };
        place.is_finite().then_some(place)
    }

    fn points(&self) -> impl Iterator<Item = &(f64, f64)> {
        self.groups.iter().flatten().flatten()
    }

    fn ends(&self) -> ((f64, f64), (f64, f64)) {
        let ends = |values: &mut dyn Iterator<Item = f64>| {
            values.fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), v| (low.min(v), high.max(v)))
        };
        let (mut left, mut right) = ends(&mut self.points().map(|point| point.0));
        if !self.names.is_empty() {
            (left, right) = (-0.5, self.names.len() as f64 - 0.5);
        }
        let (low, high) = self.range.unwrap_or_else(|| {
            let (low, high) = ends(&mut self.points().filter_map(|point| self.place(point.1)));
            let margin = (0.04 * (high - low)).max(1e-3);
            (low - margin, high + margin)
        });
        let whole =
            |low: f64, high: f64| if low < high { (low, high) } else { (low.min(0.0), low.max(0.0) + 1.0) };
        let finite = |end: f64| if end.is_finite() { end } else { 0.0 };
        (whole(finite(left), finite(right)), whole(finite(low), finite(high)))
    }

    fn draw(&self, area: &DrawingArea<SVGBackend<'_>, Shift>) -> Result<(), Box<dyn Error>> {
        let ((left, right), (low, high)) = self.ends();
        let mut chart = ChartBuilder::on(area)
            .caption(shown(&self.title), ("sans-serif", 15))
            .margin(8)
            .x_label_area_size(34)
            .y_label_area_size(48)
            .build_cartesian_2d(left..right, low..high)?;
        let name = |place: &f64| {
            let index = place.round();
            let near = (place - index).abs() < 1e-6 && index >= 0.0;
            let name = near.then(|| self.names.get(index as usize)).flatten();
            name.map(|name| shown(name)).unwrap_or_default()
        };
        let power = |place: &f64| format!("{:.1e}", 10f64.powf(*place));
        let mut mesh = chart.configure_mesh();
        mesh.x_desc(&self.across).light_line_style(WHITE.mix(0.0)).y_labels(6);
        if !self.names.is_empty() {
            mesh.x_label_formatter(&name).x_labels(2 * self.names.len() + 1);
        }
        if self.logarithmic {
            mesh.y_label_formatter(&power);
        }
        mesh.draw()?;
        for (group, color) in self.groups.iter().zip(COLORS.iter().cycle()) {
            // A line among few is thicker than one among many.
            let style = color.mix(0.6).stroke_width(if group.len() == 1 { 2 } else { 1 });
            for line in group {
                let points: Vec<(f64, f64)> = line
                    .iter()
                    .map(|&(x, y)| (x, self.place(y).map_or(low, |y| y.clamp(low, high))))
                    .collect();
                match points[..] {
                    [point] => chart.draw_series([Circle::new(point, 3, color.mix(0.6).filled())])?,
                    _ => chart.draw_series(LineSeries::new(points, style))?,
                };
            }
        }
        Ok(())
    }
}

/// Draws panels side by side under the names of the groups, as an SVG file.
///
/// # Errors
/// [`TrainError`] if the file cannot be written.
pub(crate) fn write_panels(path: &Path, groups: &[String], panels: &[Panel]) -> Result<(), TrainError> {
    let svg = draw(groups, panels).map_err(|error| TrainError::of(path, error))?;
    write_file(path, &svg)
}

fn draw(groups: &[String], panels: &[Panel]) -> Result<String, Box<dyn Error>> {
    let mut svg = String::new();
    {
        let width = (PANEL.0 * panels.len() as u32).max(LEAST);
        let root = SVGBackend::with_string(&mut svg, (width, PANEL.1 + LEGEND)).into_drawing_area();
        root.fill(&WHITE)?;
        let (legend, below) = root.split_vertically(LEGEND);
        let mut left = 16;
        for (name, color) in groups.iter().map(|name| shown(name)).zip(COLORS.iter().cycle()) {
            let line = PathElement::new([(left, 18), (left + 22, 18)], color.stroke_width(3));
            legend.draw(&line)?;
            let width = 28 + 8 * name.chars().count() as i32 + 24;
            legend.draw(&Text::new(name, (left + 28, 11), ("sans-serif", 14)))?;
            left += width;
        }
        for (area, panel) in below.split_evenly((1, panels.len().max(1))).iter().zip(panels) {
            panel.draw(area)?;
        }
        root.present()?;
    }
    Ok(svg)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_line_and_every_name_is_in_the_picture() {
        let panel = |groups| Panel {
            title: "test accuracy".into(),
            across: "epoch".into(),
            range: Some((0.0, 1.0)),
            groups,
            ..Panel::default()
        };
        let names = ["chapter".to_owned(), "robust".to_owned()];
        let line = vec![(1.0, 0.1), (2.0, 0.3)];
        let one = draw(&names, &[panel(vec![vec![line.clone()], vec![]])]).unwrap();
        let three = draw(&names, &[panel(vec![vec![line.clone()], vec![line; 2]])]).unwrap();
        let lines = |svg: &str| svg.matches("<polyline").count();
        assert_eq!(lines(&three), lines(&one) + 2);
        for text in ["chapter", "robust", "test accuracy", "epoch"] {
            assert!(one.contains(text), "no {text:?} in the picture");
        }
    }

    #[test]
    fn a_single_point_is_a_dot_and_columns_have_names() {
        let panel = Panel {
            names: vec!["a".into(), "bc".into()],
            groups: vec![vec![vec![(0.0, 0.5)]; 3], vec![vec![(1.0, 0.7)]]],
            ..Panel::default()
        };
        let svg = draw(&[], &[panel]).unwrap();
        assert_eq!(svg.matches("<circle").count(), 4);
        assert!(svg.contains("\na\n") && svg.contains("\nbc\n"), "{svg}");
    }

    #[test]
    fn nothing_and_zeros_can_be_drawn() {
        draw(&[], &[Panel::default()]).unwrap();
        let groups = vec![vec![vec![(1.0, 0.0), (2.0, 1e-9), (3.0, f64::NAN)]], vec![]];
        let panel = Panel { logarithmic: true, groups, ..Panel::default() };
        let svg = draw(&[], &[panel.clone(), panel]).unwrap();
        assert!(!svg.contains("NaN") && !svg.contains("inf"), "{svg}");
    }
}
