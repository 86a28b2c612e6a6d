//! The durable store of one process: one [redb](https://docs.rs/redb) file, `online.redb`, in a directory.
//!
//! A call of [`flush`](OnlineStore::flush) is one transaction and is on disk (fsync) before it returns. Reads take a
//! snapshot and never wait for writers. What is stored is laid out as `embedded/layout.rs` says; every value carries
//! a checksum that is verified at each read.
//!
//! redb blocks. Everything runs on the runtime's blocking threads, except reading a few keys: that takes
//! microseconds from memory, less than the way to another thread and back, and once in a while the time of a few
//! reads from disk.

mod barrier;
mod file;
mod generations;
mod layout;
mod states;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use async_trait::async_trait;
use tidemark_host::durable;
use tidemark_kernel::event::{Partition, Position};
use tidemark_kernel::key::EntityKey;
use tidemark_kernel::plan::Fingerprint;
use tidemark_kernel::time::Span;

use crate::contract::{
    BucketFlush, Clock, EntityLookup, EntityPages, EntityStates, FlushOutcome, Generation, Loaded,
    OnlineStore, Positions, PublishOutcome, Sizes, check_bucket, check_flushes, compare_history,
};
use crate::error::StoreError;
use crate::sample::Lowest;
use crate::sweep::Sweep;
use file::File;

/// From how many states the sizes of generations are estimated, those of all generations together, and at least of each: a
/// fraction of a second.
const ESTIMATED_FROM: usize = 1 << 16;
const ESTIMATED_FROM_EACH: usize = 64;

/// Up to this many keys are read where the caller is, more on a blocking thread.
const INLINE_KEYS: usize = 32;

/// An online store in one file, for one process at a time.
pub struct EmbeddedStore {
    clock: Clock,
    file: Arc<File>,
}

/// How much of the file is kept in memory unless told: 256 MiB.
const CACHE: usize = 256 << 20;

impl EmbeddedStore {
    /// The name of the file in its directory.
    pub const FILE_NAME: &str = "online.redb";

    /// Opens the store in `directory`, which is created where it is missing; `clock` tells when a state is
    /// written, and whether it may be forgotten. Blocks, and for long after an unclean end: the whole file is then read and verified.
    ///
    /// # Errors
    /// [`StoreError::InUse`] if another process has it open, [`StoreError::Newer`] if a newer version wrote it,
    /// [`StoreError::Corrupt`] if it is damaged, [`StoreError::Full`] or [`StoreError::Io`].
    pub fn open(directory: &Path, clock: Clock) -> Result<Self, StoreError> {
        Self::open_within(CACHE, directory, clock)
    }

    /// As [`open`](Self::open) does, but at most `cache` bytes of the file are kept in memory, not 256 MiB. What is not kept, the
    /// operating system's page cache often has.
    ///
    /// # Errors
    /// As there.
    pub fn open_within(cache: usize, directory: &Path, clock: Clock) -> Result<Self, StoreError> {
        let path = directory.join(Self::FILE_NAME);
        let failed = |error| StoreError::io(&path.display().to_string(), "create", error);
        durable::create_folder(directory).map_err(|error| failed(error.source))?;
        Self::prepare(File::open(&path, cache)?, clock)
    }

    /// Where the store of `directory` lies.
    #[must_use]
    pub fn path(directory: &Path) -> PathBuf {
        directory.join(Self::FILE_NAME)
    }

    fn prepare(file: File, clock: Clock) -> Result<Self, StoreError> {
        file.write(|transaction| generations::prepare(transaction, file.place()))?;
        Ok(Self { clock, file: Arc::new(file) })
    }

    /// The history recorded for a source.
    fn recorded_history(&self, source: &str) -> Result<Option<String>, StoreError> {
        self.file.read(|transaction| generations::history(&transaction.open_table(layout::META)?, source))
    }

    /// Runs `work` on a blocking thread.
    async fn blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce(&File) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        let file = Arc::clone(&self.file);
        tokio::task::spawn_blocking(move || work(&file)).await.unwrap_or_else(|stopped| {
            Err(StoreError::io(self.file.place(), "use", io::Error::other(stopped)))
        })
    }

    /// Runs `work`, which reads `keys`, here or on a blocking thread.
    async fn reading<T: Send + 'static>(
        &self,
        keys: &[EntityKey],
        work: impl FnOnce(&File, &[EntityKey]) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        if keys.len() <= INLINE_KEYS {
            return work(&self.file, keys);
        }
        let keys = keys.to_vec();
        self.blocking(move |file| work(file, &keys)).await
    }
}

#[async_trait]
impl OnlineStore for EmbeddedStore {
    async fn load(
        &self,
        generation: &Generation,
        bucket: u16,
        partition: Partition,
        keys: &[EntityKey],
    ) -> Result<Loaded, StoreError> {
        check_bucket(bucket, keys)?;
        let generation = generation.clone();
        self.reading(keys, move |file, keys| {
            file.read(|transaction| states::load(transaction, &generation, bucket, partition, keys))
        })
        .await
    }

    async fn flush(
        &self,
        generation: &Generation,
        flushes: Vec<BucketFlush>,
    ) -> Result<Vec<FlushOutcome>, StoreError> {
        check_flushes(&flushes)?;
        let (generation, now) = (generation.clone(), (self.clock)());
        self.blocking(move |file| {
            file.write(|transaction| states::flush(transaction, &generation, &flushes, now))
        })
        .await
    }

    async fn lookup(
        &self,
        generation: &Generation,
        keys: &[EntityKey],
    ) -> Result<Vec<EntityLookup>, StoreError> {
        let generation = generation.clone();
        self.reading(keys, move |file, keys| {
            let found = file.read(|transaction| states::lookup(transaction, &generation, keys))?;
            Ok(found.into_iter().map(|entity| entity.map_err(|fault| file.explain("read", fault))).collect())
        })
        .await
    }

    async fn positions(&self, generation: &Generation) -> Result<Positions, StoreError> {
        self.file.read(|transaction| {
            generations::record(&transaction.open_table(layout::GENERATIONS)?, generation)?;
            generations::positions(&transaction.open_table(layout::POSITIONS)?, generation.number)
        })
    }

    async fn are_live_at(
        &self,
        generations: &[Generation],
        positions: &BTreeMap<Partition, Position>,
    ) -> Result<Vec<bool>, StoreError> {
        let (all, positions) = (generations.to_vec(), positions.clone());
        self.blocking(move |file| {
            file.read(|transaction| {
                let is_there = |of: &Generation| generations::is_live_at(transaction, of, &positions);
                all.iter().map(is_there).collect()
            })
        })
        .await
    }

    async fn is_whole(&self, generation: &Generation) -> Result<bool, StoreError> {
        self.file.read(|transaction| generations::is_whole(transaction, generation))
    }

    async fn claim_history(&self, source: &str, history: &str) -> Result<(), StoreError> {
        // Asks first: that needs no room on the disk, of which there may be none left.
        let recorded = match self.recorded_history(source)? {
            Some(recorded) => recorded,
            None => {
                let (name, given) = (source.to_owned(), history.to_owned());
                let record = self.blocking(move |file| {
                    file.write(|transaction| generations::record_history(transaction, &name, &given))
                });
                record.await?
            }
        };
        compare_history(self.file.place(), source, Some(&recorded), history)
    }

    async fn check_history(&self, source: &str, history: &str) -> Result<(), StoreError> {
        let recorded = self.recorded_history(source)?;
        compare_history(self.file.place(), source, recorded.as_deref(), history)
    }

    async fn begin(
        &self,
        view: &str,
        fingerprint: Fingerprint,
        positions: &BTreeMap<Partition, Position>,
        least: Option<Span>,
    ) -> Result<Generation, StoreError> {
        let (view, positions) = (view.to_owned(), positions.clone());
        self.blocking(move |file| {
            file.write(|transaction| generations::begin(transaction, &view, fingerprint, &positions, least))
        })
        .await
    }

    async fn add_partition(
        &self,
        generation: &Generation,
        partition: Partition,
        position: Position,
    ) -> Result<(), StoreError> {
        let generation = generation.clone();
        self.blocking(move |file| {
            file.write(|transaction| {
                generations::add_partition(transaction, &generation, partition, position)
            })
        })
        .await
    }

    async fn publish(
        &self,
        view: &str,
        expected: Option<&Generation>,
        new: Option<&Generation>,
    ) -> Result<PublishOutcome, StoreError> {
        let (view, expected, new) = (view.to_owned(), expected.cloned(), new.cloned());
        self.blocking(move |file| {
            file.write(|transaction| {
                generations::publish(transaction, &view, expected.as_ref(), new.as_ref())
            })
        })
        .await
    }

    async fn live(&self, view: &str) -> Result<Option<Generation>, StoreError> {
        self.file.read(|transaction| generations::live(transaction, view))
    }

    async fn unpublished(&self, view: &str) -> Result<Vec<Generation>, StoreError> {
        self.file.read(|transaction| generations::unpublished(transaction, view))
    }

    async fn unpublished_of(&self, views: &[&str]) -> Result<Vec<Vec<Generation>>, StoreError> {
        let views: Vec<String> = views.iter().map(|view| (*view).to_owned()).collect();
        self.blocking(move |file| file.read(|transaction| generations::unpublished_of(transaction, &views)))
            .await
    }

    async fn drop_generation(&self, generation: &Generation) -> Result<(), StoreError> {
        let generation = generation.clone();
        self.blocking(move |file| {
            file.write(|transaction| generations::drop_generation(transaction, &generation))
        })
        .await
    }

    async fn entities<'a>(
        &'a self,
        generation: &Generation,
    ) -> Result<Box<dyn EntityPages + 'a>, StoreError> {
        self.positions(generation).await?;
        Ok(Box::new(Pages { store: self, generation: generation.clone(), after: None }))
    }

    async fn sizes(&self, generation: &Generation) -> Result<Sizes, StoreError> {
        let mut pages = self.entities(generation).await?;
        let mut sizes = Sizes::default();
        loop {
            let page = pages.next_page().await?;
            if page.is_empty() {
                return Ok(sizes);
            }
            page.iter().for_each(|entity| sizes.add(entity));
        }
    }

    async fn sample(
        &self,
        generations: &[Generation],
        count: usize,
        seed: u64,
    ) -> Result<Vec<BTreeSet<EntityKey>>, StoreError> {
        let generations = generations.to_vec();
        self.blocking(move |file| {
            let sample = |generation: &Generation| {
                let mut lowest = Lowest::new(count, seed);
                file.read(|transaction| states::sample(transaction, generation, &mut lowest))?;
                Ok(lowest.keys())
            };
            generations.iter().map(sample).collect()
        })
        .await
    }

    async fn estimate(&self, generations: &[Generation]) -> Result<Vec<Sizes>, StoreError> {
        let generations = generations.to_vec();
        let most = (ESTIMATED_FROM / generations.len().max(1)).max(ESTIMATED_FROM_EACH);
        self.blocking(move |file| {
            let estimate = |generation: &Generation| match file
                .read(|transaction| states::estimate(transaction, generation, most))
            {
                Err(StoreError::Gone(_)) => Ok(Sizes::default()),
                sizes => sizes,
            };
            generations.iter().map(estimate).collect()
        })
        .await
    }

    /// Found by reading, then removed in one transaction: writers wait for the second step only. redb uses the pages
    /// again that this frees.
    async fn expire(&self, generation: &Generation, sweep: &mut Sweep) -> Result<u64, StoreError> {
        let (generation, now, mut walk) = (generation.clone(), (self.clock)(), sweep.clone());
        let (walk, forgotten) = self
            .blocking(move |file| {
                let due = file.read(|transaction| states::due(transaction, &generation, &mut walk, now))?;
                if due.is_empty() {
                    return Ok((walk, 0));
                }
                let forget = |transaction: &_| states::forget(transaction, &generation, &due, &walk, now);
                let forgotten = file.write(forget)?;
                Ok((walk, forgotten))
            })
            .await?;
        *sweep = walk;
        Ok(forgotten)
    }

    /// Reads the states first: where one of them is damaged, that says more than the page it lies on.
    async fn check(&self) -> Result<(), StoreError> {
        self.check_others(&[]).await
    }

    async fn check_others(&self, read: &[Generation]) -> Result<(), StoreError> {
        let mut others = self.blocking(|file| file.read(generations::check)).await?;
        others.retain(|other| !read.contains(other));
        for generation in others {
            match self.sizes(&generation).await {
                Ok(_) | Err(StoreError::Gone(_)) => {}
                Err(error) => return Err(error),
            }
        }
        self.blocking(File::check_pages).await
    }
}

impl fmt::Debug for EmbeddedStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EmbeddedStore").field("place", &self.file.place()).finish_non_exhaustive()
    }
}

/// Pages are snapshots of their own: one for all would keep redb from reusing the pages freed meanwhile.
struct Pages<'a> {
    store: &'a EmbeddedStore,
    generation: Generation,
    after: Option<EntityKey>,
}

#[async_trait]
impl EntityPages for Pages<'_> {
    async fn next_page(&mut self) -> Result<Vec<EntityStates>, StoreError> {
        let (generation, after) = (self.generation.clone(), self.after.clone());
        let page = self
            .store
            .blocking(move |file| {
                file.read(|transaction| states::page(transaction, &generation, after.as_ref()))
            })
            .await?;
        if let Some(last) = page.last() {
            self.after = Some(last.key.clone());
        }
        Ok(page)
    }
}
