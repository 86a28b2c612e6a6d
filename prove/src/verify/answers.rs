//! Random questions to stored states, and the answers of training and of the oracle beside them.

use std::collections::BTreeMap;

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use tidemark_kernel::answer::{answer, horizon};
use tidemark_kernel::replay::{Question, replay};
use tidemark_kernel::{Answer, Event, FeaturePlan, Log, LogState, Span, Visibility, Window, oracle};

/// How many instants each chosen entity is asked about.
const QUESTIONS: usize = 3;

/// Asks the first so many entities that have a state.
pub(super) struct Asking<'p> {
    plan: &'p FeaturePlan,
    left: usize,
    random: ChaCha8Rng,
}

/// What asking one entity gave.
#[derive(Debug, Default)]
pub(super) struct Asked {
    pub(super) values: u64,
    pub(super) differences: Vec<String>,
}

impl<'p> Asking<'p> {
    pub(super) fn new(plan: &'p FeaturePlan, entities: usize, seed: u64) -> Self {
        Self { plan, left: entities, random: ChaCha8Rng::seed_from_u64(seed) }
    }

    /// Asks about an entity with these stored states, which are of these events.
    pub(super) fn ask(&mut self, stored: &BTreeMap<Log, Vec<u8>>, events: &[Event]) -> Asked {
        let mut asked = Asked::default();
        let decode = |(log, bytes): (&Log, &Vec<u8>)| Some((*log, LogState::decode(self.plan, bytes).ok()?));
        let states: Vec<(Log, LogState)> = stored.iter().filter_map(decode).collect();
        let Some(earliest) = horizon(self.plan, &states).filter(|_| self.left > 0) else { return asked };
        self.left -= 1;
        for _ in 0..QUESTIONS {
            let at = earliest.plus(self.later());
            let last = states.iter().map(|(log, state)| (*log, state.last_offset())).collect();
            let question = Question { at, last };
            let Ok(served) = answer(self.plan, &states, at) else { continue };
            asked.values += served.values.len() as u64;
            asked.differences.extend(self.differences(&served, events, &question));
        }
        asked
    }

    /// A length of time to ask after the horizon: from none to the length of the longest window.
    fn later(&mut self) -> Span {
        let length = |window: &Window| match window {
            Window::Sliding { length, .. } => length.millis(),
            Window::Lifetime => 86_400_000,
        };
        let longest = self.plan.windows.iter().map(length).max().unwrap_or(1);
        let bound = self.random.random_range(0..=longest);
        Span::from_millis(self.random.random_range(0..=bound))
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
