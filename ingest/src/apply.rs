//! The plan carried out on states: the one place where ingestion touches what a plan means.

use tidemark_expr::ViewRows;
use tidemark_kernel::codec::DecodeError;
use tidemark_kernel::{FeaturePlan, LogState, Stamp, Time};

use crate::decode::Batch;

/// The state that a store holds for an entity; the empty one where it holds none.
pub(crate) fn stored(plan: &FeaturePlan, bytes: Option<&[u8]>) -> Result<LogState, DecodeError> {
    bytes.map_or_else(|| Ok(LogState::new()), |bytes| LogState::decode(plan, bytes))
}

/// Applies some of the rows that a view sees of a batch, in order of offset, to the state of their entity.
pub(crate) fn apply(
    plan: &FeaturePlan,
    state: &mut LogState,
    batch: &Batch,
    seen: &ViewRows,
    kept: &[usize],
) {
    let (offsets, event_times, arrival_times) = (batch.offsets(), batch.event_times(), batch.arrival_times());
    for &index in kept {
        let row = seen.rows[index];
        let stamp = Stamp {
            log: batch.log,
            offset: offsets[row],
            event_time: Time::from_millis(event_times[row]),
            arrival_time: Time::from_millis(arrival_times[row]),
        };
        state.apply(plan, &stamp, &seen.values(index));
    }
}

/// The bytes to store.
pub(crate) fn bytes(plan: &FeaturePlan, state: &mut LogState) -> Vec<u8> {
    state.encode(plan)
}
