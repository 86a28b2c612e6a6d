//! How far ahead of the brokers' clocks the timestamps of a topic's records may be.
//!
//! A record's timestamp is its time of receipt, by which its arrival is bounded. Where producers set it, only the brokers
//! can tell that it lies in the future, and only while they receive the record.

use rdkafka::admin::ConfigResource;
use tidemark_kernel::Span;

use super::topic_settings::value;
use crate::error::IngestError;

/// Who sets the timestamps.
const TYPE: &str = "message.timestamp.type";

/// How far ahead of the brokers' clocks producers may set them: the setting since Kafka 3.6, and the one before, which
/// counts until then and where the other one was left alone.
const BOUNDS: [&str; 2] = ["message.timestamp.after.max.ms", "message.timestamp.difference.max.ms"];

/// Who sets the timestamps of a topic's records.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Timestamps {
    /// The brokers, when they receive a record.
    Brokers,
    /// Producers. The brokers refuse records that are further than this ahead of their clocks; none where they take any.
    Producers(Option<Span>),
    /// The brokers do not tell, for this reason.
    Unknown(String),
}

impl Timestamps {
    /// What the settings of a topic say.
    pub(super) fn of(topic: &ConfigResource) -> Self {
        match value(topic, TYPE) {
            Some("LogAppendTime") => return Self::Brokers,
            Some(_) => {}
            // rdkafka passes over the error of a single topic.
            None => return Self::Unknown("most likely this process may not describe its configs".to_owned()),
        }
        let bounds = BOUNDS.iter().filter_map(|name| value(topic, name)?.parse().ok());
        Self::Producers(bounds.filter(|millis| *millis < i64::MAX).map(Span::from_millis).next())
    }

    /// Makes sure that timestamps are at most `max` ahead of the brokers' clocks.
    ///
    /// # Errors
    /// Fails where they may be further ahead, or brokers do not tell.
    pub(crate) fn check(self, source: &str, topic: &str, max: Span) -> Result<(), IngestError> {
        match self {
            Self::Brokers => Ok(()),
            Self::Producers(Some(bound)) if bound <= max => Ok(()),
            found => {
                let (source_name, topic) = (source.to_owned(), topic.to_owned());
                Err(IngestError::Timestamps { source_name, topic, found, max })
            }
        }
    }
}

/// As part of a sentence that goes on with the topic.
impl std::fmt::Display for Timestamps {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Brokers => f.write_str("brokers set the timestamps"),
            Self::Producers(Some(bound)) => write!(f, "producers may set timestamps up to {bound} ahead"),
            Self::Producers(None) => f.write_str("producers may set timestamps any length of time ahead"),
            Self::Unknown(reason) => {
                write!(f, "the brokers do not tell how far ahead producers may set timestamps ({reason})")
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use tidemark_kernel::Explain;

    use super::*;
    use crate::kafka::topic_settings::described;

    fn settings(entries: &[(&str, &str)]) -> Timestamps {
        Timestamps::of(&described(entries))
    }

    #[test]
    fn settings_of_every_version_are_understood() {
        let (create, any) = ((TYPE, "CreateTime"), "9223372036854775807");
        let [after, difference] = BOUNDS;
        let bound = |millis| Timestamps::Producers(Some(Span::from_millis(millis)));
        for (entries, expected) in [
            (&[(TYPE, "LogAppendTime"), (after, any)][..], Timestamps::Brokers),
            (&[create, (after, "3600000")], bound(3_600_000)),
            (&[create, (after, any), (difference, any)], Timestamps::Producers(None)),
            (&[create, (after, any), (difference, "60000")], bound(60_000)),
            (&[create, (after, "5"), (difference, "60000")], bound(5)),
            (&[create, (difference, any)], Timestamps::Producers(None)),
            (&[create], Timestamps::Producers(None)),
        ] {
            assert_eq!(settings(entries), expected, "{entries:?}");
        }
        assert!(matches!(settings(&[]), Timestamps::Unknown(_)), "not allowed to know");
    }

    #[test]
    fn a_topic_without_a_bound_is_refused_with_what_to_do() {
        let hour = Span::from_secs(3600);
        let check = |found: Timestamps| found.check("payments", "shop.payments", hour);
        assert!(check(Timestamps::Brokers).is_ok());
        assert!(check(Timestamps::Producers(Some(hour))).is_ok());
        for (found, told) in [
            (Timestamps::Producers(None), "producers may set timestamps any length of time ahead"),
            (
                Timestamps::Producers(Some(Span::from_secs(7200))),
                "producers may set timestamps up to 2h ahead",
            ),
            (
                Timestamps::Unknown("not allowed".into()),
                "do not tell how far ahead producers may set timestamps (not allowed)",
            ),
        ] {
            let error = check(found).expect_err("refused").explained();
            for part in [
                "topic `shop.payments` of source `payments`",
                told,
                "`message.timestamp.after.max.ms` of the topic to 3600000",
                "`message.timestamp.type` to LogAppendTime",
                "`max_timestamp_ahead: any`",
            ] {
                assert!(error.contains(part), "{part} is not in: {error}");
            }
        }
    }
}
