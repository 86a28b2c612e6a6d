//! Types and values, and the one form in which floats are compared and stored.

use std::cmp::Ordering;
use std::fmt;
use std::sync::Arc;

use crate::codec::{DecodeError, Reader, Writer};
use crate::defect::defect;
use crate::time::Time;

pub mod arrow;
pub mod convert;
pub mod json;
mod unit;

pub use unit::Unit;

/// The type of a field, a key, an input or a scalar feature.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Type {
    /// True or false.
    Bool,
    /// A 64-bit signed integer.
    Int64,
    /// An IEEE 754 double.
    Float64,
    /// UTF-8 text.
    String,
    /// An instant in UTC with millisecond ticks.
    Timestamp,
    /// Any bytes.
    Bytes,
}

impl Type {
    /// Every type, in the order in which documents list them.
    pub const ALL: [Self; 6] =
        [Self::Bool, Self::Int64, Self::Float64, Self::String, Self::Timestamp, Self::Bytes];

    /// The name used in definitions and messages.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Bool => "bool",
            Self::Int64 => "int64",
            Self::Float64 => "float64",
            Self::String => "string",
            Self::Timestamp => "timestamp",
            Self::Bytes => "bytes",
        }
    }

    /// The type of that name.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|ty| ty.name() == name)
    }

    /// How fingerprints and stored definitions spell it. It never changes, whatever definitions and messages call it:
    /// another spelling would make other views of all that exist.
    #[must_use]
    pub const fn canonical(self) -> &'static str {
        match self {
            Self::Bool => "bool",
            Self::Int64 => "int64",
            Self::Float64 => "float64",
            Self::String => "string",
            Self::Timestamp => "timestamp",
            Self::Bytes => "bytes",
        }
    }

    /// The type that is spelled so in stored definitions.
    #[must_use]
    pub fn from_canonical(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|ty| ty.canonical() == text)
    }

    /// Whether it may be part of an entity's key.
    #[must_use]
    pub const fn is_key(self) -> bool {
        matches!(self, Self::Int64 | Self::String | Self::Bool | Self::Timestamp)
    }

    /// Whether it can be added up.
    #[must_use]
    pub const fn is_number(self) -> bool {
        matches!(self, Self::Int64 | Self::Float64)
    }
}

impl fmt::Display for Type {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// The type of a feature's value.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum FeatureType {
    /// One value.
    Scalar(Type),
    /// A list of values (`last_n`).
    List(Type),
    /// A list of values with how often each occurred (`top_k`).
    Counts(Type),
}

impl fmt::Display for FeatureType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Scalar(ty) => ty.fmt(f),
            Self::List(ty) => write!(f, "list({ty})"),
            Self::Counts(ty) => write!(f, "counts({ty})"),
        }
    }
}

/// A named, typed column.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Field {
    /// Its name.
    pub name: String,
    /// Its type.
    pub ty: Type,
}

impl Field {
    /// Writes its name and its type, as fingerprints, versions of sources and their stored definitions have them.
    pub fn encode(&self, out: &mut Writer) {
        out.bytes(self.name.as_bytes());
        out.bytes(self.ty.canonical().as_bytes());
    }

    /// Reads what [`encode`](Self::encode) wrote.
    ///
    /// # Errors
    /// Fails where the bytes are no field, or its type is none.
    pub fn decode(from: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let name = from.text()?.to_owned();
        let ty = Type::from_canonical(from.text()?).ok_or_else(|| from.malformed("a type"))?;
        Ok(Self { name, ty })
    }
}

/// One value. Equality is equality of bits: floats are held in their canonical form.
#[derive(Clone, Debug, Default)]
pub enum Value {
    /// No value.
    #[default]
    Null,
    /// A [`Type::Bool`].
    Bool(bool),
    /// A [`Type::Int64`].
    Int64(i64),
    /// A [`Type::Float64`]; make it with [`Value::float`].
    Float64(f64),
    /// A [`Type::String`].
    String(Arc<str>),
    /// A [`Type::Timestamp`].
    Timestamp(Time),
    /// [`Type::Bytes`].
    Bytes(Arc<[u8]>),
    /// A [`FeatureType::List`].
    List(Arc<[Value]>),
    /// A [`FeatureType::Counts`].
    Counts(Arc<[(Value, i64)]>),
}

/// The one float among those that mean the same: `-0` is `+0`, every NaN is the same quiet NaN.
#[must_use]
pub fn canonical(float: f64) -> f64 {
    if float.is_nan() { f64::from_bits(0x7ff8_0000_0000_0000) } else { float + 0.0 }
}

impl Value {
    /// A float in canonical form.
    #[must_use]
    pub fn float(float: f64) -> Self {
        Self::Float64(canonical(float))
    }

    /// A string.
    #[must_use]
    pub fn string(text: &str) -> Self {
        Self::String(text.into())
    }

    /// Whether there is no value.
    #[must_use]
    pub const fn is_null(&self) -> bool {
        matches!(self, Self::Null)
    }

    /// The scalar type, or none for null and lists.
    #[must_use]
    pub const fn scalar_type(&self) -> Option<Type> {
        match self {
            Self::Bool(_) => Some(Type::Bool),
            Self::Int64(_) => Some(Type::Int64),
            Self::Float64(_) => Some(Type::Float64),
            Self::String(_) => Some(Type::String),
            Self::Timestamp(_) => Some(Type::Timestamp),
            Self::Bytes(_) => Some(Type::Bytes),
            Self::Null | Self::List(_) | Self::Counts(_) => None,
        }
    }

    /// Writes a scalar that is not null; the reader knows its type.
    ///
    /// # Panics
    /// On null and lists, which only a defect hands over: with nothing written, every value behind would be read wrongly.
    pub fn encode(&self, out: &mut Writer) {
        match self {
            Self::Bool(value) => out.u8(u8::from(*value)),
            Self::Int64(value) => out.zigzag(*value),
            Self::Float64(value) => out.u64(value.to_bits()),
            Self::String(value) => out.bytes(value.as_bytes()),
            Self::Timestamp(value) => out.zigzag(value.millis()),
            Self::Bytes(value) => out.bytes(value),
            Self::Null | Self::List(_) | Self::Counts(_) => {
                defect("only scalars that are not null are stored", self)
            }
        }
    }

    /// Reads a scalar of a known type.
    ///
    /// # Errors
    /// Fails where the bytes are not the canonical form of such a value.
    pub fn decode(ty: Type, from: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(match ty {
            Type::Bool => match from.u8()? {
                0 => Self::Bool(false),
                1 => Self::Bool(true),
                _ => return Err(from.malformed("a bool")),
            },
            Type::Int64 => Self::Int64(from.zigzag()?),
            Type::Float64 => {
                let float = f64::from_bits(from.u64()?);
                if canonical(float).to_bits() != float.to_bits() {
                    return Err(from.malformed("a float"));
                }
                Self::Float64(float)
            }
            Type::String => Self::string(from.text()?),
            Type::Timestamp => Self::Timestamp(Time::from_millis(from.zigzag()?)),
            Type::Bytes => Self::Bytes(from.bytes()?.into()),
        })
    }

    fn rank(&self) -> u8 {
        match self {
            Self::Null => 0,
            Self::Bool(_) => 1,
            Self::Int64(_) => 2,
            Self::Float64(_) => 3,
            Self::String(_) => 4,
            Self::Timestamp(_) => 5,
            Self::Bytes(_) => 6,
            Self::List(_) => 7,
            Self::Counts(_) => 8,
        }
    }
}

/// Values of one type in their natural order: numbers by size with NaN last, text and bytes by bytes, false
/// before true. Values of different types are ordered by type, so that the order is total.
impl Ord for Value {
    fn cmp(&self, other: &Self) -> Ordering {
        match (self, other) {
            (Self::Bool(a), Self::Bool(b)) => a.cmp(b),
            (Self::Int64(a), Self::Int64(b)) => a.cmp(b),
            (Self::Float64(a), Self::Float64(b)) => a.total_cmp(b),
            (Self::String(a), Self::String(b)) => a.cmp(b),
            (Self::Timestamp(a), Self::Timestamp(b)) => a.cmp(b),
            (Self::Bytes(a), Self::Bytes(b)) => a.cmp(b),
            (Self::List(a), Self::List(b)) => a.cmp(b),
            (Self::Counts(a), Self::Counts(b)) => a.cmp(b),
            _ => self.rank().cmp(&other.rank()),
        }
    }
}

impl PartialOrd for Value {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Value {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Value {}

/// As people read it: text bare, times in RFC 3339, bytes in hexadecimal, null as `null`.
impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Null => f.write_str("null"),
            Self::Bool(value) => value.fmt(f),
            Self::Int64(value) => value.fmt(f),
            Self::Float64(value) => write!(f, "{value:?}"),
            Self::String(value) => value.fmt(f),
            Self::Timestamp(value) => value.fmt(f),
            Self::Bytes(value) => value.iter().try_for_each(|byte| write!(f, "{byte:02x}")),
            Self::List(values) => {
                f.write_str("[")?;
                for (i, value) in values.iter().enumerate() {
                    write!(f, "{}{value}", if i == 0 { "" } else { ", " })?;
                }
                f.write_str("]")
            }
            Self::Counts(counts) => {
                f.write_str("[")?;
                for (i, (value, count)) in counts.iter().enumerate() {
                    write!(f, "{}{value}: {count}", if i == 0 { "" } else { ", " })?;
                }
                f.write_str("]")
            }
        }
    }
}
