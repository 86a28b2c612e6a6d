//! Events per second from Kafka to Redis and Parquet with all guarantees, compared with the necessary work alone (the
//! same consumer decoding only, the same Redis calls alone) and with a Python stream library without any guarantees.

#![allow(clippy::disallowed_methods, reason = "real services are waited for, and timed, by the real clock")]
#![allow(missing_docs)]

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::{Message, Offset, TopicPartitionList};
use tidemark_benches::engine::Engine;
use tidemark_benches::recorder::{Recorder, Recording};
use tidemark_benches::setting;
use tidemark_benches::shop::{self, PARTITIONS, TOPIC};
use tidemark_benches::table::{Table, grouped, rate};
use tidemark_ingest::decode::{ColumnsBuilder, decoder};
use tidemark_services::{Kafka, Record, Redis};
use tidemark_store::{OnlineStore, RedisConfig, RedisStore};

/// How many events the stream library gets.
const FEWER: u64 = 100_000;

/// What the stream library is installed as.
const PEER: &str = "quixstreams==3.*";

#[tokio::main]
async fn main() {
    let events = setting("TIDEMARK_BENCH_EVENTS", 1_000_000);
    let kafka = Kafka::for_load();
    kafka.create_topic(TOPIC, PARTITIONS, &[("retention.ms", "-1")]);
    produce(&kafka, events);
    // This goes first, so that no measured reader has to wait for a broker that has not read the topic yet.
    decoding_alone(&kafka, events);
    let full = full(&kafka, events).await;
    let parquet = parquet_alone(&kafka, events).await;
    let decoding = decoding_alone(&kafka, events);
    let calls = [full.recording.writes(), full.recording.bytes(), full.recording.loads()];
    let redis = redis_alone(full.recording).await;
    let peer = peer(&kafka, FEWER.min(events));

    let mut table = Table::new("Throughput", &["", "events/s", "seconds", "against ours"]);
    let mut row = |what: &str, events: u64, took: Duration| {
        let per_event = |took: Duration, events: u64| took.as_secs_f64() / events as f64;
        let ratio = per_event(took, events) / per_event(full.took, full.events);
        table.row(&[
            &what,
            &rate(events, took),
            &format!("{:.2}", took.as_secs_f64()),
            &format!("{ratio:.2}"),
        ]);
    };
    row("Kafka to Redis and Parquet: 3 views, 12 features", events, full.took);
    row("Kafka to Parquet, no view", events, parquet);
    row("(a) the same consumer, decoding only", events, decoding);
    row("(b) the same Redis calls alone", events, redis);
    match &peer {
        Ok(took) => row("(c) quixstreams: one windowed sum, no guarantee", FEWER.min(events), *took),
        Err(reason) => table.row(&[&format!("(c) quixstreams: left out, {reason}")]),
    }
    table.print();

    let mut table = Table::new("Ratios", &["", "found", "aim"]);
    let ratio = full.took.as_secs_f64() / (decoding + redis).as_secs_f64();
    table.row(&[&"time of ours / (a + b)", &format!("{ratio:.2}"), &"<= 1.25"]);
    if let Ok(took) = peer {
        let pace = |events: u64, took: Duration| events as f64 / took.as_secs_f64();
        let ratio = pace(events, full.took) / pace(FEWER.min(events), took);
        table.row(&[&"events/s of ours / (c)", &format!("{ratio:.1}"), &">= 10"]);
    }
    table.print();

    let mut table = Table::new("What Redis was asked", &["", "in all", "per event"]);
    let mut row = |what: &str, count: u64| {
        table.row(&[&what, &grouped(count), &format!("{:.2}", count as f64 / events as f64)]);
    };
    for (what, count) in ["states written", "bytes of states written", "states loaded"].iter().zip(calls) {
        row(what, count as u64);
    }
    row("commands, those inside functions included", full.commands);
    row("bytes received", full.received);
    table.print();
}

/// The topic, filled beforehand. Each record's timestamp is its event time, its key the user.
fn produce(kafka: &Kafka, events: u64) {
    let producer = kafka.producer_with(&[("linger.ms", "20"), ("batch.size", "262144")]);
    for payment in shop::backlog(events) {
        let record = Record::new(TOPIC, payment.to_string()).key(payment.user.to_string());
        producer.send(&record.at(payment.at.millis()));
    }
    producer.flush();
}

async fn store(redis: &Redis) -> Arc<dyn OnlineStore> {
    Arc::new(RedisStore::open(RedisConfig::new(redis.url())).await.expect("a store"))
}

/// All of it.
struct Full {
    events: u64,
    took: Duration,
    recording: Recording,
    /// Commands that Redis carried out.
    commands: u64,
    /// Bytes that it received.
    received: u64,
}

async fn full(kafka: &Kafka, events: u64) -> Full {
    let redis = Redis::start();
    let store = Arc::new(Recorder::new(store(&redis).await));
    let took = ingest(kafka, events, &shop::repo(), Arc::clone(&store) as _).await;
    let told = |name| told(&redis, name);
    let (commands, received) = (told("total_commands_processed:"), told("total_net_input_bytes:"));
    Full { events, took, recording: store.take(), commands, received }
}

/// Without views nothing goes to Redis but questions.
async fn parquet_alone(kafka: &Kafka, events: u64) -> Duration {
    let redis = Redis::start();
    let mut repo = shop::repo();
    repo.views.clear();
    ingest(kafka, events, &repo, store(&redis).await).await
}

/// From the start of an ingestion until all events are in both stores.
async fn ingest(
    kafka: &Kafka,
    events: u64,
    repo: &tidemark_registry::Repo,
    store: Arc<dyn OnlineStore>,
) -> Duration {
    let began = Instant::now();
    let mut engine = Engine::start(repo, kafka.bootstrap(), store).await;
    engine.idle().await;
    let took = began.elapsed();
    assert_eq!(engine.counter("tidemark_ingest_events_total"), events, "every event was taken in once");
    engine.stop().await;
    took
}

fn told(redis: &Redis, name: &str) -> u64 {
    let info: String = redis.command(&["INFO", "stats"]).expect("it answers");
    let line = info.lines().find_map(|line| line.strip_prefix(name));
    line.and_then(|number| number.trim().parse().ok()).expect("it says")
}

/// The settings of the product's reader, as far as they matter for speed.
const READER: [(&str, &str); 9] = [
    ("group.id", "decoding-alone"),
    ("enable.auto.commit", "false"),
    ("enable.auto.offset.store", "false"),
    ("enable.partition.eof", "true"),
    ("isolation.level", "read_committed"),
    ("fetch.wait.max.ms", "100"),
    ("fetch.queue.backoff.ms", "10"),
    ("fetch.max.bytes", "16777216"),
    ("queued.max.messages.kbytes", "32768"),
];

/// How many rows are decoded before they are thrown away.
const ROWS: u64 = 16 * 1024;

/// Every record read and decoded into columns, and nothing done with them.
fn decoding_alone(kafka: &Kafka, events: u64) -> Duration {
    let repo = shop::repo();
    let source = &repo.sources[TOPIC];
    let (decoder, mut columns) = (decoder::of_values(source), ColumnsBuilder::new(source));
    let began = Instant::now();
    let mut client = kafka.client();
    client.extend(READER.map(|(name, value)| (name.to_owned(), value.to_owned())));
    let consumer: BaseConsumer = client.create().expect("a consumer");
    let mut partitions = TopicPartitionList::new();
    for partition in 0..PARTITIONS {
        partitions.add_partition_offset(TOPIC, partition, Offset::Beginning).expect("an offset");
    }
    consumer.assign(&partitions).expect("partitions");
    let mut decoded: u64 = 0;
    while decoded < events {
        if let Some(Ok(record)) = consumer.poll(Duration::from_secs(1)) {
            let payload = record.payload().expect("a value");
            columns.add(|row| decoder.decode(payload, row, &mut |_, _| ())).expect("an event");
            decoded += 1;
            if decoded.is_multiple_of(ROWS) {
                columns = ColumnsBuilder::new(source);
            }
        }
    }
    began.elapsed()
}

/// The same calls to a Redis that holds nothing.
async fn redis_alone(recording: Recording) -> Duration {
    let redis = Redis::start();
    let store = store(&redis).await;
    let began = Instant::now();
    recording.replay(&*store).await;
    began.elapsed()
}

/// How long a Python library takes from its first event to its last; or why there is none.
fn peer(kafka: &Kafka, events: u64) -> Result<Duration, String> {
    let python = python()?;
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("quix_sum.py");
    let seconds =
        said(Command::new(python).arg(script).arg(kafka.bootstrap()).arg(TOPIC).arg(events.to_string()))?;
    let seconds: f64 = seconds.trim().parse().map_err(|_| format!("it says {seconds:?}"))?;
    Ok(Duration::from_secs_f64(seconds))
}

/// A Python with that library, in a folder of its own under `target/`.
fn python() -> Result<PathBuf, String> {
    let workspace = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let target = workspace.join(std::env::var_os("CARGO_TARGET_DIR").unwrap_or_else(|| "target".into()));
    let folder = target.join("python-benches");
    let python = folder.join("bin/python");
    if said(Command::new(&python).args(["-c", "import quixstreams"])).is_err() {
        said(Command::new("python3").args(["-m", "venv", "--clear"]).arg(&folder))?;
        let install = ["-m", "pip", "install", "--quiet", "--disable-pip-version-check", PEER];
        said(Command::new(&python).args(install))?;
    }
    Ok(python)
}

/// What a program writes; or how it failed, in a line.
fn said(command: &mut Command) -> Result<String, String> {
    let output = command.output().map_err(|error| error.to_string())?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    let told = String::from_utf8_lossy(&output.stderr).into_owned();
    Err(told.lines().last().map_or_else(|| output.status.to_string(), str::to_owned))
}
