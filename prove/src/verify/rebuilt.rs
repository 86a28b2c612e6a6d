//! States rebuilt from events, by the kernel's own code.

use std::collections::BTreeMap;

use tidemark_kernel::{Event, FeaturePlan, Layout, Log, LogState, Position};
use tidemark_offline::Positions;

/// What the events of one entity make of its states.
pub(super) struct Rebuilt {
    /// Its state for each log that gave it an event.
    pub(super) states: BTreeMap<Log, LogState>,
    /// The events that the store has applied.
    pub(super) events: Vec<Event>,
}

impl Rebuilt {
    /// Applies, log by log in order of offset, what the store has applied of an entity's events, to states in the layout of the
    /// stored ones. `standing` is where the entity's bucket stands.
    pub(super) fn new(
        plan: &FeaturePlan,
        layout: Layout,
        standing: &Positions,
        mut events: Vec<Event>,
    ) -> Self {
        let stands = |log: &Log| standing.get(log).copied().unwrap_or(Position::START);
        events.retain(|event| stands(&event.stamp.log).covers(event.stamp.offset));
        events.sort_by_key(|event| (event.stamp.log, event.stamp.offset));
        let mut states: BTreeMap<Log, LogState> = BTreeMap::new();
        for event in &events {
            let state = states.entry(event.stamp.log).or_insert_with(|| LogState::with_layout(layout));
            state.apply(plan, &event.stamp, &event.inputs);
        }
        states.values_mut().for_each(|state| state.settle(plan));
        Self { states, events }
    }
}
