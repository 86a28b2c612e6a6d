//! What an event and a tick cost a worker that has few and many partitions of a topic.

#![allow(clippy::disallowed_methods, reason = "real services are waited for, and timed, by the real clock")]
#![allow(missing_docs)]

use std::sync::Arc;
use std::time::{Duration, Instant};

use tidemark_benches::engine::Engine;
use tidemark_benches::setting;
use tidemark_benches::shop::{self, TOPIC};
use tidemark_benches::table::{Table, rate};
use tidemark_services::{Kafka, Record, Redis};
use tidemark_store::{RedisConfig, RedisStore};
use tokio::time::sleep;

const PARTITIONS: [i32; 3] = [12, 100, 1000];

/// For how long nothing comes in: several ticks.
const STILL: Duration = Duration::from_secs(20);

#[tokio::main]
async fn main() {
    let events = setting("TIDEMARK_BENCH_EVENTS", 300_000);
    let mut table = Table::new(
        "Partitions of one worker",
        &[
            "partitions",
            "events/s",
            "CPU us/event",
            "Redis calls/event",
            "idle CPU ms/s",
            "idle Redis calls/s",
        ],
    );
    for partitions in PARTITIONS {
        let (kafka, redis) = (Kafka::start(), Redis::start());
        kafka.create_topic(TOPIC, partitions, &[("retention.ms", "-1")]);
        produce(&kafka, events);
        let store = RedisStore::open(RedisConfig::new(redis.url())).await.expect("a store");
        let (began, cpu, calls) = (Instant::now(), cpu(), calls(&redis));
        let mut engine = Engine::start(&shop::repo(), kafka.bootstrap(), Arc::new(store)).await;
        engine.idle().await;
        let (took, cpu_taken, calls_made) = (began.elapsed(), self::cpu() - cpu, self::calls(&redis) - calls);
        assert_eq!(engine.counter("tidemark_ingest_events_total"), events, "every event was taken in once");
        let (cpu, calls) = (self::cpu(), self::calls(&redis));
        sleep(STILL).await;
        let (idle, idle_calls) = (self::cpu() - cpu, self::calls(&redis) - calls);
        table.row(&[
            &partitions,
            &rate(events, took),
            &format!("{:.1}", cpu_taken.as_secs_f64() * 1e6 / events as f64),
            &format!("{:.2}", calls_made as f64 / events as f64),
            &format!("{:.1}", idle.as_secs_f64() * 1e3 / STILL.as_secs_f64()),
            &format!("{:.0}", idle_calls as f64 / STILL.as_secs_f64()),
        ]);
        engine.stop().await;
    }
    table.print();
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
    let info: String = redis.command(&["INFO", "stats"]).expect("it answers");
    let line = info.lines().find_map(|line| line.strip_prefix("total_commands_processed:"));
    line.and_then(|number| number.trim().parse().ok()).expect("it says")
}

/// The processor time of this process so far, as Linux counts it in hundredths of a second; nothing elsewhere.
fn cpu() -> Duration {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    // The name before it may hold spaces.
    let fields = stat.rsplit_once(')').map_or("", |(_, fields)| fields).split_whitespace();
    let ticks: u64 = fields.skip(11).take(2).filter_map(|field| field.parse::<u64>().ok()).sum();
    Duration::from_millis(ticks * 10)
}
