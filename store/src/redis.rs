//! The store of many processes: a Redis, 7.0 or newer, or a Valkey.
//!
//! What is written is laid out as `docs/redis-layout.md` says. A flush is one Lua function for each bucket, and
//! Redis runs it as one step; all flushes of a call go out in one write. A part of a state is one value, most states have
//! one part, and all states of an entity are one hash, so that a lookup is one command for each entity.
//!
//! What a call has returned is in the memory of Redis. Whether it survives a crash of Redis depends on `appendfsync`
//! and replicas: what is lost is lost as a whole in each bucket, and read again from the partitions.
//!
//! One [`BucketFlush`] is one call however large it is, and Redis answers no other client meanwhile: cut large batches by
//! offset. A [`load`](OnlineStore::load) is one call too.
//!
//! Redis forgets states by itself, an entity's all together: once none of them is needed any more. Its own clock says
//! when they were written, so that a worker whose clock is wrong takes nothing away.

mod contents;
mod estimate;
mod generations;
mod histories;
mod layout;
mod link;
mod names;
mod scan;
mod script;
mod server;
mod several;
mod states;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use async_trait::async_trait;
use tidemark_kernel::event::{Partition, Position};
use tidemark_kernel::key::EntityKey;
use tidemark_kernel::plan::Fingerprint;
use tidemark_kernel::time::Span;
use tokio::sync::Semaphore;

use crate::contract::{
    BucketFlush, EntityLookup, EntityPages, FlushOutcome, Generation, Loaded, OnlineStore, Positions,
    PublishOutcome, Sizes, check_bucket, check_flushes, compare_history,
};
use crate::error::StoreError;
use crate::sweep::Sweep;
use contents::Pages;
use link::Link;
use server::Watch;

/// Which Redis, and which keys in it.
#[derive(Clone)]
pub struct RedisConfig {
    /// `redis://[[user]:password@]host[:port][/database]`, or `unix:///path/of/socket`.
    pub url: String,
    /// What the name of every key begins with, so that several projects can share one Redis.
    pub prefix: String,
}

impl RedisConfig {
    /// The prefix of those who name none.
    pub const PREFIX: &str = "tm";

    /// The Redis at `url`, with the usual prefix.
    #[must_use]
    pub fn new(url: impl Into<String>) -> Self {
        Self { url: url.into(), prefix: Self::PREFIX.to_owned() }
    }
}

/// Without the URL, which may hold a password.
impl fmt::Debug for RedisConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RedisConfig").field("prefix", &self.prefix).finish_non_exhaustive()
    }
}

/// How many loads and flushes are under way at once. Others wait before they are sent: sent, they would wait for the
/// answers to these, and take that for silence.
const AT_ONCE: usize = 16;

/// An online store in a Redis that many processes share.
pub struct RedisStore {
    link: Link,
    watch: Watch,
    turns: Semaphore,
}

impl RedisStore {
    /// Opens the store, which is created where there is none. Connections are opened again when they break.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`] if Redis does not answer, [`StoreError::Evicts`] if it may evict,
    /// [`StoreError::Newer`] if a newer version wrote the store, [`StoreError::Refused`] if Redis is too old, a
    /// cluster, or wants another password.
    pub async fn open(config: RedisConfig) -> Result<Self, StoreError> {
        let link = Link::new(&config.url, &config.prefix)?;
        let watch = Watch::open(&link).await?;
        server::claim(&link).await?;
        Ok(Self { link, watch, turns: Semaphore::new(AT_ONCE) })
    }
}

#[async_trait]
impl OnlineStore for RedisStore {
    async fn load(
        &self,
        generation: &Generation,
        bucket: u16,
        partition: Partition,
        keys: &[EntityKey],
    ) -> Result<Loaded, StoreError> {
        check_bucket(bucket, keys)?;
        self.watch.look(&self.link).await?;
        let _turn = self.turns.acquire().await;
        states::load(&self.link, generation, bucket, partition, keys).await
    }

    async fn flush(
        &self,
        generation: &Generation,
        flushes: Vec<BucketFlush>,
    ) -> Result<Vec<FlushOutcome>, StoreError> {
        check_flushes(&flushes)?;
        self.watch.look(&self.link).await?;
        let _turn = self.turns.acquire().await;
        states::flush(&self.link, generation, flushes).await
    }

    async fn lookup(
        &self,
        generation: &Generation,
        keys: &[EntityKey],
    ) -> Result<Vec<EntityLookup>, StoreError> {
        self.watch.look(&self.link).await?;
        states::lookup(&self.link, generation, keys).await
    }

    async fn positions(&self, generation: &Generation) -> Result<Positions, StoreError> {
        // Also a worker that has nothing to write notices by this.
        self.watch.look(&self.link).await?;
        generations::positions(&self.link, generation).await
    }

    async fn positions_of(
        &self,
        generation: &Generation,
        partitions: &[Partition],
    ) -> Result<Positions, StoreError> {
        self.watch.look(&self.link).await?;
        let positions = several::positions(&self.link, std::slice::from_ref(generation), partitions).await?;
        let gone = || StoreError::Gone(generation.clone());
        positions.into_iter().next().flatten().ok_or_else(gone)
    }

    async fn positions_of_each(
        &self,
        generations: &[Generation],
        partitions: &[Partition],
    ) -> Result<Vec<Option<Positions>>, StoreError> {
        self.watch.look(&self.link).await?;
        several::positions(&self.link, generations, partitions).await
    }

    /// Redis compares, and answers with what differs.
    async fn are_live_at(
        &self,
        generations: &[Generation],
        positions: &BTreeMap<Partition, Position>,
    ) -> Result<Vec<bool>, StoreError> {
        self.watch.look(&self.link).await?;
        several::are_live_at(&self.link, generations, positions).await
    }

    async fn claim_history(&self, source: &str, history: &str) -> Result<(), StoreError> {
        histories::claim(&self.link, source, history).await
    }

    async fn check_history(&self, source: &str, history: &str) -> Result<(), StoreError> {
        let recorded = histories::recorded(&self.link, source).await?;
        compare_history(self.link.place(), source, recorded.as_deref(), history)
    }

    async fn is_whole(&self, generation: &Generation) -> Result<bool, StoreError> {
        Ok(self.are_whole(std::slice::from_ref(generation)).await? == [true])
    }

    async fn are_whole(&self, generations: &[Generation]) -> Result<Vec<bool>, StoreError> {
        self.watch.look(&self.link).await?;
        several::are_whole(&self.link, generations).await
    }

    async fn begin(
        &self,
        view: &str,
        fingerprint: Fingerprint,
        positions: &BTreeMap<Partition, Position>,
        least: Option<Span>,
    ) -> Result<Generation, StoreError> {
        // Redis may have lost its data, and another version may have come since.
        server::claim(&self.link).await?;
        generations::begin(&self.link, view, fingerprint, positions, least).await
    }

    async fn add_partition(
        &self,
        generation: &Generation,
        partition: Partition,
        position: Position,
    ) -> Result<(), StoreError> {
        generations::add_partition(&self.link, generation, partition, position).await
    }

    async fn publish(
        &self,
        view: &str,
        expected: Option<&Generation>,
        new: Option<&Generation>,
    ) -> Result<PublishOutcome, StoreError> {
        generations::publish(&self.link, view, expected, new).await
    }

    async fn live(&self, view: &str) -> Result<Option<Generation>, StoreError> {
        self.watch.look(&self.link).await?;
        generations::live(&self.link, view).await
    }

    async fn live_of(&self, views: &[&str]) -> Result<Vec<Option<Generation>>, StoreError> {
        self.watch.look(&self.link).await?;
        several::live(&self.link, views).await
    }

    async fn unpublished(&self, view: &str) -> Result<Vec<Generation>, StoreError> {
        generations::unpublished(&self.link, view).await
    }

    async fn unpublished_of(&self, views: &[&str]) -> Result<Vec<Vec<Generation>>, StoreError> {
        several::unpublished(&self.link, views).await
    }

    async fn drop_generation(&self, generation: &Generation) -> Result<(), StoreError> {
        generations::drop_generations(&self.link, std::slice::from_ref(generation)).await
    }

    async fn drop_generations(&self, generations: &[Generation]) -> Result<(), StoreError> {
        generations::drop_generations(&self.link, generations).await
    }

    async fn entities<'a>(
        &'a self,
        generation: &Generation,
    ) -> Result<Box<dyn EntityPages + 'a>, StoreError> {
        Ok(Box::new(Pages::open(&self.link, generation).await?))
    }

    async fn entities_of<'a>(
        &'a self,
        generations: &[Generation],
    ) -> Result<Vec<Box<dyn EntityPages + 'a>>, StoreError> {
        let pages = Pages::open_each(&self.link, generations).await?;
        Ok(pages.into_iter().map(|pages| Box::new(pages) as Box<dyn EntityPages + 'a>).collect())
    }

    async fn sample(
        &self,
        generations: &[Generation],
        count: usize,
        seed: u64,
    ) -> Result<Vec<BTreeSet<EntityKey>>, StoreError> {
        contents::sample(&self.link, generations, count, seed).await
    }

    async fn sizes(&self, generation: &Generation) -> Result<Sizes, StoreError> {
        contents::sizes(&self.link, generation).await
    }

    async fn estimate(&self, generations: &[Generation]) -> Result<Vec<Sizes>, StoreError> {
        estimate::sizes(&self.link, generations).await
    }

    /// Redis forgets by itself.
    async fn expire(&self, generation: &Generation, _: &mut Sweep) -> Result<u64, StoreError> {
        generations::check_whole(&self.link, generation).await.map(|()| 0)
    }

    async fn check(&self) -> Result<(), StoreError> {
        self.check_others(&[]).await
    }

    async fn check_others(&self, read: &[Generation]) -> Result<(), StoreError> {
        server::check_format(&self.link).await?;
        contents::check(&self.link, read).await
    }
}

impl fmt::Debug for RedisStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RedisStore").field("place", &self.link.place()).finish_non_exhaustive()
    }
}
