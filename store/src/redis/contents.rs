//! Reading all that a generation holds, or the whole store.

use async_trait::async_trait;
use redis::Pipeline;
use std::collections::BTreeSet;

use super::generations;
use super::layout::{self, Keys};
use super::link::Link;
use super::scan::{Entities, Scan};
use super::states;
use crate::contract::{BUCKETS, EntityPages, EntityStates, Generation, Sizes};
use crate::error::StoreError;

/// Entities in a page: few enough to hold in memory whatever their states, many enough to make round trips rare.
const PAGE: usize = 1000;

/// In a full page, the memory of every so many-th entity is asked for.
const SAMPLE: usize = 16;

/// The pages of a generation.
pub(super) struct Pages<'a> {
    link: &'a Link,
    generation: Generation,
    entities: Entities<'a>,
}

impl<'a> Pages<'a> {
    pub(super) async fn open(link: &'a Link, generation: &Generation) -> Result<Self, StoreError> {
        generations::check_whole(link, generation).await?;
        let entities = Entities::new(link, generation);
        Ok(Self { link, generation: generation.clone(), entities })
    }
}

#[async_trait]
impl EntityPages for Pages<'_> {
    async fn next_page(&mut self) -> Result<Vec<EntityStates>, StoreError> {
        loop {
            let keys = self.entities.next(PAGE).await?;
            if keys.is_empty() {
                return Ok(Vec::new());
            }
            let states = states::lookup(self.link, &self.generation, &keys).await?;
            let entities = keys.into_iter().zip(states);
            let entities = entities.map(|(key, states)| Ok(EntityStates { key, states: states? }));
            let mut page: Vec<_> = entities.collect::<Result<_, StoreError>>()?;
            // Some may be gone since their names were read, though hardly a page of them.
            page.retain(|entity| !entity.states.is_empty());
            if !page.is_empty() {
                return Ok(page);
            }
        }
    }
}

pub(super) async fn sizes(link: &Link, generation: &Generation) -> Result<Sizes, StoreError> {
    let mut pages = Pages::open(link, generation).await?;
    let keys = Keys::new(link.prefix(), generation);
    let buckets: Vec<_> = (0..BUCKETS).map(|bucket| keys.bucket(bucket).into_bytes()).collect();
    let mut sizes = Sizes { memory: memory(link, &buckets).await?, ..Sizes::default() };
    loop {
        let page = pages.next_page().await?;
        if page.is_empty() {
            return Ok(sizes);
        }
        page.iter().for_each(|entity| sizes.add(entity));
        if let Some(before) = sizes.memory {
            sizes.memory = memory_of(link, &keys, &page).await?.map(|memory| before + memory);
        }
    }
}

/// The memory that the entities of a page take: that of a sample of them, scaled up, if it is a full page.
async fn memory_of(link: &Link, keys: &Keys, page: &[EntityStates]) -> Result<Option<u64>, StoreError> {
    let every = if page.len() < PAGE { 1 } else { SAMPLE };
    let sample = page.iter().step_by(every);
    let names: Vec<_> = sample.map(|entity| keys.entity(entity.key.bucket(BUCKETS), &entity.key)).collect();
    let memory = memory(link, &names).await?;
    Ok(memory.map(|memory| memory * page.len() as u64 / names.len().max(1) as u64))
}

/// The memory that these keys take, as far as `MEMORY USAGE` knows; none if Redis does not tell this user.
async fn memory(link: &Link, names: &[Vec<u8>]) -> Result<Option<u64>, StoreError> {
    let mut calls = Pipeline::new();
    for name in names {
        calls.cmd("MEMORY").arg("USAGE").arg(name).arg("SAMPLES").arg(0);
    }
    let Some(answers) = link.send_if_allowed(&calls).await? else { return Ok(None) };
    let mut total = 0;
    for answer in answers {
        total += link.read::<Option<u64>>(answer)?.unwrap_or_default();
    }
    Ok(Some(total))
}

/// Reads everything under the prefix.
pub(super) async fn check(link: &Link) -> Result<(), StoreError> {
    for view in views(link).await? {
        for (_, generation) in generations::records(link, &view).await?.0 {
            match check_generation(link, &generation).await {
                Ok(()) | Err(StoreError::Gone(_)) => {}
                Err(error) => return Err(error),
            }
        }
    }
    Ok(())
}

async fn check_generation(link: &Link, generation: &Generation) -> Result<(), StoreError> {
    let mut pages = Pages::open(link, generation).await?;
    while !pages.next_page().await?.is_empty() {}
    Ok(())
}

async fn views(link: &Link) -> Result<BTreeSet<String>, StoreError> {
    let mut views = BTreeSet::new();
    let mut scan = Scan::new(link, layout::views_pattern(link.prefix()));
    while let Some(names) = scan.next().await? {
        views.extend(names.iter().filter_map(|name| layout::view_of(link.prefix(), name)));
    }
    Ok(views)
}
