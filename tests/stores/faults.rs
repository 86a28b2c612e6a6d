//! A server that goes away, comes back, or has no room.

use std::time::{Duration, Instant};

use tidemark_services::Proxy;

use super::*;

#[tokio::test]
async fn it_is_used_again_after_a_restart() {
    let redis = Redis::with(&[("appendonly", "yes"), ("appendfsync", "always")]);
    let store = RedisStore::open(config(redis.url())).await.expect("a store");
    let generation = begin(&store).await;
    for at in 0..3 {
        advance(&store, &generation, at, 50).await.expect("flushed");
        redis.restart();
        assert_whole(&store, &generation, 50).await;
    }
    redis.kill();
    assert_waits(advance(&store, &generation, 3, 50).await);
    assert_waits(store.lookup(&generation, &[key(1)]).await);
    assert_waits(RedisStore::open(config(redis.url())).await);
    redis.restart();
    advance(&store, &generation, 3, 50).await.expect("the next call works again");
    assert_whole(&store, &generation, 50).await;
}

#[tokio::test]
async fn one_that_loads_is_waited_for() {
    // It looks at what it is asked after every 1024 commands that it loads.
    let slow = [("appendonly", "yes"), ("key-load-delay", "300")];
    let redis = Redis::with(&slow);
    let store = RedisStore::open(config(redis.url())).await.expect("a store");
    let generation = begin(&store).await;
    advance(&store, &generation, 0, 5000).await.expect("flushed");
    redis.kill();
    redis.launch();
    let mut loading = 0;
    while let Err(error) = store.lookup(&generation, &[key(1)]).await {
        loading += i32::from(error.to_string().contains("LOADING"));
        assert_waits(Err::<(), _>(error));
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    assert!(loading > 0, "it was never seen loading");
    assert_whole(&store, &generation, 500).await;
}

#[tokio::test]
async fn one_that_hangs_is_an_error_and_not_a_hang() {
    let redis = Redis::start();
    let store = RedisStore::open(config(redis.url())).await.expect("a store");
    let generation = begin(&store).await;
    redis.pause();
    let began = Instant::now();
    assert_waits(advance(&store, &generation, 0, 10).await);
    assert_waits(RedisStore::open(config(redis.url())).await);
    assert!(began.elapsed() < Duration::from_secs(30));
    redis.resume();
    // What was sent to it before is carried out now, or not: then this is done again.
    let outcomes = store.flush(&generation, steps(0, 10, 100)).await.expect("it answers again");
    let done = |outcome: &FlushOutcome| {
        [FlushOutcome::Applied, FlushOutcome::At(Some(Position(1)))].contains(outcome)
    };
    assert!(outcomes.iter().all(done), "{outcomes:?}");
    assert_whole(&store, &generation, 10).await;
}

/// A flush is refused whole where there is no room for it, dropping works nevertheless, and makes room.
#[tokio::test]
async fn without_memory_nothing_is_half_written() {
    let redis = Redis::with(&[("maxmemory", "12mb")]);
    let store = RedisStore::open(config(redis.url())).await.expect("a store");
    let (old, generation) = (begin(&store).await, begin(&store).await);
    store.flush(&old, steps(0, 100, 20_000)).await.expect("room for these");
    let error = loop {
        // Of different sizes, so that memory runs out at different places.
        let from = store.positions(&generation).await.expect("positions")[&LOG].values().map(|at| at.0).max();
        let from = from.expect("16 buckets");
        let size = 2000 * (from as usize + 1);
        match store.flush(&generation, steps(from, 100, size)).await {
            Ok(_) => assert_whole(&store, &generation, 100).await,
            Err(error) => break error,
        }
    };
    assert!(error.to_string().contains("OOM"), "{error}");
    assert_waits(Err::<(), _>(error));
    assert_whole(&store, &generation, 100).await;
    let set = |value| redis.command::<()>(&["CONFIG", "SET", "maxmemory", value]).expect("set");
    set("1");
    assert_waits(begin_with(&store, None).await);
    assert_waits(store.add_partition(&generation, Partition(1), Position(0)).await);
    store.drop_generation(&old).await.expect("dropping needs no room");
    set("0");
    let positions = store.positions(&generation).await.expect("positions");
    for flush in steps(0, 100, 100) {
        let from = positions[&LOG][&flush.bucket];
        let flush = BucketFlush { from, to: Position(from.0 + 1), writes: vec![], ..flush };
        assert_eq!(store.flush(&generation, vec![flush]).await.expect("room again"), [FlushOutcome::Applied]);
    }
}

/// States and positions fall back together.
#[tokio::test]
async fn an_older_snapshot_is_whole() {
    let redis = Redis::start();
    let store = RedisStore::open(config(redis.url())).await.expect("a store");
    let generation = begin(&store).await;
    advance(&store, &generation, 0, 50).await.expect("flushed");
    let snapshot = redis.snapshot();
    advance(&store, &generation, 1, 50).await.expect("flushed");
    redis.restart_from(&snapshot);
    assert_whole(&store, &generation, 50).await;
    let outcomes = store.flush(&generation, steps(2, 50, 100)).await.expect("asked");
    assert!(outcomes.iter().all(|outcome| *outcome == FlushOutcome::At(Some(Position(1)))), "{outcomes:?}");
    advance(&store, &generation, 1, 50).await.expect("again from there");
}

#[tokio::test]
async fn a_replica_is_read_but_not_written() {
    let (primary, replica) = (Redis::start(), Redis::start());
    let config = config(primary.url());
    let store = RedisStore::open(config.clone()).await.expect("a store");
    let generation = begin(&store).await;
    advance(&store, &generation, 0, 50).await.expect("flushed");
    replica.replica_of(&primary);
    let follower =
        RedisStore::open(RedisConfig { url: replica.url().to_owned(), ..config }).await.expect("a store");
    assert_whole(&follower, &generation, 50).await;
    let loaded = follower.load(&generation, 3, LOG, &[]).await.expect("loaded");
    assert_eq!(loaded.position, Some(Position(1)));
    assert_waits(advance(&follower, &generation, 1, 50).await);
    replica.promote();
    advance(&follower, &generation, 1, 50).await.expect("it is the primary now");
    assert_whole(&follower, &generation, 50).await;
}

/// An address leads to another server, and the one that it led to goes on answering, as a replica of that.
#[tokio::test]
async fn one_that_is_no_primary_any_more_is_left() {
    let (old, new) = (Redis::start(), Redis::start());
    let proxy = Proxy::in_front_of(old.port());
    let store = RedisStore::open(config(&proxy.redis_url())).await.expect("a store");
    let generation = begin(&store).await;
    advance(&store, &generation, 0, 50).await.expect("flushed");
    new.replica_of(&old);
    new.promote();
    proxy.lead_to(new.port());
    old.replica_of(&new);
    assert_waits(advance(&store, &generation, 1, 50).await);
    advance(&store, &generation, 1, 50).await.expect("the next call finds the primary");
    assert_whole(&store, &generation, 50).await;
}
