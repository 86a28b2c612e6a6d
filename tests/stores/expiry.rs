//! Which states Redis expires, and when: also where workers of an older version share it.

use std::time::{Duration, Instant};

use tidemark_kernel::Time;
use tidemark_kernel::parts::{Rest, StateChange};
use tidemark_kernel::retention::Retention;
use tidemark_store::Sweep;

use super::*;

const MINUTE: i64 = 60_000;
const DAY: i64 = 24 * 60 * MINUTE;

/// The same flushes, with states that are needed for `span` milliseconds from the later of the write and `since`.
fn needed(mut flushes: Vec<BucketFlush>, since: i64, span: i64) -> Vec<BucketFlush> {
    let retention = Some(Retention { since: Time::from_millis(since), span: Span::from_millis(span) });
    for (_, state) in flushes.iter_mut().flat_map(|flush| &mut flush.writes) {
        *state = state.take().map(|state| NewState { retention, ..state });
    }
    flushes
}

#[tokio::test]
async fn states_are_forgotten_by_redis_itself() {
    let store = fresh().await;
    let expiring = begin_with(&store, Some(Span::from_millis(1000))).await.expect("begun");
    let permanent = begin(&store).await;
    let flushed = store.flush(&expiring, needed(steps(0, 50, 100), 0, 1000)).await.expect("flushed");
    assert!(flushed.iter().all(|outcome| *outcome == FlushOutcome::Applied));
    advance(&store, &permanent, 0, 50).await.expect("flushed");
    // Written again and again, one of them stays when the others have gone.
    let busy = key(1);
    let mut at = 1;
    while at == 1 || store.sizes(&expiring).await.expect("sizes").entities > 1 {
        assert_eq!(states(&store, &expiring, &busy).await.len(), 1, "forgotten too early");
        let flush = needed(step(at, &busy, state(Position(at + 1), 8)), 0, 1000);
        assert_eq!(store.flush(&expiring, flush).await.expect("flushed"), [FlushOutcome::Applied]);
        at += 1;
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert_eq!(told(&states(&store, &expiring, &busy).await[0].1), Position(at));
    let positions = &store.positions(&expiring).await.expect("positions")[&LOG];
    assert_eq!(positions.len(), usize::from(BUCKETS), "positions are never forgotten");
    assert_eq!(positions[&busy.bucket(BUCKETS)], Position(at));
    assert_eq!(store.sizes(&permanent).await.expect("sizes").entities, 50);
    let mut sweep = Sweep::new(Arc::new(|_| None));
    assert_eq!(store.expire(&expiring, &mut sweep).await.expect("expired"), 0);
    assert!(sweep.is_at_start());
}

/// Not a moment before it may be, and soon after.
#[tokio::test]
async fn a_state_is_there_until_its_expiry() {
    let store = fresh().await;
    let generation = begin_with(&store, Some(Span::from_millis(1))).await.expect("begun");
    let key = key(1);
    let flush = needed(step(0, &key, state(Position(1), 8)), 0, 700);
    let (before, sent) = (Instant::now(), store.flush(&generation, flush).await.expect("flushed"));
    let after = Instant::now();
    assert_eq!(sent, [FlushOutcome::Applied]);
    loop {
        let found = states(&store, &generation, &key).await.len();
        // The server's clock ticks in milliseconds.
        if found == 0 {
            assert!(before.elapsed() >= Duration::from_millis(699), "forgotten after {:?}", before.elapsed());
            break;
        }
        assert!(after.elapsed() < Duration::from_secs(5), "not forgotten");
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

/// A state is forgotten with all of its parts, and what is written of some of them afterwards is not taken for all.
#[tokio::test]
async fn parts_of_a_forgotten_state_are_not_kept() {
    let store = fresh().await;
    let generation = begin_with(&store, Some(Span::from_millis(1))).await.expect("begun");
    let key = key(1);
    let change = |from: i64, rest: Rest| {
        let parts = vec![(from, Some(b" and part".to_vec()))];
        let mut flush = needed(step(from, &key, Vec::new()), 0, 1000);
        let change = StateChange { first: b"first".to_vec(), parts, rest };
        flush[0].writes[0].1 = flush[0].writes[0].1.take().map(|state| NewState { change, ..state });
        flush
    };
    for (from, rest) in [(0, Rest::Absent), (1, Rest::Kept)] {
        let outcome = store.flush(&generation, change(from, rest)).await.expect("flushed");
        assert_eq!(outcome, [FlushOutcome::Applied]);
    }
    assert_eq!(states(&store, &generation, &key).await, [(LOG, b"first and part and part".to_vec())]);
    tokio::time::sleep(Duration::from_millis(1200)).await;
    let outcome = store.flush(&generation, change(2, Rest::Kept)).await.expect("asked");
    assert_eq!(outcome, [FlushOutcome::Incomplete]);
    assert_eq!(states(&store, &generation, &key).await, []);
    let outcome = store.flush(&generation, change(2, Rest::Removed)).await.expect("flushed");
    assert_eq!(outcome, [FlushOutcome::Applied]);
    assert_eq!(states(&store, &generation, &key).await, [(LOG, b"first and part".to_vec())]);
}

/// A view may need states for longer than Redis can add to its clock.
#[tokio::test]
async fn the_longest_retention_is_as_good_as_for_good() {
    let store = fresh().await;
    for (since, span) in [(i64::MIN, i64::MAX), (i64::MAX, i64::MAX), (i64::MAX, 1), (0, 1 << 53)] {
        let generation = begin_with(&store, Some(Span::from_millis(span))).await.expect("begun");
        store.flush(&generation, needed(steps(0, 5, 100), since, span)).await.expect("flushed");
        assert_whole(&store, &generation, 5).await;
    }
}

/// A Redis of its own, one generation, and one entity with a readable name.
struct Shared {
    redis: Redis,
    store: RedisStore,
    generation: Generation,
    key: EntityKey,
    bucket: String,
    entity: String,
}

impl Shared {
    async fn begin(least: i64) -> Self {
        let redis = Redis::start();
        let config = config(redis.url());
        let prefix = config.prefix.clone();
        let store = RedisStore::open(config).await.expect("a store");
        let generation = begin_with(&store, Some(Span::from_millis(least))).await.expect("begun");
        store.add_partition(&generation, Partition(1), Position(0)).await.expect("added");
        let key = EntityKey::from_bytes(*b"user");
        let bucket = format!("{prefix}:{{{VIEW}:{}:{}}}", generation.number, key.bucket(BUCKETS));
        let entity = format!("{bucket}:user");
        Self { redis, store, generation, key, bucket, entity }
    }

    /// Flushes a state of a partition as this version does.
    async fn write(&self, partition: Partition, from: i64, since: i64, span: i64) {
        let mut flush = needed(step(from, &self.key, state(Position(from + 1), 8)), since, span);
        flush[0].partition = partition;
        let outcome = self.store.flush(&self.generation, flush).await.expect("flushed");
        assert_eq!(outcome, [FlushOutcome::Applied]);
    }

    /// Flushes a state as the first version did. What it writes is no state, which matters to no test here.
    fn write_as_before(&self, partition: Partition, from: i64) {
        let fingerprint = "07".repeat(16);
        let (partition, to, from) = (partition.0.to_string(), (from + 1).to_string(), from.to_string());
        let code = include_str!("flush_1.lua");
        let call =
            ["EVAL", code, "2", &self.bucket, &self.entity, &fingerprint, &partition, &from, &to, "a state"];
        assert_eq!(self.redis.command::<i64>(&call).expect("flushed"), 1);
    }

    /// When the entity expires by the server's clock.
    fn expiry(&self) -> i64 {
        self.redis.command(&["PEXPIRETIME", &self.entity]).expect("it answers")
    }

    /// The server's clock.
    fn now(&self) -> i64 {
        let (seconds, micros): (i64, i64) = self.redis.command(&["TIME"]).expect("it answers");
        seconds * 1000 + micros / 1000
    }
}

#[tokio::test]
async fn an_entity_expires_with_the_last_of_its_states() {
    let shared = Shared::begin(MINUTE).await;
    let start = shared.now();
    shared.write(LOG, 0, start + DAY, 60 * DAY).await;
    let far = start + 61 * DAY;
    assert_eq!(shared.expiry(), far, "an arrival ahead of the clock counts from itself");
    // A state of another partition, and a newer one of the same, that are needed less long.
    shared.write(Partition(1), 0, 0, MINUTE).await;
    shared.write(LOG, 1, 0, MINUTE).await;
    assert_eq!(shared.expiry(), far, "an expiry never moves earlier");
    let before = shared.now();
    shared.write(Partition(1), 1, 0, 90 * DAY).await;
    let expiry = shared.expiry();
    assert!(
        (before..=shared.now()).contains(&(expiry - 90 * DAY)),
        "what arrived before counts from the write"
    );
    // Once every state is gone, what comes next counts for itself.
    for partition in [LOG, Partition(1)] {
        let mut delete = step(2, &shared.key, Vec::new());
        (delete[0].partition, delete[0].writes[0].1) = (partition, None);
        shared.store.flush(&shared.generation, delete).await.expect("flushed");
    }
    let before = shared.now();
    shared.write(LOG, 3, 0, MINUTE).await;
    assert!((before..=shared.now()).contains(&(shared.expiry() - MINUTE)));
}

/// What a worker knows to be kept long enough is written without a look at its expiry, unless it is not there.
#[tokio::test]
async fn an_expiry_is_left_as_it_is() {
    let shared = Shared::begin(MINUTE).await;
    let in_parts = |first: Vec<u8>, number: i64, rest: Rest| {
        let parts = vec![(number, Some(b"part".to_vec()))];
        StateChange { first, parts, rest }
    };
    let write = async |from: i64, change: StateChange, span: i64, renew: bool| {
        let mut flush = needed(step(from, &shared.key, Vec::new()), 0, span);
        flush[0].writes[0].1 = flush[0].writes[0].1.take().map(|state| NewState { change, renew, ..state });
        let outcome = shared.store.flush(&shared.generation, flush).await.expect("flushed");
        assert_eq!(outcome, [FlushOutcome::Applied]);
        shared.expiry()
    };
    let first = |at: i64| state(Position(at + 1), 8);
    let before = shared.now();
    let set = write(0, StateChange::whole(first(0)), DAY, true).await;
    assert!((before..=shared.now()).contains(&(set - DAY)));
    assert_eq!(write(1, StateChange::whole(first(1)), 2 * DAY, false).await, set);
    let set = write(2, in_parts(first(2), 1, Rest::Removed), DAY, true).await;
    assert_eq!(write(3, in_parts(first(3), 2, Rest::Kept), 2 * DAY, false).await, set);

    for (at, state) in [(4, StateChange::whole(first(4))), (5, in_parts(first(5), 1, Rest::Absent))] {
        assert_eq!(shared.redis.command::<i64>(&["DEL", &shared.entity]).expect("deleted"), 1);
        let before = shared.now();
        let set = write(at, state, 2 * DAY, false).await;
        assert!((before..=shared.now()).contains(&(set - 2 * DAY)), "a state that was lost expires as well");
    }
}

/// Older workers set the expiry of an entity to a fixed time from now, whatever it is. That must not take away what a
/// newer worker has written, nor must a newer one take away what they have.
#[tokio::test]
async fn workers_of_two_versions_take_nothing_from_each_other() {
    let shared = Shared::begin(MINUTE).await;
    shared.write_as_before(LOG, 0);
    let older = shared.expiry();
    assert!(
        (shared.now() - 5000..=shared.now()).contains(&(older - MINUTE)),
        "the least time that a state is needed"
    );
    shared.write(Partition(1), 0, 0, 1).await;
    assert_eq!(shared.expiry(), older, "the older worker's state is needed as long as it said");

    shared.write(Partition(1), 1, 0, 60 * DAY).await;
    let newer = shared.expiry();
    tokio::time::sleep(Duration::from_millis(20)).await;
    shared.write_as_before(LOG, 1);
    assert!(shared.expiry() >= newer, "the older worker has set an earlier expiry");
    // Also for another entity, and where the arrival was ahead of the clock.
    shared.write(Partition(1), 2, shared.now() + 100 * DAY, DAY).await;
    let newer = shared.expiry();
    shared.write_as_before(LOG, 2);
    assert!(shared.expiry() >= newer);
    // What needs less time does not make it shorter again.
    shared.write(Partition(1), 3, 0, MINUTE).await;
    shared.write_as_before(LOG, 3);
    assert!(shared.expiry() >= newer);
}

/// Where states are needed for good, no version gives them an expiry.
#[tokio::test]
async fn what_is_needed_for_good_has_no_expiry() {
    let store = fresh().await;
    let generation = begin(&store).await;
    advance(&store, &generation, 0, 50).await.expect("flushed");
    let redis = Redis::shared();
    let pattern = format!("*{VIEW}:{}:*", generation.number);
    let (_, names): (String, Vec<Vec<u8>>) =
        redis.command(&["SCAN", "0", "MATCH", &pattern, "COUNT", "1000000"]).expect("it answers");
    assert_eq!(names.len(), 50 + usize::from(BUCKETS));
    let mut connection =
        ::redis::Client::open(redis.url()).expect("a URL").get_connection().expect("it answers");
    for name in names {
        let expiry: i64 = ::redis::cmd("PEXPIRETIME").arg(name).query(&mut connection).expect("it answers");
        assert_eq!(expiry, -1);
    }
}
