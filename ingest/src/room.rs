//! Backpressure: limits how many records of a source are on their way to its views.
//!
//! Every partition has a queue for each view. A reader hands over a batch of a partition only while there is room for it, so a
//! view that is slow in one partition holds up the reader of that partition and no other, and memory stays bounded.

use std::collections::BTreeMap;
use std::sync::Arc;

use tidemark_host::Host;
use tidemark_kernel::Partition;
use tokio::sync::watch;

use crate::decode::Batch;
use crate::memory::{Memory, SourceMemory};
use crate::metrics::SourceMetrics;
use crate::push::Applied;

/// How many batches of a partition may be on their way: one that is being applied, and the next.
const BATCHES: usize = 2;

/// How many records of a source may be on their way before a partition has to wait that has some on their way already.
const RECORDS: usize = 4 * 65_536;

/// What is on its way to the views of one source. Clones are the same room.
#[derive(Clone, Debug)]
pub struct Room {
    occupied: Arc<watch::Sender<Occupied>>,
    memory: Arc<SourceMemory>,
}

#[derive(Debug, Default)]
struct Occupied {
    batches: BTreeMap<Partition, usize>,
    records: usize,
    bytes: usize,
    /// Whether as much waits for the next commit as may.
    tables_are_full: bool,
}

impl Occupied {
    /// The second half of the memory is for partitions that have nothing on their way, so that slow ones do not take all.
    fn has_room(&self, partition: Partition, memory: usize) -> bool {
        match self.batches.get(&partition) {
            _ if self.tables_are_full => false,
            None => self.bytes == 0 || self.bytes < memory,
            Some(batches) => *batches < BATCHES && self.records < RECORDS && self.bytes < memory / 2,
        }
    }
}

impl Room {
    pub(crate) fn within(memory: Arc<SourceMemory>) -> Self {
        Self { occupied: Arc::default(), memory }
    }

    /// Whether another batch of a partition may be handed over.
    #[must_use]
    pub fn has(&self, partition: Partition) -> bool {
        self.occupied.borrow().has_room(partition, self.memory.queued())
    }

    /// Waits until another batch of a partition may be handed over.
    pub async fn free(&self, partition: Partition) {
        self.until(|occupied| occupied.has_room(partition, self.memory.queued())).await;
    }

    /// Waits until another batch of any of these partitions may be handed over.
    pub async fn free_for_any(&self, partitions: &[Partition]) {
        self.until(|occupied| {
            partitions.iter().any(|partition| occupied.has_room(*partition, self.memory.queued()))
        })
        .await;
    }

    /// Waits until nothing of these partitions is on its way.
    pub(crate) async fn drained(&self, partitions: &[Partition]) {
        self.until(|occupied| !partitions.iter().any(|partition| occupied.batches.contains_key(partition)))
            .await;
    }

    /// Whether nothing of a partition is on its way.
    pub(crate) fn is_drained(&self, partition: Partition) -> bool {
        !self.occupied.borrow().batches.contains_key(&partition)
    }

    /// Whether as much waits for the next commit as may: there is no room until it does not.
    pub(crate) fn tables_are_full(&self, full: bool) {
        self.occupied
            .send_if_modified(|occupied| std::mem::replace(&mut occupied.tables_are_full, full) != full);
    }

    async fn until(&self, mut holds: impl FnMut(&Occupied) -> bool) {
        // The sender lives as long as this.
        drop(self.occupied.subscribe().wait_for(|occupied| holds(occupied)).await.map(drop));
    }

    /// A batch begins its way to the views.
    pub(crate) fn enter(&self, batch: Batch, arrivals: &Arc<Arrivals>) -> Arc<InFlight> {
        self.occupied.send_modify(|occupied| {
            *occupied.batches.entry(batch.partition).or_default() += 1;
            occupied.records += records(&batch);
            occupied.bytes += batch.bytes();
        });
        Arc::new(InFlight { batch: Arc::new(batch), room: self.clone(), arrivals: Arc::clone(arrivals) })
    }

    fn leave(&self, batch: &Batch) {
        self.occupied.send_modify(|occupied| {
            occupied.records -= records(batch);
            occupied.bytes -= batch.bytes();
            if let Some(batches) = occupied.batches.get_mut(&batch.partition) {
                *batches -= 1;
                if *batches == 0 {
                    occupied.batches.remove(&batch.partition);
                }
            }
        });
    }
}

fn records(batch: &Batch) -> usize {
    batch.events.num_rows() + batch.dead.len()
}

/// Where batches are reported that every view that is up has applied.
pub(crate) struct Arrivals {
    pub(crate) source: String,
    pub(crate) host: Host,
    pub(crate) metrics: Arc<SourceMetrics>,
    /// The senders who wait for it, where this process takes pushes.
    pub(crate) applied: Option<Applied>,
}

/// Within the share of the only source.
impl Default for Room {
    fn default() -> Self {
        Self::within(Arc::new(Memory::default().for_source()))
    }
}

/// A batch on its way to the views. It has arrived once the last view drops it: one that fell behind is not up any
/// more.
pub(crate) struct InFlight {
    pub(crate) batch: Arc<Batch>,
    room: Room,
    arrivals: Arc<Arrivals>,
}

impl Drop for InFlight {
    fn drop(&mut self) {
        let (batch, arrivals) = (&self.batch, &self.arrivals);
        self.room.leave(batch);
        arrivals.metrics.taken(batch, arrivals.host.now());
        if let Some(applied) = arrivals.applied.as_ref().filter(|_| batch.partition == Partition::PUSH) {
            applied.reached(&arrivals.source, batch.to);
        }
    }
}

#[cfg(test)]
mod tests {
    use arrow::array::RecordBatch;
    use arrow::datatypes::Schema;
    use tidemark_kernel::{Position, Time};

    use super::*;
    use crate::decode::{DeadLetter, LOST};

    fn arrivals() -> Arc<Arrivals> {
        let host = Host::real(Arc::new(Time::default));
        Arc::new(Arrivals { source: "payments".into(), host, metrics: Arc::default(), applied: None })
    }

    fn batch(partition: Partition) -> Batch {
        let events = RecordBatch::new_empty(Arc::new(Schema::empty()));
        Batch { partition, from: Position::START, to: Position(1), events, dead: Vec::new(), epoch: None }
    }

    #[test]
    fn a_partition_that_is_full_leaves_room_for_others() {
        let (room, arrivals) = (Room::default(), arrivals());
        let first = room.enter(batch(Partition(0)), &arrivals);
        assert!(room.has(Partition(0)));
        let second = room.enter(batch(Partition(0)), &arrivals);
        assert!(!room.has(Partition(0)) && room.has(Partition(1)));
        let also = Arc::clone(&first);
        drop(first);
        assert!(!room.has(Partition(0)), "another view has not applied it yet");
        drop(also);
        assert!(room.has(Partition(0)) && !room.is_drained(Partition(0)));
        drop(second);
        assert!(room.is_drained(Partition(0)));
    }

    #[test]
    fn slow_partitions_take_half_of_the_memory_at_most() {
        let room = Room::within(Arc::new(Memory::of(16 * 1000).for_source()));
        let arrivals = arrivals();
        let large = |partition| {
            let letter = DeadLetter {
                offset: 0,
                code: LOST,
                reason: String::new(),
                place: String::new(),
                raw: vec![b'x'; 600],
                form: None,
                record_time: None,
            };
            Batch { dead: vec![letter], ..batch(partition) }
        };
        let first = room.enter(large(Partition(0)), &arrivals);
        assert!(!room.has(Partition(0)) && room.has(Partition(1)), "the second half is for others");
        let second = room.enter(large(Partition(1)), &arrivals);
        assert!(!room.has(Partition(2)), "all of it is in use");
        drop((first, second));
        assert!(room.has(Partition(0)) && room.has(Partition(2)));
    }

    #[test]
    fn full_tables_leave_room_for_none() {
        let room = Room::default();
        room.tables_are_full(true);
        assert!(!room.has(Partition(0)));
        room.tables_are_full(false);
        assert!(room.has(Partition(0)));
    }
}
