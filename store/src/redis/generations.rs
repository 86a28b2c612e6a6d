//! Reading and writing generations, positions and the live pointer.

use std::collections::BTreeMap;

use redis::{Cmd, Pipeline, Value};
use tidemark_kernel::event::{Partition, Position};
use tidemark_kernel::plan::Fingerprint;
use tidemark_kernel::time::Span;

use super::layout::{self, Keys, Stage};
use super::link::Link;
use super::names::Owners;
use super::scan::Scan;
use super::script::{self, Script};
use super::several;
use crate::contract::{BUCKETS, Generation, Positions, PublishOutcome};
use crate::error::StoreError;

/// For how long a beginning may take, in generation numbers, which are microseconds: an hour.
const BEGINNING: u64 = 3_600_000_000;

/// The longest time that states are kept for, in milliseconds: what Redis can add to its clock.
const LONGEST: i64 = 1 << 53;

/// All generations of a view, and the live one.
pub(super) type Recorded = (Vec<(Stage, Generation)>, Option<Generation>);

/// Takes a number, gives every bucket its positions, and only then names the generation.
pub(super) async fn begin(
    link: &Link,
    view: &str,
    fingerprint: Fingerprint,
    positions: &BTreeMap<Partition, Position>,
    least: Option<Span>,
) -> Result<Generation, StoreError> {
    let number = number(link, view, fingerprint).await?;
    let generation = Generation { view: view.to_owned(), number, fingerprint };
    sweep(link, &generation).await?;
    let keys = Keys::new(link.prefix(), &generation);
    let mut calls = Pipeline::new();
    for bucket in 0..BUCKETS {
        calls.add_command(create_bucket(keys.bucket(bucket), fingerprint, positions, least));
    }
    link.run(&script::CREATE, &calls).await?;
    complete(link, &generation).await?;
    Ok(generation)
}

async fn number(link: &Link, view: &str, fingerprint: Fingerprint) -> Result<u64, StoreError> {
    let mut call = script::BEGIN.call(&[layout::view_key(link.prefix(), view)]);
    call.arg(fingerprint.to_string());
    let answer = run_one(link, &script::BEGIN, call).await?;
    link.read(answer)
}

/// Removes what is left of beginnings that were cut short before `newest`. It has no name, so that nothing else finds it.
async fn sweep(link: &Link, newest: &Generation) -> Result<(), StoreError> {
    let mut left = Vec::new();
    for (stage, generation) in records(link, &newest.view).await?.0 {
        if stage == Stage::Begun && generation.number.saturating_add(BEGINNING) < newest.number {
            left.push(generation);
        }
    }
    drop_generations(link, &left).await
}

fn create_bucket(
    name: String,
    fingerprint: Fingerprint,
    positions: &BTreeMap<Partition, Position>,
    least: Option<Span>,
) -> Cmd {
    let idle = least.map(|least| least.millis().clamp(1, LONGEST).to_string());
    let mut create = script::CREATE.call(&[name]);
    for (partition, position) in positions {
        create.arg(partition.0).arg(position.0);
    }
    create.arg("idle").arg(idle.unwrap_or_default());
    create.arg("fingerprint").arg(fingerprint.to_string());
    create
}

async fn complete(link: &Link, generation: &Generation) -> Result<(), StoreError> {
    let call = of_record(&script::COMPLETE, link, generation);
    not_gone(generation, &run_one(link, &script::COMPLETE, call).await?)
}

pub(super) async fn add_partition(
    link: &Link,
    generation: &Generation,
    partition: Partition,
    position: Position,
) -> Result<(), StoreError> {
    let keys = Keys::new(link.prefix(), generation);
    let fingerprint = generation.fingerprint.to_string();
    let mut calls = Pipeline::new();
    for bucket in 0..BUCKETS {
        let mut call = script::ADD_LOG.call(&[keys.bucket(bucket)]);
        call.arg(&fingerprint).arg(partition.0).arg(position.0);
        calls.add_command(call);
    }
    let answers = link.run(&script::ADD_LOG, &calls).await?;
    answers.iter().try_for_each(|answer| not_gone(generation, answer))
}

/// The positions of all buckets that are there.
pub(super) async fn positions(link: &Link, generation: &Generation) -> Result<Positions, StoreError> {
    by_partition(generation, buckets(link, generation).await?)
}

pub(super) fn by_partition(
    generation: &Generation,
    buckets: Vec<Option<BTreeMap<Partition, Position>>>,
) -> Result<Positions, StoreError> {
    let mut positions = Positions::new();
    let mut found = false;
    for (bucket, fields) in (0..BUCKETS).zip(buckets) {
        let Some(fields) = fields else { continue };
        found = true;
        for (partition, position) in fields {
            positions.entry(partition).or_default().insert(bucket, position);
        }
    }
    if found { Ok(positions) } else { Err(StoreError::Gone(generation.clone())) }
}

/// Fails unless every bucket is there.
pub(super) async fn check_whole(link: &Link, generation: &Generation) -> Result<(), StoreError> {
    let whole = several::are_whole(link, std::slice::from_ref(generation)).await?;
    if whole == [true] { Ok(()) } else { Err(StoreError::Gone(generation.clone())) }
}

/// The positions of each bucket; none for one that is not there.
async fn buckets(
    link: &Link,
    generation: &Generation,
) -> Result<Vec<Option<BTreeMap<Partition, Position>>>, StoreError> {
    let keys = Keys::new(link.prefix(), generation);
    let mut calls = Pipeline::new();
    for bucket in 0..BUCKETS {
        calls.cmd("HGETALL").arg(keys.bucket(bucket));
    }
    let answers = link.send(&calls).await?;
    answers.into_iter().map(|answer| bucket(link, generation, link.read(answer)?)).collect()
}

/// The positions in the fields of a bucket; none where the bucket is not there.
pub(super) fn bucket(
    link: &Link,
    generation: &Generation,
    mut fields: BTreeMap<String, String>,
) -> Result<Option<BTreeMap<Partition, Position>>, StoreError> {
    let fingerprint = fields.remove("fingerprint");
    if fingerprint != Some(generation.fingerprint.to_string()) {
        return Ok(None);
    }
    fields.remove("idle");
    let mut positions = BTreeMap::new();
    for (partition, position) in fields {
        let damaged = |_| link.corrupt(format!("`{partition}` is not a partition"));
        let partition = Partition(partition.parse().map_err(damaged)?);
        if let Some(position) = position_of(link, &position)? {
            positions.insert(partition, position);
        }
    }
    Ok(Some(positions))
}

/// A stored position; none where there is none, or where a flush was cut short while it wrote.
pub(super) fn position_of(link: &Link, stored: &str) -> Result<Option<Position>, StoreError> {
    if stored.is_empty() {
        return Ok(None);
    }
    let position = stored.parse().map(|offset| Some(Position(offset)));
    position.map_err(|_| link.corrupt(format!("a bucket is at `{stored}`, which is no position")))
}

pub(super) async fn publish(
    link: &Link,
    view: &str,
    expected: Option<&Generation>,
    new: Option<&Generation>,
) -> Result<PublishOutcome, StoreError> {
    if let Some(new) = new.filter(|new| new.view != view) {
        return Err(StoreError::Gone(new.clone()));
    }
    let text = |generation: &Generation| match generation.view == view {
        true => layout::generation_text(generation),
        false => "of another view".to_owned(),
    };
    let mut call = script::PUBLISH.call(&[layout::view_key(link.prefix(), view)]);
    call.arg(expected.map(text).unwrap_or_default()).arg(new.map(text).unwrap_or_default());
    match (run_one(link, &script::PUBLISH, call).await?, new) {
        (Script::DONE, _) => Ok(PublishOutcome::Published),
        (Script::GONE, Some(new)) => Err(StoreError::Gone(new.clone())),
        (live, _) => Ok(PublishOutcome::Live(live_of(link, view, &link.read::<String>(live)?)?)),
    }
}

pub(super) async fn live(link: &Link, view: &str) -> Result<Option<Generation>, StoreError> {
    let live: Option<String> = link.ask(&Cmd::hget(layout::view_key(link.prefix(), view), "live")).await?;
    live_of(link, view, &live.unwrap_or_default())
}

pub(super) fn live_of(link: &Link, view: &str, text: &str) -> Result<Option<Generation>, StoreError> {
    if text.is_empty() {
        return Ok(None);
    }
    let live = layout::generation_of(view, text);
    live.map(Some).ok_or_else(|| link.corrupt(format!("`{text}` is live in view `{view}`")))
}

pub(super) async fn unpublished(link: &Link, view: &str) -> Result<Vec<Generation>, StoreError> {
    unpublished_in(link, view, fields(link, view).await?)
}

/// The generations that the fields of a view name, but for the live one.
pub(super) fn unpublished_in(
    link: &Link,
    view: &str,
    fields: BTreeMap<String, String>,
) -> Result<Vec<Generation>, StoreError> {
    let (records, live) = records_in(link, view, fields)?;
    let named = records.into_iter().filter(|(stage, _)| *stage != Stage::Begun);
    let mut found: Vec<_> = named.map(|(_, generation)| generation).collect();
    found.retain(|generation| Some(generation) != live.as_ref());
    found.sort_unstable();
    Ok(found)
}

/// All generations of a view, and the live one.
pub(super) async fn records(link: &Link, view: &str) -> Result<Recorded, StoreError> {
    records_in(link, view, fields(link, view).await?)
}

async fn fields(link: &Link, view: &str) -> Result<BTreeMap<String, String>, StoreError> {
    link.ask(&Cmd::hgetall(layout::view_key(link.prefix(), view))).await
}

fn records_in(link: &Link, view: &str, mut fields: BTreeMap<String, String>) -> Result<Recorded, StoreError> {
    fields.remove("newest");
    let live = live_of(link, view, &fields.remove("live").unwrap_or_default())?;
    let record = |(number, value): (&String, &String)| {
        let record = layout::record_of(view, number, value);
        record.ok_or_else(|| link.corrupt(format!("generation `{number}` of view `{view}` is `{value}`")))
    };
    Ok((fields.iter().map(record).collect::<Result<_, _>>()?, live))
}

/// Drops generations. They are marked first, so that no process publishes them. Then the buckets lose their positions, so that no
/// process writes them. Their states are found in one pass over all keys and deleted, and their names last.
pub(super) async fn drop_generations(link: &Link, generations: &[Generation]) -> Result<(), StoreError> {
    let (mut dropped, mut live) = (Vec::new(), None);
    for generation in generations {
        match run_one(link, &script::DROP, of_record(&script::DROP, link, generation)).await? {
            Script::DONE => dropped.push(generation.clone()),
            Script::GONE => {}
            _ => live = Some(StoreError::Live(generation.clone())),
        }
    }
    if !dropped.is_empty() {
        remove(link, &dropped).await?;
    }
    live.map_or(Ok(()), Err)
}

/// Removes all keys of generations that are recorded as dropped, and then their records.
async fn remove(link: &Link, dropped: &[Generation]) -> Result<(), StoreError> {
    let mut buckets = Vec::new();
    for generation in dropped {
        let keys = Keys::new(link.prefix(), generation);
        buckets.extend((0..BUCKETS).map(|bucket| keys.bucket(bucket).into_bytes()));
    }
    unlink(link, buckets).await?;
    let owners = Owners::new(link.prefix(), dropped);
    let mut scan = Scan::new(link, owners.pattern());
    while let Some(mut names) = scan.next().await? {
        names.retain(|name| owners.entity(name).is_some());
        unlink(link, names).await?;
    }
    let mut calls = Pipeline::new();
    for generation in dropped {
        let view = layout::view_key(link.prefix(), &generation.view);
        calls.add_command(Cmd::hdel(view, generation.number));
    }
    link.send(&calls).await.map(drop)
}

/// Removes keys, whose memory Redis frees in the background. One command each, since they may lie on several servers.
async fn unlink(link: &Link, names: Vec<Vec<u8>>) -> Result<(), StoreError> {
    let mut calls = Pipeline::new();
    for name in names {
        calls.add_command(Cmd::unlink(name));
    }
    link.send(&calls).await.map(drop)
}

/// The answer of a function that does something to a generation.
fn not_gone(generation: &Generation, answer: &Value) -> Result<(), StoreError> {
    if *answer == Script::GONE { Err(StoreError::Gone(generation.clone())) } else { Ok(()) }
}

/// A call about the record of a generation in its view.
fn of_record(script: &Script, link: &Link, generation: &Generation) -> Cmd {
    let mut call = script.call(&[layout::view_key(link.prefix(), &generation.view)]);
    call.arg(generation.number).arg(generation.fingerprint.to_string());
    call
}

async fn run_one(link: &Link, script: &Script, call: Cmd) -> Result<Value, StoreError> {
    let mut calls = Pipeline::new();
    calls.add_command(call);
    Ok(link.run(script, &calls).await?.pop().unwrap_or_default())
}
