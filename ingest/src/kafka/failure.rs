//! Translates librdkafka's errors.

use rdkafka::error::{KafkaError, RDKafkaErrorCode as Code};
use tidemark_kernel::Position;
use tidemark_offline::Epoch;

use crate::error::IngestError;

/// What an error calls for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Meaning {
    /// Brokers cannot be reached or are busy: librdkafka tries again by itself.
    Away,
    /// There is no such topic, or not yet, or not any more.
    NoTopic,
    /// The brokers refuse the client: its credentials, its rights or its settings.
    Refused,
    /// The place to read from is not there.
    Misplaced,
    /// What was read cannot be made out.
    Broken,
    /// Anything else. It may pass.
    Other,
}

/// What an error means.
pub(super) fn meaning(error: &KafkaError) -> Meaning {
    if matches!(error, KafkaError::ClientConfig(..) | KafkaError::ClientCreation(_)) {
        return Meaning::Refused;
    }
    match error.rdkafka_error_code() {
        Some(
            Code::BrokerTransportFailure
            | Code::AllBrokersDown
            | Code::Resolve
            | Code::OperationTimedOut
            | Code::RequestTimedOut
            | Code::NetworkException
            | Code::LeaderNotAvailable
            | Code::NotLeaderForPartition
            | Code::BrokerNotAvailable
            | Code::CoordinatorNotAvailable
            | Code::CoordinatorLoadInProgress
            | Code::NotCoordinator
            | Code::OffsetNotAvailable
            | Code::WaitingForCoordinator,
        ) => Meaning::Away,
        Some(
            Code::UnknownTopic
            | Code::UnknownPartition
            | Code::UnknownTopicOrPartition
            | Code::UnknownTopicId
            | Code::InvalidTopic,
        ) => Meaning::NoTopic,
        Some(
            Code::Authentication
            | Code::SSL
            | Code::SaslAuthenticationFailed
            | Code::UnsupportedSASLMechanism
            | Code::IllegalSASLState
            | Code::SecurityDisabled
            | Code::TopicAuthorizationFailed
            | Code::GroupAuthorizationFailed
            | Code::ClusterAuthorizationFailed,
        ) => Meaning::Refused,
        Some(Code::AutoOffsetReset | Code::LogTruncation | Code::OffsetOutOfRange) => Meaning::Misplaced,
        Some(
            Code::BadCompression
            | Code::BadMessage
            | Code::InvalidMessage
            | Code::NotImplemented
            | Code::UnsupportedCompressionType,
        ) => Meaning::Broken,
        _ => Meaning::Other,
    }
}

/// What librdkafka says of a partition that was truncated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Truncation {
    /// The epoch of the last record that was read, which the broker was asked about.
    pub(super) read: Epoch,
    /// Where the broker's records of that epoch, or of the last one before it, end. None where it has no such epoch.
    pub(super) end: Option<Position>,
}

/// Reads what librdkafka says where the broker's records of an epoch end before what was read of it, or where the broker does
/// not know the epoch. None for any other text. Its error code is that of any position that cannot be read from.
pub(super) fn truncation(detail: &str) -> Option<Truncation> {
    let begins = ["Partition log truncation detected at ", "No epoch found less or equal to "];
    let said = begins.iter().find_map(|begin| Some(detail.split_once(begin)?.1))?;
    let until = number(said, "offset ")?;
    let epoch = i32::try_from(number(said, "(leader epoch ")?).ok()?;
    let end = number(said, "broker end offset is ")?;
    let read = Epoch { number: epoch, until: Position(until) };
    Some(Truncation { read, end: (end >= 0).then_some(Position(end)) })
}

/// The number after the first `label` in a text.
fn number(text: &str, label: &str) -> Option<i64> {
    let rest = text.split_once(label)?.1;
    let end = rest.find(|c: char| !c.is_ascii_digit() && c != '-').unwrap_or(rest.len());
    rest[..end].parse().ok()
}

/// The error of a question about a topic. `detail` is what librdkafka said besides, if anything.
pub(super) fn asking(servers: &str, topic: &str, error: &KafkaError, detail: Option<String>) -> IngestError {
    let (servers, topic) = (servers.to_owned(), topic.to_owned());
    let reason = detail.unwrap_or_else(|| told(error));
    match meaning(error) {
        Meaning::NoTopic => IngestError::NoTopic { servers, topic },
        Meaning::Refused => IngestError::Refused { servers, reason },
        _ => IngestError::Unreachable { servers, reason },
    }
}

/// An error in words. The values of settings may be secrets.
pub(super) fn told(error: &KafkaError) -> String {
    match error {
        KafkaError::ClientConfig(_, reason, key, _) => format!("`{key}`: {reason}"),
        KafkaError::ClientCreation(reason) => reason.clone(),
        _ => error.rdkafka_error_code().map_or_else(|| error.to_string(), |code| code.to_string()),
    }
}
