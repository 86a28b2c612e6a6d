//! Estimates of the sizes of generations, within about a second whatever is stored.
//!
//! Redis keeps no counts by generation, and a count that flushes keep would not see what expires. So how many entities a
//! generation has is estimated from keys drawn at random from the whole database, once for all generations, and what an
//! entity takes from a sample of those that were met. With few keys in the database both are exact. A generation that is
//! hardly met among more keys is counted, as long as reading their names takes less than a second; beyond that, one that is
//! never met is told as an estimate of 0.

use std::collections::BTreeSet;

use redis::{Cmd, Pipeline};

use super::contents::memory;
use super::layout::{self, Keys};
use super::link::Link;
use super::names::{Owners, draw};
use super::scan::Scan;
use super::script;
use super::several;
use crate::contract::{BUCKETS, Generation, Sizes};
use crate::error::StoreError;

/// Up to so many keys in the database, all their names are read.
const FEW: u64 = 100_000;

/// How many keys are drawn: of a generation that has a tenth of all keys, the number of entities is then within 3 % nineteen
/// times out of twenty.
const DRAWS: usize = 50_000;

/// Up to so many keys in the database, generations that were met less than [`RARE`] times are counted.
const SOME: u64 = 500_000;

/// An estimate from fewer encounters is off by a third or more one time out of twenty.
const RARE: u64 = 40;

/// In how many steps.
const STEPS: usize = 10;

/// How many entities are measured at most, those of all generations together, and at least of each.
const MEASURED: usize = 4096;
const MEASURED_EACH: usize = 16;

/// How many entities are measured in one write.
const AT_ONCE: usize = 1000;

/// How the entities of a generation were met.
struct Met {
    /// How often; with all names read, how many there are.
    times: u64,
    /// Their names, each once.
    names: BTreeSet<Vec<u8>>,
}

pub(super) async fn sizes(link: &Link, generations: &[Generation]) -> Result<Vec<Sizes>, StoreError> {
    let whole = several::are_whole(link, generations).await?;
    let owners = Owners::new(link.prefix(), generations);
    let keys = keys(link).await?;
    let mut all: Vec<Met> = generations.iter().map(|_| Met { times: 0, names: BTreeSet::new() }).collect();
    let drawn = if keys > FEW { draw_all(link, &owners, &mut all).await? } else { None };
    let counted = match drawn {
        None => vec![read_all(link, &owners, &mut all).await?; all.len()],
        Some(_) if keys <= SOME => count_rare(link, generations, &whole, &mut all).await?,
        Some(_) => vec![false; all.len()],
    };
    let each = (MEASURED / generations.len().max(1)).max(MEASURED_EACH);
    let mut sizes = Vec::with_capacity(generations.len());
    let of_each = generations.iter().zip(all).zip(whole.into_iter().zip(counted));
    for ((generation, met), (is_whole, is_counted)) in of_each {
        if !is_whole {
            sizes.push(Sizes::default());
            continue;
        }
        let drawn = drawn.filter(|_| !is_counted);
        let entities = drawn.map_or(met.times, |drawn| scaled(met.times, keys, drawn));
        let mut of_one = measure(link, generation, &met.names, each, entities).await?;
        of_one.estimated |= !is_counted;
        sizes.push(of_one);
    }
    Ok(sizes)
}

/// How many keys the database has; 0 where Redis does not tell this user.
async fn keys(link: &Link) -> Result<u64, StoreError> {
    let mut calls = Pipeline::new();
    calls.cmd("DBSIZE");
    let answers = link.send_if_allowed(&calls).await?.unwrap_or_default();
    answers.into_iter().next().map_or(Ok(0), |answer| link.read(answer))
}

/// Draws keys, and says how many; none where Redis does not do that for this user.
async fn draw_all(link: &Link, owners: &Owners, all: &mut [Met]) -> Result<Option<u64>, StoreError> {
    for _ in 0..STEPS {
        let Some(names) = draw(link, DRAWS / STEPS).await? else { return Ok(None) };
        for name in names {
            if let Some((of, _)) = owners.entity(&name) {
                all[of].times += 1;
                all[of].names.insert(name);
            }
        }
    }
    Ok(Some(DRAWS as u64))
}

/// Reads the names of all entities of the generations that were rarely drawn, in one pass. Which generations were counted so.
async fn count_rare(
    link: &Link,
    generations: &[Generation],
    whole: &[bool],
    all: &mut [Met],
) -> Result<Vec<bool>, StoreError> {
    let mut is_rare: Vec<bool> =
        all.iter().zip(whole).map(|(met, is_whole)| *is_whole && met.times < RARE).collect();
    let rare = generations.iter().zip(&is_rare).filter(|(_, is_rare)| **is_rare);
    let rare: Vec<Generation> = rare.map(|(generation, _)| generation.clone()).collect();
    if rare.is_empty() {
        return Ok(is_rare);
    }
    let mut found: Vec<Met> = rare.iter().map(|_| Met { times: 0, names: BTreeSet::new() }).collect();
    if !read_all(link, &Owners::new(link.prefix(), &rare), &mut found).await? {
        // They have grown meanwhile.
        is_rare.fill(false);
        return Ok(is_rare);
    }
    let places = all.iter_mut().zip(&is_rare).filter(|(_, is_rare)| **is_rare);
    places.zip(found).for_each(|((met, _), found)| *met = found);
    Ok(is_rare)
}

/// Reads the names of all entities, and keeps as many as there are where they are few. Returns whether all were kept:
/// if not, those that Redis has shown twice count twice.
async fn read_all(link: &Link, owners: &Owners, all: &mut [Met]) -> Result<bool, StoreError> {
    let (mut scan, mut kept) = (Scan::new(link, owners.pattern()), 0);
    while let Some(names) = scan.next().await? {
        for name in names {
            if let Some((of, _)) = owners.entity(&name) {
                all[of].times += 1;
                if kept < FEW {
                    kept += u64::from(all[of].names.insert(name));
                }
            }
        }
    }
    if kept < FEW {
        all.iter_mut().for_each(|met| met.times = met.names.len() as u64);
    }
    Ok(kept < FEW)
}

/// What `entities` entities hold, of which some were met: by those measured, at most `each` of them.
async fn measure(
    link: &Link,
    generation: &Generation,
    met: &BTreeSet<Vec<u8>>,
    each: usize,
    entities: u64,
) -> Result<Sizes, StoreError> {
    let names: Vec<Vec<u8>> = met.iter().step_by(met.len().div_ceil(each).max(1)).cloned().collect();
    let (mut measured, mut states, mut bytes, mut memory_sum) = (0, 0, 0, Some(0));
    for names in names.chunks(AT_ONCE) {
        let mut calls = Pipeline::new();
        for name in names {
            calls.add_command(script::MEASURE.call(std::slice::from_ref(name)));
        }
        for answer in link.run(&script::MEASURE, &calls).await? {
            let (of_one, parts, with_sums): (u64, u64, u64) = link.read(answer)?;
            // It may have expired since.
            measured += u64::from(of_one > 0);
            states += of_one;
            bytes += with_sums.saturating_sub(parts * layout::SUM as u64);
        }
        if let Some(before) = memory_sum {
            memory_sum = memory(link, names).await?.map(|memory| before + memory);
        }
    }
    let scale = |sum| scaled(sum, entities, measured);
    let memory = match memory_sum {
        Some(sum) => bucket_memory(link, generation).await?.map(|buckets| buckets + scale(sum)),
        None => None,
    };
    let (states, bytes) = (scale(states), scale(bytes));
    let estimated = measured < entities;
    Ok(Sizes { entities, states, bytes, memory, estimated })
}

/// The memory of the positions of a generation, by those of one bucket: all have the same partitions.
async fn bucket_memory(link: &Link, generation: &Generation) -> Result<Option<u64>, StoreError> {
    let mut calls = Pipeline::new();
    let name = Keys::new(link.prefix(), generation).bucket(0);
    calls.add_command(memory_usage(&name));
    let Some(answers) = link.send_if_allowed(&calls).await? else { return Ok(None) };
    let of_one = answers.into_iter().next().map(|answer| link.read::<Option<u64>>(answer)).transpose()?;
    Ok(of_one.flatten().map(|bytes| bytes * u64::from(BUCKETS)))
}

/// Of a hash with many fields, a few are looked at.
fn memory_usage(name: &str) -> Cmd {
    let mut call = redis::cmd("MEMORY");
    call.arg("USAGE").arg(name);
    call
}

/// `part` for every `of` things, for so many `things`.
fn scaled(part: u64, things: u64, of: u64) -> u64 {
    let scaled = u128::from(part) * u128::from(things) / u128::from(of.max(1));
    u64::try_from(scaled).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sample_is_scaled_up() {
        assert_eq!(scaled(500, 10_000_000, 50_000), 100_000);
        assert_eq!(scaled(u64::MAX, 3, 3), u64::MAX);
        assert_eq!(scaled(0, 7, 0), 0);
    }
}
