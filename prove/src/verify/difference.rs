//! Describes the difference between a stored state and the rebuilt one.

use tidemark_kernel::aggregate::State;
use tidemark_kernel::retention::is_out_of_sight;
use tidemark_kernel::state::Tile;
use tidemark_kernel::{Explain, FeaturePlan, PartitionState, Time};

/// What differs; none where the bytes are equal, or where the state may have been forgotten at `now`.
pub(super) fn of(
    plan: &FeaturePlan,
    stored: Option<&[u8]>,
    rebuilt: Option<&PartitionState>,
    now: Time,
) -> Option<String> {
    match (stored, rebuilt) {
        (None, None) => None,
        (None, Some(rebuilt)) if is_out_of_sight(plan, rebuilt, now) => None,
        (None, Some(_)) => Some("the state is missing".to_owned()),
        (Some(_), None) => Some("there is a state, but no event that it could be of".to_owned()),
        (Some(stored), Some(rebuilt)) => {
            let mut expected = rebuilt.clone();
            (stored != expected.encode(plan)).then(|| describe(plan, stored, &expected))
        }
    }
}

fn describe(plan: &FeaturePlan, stored: &[u8], rebuilt: &PartitionState) -> String {
    let stored = match PartitionState::decode(plan, stored) {
        Ok(stored) => stored,
        Err(error) => return format!("the stored bytes are no state of this view: {}", error.explained()),
    };
    if stored.layout() != rebuilt.layout() {
        let (stored, rebuilt) = (stored.layout() as u8, rebuilt.layout() as u8);
        return format!("its layout is {stored}, that of the generation is {rebuilt}");
    }
    if stored.last_offset() != rebuilt.last_offset() {
        let (stored, rebuilt) = (stored.last_offset(), rebuilt.last_offset());
        return format!("the last event applied is at offset {stored}, it should be {rebuilt}");
    }
    if stored.newest_arrival() != rebuilt.newest_arrival() {
        let (stored, rebuilt) = (stored.newest_arrival(), rebuilt.newest_arrival());
        return format!("the newest arrival is {stored}, it should be {rebuilt}");
    }
    let pairs = stored.tiles().iter().zip(rebuilt.tiles());
    let found = pairs.filter_map(|tiles| tile(plan, (&stored, tiles.0), (rebuilt, tiles.1))).next();
    found.unwrap_or_else(|| {
        format!("there are {} tiles, there should be {}", stored.tiles().len(), rebuilt.tiles().len())
    })
}

fn tile(
    plan: &FeaturePlan,
    (stored_state, stored): (&PartitionState, &Tile),
    (rebuilt_state, rebuilt): (&PartitionState, &Tile),
) -> Option<String> {
    let span = format!("[{}, {})", rebuilt.span.start, rebuilt.span.end);
    if stored.span != rebuilt.span {
        return Some(format!(
            "there is a tile [{}, {}) in place of {span}",
            stored.span.start, stored.span.end
        ));
    }
    if stored.newest != rebuilt.newest {
        return Some(format!(
            "the newest event in tile {span} is {}, it should be {}",
            stored.newest, rebuilt.newest
        ));
    }
    let (stored, rebuilt) = (stored_state.states(plan, stored), rebuilt_state.states(plan, rebuilt));
    let mut states = stored.iter().zip(rebuilt.iter()).enumerate();
    let (index, (stored, rebuilt)) = states.find(|(_, (stored, rebuilt))| stored != rebuilt)?;
    Some(format!("in tile {span}, {}", aggregate(plan, index, stored, rebuilt)))
}

/// An aggregate under the name of the first feature that is finished from it.
fn aggregate(plan: &FeaturePlan, index: usize, stored: &State, rebuilt: &State) -> String {
    let Some(feature) = plan.features.iter().find(|feature| feature.aggregate == index) else {
        return format!("aggregate {index} differs");
    };
    let (stored, rebuilt) = (stored.finish(feature.function), rebuilt.finish(feature.function));
    let input = plan.aggregates[index].input.as_ref().map_or("*", |input| input.sql.as_str());
    let name = format!("{} of {input} (as in {})", feature.function, feature.name);
    if stored == rebuilt {
        format!("{name} differs in what it keeps")
    } else {
        format!("{name} is {stored}, it should be {rebuilt}")
    }
}
