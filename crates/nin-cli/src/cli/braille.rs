//! Curves as text: the eight dots of a braille character are pixels.

use crate::chart::figure;

/// The bits of a character's dots, by column and row.
const DOTS: [[u8; 4]; 2] = [[0x01, 0x02, 0x04, 0x40], [0x08, 0x10, 0x20, 0x80]];

/// Columns of a number of the axis, on the left of the dots, if no number is longer.
const LABEL: usize = 4;

/// A curve, told from others by its dashes, too, where there are no colors.
#[derive(Debug, Clone)]
pub(super) struct Curve {
    pub(super) name: &'static str,
    /// Dots that are drawn, and dots that are left out after them, in turn.
    pub(super) dashes: [usize; 2],
    /// The terminal's number of the color.
    pub(super) color: u8,
    /// In the order in which lines go through them.
    pub(super) points: Vec<(f64, f64)>,
}

impl Curve {
    fn has_dot(&self, number: usize) -> bool {
        number % self.dashes.iter().sum::<usize>() < self.dashes[0]
    }
}

/// Characters in a row, each with its dots and the number of the curve that drew the last of them.
#[derive(Debug, Clone)]
struct Row(Vec<(u8, usize)>);

impl Row {
    fn of(columns: usize) -> Self {
        Self(vec![(0, 0); columns])
    }

    fn dot(&mut self, x: usize, y: usize, curve: usize) {
        let (dots, last) = &mut self.0[x / 2];
        (*dots, *last) = (*dots | DOTS[x % 2][y], curve);
    }

    fn text(&self, curves: &[Curve], color: bool) -> String {
        let mut text = String::new();
        for run in self.0.chunk_by(|a, b| (a.0 == 0, a.1) == (b.0 == 0, b.1)) {
            let character = |&(dots, _): &(u8, usize)| match dots {
                0 => ' ',
                _ => char::from_u32(0x2800 + u32::from(dots)).expect("a braille pattern"),
            };
            let plain: String = run.iter().map(character).collect();
            let (dots, curve) = run[0];
            text += &if color && dots > 0 {
                format!("\u{1b}[{}m{plain}\u{1b}[0m", curves[curve].color)
            } else {
                plain
            };
        }
        text
    }
}

/// Lines of at most so many columns: curves in so many rows over 0 to `right` and 0 to `top`, the axis, which is called `across`,
/// and each curve's name with its last value. Values beyond the ends are drawn at the ends, points that are no numbers are left
/// out.
pub(super) fn plot(
    curves: &[Curve],
    across: &str,
    [right, top]: [f64; 2],
    [columns, rows]: [usize; 2],
    color: bool,
) -> Vec<String> {
    let finite = |(x, y): &(f64, f64)| x.is_finite() && y.is_finite();
    let drawn = |curve: &Curve| Curve {
        points: curve.points.iter().copied().filter(finite).collect(),
        ..curve.clone()
    };
    let curves: Vec<Curve> = curves.iter().map(drawn).collect();
    let highest = figure(top);
    let left = highest.chars().count().max(LABEL);
    // Beside the number, a space and the axis.
    let margin = left + 2;
    let width = columns.saturating_sub(margin).max(1);
    let mut canvas = vec![Row::of(width); rows];
    let place = |value: f64, end: f64, dots: usize| {
        let last = (dots - 1) as f64;
        (value / end * last).round().clamp(0.0, last)
    };
    for (number, curve) in curves.iter().enumerate() {
        let place = |&(x, y): &(f64, f64)| {
            [place(x, right, 2 * width), (4 * rows - 1) as f64 - place(y, top, 4 * rows)]
        };
        let places: Vec<[f64; 2]> = curve.points.iter().map(place).collect();
        let mut drawn = 0;
        for ([x0, y0], [x1, y1]) in places.first().into_iter().chain(&places).zip(&places) {
            let steps = (x1 - x0).abs().max((y1 - y0).abs());
            // But for the first, a point is the end of the line before.
            for step in usize::from(drawn > 0)..=steps as usize {
                let share = step as f64 / steps.max(1.0);
                let [x, y] = [x0 + share * (x1 - x0), y0 + share * (y1 - y0)].map(|at| at.round() as usize);
                if curve.has_dot(drawn) {
                    canvas[y / 4].dot(x, y % 4, number);
                }
                drawn += 1;
            }
        }
    }
    let label = |row: usize| match row {
        0 => &highest,
        _ if row + 1 == rows => "0",
        _ => "",
    };
    let line = |(row, dots): (usize, &Row)| format!("{:>left$} │{}", label(row), dots.text(&curves, color));
    let mut lines: Vec<String> =
        canvas.iter().enumerate().map(|row| line(row).trim_end().to_owned()).collect();
    let end = right.to_string();
    lines.push(format!("{:margin$}0{across:^1$}{end}", "", width.saturating_sub(1 + end.len())));
    lines.extend(legend(&curves, columns, color));
    lines
}

/// The curves that have a value, as many in a line as fit.
fn legend(curves: &[Curve], columns: usize, color: bool) -> Vec<String> {
    let (mut lines, mut used) = (vec![String::new()], 0);
    for (number, curve) in curves.iter().enumerate() {
        let Some((_, last)) = curve.points.last() else { continue };
        let mut sample = Row::of(3);
        (0..6).filter(|&dot| curve.has_dot(dot)).for_each(|dot| sample.dot(dot, 2, number));
        let name = format!(" {} {}", curve.name, figure(*last));
        let wide = 3 + name.chars().count();
        let gap = if used == 0 { 0 } else { 2 };
        if used + gap + wide > columns && used > 0 {
            lines.push(String::new());
            used = 0;
        } else {
            used += gap;
            lines.last_mut().expect("there is one").push_str(&" ".repeat(gap));
        }
        used += wide;
        lines.last_mut().expect("there is one").push_str(&(sample.text(curves, color) + &name));
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    fn curves() -> [Curve; 3] {
        [
            Curve {
                name: "loss",
                dashes: [1, 0],
                color: 34,
                points: vec![(0.0, 2.0), (1.0, 1.0), (4.0, 0.0)],
            },
            Curve { name: "acc", dashes: [1, 2], color: 32, points: vec![(1.0, 1.0), (4.0, 2.0)] },
            Curve { name: "none", dashes: [4, 2], color: 35, points: Vec::new() },
        ]
    }

    #[test]
    fn small_plots() {
        let drawn = |size, color| plot(&curves(), "epoch", [4.0, 2.0], size, color).join("\n");
        assert_eq!(
            drawn([18, 3], false),
            "   2 │⠑⢄⡀   ⡀⠠ ⠂⠐
     │  ⠈⠒⠬⢄⣀
   0 │       ⠉⠒⠢⠤⣀
      0  epoch   4
⠤⠤⠤ loss 0
⠄⠠  acc 2"
        );
        // A character has the color of the curve that is drawn last.
        let (loss, acc, end) = ("\u{1b}[34m", "\u{1b}[32m", "\u{1b}[0m");
        assert_eq!(
            drawn([30, 2], true).replace(loss, "<").replace(acc, "(").replace(end, ">"),
            "   2 │<⠉⠒⠒⠤⠤⣀>(⣀⣀><⡀>(⠄⠠> (⠄⠠> (⠂⠐> (⠂⠐> (⠁⠈>
   0 │        <⠈⠉⠉⠉⠉⠒⠒⠒⠒⠤⠤⠤⠤⢄⣀⣀>
      0        epoch         4
<⠤⠤⠤> loss 0  (⠄⠠>  acc 2"
        );
    }

    #[test]
    fn what_is_beyond_the_ends_is_drawn_at_the_ends() {
        let curve = |points| Curve { points, ..curves()[0].clone() };
        let drawn = |points| plot(&[curve(points)], "epoch", [1.0, 1.0], [8, 1], false)[0].clone();
        assert_eq!(drawn(vec![(0.0, 0.0)]), "   1 │⡀", "one point");
        assert_eq!(drawn(vec![(1.0, 1.0)]), "   1 │ ⠈");
        assert_eq!(drawn(vec![(-1.0, 9.0), (2.0, 9.0)]), "   1 │⠉⠉");
        assert_eq!(drawn(vec![(0.0, 0.0), (0.0, 1.0), (1.0, 1.0)]), "   1 │⡏⠉", "up, and to the right");
        assert_eq!(drawn(Vec::new()), "   1 │");
    }

    #[test]
    fn a_long_number_moves_the_axis_of_every_row_and_no_number_is_no_point() {
        let curve = |points| Curve { points, ..curves()[0].clone() };
        let points =
            vec![(0.0, f64::NAN), (0.0, 1e30), (f64::INFINITY, 1.0), (1.0, 0.0), (1.0, f64::NEG_INFINITY)];
        let drawn = |top| plot(&[curve(points.clone())], "", [1.0, top], [16, 2], false);
        assert_eq!(
            drawn(1e30),
            plot(&[curve(vec![(0.0, 1e30), (1.0, 0.0)])], "", [1.0, 1e30], [16, 2], false)
        );
        assert_eq!(drawn(1e30)[0], "1.00e30 │⠑⠢⢄⡀");
        for (top, left) in [(1.0, 4), (98_765.4, 5), (-1e300, 9), (f64::MAX, 8)] {
            let lines = drawn(top);
            assert!(lines.iter().all(|line| line.chars().count() <= 16), "{lines:#?}");
            assert!(lines[..2].iter().all(|line| line.chars().nth(left + 1) == Some('│')), "{lines:#?}");
        }
    }
}
