//! What a case has to say: tables, curves, remarks, and the figures that budgets are held against.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use super::spread::Spread;

/// The findings of one case.
#[derive(Debug, Default)]
pub(super) struct Section {
    pub(super) tables: Vec<Table>,
    pub(super) plots: Vec<Plot>,
    /// Sentences below the tables.
    pub(super) remarks: Vec<String>,
    /// By name: `http/32/trellis/cpu_us`.
    pub(super) figures: BTreeMap<String, Spread>,
}

/// Cells in rows.
#[derive(Debug, Default)]
pub(super) struct Table {
    pub(super) title: String,
    pub(super) columns: Vec<String>,
    pub(super) rows: Vec<Vec<String>>,
}

/// Curves of latency over rate.
#[derive(Debug, Default)]
pub(super) struct Plot {
    /// The file's name, without its ending.
    pub(super) name: String,
    pub(super) title: String,
    pub(super) curves: Vec<Curve>,
}

/// One contestant's curve.
#[derive(Debug, Default)]
pub(super) struct Curve {
    pub(super) name: String,
    /// Requests a second, median latency and its 99th percentile in microseconds.
    pub(super) points: Vec<(f64, f64, f64)>,
}

impl Table {
    pub(super) fn new(title: impl Into<String>, columns: &[&str]) -> Self {
        Self {
            title: title.into(),
            columns: columns.iter().map(|c| (*c).to_owned()).collect(),
            rows: Vec::new(),
        }
    }

    pub(super) fn row(&mut self, cells: Vec<String>) {
        self.rows.push(cells);
    }

    /// In Markdown, with a bold title.
    pub(super) fn markdown(&self) -> String {
        let mut text = String::new();
        let mut line = |cells: &[String]| {
            // Writing to a string cannot fail.
            let _ = writeln!(text, "| {} |", cells.join(" | "));
        };
        line(&self.columns);
        let rule: Vec<_> = (0..self.columns.len())
            .map(|index| if index == 0 { "---" } else { "---:" }.to_owned())
            .collect();
        line(&rule);
        for row in &self.rows {
            line(row);
        }
        format!("**{}**\n\n{text}", self.title)
    }

    /// In columns, for a terminal.
    pub(super) fn plain(&self) -> String {
        let rows: Vec<_> = std::iter::once(&self.columns).chain(&self.rows).collect();
        let width = |column: usize| {
            rows.iter()
                .filter_map(|row| row.get(column))
                .map(|cell| cell.chars().count())
                .max()
                .unwrap_or(0)
        };
        let widths: Vec<_> = (0..self.columns.len()).map(width).collect();
        let mut text = format!("\n{}\n", self.title);
        for row in rows {
            for (column, cell) in row.iter().enumerate() {
                let width = widths.get(column).copied().unwrap_or(0);
                let _ = if column == 0 {
                    write!(text, "  {cell:<width$}")
                } else {
                    write!(text, "  {cell:>width$}")
                };
            }
            text.push('\n');
        }
        text
    }
}

impl Section {
    /// For the terminal.
    pub(super) fn print(&self) {
        for table in &self.tables {
            eprint!("{}", table.plain());
        }
        for remark in &self.remarks {
            eprintln!("  {remark}");
        }
    }

    pub(super) fn figure(&mut self, name: impl Into<String>, value: Spread) {
        self.figures.insert(name.into(), value);
    }
}
