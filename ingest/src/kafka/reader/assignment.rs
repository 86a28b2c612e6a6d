//! Which partitions are read, as the group says it and the receiver answers.

use rdkafka::consumer::Consumer;
use rdkafka::{Offset, TopicPartitionList};
use tidemark_kernel::Log;
use tidemark_offline::Positions;
use tokio::sync::oneshot::{self, error::TryRecvError};

use super::Reader;
use crate::error::IngestError;
use crate::kafka::Input;
use crate::kafka::context::{Change, give_back};

/// A change of the assignment that waits for the receiver's answer.
pub(super) enum Pending {
    Assign { partitions: TopicPartitionList, answer: oneshot::Receiver<Positions> },
    Revoke { partitions: TopicPartitionList, done: oneshot::Receiver<()> },
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
                Some(Pending::Assign { partitions, mut answer }) => match answer.try_recv() {
                    Ok(positions) => self.assign(&partitions, &positions)?,
                    Err(TryRecvError::Closed) => {
                        return Err(IngestError::stopped("nobody said where to read on"));
                    }
                    Err(TryRecvError::Empty) => {
                        self.pending = Some(Pending::Assign { partitions, answer });
                        return Ok(());
                    }
                },
                Some(Pending::Revoke { partitions, mut done }) => match done.try_recv() {
                    // Whoever gives no answer has nothing under way any more.
                    Ok(()) | Err(TryRecvError::Closed) => {
                        give_back(self.consumer, &partitions).map_err(|error| self.failed(&error))?;
                    }
                    Err(TryRecvError::Empty) => {
                        self.pending = Some(Pending::Revoke { partitions, done });
                        return Ok(());
                    }
                },
            }
        }
    }

    /// Tells the receiver of a change, unless it concerns no partition.
    fn begin(&mut self, change: Change) -> Result<(), IngestError> {
        match change {
            Change::Assign(partitions) if partitions.count() == 0 => {
                self.assign(&partitions, &Positions::new())
            }
            Change::Assign(partitions) => {
                self.task.metrics.rebalanced();
                let (send, answer) = oneshot::channel();
                self.waiting.push_back(Input::Assigned { logs: logs(&partitions), answer: send });
                self.pending = Some(Pending::Assign { partitions, answer });
                Ok(())
            }
            Change::Revoke { partitions, lost } => {
                let logs: Vec<Log> =
                    logs(&partitions).into_iter().filter(|log| self.gathered.has(*log)).collect();
                if logs.is_empty() {
                    return give_back(self.consumer, &partitions).map_err(|error| self.failed(&error));
                }
                self.task.metrics.rebalanced();
                self.settled = false;
                let last = self.gathered.cut_last(&logs)?;
                if !last.is_empty() {
                    self.waiting.push_back(Input::Batches(last));
                }
                self.gathered.revoke(&logs);
                self.crowded.retain(|log| !logs.contains(log));
                let (send, done) = oneshot::channel();
                self.waiting.push_back(Input::Revoked { logs, lost, done: send });
                self.pending = Some(Pending::Revoke { partitions, done });
                Ok(())
            }
        }
    }

    /// Begins to read partitions where the receiver said.
    fn assign(&mut self, partitions: &TopicPartitionList, positions: &Positions) -> Result<(), IngestError> {
        let mut list = TopicPartitionList::new();
        for log in logs(partitions) {
            let Some(position) = positions.get(&log) else {
                return Err(IngestError::stopped(format!("nobody said where to read partition {log}")));
            };
            let added = list.add_partition_offset(self.task.topic(), log.0, Offset::Offset(position.0));
            added.map_err(|error| self.failed(&error))?;
            self.gathered.assign(log, *position);
        }
        self.consumer.incremental_assign(&list).map_err(|error| self.failed(&error))?;
        self.consumer.context().answered();
        if self.paused {
            self.consumer.pause(&list).map_err(|error| self.failed(&error))?;
        }
        self.settled = true;
        self.idle = false;
        Ok(())
    }
}

/// The partitions of a list.
fn logs(list: &TopicPartitionList) -> Vec<Log> {
    list.elements().iter().map(|element| Log(element.partition())).collect()
}
