//! `count(distinct x)`: exact to [`EXACT_DISTINCT`] values, HyperLogLog beyond.

use std::cmp::Ordering;
use std::sync::Arc;

use smallvec::SmallVec;

use super::sorted::{self, Item};
use crate::codec::{DecodeError, Reader, Writer};
use crate::defect::defect;
use crate::value::{Type, Value, canonical};

mod registers;
#[cfg(test)]
mod tests;

use registers::Registers;

/// Up to so many different values are counted exactly.
pub const EXACT_DISTINCT: usize = 1024;

/// The different values seen: the values themselves up to [`EXACT_DISTINCT`], registers of their hashes beyond.
///
/// Which of the two it is depends on how many different values there are and on nothing else. Above the limit
/// the standard error is 1.6 %, and the answer is never at or below the limit. All NaNs are one value, as are
/// `-0` and `+0`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Distinct(Seen);

#[derive(Clone, Debug, PartialEq, Eq)]
enum Seen {
    /// Values of fixed width, by their bits: see [`word`]. Also nothing at all, of any type.
    Words(SmallVec<[i64; 2]>),
    /// Text or bytes.
    Texts(SmallVec<[Arc<[u8]>; 1]>),
    /// More than [`EXACT_DISTINCT`] values.
    Many(Box<Registers>),
}

impl Distinct {
    pub(super) fn apply(&mut self, value: &Value) {
        match Counted::of(value) {
            Counted::Word(word) => self.0.add_word(word),
            Counted::Text(text) => self.0.add_text(text),
        }
        self.0.promote();
    }

    pub(super) fn merge(&mut self, other: &Self) {
        match (&mut self.0, &other.0) {
            (Seen::Words(mine), Seen::Words(theirs)) => sorted::unite(mine, theirs),
            (Seen::Texts(mine), Seen::Texts(theirs)) => sorted::unite(mine, theirs),
            (Seen::Many(mine), theirs) => theirs.pour_into(mine),
            (mine, Seen::Many(theirs)) => {
                let mut registers = theirs.clone();
                mine.pour_into(&mut registers);
                *mine = Seen::Many(registers);
            }
            (mine, theirs) if mine.is_empty() => mine.clone_from(theirs),
            (_, theirs) if theirs.is_empty() => (),
            (_, theirs) => defect("values of two types are never merged", theirs),
        }
        self.0.promote();
    }

    pub(super) fn count(&self) -> i64 {
        match &self.0 {
            Seen::Words(words) => words.len() as i64,
            Seen::Texts(texts) => texts.len() as i64,
            // The form itself tells that there are more.
            Seen::Many(registers) => registers.estimate().max(EXACT_DISTINCT as i64 + 1),
        }
    }

    /// The number of values, then the values in ascending order, words as the gaps between them; for registers
    /// the number is one more than the limit.
    pub(super) fn encode(&self, out: &mut Writer) {
        match &self.0 {
            Seen::Words(words) => encode_words(words, out),
            Seen::Texts(texts) => {
                out.varint(texts.len() as u64);
                texts.iter().for_each(|text| out.bytes(text));
            }
            Seen::Many(registers) => {
                out.varint(EXACT_DISTINCT as u64 + 1);
                registers.encode(out);
            }
        }
    }

    pub(super) fn decode(ty: Type, from: &mut Reader<'_>) -> Result<Self, DecodeError> {
        const LIMIT: u64 = EXACT_DISTINCT as u64;
        const MANY: u64 = LIMIT + 1;
        let malformed = from.malformed("a number of different values");
        Ok(Self(match (from.varint()?, ty) {
            (0, _) => Seen::default(),
            (MANY, _) => Seen::Many(Box::new(Registers::decode(from)?)),
            (count @ 1..=LIMIT, Type::String | Type::Bytes) => Seen::Texts(decode_texts(ty, count, from)?),
            (count @ 1..=LIMIT, _) => Seen::Words(decode_words(ty, count, from)?),
            _ => return Err(malformed),
        }))
    }
}

impl Seen {
    fn is_empty(&self) -> bool {
        matches!(self, Self::Words(words) if words.is_empty())
    }

    fn add_word(&mut self, word: i64) {
        match self {
            Self::Words(words) => sorted::insert(words, word),
            Self::Many(registers) => registers.insert(&word.to_le_bytes()),
            Self::Texts(texts) => defect("texts are never counted together with other values", texts),
        }
    }

    fn add_text(&mut self, text: Arc<[u8]>) {
        match self {
            Self::Texts(texts) => sorted::insert(texts, text),
            Self::Many(registers) => registers.insert(&text),
            Self::Words(words) if words.is_empty() => *self = Self::Texts(SmallVec::from_buf([text])),
            Self::Words(words) => defect("other values are never counted together with texts", words),
        }
    }

    /// Goes over to registers where there are too many values.
    fn promote(&mut self) {
        let exact = match self {
            Self::Words(words) => words.len(),
            Self::Texts(texts) => texts.len(),
            Self::Many(_) => 0,
        };
        if exact > EXACT_DISTINCT {
            let mut registers = Box::<Registers>::default();
            self.pour_into(&mut registers);
            *self = Self::Many(registers);
        }
    }

    fn pour_into(&self, registers: &mut Registers) {
        match self {
            Self::Words(words) => words.iter().for_each(|word| registers.insert(&word.to_le_bytes())),
            Self::Texts(texts) => texts.iter().for_each(|text| registers.insert(text)),
            Self::Many(theirs) => registers.merge(theirs),
        }
    }
}

impl Default for Seen {
    fn default() -> Self {
        Self::Words(SmallVec::new())
    }
}

impl Item for i64 {
    fn place(&self, other: &Self) -> Ordering {
        self.cmp(other)
    }

    fn absorb(&mut self, _: &Self) {}
}

impl Item for Arc<[u8]> {
    fn place(&self, other: &Self) -> Ordering {
        self.cmp(other)
    }

    fn absorb(&mut self, _: &Self) {}
}

/// A scalar as it is counted.
enum Counted {
    /// The bits of a value of fixed width; different values of one type have different ones.
    Word(i64),
    /// The bytes of a value of variable width, shared with it.
    Text(Arc<[u8]>),
}

impl Counted {
    fn of(value: &Value) -> Self {
        match value {
            Value::Bool(value) => Self::Word(i64::from(*value)),
            Value::Int64(value) => Self::Word(*value),
            Value::Float64(value) => Self::Word(canonical(*value).to_bits() as i64),
            Value::Timestamp(value) => Self::Word(value.millis()),
            Value::String(value) => Self::Text(Arc::clone(value).into()),
            Value::Bytes(value) => Self::Text(Arc::clone(value)),
            Value::Null | Value::List(_) | Value::Counts(_) => {
                defect("only scalars that are not null are counted", value)
            }
        }
    }
}

/// Whether some value of that type has these bits.
fn is_word(ty: Type, word: i64) -> bool {
    match ty {
        Type::Bool => matches!(word, 0 | 1),
        Type::Float64 => canonical(f64::from_bits(word as u64)).to_bits() == word as u64,
        Type::Int64 | Type::Timestamp => true,
        Type::String | Type::Bytes => false,
    }
}

fn encode_words(words: &[i64], out: &mut Writer) {
    out.varint(words.len() as u64);
    if let Some(first) = words.first() {
        out.zigzag(*first);
    }
    for pair in words.windows(2) {
        out.varint(pair[1].abs_diff(pair[0]) - 1);
    }
}

fn decode_words(ty: Type, count: u64, from: &mut Reader<'_>) -> Result<SmallVec<[i64; 2]>, DecodeError> {
    let mut words = SmallVec::new();
    let mut last = None;
    for _ in 0..count {
        let next = match last {
            None => Some(from.zigzag()?),
            Some(last) => after(last, from.varint()?),
        };
        let word =
            next.filter(|word| is_word(ty, *word)).ok_or_else(|| from.malformed("a distinct value"))?;
        words.push(word);
        last = Some(word);
    }
    Ok(words)
}

/// The word that follows `last` with `gap` unused ones between them.
fn after(last: i64, gap: u64) -> Option<i64> {
    last.checked_add_unsigned(gap)?.checked_add(1)
}

fn decode_texts(
    ty: Type,
    count: u64,
    from: &mut Reader<'_>,
) -> Result<SmallVec<[Arc<[u8]>; 1]>, DecodeError> {
    let mut texts = SmallVec::new();
    for _ in 0..count {
        let Counted::Text(text) = Counted::of(&Value::decode(ty, from)?) else {
            return Err(from.malformed("text or bytes"));
        };
        if !sorted::push(&mut texts, text) {
            return Err(from.malformed("distinct values in order"));
        }
    }
    Ok(texts)
}
