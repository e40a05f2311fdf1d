//! A table of text as columns for a terminal, as Markdown and as CSV.

use std::fmt::Write;

/// Columns with headings. The first is aligned to the left, as are those of words; numbers to the right.
#[derive(Debug, Default)]
pub(super) struct Table {
    headings: Vec<&'static str>,
    rows: Vec<Vec<String>>,
}

const WRITE: &str = "a string takes any text";

impl Table {
    /// A table without rows yet.
    pub(super) fn new(headings: &[&'static str]) -> Self {
        Self { headings: headings.to_vec(), rows: Vec::new() }
    }

    /// One more row, with a cell for each column.
    pub(super) fn push(&mut self, row: Vec<String>) {
        debug_assert_eq!(row.len(), self.headings.len(), "a cell for each column");
        self.rows.push(row);
    }

    /// Whether a column holds numbers (and cells without anything).
    fn is_number(&self, column: usize) -> bool {
        self.rows.iter().all(|row| {
            let digits = row[column].replace(',', "");
            digits.is_empty() || digits.parse::<f64>().is_ok()
        })
    }

    fn width(&self, column: usize) -> usize {
        let cells = self.rows.iter().map(|row| row[column].chars().count());
        cells.chain([self.headings[column].len()]).max().unwrap_or(0)
    }

    /// Aligned columns.
    pub(super) fn text(&self) -> String {
        let columns: Vec<(bool, usize)> =
            (0..self.headings.len()).map(|column| (self.is_number(column), self.width(column))).collect();
        let line = |cells: &mut dyn Iterator<Item = &str>| {
            let mut line = String::new();
            for (cell, &(number, width)) in cells.zip(&columns) {
                if number {
                    write!(line, "{cell:>width$}  ").expect(WRITE);
                } else {
                    write!(line, "{cell:<width$}  ").expect(WRITE);
                }
            }
            line.trim_end().to_owned() + "\n"
        };
        let mut text = line(&mut self.headings.iter().copied());
        for row in &self.rows {
            text += &line(&mut row.iter().map(String::as_str));
        }
        text
    }

    /// A Markdown table.
    pub(super) fn markdown(&self) -> String {
        let mut text = format!("| {} |\n|", self.headings.join(" | "));
        for column in 0..self.headings.len() {
            text += if self.is_number(column) { "---:|" } else { "---|" };
        }
        for row in &self.rows {
            let cells: Vec<String> = row.iter().map(|cell| cell.replace('|', "\\|")).collect();
            write!(text, "\n| {} |", cells.join(" | ")).expect(WRITE);
        }
        text + "\n"
    }

    /// Comma-separated values (RFC 4180), numbers without commas between thousands.
    pub(super) fn csv(&self) -> String {
        let mut text =
            self.headings.iter().map(|heading| heading.replace(' ', "_")).collect::<Vec<_>>().join(",");
        text.push('\n');
        for row in &self.rows {
            let cells: Vec<String> =
                row.iter().enumerate().map(|(column, cell)| self.csv_cell(column, cell)).collect();
            text += &cells.join(",");
            text.push('\n');
        }
        text
    }

    fn csv_cell(&self, column: usize, cell: &str) -> String {
        if self.is_number(column) {
            cell.replace(',', "")
        } else if cell.contains([',', '"', '\n']) {
            format!("\"{}\"", cell.replace('"', "\"\""))
        } else {
            cell.to_owned()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table() -> Table {
        let mut table = Table::new(&["network", "test acc", "run"]);
        table.push(vec!["nin".into(), "1,234.5".into(), "a, \"b\"|c".into()]);
        table.push(vec!["alexnet".into(), String::new(), String::new()]);
        table
    }

    #[test]
    fn text_is_aligned() {
        assert_eq!(table().text(), "network  test acc  run\nnin       1,234.5  a, \"b\"|c\nalexnet\n");
    }

    #[test]
    fn markdown_has_a_line_for_the_alignment() {
        assert_eq!(
            table().markdown(),
            "| network | test acc | run |\n|---|---:|---|\n| nin | 1,234.5 | a, \"b\"\\|c |\n| alexnet |  |  |\n"
        );
    }

    #[test]
    fn csv_quotes_what_it_must() {
        assert_eq!(table().csv(), "network,test_acc,run\nnin,1234.5,\"a, \"\"b\"\"|c\"\nalexnet,,\n");
    }
}
