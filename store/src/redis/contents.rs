//! Reading everything of a generation, or of the whole store.

use async_trait::async_trait;
use redis::Pipeline;
use std::collections::BTreeSet;
use tidemark_kernel::key::EntityKey;

use super::generations;
use super::layout::{self, Keys};
use super::link::Link;
use super::names::{self, Sorted};
use super::scan::Scan;
use super::several;
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
    entities: Sorted,
}

impl<'a> Pages<'a> {
    pub(super) async fn open(link: &'a Link, generation: &Generation) -> Result<Self, StoreError> {
        let pages = Self::open_each(link, std::slice::from_ref(generation)).await?;
        pages.into_iter().next().ok_or_else(|| StoreError::Gone(generation.clone()))
    }

    /// The pages of several generations, whose entities are found in one pass.
    pub(super) async fn open_each(
        link: &'a Link,
        generations: &[Generation],
    ) -> Result<Vec<Self>, StoreError> {
        check_each(link, generations).await?;
        let entities = names::sorted(link, generations).await?;
        let of_each = generations.iter().zip(entities);
        let pages = of_each.map(|(of, entities)| Self { link, generation: of.clone(), entities });
        Ok(pages.collect())
    }
}

/// Fails unless all of these generations are whole.
async fn check_each(link: &Link, generations: &[Generation]) -> Result<(), StoreError> {
    let whole = several::are_whole(link, generations).await?;
    match generations.iter().zip(whole).find(|(_, is_whole)| !is_whole) {
        Some((gone, _)) => Err(StoreError::Gone(gone.clone())),
        None => Ok(()),
    }
}

/// A sample of the entities of each generation.
pub(super) async fn sample(
    link: &Link,
    generations: &[Generation],
    count: usize,
    seed: u64,
) -> Result<Vec<BTreeSet<EntityKey>>, StoreError> {
    check_each(link, generations).await?;
    names::sample(link, generations, count, seed).await
}

#[async_trait]
impl EntityPages for Pages<'_> {
    async fn next_page(&mut self) -> Result<Vec<EntityStates>, StoreError> {
        loop {
            let keys = self.entities.next(PAGE).map_err(names::failed)?;
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
pub(super) async fn memory(link: &Link, names: &[Vec<u8>]) -> Result<Option<u64>, StoreError> {
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

/// Reads everything under the prefix but the states of the generations in `read`.
pub(super) async fn check(link: &Link, read: &[Generation]) -> Result<(), StoreError> {
    let mut others = Vec::new();
    for view in views(link).await? {
        let generations = generations::records(link, &view).await?.0.into_iter();
        others.extend(generations.map(|(_, generation)| generation).filter(|other| !read.contains(other)));
    }
    let whole = several::are_whole(link, &others).await?;
    let others: Vec<Generation> =
        others.into_iter().zip(whole).filter_map(|(of, is_whole)| is_whole.then_some(of)).collect();
    if others.is_empty() {
        return Ok(());
    }
    let mut all = match Pages::open_each(link, &others).await {
        // It was dropped meanwhile, and is of no interest any more; the next check reads the others.
        Err(StoreError::Gone(_)) => return Ok(()),
        all => all?,
    };
    for pages in &mut all {
        match read_all(pages).await {
            Ok(()) | Err(StoreError::Gone(_)) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

async fn read_all(pages: &mut Pages<'_>) -> Result<(), StoreError> {
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
