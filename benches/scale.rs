//! The cost of an event and of a tick for a worker with few and many partitions of a topic, and few and many views.

#![allow(clippy::disallowed_methods, reason = "real services are waited for, and timed, by the real clock")]
#![allow(missing_docs)]

use std::fmt::Display;
use std::sync::Arc;
use std::time::Duration;

use tidemark_benches::engine::Engine;
use tidemark_benches::shop::{self, TOPIC};
use tidemark_benches::table::{Table, rate};
use tidemark_benches::{now, setting};
use tidemark_registry::Repo;
use tidemark_services::{Kafka, Record, Redis};
use tidemark_store::{RedisConfig, RedisStore};
use tokio::time::sleep;

const PARTITIONS: [i32; 3] = [12, 100, 1000];

/// How many views there are that keep no event, beside those of the shop.
const IDLE_VIEWS: [usize; 3] = [1, 100, 1000];

/// How long the worker is given after the last event.
const SETTLING: Duration = Duration::from_secs(12);

/// How long a worker without input is measured: several ticks.
const STILL: Duration = Duration::from_secs(20);

#[tokio::main]
async fn main() {
    let events = setting("TIDEMARK_BENCH_EVENTS", 300_000);
    let mut table = Table::new("Partitions of one worker", &columns("partitions"));
    for partitions in PARTITIONS {
        measure(&mut table, &partitions, &shop::repo(), partitions, events).await;
    }
    table.print();
    let mut table = Table::new("Idle views of one worker", &columns("idle views"));
    for views in IDLE_VIEWS {
        let repo = shop::repo_with_idle_views(views);
        measure(&mut table, &views, &repo, shop::PARTITIONS, events / 10).await;
    }
    table.print();
}

const fn columns(of: &str) -> [&str; 7] {
    [
        of,
        "events/s",
        "CPU us/event",
        "Redis calls/event",
        "idle CPU ms/s",
        "idle CPU of Redis ms/s",
        "idle Redis calls/s",
    ]
}

/// Has a new worker read so many events, then none.
async fn measure(table: &mut Table, of: &dyn Display, repo: &Repo, partitions: i32, events: u64) {
    let (kafka, redis) = (Kafka::for_load(), Redis::start());
    kafka.create_topic(TOPIC, partitions, &[("retention.ms", "-1")]);
    produce(&kafka, events);
    let store = RedisStore::open(RedisConfig::new(redis.url())).await.expect("a store");
    let before = Spent::now(&redis);
    let mut engine = Engine::start(repo, kafka.bootstrap(), Arc::new(store)).await;
    engine.idle().await;
    let busy = Spent::now(&redis).since(&before);
    assert_eq!(engine.counter("tidemark_ingest_events_total"), events, "every event was taken in once");
    // The first ticks store how far buckets are that no event touched.
    sleep(SETTLING).await;
    let before = Spent::now(&redis);
    sleep(STILL).await;
    let idle = Spent::now(&redis).since(&before);
    let seconds = idle.at.as_secs_f64();
    table.row(&[
        of,
        &rate(events, busy.at),
        &format!("{:.1}", busy.cpu.as_secs_f64() * 1e6 / events as f64),
        &format!("{:.2}", busy.calls as f64 / events as f64),
        &format!("{:.1}", idle.cpu.as_secs_f64() * 1e3 / seconds),
        &format!("{:.1}", idle.redis_cpu.as_secs_f64() * 1e3 / seconds),
        &format!("{:.0}", idle.calls as f64 / seconds),
    ]);
    engine.stop().await;
}

/// What was spent up to an instant, or between two.
struct Spent {
    at: Duration,
    cpu: Duration,
    redis_cpu: Duration,
    calls: u64,
}

impl Spent {
    fn now(redis: &Redis) -> Self {
        let at = Duration::from_millis(now().millis().unsigned_abs());
        Self { at, cpu: cpu(), redis_cpu: redis_cpu(redis), calls: calls(redis) }
    }

    fn since(&self, before: &Self) -> Self {
        Self {
            at: self.at.saturating_sub(before.at),
            cpu: self.cpu.saturating_sub(before.cpu),
            redis_cpu: self.redis_cpu.saturating_sub(before.redis_cpu),
            calls: self.calls - before.calls,
        }
    }
}

/// The topic, filled beforehand, keyed by user.
fn produce(kafka: &Kafka, events: u64) {
    let producer = kafka.producer_with(&[("linger.ms", "20"), ("batch.size", "262144")]);
    for payment in shop::backlog(events) {
        let record = Record::new(TOPIC, payment.to_string()).key(payment.user.to_string());
        producer.send(&record.at(payment.at.millis()));
    }
    producer.flush();
}

/// The commands that Redis has carried out, those inside functions included.
fn calls(redis: &Redis) -> u64 {
    told(redis, "stats", "total_commands_processed").parse().expect("a number")
}

/// The processor time of Redis so far.
fn redis_cpu(redis: &Redis) -> Duration {
    let seconds = ["used_cpu_user", "used_cpu_sys"].map(|name| told(redis, "cpu", name));
    seconds.iter().map(|seconds| Duration::from_secs_f64(seconds.parse().expect("seconds"))).sum()
}

/// What Redis says about itself.
fn told(redis: &Redis, section: &str, name: &str) -> String {
    let info: String = redis.command(&["INFO", section]).expect("it answers");
    let line = info.lines().find_map(|line| line.trim().strip_prefix(name)?.strip_prefix(':'));
    line.expect("it says").to_owned()
}

/// The processor time of this process so far, as Linux counts it in hundredths of a second; nothing elsewhere.
fn cpu() -> Duration {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    // The name before it may hold spaces.
    let fields = stat.rsplit_once(')').map_or("", |(_, fields)| fields).split_whitespace();
    let ticks: u64 = fields.skip(11).take(2).filter_map(|field| field.parse::<u64>().ok()).sum();
    Duration::from_millis(ticks * 10)
}
