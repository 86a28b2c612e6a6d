//! Definition files as they were read, and places in them.

use std::path::{Path, PathBuf};

/// A range of bytes of one file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    /// The file: an index into [`Files`].
    pub(crate) file: usize,
    /// The first byte.
    pub(crate) start: usize,
    /// The byte after the last; equal to `start` where something is missing.
    pub(crate) end: usize,
}

/// A place as people name it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LineColumn {
    /// The line, from 1.
    pub line: usize,
    /// The column in characters, from 1.
    pub column: usize,
    /// How many characters of that line, at least 1.
    pub length: usize,
}

/// One file: its name relative to the repo, and its text with `\n` line ends and no byte order mark.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct File {
    /// The name relative to the repo's folder, with `/` between its parts.
    pub name: String,
    /// The text.
    pub text: String,
    /// Where each line starts.
    lines: Vec<usize>,
}

impl File {
    fn new(name: String, text: &str) -> Self {
        let text = text.strip_prefix('\u{feff}').unwrap_or(text).replace("\r\n", "\n").replace('\r', "\n");
        let lines = std::iter::once(0).chain(text.match_indices('\n').map(|(at, _)| at + 1)).collect();
        Self { name, text, lines }
    }

    /// The byte at a line (from 1) and a column in characters (from 0); the nearest one where there is none.
    pub(crate) fn byte_at(&self, line: usize, column: usize) -> usize {
        let Some(&start) = self.lines.get(line.saturating_sub(1)) else {
            return self.text.len();
        };
        let line = self.text[start..].split('\n').next().unwrap_or_default();
        start + line.char_indices().nth(column).map_or(line.len(), |(at, _)| at)
    }

    /// `start..end` cut at the end of its first line.
    pub(crate) fn first_line(&self, start: usize, end: usize) -> (usize, usize) {
        let start = floor_boundary(&self.text, start);
        let end = floor_boundary(&self.text, end).max(start);
        let cut = self.text[start..end].find('\n').map_or(end, |at| start + at);
        (start, cut)
    }

    fn position(&self, start: usize, end: usize) -> LineColumn {
        let (start, end) = self.first_line(start, end);
        let line = self.lines.partition_point(|&at| at <= start);
        let line_start = self.lines.get(line.saturating_sub(1)).copied().unwrap_or(0);
        let column = self.text[line_start..start].chars().count() + 1;
        LineColumn { line, column, length: self.text[start..end].chars().count().max(1) }
    }
}

fn floor_boundary(text: &str, at: usize) -> usize {
    (0..=at.min(text.len())).rev().find(|&at| text.is_char_boundary(at)).unwrap_or(0)
}

/// The files of one repo.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Files {
    root: PathBuf,
    files: Vec<File>,
}

impl Files {
    /// Files under a folder, which messages put before their names.
    #[must_use]
    pub fn under(root: &Path) -> Self {
        let root = if root == Path::new(".") { PathBuf::new() } else { root.to_owned() };
        Self { root, files: Vec::new() }
    }

    /// Adds a file and gives its index.
    pub fn add(&mut self, name: impl Into<String>, text: &str) -> usize {
        self.files.push(File::new(name.into(), text));
        self.files.len() - 1
    }

    /// Every file, in the order read.
    pub fn iter(&self) -> impl Iterator<Item = &File> {
        self.files.iter()
    }

    /// The file of a place that came with these files.
    #[must_use]
    pub fn file(&self, place: Place) -> &File {
        &self.files[place.file]
    }

    /// The path that messages show for a place's file.
    #[must_use]
    pub fn path(&self, place: Place) -> String {
        self.root.join(&self.file(place).name).display().to_string()
    }

    /// A place in lines and columns.
    #[must_use]
    pub fn position(&self, place: Place) -> LineColumn {
        self.file(place).position(place.start, place.end)
    }

    /// The text at a place.
    #[must_use]
    pub fn text(&self, place: Place) -> &str {
        self.file(place).text.get(place.start..place.end).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_counted_in_characters() {
        let mut files = Files::default();
        let file = files.add("a.yaml", "\u{feff}first\r\nzwölf: drei\n");
        let start = files.files[file].byte_at(2, 7);
        let place = Place { file, start, end: start + 4 };
        assert_eq!(files.text(place), "drei");
        assert_eq!(files.position(place), LineColumn { line: 2, column: 8, length: 4 });
    }

    #[test]
    fn places_beyond_the_text_are_its_end() {
        let mut files = Files::default();
        let file = files.add("a.yaml", "a\n");
        assert_eq!(files.files[file].byte_at(99, 99), 2);
        let beyond = Place { file, start: 90, end: 99 };
        assert_eq!(files.position(beyond), LineColumn { line: 2, column: 1, length: 1 });
    }
}
