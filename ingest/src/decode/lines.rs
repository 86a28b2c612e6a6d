//! Lines of a text file, with bounded memory.

use std::io::{self, BufRead, Read};

/// How long a line may be. What goes on after that is passed over, so that a file without line ends, or with a quote
/// that is never closed, costs a dead letter and not the machine's memory.
pub(crate) const LONGEST: usize = 4 << 20;

/// Reads lines one by one.
pub(crate) struct Lines<R> {
    from: R,
    number: i64,
    bytes: u64,
}

impl<R: BufRead> Lines<R> {
    /// Lines of `from`, the first of which is number 1.
    pub(crate) const fn new(from: R) -> Self {
        Self { from, number: 0, bytes: 0 }
    }

    /// Appends the next line to `line`, its end included, [`LONGEST`] bytes of it at most. False at the end of the
    /// file.
    pub(crate) fn read(&mut self, line: &mut Vec<u8>) -> io::Result<bool> {
        let read = self.from.by_ref().take(LONGEST as u64).read_until(b'\n', line)?;
        self.number += 1;
        self.bytes += read as u64;
        if read == LONGEST && !line.ends_with(b"\n") {
            self.bytes += self.from.skip_until(b'\n')? as u64;
        }
        Ok(read > 0)
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
