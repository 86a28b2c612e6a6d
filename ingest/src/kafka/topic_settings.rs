//! The settings of a topic at the brokers that ingestion depends on: timestamps and compaction.

use futures::executor::block_on;
use rdkafka::admin::{AdminClient, AdminOptions, ConfigResource, ResourceSpecifier};
use rdkafka::client::ClientContext;
use rdkafka::config::{FromClientConfigAndContext, RDKafkaLogLevel};
use rdkafka::error::{KafkaError, KafkaResult, RDKafkaErrorCode};
use tokio::task::spawn_blocking;

use super::failure::{self, Meaning, meaning};
use super::probe::{PATIENCE, Probe};
use super::timestamps::Timestamps;
use super::{KafkaConfig, context};
use crate::error::IngestError;

/// Whether old records are deleted, or those that a later one of the same key replaces, or both.
const CLEANUP: &str = "cleanup.policy";

/// The settings of a topic that ingestion depends on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TopicSettings {
    /// Who sets the timestamps of its records.
    pub timestamps: Timestamps,
    /// Whether the brokers remove records that a later one of the same key replaces. True where they do not tell.
    pub is_compacted: bool,
}

impl TopicSettings {
    fn of(topic: &ConfigResource) -> Self {
        let is_compacted = value(topic, CLEANUP).is_none_or(|policies| policies.contains("compact"));
        Self { timestamps: Timestamps::of(topic), is_compacted }
    }

    /// Of brokers that do not tell, for this reason.
    fn unknown(reason: String) -> Self {
        Self { timestamps: Timestamps::Unknown(reason), is_compacted: true }
    }
}

/// A setting of a topic, where the brokers tell it.
pub(super) fn value<'a>(topic: &'a ConfigResource, name: &str) -> Option<&'a str> {
    topic.get(name).and_then(|entry| entry.value.as_deref())
}

/// Asks the brokers for the settings of a topic.
///
/// # Errors
/// Fails where there is no topic of this name, or the brokers do not answer. Brokers that answer and do not tell are no
/// error.
pub(super) async fn ask(config: &KafkaConfig, topic: &str) -> Result<TopicSettings, IngestError> {
    let (config, topic) = (config.clone(), topic.to_owned());
    let asked = spawn_blocking(move || ask_now(&config, &topic));
    asked.await.map_err(IngestError::stopped)?
}

fn ask_now(config: &KafkaConfig, topic: &str) -> Result<TopicSettings, IngestError> {
    let probe = Probe::open(config, topic)?;
    // A request for settings does not show that a topic is missing.
    probe.describe()?;
    // By itself librdkafka would wait for the controller.
    let broker = probe.broker()?;
    let failed = |error: &KafkaError| match meaning(error) {
        Meaning::Away | Meaning::NoTopic => {
            Err(failure::asking(&config.bootstrap_servers, topic, error, None))
        }
        _ => Ok(TopicSettings::unknown(failure::told(error))),
    };
    describe(config, topic, broker).map_or_else(|error| failed(&error), |topic| Ok(TopicSettings::of(&topic)))
}

fn describe(config: &KafkaConfig, topic: &str, broker: i32) -> KafkaResult<ConfigResource> {
    let client = AdminClient::from_config_and_context(&config.probe(), Quiet(topic.to_owned()))?;
    let options = AdminOptions::new().request_timeout(Some(PATIENCE)).broker_id(broker);
    let described = block_on(client.describe_configs([&ResourceSpecifier::Topic(topic)], &options));
    let described = described.map_err(|error| match error {
        KafkaError::AdminOp(code) => KafkaError::Global(code),
        error => error,
    });
    let first = described?.into_iter().next();
    first.unwrap_or(Err(RDKafkaErrorCode::UnknownTopicOrPartition)).map_err(KafkaError::Global)
}

/// What librdkafka logs of this client says nothing that its answer does not: its settings are those of a consumer, too.
struct Quiet(String);

impl ClientContext for Quiet {
    fn log(&self, _: RDKafkaLogLevel, facility: &str, message: &str) {
        context::log(&self.0, RDKafkaLogLevel::Debug, facility, message);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        tracing::debug!(topic = self.0, %error, reason, "asking for the settings of a topic");
    }
}

/// A topic with these settings, as brokers describe it.
#[cfg(test)]
pub(super) fn described(settings: &[(&str, &str)]) -> ConfigResource {
    use rdkafka::admin::{ConfigEntry, ConfigSource, OwnedResourceSpecifier};

    let entry = |(name, value): &(&str, &str)| ConfigEntry {
        name: (*name).to_owned(),
        value: Some((*value).to_owned()),
        source: ConfigSource::Default,
        is_read_only: false,
        is_default: true,
        is_sensitive: false,
    };
    let entries = settings.iter().map(entry).collect();
    ConfigResource { specifier: OwnedResourceSpecifier::Topic("t".into()), entries }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_topic_is_compacted_unless_brokers_say_that_it_is_not() {
        for (policy, expected) in [("delete", false), ("compact", true), ("delete,compact", true)] {
            assert_eq!(
                TopicSettings::of(&described(&[(CLEANUP, policy)])).is_compacted,
                expected,
                "{policy}"
            );
        }
        assert!(TopicSettings::of(&described(&[])).is_compacted, "not allowed to know");
    }
}
