//! Gathers records into batches while the receiver is busy.

use std::collections::BTreeMap;
use std::sync::Arc;

use rdkafka::message::Message;
use tidemark_kernel::{Partition, Position, SourcePlan};
use tidemark_offline::{Epoch, Epochs, Positions};

use super::record::{self, TopicDecoder};
use crate::decode::{BATCH_BYTES, Batch, Forms, RecordPlace, RowsBuilder};
use crate::error::IngestError;
use crate::files::accept;
use crate::metrics::TopicMetrics;
use crate::room::Room;

/// How many records are gathered at most, of all partitions together.
pub(super) const ROWS: usize = 65_536;

/// The assigned partitions, and what was read of them and not handed over: how every implementation of
/// [`Topics`](super::Topics) turns records into batches.
pub struct Gathered<'s> {
    source: &'s SourcePlan,
    decoder: TopicDecoder,
    topic: Arc<str>,
    metrics: Arc<TopicMetrics>,
    room: Room,
    assigned: BTreeMap<Partition, Gathering>,
    /// How many records are gathered; what is passed over counts as well.
    records: usize,
    /// How many bytes their keys and values have.
    bytes: usize,
}

struct Gathering {
    /// The next offset to read.
    next: Position,
    gathered: Option<RowsBuilder>,
    /// How many records that is, and how many bytes their keys and values have.
    records: usize,
    bytes: usize,
    /// Whether there was nothing behind what was read last.
    at_end: bool,
    /// The leader epoch of the last record before `next`, where it is known.
    epoch: Option<Epoch>,
}

impl<'s> Gathered<'s> {
    /// No partition is assigned yet.
    pub fn new(source: &'s SourcePlan, topic: &str, metrics: Arc<TopicMetrics>, room: Room) -> Self {
        let (decoder, assigned) = (TopicDecoder::new(source), BTreeMap::new());
        Self { source, decoder, topic: topic.into(), metrics, room, assigned, records: 0, bytes: 0 }
    }

    /// A partition is read from here on. The epoch is that of the last record before, where it is known.
    pub fn assign(&mut self, partition: Partition, from: Position, epoch: Option<Epoch>) {
        let new = Gathering { next: from, gathered: None, records: 0, bytes: 0, at_end: false, epoch };
        self.assigned.insert(partition, new);
    }

    /// Partitions are not read any more. What is gathered of them must be [cut](Self::cut_last) before.
    pub fn revoke(&mut self, partitions: &[Partition]) {
        self.assigned.retain(|partition, _| !partitions.contains(partition));
    }

    /// Which partitions are assigned, and what is to be read next of each.
    pub fn positions(&self) -> Positions {
        self.assigned.iter().map(|(partition, gathering)| (*partition, gathering.next)).collect()
    }

    /// The leader epochs of the last records that were read of the assigned partitions.
    pub fn epochs(&self) -> Epochs {
        self.assigned
            .iter()
            .filter_map(|(partition, gathering)| Some((*partition, gathering.epoch?)))
            .collect()
    }

    /// Whether a partition is assigned.
    pub fn has(&self, partition: Partition) -> bool {
        self.assigned.contains_key(&partition)
    }

    /// Whether nothing is gathered.
    pub const fn is_empty(&self) -> bool {
        self.records == 0
    }

    /// Whether there is room for something that is gathered.
    pub fn has_room(&self) -> bool {
        self.gathered().any(|partition| self.room.has(partition))
    }

    /// The partitions that something is gathered of.
    pub fn gathered(&self) -> impl Iterator<Item = Partition> + '_ {
        self.assigned.iter().filter(|(_, it)| it.gathered.is_some()).map(|(partition, _)| *partition)
    }

    /// Whether so much of a partition is gathered, and so little room for it, that no more of it must be read: its share of
    /// half of what is gathered at most, so that partitions without room never keep others from being read.
    pub fn is_crowded(&self, partition: Partition) -> bool {
        let share = |most: usize| most / 2 / self.assigned.len().max(4);
        let is_large = |it: &Gathering| it.records > share(ROWS) || it.bytes > share(BATCH_BYTES);
        self.assigned.get(&partition).is_some_and(is_large) && !self.room.has(partition)
    }

    /// Whether no more must be read before the next cut.
    pub const fn is_full(&self) -> bool {
        self.records >= ROWS || self.bytes >= BATCH_BYTES
    }

    /// Whether every partition was read to its end.
    pub fn is_at_end(&self) -> bool {
        self.assigned.values().all(|gathering| gathering.at_end)
    }

    /// There is nothing more in a partition just now.
    pub fn ended(&mut self, partition: Partition) {
        if let Some(gathering) = self.assigned.get_mut(&partition) {
            gathering.at_end = true;
        }
    }

    /// Adds a record, with the epoch of the leader that wrote it, if known. A record that is not of an assigned partition, or
    /// was read before, is left out.
    pub fn take(&mut self, message: &impl Message, epoch: Option<i32>) {
        let (partition, offset) = (Partition(message.partition()), message.offset());
        let Some(gathering) = self.assigned.get_mut(&partition) else { return };
        if gathering.next.covers(offset) {
            return;
        }
        let mut bytes = message.key().map_or(0, <[u8]>::len) + message.payload().map_or(0, <[u8]>::len);
        self.metrics.read(bytes, message.payload().is_none());
        let rows = gathering.rows(self.source, &self.topic, partition);
        rows.skip_to(Position(offset));
        match message.payload() {
            None => rows.skip_to(Position::after(offset)),
            Some(payload) => {
                let (form, mut unknown) = (record::form(message), false);
                // Kept with the record until it is decided about.
                bytes += form.len();
                rows.push_as(&form, offset, record::time(message), payload, |row| {
                    self.decoder.decode(message, payload, row, &mut |_, _| unknown = true)
                });
                self.metrics.unknown_members(unknown);
            }
        }
        gathering.next = Position::after(offset);
        gathering.epoch = epoch.map(|number| Epoch { number, until: gathering.next }).or(gathering.epoch);
        gathering.at_end = false;
        gathering.records += 1;
        gathering.bytes += bytes;
        self.records += 1;
        self.bytes += bytes;
    }

    /// A partition that was read to its end is at `end`: the offsets up to there hold no records, but transaction
    /// markers and records of aborted transactions.
    pub fn ends_at(&mut self, partition: Partition, end: Position) {
        // Of one that was assigned anew and not read to its end yet, librdkafka may tell where it stood before.
        let Some(gathering) = self.assigned.get_mut(&partition).filter(|gathering| gathering.at_end) else {
            return;
        };
        if end > gathering.next {
            gathering.rows(self.source, &self.topic, partition).skip_to(end);
            gathering.next = end;
            gathering.records += 1;
            self.records += 1;
        }
        self.metrics.ends_at(partition, end);
    }

    /// What was gathered and has room, one batch for each partition that moved.
    pub fn cut(&mut self) -> Result<Vec<Batch>, IngestError> {
        let room = self.room.clone();
        self.cut_where(|partition| room.has(partition))
    }

    /// What was gathered of these partitions, whether there is room for it or not: nothing more of them will be read.
    pub fn cut_last(&mut self, partitions: &[Partition]) -> Result<Vec<Batch>, IngestError> {
        self.cut_where(|partition| partitions.contains(&partition))
    }

    fn cut_where(&mut self, may: impl Fn(Partition) -> bool) -> Result<Vec<Batch>, IngestError> {
        let mut batches = Vec::new();
        for (partition, gathering) in self.assigned.iter_mut().filter(|(partition, _)| may(**partition)) {
            let Some(rows) = gathering.gathered.take() else { continue };
            self.records -= std::mem::take(&mut gathering.records);
            self.bytes -= std::mem::take(&mut gathering.bytes);
            batches.push(Batch { epoch: gathering.epoch, ..accept(self.source, rows.finish(), *partition)? });
        }
        Ok(batches)
    }
}

impl Gathering {
    fn rows(&mut self, source: &SourcePlan, topic: &Arc<str>, partition: Partition) -> &mut RowsBuilder {
        let place = || RecordPlace::Partition(Arc::clone(topic), partition.0);
        self.gathered.get_or_insert_with(|| RowsBuilder::new(source, Forms::each(), place(), self.next))
    }
}
