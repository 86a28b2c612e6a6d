//! The sources of a repo as ingestion takes them in: what the registry declares, in ingestion's types. Neither of the two knows
//! the other.

use std::sync::Arc;

use tidemark_ingest::feed::{SourceFeed, Start, TopicFeed};
use tidemark_kernel::SourcePlan;
use tidemark_registry::feed::{self, KafkaFeed};
use tidemark_registry::{Feed, Repo};

/// Every source of a repo with its topic, by name.
#[must_use]
pub fn sources(repo: &Repo) -> Vec<SourceFeed> {
    fed(repo, repo.sources.values().cloned())
}

/// These sources of the repo.
pub(crate) fn fed(repo: &Repo, sources: impl IntoIterator<Item = Arc<SourcePlan>>) -> Vec<SourceFeed> {
    let feed = |source: Arc<SourcePlan>| {
        let topic = repo.feeds.get(&source.name).and_then(Feed::kafka).map(topic);
        SourceFeed { source, topic }
    };
    sources.into_iter().map(feed).collect()
}

fn topic(feed: &KafkaFeed) -> TopicFeed {
    TopicFeed {
        topic: feed.topic.clone(),
        start: match feed.start {
            feed::Start::Earliest => Start::Earliest,
            feed::Start::Latest => Start::Latest,
            feed::Start::At(time) => Start::At(time),
        },
        max_timestamp_ahead: feed.max_timestamp_ahead,
    }
}

#[cfg(test)]
mod tests {
    use tidemark_kernel::{Span, Time};

    use super::*;

    fn topics(feed: &str) -> Vec<(String, Option<TopicFeed>)> {
        let text = format!(
            "sources:\n  - {{name: a, {feed}, fields: [{{name: t, type: timestamp}}], event_time: t}}\n  \
             - {{name: b, fields: [{{name: t, type: timestamp}}], event_time: t}}\n"
        );
        let repo = tidemark_registry::parse([("a.yaml", text)]).expect("valid");
        sources(&repo).into_iter().map(|feed| (feed.source.name.clone(), feed.topic)).collect()
    }

    #[test]
    fn a_topic_is_read_as_it_is_declared() {
        let hour = Some(Span::from_secs(3600));
        let noon = Time::parse("2026-01-31T12:00:00Z").expect("a time");
        for (declared, start, max_timestamp_ahead) in [
            ("", Start::Earliest, hour),
            (", start: earliest, max_timestamp_ahead: any", Start::Earliest, None),
            (", start: latest, max_timestamp_ahead: 1h", Start::Latest, hour),
            (", start: 2026-01-31T12:00:00Z", Start::At(noon), hour),
        ] {
            let topic = TopicFeed { topic: "orders".into(), start, max_timestamp_ahead };
            let expected = [("a".to_owned(), Some(topic)), ("b".to_owned(), None)];
            assert_eq!(topics(&format!("kafka: {{topic: orders{declared}}}")), expected, "{declared}");
        }
        for feed in ["push: {}", "files: {path: '*.csv'}"] {
            assert!(topics(feed).iter().all(|(_, topic)| topic.is_none()), "{feed}");
        }
    }
}
