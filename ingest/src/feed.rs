//! What feeds a source: where ingestion reads its records by itself.
//!
//! A source's plan says what a record means, wherever it comes from. Files are named by each order to ingest them, and pushes
//! are sent; only a topic is read all the time, so a source is opened with it.

use std::sync::Arc;

use tidemark_kernel::{SourcePlan, Span, Time};

/// A source, and the topic that feeds it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SourceFeed {
    /// What its records mean.
    pub source: Arc<SourcePlan>,
    /// The topic that it is read from; none where it has only files and pushes.
    pub topic: Option<TopicFeed>,
}

/// A source without a topic.
impl From<Arc<SourcePlan>> for SourceFeed {
    fn from(source: Arc<SourcePlan>) -> Self {
        Self { source, topic: None }
    }
}

/// A Kafka topic that feeds a source.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TopicFeed {
    /// The topic's name.
    pub topic: String,
    /// Where a partition is read from that was never read before.
    pub start: Start,
    /// How far ahead of the brokers' clocks the topic may let producers set the timestamps of records. None allows any
    /// topic.
    pub max_timestamp_ahead: Option<Span>,
}

/// Where reading a partition begins. Only the first time: from then on, the event table says where to go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Start {
    /// At the oldest record that the topic still has.
    Earliest,
    /// Behind the newest record.
    Latest,
    /// At the first record whose timestamp is this instant or later.
    At(Time),
}
