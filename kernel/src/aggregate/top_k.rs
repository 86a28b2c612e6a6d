//! `top_k`: how often each value occurred.

use std::cmp::{Ordering, Reverse};

use smallvec::SmallVec;

use super::Function;
use super::sorted::{self, Item};
use crate::codec::{DecodeError, Reader, Writer};
use crate::defect::defect;
use crate::value::{Type, Value};

#[cfg(test)]
mod tests;

/// Up to so many different values are counted.
pub const MOST_COUNTED: usize = 10_000;

/// How often each value occurred, exactly; beyond [`MOST_COUNTED`] different values only that there were more.
///
/// A value that leaves the counts could still come back as the most frequent one, so that dropping the rare
/// ones would make the answer depend on the order of events. All NaNs are one value.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TopK(Seen);

#[derive(Clone, Debug, PartialEq, Eq)]
enum Seen {
    /// The different values in ascending order, each with its count.
    Counted(Counts),
    /// There were more than [`MOST_COUNTED`] different values. Nothing leads back.
    Overflowed,
}

type Counts = SmallVec<[Counted; 1]>;

/// A value and how often it occurred.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Counted {
    value: Value,
    count: u64,
}

impl TopK {
    pub(super) fn apply(&mut self, value: &Value) {
        if let Seen::Counted(counts) = &mut self.0 {
            sorted::insert(counts, Counted { value: value.clone(), count: 1 });
        }
        self.overflow();
    }

    pub(super) fn merge(&mut self, other: &Self) {
        match (&mut self.0, &other.0) {
            (Seen::Counted(mine), Seen::Counted(theirs)) => sorted::unite(mine, theirs),
            (mine, _) => *mine = Seen::Overflowed,
        }
        self.overflow();
    }

    fn overflow(&mut self) {
        if matches!(&self.0, Seen::Counted(counts) if counts.len() > MOST_COUNTED) {
            self.0 = Seen::Overflowed;
        }
    }

    pub(super) fn finish(&self, function: Function) -> Value {
        let Function::TopK(k) = function else {
            defect("counted values are finished as top_k", &function);
        };
        match &self.0 {
            Seen::Counted(counts) if !counts.is_empty() => {
                Value::Counts(most_frequent(counts, k as usize).collect())
            }
            Seen::Counted(_) | Seen::Overflowed => Value::Null,
        }
    }

    /// The number of different values, then each with its count; where there were too many, only one more than
    /// the limit.
    pub(super) fn encode(&self, out: &mut Writer) {
        let Seen::Counted(counts) = &self.0 else {
            return out.varint(MOST_COUNTED as u64 + 1);
        };
        out.varint(counts.len() as u64);
        for Counted { value, count } in counts {
            value.encode(out);
            out.varint(*count);
        }
    }

    pub(super) fn decode(ty: Type, from: &mut Reader<'_>) -> Result<Self, DecodeError> {
        const LIMIT: u64 = MOST_COUNTED as u64;
        const OVERFLOWED: u64 = LIMIT + 1;
        let malformed = from.malformed("a number of counted values");
        Ok(Self(match from.varint()? {
            count @ 0..=LIMIT => Seen::Counted(decode_counts(ty, count, from)?),
            OVERFLOWED => Seen::Overflowed,
            _ => return Err(malformed),
        }))
    }
}

impl Default for Seen {
    fn default() -> Self {
        Self::Counted(SmallVec::new())
    }
}

impl Item for Counted {
    fn place(&self, other: &Self) -> Ordering {
        self.value.cmp(&other.value)
    }

    fn absorb(&mut self, other: &Self) {
        self.count = self.count.saturating_add(other.count);
    }
}

fn decode_counts(ty: Type, count: u64, from: &mut Reader<'_>) -> Result<Counts, DecodeError> {
    let mut counts = SmallVec::new();
    for _ in 0..count {
        let start = from.clone();
        let counted = Counted { value: Value::decode(ty, from)?, count: from.varint()? };
        if counted.count == 0 || !sorted::push(&mut counts, counted) {
            return Err(start.malformed("counted values in order"));
        }
    }
    Ok(counts)
}

/// The `k` values of the highest counts, count descending, then value ascending.
fn most_frequent(counts: &[Counted], k: usize) -> impl Iterator<Item = (Value, i64)> {
    // Counts are in order of value, so that comparing indexes compares values.
    let mut ranks: Vec<_> = counts.iter().enumerate().map(|(i, item)| (Reverse(item.count), i)).collect();
    if k < ranks.len() {
        ranks.select_nth_unstable(k);
        ranks.truncate(k);
    }
    ranks.sort_unstable();
    ranks
        .into_iter()
        .map(|(Reverse(count), i)| (counts[i].value.clone(), i64::try_from(count).unwrap_or(i64::MAX)))
}
