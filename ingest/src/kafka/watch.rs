//! Asks the brokers about the topic at intervals: whether it is still the same topic, and where it ends.

use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::time::Duration;

use super::KafkaConfig;
use super::probe::{Probe, TopicProperties};
use crate::error::IngestError;
use crate::metrics::TopicMetrics;

/// How often it looks unasked.
const EVERY: Duration = Duration::from_secs(5);

/// How soon it looks again at a topic that seems to be gone: brokers learn of a new one at different times.
const AGAIN: Duration = Duration::from_secs(1);

/// A thread that looks. It ends soon after this is dropped.
pub(super) struct Watch {
    ask: Sender<()>,
    seen: Receiver<Seen>,
}

/// What it saw.
pub(super) enum Seen {
    /// The topic is still the same.
    Same,
    /// The reader cannot go on.
    Gone(IngestError),
}

impl Watch {
    /// Watches the topic that was `known` when reading began.
    pub(super) fn start(
        config: KafkaConfig,
        source: String,
        known: TopicProperties,
        metrics: Arc<TopicMetrics>,
    ) -> Result<Self, IngestError> {
        let (ask, asked) = channel();
        let (see, seen) = channel();
        let thread = std::thread::Builder::new().name("kafka-watch".into());
        let look = move || {
            let mut eye = Eye { config, source, known, metrics, probe: None, missing: false };
            loop {
                let pause = if eye.missing { AGAIN } else { EVERY };
                // Asked often is asked once.
                match asked.recv_timeout(pause) {
                    Ok(()) => while asked.try_recv().is_ok() {},
                    Err(RecvTimeoutError::Timeout) => {}
                    Err(RecvTimeoutError::Disconnected) => return,
                }
                if let Some(sight) = eye.look()
                    && see.send(sight).is_err()
                {
                    return;
                }
            }
        };
        drop(thread.spawn(look).map_err(IngestError::stopped)?);
        Ok(Self { ask, seen })
    }

    /// Looks at once.
    pub(super) fn ask(&self) {
        // A thread that has ended has said why.
        let _ = self.ask.send(());
    }

    /// What was seen since.
    pub(super) fn seen(&self) -> Option<Seen> {
        self.seen.try_recv().ok()
    }
}

struct Eye {
    config: KafkaConfig,
    source: String,
    known: TopicProperties,
    metrics: Arc<TopicMetrics>,
    probe: Option<Probe>,
    /// Whether the topic was not there the last time.
    missing: bool,
}

impl Eye {
    fn look(&mut self) -> Option<Seen> {
        let before = std::mem::take(&mut self.missing);
        match self.try_look() {
            Ok(()) => Some(Seen::Same),
            Err(IngestError::NoTopic { .. }) if !before => {
                self.missing = true;
                None
            }
            // The reader notices by itself, and waits.
            Err(IngestError::Unreachable { .. }) => None,
            Err(error) => Some(Seen::Gone(error)),
        }
    }

    fn try_look(&mut self) -> Result<(), IngestError> {
        let probe = match self.probe.take() {
            Some(probe) => probe,
            None => Probe::open(&self.config, &self.known.topic)?,
        };
        let probe = self.probe.insert(probe);
        let properties = probe.describe()?;
        properties.check(&self.source, &self.known.to_string())?;
        for (partition, held) in probe.ends_of(properties.partitions)? {
            self.metrics.ends_at(partition, held.end);
        }
        Ok(())
    }
}
