//! Changes of the assignment: the consumer group says which partitions to read, and the receiver from which positions.

use std::time::Duration;

use rdkafka::consumer::Consumer;
use rdkafka::{Offset, TopicPartitionList};
use tidemark_kernel::Partition;
use tokio::sync::oneshot::{self, error::TryRecvError};

use super::Reader;
use crate::error::IngestError;
use crate::kafka::context::{Change, give_back};
use crate::kafka::{Input, Resume, failure};

/// How long librdkafka may take to begin a check. It answers at once unless its own thread is busy.
const BEGIN_CHECK: Duration = Duration::from_millis(100);

/// How long a check that cannot begin is tried again.
const BEGIN_CHECK_AGAIN: Duration = Duration::from_secs(60);

/// A change of the assignment that waits for the receiver's answer.
pub(super) enum Pending {
    Assign { list: TopicPartitionList, answer: oneshot::Receiver<Resume> },
    Revoke { list: TopicPartitionList, done: oneshot::Receiver<()> },
}

impl Reader<'_> {
    /// Carries out changes of the assignment, one after the other, as far as they are answered.
    pub(super) fn change(&mut self) -> Result<(), IngestError> {
        loop {
            match self.pending.take() {
                None => match self.consumer.context().next_change() {
                    None => return Ok(()),
                    Some(change) => self.begin(change)?,
                },
                Some(Pending::Assign { list, mut answer }) => match answer.try_recv() {
                    Ok(resume) => self.assign(&list, &resume)?,
                    Err(TryRecvError::Closed) => {
                        return Err(IngestError::stopped("the receiver gave no positions to read from"));
                    }
                    Err(TryRecvError::Empty) => {
                        self.pending = Some(Pending::Assign { list, answer });
                        return Ok(());
                    }
                },
                Some(Pending::Revoke { list, mut done }) => match done.try_recv() {
                    // Whoever gives no answer has nothing under way any more.
                    Ok(()) | Err(TryRecvError::Closed) => {
                        give_back(self.consumer, &list).map_err(|error| self.failed(&error))?;
                    }
                    Err(TryRecvError::Empty) => {
                        self.pending = Some(Pending::Revoke { list, done });
                        return Ok(());
                    }
                },
            }
        }
    }

    /// Tells the receiver of a change, unless it concerns no partition.
    fn begin(&mut self, change: Change) -> Result<(), IngestError> {
        match change {
            Change::Assign(list) if list.count() == 0 => self.assign(&list, &Resume::default()),
            Change::Assign(list) => {
                self.task.metrics.rebalanced();
                let (send, answer) = oneshot::channel();
                self.waiting.push_back(Input::Assigned { partitions: partitions(&list), answer: send });
                self.pending = Some(Pending::Assign { list, answer });
                Ok(())
            }
            Change::Revoke { partitions: list, lost } => {
                let partitions: Vec<Partition> =
                    partitions(&list).into_iter().filter(|partition| self.gathered.has(*partition)).collect();
                if partitions.is_empty() {
                    return give_back(self.consumer, &list).map_err(|error| self.failed(&error));
                }
                self.task.metrics.rebalanced();
                self.assigned = false;
                let last = self.gathered.cut_last(&partitions)?;
                if !last.is_empty() {
                    self.waiting.push_back(Input::Batches(last));
                }
                self.gathered.revoke(&partitions);
                self.crowded.retain(|partition| !partitions.contains(partition));
                self.unchecked.retain(|partition, _| !partitions.contains(partition));
                let (send, done) = oneshot::channel();
                self.waiting.push_back(Input::Revoked { partitions, lost, done: send });
                self.pending = Some(Pending::Revoke { list, done });
                Ok(())
            }
        }
    }

    /// Begins to read partitions where the receiver said. Where the epoch of the last record is known, that is right after this
    /// record: an epoch ends before the markers that follow, so that the position behind them could not be checked. What
    /// was read before is left out as it is gathered.
    fn assign(&mut self, list: &TopicPartitionList, resume: &Resume) -> Result<(), IngestError> {
        let mut assigned = TopicPartitionList::new();
        for partition in partitions(list) {
            let Some(position) = resume.positions.get(&partition) else {
                return Err(IngestError::stopped(format!(
                    "the receiver gave no position for partition {partition}"
                )));
            };
            let epoch = resume.epochs.get(&partition).copied().filter(|epoch| epoch.until <= *position);
            let from = epoch.map_or(*position, |epoch| epoch.until);
            let added = assigned.add_partition_offset(&self.task.topic, partition.0, Offset::Offset(from.0));
            added.map_err(|error| self.failed(&error))?;
            self.gathered.assign(partition, *position, epoch);
            if let Some(epoch) = epoch {
                self.unchecked.insert(partition, (epoch, self.task.host.stopwatch()));
            }
        }
        self.consumer.incremental_assign(&assigned).map_err(|error| self.failed(&error))?;
        self.consumer.context().answered();
        if self.paused {
            self.consumer.pause(&assigned).map_err(|error| self.failed(&error))?;
        }
        self.assigned = true;
        self.idle = false;
        self.check_epochs()
    }

    /// Has librdkafka ask the leaders of partitions that were assigned whether they still have the last records that were read.
    /// It asks before it fetches, but only for a seek: a position that is assigned is not checked. What was fetched before the
    /// seek is thrown away. Where the records are gone, an error is polled later.
    pub(super) fn check_epochs(&mut self) -> Result<(), IngestError> {
        if self.unchecked.is_empty() {
            return Ok(());
        }
        let (topic, mut assigned) = (self.task.topic.as_str(), TopicPartitionList::new());
        for (partition, (epoch, _)) in &self.unchecked {
            assigned
                .add_partition_offset(topic, partition.0, Offset::Offset(epoch.until.0))
                .and_then(|()| {
                    tidemark_topic::set_leader_epoch(&mut assigned, topic, partition.0, epoch.number)
                })
                .map_err(|error| self.failed(&error))?;
        }
        // A partition whose fetcher has not started yet cannot seek. It is tried again with the next turn.
        let mut reason = None;
        match self.consumer.seek_partitions(assigned, BEGIN_CHECK) {
            Ok(assigned) => {
                for element in assigned.elements() {
                    match element.error() {
                        Ok(()) => drop(self.unchecked.remove(&Partition(element.partition()))),
                        Err(error) => reason = Some(error),
                    }
                }
            }
            Err(error) => reason = Some(error),
        }
        let overdue = self.unchecked.iter().find(|(_, (_, assigned))| assigned.elapsed() > BEGIN_CHECK_AGAIN);
        match (overdue, reason) {
            (Some((partition, _)), Some(error)) => {
                let reason = failure::told(&error);
                Err(self.broken(format!("the position in partition {partition} cannot be checked: {reason}")))
            }
            _ => Ok(()),
        }
    }
}

/// The partitions of a list.
fn partitions(assigned: &TopicPartitionList) -> Vec<Partition> {
    assigned.elements().iter().map(|element| Partition(element.partition())).collect()
}
