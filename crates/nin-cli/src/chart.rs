//! Charts as SVG, for files of their own and inside of pages: panels of lines, and bars. They are readable on light and on dark
//! pages, and where a pointer is over a panel, or a finger, the values at that place are shown.

use std::fmt::Write;
use std::path::Path;

use maud::html;
use nin::names::shown;
use nin::train::TrainError;
use serde::Deserialize;

use crate::cli::write_file;

/// The colors of groups, in turn, and the dashes of as many groups each.
const COLORS: usize = 6;
const DASHES: usize = 4;

/// The style of all charts; once in a file, or in a page. Groups' colors are told apart also by those who see no red or green.
pub(crate) const STYLE: &str = "
.chart { font: 13px system-ui, 'Segoe UI', Helvetica, Arial, sans-serif; fill: #1f2328 }
.chart .paper { fill: #ffffff } .chart .small { fill: #59636e; font-size: 12px } .chart .title { font-weight: 600 }
.chart .grid { stroke: #d8dee4 } .chart .axis { stroke: #8c959f }
.chart .line { fill: none; stroke: currentColor; stroke-linejoin: round } .chart .dot { fill: currentColor }
.chart .zone { fill: none; pointer-events: all } .chart .tip { visibility: hidden; pointer-events: none }
.chart .at:hover .tip { visibility: visible } .chart .box { fill: #ffffff; stroke: #8c959f }
.chart .ours { fill: #c2410c } .chart .own { fill: #f0a578 } .chart .peer { fill: #6b7f99 }
.chart .inexact { fill: none; stroke: #6b7f99; stroke-dasharray: 4 3 }
.chart .c0 { color: #c85400 } .chart .c1 { color: #0072b2 } .chart .c2 { color: #00805d }
.chart .c3 { color: #b0558a } .chart .c4 { color: #8a6d00 } .chart .c5 { color: #5a5a5a }
.chart .d1 { stroke-dasharray: 7 4 } .chart .d2 { stroke-dasharray: 2 3 } .chart .d3 { stroke-dasharray: 9 3 2 3 }
.chart .over { stroke-dasharray: 12 12 } .chart .over-two { stroke-dasharray: 6 18 }
@media (prefers-color-scheme: dark) {
.chart { fill: #e6edf3 } .chart .paper, .chart .box { fill: #0d1117 } .chart .small { fill: #9198a1 } .chart .grid { stroke: #2a313a }
.chart .ours { fill: #f97316 } .chart .own { fill: #9a5a35 } .chart .peer { fill: #7d93b2 } .chart .inexact { stroke: #7d93b2 }
.chart .c0 { color: #ff8c42 } .chart .c1 { color: #4da6ff } .chart .c2 { color: #2fd6a5 }
.chart .c3 { color: #e6a2c8 } .chart .c4 { color: #e0c050 } .chart .c5 { color: #a8a8a8 }
}
";

/// Width and height of a panel, and its margins: above, right, below, left.
const PANEL: [f64; 2] = [440.0, 330.0];
const MARGIN: [f64; 4] = [30.0, 14.0, 44.0, 56.0];
/// The least width of a file, where a legend has room.
const LEAST: f64 = 720.0;
/// The height of a row of the legend.
const ROW: f64 = 20.0;
/// The width of a character, about.
const LETTER: f64 = 7.2;
/// The most groups whose values are shown at a place, and the most places.
const SHOWN: usize = 8;
const PLACES: usize = 220;
/// The most characters of a number on the vertical axis.
const MARK: usize = 7;
/// The most characters of a name in a legend, and beside a value.
const NAME: usize = 64;
const NAME_OF_VALUE: usize = 26;

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
    /// Names of the groups' values where a pointer is; as in the legend if empty.
    pub(crate) called: Vec<String>,
}

/// Text as it stands in XML and HTML: nothing in a name is markup, or obeyed by what draws it.
fn escaped(text: &str) -> String {
    html! { (shown(text)) }.into_string()
}

/// The text of all that is drawn so far.
#[derive(Debug, Default)]
struct Drawing(String);

impl Drawing {
    fn text(&mut self, [x, y]: [f64; 2], class: &str, anchor: &str, words: &str) {
        let words = escaped(words);
        let _ = writeln!(
            self.0,
            r#"<text x="{x:.1}" y="{y:.1}" class="{class}" text-anchor="{anchor}">{words}</text>"#
        );
    }

    fn line(&mut self, [x1, y1]: [f64; 2], [x2, y2]: [f64; 2], class: &str) {
        let _ = writeln!(
            self.0,
            r#"<line x1="{x1:.1}" y1="{y1:.1}" x2="{x2:.1}" y2="{y2:.1}" class="{class}"/>"#
        );
    }

    fn rect(&mut self, [x, y]: [f64; 2], [width, height]: [f64; 2], class: &str) {
        let _ = writeln!(
            self.0,
            r#"<rect x="{x:.1}" y="{y:.1}" width="{width:.1}" height="{height:.1}" rx="2" class="{class}"/>"#
        );
    }

    /// A short line in a group's color and its name.
    fn key(&mut self, [x, y]: [f64; 2], group: usize, words: &str) {
        let _ = writeln!(
            self.0,
            r#"<path d="M{x:.1} {:.1}h18" class="line {}" stroke-width="3"/>"#,
            y - 4.0,
            color(group)
        );
        self.text([x + 24.0, y], "", "start", words);
    }

    /// The whole picture, on paper of its own.
    fn svg(&self, [width, height]: [f64; 2], about: &str, style: &str) -> String {
        let style = if style.is_empty() { String::new() } else { format!("<style>\n{style}</style>\n") };
        format!(
            r#"<svg xmlns="http://www.w3.org/2000/svg" class="chart" viewBox="0 0 {width:.0} {height:.0}" width="{width:.0}" height="{height:.0}" role="img" aria-label="{}">
{style}<rect class="paper" width="{width:.0}" height="{height:.0}"/>
{}</svg>
"#,
            escaped(about),
            self.0
        )
    }
}

/// The CSS classes that tell a group from others.
fn color(group: usize) -> String {
    format!("c{} d{}", group % COLORS, group / COLORS % DASHES)
}

/// The beginning and the end of a text that is too long, so that it has at most so many characters.
fn short(text: &str, most: usize) -> String {
    let letters: Vec<char> = shown(text).chars().collect();
    if letters.len() <= most {
        return letters.into_iter().collect();
    }
    let (head, tail) = (most.saturating_sub(1).div_ceil(2), most.saturating_sub(1) / 2);
    letters[..head].iter().chain(&['…']).chain(&letters[letters.len() - tail..]).collect()
}

/// A value for people: four figures or so.
pub(crate) fn figure(value: f64) -> String {
    match value.abs() {
        size if size >= 1e6 => format!("{value:.2e}"),
        size if size >= 1000.0 => format!("{value:.0}"),
        size if size >= 10.0 => format!("{value:.1}"),
        size if size >= 1e-3 || size == 0.0 => {
            let text = format!("{value:.4}");
            let short = text.trim_end_matches('0').trim_end_matches('.');
            if short.is_empty() || short == "-" { "0".to_owned() } else { short.to_owned() }
        }
        _ => format!("{value:.2e}"),
    }
}

/// Places of round numbers from `low` to `high`, about as many as asked for, at least `least` apart, and the decimals they need.
fn ticks(low: f64, high: f64, about: f64, least: f64) -> (Vec<f64>, usize) {
    let rough = ((high - low) / about).max(least).max(f64::MIN_POSITIVE);
    let power = 10f64.powf(rough.log10().floor());
    let step = [1.0, 2.0, 5.0, 10.0].map(|times| times * power).into_iter().find(|step| *step >= rough * 0.8);
    let step = step.unwrap_or(10.0 * power);
    let first = (low / step - 1e-6).ceil();
    let count = ((high / step + 1e-6).floor() - first).clamp(0.0, 100.0) as usize;
    let decimals = (-(step * 1.001).log10().floor()).clamp(0.0, 12.0) as usize;
    ((0..=count).map(|index| (first + index as f64) * step).collect(), decimals)
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

    fn ends(&self) -> ([f64; 2], [f64; 2]) {
        let ends = |values: &mut dyn Iterator<Item = f64>| {
            values.fold([f64::INFINITY, f64::NEG_INFINITY], |[low, high], v| [low.min(v), high.max(v)])
        };
        let mut across = ends(&mut self.points().map(|point| point.0));
        if !self.names.is_empty() {
            across = [-0.5, self.names.len() as f64 - 0.5];
        }
        let up = self.range.map_or_else(
            || {
                let [low, high] = ends(&mut self.points().filter_map(|point| self.place(point.1)));
                let margin = (0.04 * (high - low)).max(1e-9 * high.abs()).max(1e-12);
                [low - margin, high + margin]
            },
            |(low, high)| [low, high],
        );
        let finite = |end: f64| if end.is_finite() { end } else { 0.0 };
        let whole = |[low, high]: [f64; 2]| {
            if low < high { [low, high] } else { [low.min(0.0), low.max(0.0) + 1.0] }
        };
        (whole(across.map(finite)), whole(up.map(finite)))
    }

    fn draw(&self, drawing: &mut Drawing, [left, top]: [f64; 2], width: f64, names: &[String]) {
        let ([first, last], [low, high]) = self.ends();
        let [x0, y0] = [left + MARGIN[3], top + MARGIN[0]];
        let [x1, y1] = [left + width - MARGIN[1], top + PANEL[1] - MARGIN[2]];
        let x = |value: f64| x0 + (value - first) / (last - first) * (x1 - x0);
        let y = |value: f64| {
            let place = self.place(value).map_or(low, |place| place.clamp(low, high));
            y1 - (place - low) / (high - low) * (y1 - y0)
        };
        let room = ((x1 - x0) / LETTER) as usize;
        drawing.text([(x0 + x1) / 2.0, top + 18.0], "title", "middle", &short(&self.title, room));
        let (mut places, mut decimals) = ticks(low, high, 5.0, if self.logarithmic { 1.0 } else { 0.0 });
        if self.logarithmic && places.len() < 2 {
            (places, decimals) = ticks(low, high, 4.0, 0.0);
        }
        for place in places {
            let at = y1 - (place - low) / (high - low) * (y1 - y0);
            let plain = format!("{place:.decimals$}");
            let name = match self.logarithmic {
                true => figure(10f64.powf(place)),
                // It would begin left of the picture.
                false if plain.len() > MARK => figure(place),
                false => plain,
            };
            drawing.line([x0, at], [x1, at], "grid");
            drawing.text([x0 - 8.0, at + 4.0], "small", "end", &name);
        }
        self.draw_across(drawing, [first, last], [x0, x1], y1, &x);
        drawing.line([x0, y1], [x1, y1], "axis");
        drawing.line([x0, y0], [x0, y1], "axis");
        drawing.text([(x0 + x1) / 2.0, y1 + 36.0], "small", "middle", &self.across);
        for (group, lines) in self.groups.iter().enumerate() {
            // A line among few is thicker than one among many.
            let stroke = if lines.len() == 1 { 2 } else { 1 };
            for line in lines {
                // Of lines that are the same, each shows through the gaps of the next.
                let before = self.groups[..group].iter().filter(|others| others.contains(line)).count();
                let over = ["", " over", " over-two"][before.min(2)];
                // What is no number has no place.
                let line: Vec<(f64, f64)> =
                    line.iter().copied().filter(|point| point.1.is_finite()).collect();
                if let &[(across, up)] = &line[..] {
                    let _ = writeln!(
                        drawing.0,
                        r#"<circle cx="{:.1}" cy="{:.1}" r="3" class="dot {}" fill-opacity="0.7"/>"#,
                        x(across),
                        y(up),
                        color(group)
                    );
                } else if !line.is_empty() {
                    let points: Vec<String> =
                        line.iter().map(|&(across, up)| format!("{:.1},{:.1}", x(across), y(up))).collect();
                    let _ = writeln!(
                        drawing.0,
                        r#"<polyline points="{}" class="line {}{over}" stroke-width="{stroke}" stroke-opacity="0.8"/>"#,
                        points.join(" "),
                        color(group)
                    );
                }
            }
        }
        self.draw_values(drawing, [x0, x1], [y0, y1], &x, names);
    }

    /// The numbers or the names below the horizontal axis.
    fn draw_across(
        &self,
        drawing: &mut Drawing,
        [first, last]: [f64; 2],
        [x0, x1]: [f64; 2],
        y1: f64,
        x: &dyn Fn(f64) -> f64,
    ) {
        if self.names.is_empty() {
            let whole = self.points().all(|point| point.0.fract() == 0.0);
            let (places, decimals) = ticks(first, last, 6.0, if whole { 1.0 } else { 0.0 });
            for place in places {
                drawing.text([x(place), y1 + 18.0], "small", "middle", &format!("{place:.decimals$}"));
            }
            return;
        }
        // As many as have room.
        let widest = self.names.iter().map(|name| shown(name).chars().count()).max().unwrap_or(0);
        let room = (x1 - x0) / self.names.len() as f64;
        let every = ((widest as f64 * LETTER + 6.0) / room).ceil().max(1.0) as usize;
        for (index, name) in self.names.iter().enumerate().step_by(every) {
            drawing.text([x(index as f64), y1 + 18.0], "small", "middle", name);
        }
    }

    /// The values of all groups at a place, shown while a pointer is there. Not of groups of many lines, which have no room.
    fn draw_values(
        &self,
        drawing: &mut Drawing,
        [x0, x1]: [f64; 2],
        [y0, y1]: [f64; 2],
        x: &dyn Fn(f64) -> f64,
        names: &[String],
    ) {
        if self.groups.len() > SHOWN || self.groups.iter().any(|lines| lines.len() > 1) {
            return;
        }
        let mut places: Vec<f64> = self.points().map(|point| point.0).collect();
        places.sort_by(f64::total_cmp);
        places.dedup();
        // Of very many, some: a finger could not tell them apart.
        let every = places.len().div_ceil(PLACES).max(1);
        let places: Vec<f64> = places.into_iter().step_by(every).collect();
        for (index, &place) in places.iter().enumerate() {
            let between = |other: Option<&f64>, end: f64| other.map_or(end, |other| x((place + other) / 2.0));
            let from = between(index.checked_sub(1).and_then(|before| places.get(before)), x0);
            let to = between(places.get(index + 1), x1);
            let values: Vec<(usize, String)> = (0..)
                .zip(&self.groups)
                .filter_map(|(group, lines)| {
                    let point =
                        lines.first()?.iter().find(|point| point.0 == place && point.1.is_finite())?;
                    let name = names.get(group).map_or("", |name| name);
                    Some((group, format!("{} {}", figure(point.1), short(name, NAME_OF_VALUE))))
                })
                .collect();
            let head = match self.names.get(place as usize) {
                Some(name) => short(name, NAME_OF_VALUE),
                None if place.fract() == 0.0 && place.abs() < 1e15 => format!("{} {place}", self.across),
                None => format!("{} {}", self.across, figure(place)),
            };
            let widest = values.iter().map(|(_, text)| text.chars().count() + 4).max().unwrap_or(0);
            let size =
                [widest.max(head.chars().count()) as f64 * LETTER + 12.0, 18.0 * values.len() as f64 + 26.0];
            let middle = x(place);
            let left = if middle + 8.0 + size[0] < x1 {
                middle + 8.0
            } else {
                (middle - 8.0 - size[0]).max(x0 - MARGIN[3])
            };
            drawing.0 += "<g class=\"at\">\n";
            drawing.rect([from, y0], [(to - from).max(1.0), y1 - y0], "zone");
            drawing.0 += "<g class=\"tip\">\n";
            drawing.line([middle, y0], [middle, y1], "axis");
            drawing.rect([left, y0 + 4.0], size, "box");
            drawing.text([left + 6.0, y0 + 20.0], "title", "start", &head);
            for (row, (group, text)) in values.iter().enumerate() {
                drawing.key([left + 6.0, y0 + 38.0 + 18.0 * row as f64], *group, text);
            }
            drawing.0 += "</g></g>\n";
        }
    }
}

/// Panels side by side under the names of the groups, as an SVG file.
///
/// # Errors
/// [`TrainError`] if the file cannot be written.
pub(crate) fn write_panels(path: &Path, groups: &[String], panels: &[Panel]) -> Result<(), TrainError> {
    write_file(path, &draw(groups, panels, LEAST, STYLE))
}

/// One panel under the names of its groups, as a part of a page that has the [`STYLE`].
pub(crate) fn inline(groups: &[String], panel: &Panel) -> String {
    draw(groups, std::slice::from_ref(panel), PANEL[0], "")
}

fn draw(groups: &[String], panels: &[Panel], least: f64, style: &str) -> String {
    let width = (PANEL[0] * panels.len() as f64).max(least);
    let mut drawing = Drawing::default();
    let (mut x, mut y) = (16.0, 22.0);
    for (group, name) in groups.iter().enumerate() {
        let name = short(name, NAME);
        let long = 24.0 + LETTER * name.chars().count() as f64 + 18.0;
        if x + long > width && x > 16.0 {
            (x, y) = (16.0, y + ROW);
        }
        drawing.key([x, y], group, &name);
        x += long;
    }
    let top = if groups.is_empty() { 4.0 } else { y + 8.0 };
    let each = width / panels.len().max(1) as f64;
    for (index, panel) in panels.iter().enumerate() {
        let called = if panel.called.is_empty() { groups } else { &panel.called };
        panel.draw(&mut drawing, [index as f64 * each, top], each, called);
    }
    let about: Vec<&str> = panels.iter().map(|panel| panel.title.as_str()).collect();
    drawing.svg([width, top + PANEL[1]], &about.join("; "), style)
}

/// Bars from left to right in groups, as `nin plot --bars` reads them.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct BarChart {
    /// The title.
    title: String,
    /// The text below it.
    #[serde(default)]
    note: String,
    /// The groups from top to bottom; in each, the longest bar has all the width.
    groups: Vec<BarGroup>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct BarGroup {
    title: String,
    bars: Vec<Bar>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Bar {
    name: String,
    value: f64,
    /// The text behind the bar.
    label: String,
    #[serde(default)]
    kind: BarKind,
}

/// The look of a bar.
#[derive(Debug, Clone, Copy, PartialEq, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
enum BarKind {
    /// The chart's subject.
    Ours,
    /// A variant of it.
    Own,
    /// Something else.
    #[default]
    Peer,
    /// Something that does not compute the same.
    Inexact,
}

impl BarChart {
    /// The chart as the text of an SVG file.
    pub(crate) fn svg(&self) -> String {
        const WIDTH: f64 = 900.0;
        const NAMES: f64 = 210.0;
        const LABELS: f64 = 150.0;
        const BAR: f64 = 20.0;
        let mut drawing = Drawing::default();
        drawing.text([10.0, 28.0], "title", "start", &self.title);
        drawing.text([10.0, 48.0], "small", "start", &self.note);
        let mut y = 48.0;
        for group in &self.groups {
            y += 34.0;
            drawing.text([10.0, y], "title", "start", &group.title);
            y += 10.0;
            let top = y;
            let longest = group.bars.iter().map(|bar| bar.value).fold(f64::MIN_POSITIVE, f64::max);
            for Bar { name, value, label, kind } in &group.bars {
                let length = ((WIDTH - NAMES - LABELS - 10.0) * (value / longest)).max(0.0);
                let (class, words) = match kind {
                    BarKind::Ours => ("ours", ""),
                    BarKind::Own => ("own", "small"),
                    BarKind::Peer => ("peer", "small"),
                    BarKind::Inexact => ("inexact", "small"),
                };
                drawing.text(
                    [NAMES - 8.0, y + BAR - 5.0],
                    "",
                    "end",
                    &short(name, (NAMES / LETTER) as usize),
                );
                drawing.rect([NAMES, y], [length, BAR], class);
                drawing.text([NAMES + length + 6.0, y + BAR - 5.0], words, "start", label);
                y += BAR + 6.0;
            }
            drawing.line([NAMES, top - 3.0], [NAMES, y - 3.0], "axis");
        }
        drawing.svg([WIDTH, y + 10.0], &self.title, STYLE)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(svg: &str) -> usize {
        svg.matches("<polyline").count()
    }

    /// Each tag that is opened is closed, in its order, and nothing in a text is a tag.
    fn well_formed(svg: &str) {
        let mut open = Vec::new();
        for tag in svg.split('<').skip(1) {
            let (tag, _) = tag.split_once('>').expect("an end of the tag");
            let name = |tag: &str| tag.split([' ', '\n']).next().unwrap().to_owned();
            match tag.strip_prefix('/') {
                Some(end) => assert_eq!(open.pop().as_deref(), Some(end)),
                None if tag.ends_with('/') => {}
                None => open.push(name(tag)),
            }
        }
        assert!(open.is_empty(), "{open:?}");
        assert!(!svg.contains("NaN") && !svg.contains("inf"), "{svg}");
    }

    #[test]
    fn every_line_and_every_name_is_in_the_picture() {
        let panel = |groups| Panel {
            title: "test accuracy".into(),
            across: "epoch".into(),
            range: Some((0.0, 1.0)),
            groups,
            ..Panel::default()
        };
        let names = ["chapter".to_owned(), "<b>\u{1b}[1m&'\"".to_owned()];
        let line = vec![(1.0, 0.1), (2.0, 0.3)];
        let one = draw(&names, &[panel(vec![vec![line.clone()], vec![]])], LEAST, STYLE);
        let three = draw(&names, &[panel(vec![vec![line.clone()], vec![line; 2]])], LEAST, STYLE);
        assert_eq!((lines(&one), lines(&three)), (1, 3));
        // The second group's are where the first's is, which they would hide.
        assert_eq!((one.matches(" over\"").count(), three.matches(" over\"").count()), (0, 2));
        for text in ["chapter", "&lt;b&gt;", "&amp;'&quot;", "test accuracy", "epoch", "epoch 2"] {
            assert!(one.contains(text), "no {text:?} in the picture");
        }
        assert!(!three.contains("class=\"at\""), "values of groups of many lines");
        assert!(!one.contains('\u{1b}'));
        well_formed(&one);
        well_formed(&three);
    }

    #[test]
    fn a_value_is_shown_where_the_pointer_is() {
        let panel = Panel {
            across: "epoch".into(),
            groups: vec![vec![vec![(1.0, 0.5), (12.0, 0.25)]], vec![vec![(12.0, 2.0)]]],
            ..Panel::default()
        };
        let svg = inline(&["a".to_owned(), "b".to_owned()], &panel);
        let places: Vec<&str> = svg.split("<g class=\"at\">").skip(1).collect();
        assert_eq!(places.len(), 2);
        assert!(places[1].contains(">epoch 12<"), "{svg}");
        assert!(
            places[0].contains(">epoch 1<") && places[0].contains(">0.5 a<") && !places[0].contains(" b<")
        );
        assert!(places[1].contains(">0.25 a<") && places[1].contains(">2 b<"));
        well_formed(&svg);
    }

    #[test]
    fn a_single_point_is_a_dot_and_columns_have_names() {
        let panel = Panel {
            names: vec!["a".into(), "bc".into()],
            groups: vec![vec![vec![(0.0, 0.5)]; 3], vec![vec![(1.0, 0.7)]]],
            ..Panel::default()
        };
        let svg = draw(&[], &[panel], LEAST, "");
        assert_eq!(svg.matches("<circle").count(), 4);
        assert!(svg.contains(">a<") && svg.contains(">bc<"), "{svg}");
    }

    #[test]
    fn nothing_and_zeros_can_be_drawn() {
        well_formed(&draw(&[], &[Panel::default()], LEAST, ""));
        well_formed(&draw(&[], &[], LEAST, ""));
        let groups =
            vec![vec![vec![(1.0, 0.0), (2.0, 1e-9), (3.0, f64::NAN)]], vec![vec![(2.0, f64::INFINITY)]]];
        let panel = Panel { logarithmic: true, groups, ..Panel::default() };
        well_formed(&draw(&["a".to_owned()], &[panel.clone(), panel], LEAST, STYLE));
    }

    #[test]
    fn ticks_are_round_numbers() {
        assert_eq!(ticks(0.0, 1.0, 5.0, 0.0), (vec![0.0, 0.2, 0.4, 0.6000000000000001, 0.8, 1.0], 1));
        assert_eq!(ticks(1.0, 3.0, 6.0, 1.0), (vec![1.0, 2.0, 3.0], 0));
        assert_eq!(ticks(-2.0, 147.0, 5.0, 0.0), (vec![0.0, 50.0, 100.0], 0));
        assert_eq!(ticks(0.91, 0.93, 4.0, 0.0).1, 3);
    }

    #[test]
    fn figures_are_short() {
        let values = [0.0, 0.5, 0.123_456, -0.000_012, 12.34, 0.001, 98765.4, 2e30];
        assert_eq!(
            values.map(figure),
            ["0", "0.5", "0.1235", "-1.20e-5", "12.3", "0.001", "98765", "2.00e30"]
        );
    }

    #[test]
    fn bars_are_as_long_as_their_values() {
        let json = r#"{ "title": "images per second", "groups": [{ "title": "training", "bars": [
            { "name": "nin", "value": 80, "label": "80.0", "kind": "ours" },
            { "name": "a < b", "value": 20, "label": "20.0 (ours 4.00x)" }] }] }"#;
        let svg = serde_json::from_str::<BarChart>(json).unwrap().svg();
        assert!(svg.contains(r#"width="530.0" height="20.0" rx="2" class="ours""#), "{svg}");
        assert!(svg.contains(r#"width="132.5" height="20.0" rx="2" class="peer""#), "{svg}");
        assert!(svg.contains("a &lt; b"));
        well_formed(&svg);
    }

    /// Long names, many places, many groups and numbers beyond all reason: everything stays within the picture.
    #[test]
    fn what_is_long_large_or_many_has_its_place() {
        let long = "n".repeat(300);
        let line: Line = (0..20_000).map(|x| (f64::from(x), 1e30 * f64::from(x))).collect();
        let panel = Panel {
            title: long.clone(),
            across: "epoch".into(),
            groups: vec![vec![line]],
            range: Some((0.0, f64::MAX / 2.0)),
            ..Panel::default()
        };
        let svg = inline(std::slice::from_ref(&long), &panel);
        well_formed(&svg);
        assert!(svg.matches("class=\"at\"").count() <= PLACES);
        assert!(svg.contains("nnn…nnn"));
        let widest =
            svg.lines().filter(|line| line.starts_with("<text")).max_by_key(|line| line.len()).unwrap();
        assert!(widest.len() < 180, "{widest}");
        // So do the numbers of a learning rate that is next to nothing.
        let small = Panel {
            groups: vec![vec![vec![(0.0, 2e-8), (1.0, 6e-8)]]],
            range: Some((0.0, 6.3e-8)),
            ..Panel::default()
        };
        let svg = inline(&[], &small);
        assert!(svg.contains(">2.00e-8<") && svg.contains(">6.00e-8<") && !svg.contains("0000"), "{svg}");
        // Seven groups, six colors: the seventh is dashed.
        let groups = (0..7).map(|y| vec![vec![(0.0, f64::from(y)), (1.0, f64::from(y))]]).collect();
        let svg = inline(&[], &Panel { groups, ..Panel::default() });
        assert!(svg.contains("class=\"line c0 d0\"") && svg.contains("class=\"line c0 d1\""));
        let huge = r#"{ "title": "", "groups": [{ "title": "", "bars": [{ "name": "", "value": 1e308, "label": "" }] }] }"#;
        well_formed(&serde_json::from_str::<BarChart>(huge).unwrap().svg());
    }

    /// The picture of the README is what this module makes of the measurements beside it.
    #[test]
    fn the_chart_of_other_frameworks_is_of_its_measurements() {
        let peers = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/results/peers"));
        let read = |file: &str| std::fs::read_to_string(peers.join(file)).unwrap();
        let bars: BarChart = serde_json::from_str(&read("bars.json")).unwrap();
        assert_eq!(bars.svg(), read("peers.svg"));
    }
}
