//! Reads entities again, each together with the positions of its states as of the same instant.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use tidemark_kernel::{EntityKey, Partition};
use tidemark_offline::{History, Positions};
use tidemark_store::BUCKETS;

use super::findings::Findings;
use super::tables::Tables;
use super::{States, VerifyError, View, furthest};

/// How many entities of a bucket are read at once: no answer may take so long that it is given up.
const LOADED: usize = 256;

/// About how many bytes are held at once. For each such portion the whole history is read.
const HELD: usize = 64 << 20;

/// About how many bytes an entity takes, without its states.
const ENTITY: usize = 256;

/// Entities that were read again.
#[derive(Default)]
struct Portion {
    entities: BTreeMap<EntityKey, Reading>,
    bytes: usize,
}

/// What is stored of an entity.
#[derive(Default)]
struct Reading {
    states: States,
    /// For each partition, the position of its bucket when the state was read.
    standing: Arc<Positions>,
}

impl View<'_> {
    /// Reads these entities again, a portion at a time, and compares them: their states of these partitions.
    pub(super) async fn read_again(
        &self,
        mut keys: Vec<EntityKey>,
        partitions: &BTreeSet<Partition>,
        tables: &mut Tables<'_>,
        findings: &mut Findings<'_>,
    ) -> Result<(), VerifyError> {
        let bucket = |key: &EntityKey| key.bucket(BUCKETS);
        keys.sort_by_key(bucket);
        let mut left = keys.as_slice();
        while !left.is_empty() {
            let mut portion = Portion::default();
            while let Some(first) = left.first()
                && portion.bytes < HELD
            {
                let bucket_of_first = bucket(first);
                let together = left.iter().take(LOADED).take_while(|key| bucket(key) == bucket_of_first);
                let (keys, rest) = left.split_at(together.count());
                self.load(bucket_of_first, keys, partitions, &mut portion).await?;
                left = rest;
            }
            self.compare_again(portion, tables, findings).await?;
        }
        Ok(())
    }

    /// Reads entities of one bucket. Each partition is read as of an instant of its own: what is compared are the states of one partition.
    async fn load(
        &self,
        bucket: u16,
        keys: &[EntityKey],
        partitions: &BTreeSet<Partition>,
        portion: &mut Portion,
    ) -> Result<(), VerifyError> {
        let mut standing = Positions::new();
        let mut states = vec![States::new(); keys.len()];
        for partition in partitions {
            let loaded = self.request.store.load(&self.generation, bucket, *partition, keys).await?;
            standing.extend(loaded.position.map(|position| (*partition, position)));
            for (of_entity, state) in states.iter_mut().zip(loaded.states) {
                portion.bytes += state.as_ref().map_or(0, Vec::len);
                of_entity.extend(state.map(|state| (*partition, state)));
            }
        }
        let standing = Arc::new(standing);
        portion.bytes += ENTITY * keys.len();
        let readings = states.into_iter().map(|states| Reading { states, standing: Arc::clone(&standing) });
        portion.entities.extend(keys.iter().cloned().zip(readings));
        Ok(())
    }

    async fn compare_again(
        &self,
        portion: Portion,
        tables: &mut Tables<'_>,
        findings: &mut Findings<'_>,
    ) -> Result<(), VerifyError> {
        let mut entities = portion.entities;
        let reached = furthest(entities.values().map(|reading| &*reading.standing));
        let table = tables.covering(self, &reached).await?;
        let wanted = Some(entities.keys().cloned().collect());
        let mut history = History::open(&table, self.plan, wanted, self.request.effort).await?;
        while let Some(entity) = history.next().await? {
            let Reading { states, standing } = entities.remove(&entity.key).unwrap_or_default();
            findings.second(&entity.key, entity.events, &states, &standing);
        }
        for (key, Reading { states, standing }) in entities {
            findings.second(&key, Vec::new(), &states, &standing);
        }
        Ok(())
    }
}
