//! The settings of the librdkafka consumer.

use rdkafka::ClientConfig;
use rdkafka::config::RDKafkaLogLevel;

use super::KafkaConfig;

/// The defaults, which options override. Freshness is won by not waiting, memory is bounded by what librdkafka
/// reads ahead (32 MiB, and one answer of a broker), and raised partition counts are seen within the refresh interval.
const DEFAULTS: [(&str, &str); 9] = [
    ("client.id", "tidemark"),
    ("topic.metadata.refresh.interval.ms", "10000"),
    ("reconnect.backoff.max.ms", "1000"),
    ("fetch.wait.max.ms", "100"),
    ("fetch.queue.backoff.ms", "10"),
    ("fetch.error.backoff.ms", "100"),
    ("fetch.max.bytes", "16777216"),
    ("queued.max.messages.kbytes", "32768"),
    ("socket.keepalive.enable", "true"),
];

/// What everything rests on.
const OURS: [(&str, &str); 3] = [
    // Records of aborted transactions are never seen.
    ("isolation.level", "read_committed"),
    ("allow.auto.create.topics", "false"),
    // A position that cannot be read from is an error, never a reason to read from another one.
    ("auto.offset.reset", "error"),
];

/// What the reader rests on.
const READER: [(&str, &str); 4] = [
    ("partition.assignment.strategy", "cooperative-sticky"),
    ("enable.auto.commit", "false"),
    ("enable.auto.offset.store", "false"),
    ("enable.partition.eof", "true"),
];

impl KafkaConfig {
    /// The settings of the reader of a source into this history.
    pub(super) fn reader(&self, source: &str, history: &str) -> ClientConfig {
        let mut settings = self.probe();
        for (key, value) in READER {
            settings.set(key, value);
        }
        // Positions do not depend on the group, so any name works that no other history uses.
        let group = format!("tidemark-{}-{source}-{history:.8}", self.project);
        if let Some(member) = &self.member {
            settings.set("group.instance.id", format!("{group}-{member}"));
        }
        settings.set("group.id", group);
        // Only its debug log tells that a topic became another one; see `context`.
        let debug = self.options.get("debug").map(|contexts| format!("{contexts},"));
        settings.set("debug", debug.unwrap_or_default() + "metadata");
        settings.set_log_level(RDKafkaLogLevel::Debug);
        settings
    }

    /// The settings of a client that asks about topics and is in no group.
    pub(super) fn probe(&self) -> ClientConfig {
        let mut settings = ClientConfig::new();
        let defaults = DEFAULTS.iter().map(|(key, value)| (*key, *value));
        let options = self.options.iter().map(|(key, value)| (key.as_str(), value.as_str()));
        for (key, value) in defaults.chain(options).chain(OURS) {
            settings.set(key, value);
        }
        settings.set("bootstrap.servers", &self.bootstrap_servers);
        settings.set_log_level(RDKafkaLogLevel::Info);
        settings
    }
}
