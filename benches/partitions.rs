//! The cost of a lookup where a view has another key than its topic, so that an entity has a state for each of many
//! partitions. The events of an entity are the same, whatever number of partitions they are spread over.

#![allow(clippy::disallowed_methods, reason = "real services are waited for, and timed, by the real clock")]
#![allow(missing_docs)]

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use tidemark_benches::now;
use tidemark_benches::shop;
use tidemark_benches::table::{Table, grouped, quantile};
use tidemark_kernel::{
    EntityKey, FeaturePlan, Partition, PartitionState, Position, Span, Stamp, Time, Type, Value,
};
use tidemark_online::{Lookups, Row};
use tidemark_services::Redis;
use tidemark_store::{BUCKETS, BucketFlush, FlushOutcome, NewState, OnlineStore, RedisConfig, RedisStore};

const PARTITIONS: [i32; 3] = [1, 12, 64];

const ENTITIES: i64 = 1_000;

/// How many events an entity has, over the days that its view looks back.
const EVENTS: i64 = 600;
const SPAN: Span = Span::from_secs(7 * 24 * 60 * 60);

/// How many lookups are measured, of one entity and of many.
const LOOKUPS: usize = 4_000;
const MANY: usize = 100;

#[tokio::main]
async fn main() {
    let redis = Redis::start();
    let columns = ["partitions", "tiles", "bytes", "p50 µs", "p99 µs", "p50 µs of 100", "p50 against one"];
    let mut table = Table::new("Lookup of an entity whose state lies in several partitions", &columns);
    let mut first = None;
    for partitions in PARTITIONS {
        let config = RedisConfig { url: redis.url().to_owned(), prefix: format!("p{partitions}") };
        let store = Arc::new(RedisStore::open(config).await.expect("a store"));
        let repo = shop::repo();
        let planted = plant(&*store, &repo.views["user_payments"], partitions).await;
        let lookups = Lookups::new(store, Arc::new(now));
        lookups.serve([Arc::clone(&repo.services["user"])]).expect("a service that was checked");
        let (one, many) = (time(&lookups, 1, LOOKUPS).await, time(&lookups, MANY, LOOKUPS / MANY).await);
        let (p50, p99) = (quantile(&one, 0.5), quantile(&one, 0.99));
        let ratio = p50.as_secs_f64() / first.get_or_insert(p50).as_secs_f64();
        let (tiles, bytes) = (planted.tiles / ENTITIES as u64, planted.bytes / ENTITIES as u64);
        let many = micros(quantile(&many, 0.5));
        table.row(&[
            &partitions,
            &tiles,
            &grouped(bytes),
            &micros(p50),
            &micros(p99),
            &many,
            &format!("{ratio:.2}"),
        ]);
    }
    table.print();
}

/// How much all entities have.
#[derive(Default)]
struct Planted {
    tiles: u64,
    bytes: u64,
}

/// Writes the states that an ingestion would have written, and publishes them.
async fn plant(store: &dyn OnlineStore, plan: &FeaturePlan, partitions: i32) -> Planted {
    let starts: BTreeMap<Partition, Position> =
        (0..partitions).map(|partition| (Partition(partition), Position::START)).collect();
    let generation =
        store.begin(&plan.view, plan.new_generation_fingerprint(), &starts, None).await.expect("begun");
    let mut planted = Planted::default();
    let mut flushes: BTreeMap<(Partition, u16), BucketFlush> = BTreeMap::new();
    for user in 0..ENTITIES {
        let key = EntityKey::encode(&[Value::Int64(user)]).expect("no null");
        let bucket = key.bucket(BUCKETS);
        for (partition, mut state) in states(plan, user, partitions) {
            let bytes = state.encode(plan);
            planted.tiles += state.tiles().len() as u64;
            planted.bytes += bytes.len() as u64;
            let (from, to) = (Position::START, Position(EVENTS));
            let flush = flushes.entry((partition, bucket));
            let flush = flush.or_insert_with(|| BucketFlush { bucket, partition, from, to, writes: vec![] });
            flush.writes.push((key.clone(), Some(NewState::permanent(bytes))));
        }
    }
    let outcomes = store.flush(&generation, flushes.into_values().collect()).await.expect("flushed");
    assert!(outcomes.iter().all(|outcome| *outcome == FlushOutcome::Applied));
    store.publish(&plan.view, None, Some(&generation)).await.expect("published");
    planted
}

/// The states of one entity, one for each partition that has an event of it. The events are those of the entity,
/// whatever the number of partitions.
fn states(plan: &FeaturePlan, user: i64, partitions: i32) -> BTreeMap<Partition, PartitionState> {
    let mut random = ChaCha8Rng::seed_from_u64(user.unsigned_abs());
    let (end, step) = (now().millis(), SPAN.millis() / EVENTS);
    let mut states: BTreeMap<Partition, PartitionState> = BTreeMap::new();
    for event in 0..EVENTS {
        let time = Time::from_millis(end - (EVENTS - event) * step + random.random_range(0..step));
        let partition = Partition((event % i64::from(partitions)) as i32);
        let stamp = Stamp { partition, offset: event, event_time: time, arrival_time: time };
        let (amount, merchant) =
            (f64::from(random.random_range(100..100_000)) / 100.0, random.random_range(0..1_000));
        let inputs = plan.aggregates.iter().map(|aggregate| match &aggregate.input {
            Some(input) if input.ty == Type::Float64 => Value::float(amount),
            Some(_) => Value::Int64(merchant),
            None => Value::Bool(true),
        });
        states.entry(partition).or_default().apply(plan, &stamp, &inputs.collect::<Vec<_>>());
    }
    states
}

/// How long `count` lookups of `rows` entities each take, ascending.
async fn time(lookups: &Lookups, rows: usize, count: usize) -> Vec<Duration> {
    let mut random = ChaCha8Rng::seed_from_u64(1);
    let mut took = Vec::with_capacity(count);
    for _ in 0..count {
        let row = |_| Row::from([("user_id".to_owned(), Value::Int64(random.random_range(0..ENTITIES)))]);
        let rows = (0..rows).map(row).collect();
        let began = Instant::now();
        let answers = lookups.lookup("user", rows, None).await.expect("answers");
        took.push(began.elapsed());
        assert!(answers.iter().all(Result::is_ok));
    }
    took.sort_unstable();
    took
}

fn micros(took: Duration) -> String {
    grouped(took.as_micros() as u64)
}
