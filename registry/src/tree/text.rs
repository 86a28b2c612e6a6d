//! A scalar and where each of its characters is written, through quotes, escapes and folded lines.

use std::ops::Range;

use saphyr_parser::ScalarStyle;

use crate::file::{File, Files, Place};

/// A scalar.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Scalar {
    /// What it says.
    pub(crate) value: String,
    /// Where it is written, quotes included.
    pub(crate) place: Place,
    style: ScalarStyle,
}

impl Scalar {
    pub(super) fn new(value: String, place: Place, style: ScalarStyle) -> Self {
        Self { value, place, style }
    }

    /// Whether it is written without quotes, on a line of its own or in braces: `7` and not `'7'`.
    pub(crate) fn is_plain(&self) -> bool {
        self.style == ScalarStyle::Plain
    }

    pub(super) fn is_null(&self) -> bool {
        self.is_plain() && matches!(self.value.as_str(), "" | "~" | "null" | "Null" | "NULL")
    }

    /// Whether it is plain and a bracket in it is not closed.
    pub(super) fn is_open_call(&self) -> bool {
        let count = |bracket| self.value.matches(bracket).count();
        self.is_plain() && count('(') > count(')')
    }

    /// Takes in what is written up to byte `end` of the file; line ends and indentation become a space.
    pub(super) fn extend(&mut self, file: &File, end: usize) {
        let more = file.text.get(self.place.end..end).unwrap_or_default();
        let lines: Vec<&str> = more.split('\n').map(str::trim).collect();
        let lead = if more.starts_with(char::is_whitespace) { " " } else { "" };
        self.value = format!("{}{lead}{}", self.value, lines.join(" "));
        self.place.end = end;
    }

    /// Where a range of bytes of the value is written. An empty range is the place before its character.
    pub(crate) fn within(&self, files: &Files, range: Range<usize>) -> Place {
        let mut written = Written { rest: files.text(self.place), at: 0, quoted: self.opening() };
        written.open();
        let (mut start, mut end) = (None, None);
        for (at, character) in self.value.char_indices() {
            let piece = written.next(character);
            if at >= range.start && start.is_none() {
                start = Some(piece.start);
            }
            if at < range.end {
                end = Some(piece.end);
            }
        }
        let start = start.unwrap_or(written.at);
        let end = end.filter(|_| !range.is_empty()).unwrap_or(start).max(start);
        Place { start: self.place.start + start, end: self.place.start + end, ..self.place }
    }

    fn opening(&self) -> Option<char> {
        match self.style {
            ScalarStyle::SingleQuoted => Some('\''),
            ScalarStyle::DoubleQuoted => Some('"'),
            ScalarStyle::Plain | ScalarStyle::Literal | ScalarStyle::Folded => None,
        }
    }
}

/// Walks a scalar's source along with its value.
struct Written<'t> {
    rest: &'t str,
    at: usize,
    quoted: Option<char>,
}

impl Written<'_> {
    fn open(&mut self) {
        if self.quoted.is_some_and(|quote| self.rest.starts_with(quote)) {
            self.skip(1);
        }
    }

    /// The bytes that spell the value's next character.
    fn next(&mut self, character: char) -> Range<usize> {
        if character.is_whitespace() {
            // A folded line end stands for one space: whatever white space is there spells it.
            let length = if self.rest.starts_with('\\') { self.unit() } else { self.white() };
            return self.take(length);
        }
        self.skip_layout();
        let length = self.unit();
        self.take(length)
    }

    /// Indentation and line ends that the value does not hold.
    fn skip_layout(&mut self) {
        loop {
            let white = self.rest.len() - self.rest.trim_start().len();
            self.skip(white);
            if self.quoted != Some('"') || !self.rest.starts_with("\\\n") {
                return;
            }
            self.skip(2);
        }
    }

    /// The length of the white space character here, if it is one.
    fn white(&self) -> usize {
        self.rest.chars().next().filter(|next| next.is_whitespace()).map_or(0, char::len_utf8)
    }

    /// The length of the character or escape here.
    fn unit(&self) -> usize {
        let length = match (self.quoted, self.rest.as_bytes()) {
            (Some('\''), [b'\'', b'\'', ..]) => 2,
            (Some('"'), [b'\\', escape, ..]) => match escape {
                b'x' => 4,
                b'u' => 6,
                b'U' => 10,
                _ => 2,
            },
            _ => 1,
        };
        (length..=self.rest.len()).find(|&end| self.rest.is_char_boundary(end)).unwrap_or(self.rest.len())
    }

    fn take(&mut self, length: usize) -> Range<usize> {
        let start = self.at;
        self.skip(length);
        start..self.at
    }

    fn skip(&mut self, length: usize) {
        self.rest = self.rest.get(length..).unwrap_or_default();
        self.at += length;
    }
}

#[cfg(test)]
mod tests {
    use crate::file::Files;
    use crate::tree::{self, Kind, Scalar};

    fn scalar(yaml: &str) -> (Files, Scalar) {
        let mut files = Files::default();
        files.add("a.yaml", yaml);
        let mut problems = Vec::new();
        let node = files.iter().next().and_then(|file| tree::read(0, file, &mut problems)).expect("a node");
        let Kind::Map(mut entries) = node.kind else { panic!("{yaml}") };
        match entries.remove(0).1.kind {
            Kind::Scalar(text) => (files, text),
            other => panic!("{other:?}"),
        }
    }

    /// In every style, a word of the value is found where it is written.
    #[test]
    fn words_are_found_in_every_style() {
        for yaml in [
            "k: sum(price) + amout / 2\n",
            "k: sum(price)\n   + amout\n   / 2\n",
            "k: 'it''s' \n",
            "k: 'it''s + amout / 2'\n",
            "k: \"\\\"it\\\" + \\u00e9 \\n + amout / 2\"\n",
            "k: \"one\\\n    + amout / 2\"\n",
            "k: |\n  sum(x)\n    + amout\n  / 2\n",
            "k: >\n  sum(x)\n  + amout\n\n  / 2\n",
            "k: |2-\n    sum(x)\n  + amout\n",
            "{k: \"ü\n   + amout\"}\n",
        ] {
            let (files, text) = scalar(yaml);
            for word in ["amout", "sum", "it"] {
                let Some(at) = text.value.find(word) else { continue };
                let place = text.within(&files, at..at + word.len());
                assert_eq!(files.text(place), word, "{yaml}");
            }
        }
    }

    #[test]
    fn a_range_beyond_the_value_stays_inside_the_scalar() {
        let (files, text) = scalar("k: 'abc'\n");
        let place = text.within(&files, 3..3);
        assert_eq!((place.start, place.end), (7, 7));
        assert_eq!(text.within(&files, 90..99), place);
    }
}
