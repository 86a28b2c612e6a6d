//! How long it takes from an event's being produced until a lookup sees it, at steady rates and with commits to the
//! tables under way. Everything runs on this machine: producer, broker, ingestion, Redis and lookups share its cores.

#![allow(clippy::disallowed_methods, reason = "real services are waited for, and timed, by the real clock")]
#![allow(missing_docs)]

use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use rdkafka::ClientConfig;
use rdkafka::producer::{BaseRecord, DefaultProducerContext, Producer, ThreadedProducer};
use tidemark_benches::engine::Engine;
use tidemark_benches::shop::{self, ENTITIES, PARTITIONS, Payment, Payments, TOPIC};
use tidemark_benches::table::{Table, grouped, millis, quantile};
use tidemark_benches::{now, setting};
use tidemark_kernel::{Status, Value};
use tidemark_online::{Lookups, Row};
use tidemark_services::{Kafka, Redis};
use tidemark_store::{RedisConfig, RedisStore};
use tokio::runtime::{Builder, Runtime};
use tokio::sync::mpsc;
use tokio::time::{MissedTickBehavior, interval, sleep};

/// Events per second.
const RATES: [u64; 2] = [1_000, 10_000];

/// How many of them each second are of entities that no other event has.
const PROBES: u64 = 50;

/// How long the producer waits for more to send at once, in milliseconds: as Kafka's own does since version 4.
const LINGER: &str = "5";

/// How long an event may take to be seen before this has failed.
const PATIENCE: Duration = Duration::from_secs(30);

/// An event of entities of its own, and when it was produced.
struct Probe {
    entity: usize,
    sent: Instant,
}

#[tokio::main]
async fn main() {
    let seconds = setting("TIDEMARK_BENCH_SECONDS", 20);
    let (kafka, redis) = (Kafka::for_load(), Redis::start());
    kafka.create_topic(TOPIC, PARTITIONS, &[]);
    let store = RedisStore::open(RedisConfig::new(redis.url())).await.expect("a store");
    let mut engine = Engine::start(&shop::repo(), kafka.bootstrap(), Arc::new(store)).await;
    let mut stream = Stream::new(kafka.client());
    // What happens once only: the group is joined, the broker's code compiled.
    (stream, _) = run(stream, RATES[0], 5, redis.url()).await;

    let columns = ["events/s", "probes", "p50 ms", "p99 ms", "max ms", "commits meanwhile"];
    let mut table = Table::new("Freshness: produced to visible in a lookup of three views", &columns);
    for rate in RATES {
        let before = engine.counter("tidemark_ingest_commits_total");
        let took;
        (stream, took) = run(stream, rate, seconds, redis.url()).await;
        let commits = engine.counter("tidemark_ingest_commits_total") - before;
        let (p50, p99, max) = (quantile(&took, 0.5), quantile(&took, 0.99), quantile(&took, 1.0));
        table.row(&[&grouped(rate), &took.len(), &millis(p50), &millis(p99), &millis(max), &commits]);
    }
    table.row(&[&"aim", &"", &"< 20", &"< 100"]);
    table.print();
    engine.stop().await;
}

/// Produces for some seconds, each event at its time, and asks for the probes among them. How long each took to be seen,
/// ascending.
async fn run(mut stream: Stream, rate: u64, seconds: u64, redis: &str) -> (Stream, Vec<Duration>) {
    let (send, probes) = mpsc::unbounded_channel();
    let producing = thread::spawn(move || {
        stream.produce(rate, seconds, &send);
        stream
    });
    let url = redis.to_owned();
    let probing = thread::spawn(move || runtime().block_on(probe(&url, probes)));
    let join = move || (producing.join().expect("no panic"), probing.join().expect("no panic"));
    let (stream, mut took) = tokio::task::spawn_blocking(join).await.expect("no panic");
    took.sort_unstable();
    (stream, took)
}

/// A thread's own, so that timers fire while the ingestion's threads are busy.
fn runtime() -> Runtime {
    Builder::new_current_thread().enable_all().build().expect("a runtime")
}

/// Events that happen now.
struct Stream {
    producer: ThreadedProducer<DefaultProducerContext>,
    payments: Payments,
    /// The next entity that no event has had.
    fresh: usize,
}

impl Stream {
    fn new(mut client: ClientConfig) -> Self {
        client.set("linger.ms", LINGER).set("enable.idempotence", "true");
        let producer = client.create().expect("a producer");
        Self { producer, payments: Payments::default(), fresh: ENTITIES }
    }

    /// So many events every millisecond; what cannot be kept up is made up for.
    fn produce(&mut self, rate: u64, seconds: u64, probes: &mpsc::UnboundedSender<Probe>) {
        runtime().block_on(async {
            let mut ticks = interval(Duration::from_millis(1));
            ticks.set_missed_tick_behavior(MissedTickBehavior::Burst);
            for event in 0..rate * seconds {
                if event % (rate / 1000) == 0 {
                    ticks.tick().await;
                }
                let mut payment = self.payments.next(now());
                if event % (rate / PROBES) == 0 {
                    let entity = self.fresh;
                    self.fresh += 1;
                    payment = Payment { user: entity, merchant: entity, card: entity, ..payment };
                    probes.send(Probe { entity, sent: Instant::now() }).expect("probed to the end");
                }
                self.send(&payment);
            }
        });
        self.producer.flush(PATIENCE).expect("the broker answers");
    }

    fn send(&self, payment: &Payment) {
        let (key, value) = (payment.user.to_string(), payment.to_string());
        let sent = self.producer.send(BaseRecord::to(TOPIC).key(&key).payload(&value));
        sent.map_err(|(error, _)| error).expect("the broker keeps up");
    }
}

/// Asks for those that were not seen yet, all of them at once and again and again, until there are no more.
async fn probe(redis: &str, mut probes: mpsc::UnboundedReceiver<Probe>) -> Vec<Duration> {
    let store = RedisStore::open(RedisConfig::new(redis)).await.expect("a store");
    let lookups = Lookups::new(Arc::new(store), Arc::new(now));
    lookups.serve(shop::repo().services.into_values()).expect("services that were checked");
    while lookups.ready().await.is_err() {
        sleep(Duration::from_millis(10)).await;
    }
    let (mut unseen, mut took) = (Vec::new(), Vec::new());
    while let Some(probe) = probes.recv().await {
        unseen.push(probe);
        while !unseen.is_empty() {
            let rows = unseen.iter().map(row).collect();
            let answers = lookups.lookup("fraud", rows, None).await.expect("answers");
            let (now, mut answers) = (Instant::now(), answers.into_iter());
            unseen.retain(|probe| {
                let took_now = now - probe.sent;
                assert!(took_now < PATIENCE, "an event is not seen after {took_now:?}");
                let answer = answers.next().expect("one for each").expect("an answer");
                let seen = answer.statuses.iter().all(|status| *status == Status::Present);
                took.extend(seen.then_some(took_now));
                !seen
            });
            unseen.extend(std::iter::from_fn(|| probes.try_recv().ok()));
            sleep(Duration::from_millis(1)).await;
        }
    }
    took
}

fn row(probe: &Probe) -> Row {
    let number = Value::Int64(probe.entity as i64);
    let card = Value::string(&Payment::card_id(probe.entity));
    [("user_id".into(), number.clone()), ("merchant_id".into(), number), ("card_id".into(), card)].into()
}
