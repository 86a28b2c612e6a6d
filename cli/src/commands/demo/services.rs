//! The parts of a demo outside of its folder: a topic, and keys in Redis.

use std::fs;
use std::path::Path;

use tidemark_engine::{Folder, Project};
use tidemark_offline::durable::FileError;
use tidemark_prove::demo::DemoTopic;
use tidemark_registry::Feed;

use crate::args::Demo;
use crate::clock;
use crate::failure::Result;
use crate::progress::say;

/// Where a demo's payments come from and its features go, where that is not its folder.
#[derive(Clone, Debug)]
pub(super) struct Services {
    /// The project, and the topic: no other run has it.
    name: String,
    pub(super) topic: Option<DemoTopic>,
    pub(super) redis: Option<String>,
}

impl Services {
    pub(super) fn of(asked: &Demo) -> Self {
        let name = format!("demo_{}", clock::now().millis());
        let topic = asked.kafka.clone().map(|servers| DemoTopic { servers, name: name.clone() });
        Self { name, topic, redis: asked.redis.clone() }
    }

    /// Writes them into the definitions of the folder.
    pub(super) fn define(&self, dir: &Path) -> Result<()> {
        if let Some(topic) = &self.topic {
            edit(&dir.join("payments.yaml"), |text| with_topic(&text, &topic.name))?;
        }
        if self.topic.is_some() || self.redis.is_some() {
            edit(&dir.join("tidemark.yaml"), |_| self.settings())?;
        }
        Ok(())
    }

    fn settings(&self) -> String {
        let online = self
            .redis
            .as_ref()
            .map_or("{store: embedded}".to_owned(), |url| format!("{{store: redis, url: {}}}", quoted(url)));
        let kafka = self.topic.as_ref().map_or(String::new(), |topic| {
            format!("kafka: {{bootstrap_servers: {}}}\n", quoted(&topic.servers))
        });
        format!("project: {}\nonline: {online}\noffline: {{path: data/offline}}\n{kafka}", self.name)
    }
}

/// The example's definitions, with the payments coming from a topic. It takes timestamps of any month.
fn with_topic(text: &str, topic: &str) -> String {
    text.replacen("    push: {} ", &format!("    kafka: {{topic: {topic}, max_timestamp_ahead: any}} "), 1)
}

/// A text as YAML takes it, whatever it holds.
fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}

fn edit(path: &Path, change: impl FnOnce(String) -> String) -> Result<()> {
    let text = fs::read_to_string(path).map_err(FileError::of("read", path))?;
    Ok(fs::write(path, change(text)).map_err(FileError::of("write", path))?)
}

/// Removes what an earlier demo of the folder has left in Redis and Kafka. Where they are away, it stays there.
pub(super) async fn forget(dir: &Path) {
    let Ok(Some(project)) = Folder::at(dir).and_then(|folder| Project::applied(folder, &clock::host()))
    else {
        return;
    };
    for forgotten in [forget_features(&project).await, forget_topics(&project).await] {
        if let Err(error) = forgotten {
            say(format_args!("note: something of the earlier demo stays where it is: {}", error.line()));
        }
    }
}

async fn forget_features(project: &Project) -> Result<()> {
    if project.is_embedded() {
        return Ok(());
    }
    let store = project.store().await?;
    let mut all = Vec::new();
    for view in project.views() {
        let live = store.live(&view.view).await?;
        store.publish(&view.view, live.as_ref(), None).await?;
        all.extend(store.unpublished(&view.view).await?);
    }
    store.drop_generations(&all).await?;
    Ok(())
}

async fn forget_topics(project: &Project) -> Result<()> {
    let Some(kafka) = &project.repo.project.kafka else { return Ok(()) };
    for feed in project.repo.feeds.values().filter_map(Feed::kafka) {
        let servers = kafka.bootstrap_servers.clone();
        DemoTopic { servers, name: feed.topic.clone() }.delete().await?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use tidemark_registry::{Online, parse};

    use super::*;

    #[test]
    fn the_example_is_made_one_of_kafka_and_redis() {
        let topic = DemoTopic { servers: "a:1,b:2".to_owned(), name: "demo_1".to_owned() };
        let redis = "redis://it's:6379".to_owned();
        let services = Services { name: "demo_1".to_owned(), topic: Some(topic), redis: None };
        let payments = with_topic(include_str!("../../../../feature_repo/payments.yaml"), "demo_1");
        let files = [("tidemark.yaml", services.settings()), ("payments.yaml", payments)];
        let repo = parse(files).expect("valid");
        assert_eq!(repo.feeds["payments"].kafka().expect("a topic").topic, "demo_1");
        assert_eq!(repo.project.kafka.expect("brokers").bootstrap_servers, "a:1,b:2");
        assert_eq!(repo.project.online, Online::default());

        let services = Services { topic: None, redis: Some("redis://it:6379/1".to_owned()), ..services };
        let repo = parse([("tidemark.yaml", services.settings())]).expect("valid");
        assert_eq!(repo.project.online, Online::Redis { url: "redis://it:6379/1".to_owned() });
        assert_eq!(quoted(&redis), "'redis://it''s:6379'");
    }
}
