//! Applies events to states by the kernel's code: the one place where ingestion uses the semantics of a plan.

use tidemark_expr::ViewRows;
use tidemark_kernel::codec::DecodeError;
use tidemark_kernel::event::{Offset, Partition};
use tidemark_kernel::value::Value;
use tidemark_kernel::{FeaturePlan, Layout, PartitionState, Retention, Stamp, Time};
use tidemark_store::NewState;

use crate::decode::Batch;

/// How many events are applied to a state at most before its tiles grow: until then each of them may have a tile of its own.
const UNSETTLED: usize = 128;

/// The state that a store holds for an entity; the empty one, in the layout of its generation, where it holds none.
pub(crate) fn stored(
    plan: &FeaturePlan,
    layout: Layout,
    bytes: Option<&[u8]>,
) -> Result<PartitionState, DecodeError> {
    let Some(bytes) = bytes else { return Ok(PartitionState::with_layout(layout)) };
    let state = PartitionState::decode_lazily(plan, bytes)?;
    let expected = "the layout of the generation";
    if state.layout() == layout { Ok(state) } else { Err(DecodeError::Malformed { at: 0, expected }) }
}

/// The rows that a view sees of a batch, with what says when and where each of them was.
pub(crate) struct Rows<'b> {
    partition: Partition,
    offsets: &'b [Offset],
    event_times: &'b [i64],
    arrival_times: &'b [i64],
    seen: &'b ViewRows,
}

impl<'b> Rows<'b> {
    /// The rows of `batch` that are `seen`.
    pub(crate) fn of(batch: &'b Batch, seen: &'b ViewRows) -> Self {
        Self {
            partition: batch.partition,
            offsets: batch.offsets(),
            event_times: batch.event_times(),
            arrival_times: batch.arrival_times(),
            seen,
        }
    }

    /// Applies some of them, in order of offset, to the state of their entity. `inputs` is room to work in.
    pub(crate) fn apply(
        &self,
        plan: &FeaturePlan,
        state: &mut PartitionState,
        kept: &[usize],
        inputs: &mut Vec<Value>,
    ) {
        for kept in kept.chunks(UNSETTLED) {
            for &index in kept {
                let row = self.seen.rows[index];
                let stamp = Stamp {
                    partition: self.partition,
                    offset: self.offsets[row],
                    event_time: Time::from_millis(self.event_times[row]),
                    arrival_time: Time::from_millis(self.arrival_times[row]),
                };
                self.seen.values_into(index, inputs);
                state.apply(plan, &stamp, inputs);
            }
            if kept.len() == UNSETTLED {
                state.coarsen(plan);
            }
        }
    }
}

/// What to store of a state that has changed since it was loaded or stored.
pub(crate) fn changed(plan: &FeaturePlan, state: &mut PartitionState) -> NewState {
    // Tiles that no question can see go with the encoding, and then keep the state no longer.
    let change = state.change(plan);
    NewState::new(change, Retention::of(plan, state))
}

/// The whole state, where the store has forgotten what it had.
pub(crate) fn whole(plan: &FeaturePlan, state: &PartitionState) -> NewState {
    NewState::new(state.whole(plan), Retention::of(plan, state))
}

/// How long a state is needed that is stored in these bytes; none where they are none of the plan's, too: what is not
/// understood is left alone.
pub(crate) fn retention(plan: &FeaturePlan, bytes: &[u8]) -> Option<Retention> {
    Retention::of(plan, &PartitionState::decode_lazily(plan, bytes).ok()?)
}
