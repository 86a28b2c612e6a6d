//! Lines of a text file, with bounded memory.

use std::io::{self, BufRead, Read};

/// How much of a line, or of a record of several lines, is kept. The rest is read and not kept, so that a file without
/// line ends, or with a quote that is never closed, costs a dead letter and not the machine's memory.
pub(crate) const LONGEST: usize = 4 << 20;

/// How much of a line is read at once where it is read in parts.
const PART: usize = 64 << 10;

/// Reads lines one by one.
pub(crate) struct Lines<R> {
    from: R,
    number: i64,
    bytes: u64,
    /// Whether the line goes on after what was read of it.
    goes_on: bool,
}

impl<R: BufRead> Lines<R> {
    /// Lines of `from`, the first of which is number 1.
    pub(crate) const fn new(from: R) -> Self {
        Self { from, number: 0, bytes: 0, goes_on: false }
    }

    /// Appends the next line to `line`, its end included, [`LONGEST`] bytes of it at most. False at the end of the
    /// file.
    pub(crate) fn read(&mut self, line: &mut Vec<u8>) -> io::Result<bool> {
        let read = self.append(line, LONGEST)?;
        if self.goes_on {
            self.bytes += self.from.skip_until(b'\n')? as u64;
            self.goes_on = false;
        }
        Ok(read)
    }

    /// Appends the next part of a line to `line`, for readers of all that a long line holds. False at the end of the file.
    pub(crate) fn read_part(&mut self, line: &mut Vec<u8>) -> io::Result<bool> {
        self.append(line, PART)
    }

    fn append(&mut self, line: &mut Vec<u8>, limit: usize) -> io::Result<bool> {
        let read = self.from.by_ref().take(limit as u64).read_until(b'\n', line)?;
        self.number += i64::from(!self.goes_on);
        self.bytes += read as u64;
        self.goes_on = read == limit && !line.ends_with(b"\n");
        Ok(read > 0)
    }

    /// Whether the line that was read last goes on with the next part.
    pub(crate) const fn goes_on(&self) -> bool {
        self.goes_on
    }

    /// The number of the line last read.
    pub(crate) const fn number(&self) -> i64 {
        self.number
    }

    /// How many bytes have been read.
    pub(crate) const fn bytes(&self) -> u64 {
        self.bytes
    }
}

/// A line without its end, and without the byte order mark that some programs begin files with.
pub(crate) fn content(line: &[u8]) -> &[u8] {
    let line = line.strip_prefix(b"\xef\xbb\xbf").unwrap_or(line);
    let line = line.strip_suffix(b"\n").unwrap_or(line);
    line.strip_suffix(b"\r").unwrap_or(line)
}
