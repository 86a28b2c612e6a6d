//! Parts of the online store that are lost while the rest is left: the view is backfilled under a new generation, by what
//! runs as well as by what starts.

use std::sync::Arc;

use redb::{Database, TableDefinition};
use tidemark_offline::EventTable;
use tidemark_offline::table::properties;
use tidemark_services::{Redis, unique};
use tidemark_store::{EmbeddedStore, Generation, MemoryStore, OnlineStore, RedisConfig, RedisStore};

use super::fixture::{Project, by_user, clock, lines, memory, payments, states};
use crate::status::Detail;
use crate::unwatched;

/// Ten files, of which the last two come after the damage.
fn files(project: &Project) -> Vec<String> {
    (0..10).map(|file| project.file(&format!("{file:02}.jsonl"), &lines(file * 40, 40))).collect()
}

fn project(store: Arc<dyn OnlineStore>) -> Project {
    Project { views: vec![by_user()], ..Project::new(store) }
}

async fn live(store: &dyn OnlineStore) -> Generation {
    store.live("by_user").await.expect("a store").expect("a live generation")
}

/// That a view heals from `damage`, while an ingestion runs or at the next start, with the states of all files.
async fn heals(
    what: &str,
    running: bool,
    store: Arc<dyn OnlineStore>,
    damage: impl AsyncFnOnce(&Generation),
) {
    let whole = project(memory());
    whole.open().await.take_in_files("payments", &files(&whole), &unwatched).await.expect("taken in");
    let expected = states(&whole.store, "by_user").await;

    let project = project(store);
    let paths = files(&project);
    let mut ingest = project.open().await;
    ingest.take_in_files("payments", &paths[..8], &unwatched).await.expect("taken in");
    let before = live(&*project.store).await;
    if !running {
        drop(ingest);
        damage(&before).await;
        ingest = project.open().await;
        ingest.catch_up(&unwatched).await.unwrap_or_else(|error| panic!("{what}: {error}"));
    } else {
        damage(&before).await;
    }
    let taken = ingest.take_in_files("payments", &paths[8..], &unwatched).await;
    taken.unwrap_or_else(|error| panic!("{what}: {error}"));
    let after = live(&*project.store).await;
    assert!(after.number > before.number, "{what}: {after} is live after {before}");
    assert!(project.store.is_whole(&after).await.expect("a store"), "{what}");
    assert_eq!(states(&project.store, "by_user").await, expected, "{what}");
    let status = ingest.status(Detail::ALL).await.expect("a status");
    assert!(status.views[0].current && !status.views[0].lost, "{what}: {status:?}");
}

/// Keys of one project in a Redis.
struct Keys<'r> {
    redis: &'r Redis,
    prefix: String,
}

impl Keys<'_> {
    fn do_it(&self, words: &[&str]) {
        self.redis.command::<()>(words).expect("done");
    }

    fn view(&self) -> String {
        format!("{}:{{by_user}}", self.prefix)
    }

    fn bucket(&self, of: &Generation, bucket: u16) -> String {
        format!("{}:{{by_user:{}:{bucket}}}", self.prefix, of.number)
    }

    /// Deletes what lies under names that begin like this.
    fn delete(&self, names: &str) {
        let script = "local found = redis.call('KEYS', ARGV[1] .. '*') \
                      for _, name in ipairs(found) do redis.call('DEL', name) end return #found";
        let deleted: usize = self.redis.command(&["EVAL", script, "0", names]).expect("deleted");
        assert!(deleted > 0, "{names}");
    }

    fn damage(&self, damage: Damage, live: &Generation) {
        let fingerprint: String = live.fingerprint.0.iter().map(|byte| format!("{byte:02x}")).collect();
        let number = live.number.to_string();
        match damage {
            Damage::Buckets => self.delete(&format!("{}:{{by_user:", self.prefix)),
            Damage::OneBucket => self.delete(&self.bucket(live, 3)),
            Damage::OnePositionEverywhere => {
                (0..16).for_each(|bucket| self.do_it(&["HSET", &self.bucket(live, bucket), "-1", ""]));
            }
            Damage::Positions => {
                (0..16).for_each(|bucket| self.do_it(&["HDEL", &self.bucket(live, bucket), "-1", "-2"]));
            }
            Damage::Record => {
                self.delete(&format!("{}:{{by_user:", self.prefix));
                self.do_it(&["HDEL", &self.view(), &number]);
            }
            Damage::View => self.do_it(&["DEL", &self.view()]),
            Damage::Project => self.delete(&self.prefix),
            Damage::PointerBeyondTheCounter => {
                let far = (live.number + (1 << 40)).to_string();
                self.do_it(&["HSET", &self.view(), "live", &format!("{far} {fingerprint}")]);
            }
            Damage::GenerationBeyondTheCounter => {
                let far = (live.number + (1 << 40)).to_string();
                self.do_it(&["HSET", &self.view(), &far, &format!("complete {fingerprint}")]);
                self.do_it(&["HSET", &self.view(), "live", &format!("{far} {fingerprint}")]);
                self.do_it(&["HDEL", &self.view(), "newest"]);
            }
            Damage::PointerToAnotherPlan => {
                self.delete(&format!("{}:{{by_user:", self.prefix));
                let other = "07".repeat(16);
                self.do_it(&["HSET", &self.view(), &number, &format!("complete {other}")]);
                self.do_it(&["HSET", &self.view(), "live", &format!("{number} {other}")]);
            }
        }
    }
}

/// What is lost in Redis, or left from another time.
#[derive(Clone, Copy, Debug)]
enum Damage {
    Buckets,
    OneBucket,
    OnePositionEverywhere,
    Positions,
    Record,
    View,
    Project,
    PointerBeyondTheCounter,
    GenerationBeyondTheCounter,
    PointerToAnotherPlan,
}

#[tokio::test]
async fn whatever_redis_has_lost_of_a_view_is_backfilled() {
    let redis = Redis::start();
    for damage in [
        Damage::Buckets,
        Damage::OneBucket,
        Damage::OnePositionEverywhere,
        Damage::Positions,
        Damage::Record,
        Damage::View,
        Damage::Project,
        Damage::PointerBeyondTheCounter,
        Damage::GenerationBeyondTheCounter,
        Damage::PointerToAnotherPlan,
    ] {
        for running in [true, false] {
            let keys = Keys { redis: &redis, prefix: unique("lost") };
            let config = RedisConfig { url: redis.url().to_owned(), prefix: keys.prefix.clone() };
            let store = Arc::new(RedisStore::open(config).await.expect("a store"));
            let what = format!("{damage:?}, running: {running}");
            heals(&what, running, store, async |live| keys.damage(damage, live)).await;
        }
    }
}

/// The store has lost one view, and its clock was ahead when another one was begun: which generations count is said for both.
#[tokio::test]
async fn a_generation_that_does_not_count_is_not_brought_back() {
    let whole = Project::new(memory());
    whole.open().await.take_in_files("payments", &files(&whole), &unwatched).await.expect("taken in");
    let expected = whole.held().await.views;

    let redis = Redis::start();
    let keys = Keys { redis: &redis, prefix: unique("lost") };
    let config = RedisConfig { url: redis.url().to_owned(), prefix: keys.prefix.clone() };
    let project = Project::new(Arc::new(RedisStore::open(config).await.expect("a store")));
    let paths = files(&project);
    let mut ingest = project.open().await;
    ingest.take_in_files("payments", &paths[..8], &unwatched).await.expect("taken in");
    let live = project.store.live("by_shop").await.expect("a store").expect("a live generation");
    let far = live.number + (1 << 40);
    // It has the positions of the live one and none of its states.
    let name = |number, bucket| format!("{}:{{by_shop:{number}:{bucket}}}", keys.prefix);
    (0..16).for_each(|bucket| keys.do_it(&["COPY", &name(live.number, bucket), &name(far, bucket)]));
    let fingerprint: String = live.fingerprint.0.iter().map(|byte| format!("{byte:02x}")).collect();
    let (of_view, record) = (format!("{}:{{by_shop}}", keys.prefix), format!("complete {fingerprint}"));
    keys.do_it(&["HSET", &of_view, &far.to_string(), &record]);
    let mut events = EventTable::open(&project.location(), &payments()).await.expect("events");
    let before = events.properties().clone();
    let mut properties = before.clone();
    properties.insert(properties::GENERATIONS_SINCE.to_owned(), (far + 1).to_string());
    events.set_properties(&before, &properties).await.expect("set");
    keys.delete(&format!("{}:{{by_user", keys.prefix));

    ingest.take_in_files("payments", &paths[8..], &unwatched).await.expect("goes on");
    assert!(project.held().await.views == expected, "each event is in both views");
    events.reload().await.expect("read");
    let since: u64 = events.properties()[properties::GENERATIONS_SINCE].parse().expect("a number");
    for view in ["by_user", "by_shop"] {
        let live = project.store.live(view).await.expect("a store").expect("a live generation");
        assert!(since <= live.number && live.number != far, "{live} counts from {since} on");
    }
    let left = project.store.unpublished("by_shop").await.expect("a store");
    assert!(left.iter().all(|generation| generation.number != far), "{left:?}");
}

#[tokio::test]
async fn generations_that_a_store_in_memory_has_lost_are_backfilled() {
    for running in [true, false] {
        let store = Arc::new(MemoryStore::new(clock()));
        let lose = async |_: &Generation| store.lose_generations();
        heals("in memory", running, Arc::clone(&store) as _, lose).await;
    }
}

/// A file from which rows were removed, as no version of ours does.
#[tokio::test]
async fn positions_that_an_embedded_store_has_lost_are_backfilled() {
    const POSITIONS: TableDefinition<'_, (u64, i32, u16), &[u8]> = TableDefinition::new("positions");
    for bucket in [None, Some(3)] {
        let mut project = project(memory());
        let folder = project.folder.path().join("online");
        let open = || Arc::new(EmbeddedStore::open(&folder, clock()).expect("opened"));
        project.store = open();
        let paths = files(&project);
        project.open().await.take_in_files("payments", &paths, &unwatched).await.expect("taken in");
        let (before, expected) = (live(&*project.store).await, states(&project.store, "by_user").await);
        project.store = memory();

        let file = Database::open(EmbeddedStore::path(&folder)).expect("opened");
        let change = file.begin_write().expect("begun");
        let mut positions = change.open_table(POSITIONS).expect("positions");
        positions.retain(|key, _| bucket.is_some_and(|bucket| key.2 != bucket)).expect("removed");
        drop(positions);
        change.commit().expect("committed");
        drop(file);

        project.store = open();
        let mut ingest = project.open().await;
        assert!(ingest.status(Detail::ALL).await.expect("a status").views[0].lost);
        ingest.catch_up(&unwatched).await.expect("backfilled");
        assert!(live(&*project.store).await.number > before.number);
        assert_eq!(states(&project.store, "by_user").await, expected);
    }
}
