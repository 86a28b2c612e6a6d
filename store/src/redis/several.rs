//! Questions about many views or generations at once. A worker with a thousand views asks at every tick: with one call
//! for each view, round trips would take most of its time.
//!
//! Calls go out in few writes, each small enough to be answered in time.

use std::collections::BTreeMap;

use redis::{Cmd, Pipeline};
use tidemark_kernel::event::{Partition, Position};

use super::generations::{bucket, by_partition, live_of, unpublished_in};
use super::layout::{self, Keys};
use super::link::Link;
use super::script;
use crate::contract::{BUCKETS, Generation, Positions};
use crate::error::StoreError;

/// How many views or generations are asked about in one write.
const AT_ONCE: usize = 500;

/// How many positions are read in one write.
const READ: usize = 1 << 16;

/// How many positions one call compares. That takes about a millisecond (a quarter of a microsecond for each), in which Redis
/// answers no other client; some milliseconds where a bucket has many more positions than are compared.
///
/// A call sends all of the positions for the buckets that it compares: of a topic with 1,000 partitions about 20 kB for four
/// buckets, so that a thousand idle views cost 4,000 calls, 90 MB and four seconds of Redis at each tick.
const COMPARED: usize = 1 << 12;

/// How many calls that compare go out in one write.
const CALLS: usize = 100;

/// How many partitions one call compares: Lua gives a command no more than some thousands of arguments.
const LOGS: usize = 1000;

/// The live generation of each view.
pub(super) async fn live(link: &Link, views: &[&str]) -> Result<Vec<Option<Generation>>, StoreError> {
    let mut found = Vec::with_capacity(views.len());
    for views in views.chunks(AT_ONCE) {
        let mut calls = Pipeline::new();
        for view in views {
            calls.add_command(Cmd::hget(layout::view_key(link.prefix(), view), "live"));
        }
        for (view, answer) in views.iter().zip(link.send(&calls).await?) {
            let live: Option<String> = link.read(answer)?;
            found.push(live_of(link, view, &live.unwrap_or_default())?);
        }
    }
    Ok(found)
}

/// The generations of each view but the live one.
pub(super) async fn unpublished(link: &Link, views: &[&str]) -> Result<Vec<Vec<Generation>>, StoreError> {
    let mut found = Vec::with_capacity(views.len());
    for views in views.chunks(AT_ONCE) {
        let mut calls = Pipeline::new();
        for view in views {
            calls.add_command(Cmd::hgetall(layout::view_key(link.prefix(), view)));
        }
        for (view, answer) in views.iter().zip(link.send(&calls).await?) {
            found.push(unpublished_in(link, view, link.read(answer)?)?);
        }
    }
    Ok(found)
}

/// Whether every bucket of each generation is there: by its fingerprint, since positions may be many.
pub(super) async fn are_whole(link: &Link, generations: &[Generation]) -> Result<Vec<bool>, StoreError> {
    let mut whole = Vec::with_capacity(generations.len());
    for generations in generations.chunks(AT_ONCE) {
        let mut calls = Pipeline::new();
        for generation in generations {
            let keys = Keys::new(link.prefix(), generation);
            for bucket in 0..BUCKETS {
                calls.cmd("HGET").arg(keys.bucket(bucket)).arg("fingerprint");
            }
        }
        let mut answers = link.send(&calls).await?.into_iter();
        for generation in generations {
            let fingerprint = generation.fingerprint.to_string();
            let mut is_whole = true;
            for answer in answers.by_ref().take(usize::from(BUCKETS)) {
                is_whole &= link.read::<Option<String>>(answer)?.as_ref() == Some(&fingerprint);
            }
            whole.push(is_whole);
        }
    }
    Ok(whole)
}

/// The positions of some partitions in all buckets of each generation that are there; none where no bucket is.
pub(super) async fn positions(
    link: &Link,
    generations: &[Generation],
    partitions: &[Partition],
) -> Result<Vec<Option<Positions>>, StoreError> {
    let names: Vec<String> = partitions
        .iter()
        .map(|partition| partition.0.to_string())
        .chain(["fingerprint".to_owned()])
        .collect();
    let at_once = (READ / (usize::from(BUCKETS) * names.len())).clamp(1, AT_ONCE);
    let mut found = Vec::with_capacity(generations.len());
    for generations in generations.chunks(at_once) {
        let mut calls = Pipeline::new();
        for generation in generations {
            let keys = Keys::new(link.prefix(), generation);
            for bucket in 0..BUCKETS {
                calls.cmd("HMGET").arg(keys.bucket(bucket)).arg(&names);
            }
        }
        let mut answers = link.send(&calls).await?.into_iter();
        for generation in generations {
            let buckets = answers.by_ref().take(usize::from(BUCKETS)).map(|answer| {
                let values: Vec<Option<String>> = link.read(answer)?;
                let fields =
                    names.iter().cloned().zip(values).filter_map(|(name, value)| Some((name, value?)));
                bucket(link, generation, fields.collect())
            });
            let buckets: Vec<Option<BTreeMap<Partition, Position>>> =
                buckets.collect::<Result<_, StoreError>>()?;
            found.push(by_partition(generation, buckets).ok());
        }
    }
    Ok(found)
}

/// Whether each generation is the live one of its view and has every bucket at these positions.
pub(super) async fn are_live_at(
    link: &Link,
    generations: &[Generation],
    positions: &BTreeMap<Partition, Position>,
) -> Result<Vec<bool>, StoreError> {
    let views: Vec<&str> = generations.iter().map(|generation| generation.view.as_str()).collect();
    let live = live(link, &views).await?;
    let mut found: Vec<bool> =
        generations.iter().zip(live).map(|(generation, live)| live.as_ref() == Some(generation)).collect();
    let buckets: Vec<Bucket> = (0..generations.len())
        .filter(|at| found[*at])
        .flat_map(|at| Bucket::all_of(link, at, &generations[at]))
        .collect();
    let positions: Vec<(Partition, Position)> =
        positions.iter().map(|(partition, position)| (*partition, *position)).collect();
    // Also where there is no position to compare, the buckets must be there.
    let none = positions.is_empty().then_some(&positions[..]);
    for positions in positions.chunks(LOGS).chain(none) {
        for generation in elsewhere(link, &buckets, positions).await? {
            found[generation] = false;
        }
    }
    Ok(found)
}

/// A bucket to be compared.
struct Bucket {
    name: String,
    fingerprint: String,
    /// The place of its generation among those asked about.
    of: usize,
}

impl Bucket {
    fn all_of(link: &Link, of: usize, generation: &Generation) -> Vec<Self> {
        let keys = Keys::new(link.prefix(), generation);
        let fingerprint = generation.fingerprint.to_string();
        let bucket = |bucket| Self { name: keys.bucket(bucket), fingerprint: fingerprint.clone(), of };
        (0..BUCKETS).map(bucket).collect()
    }
}

/// The generations, by their places, of the buckets that are gone or not at these positions.
///
/// One call compares buckets of several slots, as a single server allows. On a cluster each call would have those of one slot.
async fn elsewhere(
    link: &Link,
    buckets: &[Bucket],
    positions: &[(Partition, Position)],
) -> Result<Vec<usize>, StoreError> {
    let each = (COMPARED / (1 + positions.len())).max(1);
    let mut found = Vec::new();
    for buckets in buckets.chunks(each * CALLS) {
        let mut calls = Pipeline::new();
        for buckets in buckets.chunks(each) {
            calls.add_command(compare(buckets, positions));
        }
        let answers = link.run(&script::COMPARE, &calls).await?;
        for (buckets, answer) in buckets.chunks(each).zip(answers) {
            let numbers: Vec<usize> = link.read(answer)?;
            let differ = numbers.into_iter().filter_map(|number| buckets.get(number.checked_sub(1)?));
            found.extend(differ.map(|bucket| bucket.of));
        }
    }
    Ok(found)
}

fn compare(buckets: &[Bucket], positions: &[(Partition, Position)]) -> Cmd {
    let names: Vec<&str> = buckets.iter().map(|bucket| bucket.name.as_str()).collect();
    let mut call = script::COMPARE.call(&names);
    call.arg(positions.len());
    for (partition, _) in positions {
        call.arg(partition.0);
    }
    for (_, position) in positions {
        call.arg(position.0);
    }
    for bucket in buckets {
        call.arg(&bucket.fingerprint);
    }
    call
}
