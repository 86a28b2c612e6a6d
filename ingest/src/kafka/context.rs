//! What librdkafka tells a reader while it is polled.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

use parking_lot::Mutex;
use rdkafka::TopicPartitionList;
use rdkafka::client::ClientContext;
use rdkafka::config::RDKafkaLogLevel as Level;
use rdkafka::consumer::{BaseConsumer, Consumer, ConsumerContext, RebalanceProtocol};
use rdkafka::error::{KafkaError, KafkaResult};
use rdkafka::types::RDKafkaRespErr;

/// A change of the assignment, to be carried out by the reader once it has asked the receiver of its records.
pub(super) enum Change {
    /// Partitions were given to us.
    Assign(TopicPartitionList),
    /// Partitions were taken away.
    Revoke {
        /// The partitions that were taken away.
        partitions: TopicPartitionList,
        /// Whether the group has removed this member, so that other members may read them already.
        lost: bool,
    },
}

/// Keeps what librdkafka says until the reader has a look.
pub(super) struct Context {
    source: String,
    topic: String,
    /// The id that the topic has as long as it is the same.
    id: Option<String>,
    /// The id that it has now, once that is another.
    other_id: Mutex<Option<String>>,
    is_other: AtomicBool,
    changes: Mutex<VecDeque<Change>>,
    /// What was said about the last error.
    detail: Mutex<String>,
    /// Whether librdkafka waits for a change to be carried out, as far as was said here.
    unanswered: AtomicBool,
    /// Whether the reader is leaving, so that changes need no answer any more.
    leaving: AtomicBool,
    /// Whether everything was given back since.
    gave_back: AtomicBool,
}

impl Context {
    pub(super) fn new(source: &str, topic: &str, id: Option<String>) -> Self {
        Self {
            source: source.to_owned(),
            topic: topic.to_owned(),
            id,
            other_id: Mutex::default(),
            is_other: AtomicBool::new(false),
            changes: Mutex::default(),
            detail: Mutex::default(),
            unanswered: AtomicBool::new(false),
            leaving: AtomicBool::new(false),
            gave_back: AtomicBool::new(false),
        }
    }

    /// The next change of the assignment.
    pub(super) fn next_change(&self) -> Option<Change> {
        self.changes.lock().pop_front()
    }

    /// A change was carried out.
    pub(super) fn answered(&self) {
        self.unanswered.store(false, Relaxed);
    }

    /// Gives everything back and leaves the group, once. librdkafka must be told once more that nothing is assigned where it
    /// has something assigned, or waits for a change; told again after the group was left, it never answers.
    pub(super) fn leave(&self, consumer: &BaseConsumer<Self>) -> KafkaResult<()> {
        let holds = self.unanswered.load(Relaxed) || consumer.assignment()?.count() > 0;
        self.leaving.store(true, Relaxed);
        self.gave_back.store(holds, Relaxed);
        // In this order: only of one that is leaving are all partitions taken at once.
        consumer.close_queue()?;
        if holds { consumer.unassign() } else { Ok(()) }
    }

    /// The id that the topic had and the one it has, if that is another: nothing polled from now on is of the topic that
    /// was read.
    pub(super) fn recreated(&self) -> Option<(String, String)> {
        if !self.is_other.load(Relaxed) {
            return None;
        }
        Some((self.id.clone()?, self.other_id.lock().clone()?))
    }

    /// What was said about the last error.
    pub(super) fn detail(&self) -> String {
        self.detail.lock().clone()
    }

    /// librdkafka goes on reading a topic that was deleted and created again as if nothing had happened, if it has grown
    /// beyond where the old one was read. It says so in its debug log before it reads the first such record.
    fn watch_id(&self, message: &str) {
        let (Some(expected), Some((_, said))) = (&self.id, message.split_once("Topic ")) else { return };
        let change =
            said.strip_prefix(self.topic.as_str()).and_then(|said| said.strip_prefix(" changed id from "));
        let Some((_, now)) = change.and_then(|ids| ids.split_once(" to ")) else { return };
        if now != expected {
            *self.other_id.lock() = Some(now.to_owned());
            self.is_other.store(true, Relaxed);
        }
    }
}

impl ClientContext for Context {
    fn log(&self, level: Level, facility: &str, message: &str) {
        self.watch_id(message);
        log(&self.source, level, facility, message);
    }

    fn error(&self, _error: KafkaError, reason: &str) {
        reason.clone_into(&mut self.detail.lock());
    }
}

impl ConsumerContext for Context {
    /// Called while the reader polls. It carries the change out afterwards: librdkafka waits for that.
    fn rebalance(
        &self,
        consumer: &BaseConsumer<Self>,
        event: RDKafkaRespErr,
        partitions: &mut TopicPartitionList,
    ) {
        let given = event == RDKafkaRespErr::RD_KAFKA_RESP_ERR__ASSIGN_PARTITIONS;
        if self.leaving.load(Relaxed) {
            if self.gave_back.swap(true, Relaxed) {
                return;
            }
            return consumer.unassign().unwrap_or_else(|error| {
                tracing::debug!(source = self.source, %error, "partitions could not be given back");
            });
        }
        let partitions = partitions.clone();
        self.unanswered.store(true, Relaxed);
        self.changes.lock().push_back(if given {
            Change::Assign(partitions)
        } else {
            Change::Revoke { partitions, lost: consumer.assignment_lost() }
        });
    }
}

/// Gives partitions back to the group.
pub(super) fn give_back(
    consumer: &BaseConsumer<Context>,
    partitions: &TopicPartitionList,
) -> KafkaResult<()> {
    match consumer.rebalance_protocol() {
        RebalanceProtocol::Cooperative => consumer.incremental_unassign(partitions)?,
        // The group is being left.
        RebalanceProtocol::None | RebalanceProtocol::Eager => consumer.unassign()?,
    }
    consumer.context().answered();
    Ok(())
}

/// Passes on what librdkafka logs. Lost connections are reported once, by the reader, and not with every attempt.
pub(super) fn log(source: &str, level: Level, facility: &str, message: &str) {
    match (level, facility) {
        (Level::Debug, _) => tracing::trace!(source, facility, "{message}"),
        (_, "FAIL" | "ERROR") | (Level::Notice | Level::Info, _) => {
            tracing::debug!(source, facility, "{message}")
        }
        _ => tracing::warn!(source, facility, "{message}"),
    }
}
