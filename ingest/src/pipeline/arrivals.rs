//! Warnings about arrivals that are ahead of the clock.

use std::collections::BTreeMap;
use std::sync::Arc;

use futures::TryStreamExt;
use tidemark_kernel::event::Offset;
use tidemark_kernel::value::arrow::value_at;
use tidemark_kernel::{Partition, PartitionKind, Position, SourcePlan, Time, Value};
use tidemark_offline::table::{PartitionStatistics, layout};
use tidemark_offline::{OfflineTable, TableError};

use super::Pipeline;
use crate::decode::{Batch, RecordPlace};
use crate::feed::{SourceFeed, TopicFeed};
use crate::health::Ahead;

impl Pipeline {
    /// Looks at the arrivals of a batch that every view has taken.
    pub(super) fn watch_arrivals(&self, batch: &Batch) {
        let arrivals = batch.arrival_times().iter().zip(batch.offsets());
        let Some((arrival, offset)) = arrivals.max_by_key(|(arrival, _)| **arrival) else { return };
        let (arrival, now) = (Time::from_millis(*arrival), self.now());
        if arrival > limit(&self.source, now) {
            let place = place(self.topic_feed.as_ref(), batch.partition, *offset);
            self.health.runs_ahead(Ahead { arrival, now, place });
        }
    }
}

/// The newest arrival among the events, of which so much is held, where it is ahead of `now` by more than the source
/// allows for.
///
/// The rows of one partition are read, two columns of them, but only where there is such an arrival.
pub(crate) async fn newest_ahead(
    feed: &SourceFeed,
    events: &dyn OfflineTable,
    held: &BTreeMap<Partition, PartitionStatistics>,
    now: Time,
) -> Result<Option<Ahead>, TableError> {
    let arrivals = held.iter().filter_map(|(partition, held)| Some((held.newest_arrival?, *partition, held)));
    let newest = arrivals.max_by_key(|(arrival, ..)| *arrival);
    let Some((arrival, partition, held)) = newest.filter(|(arrival, ..)| *arrival > limit(&feed.source, now))
    else {
        return Ok(None);
    };
    let at = |position| BTreeMap::from([(partition, position)]);
    let columns = [layout::OFFSET, layout::ARRIVAL_TIME];
    let mut rows = events.scan(&columns, &at(Position(held.first)), &at(Position::after(held.last)))?;
    while let Some(rows) = rows.try_next().await? {
        let column = |name| rows.column_by_name(name).map(Arc::clone);
        let Some((offsets, arrivals)) = column(layout::OFFSET).zip(column(layout::ARRIVAL_TIME)) else {
            break;
        };
        let is_newest = |row: &usize| value_at(&arrivals, *row) == Value::Timestamp(arrival);
        let row = (0..rows.num_rows()).find(is_newest);
        if let Some(Value::Int64(offset)) = row.map(|row| value_at(&offsets, row)) {
            return Ok(Some(Ahead { arrival, now, place: place(feed.topic.as_ref(), partition, offset) }));
        }
    }
    Ok(None)
}

/// Up to where arrivals may be ahead.
fn limit(source: &SourcePlan, now: Time) -> Time {
    now.plus(source.max_arrival_ahead.unwrap_or(SourcePlan::DEFAULT_MAX_ARRIVAL_AHEAD))
}

/// How the place of an event is named, which is known by its offset.
fn place(topic: Option<&TopicFeed>, partition: Partition, offset: Offset) -> String {
    match (partition.kind(), topic) {
        (PartitionKind::Shared(partition), Some(feed)) => {
            RecordPlace::Partition(feed.topic.as_str().into(), partition).at(offset)
        }
        (PartitionKind::Push, _) => RecordPlace::Push.at(offset),
        (PartitionKind::File | PartitionKind::Retractions | PartitionKind::Shared(_), _) => {
            format!("partition {partition} offset {offset}")
        }
    }
}
