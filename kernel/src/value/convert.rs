//! Conversion of input values to the six types.
//!
//! Files and records come from programs that do not know our six types. If every reader had its own table, the
//! same number would be a value in CSV and an error in Parquet. So there is one: what a type can hold is taken,
//! whatever type and format it comes in; what it cannot hold is [`Unfit`], and is never cut, rounded or guessed.
//!
//! | content | bool | int64 | float64 | string | timestamp | bytes |
//! |---|---|---|---|---|---|---|
//! | [`Bool`](Content::Bool) | itself | | | | | |
//! | [`Whole`](Content::Whole) | 0, 1 | in range | if exact | | | |
//! | [`Float`](Content::Float) | | if whole and exact; NaN is null | itself | | | |
//! | [`Decimal`](Content::Decimal) | 0, 1 | if whole, in range | the nearest | | | |
//! | [`Number`](Content::Number), in digits | 0, 1 | as text is | the nearest | | | |
//! | [`Time`](Content::Time) | | | | | itself | |
//! | [`Clock`](Content::Clock) | | | | | the instant in its zone | |
//! | [`Text`](Content::Text) | | | | itself | if one | |
//! | [`Quoted`](Content::Quoted) | | its digits | `NaN`, `inf` | itself | if one | base64 |
//! | [`Spelled`](Content::Spelled) | by name | digits in range; with a point or exponent if whole and exact | by digits or name | itself | if one | base64 |
//! | [`Bytes`](Content::Bytes) | | | | | | itself |
//!
//! Text is read as another type only where its format has nothing else for that type.
//!
//! Exact are the whole floats up to 2^53: every larger one is the nearest to several integers, and which of them was
//! meant is lost. Keys that went through a double would meet in one entity. A number that is written with a point or an
//! exponent was a double in most programs, so it has the same limit.

use std::borrow::Cow;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use super::{Type, Value, canonical};
use crate::time::{NoInstant, Time, Zone};

mod columns;
mod numbers;
#[cfg(test)]
mod tests;

pub use columns::{Converted, column, content, fits, texts};

/// One value as its format has it.
#[derive(Clone, Debug, PartialEq)]
pub enum Content<'a> {
    /// No value.
    Null,
    /// True or false.
    Bool(bool),
    /// An integer of any width.
    Whole(i128),
    /// A binary float, and how many bits the significand of its type has: 53, or 24 or 11 where it is narrower.
    Float(f64, u32),
    /// A number of a decimal column in its digits, possibly with an exponent. No digit of it is lost.
    Decimal(String),
    /// A number as JSON writes it. With a point or an exponent it may come from a float64.
    Number(Cow<'a, str>),
    /// An instant, of any resolution floored to milliseconds. It may lie outside the years 1 to 9999.
    Time(Time),
    /// What a clock showed whose zone is not named, written as if it were UTC: a timestamp without a zone, or the midnight
    /// that a date begins with. Its resolution and its range are those of an instant.
    Clock(Time),
    /// A text of a format that has a type of its own for everything but text.
    Text(Cow<'a, str>),
    /// A text of JSON, which has no type for instants and bytes, none for NaN, and in some languages no 64-bit integers.
    Quoted(Cow<'a, str>),
    /// A text of a format that has nothing but text, and null for none: CSV, keys and headers of records, names of
    /// folders.
    Spelled(&'a str),
    /// Any bytes.
    Bytes(&'a [u8]),
    /// What no type holds: a list, a struct, a time of day.
    Other,
}

/// A value that the type asked for does not hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Unfit;

/// Why a value is no int64.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NoInt64 {
    /// The value is no number.
    NoNumber,
    /// The number has a fraction.
    Fraction,
    /// The number is outside the range of an int64.
    Range,
    /// The value is a whole float beyond those that are exact, so it may be another integer rounded.
    Rounded,
}

/// A value of the type asked for, none for null.
pub type Fit<T> = Result<Option<T>, Unfit>;

impl<'a> Content<'a> {
    /// As a bool.
    ///
    /// # Errors
    /// Fails for all but bools, 0 and 1, and the words for them where there is nothing but text.
    pub fn bool(self) -> Fit<bool> {
        self.read(|content| match content {
            Self::Bool(value) => Some(value),
            Self::Whole(number) => numbers::truth(number),
            Self::Decimal(digits) => numbers::truth(numbers::int64_of_decimal(&digits).ok()?.into()),
            Self::Number(digits) => numbers::truth(digits.parse().ok()?),
            Self::Spelled(text) => numbers::bool_of_text(text),
            _ => None,
        })
    }

    /// As an int64. NaN is null: data frames write a column of integers with gaps as floats.
    ///
    /// # Errors
    /// Fails where there is a reason for [`NoInt64`].
    pub fn int64(self) -> Fit<i64> {
        self.integer().map_err(|_| Unfit)
    }

    /// [`int64`](Self::int64) with the reason why a value is none.
    ///
    /// # Errors
    /// Fails for what is no number, has a fraction, is out of range, or may have been rounded.
    pub fn integer(&self) -> Result<Option<i64>, NoInt64> {
        let number = match self {
            Self::Null => return Ok(None),
            Self::Float(float, _) if float.is_nan() => return Ok(None),
            Self::Spelled(text) if text.trim().eq_ignore_ascii_case("nan") => return Ok(None),
            Self::Whole(number) => i64::try_from(*number).map_err(|_| NoInt64::Range),
            Self::Float(float, bits) => numbers::int64_of_float(*float, *bits),
            Self::Decimal(digits) => numbers::int64_of_decimal(digits),
            Self::Number(digits) => numbers::int64_of_text(digits),
            Self::Quoted(text) => numbers::int64_of_digits(text),
            Self::Spelled(text) => numbers::int64_of_text(text.trim()),
            Self::Bool(_) | Self::Time(_) | Self::Clock(_) | Self::Text(_) | Self::Bytes(_) | Self::Other => {
                Err(NoInt64::NoNumber)
            }
        };
        number.map(Some)
    }

    /// As a float64 in canonical form. Decimal digits are the nearest float64, rounded once.
    ///
    /// # Errors
    /// Fails for what is no number, for integers that no float64 is equal to, and for digits beyond its range.
    pub fn float64(self) -> Fit<f64> {
        let read = self.read(|content| match content {
            Self::Float(float, _) => Some(float),
            Self::Whole(number) => numbers::exact_float(number),
            Self::Decimal(digits) => numbers::finite(&digits),
            Self::Number(digits) => numbers::finite(&digits),
            Self::Quoted(text) => numbers::float_of_name(&text),
            Self::Spelled(text) => numbers::float_of_text(text),
            _ => None,
        });
        Ok(read?.map(canonical))
    }

    /// As a string, with the blanks around it.
    ///
    /// # Errors
    /// Fails for all but text: a number is not read as its digits, of which there are several spellings.
    pub fn string(self) -> Fit<Cow<'a, str>> {
        self.read(|content| match content {
            Self::Text(text) | Self::Quoted(text) => Some(text),
            Self::Spelled(text) => Some(Cow::Borrowed(text)),
            _ => None,
        })
    }

    /// As an instant, which may lie outside the years 1 to 9999 unless it is from text. What names no zone is what the
    /// clocks of `zone` showed; UTC without one.
    ///
    /// # Errors
    /// Fails where there is a reason for [`NoInstant`].
    pub fn time(self, zone: Option<Zone>) -> Fit<Time> {
        self.instant(zone).map_err(|_| Unfit)
    }

    /// [`time`](Self::time) with the reason why a value is none.
    ///
    /// # Errors
    /// Fails for text that [`Time::parse`] does not read, for what the clocks of the zone never showed or showed twice, and
    /// for numbers, whose unit is not known here.
    pub fn instant(&self, zone: Option<Zone>) -> Result<Option<Time>, NoInstant> {
        let time = match self {
            Self::Null => return Ok(None),
            Self::Time(time) => Ok(*time),
            Self::Clock(clock) => zone.map_or(Ok(*clock), |zone| zone.instant(*clock)),
            Self::Text(text) | Self::Quoted(text) => Time::parse_in(text, zone),
            Self::Spelled(text) => Time::parse_in(text, zone),
            _ => Err(NoInstant::NoTime),
        };
        time.map(Some)
    }

    /// Whether it is a time that names no zone, if it is one.
    #[must_use]
    pub fn is_clock(&self) -> bool {
        match self {
            Self::Clock(_) => true,
            Self::Text(text) | Self::Quoted(text) => !Time::names_zone(text),
            Self::Spelled(text) => !Time::names_zone(text),
            _ => false,
        }
    }

    /// As bytes: themselves, or in base64 where the format has no bytes.
    ///
    /// # Errors
    /// Fails for anything else.
    pub fn bytes(self) -> Fit<Cow<'a, [u8]>> {
        let decoded = |text: &str| -> Option<Cow<'a, [u8]>> { STANDARD.decode(text).ok().map(Cow::Owned) };
        self.read(|content| match content {
            Self::Bytes(bytes) => Some(Cow::Borrowed(bytes)),
            Self::Quoted(text) => decoded(&text),
            Self::Spelled(text) => decoded(text),
            _ => None,
        })
    }

    /// As a type. A time that names no zone is UTC.
    ///
    /// # Errors
    /// Fails where the type does not hold it.
    pub fn value(self, ty: Type) -> Result<Value, Unfit> {
        self.value_in(ty, None)
    }

    /// As a type; a timestamp in this [zone](Self::time).
    ///
    /// # Errors
    /// Fails where the type does not hold it.
    pub fn value_in(self, ty: Type, zone: Option<Zone>) -> Result<Value, Unfit> {
        let value = match ty {
            Type::Bool => self.bool()?.map(Value::Bool),
            Type::Int64 => self.int64()?.map(Value::Int64),
            Type::Float64 => self.float64()?.map(Value::Float64),
            Type::String => self.string()?.map(|text| Value::string(&text)),
            Type::Timestamp => self.time(zone)?.map(Value::Timestamp),
            Type::Bytes => self.bytes()?.map(|bytes| Value::Bytes((&*bytes).into())),
        };
        Ok(value.unwrap_or_default())
    }

    fn read<T>(self, read: impl FnOnce(Self) -> Option<T>) -> Fit<T> {
        match self {
            Self::Null => Ok(None),
            content => read(content).map(Some).ok_or(Unfit),
        }
    }
}
