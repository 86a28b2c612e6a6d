//! Results on stdout, and the human-readable form of tables, numbers and times.

use std::io;
use std::path::Path;
use std::time::Duration;

use comfy_table::presets::NOTHING;
use comfy_table::{Cell, CellAlignment, LineStyle};
use serde_json::Value as Json;
use tidemark_kernel::{Time, Value};
use tidemark_offline::durable::FileError;

use crate::args::Format;
use crate::console;
use crate::failure::{Failure, Result};

/// Where results go.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Output {
    format: Format,
}

impl Output {
    pub(crate) const fn new(format: Format) -> Self {
        Self { format }
    }

    /// Prints a command's result in the form asked for.
    ///
    /// # Errors
    /// Fails where stdout cannot be written.
    pub(crate) fn result(self, json: impl FnOnce() -> Json, text: impl FnOnce() -> String) -> Result<()> {
        self.result_of(|| format!("{:#}", json()), text)
    }

    /// The same where the JSON is written already, because its members have an order.
    ///
    /// # Errors
    /// As [`result`](Self::result).
    pub(crate) fn result_of(
        self,
        json: impl FnOnce() -> String,
        text: impl FnOnce() -> String,
    ) -> Result<()> {
        let text = match self.format {
            Format::Json => json(),
            Format::Text => text(),
        };
        Self::write(format!("{}\n", text.trim_end()))
    }

    /// Writes a piece of a result.
    ///
    /// # Errors
    /// Fails where stdout cannot be written.
    pub(crate) fn write(text: String) -> Result<()> {
        console::out(text).map_err(|error| match error.kind() {
            io::ErrorKind::BrokenPipe => Failure::Unread,
            _ => FileError::of("write", Path::new("stdout"))(error).into(),
        })
    }
}

/// A table under construction. Columns whose name begins with `>` are numbers, to the right.
pub(crate) struct Table {
    table: comfy_table::Table,
    right: Vec<bool>,
}

impl Table {
    pub(crate) fn new(columns: &[&str]) -> Self {
        let mut table = comfy_table::Table::new();
        table.load_style(NOTHING.header_separator(LineStyle::none().fill('─').junction(' ')));
        let right: Vec<bool> = columns.iter().map(|column| column.starts_with('>')).collect();
        let mut this = Self { table, right };
        let names = columns.iter().map(|column| column.trim_start_matches('>').to_owned()).collect();
        let header = this.aligned(names);
        this.table.set_header(header);
        this
    }

    pub(crate) fn row(&mut self, cells: Vec<String>) {
        let cells = self.aligned(cells);
        self.table.add_row(cells);
    }

    fn aligned(&self, cells: Vec<String>) -> Vec<Cell> {
        let side = |right: &bool| if *right { CellAlignment::Right } else { CellAlignment::Left };
        cells
            .into_iter()
            .zip(&self.right)
            .map(|(cell, right)| Cell::new(cell).set_alignment(side(right)))
            .collect()
    }
}

/// Ends with a line end; a table without rows is nothing.
impl std::fmt::Display for Table {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if self.table.is_empty() { Ok(()) } else { writeln!(f, "{}", self.table.trim_fmt()) }
    }
}

/// `1,234,567`
pub(crate) fn count(number: u64) -> String {
    let digits = number.to_string();
    let groups: Vec<&str> = (0..digits.len().div_ceil(3))
        .rev()
        .map(|group| {
            let end = digits.len() - group * 3;
            &digits[end.saturating_sub(3)..end]
        })
        .collect();
    groups.join(",")
}

/// `one row`, `3 rows`.
pub(crate) fn counted(number: u64, one: &str) -> String {
    if number == 1 { format!("1 {one}") } else { format!("{} {one}s", count(number)) }
}

/// `812 B`, `4.2 MB`.
pub(crate) fn bytes(number: u64) -> String {
    const UNITS: [&str; 5] = ["B", "kB", "MB", "GB", "TB"];
    let mut size = number as f64;
    let mut unit = 0;
    while size >= 1000.0 && unit + 1 < UNITS.len() {
        size /= 1000.0;
        unit += 1;
    }
    if unit == 0 { format!("{number} B") } else { format!("{size:.1} {}", UNITS[unit]) }
}

/// `840 µs`, `1.25 ms`, `3.4 s`, `2m 05s`.
pub(crate) fn duration(took: Duration) -> String {
    let seconds = took.as_secs_f64();
    match seconds {
        _ if seconds < 0.001 => format!("{:.0} µs", seconds * 1e6),
        _ if seconds < 1.0 => format!("{:.2} ms", seconds * 1e3),
        _ if seconds < 60.0 => format!("{seconds:.1} s"),
        _ => format!("{}m {:02}s", took.as_secs() / 60, took.as_secs() % 60),
    }
}

/// How many of something in a second.
pub(crate) fn rate(number: u64, took: Duration) -> String {
    let rate = number as f64 / took.as_secs_f64().max(1e-6);
    format!("{}/s", count(rate.round() as u64))
}

/// An instant, or a dash.
pub(crate) fn time(time: Option<Time>) -> String {
    time.map_or_else(|| "-".to_owned(), |time| time.to_string())
}

/// A feature's value.
pub(crate) fn value(value: &Value) -> String {
    match value {
        Value::Null => "null".to_owned(),
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_grouped() {
        let grouped: Vec<String> = [0, 12, 123, 1234, 123_456, 1_234_567].into_iter().map(count).collect();
        assert_eq!(grouped, ["0", "12", "123", "1,234", "123,456", "1,234,567"]);
    }

    #[test]
    fn sizes_and_times_have_fitting_units() {
        assert_eq!(
            (bytes(999), bytes(1000), bytes(4_200_000)),
            ("999 B".into(), "1.0 kB".into(), "4.2 MB".into())
        );
        let times = [840, 1250, 3_400_000, 125_000_000].map(|micros| duration(Duration::from_micros(micros)));
        assert_eq!(times, ["840 µs", "1.25 ms", "3.4 s", "2m 05s"]);
    }
}
