//! The three promises of `docs/exactly-once.md`, checked once everything is in.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use arrow::array::{AsArray, RecordBatch};
use arrow::compute::{concat_batches, sort_to_indices, take_record_batch};
use arrow::datatypes::{Int32Type, Int64Type, SchemaRef, TimestampMillisecondType};
use tidemark_ingest::decode::Batch;
use tidemark_ingest::{Advance, Memory, ViewWriter};
use tidemark_kernel::{FeaturePlan, Fingerprint, Partition, Position, ServiceView, Span, Stamp, Time};
use tidemark_offline::table::layout;
use tidemark_offline::{Positions, TableKind};
use tidemark_prove::truth::{self, ViewHistory};
use tidemark_store::{EntityStates, MemoryStore, OnlineStore};

use crate::machine::Simulated;
use crate::run::{self, Looked, Project};
use crate::script::Kind;

/// Fails with the first promise that is broken.
pub(crate) async fn promises(project: &Project) -> Result<(), String> {
    let payments = Source::read(project, "payments");
    let clicks = Source::read(project, "clicks");
    topic_records_are_in_one_place(project, &payments)?;
    clicks_are_in_one_place(project, &clicks)?;
    for plan in &project.definitions().views {
        states_are_what_events_amount_to(project, plan, of(plan, &payments, &clicks)).await?;
    }
    let before = project.truth.lock().lookups.len();
    for _ in 0..10 {
        run::ask(project).await;
    }
    if project.truth.lock().lookups.len() == before {
        return Err("no lookup is answered after everything is in".into());
    }
    lookups_are_what_the_oracle_says(project, &payments, &clicks)
}

fn of<'s>(plan: &FeaturePlan, payments: &'s Source, clicks: &'s Source) -> &'s Source {
    if plan.source == "payments" { payments } else { clicks }
}

/// What the tables hold of a source.
struct Source {
    schema: SchemaRef,
    events: Vec<RecordBatch>,
    positions: Positions,
    dead: Vec<(Partition, i64)>,
}

impl Source {
    fn read(project: &Project, name: &str) -> Self {
        let plan = project.definitions().source(name);
        let schema = layout::events(plan);
        let table = project.offline.version(name, TableKind::Events);
        let events = table.as_ref().map(|table| table.rows(&schema)).unwrap_or_default();
        let positions = table.map(|table| table.positions.clone()).unwrap_or_default();
        let dead = project.offline.version(name, TableKind::DeadLetters);
        let dead = dead.map(|table| table.rows(&layout::dead_letters())).unwrap_or_default();
        let dead = dead.iter().flat_map(places).collect();
        Self { schema, events, positions, dead }
    }

    /// Where each event is, with its id.
    fn ids(&self) -> Vec<((Partition, i64), i64)> {
        let of = |rows: &RecordBatch| {
            let ids = rows.column_by_name("id").expect("a column").as_primitive::<Int64Type>().clone();
            places(rows).into_iter().zip(ids.values().to_vec()).collect::<Vec<_>>()
        };
        self.events.iter().flat_map(of).collect()
    }
}

fn places(rows: &RecordBatch) -> Vec<(Partition, i64)> {
    let partitions = rows.column_by_name(layout::LOG).expect("a column").as_primitive::<Int32Type>();
    let offsets = rows.column_by_name(layout::OFFSET).expect("a column").as_primitive::<Int64Type>();
    partitions
        .values()
        .iter()
        .zip(offsets.values())
        .map(|(partition, offset)| (Partition(*partition), *offset))
        .collect()
}

/// Each place once, of an event or of a dead letter.
fn once(source: &Source) -> Result<BTreeMap<(Partition, i64), Option<i64>>, String> {
    let mut found = BTreeMap::new();
    let events = source.ids().into_iter().map(|(place, id)| (place, Some(id)));
    let dead = source.dead.iter().map(|place| (*place, None));
    for ((partition, offset), id) in events.chain(dead) {
        if found.insert((partition, offset), id).is_some() {
            return Err(format!("{partition} {offset} is there twice"));
        }
    }
    Ok(found)
}

/// Whether a record was found as what it is: as an event with its id, or as a dead letter.
fn is_right(id: i64, kind: Kind, found: Option<Option<i64>>) -> bool {
    match (kind, found) {
        (_, None) => false,
        (Kind::Event, found) => found == Some(Some(id)),
        (Kind::Broken, found) => found == Some(None),
        (Kind::Ahead, Some(found)) => found.is_none_or(|found| found == id),
    }
}

fn topic_records_are_in_one_place(project: &Project, payments: &Source) -> Result<(), String> {
    let mut found = once(payments).map_err(|twice| format!("payments: {twice}"))?;
    let truth = project.truth.lock();
    // Those of one id, in order of offset, as far as they are events whenever they are read.
    let mut events: BTreeMap<(Partition, i64), Vec<Sent>> = BTreeMap::new();
    for (partition, offset, known) in &truth.topic {
        let found = found.remove(&(*partition, *offset));
        let is_compacted = truth.compacted.contains(&(*partition, *offset));
        let holds = match known {
            Some((id, Kind::Event)) if project.is_unique => {
                let sent = Sent { is_found: found.is_some(), is_compacted };
                events.entry((*partition, *id)).or_default().push(sent);
                found.is_none_or(|found| found == Some(*id))
            }
            Some((id, kind)) => is_right(*id, *kind, found) || (found.is_none() && is_compacted),
            None => found.is_none(),
        };
        if !holds {
            return Err(format!("payments {partition} {offset}: {known:?} was found as {found:?}"));
        }
    }
    for (event, sent) in events {
        let count = sent.iter().filter(|sent| sent.is_found).count();
        let holds = match sent.iter().all(|sent| sent.is_compacted) {
            true => count <= 1,
            // Only one that was removed before it was read makes way for a later one.
            false => count == 1 && (sent[0].is_found || sent[0].is_compacted),
        };
        if !holds {
            return Err(format!("payments {event:?} was sent and found as {sent:?}"));
        }
    }
    found.into_keys().next().map_or(Ok(()), |place| Err(format!("payments: nothing was ever at {place:?}")))
}

/// What became of a record with an id.
#[derive(Debug)]
struct Sent {
    is_found: bool,
    is_compacted: bool,
}

fn clicks_are_in_one_place(project: &Project, clicks: &Source) -> Result<(), String> {
    let found = once(clicks).map_err(|twice| format!("clicks: {twice}"))?;
    let truth = project.truth.lock();
    let rows = truth.rows.iter().zip(0..).map(|((id, kind), offset)| (Partition::FILE, offset, *id, *kind));
    let pushed =
        truth.pushed.iter().filter_map(|(id, kind, offset)| Some((Partition::PUSH, (*offset)?, *id, *kind)));
    for (partition, offset, id, kind) in rows.chain(pushed) {
        let found = found.get(&(partition, offset)).copied();
        if !is_right(id, kind, found) {
            return Err(format!("clicks {partition} {offset}: {id} {kind:?} was found as {found:?}"));
        }
    }
    let rows = found.keys().filter(|(partition, _)| *partition == Partition::FILE).count();
    if rows != truth.rows.len() {
        return Err(format!("clicks: {rows} rows of files were found, {} were taken in", truth.rows.len()));
    }
    // A push that was not acknowledged may be in or not, but not twice, and nothing else may be.
    let pushed: BTreeSet<i64> = truth.pushed.iter().map(|(id, _, _)| *id).collect();
    let mut ids = BTreeSet::new();
    for ((partition, offset), id) in &found {
        if let Some(id) = id
            && (!ids.insert(*id) || *partition == Partition::PUSH && !pushed.contains(id))
        {
            return Err(format!(
                "clicks {partition} {offset}: record {id} is there twice, or was never sent"
            ));
        }
    }
    Ok(())
}

/// The events of a source, partition by partition, in order of offset.
fn batches(source: &Source) -> Vec<Arc<Batch>> {
    let all = concat_batches(&source.schema, &source.events).expect("one schema");
    let offsets = all.column_by_name(layout::OFFSET).expect("a column");
    let order = sort_to_indices(offsets, None, None).expect("numbers");
    let all = take_record_batch(&all, &order).expect("indices of rows");
    let partitions: Vec<Partition> = places(&all).into_iter().map(|(partition, _)| partition).collect();
    let batch = |(partition, to): (&Partition, &Position)| {
        let of = partitions.iter().map(|other| Some(other == partition)).collect();
        let events = arrow::compute::filter_record_batch(&all, &of).expect("one flag for each row");
        Arc::new(Batch {
            partition: *partition,
            from: Position::START,
            to: *to,
            events,
            dead: Vec::new(),
            epoch: None,
        })
    };
    source.positions.iter().map(batch).collect()
}

async fn states_are_what_events_amount_to(
    project: &Project,
    plan: &Arc<FeaturePlan>,
    source: &Source,
) -> Result<(), String> {
    let store = Arc::new(MemoryStore::new(Arc::new(Time::default)));
    let starts = source.positions.keys().map(|partition| (*partition, Position::START)).collect();
    let failed = |error: &dyn std::fmt::Display| format!("rebuilding {}: {error}", plan.view);
    let begun = store.begin(&plan.view, plan.new_generation_fingerprint(), &starts, None).await;
    let generation = begun.map_err(|error| failed(&error))?;
    let host = Simulated::host(&project.world, Span::from_millis(0));
    let shared: Arc<dyn OnlineStore> = store.clone();
    let writer = ViewWriter::open(
        host,
        Arc::clone(plan),
        shared,
        generation.clone(),
        Arc::default(),
        Memory::default(),
    )
    .await;
    let writer = writer.map_err(|error| failed(&error))?.ok_or("a new generation is not whole")?;
    for batch in batches(source) {
        let advanced = writer.advance(&batch).await.map_err(|error| failed(&error))?;
        if advanced != Advance::Done {
            return Err(failed(&format!("{advanced:?}")));
        }
    }
    let expected = entities(&store, &generation).await;
    let live = project.store.live(&plan.view).await.ok().flatten().ok_or("a view is not live")?;
    let found = entities(&project.store, &live).await;
    if expected == found {
        return Ok(());
    }
    let differs = expected.iter().find(|entity| !found.contains(entity));
    let differs = differs.or_else(|| found.iter().find(|entity| !expected.contains(entity)));
    Err(format!(
        "view {} ({live}): the state of {:?} is not what events amount to",
        plan.view,
        differs.map(|entity| &entity.key)
    ))
}

async fn entities(store: &MemoryStore, generation: &tidemark_store::Generation) -> Vec<EntityStates> {
    let mut pages = store.entities(generation).await.expect("a generation");
    let mut all = Vec::new();
    loop {
        let page = pages.next_page().await.expect("a page");
        if page.is_empty() {
            return all;
        }
        all.extend(page);
    }
}

fn history(plan: &Arc<FeaturePlan>, source: &Source) -> Result<ViewHistory, String> {
    let mut history = ViewHistory::new(Arc::clone(plan));
    for batch in batches(source) {
        let times = |name: &str| {
            let column = batch.events.column_by_name(name).expect("a column");
            column.as_primitive::<TimestampMillisecondType>().values().to_vec()
        };
        let times = times(layout::EVENT_TIME).into_iter().zip(times(layout::ARRIVAL_TIME));
        let stamps = batch.offsets().iter().zip(times).map(|(offset, (event, arrival))| Stamp {
            partition: batch.partition,
            offset: *offset,
            event_time: Time::from_millis(event),
            arrival_time: Time::from_millis(arrival),
        });
        history.add(&batch.events, &stamps.collect::<Vec<_>>()).map_err(|error| error.to_string())?;
    }
    Ok(history)
}

fn lookups_are_what_the_oracle_says(
    project: &Project,
    payments: &Source,
    clicks: &Source,
) -> Result<(), String> {
    let mut histories: BTreeMap<(String, Fingerprint), ViewHistory> = BTreeMap::new();
    let mut truth = project.truth.lock();
    let lookups = std::mem::take(&mut truth.lookups);
    // Before another version of the source came into force, records were served that have been read again since.
    let version = project.definitions().source("payments").version();
    let is_of_now = |view: &ServiceView| view.plan.source_version.is_none_or(|of_plan| of_plan == version);
    let lookups = lookups
        .iter()
        .filter(|looked| looked.readings == truth.readings && looked.service.views.iter().all(is_of_now));
    for Looked { service, asked, token, answer, .. } in lookups {
        project.world.count("lookup compared");
        let mut answers = Vec::new();
        for (view, key) in service.views.iter().zip(truth::entities(service, asked)) {
            let plan = &view.plan;
            let of_plan = (plan.view.clone(), plan.fingerprint());
            if !histories.contains_key(&of_plan) {
                histories.insert(of_plan.clone(), history(plan, of(plan, payments, clicks))?);
            }
            let history = &histories[&of_plan];
            answers.push(history.served(key.as_ref(), token.at, &token.views[&view.role]));
        }
        let expected = truth::assemble(service, asked, &answers).map_err(|error| error.to_string())?;
        if expected != *answer {
            return Err(format!(
                "a lookup of {asked:?} at {} with {token:?} answered {answer:?}, the oracle says {expected:?}",
                token.at
            ));
        }
    }
    Ok(())
}
