//! A table of text as columns for a terminal, as Markdown, for a page and as CSV.

use indicatif::HumanCount;
use maud::{Markup, html};
use nin::names::shown;

/// Rows of cells under headings. The first column is aligned to the left, as are those of words; numbers to the right.
#[derive(Debug, Default)]
pub(super) struct Table {
    headings: Vec<String>,
    rows: Vec<Vec<String>>,
}

/// A column that holds anything.
struct Column {
    index: usize,
    is_number: bool,
}

impl Table {
    /// A table without rows yet.
    pub(super) fn new<H: Into<String>>(headings: impl IntoIterator<Item = H>) -> Self {
        Self { headings: headings.into_iter().map(Into::into).collect(), rows: Vec::new() }
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

    fn columns(&self) -> Vec<Column> {
        (0..self.headings.len())
            .filter(|&index| self.rows.iter().any(|row| !row[index].is_empty()))
            .map(|index| Column { index, is_number: self.is_number(index) })
            .collect()
    }

    /// Headings and rows.
    fn lines(&self) -> impl Iterator<Item = &Vec<String>> {
        std::iter::once(&self.headings).chain(&self.rows)
    }

    /// Aligned columns, without those that hold nothing.
    pub(super) fn text(&self) -> String {
        let width = |index: usize| self.lines().map(|line| shown(&line[index]).chars().count()).max();
        let columns: Vec<_> =
            self.columns().into_iter().map(|column| (width(column.index).unwrap_or(0), column)).collect();
        let aligned = |line: &Vec<String>| {
            let cell = |(width, Column { index, is_number }): &(usize, Column)| {
                let cell = shown(&line[*index]);
                if *is_number { format!("{cell:>width$}  ") } else { format!("{cell:<width$}  ") }
            };
            columns.iter().map(cell).collect::<String>().trim_end().to_owned() + "\n"
        };
        self.lines().map(aligned).collect()
    }

    /// A Markdown table, without the columns that hold nothing.
    pub(super) fn markdown(&self) -> String {
        let columns = self.columns();
        let line = |line: &Vec<String>| {
            let cell = |column: &Column| format!(" {} |", shown(&line[column.index]).replace('|', "\\|"));
            format!("|{}\n", columns.iter().map(cell).collect::<String>())
        };
        let mut lines: Vec<String> = self.lines().map(line).collect();
        let rule = columns.iter().map(|column| if column.is_number { "---:|" } else { "---|" });
        lines[0] += &format!("|{}\n", rule.collect::<String>());
        lines.concat()
    }

    /// A table of a page, without the columns that hold nothing.
    pub(super) fn html(&self) -> Markup {
        let columns = self.columns();
        let class = |column: &Column| column.is_number.then_some("number");
        html! {
            div.wide tabindex="0" { table {
                tr { @for own in &columns { th scope="col" class=[class(own)] { (shown(&self.headings[own.index])) } } }
                @for row in &self.rows {
                    tr { @for own in &columns { td class=[class(own)] { (shown(&row[own.index])) } } }
                }
            } }
        }
    }

    /// Comma-separated values (RFC 4180), every column, numbers without commas between thousands.
    pub(super) fn csv(&self) -> String {
        let is_number: Vec<bool> = (0..self.headings.len()).map(|column| self.is_number(column)).collect();
        let headings = self.headings.iter().map(|heading| heading.replace(' ', "_"));
        let mut text = headings.collect::<Vec<_>>().join(",") + "\n";
        for row in &self.rows {
            let cell = |(cell, &is_number): (&String, &bool)| match is_number {
                true => cell.replace(',', ""),
                false if cell.contains([',', '"', '\n', '\r']) => {
                    format!("\"{}\"", cell.replace('"', "\"\""))
                }
                false => cell.clone(),
            };
            text += &(row.iter().zip(&is_number).map(cell).collect::<Vec<_>>().join(",") + "\n");
        }
        text
    }
}

/// A number with a comma between thousands.
pub(super) fn grouped(number: usize) -> String {
    HumanCount(number as u64).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_aligned_markdown_says_how_and_csv_quotes_what_it_must() {
        let mut table = Table::new(["network", "train acc", "test acc", "run"]);
        table.push(vec!["nin".into(), String::new(), "1,234.5".into(), "a, \"b\"|c".into()]);
        table.push(vec!["alexnet".into(), String::new(), String::new(), String::new()]);
        assert_eq!(table.text(), "network  test acc  run\nnin       1,234.5  a, \"b\"|c\nalexnet\n");
        let markdown = "| network | test acc | run |\n|---|---:|---|\n| nin | 1,234.5 | a, \"b\"\\|c |\n| alexnet |  |  |\n";
        assert_eq!(table.markdown(), markdown);
        let csv = "network,train_acc,test_acc,run\nnin,,1234.5,\"a, \"\"b\"\"|c\"\nalexnet,,,\n";
        assert_eq!(table.csv(), csv);
    }
}
