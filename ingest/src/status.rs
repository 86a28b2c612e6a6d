//! Where every source and view stands.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::{RecordBatch, cast::AsArray};
use arrow::datatypes::{Int32Type, TimestampMillisecondType};
use futures::TryStreamExt;
use tidemark_kernel::{FeaturePlan, Log, Position, Time};
use tidemark_offline::EventTable;
use tidemark_offline::table::layout;
use tidemark_store::{Generation, Sizes};

use crate::error::IngestError;
use crate::pipeline::{Pipeline, Shared};

/// Where every source and view stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Status {
    /// Every source, by name.
    pub sources: Vec<SourceStatus>,
    /// Every view, as declared.
    pub views: Vec<ViewStatus>,
}

/// Where a source stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SourceStatus {
    /// Its name.
    pub source: String,
    /// Its logs, those without any record left out.
    pub logs: BTreeMap<Log, LogStatus>,
}

/// Where a log of a source stands in the event tables.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LogStatus {
    /// The next record to commit.
    pub position: Position,
    /// The next record that will be appended, where we keep the log ourselves and its end is known.
    pub end: Option<Position>,
    /// How many events are in.
    pub events: u64,
    /// How many dead letters are in.
    pub dead_letters: u64,
    /// The greatest event time.
    pub newest: Option<Time>,
}

/// Where a view stands in the online store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ViewStatus {
    /// Its name.
    pub view: String,
    /// Its source.
    pub source: String,
    /// The generation that answers lookups, if there is one.
    pub live: Option<Generation>,
    /// Whether that generation is of the view as it is defined now.
    pub current: bool,
    /// For each log, the position that all of its buckets have reached.
    pub positions: BTreeMap<Log, Position>,
    /// How much it holds.
    pub sizes: Sizes,
}

impl Status {
    pub(crate) async fn read(
        pipelines: impl Iterator<Item = &Pipeline>,
        plans: &[Arc<FeaturePlan>],
        shared: &Shared,
    ) -> Result<Self, IngestError> {
        let (mut sources, mut views) = (Vec::new(), Vec::new());
        for pipeline in pipelines {
            sources.push(source(pipeline).await?);
        }
        for plan in plans {
            views.push(view(plan, shared).await?);
        }
        Ok(Self { sources, views })
    }
}

async fn source(pipeline: &Pipeline) -> Result<SourceStatus, IngestError> {
    let (events, dead_letters) = (pipeline.tables().events(), pipeline.tables().dead_letters());
    let mut logs: BTreeMap<Log, LogStatus> = BTreeMap::new();
    for (log, position) in events.positions() {
        logs.entry(*log).or_default().position = *position;
    }
    for (log, end) in pipeline.ends()? {
        if end > Position::START {
            logs.entry(log).or_default().end = (end.0 < i64::MAX).then_some(end);
        }
    }
    each(events, &[layout::LOG, layout::EVENT_TIME], |log, time| {
        let status = logs.entry(log).or_default();
        status.events += 1;
        status.newest = status.newest.max(time);
    })
    .await?;
    each(dead_letters, &[layout::LOG], |log, _| logs.entry(log).or_default().dead_letters += 1).await?;
    Ok(SourceStatus { source: pipeline.source().name.clone(), logs })
}

/// Calls `row` for each row of a table, with its log and, if asked for, its event time.
async fn each(
    table: &EventTable,
    columns: &[&str],
    mut row: impl FnMut(Log, Option<Time>),
) -> Result<(), IngestError> {
    let mut batches = table.scan(columns, &BTreeMap::new(), table.positions())?;
    while let Some(batch) = batches.try_next().await? {
        let times = times(&batch);
        let logs = batch.column_by_name(layout::LOG).and_then(|logs| logs.as_primitive_opt::<Int32Type>());
        for (index, log) in logs.map_or(&[][..], |logs| logs.values()).iter().enumerate() {
            row(Log(*log), times.get(index).copied().map(Time::from_millis));
        }
    }
    Ok(())
}

fn times(batch: &RecordBatch) -> &[i64] {
    let times = batch.column_by_name(layout::EVENT_TIME);
    let times = times.and_then(|times| times.as_primitive_opt::<TimestampMillisecondType>());
    times.map_or(&[], |times| times.values())
}

async fn view(plan: &FeaturePlan, shared: &Shared) -> Result<ViewStatus, IngestError> {
    let live = shared.store.live(&plan.view).await?;
    let (mut positions, mut sizes) = (BTreeMap::new(), Sizes::default());
    if let Some(live) = &live {
        let stored = shared.store.positions(live).await?;
        positions = stored
            .into_iter()
            .filter_map(|(log, buckets)| Some((log, *buckets.values().min()?)))
            .filter(|(_, position)| *position > Position::START)
            .collect();
        sizes = shared.store.sizes(live).await?;
    }
    let current = live.as_ref().is_some_and(|live| live.fingerprint == plan.fingerprint());
    Ok(ViewStatus { view: plan.view.clone(), source: plan.source.clone(), live, current, positions, sizes })
}
