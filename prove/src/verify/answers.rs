//! Compares answers from stored states with those of training and of the oracle.

use std::collections::BTreeMap;

use rand::seq::IndexedRandom;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use tidemark_kernel::answer::{answer, horizon};
use tidemark_kernel::replay::{Question, replay};
use tidemark_kernel::{
    Answer, Event, FeaturePlan, Partition, PartitionState, Span, Time, Visibility, Window, oracle,
};

use crate::truth::tells;

/// Asks the first so many entities that have a state.
pub(super) struct Asking<'p> {
    plan: &'p FeaturePlan,
    left: usize,
    random: ChaCha8Rng,
}

/// What asking one entity gave.
#[derive(Debug, Default)]
pub(super) struct EntityReport {
    pub(super) values: u64,
    pub(super) telling: u64,
    pub(super) differences: Vec<String>,
}

impl<'p> Asking<'p> {
    pub(super) fn new(plan: &'p FeaturePlan, entities: usize, seed: u64) -> Self {
        Self { plan, left: entities, random: ChaCha8Rng::seed_from_u64(seed) }
    }

    /// Asks about an entity with these stored states, which are of these events.
    pub(super) fn ask(&mut self, stored: &BTreeMap<Partition, Vec<u8>>, events: &[Event]) -> EntityReport {
        let mut asked = EntityReport::default();
        let decode = |(partition, bytes): (&Partition, &Vec<u8>)| {
            Some((*partition, PartitionState::decode(self.plan, bytes).ok()?))
        };
        let states: Vec<(Partition, PartitionState)> = stored.iter().filter_map(decode).collect();
        let Some(earliest) = horizon(self.plan, &states).filter(|_| self.left > 0) else { return asked };
        self.left -= 1;
        for at in self.instants(earliest) {
            let last = states.iter().map(|(partition, state)| (*partition, state.last_offset())).collect();
            let question = Question { at, last, too_early: false };
            let Ok(served) = answer(self.plan, &states, at) else { continue };
            asked.values += served.values.len() as u64;
            asked.telling += served.values.iter().filter(|value| tells(value)).count() as u64;
            asked.differences.extend(self.differences(&served, events, &question));
        }
        asked
    }

    /// The earliest that can be asked about, the first after every arrival, when windows are fullest, and two while they
    /// run empty.
    fn instants(&mut self, earliest: Time) -> [Time; 4] {
        let fullest = earliest.plus(self.plan.time_travel).next();
        [earliest, fullest, fullest.plus(self.later()), fullest.plus(self.later())]
    }

    /// At most the length of any one of the windows, so that short ones are not always asked about when they are empty.
    fn later(&mut self) -> Span {
        let longest = match self.plan.windows.choose(&mut self.random) {
            Some(Window::Sliding { length, .. }) => length.millis(),
            Some(Window::Lifetime) | None => 86_400_000,
        };
        Span::from_millis(self.random.random_range(0..=longest))
    }

    fn differences(&self, served: &Answer, events: &[Event], question: &Question) -> Vec<String> {
        let sees = |event: &&Event| oracle::sees(Visibility::AsServed, question.at, &question.last, event);
        let truth = oracle::answer(self.plan, &events.iter().filter(sees).collect::<Vec<_>>(), question.at);
        let trained = replay(self.plan, events, std::slice::from_ref(question), Visibility::AsServed);
        let others = [("the oracle", Some(&truth)), ("training", trained.first())];
        let differing = others.into_iter().filter(|(_, other)| *other != Some(served));
        differing.map(|(who, other)| self.describe(served, who, other)).collect()
    }

    fn describe(&self, served: &Answer, who: &str, other: Option<&Answer>) -> String {
        let at = served.at;
        let Some(other) = other else { return format!("{who} has no answer at {at}") };
        let pairs = served.values.iter().zip(&served.statuses).zip(other.values.iter().zip(&other.statuses));
        let features = self.plan.features.iter().zip(pairs);
        let differing = features.into_iter().find(|(_, (served, other))| served != other);
        differing.map_or_else(
            || format!("at {at} the newest event is {:?}, {who} says {:?}", served.newest, other.newest),
            |(feature, ((value, status), (their_value, their_status)))| {
                let name = &feature.name;
                format!("at {at} {name} is {value} ({status}), {who} says {their_value} ({their_status})")
            },
        )
    }
}
