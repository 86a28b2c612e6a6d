//! `min` and `max`: the state is the least or greatest value so far.

use crate::codec::{DecodeError, Reader, Writer};
use crate::value::{Type, Value};

/// Which end of the values.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Side {
    /// The smallest.
    Min,
    /// The largest.
    Max,
}

/// The smallest or largest value; NaN is skipped.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Extreme {
    side: Side,
    value: Option<Value>,
}

impl Extreme {
    pub(super) const fn empty(side: Side) -> Self {
        Self { side, value: None }
    }

    pub(super) fn apply(&mut self, value: &Value) {
        let nan = matches!(value, Value::Float64(float) if float.is_nan());
        let better = match (&self.value, self.side) {
            (None, _) => true,
            (Some(known), Side::Min) => value < known,
            (Some(known), Side::Max) => value > known,
        };
        if better && !nan {
            self.value = Some(value.clone());
        }
    }

    pub(super) fn merge(&mut self, other: &Self) {
        if let Some(value) = &other.value {
            self.apply(value);
        }
    }

    pub(super) fn finish(&self) -> Value {
        self.value.clone().unwrap_or_default()
    }

    pub(super) fn encode(&self, out: &mut Writer) {
        out.u8(u8::from(self.value.is_some()));
        if let Some(value) = &self.value {
            value.encode(out);
        }
    }

    pub(super) fn decode(ty: Type, side: Side, from: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let value = match from.u8()? {
            0 => None,
            1 => Some(Value::decode(ty, from)?),
            _ => return Err(from.malformed("an extreme")),
        };
        match value {
            Some(Value::Float64(float)) if float.is_nan() => Err(from.malformed("an extreme")),
            value => Ok(Self { side, value }),
        }
    }
}
