//! Partitions of a topic that no worker reads.

use std::collections::BTreeMap;
use std::sync::Arc;

use async_trait::async_trait;
use tidemark_host::Host;
use tidemark_kernel::source::{Feed, KafkaFeed, Start};
use tidemark_kernel::{Log, Position, SourcePlan};
use tidemark_offline::Positions;
use tokio::sync::mpsc;

use super::fixture::{Project, RECEIVED, memory, payments};
use crate::journal::Journal;
use crate::kafka::{Input, Reader, Subscription, TopicFacts, TopicSettings};
use crate::status::Detail;
use crate::{Ingest, IngestConfig, IngestError, Topics};

/// A topic of which only this is known: where partitions end, and where they did five minutes ago.
#[derive(Debug)]
struct Ends {
    now: Positions,
    before: Positions,
}

#[async_trait]
impl Topics for Ends {
    async fn describe(&self, _: &str) -> Result<TopicFacts, IngestError> {
        Err(IngestError::NotRunning)
    }
    async fn settings(&self, _: &str) -> Result<TopicSettings, IngestError> {
        Err(IngestError::NotRunning)
    }
    async fn ends(&self, _: &str) -> Result<BTreeMap<Log, (Position, Position)>, IngestError> {
        Ok(self.now.iter().map(|(log, end)| (*log, (Position::START, *end))).collect())
    }
    async fn starts(&self, _: &str, start: Start) -> Result<Positions, IngestError> {
        let Start::At(since) = start else { return Err(IngestError::NotRunning) };
        assert_eq!(RECEIVED.millis() - since.millis(), 300_000);
        Ok(self.before.clone())
    }
    fn read(
        &self,
        _: &Host,
        _: Subscription,
    ) -> Result<(Box<dyn Reader>, mpsc::Receiver<Input>), IngestError> {
        Err(IngestError::NotRunning)
    }
}

#[tokio::test]
async fn status_names_partitions_with_old_unread_records() {
    let feed = KafkaFeed { topic: "payments".into(), start: Start::Earliest, max_timestamp_ahead: None };
    let source = SourcePlan { feed: Feed::Kafka(feed), ..(*payments()).clone() };
    let project = Project { sources: vec![Arc::new(source)], ..Project::new(memory()) };
    let at = |ends: [i64; 3]| (0..).map(Log).zip(ends.map(Position)).collect::<Positions>();
    let journal = Journal::open(&project.folder.path().join("ingest.redb")).expect("created");
    let open = async |topics: Ends| {
        let topics: Option<Arc<dyn Topics>> = Some(Arc::new(topics));
        Ingest::open(IngestConfig { topics, ..project.config(journal.clone()) }).await.expect("opened")
    };
    let mut ingest = open(Ends { now: at([0, 4, 4]), before: at([0, 0, 3]) }).await;
    let status = ingest.status(Detail::default()).await.expect("a status");
    let stalled = status.sources[0].stalled.clone().expect("partition 2");
    assert_eq!(stalled.unread, BTreeMap::from([(Log(2), 4)]), "the records of partition 1 came just now");
    drop(ingest);
    let mut ingest = open(Ends { now: at([0, 4, 4]), before: at([0, 0, 0]) }).await;
    assert_eq!(ingest.status(Detail::default()).await.expect("a status").sources[0].stalled, None);
}
