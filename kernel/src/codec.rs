//! Canonical bytes: the primitives every stored state is written with.
//!
//! One value has exactly one encoding, and a decoder accepts nothing else: varints are minimal, counts are
//! checked against what is left, trailing bytes are an error. So two stores can be compared byte by byte.

use std::borrow::Cow;

use thiserror::Error;

use crate::error::{ErrorKind, Explain, USE_NEWER};

/// Why stored bytes are not a state.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum DecodeError {
    /// The bytes end inside a value.
    #[error("the bytes end too early, at byte {at}")]
    Truncated {
        /// Offset of the value that is cut short.
        at: usize,
    },
    /// The bytes are not the canonical form of any state.
    #[error("byte {at} is not the canonical form of {expected}")]
    Malformed {
        /// Offset of the offending value.
        at: usize,
        /// What was expected there.
        expected: &'static str,
    },
    /// The bytes were written by a newer version of the format.
    #[error("the format version is {found}, but this build reads up to {supported}")]
    Newer {
        /// The version byte that was found.
        found: u8,
        /// The newest version this build reads.
        supported: u8,
    },
}

impl Explain for DecodeError {
    fn kind(&self) -> ErrorKind {
        match self {
            Self::Truncated { .. } | Self::Malformed { .. } => ErrorKind::Damaged,
            Self::Newer { .. } => ErrorKind::Environment,
        }
    }

    fn help(&self) -> Option<Cow<'_, str>> {
        match self {
            Self::Truncated { .. } | Self::Malformed { .. } => None,
            Self::Newer { .. } => Some(USE_NEWER.into()),
        }
    }
}

/// Appends canonical values to a buffer.
#[derive(Debug, Default)]
pub struct Writer {
    bytes: Vec<u8>,
}

impl Writer {
    /// An empty buffer.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// An empty buffer with room for so many bytes.
    #[must_use]
    pub fn with_capacity(bytes: usize) -> Self {
        Self { bytes: Vec::with_capacity(bytes) }
    }

    /// How many bytes were written.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.bytes.len()
    }

    /// Whether nothing was written.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// What was written.
    #[must_use]
    pub fn into_bytes(self) -> Vec<u8> {
        self.bytes
    }

    /// One byte.
    pub fn u8(&mut self, value: u8) {
        self.bytes.push(value);
    }

    /// An unsigned LEB128 varint.
    pub fn varint(&mut self, mut value: u64) {
        while value >= 0x80 {
            self.bytes.push(value as u8 | 0x80);
            value >>= 7;
        }
        self.bytes.push(value as u8);
    }

    /// A signed varint, zigzag first, so that small magnitudes are short.
    pub fn zigzag(&mut self, value: i64) {
        self.varint(((value << 1) ^ (value >> 63)) as u64);
    }

    /// Eight bytes, little-endian.
    pub fn u64(&mut self, value: u64) {
        self.bytes.extend_from_slice(&value.to_le_bytes());
    }

    /// A length and that many bytes.
    pub fn bytes(&mut self, value: &[u8]) {
        self.varint(value.len() as u64);
        self.raw(value);
    }

    /// Bytes whose length the reader knows.
    pub fn raw(&mut self, value: &[u8]) {
        self.bytes.extend_from_slice(value);
    }
}

/// Reads what a [`Writer`] wrote, and refuses everything else.
#[derive(Clone, Debug)]
pub struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Reader<'a> {
    /// Reads from the first byte.
    #[must_use]
    pub fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, at: 0 }
    }

    /// Offset of the next byte, for messages.
    #[must_use]
    pub fn at(&self) -> usize {
        self.at
    }

    /// How many bytes are left.
    #[must_use]
    pub fn remaining(&self) -> usize {
        self.bytes.len() - self.at
    }

    /// The error for a value at the current place that is not canonical.
    #[must_use]
    pub fn malformed(&self, expected: &'static str) -> DecodeError {
        DecodeError::Malformed { at: self.at, expected }
    }

    /// # Errors
    /// Fails where the bytes end.
    pub fn u8(&mut self) -> Result<u8, DecodeError> {
        Ok(self.raw(1)?[0])
    }

    /// # Errors
    /// Fails where the bytes end, or the varint is longer than it need be.
    pub fn varint(&mut self) -> Result<u64, DecodeError> {
        let start = self.at;
        if let Some(byte @ ..0x80) = self.bytes.get(start) {
            self.at += 1;
            return Ok(u64::from(*byte));
        }
        let mut value = 0u64;
        for shift in (0..64).step_by(7) {
            let byte = self.u8()?;
            value |= u64::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                let overlong = byte == 0 && shift > 0;
                let overflow = shift == 63 && byte > 1;
                if overlong || overflow {
                    break;
                }
                return Ok(value);
            }
        }
        Err(DecodeError::Malformed { at: start, expected: "a varint" })
    }

    /// # Errors
    /// As [`Reader::varint`].
    pub fn zigzag(&mut self) -> Result<i64, DecodeError> {
        let value = self.varint()?;
        Ok((value >> 1) as i64 ^ -((value & 1) as i64))
    }

    /// # Errors
    /// Fails where the bytes end.
    pub fn u64(&mut self) -> Result<u64, DecodeError> {
        let raw = self.raw(8)?;
        let mut buffer = [0; 8];
        buffer.copy_from_slice(raw);
        Ok(u64::from_le_bytes(buffer))
    }

    /// A number of things of at least `size` bytes each that follow.
    ///
    /// # Errors
    /// Fails where fewer bytes are left than that many things need, so that damaged bytes never allocate much.
    pub fn count(&mut self, size: usize) -> Result<usize, DecodeError> {
        let at = self.at;
        let count = self.varint()?;
        match usize::try_from(count) {
            Ok(count) if count <= self.remaining() / size.max(1) => Ok(count),
            _ => Err(DecodeError::Truncated { at }),
        }
    }

    /// # Errors
    /// Fails where the bytes end.
    pub fn bytes(&mut self) -> Result<&'a [u8], DecodeError> {
        let length = self.count(1)?;
        self.raw(length)
    }

    /// What [`Writer::bytes`] wrote of a text.
    ///
    /// # Errors
    /// Fails where the bytes end, or are no UTF-8.
    pub fn text(&mut self) -> Result<&'a str, DecodeError> {
        std::str::from_utf8(self.bytes()?).map_err(|_| self.malformed("UTF-8"))
    }

    /// # Errors
    /// Fails where the bytes end.
    pub fn raw(&mut self, length: usize) -> Result<&'a [u8], DecodeError> {
        let end = self.at.checked_add(length).filter(|end| *end <= self.bytes.len());
        let end = end.ok_or(DecodeError::Truncated { at: self.at })?;
        let raw = &self.bytes[self.at..end];
        self.at = end;
        Ok(raw)
    }

    /// Ends the reading.
    ///
    /// # Errors
    /// Fails where bytes are left.
    pub fn finish(self) -> Result<(), DecodeError> {
        if self.remaining() == 0 { Ok(()) } else { Err(self.malformed("the end")) }
    }
}
