//! A scenario's Markdown: its title, its definitions and its tables, every cell with its place.

use std::ops::Range;
use std::path::Path;

use super::{CellPlace, ScenarioError};

/// A scenario as text.
#[derive(Clone, Debug)]
pub(crate) struct Document {
    /// Every line, without its end.
    lines: Vec<String>,
    /// The first heading.
    pub(crate) title: String,
    /// The text of the `yaml` block, padded with empty lines so that its lines have the numbers they have here.
    pub(crate) definitions: Option<String>,
    /// The table under the heading `Events`.
    pub(crate) events: Table,
    /// The tables under headings `Expect`, or `Expect: service`.
    pub(crate) expects: Vec<Table>,
}

/// A table with the heading above it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Table {
    /// What the heading names after a colon: a service.
    pub(crate) about: Option<Cell>,
    /// The names of the columns.
    pub(crate) header: Vec<Cell>,
    /// The rows, each as wide as the header.
    pub(crate) rows: Vec<Vec<Cell>>,
    /// The lines it covers, from 0.
    lines: Range<usize>,
}

/// A trimmed piece of text and where it is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Cell {
    pub(crate) text: String,
    pub(crate) place: CellPlace,
}

impl Document {
    /// Reads the parts of a scenario.
    ///
    /// # Errors
    /// Fails where a part is missing or given twice, or a row is narrower or wider than its table.
    pub(crate) fn read(file: &Path, text: &str) -> Result<Self, ScenarioError> {
        let lines: Vec<String> = text.lines().map(str::to_owned).collect();
        let mut parts =
            Parts { file, lines: &lines, title: None, definitions: None, events: None, expects: vec![] };
        parts.read()?;
        let Parts { title, definitions, events, expects, .. } = parts;
        let start = CellPlace { line: 1, column: 1 };
        let missing = |what: &str| ScenarioError::at(file, start, format!("the scenario has no {what}"));
        let untitled = || missing("title").with_help("begin it with a line `# What holds`");
        let title = title.ok_or_else(untitled)?;
        let events = events.ok_or_else(|| missing("table under a heading `## Events`"))?;
        if expects.is_empty() {
            return Err(missing("table under a heading `## Expect`"));
        }
        Ok(Self { title, definitions, events, expects, lines })
    }

    /// The whole text with other cells in an `Expect` table, which is aligned again.
    pub(crate) fn rewritten(&self, changes: &[(usize, Table)]) -> String {
        let mut lines = self.lines.clone();
        for (expect, table) in changes {
            let place = self.expects[*expect].lines.clone();
            lines.splice(place, table.render());
        }
        lines.join("\n") + "\n"
    }
}

/// The parts found so far.
struct Parts<'t> {
    file: &'t Path,
    lines: &'t [String],
    title: Option<String>,
    definitions: Option<String>,
    events: Option<Table>,
    expects: Vec<Table>,
}

impl Parts<'_> {
    fn read(&mut self) -> Result<(), ScenarioError> {
        let mut heading = None;
        let mut line = 0;
        while line < self.lines.len() {
            let text = self.lines[line].trim();
            if text.starts_with("```") {
                line = self.block(line)?;
            } else if text.starts_with('|') {
                line = self.table(line, heading.take())?;
            } else {
                if let Some(words) = text.strip_prefix('#') {
                    heading = Some(self.heading(line, words.trim_start_matches('#').trim()));
                }
                line += 1;
            }
        }
        Ok(())
    }

    /// A heading: its kind in small letters and what it names after a colon.
    fn heading(&mut self, line: usize, words: &str) -> (String, Option<Cell>) {
        self.title.get_or_insert_with(|| words.to_owned());
        match words.split_once(':') {
            None => (words.to_lowercase(), None),
            Some((kind, about)) => {
                let column = self.lines[line].find(about.trim()).unwrap_or(0) + 1;
                let place = CellPlace { line: line + 1, column };
                (kind.trim().to_lowercase(), Some(Cell { text: about.trim().to_owned(), place }))
            }
        }
    }

    /// A fenced block that begins at `start`; the line after it.
    fn block(&mut self, start: usize) -> Result<usize, ScenarioError> {
        let inside = self.lines[start + 1..].iter().take_while(|line| line.trim() != "```");
        let end = start + 1 + inside.count();
        if self.lines[start].trim() == "```yaml" {
            let place = CellPlace { line: start + 1, column: 1 };
            if self.definitions.is_some() {
                let second = ScenarioError::at(self.file, place, "a second `yaml` block".to_owned());
                return Err(second.with_help("put all definitions into the first"));
            }
            let text = self.lines[start + 1..end.min(self.lines.len())].join("\n");
            self.definitions = Some("\n".repeat(start + 1) + &text + "\n");
        }
        Ok(end + 1)
    }

    /// A table that begins at `start`; the line after it. Tables under other headings are prose.
    fn table(
        &mut self,
        start: usize,
        heading: Option<(String, Option<Cell>)>,
    ) -> Result<usize, ScenarioError> {
        let end = start + self.lines[start..].iter().take_while(|line| line.trim().starts_with('|')).count();
        let Some((kind, about)) = heading else { return Ok(end) };
        let (is_events, is_expect) = (kind == "events", kind == "expect");
        if is_events || is_expect {
            let table = self.cells(start..end, about)?;
            match is_events {
                true if self.events.is_some() => {
                    let place = CellPlace { line: start + 1, column: 1 };
                    let second = ScenarioError::at(self.file, place, "a second table of events".to_owned());
                    return Err(second.with_help("put all events into the first"));
                }
                true => self.events = Some(table),
                false => self.expects.push(table),
            }
        }
        Ok(end)
    }

    fn cells(&self, lines: Range<usize>, about: Option<Cell>) -> Result<Table, ScenarioError> {
        let mut rows: Vec<Vec<Cell>> = lines.clone().map(|line| split(&self.lines[line], line + 1)).collect();
        let header = rows.remove(0);
        let is_rule =
            |row: &Vec<Cell>| row.iter().all(|cell| cell.text.chars().all(|c| c == '-' || c == ':'));
        if !rows.first().is_some_and(is_rule) {
            let place = CellPlace { line: lines.start + 1, column: 1 };
            let message = "the table has no rule such as `|---|---|` below its header".to_owned();
            return Err(ScenarioError::at(self.file, place, message));
        }
        rows.remove(0);
        if let Some(row) = rows.iter().find(|row| row.len() != header.len()) {
            let place = row.first().map_or(CellPlace { line: lines.start + 1, column: 1 }, |cell| cell.place);
            let message = format!("the row has {} cells, the header {}", row.len(), header.len());
            return Err(ScenarioError::at(self.file, place, message));
        }
        Ok(Table { about, header, rows, lines })
    }
}

/// The cells of a line; `\|` is a bar that divides nothing.
fn split(line: &str, number: usize) -> Vec<Cell> {
    let mut cells = Vec::new();
    let (mut start, mut escaped) = (None, false);
    for (at, character) in line.char_indices() {
        if character == '|' && !escaped {
            cells.extend(start.map(|start: usize| cell(line, start..at, number)));
            start = Some(at + 1);
        }
        escaped = character == '\\' && !escaped;
    }
    if let Some(start) = start.filter(|start| !line[*start..].trim().is_empty()) {
        cells.push(cell(line, start..line.len(), number));
    }
    cells
}

fn cell(line: &str, range: Range<usize>, number: usize) -> Cell {
    let text = &line[range.clone()];
    let skipped = text.len() - text.trim_start().len();
    let column = line[..range.start + skipped].chars().count() + 1;
    Cell { text: text.trim().replace("\\|", "|"), place: CellPlace { line: number, column } }
}

impl Table {
    /// The column of that name.
    pub(crate) fn column(&self, name: &str) -> Option<usize> {
        self.header.iter().position(|cell| cell.text == name)
    }

    /// Its lines, every column as wide as its widest cell.
    fn render(&self) -> Vec<String> {
        let escaped = |cell: &Cell| cell.text.replace('|', "\\|");
        let lines: Vec<Vec<String>> = std::iter::once(&self.header)
            .chain(&self.rows)
            .map(|row| row.iter().map(escaped).collect())
            .collect();
        let wide =
            |column: usize| lines.iter().map(|line| line[column].chars().count()).max().unwrap_or(0).max(3);
        let widths: Vec<usize> = (0..self.header.len()).map(wide).collect();
        let line = |cells: &Vec<String>| {
            let cells = cells.iter().zip(&widths).map(|(cell, width)| format!(" {cell:width$} |"));
            format!("|{}", cells.collect::<String>())
        };
        let rule: String = widths.iter().map(|width| format!("{}|", "-".repeat(width + 2))).collect();
        let mut rendered: Vec<String> = lines.iter().map(line).collect();
        rendered.insert(1, format!("|{rule}"));
        rendered
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "# A title\n\nProse: with | bars.\n\n```yaml\nviews: []\n```\n\n## Events\n\n| at | text |\n|---|---|\n| 1 | a\\|b |\n\n## Expect: fraud\n\n| at | n |\n|---|---|\n|  2|  |\n\nThe end.\n";

    fn document(text: &str) -> Result<Document, ScenarioError> {
        Document::read(Path::new("a.md"), text)
    }

    #[test]
    fn the_parts_are_found_with_their_places() {
        let document = document(TEXT).unwrap();
        assert_eq!(document.title, "A title");
        assert_eq!(document.definitions.as_deref(), Some("\n\n\n\n\nviews: []\n"));
        let cell = &document.events.rows[0][1];
        assert_eq!((cell.text.as_str(), cell.place), ("a|b", CellPlace { line: 13, column: 7 }));
        let expect = &document.expects[0];
        assert_eq!(expect.about.as_ref().map(|about| about.text.as_str()), Some("fraud"));
        assert_eq!(expect.rows[0][1].text, "");
    }

    #[test]
    fn rewriting_changes_and_aligns_the_one_table() {
        let document = document(TEXT).unwrap();
        let mut table = document.expects[0].clone();
        table.rows[0][1].text = "12 | 3".to_owned();
        let text = document.rewritten(&[(0, table)]);
        assert!(
            text.contains("| at  | n       |\n|-----|---------|\n| 2   | 12 \\| 3 |\n\nThe end.\n"),
            "{text}"
        );
        assert!(text.contains("| 1 | a\\|b |"), "other tables stay: {text}");
    }

    #[test]
    fn what_is_missing_or_crooked_is_named_with_its_place() {
        let error = |text: &str| document(text).unwrap_err().to_string();
        assert!(error("").starts_with("a.md:1:1: the scenario has no title"));
        assert!(error("# T\n## Events\n| a |\n|---|\n").contains("`## Expect`"));
        let crooked = error("# T\n## Events\n| a | b |\n|---|---|\n| 1 |\n## Expect\n| a |\n|---|\n");
        assert_eq!(crooked, "a.md:5:3: the row has 1 cells, the header 2");
    }
}
