//! The checks after every fault: each record of the topic is once in the right table, nothing else is in any, and both
//! stores are at the same positions.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Debug;
use std::sync::Arc;

use arrow::array::{Array, AsArray, RecordBatch};
use arrow::datatypes::{DataType, Float64Type, Int32Type, Int64Type, TimestampMillisecondType};
use futures::TryStreamExt;
use tidemark_kernel::{Partition, Position, SourcePlan, Time, Value};
use tidemark_offline::{EventTable, Location, Positions};
use tidemark_online::Lookups;
use tidemark_registry::Repo;
use tidemark_store::{BUCKETS, OnlineStore, RedisConfig, RedisStore};
use tokio::runtime::Runtime;

use crate::traffic::{Event, PartitionOffset, Totals};
use crate::world::{PROJECT, World};

/// The positions of the tables and the store of a world.
#[derive(Debug)]
pub(crate) struct Standing {
    /// In `events`, the partitions alone.
    pub(crate) events: Positions,
    /// For each view, in every bucket of its live generation.
    pub(crate) views: BTreeMap<String, BTreeMap<Partition, Vec<Position>>>,
}

impl Standing {
    /// None where something is missing still, or is being switched.
    pub(crate) fn read(world: &World<'_>) -> Option<Self> {
        runtime().block_on(async {
            let repo = repo(world);
            let events = EventTable::open(&location(world), source(&repo)).await.ok()?;
            let events = events.positions().iter().filter(|(partition, _)| partition.0 >= 0);
            let events = events.map(|(partition, position)| (*partition, *position)).collect();
            let store = open(world).await?;
            let mut views = BTreeMap::new();
            for name in repo.views.keys() {
                let live = store.live(name).await.ok()??;
                let positions = store.positions(&live).await.ok()?.into_iter();
                let positions = positions.filter(|(partition, _)| partition.0 >= 0);
                let positions =
                    positions.map(|(partition, buckets)| (partition, buckets.into_values().collect()));
                views.insert(name.clone(), positions.collect());
            }
            Some(Self { events, views })
        })
    }

    /// Whether both stores are where the topic ends.
    pub(crate) fn is_at(&self, ends: &BTreeMap<i32, (i64, i64)>) -> bool {
        let at_end = |(partition, (_, end)): (&i32, &(i64, i64))| {
            self.events.get(&Partition(*partition)).is_some_and(|position| position.0 == *end)
        };
        ends.iter().all(at_end) && self.is_level()
    }

    /// Whether every view has some records.
    pub(crate) fn has_records_in_views(&self) -> bool {
        let has_some = |positions: &Vec<Position>| positions.iter().any(|at| *at > Position::START);
        self.views.values().all(|view| view.values().any(has_some))
    }

    /// Whether no view has a record that `events` lacks.
    pub(crate) fn views_follow_events(&self) -> bool {
        let at = |partition| self.events.get(partition).copied().unwrap_or(Position::START);
        let partitions = self.views.values().flatten();
        partitions
            .into_iter()
            .all(|(partition, buckets)| buckets.iter().all(|position| *position <= at(partition)))
    }

    /// Whether every bucket of every view is where `events` is.
    pub(crate) fn is_level(&self) -> bool {
        let level = |buckets: Option<&Vec<Position>>, position: &Position| match buckets {
            Some(buckets) => buckets.len() == usize::from(BUCKETS) && buckets.iter().all(|at| at == position),
            None => false,
        };
        let mut views = self.views.values();
        views.all(|view| self.events.iter().all(|(partition, position)| level(view.get(partition), position)))
    }
}

/// Both tables hold exactly what was produced, Redis is at their positions, and it answers with what they amount to.
#[track_caller]
pub(crate) fn check(world: &World<'_>) {
    let model = world.model.lock().clone();
    let runtime = runtime();
    let repo = repo(world);
    let (events, dead_letters) = runtime.block_on(tables(world, source(&repo)));
    same("events", &model.events(), events);
    same("dead letters", &model.dead_letters(), dead_letters);

    let standing = Standing::read(world).expect("everything is there");
    assert!(standing.is_level(), "the stores are at different places: {standing:#?}");

    let users = model.by_user().into_iter().map(|(user, totals)| (Value::Int64(user), totals));
    runtime.block_on(answers(world, &repo, "users", "user_id", users.collect()));
    let shops = model.by_shop().into_iter().map(|(shop, totals)| (Value::String(shop.into()), totals));
    runtime.block_on(answers(world, &repo, "shops", "shop", shops.collect()));
}

/// Lets `events` say which of the records that are far ahead were read as events: by whom they were read is a matter of
/// the moment.
pub(crate) fn decide_ahead(world: &World<'_>) {
    let (events, _) = runtime().block_on(tables(world, source(&repo(world))));
    let events: BTreeSet<PartitionOffset> = events.into_iter().map(|(place, _)| place).collect();
    world.model.lock().decide_ahead_of_clock(|place| events.contains(&place));
}

/// Rows of `events` and `dead_letters`.
async fn tables(
    world: &World<'_>,
    source: &SourcePlan,
) -> (Vec<(PartitionOffset, Event)>, Vec<(PartitionOffset, String)>) {
    let events = EventTable::open(&location(world), source).await.expect("events");
    let columns = ["user_id", "trace", "produced_at", "shop", "amount", "at", "_log", "_offset"];
    let events = rows(&events, &columns).await.iter().flat_map(events_of).collect();
    let dead_letters = EventTable::open_dead_letters(&location(world), source).await.expect("dead letters");
    let dead_letters = rows(&dead_letters, &["reason", "_log", "_offset"]).await;
    (events, dead_letters.iter().flat_map(dead_letters_of).collect())
}

async fn rows(table: &EventTable, columns: &[&str]) -> Vec<RecordBatch> {
    let rows = table.scan(columns, &Positions::new(), table.positions()).expect("a scan");
    rows.try_collect().await.expect("rows")
}

fn events_of(batch: &RecordBatch) -> Vec<(PartitionOffset, Event)> {
    let [users, traces, produced, shops, amounts, ats, ..] = batch.columns() else { panic!("{batch:?}") };
    let number = |row: usize| users.is_valid(row).then(|| users.as_primitive::<Int64Type>().value(row));
    let text = |column: &dyn Array, row: usize| column.is_valid(row).then(|| string(column, row));
    let millis =
        |column: &dyn Array, row: usize| column.as_primitive::<TimestampMillisecondType>().value(row);
    let event = |row: usize| Event {
        user: number(row),
        trace: text(traces, row),
        produced_ms: millis(produced, row),
        shop: string(shops, row),
        amount: amounts.as_primitive::<Float64Type>().value(row),
        at_ms: millis(ats, row),
    };
    (0..batch.num_rows()).map(|row| (place(batch, row), event(row))).collect()
}

fn dead_letters_of(batch: &RecordBatch) -> Vec<(PartitionOffset, String)> {
    (0..batch.num_rows()).map(|row| (place(batch, row), string(batch.column(0), row))).collect()
}

fn place(batch: &RecordBatch, row: usize) -> PartitionOffset {
    let partition = batch.column_by_name("_log").expect("asked for").as_primitive::<Int32Type>().value(row);
    let offset = batch.column_by_name("_offset").expect("asked for").as_primitive::<Int64Type>().value(row);
    (partition, offset)
}

fn string(column: &dyn Array, row: usize) -> String {
    match column.data_type() {
        DataType::Utf8View => column.as_string_view().value(row).to_owned(),
        _ => column.as_string::<i32>().value(row).to_owned(),
    }
}

/// Every expected row is there once, and no other.
#[track_caller]
fn same<T: Debug + PartialEq>(
    what: &str,
    expected: &BTreeMap<PartitionOffset, T>,
    rows: Vec<(PartitionOffset, T)>,
) {
    let mut found = BTreeMap::new();
    for (place, row) in rows {
        let twice = found.insert(place, row);
        assert!(twice.is_none(), "{what}: {place:?} is there twice");
    }
    let missing: Vec<&PartitionOffset> = expected.keys().filter(|place| !found.contains_key(place)).collect();
    assert!(missing.is_empty(), "{what}: {} are missing, such as {:?}", missing.len(), missing[0]);
    for (place, row) in found {
        assert_eq!(expected.get(&place), Some(&row), "{what}: {place:?}");
    }
}

/// Asks for the count and the sum of each entity.
async fn answers(world: &World<'_>, repo: &Repo, service: &str, key: &str, expected: Vec<(Value, Totals)>) {
    let store = open(world).await.expect("Redis answers");
    // Before all time: a question without an instant is then about the earliest allowed, which sees every event.
    let lookups = Lookups::new(Arc::new(store), Arc::new(|| Time::MIN));
    lookups.serve([Arc::clone(&repo.services[service])]).expect("a service");
    let served = lookups.service(service).expect("served");
    let columns: Vec<String> = served.columns().iter().map(|column| column.name.clone()).collect();
    let rows =
        expected.iter().map(|(entity, _)| BTreeMap::from([(key.to_owned(), entity.clone())])).collect();
    let at = Some(Time::from_millis(4_000_000_000_000));
    let answers = lookups.lookup(service, rows, at).await.expect("answers");
    for ((entity, (count, sum)), answer) in expected.into_iter().zip(answers) {
        let values = answer.expect("an answer").values;
        let value = |name: &str| {
            let suffix = format!(".{name}");
            let at = columns.iter().position(|column| column.ends_with(&suffix)).expect("a feature");
            values[at].clone()
        };
        assert_eq!(
            (value("n"), value("total")),
            (Value::Int64(count), Value::Float64(sum)),
            "{key} {entity:?}"
        );
    }
}

/// What the definitions mean that are in the repo now.
pub(crate) fn repo(world: &World<'_>) -> Repo {
    tidemark_registry::parse([("definitions.yaml", &world.definitions())]).expect("definitions")
}

fn source(repo: &Repo) -> &SourcePlan {
    &repo.sources["payments"]
}

pub(crate) fn location(world: &World<'_>) -> Location {
    Location::local(world.offline())
}

/// Straight to Redis, whatever workers have to go through.
pub(crate) async fn open(world: &World<'_>) -> Option<RedisStore> {
    let prefix = format!("{}:{PROJECT}", RedisConfig::PREFIX);
    RedisStore::open(RedisConfig { url: world.online().url().to_owned(), prefix }).await.ok()
}

pub(crate) fn runtime() -> Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime")
}
