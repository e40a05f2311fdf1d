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
        column > 0 && self.rows.iter().all(|row| is_number(&row[column]))
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

    /// A table of a page, without the columns that hold nothing; nothing without rows.
    pub(super) fn html(&self) -> Markup {
        let columns = self.columns();
        let class = |column: &Column| column.is_number.then_some("number");
        html! {
            @if !self.rows.is_empty() {
                div.wide tabindex="0" { table {
                    tr { @for own in &columns { th scope="col" class=[class(own)] { (shown(&self.headings[own.index])) } } }
                    @for row in &self.rows {
                        tr { @for own in &columns { td class=[class(own)] { (shown(&row[own.index])) } } }
                    }
                } }
            }
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

/// Tells whether a cell holds a number, or nothing.
pub(super) fn is_number(cell: &str) -> bool {
    // Commas are between thousands alone: `1,5` is a name.
    let thousands = || cell.replace(',', "").parse().is_ok_and(|number| grouped(number) == *cell);
    cell.is_empty() || cell.parse::<f64>().is_ok() || thousands()
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
        let mut table = Table::new(["network", "train acc", "size", "run", "head"]);
        table.push(["nin", "", "1,234", "a, \"b\"|c", "1,5"].map(str::to_owned).to_vec());
        table.push(["alexnet", "", "", "", ""].map(str::to_owned).to_vec());
        assert_eq!(
            table.text(),
            "network   size  run       head\nnin      1,234  a, \"b\"|c  1,5\nalexnet\n"
        );
        let markdown = "| network | size | run | head |\n|---|---:|---|---|\n\
                        | nin | 1,234 | a, \"b\"\\|c | 1,5 |\n| alexnet |  |  |  |\n";
        assert_eq!(table.markdown(), markdown);
        let csv = "network,train_acc,size,run,head\nnin,,1234,\"a, \"\"b\"\"|c\",\"1,5\"\nalexnet,,,,\n";
        assert_eq!(table.csv(), csv);
        let page = table.html().into_string();
        assert!(
            page.contains("<tr><td>alexnet</td><td class=\"number\"></td><td></td><td></td></tr>"),
            "{page}"
        );
        assert_eq!(Table::new(["network"]).html().into_string(), "");
    }
}
