//! Replay: the answers of a training set, from the same state that lookups are answered from.
//!
//! Events of one entity enter in the order in which they become visible, and each question asks the state at its
//! turn. So training values are computed by the same code as lookups, and cannot differ from them.

use std::collections::BTreeMap;

use crate::answer::{Answer, walk};
use crate::event::{Event, Offset, Partition, Stamp};
use crate::plan::FeaturePlan;
use crate::state::PartitionState;
use crate::time::Time;
use crate::visibility::Visibility;

/// What a training row asks about one entity.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Question {
    /// The label time: the instant that the label asks about.
    pub at: Time,
    /// What the logged lookup had seen, for [`Visibility::AsServed`]; unused for the others.
    pub last: BTreeMap<Partition, Offset>,
    /// Whether the logged lookup did not answer the view, for [`Visibility::AsServed`]; unused for the others.
    pub too_early: bool,
}

/// Answers questions about one entity from its events, which are in any order. Answers come in the questions'
/// order.
#[must_use]
pub fn replay(
    plan: &FeaturePlan,
    events: &[Event],
    questions: &[Question],
    visibility: Visibility,
) -> Vec<Answer> {
    let mut turns: Vec<usize> = (0..questions.len()).collect();
    turns.sort_by_key(|turn| questions[*turn].at);
    let mut answers = vec![None; questions.len()];
    let mut queue: Box<dyn Queue + '_> = match visibility {
        Visibility::AsServed => Box::new(SeenByToken::new(plan, events)),
        Visibility::AsKnown => Box::new(Timed::new(plan, events, |stamp| Seen {
            from: stamp.event_time.next().max(stamp.arrival_time),
            arrival: stamp.arrival_time,
        })),
        Visibility::EventTime => Box::new(Timed::new(plan, events, |stamp| Seen {
            from: stamp.event_time.next(),
            arrival: stamp.event_time,
        })),
    };
    for turn in turns {
        let question = &questions[turn];
        answers[turn] = Some(match visibility {
            Visibility::AsServed if question.too_early => Answer::too_early(plan, question.at),
            _ => queue.ask(question),
        });
    }
    answers.into_iter().flatten().collect()
}

/// Events waiting for the question that first sees them.
trait Queue {
    /// Admits what the question sees and answers it. Questions come in order of `at`.
    fn ask(&mut self, question: &Question) -> Answer;
}

/// One entity's state, as it was at the latest question.
struct Past<'p> {
    plan: &'p FeaturePlan,
    /// One list for all partitions: merged or apart, the answers are the same.
    state: PartitionState,
    /// How many tiles there may be before growing them pays.
    coarsen_at: usize,
}

impl<'p> Past<'p> {
    fn new(plan: &'p FeaturePlan) -> Self {
        Self { plan, state: PartitionState::new(), coarsen_at: 64 }
    }

    fn admit(&mut self, event: &Event, arrival_time: Time) {
        let stamp = Stamp { arrival_time, ..event.stamp };
        self.state.admit(self.plan, &stamp, &event.inputs);
        if self.state.tiles().len() > self.coarsen_at {
            self.state.coarsen(self.plan);
            self.coarsen_at = 64 + 2 * self.state.tiles().len();
        }
    }

    /// What a question sees had arrived by then, so that the horizon is never after it.
    fn ask(&mut self, at: Time) -> Answer {
        let partitions = [(Partition::FILE, std::mem::take(&mut self.state))];
        let answer = walk(self.plan, &partitions, at);
        let [(_, state)] = partitions;
        self.state = state;
        answer
    }
}

/// How an event comes into view.
#[derive(Clone, Copy)]
struct Seen {
    /// The first instant whose questions see it.
    from: Time,
    /// The arrival that moves the horizon.
    arrival: Time,
}

/// Visibility that is a matter of time: each event is seen from some instant on.
struct Timed<'a> {
    past: Past<'a>,
    /// By the instant from which the event is seen.
    waiting: std::iter::Peekable<std::vec::IntoIter<(Seen, &'a Event)>>,
}

impl<'a> Timed<'a> {
    fn new(plan: &'a FeaturePlan, events: &'a [Event], seen: impl Fn(&Stamp) -> Seen) -> Self {
        let mut waiting: Vec<_> = events.iter().map(|event| (seen(&event.stamp), event)).collect();
        waiting.sort_by_key(|(seen, event)| (seen.from, event.stamp.partition, event.stamp.offset));
        Self { past: Past::new(plan), waiting: waiting.into_iter().peekable() }
    }
}

impl Queue for Timed<'_> {
    fn ask(&mut self, question: &Question) -> Answer {
        while let Some((seen, event)) = self.waiting.next_if(|(seen, _)| seen.from <= question.at) {
            self.past.admit(event, seen.arrival);
        }
        self.past.ask(question.at)
    }
}

/// Visibility up to the offsets of a token.
struct SeenByToken<'a> {
    plan: &'a FeaturePlan,
    past: Past<'a>,
    /// By partition, then offset.
    events: BTreeMap<Partition, Vec<&'a Event>>,
    /// For each partition how many of its events the latest question reached.
    reached: BTreeMap<Partition, usize>,
    /// Reached, but not before the latest question's `at`.
    ahead: Vec<&'a Event>,
}

impl<'a> SeenByToken<'a> {
    fn new(plan: &'a FeaturePlan, events: &'a [Event]) -> Self {
        let mut by_partition: BTreeMap<Partition, Vec<&Event>> = BTreeMap::new();
        for event in events {
            by_partition.entry(event.stamp.partition).or_default().push(event);
        }
        by_partition.values_mut().for_each(|events| events.sort_by_key(|event| event.stamp.offset));
        Self {
            plan,
            past: Past::new(plan),
            events: by_partition,
            reached: BTreeMap::new(),
            ahead: Vec::new(),
        }
    }

    fn reaches(events: &[&Event], last: Option<&Offset>) -> usize {
        last.map_or(0, |last| events.partition_point(|event| event.stamp.offset <= *last))
    }
}

impl Queue for SeenByToken<'_> {
    fn ask(&mut self, question: &Question) -> Answer {
        let reach: BTreeMap<Partition, usize> = self
            .events
            .iter()
            .map(|(partition, events)| (*partition, Self::reaches(events, question.last.get(partition))))
            .collect();
        // Tokens of one entity grow with time, unless stores were lost in between: then start over.
        if reach
            .iter()
            .any(|(partition, count)| self.reached.get(partition).is_some_and(|before| before > count))
        {
            self.past = Past::new(self.plan);
            self.reached.clear();
            self.ahead.clear();
        }
        for (partition, events) in &self.events {
            let before = self.reached.get(partition).copied().unwrap_or(0);
            self.ahead.extend(&events[before..reach[partition]]);
        }
        self.reached = reach;
        let (seen, ahead) = self.ahead.iter().partition(|event| event.stamp.event_time < question.at);
        self.ahead = ahead;
        for event in Vec::<&Event>::from_iter(seen) {
            // The horizon never passes the question: with a smaller one, tiles are finer and answers the same.
            self.past.admit(event, event.stamp.arrival_time.min(question.at));
        }
        self.past.ask(question.at)
    }
}
