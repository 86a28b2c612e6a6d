//! Repetitions: records that a producer has sent more than once, which must count once.
//!
//! A source can name a field that holds an id. Of the records of a partition that have the same id within a span of
//! arrival time, the first that is an event counts, and the others are repetitions: they are neither events nor dead letters.
//!
//! Whether a record is a repetition is a function of the events before it in its partition, so every reader decides the
//! same, and so does one that has to find the ids again in the event table. With `a` its arrival, and `C` the newest
//! arrival of the events before it, it is one if an event before it has its id and arrived after `max(C, a) - within`.

use std::collections::HashMap;

use crate::codec::Writer;
use crate::time::{Span, Time};
use crate::value::{Type, Value};

/// Which records of a source are repetitions of others.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unique {
    /// The field that holds the id. A record without one is no repetition.
    pub field: String,
    /// For how long an id is known, in arrival time.
    pub within: Span,
}

impl Unique {
    /// Whether a field of this type can hold an id.
    #[must_use]
    pub const fn may_be(ty: Type) -> bool {
        matches!(ty, Type::Int64 | Type::String | Type::Bytes)
    }
}

/// The ids of the events of a partition, for as long as they are known.
#[derive(Clone, Debug)]
pub struct KnownIds {
    within: Span,
    /// The newest arrival of an event.
    newest: Time,
    /// The newest arrival of an event with each id, by 128 bits of the id's hash.
    ids: HashMap<[u8; 16], Time>,
    /// How many ids there may be before they are pruned again.
    pruned_at: usize,
}

/// The number of ids below which none is pruned.
const FEW: usize = 1024;

impl KnownIds {
    /// No ids, as for a partition without events.
    #[must_use]
    pub fn new(within: Span) -> Self {
        Self { within, newest: Time::MIN, ids: HashMap::new(), pruned_at: FEW }
    }

    /// Adds an event that is known to count.
    pub fn add(&mut self, id: &Value, arrival: Time) {
        self.newest = self.newest.max(arrival);
        let Some(id) = hash(id) else { return };
        self.ids.entry(id).and_modify(|known| *known = arrival.max(*known)).or_insert(arrival);
        if self.ids.len() > self.pruned_at {
            self.prune();
        }
    }

    /// Drops the ids that no later record can repeat any more.
    pub fn prune(&mut self) {
        let forgotten = self.newest.minus(self.within);
        self.ids.retain(|_, known| *known > forgotten);
        self.ids.shrink_to_fit();
        self.pruned_at = FEW.max(self.ids.len() / 4 * 5);
    }

    /// Whether the event that comes next in the partition counts, and is known from now on; false for a repetition.
    pub fn counts(&mut self, id: &Value, arrival: Time) -> bool {
        let forgotten = self.newest.max(arrival).minus(self.within);
        let known = hash(id).and_then(|id| self.ids.get(&id));
        if known.is_some_and(|known| *known > forgotten) {
            return false;
        }
        self.add(id, arrival);
        true
    }

    /// How many ids are kept.
    #[must_use]
    pub fn len(&self) -> usize {
        self.ids.len()
    }

    /// Whether no id is kept.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.ids.is_empty()
    }

    /// About how many bytes they take.
    #[must_use]
    pub fn heap(&self) -> usize {
        // A byte of the map's own for each place, of which it leaves an eighth free.
        self.ids.capacity() * (size_of::<([u8; 16], Time)>() + 1) / 7 * 8
    }
}

/// None for null. Ids of one field have one type, so that their bytes tell them apart.
fn hash(id: &Value) -> Option<[u8; 16]> {
    if *id == Value::Null {
        return None;
    }
    let mut out = Writer::new();
    id.encode(&mut out);
    let mut short = [0; 16];
    short.copy_from_slice(&blake3::hash(&out.into_bytes()).as_bytes()[..16]);
    Some(short)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(secs: i64) -> Time {
        Time::from_millis(secs * 1000)
    }

    #[test]
    fn the_first_event_of_an_id_counts() {
        let mut known = KnownIds::new(Span::from_secs(10));
        let (one, other) = (Value::Int64(1), Value::Int64(2));
        assert!(known.counts(&one, at(100)) && known.counts(&other, at(100)));
        assert!(!known.counts(&one, at(109)), "a repetition does not extend the span");
        assert!(known.counts(&one, at(110)), "the span is over");
        assert!(!known.counts(&one, at(119)));
        assert!(known.counts(&Value::Null, at(119)) && known.counts(&Value::Null, at(119)));
    }

    #[test]
    fn the_span_ends_by_the_newest_arrival_of_the_partition() {
        let mut known = KnownIds::new(Span::from_secs(10));
        let (one, other) = (Value::string("a"), Value::string("b"));
        assert!(known.counts(&one, at(100)) && known.counts(&other, at(110)));
        assert!(known.counts(&one, at(101)), "it may have been forgotten");
        assert!(!known.counts(&other, at(50)), "late, and known");
    }

    /// What is decided does not depend on when ids are forgotten, nor on where reading began.
    #[test]
    fn a_reader_that_begins_in_the_middle_decides_the_same() {
        let within = Span::from_secs(60);
        let events: Vec<(Value, Time)> = (0..20_000_i64)
            .map(|index| {
                let mixed = index.wrapping_mul(0x9e37_79b9_7f4a_7c15_u64.cast_signed());
                (Value::Int64(mixed.rem_euclid(300)), at(index / 40 - mixed.rem_euclid(90)))
            })
            .collect();
        let mut known = KnownIds::new(within);
        let counted: Vec<bool> = events.iter().map(|(id, at)| known.counts(id, *at)).collect();
        assert!(counted.iter().filter(|counts| !**counts).count() > 1000);
        for begin in [1, 999, 10_000, 19_999] {
            let before = || events[..begin].iter().zip(&counted).filter(|(_, counts)| **counts);
            let newest = before().map(|((_, at), _)| *at).max().expect("some");
            let mut again = KnownIds::new(within);
            // As they are found in the event table: only those that may matter.
            for ((id, at), _) in before().filter(|((_, at), _)| *at > newest.minus(within)) {
                again.add(id, *at);
            }
            let rest: Vec<bool> = events[begin..].iter().map(|(id, at)| again.counts(id, *at)).collect();
            assert_eq!(rest, counted[begin..], "from {begin} on");
        }
        assert!(known.len() < 400 + FEW && known.heap() < 100 * (400 + FEW), "{}", known.len());
    }
}
