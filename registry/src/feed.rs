//! Where the events of a source come from, as it is declared.
//!
//! A feed says how records get here, never what they mean: a source with another feed makes the same events of the same
//! records. So it is no part of the source's plan, and only ingestion carries it out.

use tidemark_kernel::{Span, Time};

/// Where a source's events come from, besides what is pushed or ingested by hand.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Feed {
    /// Nothing but pushes and files named on the command line.
    #[default]
    Push,
    /// Files: path patterns relative to the repo's folder.
    Files {
        /// Globs, in the order declared.
        paths: Vec<String>,
    },
    /// A Kafka topic.
    Kafka(KafkaFeed),
}

impl Feed {
    /// The topic, where it is one.
    #[must_use]
    pub const fn kafka(&self) -> Option<&KafkaFeed> {
        match self {
            Self::Kafka(feed) => Some(feed),
            Self::Push | Self::Files { .. } => None,
        }
    }
}

/// A Kafka topic as a feed: each of its partitions is a partition of the source.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KafkaFeed {
    /// The topic's name.
    pub topic: String,
    /// Where a partition is read from that was never read before.
    pub start: Start,
    /// How far ahead of the brokers' clocks the topic may let producers set the timestamps of records. None allows any
    /// topic. It decides about topics, never about records.
    pub max_timestamp_ahead: Option<Span>,
}

impl KafkaFeed {
    /// How far ahead timestamps may be, unless the source says otherwise: what Kafka allows by default since version 4.
    pub const DEFAULT_MAX_TIMESTAMP_AHEAD: Span = Span::from_secs(3600);
}

/// Where reading a partition begins. Only the first time: from then on, what was kept says where to go on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Start {
    /// At the oldest record that the topic still has.
    #[default]
    Earliest,
    /// Behind the newest record.
    Latest,
    /// At the first record whose timestamp is this instant or later.
    At(Time),
}
