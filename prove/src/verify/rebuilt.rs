//! Rebuilds states from events, by the kernel's code.

use std::collections::BTreeMap;

use tidemark_kernel::{Event, FeaturePlan, Layout, Partition, PartitionState, Position};
use tidemark_offline::Positions;

/// What the events of one entity make of its states.
pub(super) struct Rebuilt {
    /// Its state for each partition that gave it an event.
    pub(super) states: BTreeMap<Partition, PartitionState>,
    /// The events that the store has applied.
    pub(super) events: Vec<Event>,
}

impl Rebuilt {
    /// Applies, partition by partition in order of offset, what the store has applied of an entity's events, to states
    /// in the layout of the stored ones. `standing` holds the positions of the entity's bucket.
    pub(super) fn new(
        plan: &FeaturePlan,
        layout: Layout,
        standing: &Positions,
        mut events: Vec<Event>,
    ) -> Self {
        let position_in = |partition: &Partition| standing.get(partition).copied().unwrap_or(Position::START);
        events.retain(|event| position_in(&event.stamp.partition).covers(event.stamp.offset));
        events.sort_by_key(|event| (event.stamp.partition, event.stamp.offset));
        let mut states: BTreeMap<Partition, PartitionState> = BTreeMap::new();
        for event in &events {
            let state =
                states.entry(event.stamp.partition).or_insert_with(|| PartitionState::with_layout(layout));
            state.apply(plan, &event.stamp, &event.inputs);
        }
        states.values_mut().for_each(|state| state.coarsen(plan));
        Self { states, events }
    }
}
