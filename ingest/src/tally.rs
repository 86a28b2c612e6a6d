//! Counts of records: how many are events, and the reasons why the others are not.
//!
//! A dead letter or a null key is nothing unusual. A topic of which every record is one is a mistake, and record by
//! record it looks the same. So records are counted together, with their reasons: what is kept is small however many
//! records there are, and has the first record of each kind with its place.

use tidemark_kernel::value::Unit;
use tidemark_kernel::{FeaturePlan, SourcePlan, Time};

use crate::decode::Batch;

/// How many kinds of reasons are told apart. Records of further kinds are only counted.
const KINDS: usize = 20;

/// How many records tell something of a source. Of fewer, all may be bad by chance.
pub(crate) const FEW: u64 = 10;

/// From the year 2000 to the year 2100, in milliseconds: where a time must lie to be a plausible event time.
const PLAUSIBLE: std::ops::Range<i64> = 946_684_800_000..4_102_444_800_000;

/// How many records became events, and why others did not.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// How many records there were. A dead letter that represents records that were never
    /// read is not counted.
    pub records: u64,
    /// How many of them were left out as repetitions of others.
    pub repeated: u64,
    /// Why some of them are no events.
    pub rejected: Reasons,
    /// Why some of them are events that are hardly meant so: no view can see them, or their time is in the wrong unit.
    pub unseen: Reasons,
    /// Whether some times were read as UTC because neither they nor the source says their zone. Of files only.
    pub has_clocks: bool,
}

/// Reasons for which records are of no use, those of one kind as one.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Reasons {
    kinds: Vec<Reason>,
    others: u64,
}

/// Why some records are of no use.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reason {
    /// Its short stable name, as in [`DeadLetter::code`](crate::decode::DeadLetter::code).
    pub code: &'static str,
    /// The reason of the first such record, for people. Those of the others may differ in values.
    pub text: String,
    /// The place of the first such record.
    pub first: String,
    /// How many records have it.
    pub count: u64,
    /// What the texts of all of them have in common.
    kind: String,
}

impl Tally {
    /// What became of the records of a batch, of which these views are made.
    pub(crate) fn of<'p>(
        batch: &Batch,
        source: &SourcePlan,
        views: impl Iterator<Item = &'p FeaturePlan>,
    ) -> Self {
        let mut tally = Self::of_rejected(batch);
        tally.records += batch.events.num_rows() as u64;
        tally.look_at_events(batch, source, views);
        tally
    }

    /// What became of those records of a batch that are no events.
    pub(crate) fn of_rejected(batch: &Batch) -> Self {
        let mut tally = Self::default();
        for letter in batch.dead.iter().filter(|letter| letter.is_record()) {
            tally.records += 1;
            tally.rejected.add(1, letter.code, &letter.reason, &letter.place);
        }
        tally
    }

    /// With so many records more, which are repetitions.
    pub(crate) const fn with_repeated(mut self, repeated: u64) -> Self {
        self.records += repeated;
        self.repeated += repeated;
        self
    }

    /// How many of the records are events.
    #[must_use]
    pub fn events(&self) -> u64 {
        self.records - self.rejected.count() - self.repeated
    }

    /// How many of the records are of use.
    #[must_use]
    pub fn usable(&self) -> u64 {
        self.events() - self.unseen.count()
    }

    /// The first reason of the most frequent kind why records are of no use, if any is.
    #[must_use]
    pub fn reason(&self) -> Option<&Reason> {
        let kinds = [self.rejected.kinds().first().copied(), self.unseen.kinds().first().copied()];
        kinds.into_iter().flatten().reduce(|most, other| if other.count > most.count { other } else { most })
    }

    /// Adds what became of other records, which came later.
    pub fn merge(&mut self, later: &Self) {
        self.records += later.records;
        self.repeated += later.repeated;
        self.rejected.merge(&later.rejected);
        self.unseen.merge(&later.unseen);
        self.has_clocks |= later.has_clocks;
    }

    fn look_at_events<'p>(
        &mut self,
        batch: &Batch,
        source: &SourcePlan,
        views: impl Iterator<Item = &'p FeaturePlan>,
    ) {
        let place = |row: usize| format!("partition {} offset {}", batch.partition, batch.offsets()[row]);
        let (keyless, keys) = keyless(batch, views);
        if let Some(first) = keyless.iter().position(|keyless| *keyless) {
            let count = keyless.iter().filter(|keyless| **keyless).count() as u64;
            let text = format!("null keys: no view can see an event without {keys}");
            self.unseen.add(count, "null_keys", &text, &place(first));
        }
        for (row, time) in batch.event_times().iter().enumerate() {
            let is_keyless = keyless.get(row) == Some(&true);
            if let Some((declared, likely)) = other_unit(source, *time).filter(|_| !is_keyless) {
                let (field, time) = (&source.event_time.field, Time::from_millis(*time));
                let text = format!(
                    "field `{field}` in `{declared}` is {time}; this looks like a time in `{likely}`, which would be \
                     `unit: {likely}`"
                );
                self.unseen.add(1, "unlikely_unit", &text, &place(row));
            }
        }
    }
}

impl Reasons {
    /// How many records have one.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.others + self.kinds.iter().map(|kind| kind.count).sum::<u64>()
    }

    /// The reasons that are counted separately, the most frequent ones first, then those met first.
    #[must_use]
    pub fn kinds(&self) -> Vec<&Reason> {
        let mut kinds: Vec<&Reason> = self.kinds.iter().collect();
        kinds.sort_by_key(|kind| std::cmp::Reverse(kind.count));
        kinds
    }

    /// How many records have reasons that are not told apart any more.
    #[must_use]
    pub const fn others(&self) -> u64 {
        self.others
    }

    fn add(&mut self, count: u64, code: &'static str, text: &str, place: &str) {
        let kind = kind(text);
        let known = self.kinds.iter().position(|known| known.code == code && known.kind == kind);
        match known {
            Some(known) => self.kinds[known].count += count,
            None if self.kinds.len() < KINDS => {
                self.kinds.push(Reason { code, text: text.to_owned(), first: place.to_owned(), count, kind });
            }
            None => self.others += count,
        }
    }

    fn merge(&mut self, later: &Self) {
        self.others += later.others;
        later.kinds.iter().for_each(|kind| self.add(kind.count, kind.code, &kind.text, &kind.first));
    }
}

/// A reason without what is of the single record: the value that was found, and numbers and times, but not digits in
/// the names of fields.
pub(crate) fn kind(text: &str) -> String {
    let text = text.split_once(", got ").map_or(text, |(before, _)| before);
    let mut named = false;
    text.chars()
        .filter(|character| {
            named ^= *character == '`';
            named || !(character.is_ascii_digit() || *character == '.')
        })
        .collect()
}

/// For each event whether no view can see it, for each view needs a key that is null; and the names of these keys. No
/// flags where every event has its keys.
fn keyless<'p>(batch: &Batch, views: impl Iterator<Item = &'p FeaturePlan>) -> (Vec<bool>, String) {
    let (mut keyless, mut names) = (Vec::new(), Vec::new());
    for (index, view) in views.enumerate() {
        let fields = view.keys.iter().map(|key| key.field.as_str());
        let columns: Vec<_> = fields.clone().filter_map(|field| batch.events.column_by_name(field)).collect();
        if columns.iter().all(|column| column.null_count() == 0) {
            return (Vec::new(), String::new());
        }
        if index == 0 {
            keyless = vec![true; batch.events.num_rows()];
        }
        for (row, keyless) in keyless.iter_mut().enumerate() {
            *keyless &= columns.iter().any(|column| column.is_null(row));
        }
        names.extend(
            fields.map(|field| format!("`{field}`")).filter(|name| !names.contains(name)).collect::<Vec<_>>(),
        );
    }
    (keyless, names.join(" or "))
}

/// The declared unit of the event time and a coarser one, where only the coarser one makes an event time plausible:
/// seconds in a field of milliseconds are in January 1970.
fn other_unit(source: &SourcePlan, time: i64) -> Option<(&'static str, &'static str)> {
    let declared = Unit::NAMED.iter().position(|(_, unit)| Some(*unit) == source.event_time.unit)?;
    if PLAUSIBLE.contains(&time) {
        return None;
    }
    let mut coarser = time;
    Unit::NAMED[..declared].iter().rev().find_map(|(name, _)| {
        coarser = coarser.checked_mul(1000)?;
        PLAUSIBLE.contains(&coarser).then_some((Unit::NAMED[declared].0, *name))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reasons(texts: &[&str]) -> Reasons {
        let mut reasons = Reasons::default();
        for (index, text) in texts.iter().enumerate() {
            reasons.add(1, "undecodable", text, &format!("a.csv:{}", index + 2));
        }
        reasons
    }

    #[test]
    fn reasons_that_differ_in_values_are_one() {
        let both = reasons(&[
            "field `price_1`: expected a number, got `9,50`",
            "field `price_2`: expected a number, got `1,20`",
            "field `price_2`: expected a number, got `a, got b`",
            "the record is not a JSON object: expected value at column 17",
            "the record is not a JSON object: expected value at column 3",
            "the record is not a JSON object: expected value at column 1",
        ]);
        let told: Vec<_> = both.kinds().iter().map(|kind| (kind.count, kind.first.as_str())).collect();
        assert_eq!(told, [(3, "a.csv:5"), (2, "a.csv:3"), (1, "a.csv:2")], "the most frequent first");
        assert_eq!(both.kinds()[1].text, "field `price_2`: expected a number, got `1,20`");
    }

    #[test]
    fn what_is_kept_is_bounded_and_everything_is_counted() {
        let texts: Vec<String> = (0..100).map(|number| format!("type `t{number}`")).collect();
        let mut many = reasons(&texts.iter().map(String::as_str).collect::<Vec<_>>());
        assert_eq!((many.kinds().len(), many.others(), many.count()), (KINDS, 80, 100));
        many.merge(&many.clone());
        assert_eq!((many.kinds().len(), many.others(), many.count()), (KINDS, 160, 200));
        assert_eq!(many.kinds()[0].first, "a.csv:2", "the first stays the first");
    }
}
