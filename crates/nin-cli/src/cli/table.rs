//! A table of text as columns for a terminal, as Markdown, for a page and as CSV.

use maud::{Markup, html};
use nin::names::shown;

/// Columns with headings. The first is aligned to the left, as are those of words; numbers to the right.
#[derive(Debug, Default)]
pub(super) struct Table {
    headings: Vec<&'static str>,
    rows: Vec<Vec<String>>,
}

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

    /// Tells whether a column holds numbers (and cells without anything). What stands first are names, even if they look like
    /// numbers.
    fn is_number(&self, column: usize) -> bool {
        let number = |row: &Vec<String>| {
            let digits = row[column].replace(',', "");
            digits.is_empty() || digits.parse::<f64>().is_ok()
        };
        column > 0 && self.rows.iter().all(number)
    }

    /// The columns that hold anything.
    fn filled(&self) -> Vec<usize> {
        (0..self.headings.len())
            .filter(|&column| self.rows.iter().any(|row| !row[column].is_empty()))
            .collect()
    }

    fn width(&self, column: usize) -> usize {
        let cells = self.rows.iter().map(|row| shown(&row[column]).chars().count());
        cells.chain([self.headings[column].len()]).max().unwrap_or(0)
    }

    /// Aligned columns, without those that hold nothing.
    pub(super) fn text(&self) -> String {
        let columns = self.filled();
        let line = |cell: &dyn Fn(usize) -> String| {
            let mut line = String::new();
            for &column in &columns {
                let (cell, width) = (shown(&cell(column)), self.width(column));
                line += &if self.is_number(column) {
                    format!("{cell:>width$}  ")
                } else {
                    format!("{cell:<width$}  ")
                };
            }
            line.trim_end().to_owned() + "\n"
        };
        let mut text = line(&|column| self.headings[column].to_owned());
        for row in &self.rows {
            text += &line(&|column| row[column].clone());
        }
        text
    }

    /// A Markdown table, without the columns that hold nothing.
    pub(super) fn markdown(&self) -> String {
        let columns = self.filled();
        let headings: Vec<&str> = columns.iter().map(|&column| self.headings[column]).collect();
        let mut text = format!("| {} |\n|", headings.join(" | "));
        for &column in &columns {
            text += if self.is_number(column) { "---:|" } else { "---|" };
        }
        for row in &self.rows {
            let cells: Vec<String> =
                columns.iter().map(|&column| shown(&row[column]).replace('|', "\\|")).collect();
            text += &format!("\n| {} |", cells.join(" | "));
        }
        text + "\n"
    }

    /// A table of a page, without the columns that hold nothing.
    pub(super) fn html(&self) -> Markup {
        let columns = self.filled();
        let class = |column: usize| self.is_number(column).then_some("number");
        html! {
            div.wide tabindex="0" { table {
                tr { @for &column in &columns { th scope="col" class=[class(column)] { (self.headings[column]) } } }
                @for row in &self.rows {
                    tr { @for &column in &columns { td class=[class(column)] { (shown(&row[column])) } } }
                }
            } }
        }
    }

    /// Comma-separated values (RFC 4180), every column, numbers without commas between thousands.
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
        } else if cell.contains([',', '"', '\n', '\r']) {
            format!("\"{}\"", cell.replace('"', "\"\""))
        } else {
            cell.to_owned()
        }
    }
}

/// A number with a comma between thousands.
pub(super) fn grouped(number: usize) -> String {
    match number / 1000 {
        0 => number.to_string(),
        thousands => format!("{},{:03}", grouped(thousands), number % 1000),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_aligned_markdown_says_how_and_csv_quotes_what_it_must() {
        let mut table = Table::new(&["network", "train acc", "test acc", "run"]);
        table.push(vec!["nin".into(), String::new(), "1,234.5".into(), "a, \"b\"|c".into()]);
        table.push(vec!["alexnet".into(), String::new(), String::new(), String::new()]);
        assert_eq!(table.text(), "network  test acc  run\nnin       1,234.5  a, \"b\"|c\nalexnet\n");
        let markdown = "| network | test acc | run |\n|---|---:|---|\n| nin | 1,234.5 | a, \"b\"\\|c |\n| alexnet |  |  |\n";
        assert_eq!(table.markdown(), markdown);
        let csv = "network,train_acc,test_acc,run\nnin,,1234.5,\"a, \"\"b\"\"|c\"\nalexnet,,,\n";
        assert_eq!(table.csv(), csv);
    }
}
