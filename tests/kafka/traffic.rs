//! Generated records for which the expected result is known: payments, and everything that can be wrong with one.

use std::collections::BTreeMap;
use std::ops::Range;

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use rdkafka::Message;
use rdkafka::message::{Headers, OwnedMessage};
use tidemark_kernel::Time;
use tidemark_services::Record;

/// How many users and shops there are.
pub(crate) const USERS: i64 = 120;
const SHOPS: i64 = 17;

/// The header with a record's number.
const SERIAL: &str = "serial";

/// When the first record is produced.
const START_MS: i64 = 1_717_236_000_000;

const SECOND: i64 = 1000;
const MINUTE: i64 = 60 * SECOND;

/// A partition and an offset.
pub(crate) type PartitionOffset = (i32, i64);

/// What a record must become.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Fate {
    /// The record is a row of `events`.
    Event(Event),
    /// The record is a row of `dead_letters` with this code.
    DeadLetter(&'static str),
    /// An event so far ahead of its arrival that it is one only where the source allows for five minutes.
    Ahead(Event),
    /// The record is in no table: it has no value, or its transaction was aborted.
    Nothing,
}

/// An event as the table keeps it.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Event {
    pub(crate) user: Option<i64>,
    pub(crate) trace: Option<String>,
    pub(crate) produced_ms: i64,
    pub(crate) shop: String,
    pub(crate) amount: f64,
    pub(crate) at_ms: i64,
}

/// Makes records, the same in every run.
pub(crate) struct Traffic {
    topic: String,
    random: ChaCha8Rng,
    /// The fate of every record so far; each has its number here as a header.
    fates: Vec<Fate>,
    now_ms: i64,
    padding: String,
}

impl Traffic {
    pub(crate) fn new(topic: &str) -> Self {
        let random = ChaCha8Rng::seed_from_u64(11);
        Self { topic: topic.to_owned(), random, fates: Vec::new(), now_ms: START_MS, padding: String::new() }
    }

    /// From now on every value has so many bytes more, which no field reads.
    pub(crate) fn pad(&mut self, bytes: usize) {
        self.padding = "x".repeat(bytes);
    }

    /// The next record, and its fate.
    pub(crate) fn next(&mut self) -> (Record, Fate) {
        let (record, fate) = self.any();
        let record = record.header(SERIAL, self.fates.len().to_string());
        self.fates.push(fate.clone());
        (record, fate)
    }

    /// The fate of a record that was read from the topic.
    pub(crate) fn fate_of(&self, record: &OwnedMessage) -> Fate {
        let header = record.headers().and_then(|headers| headers.iter().find(|header| header.key == SERIAL));
        let serial = header.and_then(|header| std::str::from_utf8(header.value?).ok()?.parse::<usize>().ok());
        self.fates[serial.expect("one of ours")].clone()
    }

    /// Five in six are events as they should be.
    fn any(&mut self) -> (Record, Fate) {
        let event = self.event();
        let record = self.record(&event);
        match self.random.random_range(0..60) {
            0 => (self.over(&event, "{\"shop\": \"s1\", \"amou"), Fate::DeadLetter("undecodable")),
            1 => (self.over(&event, r#"{"shop": "s1", "amount": "a lot"}"#), Fate::DeadLetter("undecodable")),
            2 => (self.over(&event, r#"{"shop": "s1", "amount": 1.5}"#), Fate::DeadLetter("no_event_time")),
            3 => (record.key("somebody"), Fate::DeadLetter("undecodable")),
            4 => (Record::tombstone(&self.topic, key(&event)).at(event.produced_ms), Fate::Nothing),
            5 => {
                let far =
                    Event { at_ms: event.produced_ms + self.random.random_range(6..90) * MINUTE, ..event };
                (self.record(&far), Fate::DeadLetter("too_far_ahead"))
            }
            6 | 7 => {
                let ahead = self.random.random_range(61 * SECOND..5 * MINUTE);
                let ahead = Event { at_ms: event.produced_ms + ahead, ..event };
                (self.record(&ahead), Fate::Ahead(ahead))
            }
            8 => {
                let nobody = Event { user: None, ..event };
                (self.record(&nobody), Fate::Event(nobody))
            }
            9 => {
                let untraced = Event { trace: None, ..event };
                (self.record(&untraced), Fate::Event(untraced))
            }
            _ => (record, Fate::Event(event)),
        }
    }

    /// An event that may be late by hours, or a little ahead of its own timestamp.
    fn event(&mut self) -> Event {
        self.now_ms += self.random.random_range(0..2 * SECOND);
        let late = match self.random.random_range(0..10) {
            0 => self.random.random_range(0..30 * 60 * MINUTE),
            _ => self.random.random_range(-50 * SECOND..20 * SECOND),
        };
        Event {
            user: Some(self.random.random_range(0..USERS)),
            trace: Some(format!("t-{}", self.fates.len())),
            produced_ms: self.now_ms,
            shop: format!("s{}", self.random.random_range(0..SHOPS)),
            // Quarters: their sums are exact.
            amount: f64::from(self.random.random_range(0..4_000)) / 4.0,
            at_ms: self.now_ms - late,
        }
    }

    fn record(&self, event: &Event) -> Record {
        let (Event { shop, amount, .. }, padding) = (event, &self.padding);
        let at = Time::from_millis(event.at_ms);
        self.over(
            event,
            &format!(r#"{{"shop": "{shop}", "amount": {amount}, "at": "{at}", "more": "{padding}"}}"#),
        )
    }

    /// The record of an event with another value.
    fn over(&self, event: &Event, value: &str) -> Record {
        let mut record = Record::new(&self.topic, value).at(event.produced_ms);
        if event.user.is_some() {
            record = record.key(key(event));
        }
        match &event.trace {
            // The last one counts.
            Some(trace) => record.header("trace-id", "none of it").header("trace-id", trace.as_str()),
            None => record,
        }
    }
}

fn key(event: &Event) -> String {
    event.user.map_or_else(String::new, |user| user.to_string())
}

/// What a count and a sum over all time should be.
pub(crate) type Totals = (i64, f64);

/// Everything that was produced, and what should have become of it.
#[derive(Clone, Default)]
pub(crate) struct Model {
    fates: BTreeMap<PartitionOffset, Fate>,
}

impl Model {
    pub(crate) fn add(&mut self, place: PartitionOffset, fate: Fate) {
        let before = self.fates.insert(place, fate);
        assert_eq!(before, None, "Kafka gave {place:?} twice");
    }

    pub(crate) fn records(&self) -> usize {
        self.fates.len()
    }

    /// Records of a partition are gone before they were read: one dead letter records the gap.
    pub(crate) fn lose(&mut self, partition: i32, offsets: Range<i64>) {
        self.fates.retain(|(of, offset), _| *of != partition || !offsets.contains(offset));
        self.fates.insert((partition, offsets.start), Fate::DeadLetter("lost"));
    }

    /// Decides what the records that are far ahead must become: events where `is_event` says so.
    pub(crate) fn decide_ahead_of_clock(&mut self, is_event: impl Fn(PartitionOffset) -> bool) {
        for (place, fate) in &mut self.fates {
            if let Fate::Ahead(event) = fate {
                *fate = if is_event(*place) {
                    Fate::Event(event.clone())
                } else {
                    Fate::DeadLetter("too_far_ahead")
                };
            }
        }
    }

    pub(crate) fn events(&self) -> BTreeMap<PartitionOffset, Event> {
        let event = |(place, fate): (&PartitionOffset, &Fate)| match fate {
            Fate::Event(event) => Some((*place, event.clone())),
            _ => None,
        };
        self.fates.iter().filter_map(event).collect()
    }

    pub(crate) fn dead_letters(&self) -> BTreeMap<PartitionOffset, String> {
        let code = |(place, fate): (&PartitionOffset, &Fate)| match fate {
            Fate::DeadLetter(code) => Some((*place, (*code).to_owned())),
            Fate::Ahead(_) => Some((*place, "too_far_ahead".to_owned())),
            _ => None,
        };
        self.fates.iter().filter_map(code).collect()
    }

    /// For each user, everybody's payments.
    pub(crate) fn by_user(&self) -> BTreeMap<i64, Totals> {
        let events = self.events().into_values();
        totals(events.filter_map(|event| Some((event.user?, event.amount))))
    }

    /// For each shop, payments of more than 1.
    pub(crate) fn by_shop(&self) -> BTreeMap<String, Totals> {
        let events = self.events().into_values();
        totals(events.filter(|event| event.amount > 1.0).map(|event| (event.shop, event.amount)))
    }
}

fn totals<K: Ord>(payments: impl Iterator<Item = (K, f64)>) -> BTreeMap<K, Totals> {
    let mut totals: BTreeMap<K, Totals> = BTreeMap::new();
    for (key, amount) in payments {
        let (count, sum) = totals.entry(key).or_default();
        (*count, *sum) = (*count + 1, *sum + amount);
    }
    totals
}
