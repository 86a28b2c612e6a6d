//! A Redis that loses data, runs out of memory, goes away, or does not answer.

use std::time::{Duration, Instant};

use tidemark_services::{Redis, until};

use crate::world::{Setup, World, pause};
use crate::{is_real, report};

#[test]
fn restarted_from_an_older_snapshot_while_records_come() {
    let world = World::new();
    let mut worker = world.worker();
    world.with_traffic(|| {
        for _ in 0..2 {
            pause(Duration::from_millis(600));
            let snapshot = world.redis.snapshot();
            pause(Duration::from_millis(600));
            world.redis.restart_from(&snapshot);
            worker.wait_until_ready();
        }
    });
    world.wait_until_in();
    assert!(worker.metric("tidemark_ingest_rewinds_total") > 0.0, "nothing was lost");
    worker.stop();
    world.wait_until_idle();
}

#[test]
fn restarted_from_an_older_snapshot_and_no_record_comes_anymore() {
    let world = World::new();
    let worker = world.worker();
    world.produce(800);
    world.wait_until_in();
    let snapshot = world.redis.snapshot();
    world.produce(800);
    world.wait_until_in();
    world.redis.restart_from(&snapshot);
    // It notices by itself, with its next look at the positions.
    until("the worker rewinds", || (worker.metric("tidemark_ingest_rewinds_total") > 0.0).then_some(()));
    world.wait_until_in();
    world.check();
    worker.stop();
    world.wait_until_idle();
}

#[test]
fn failed_over_to_a_replica_that_lacks_the_last_writes() {
    let world = World::of(Setup { proxied: true, ..Setup::new() });
    let worker = world.worker();
    world.produce(500);
    world.wait_until_in();
    let replica = Redis::start();
    replica.replica_of(&world.redis);
    world.with_traffic(|| {
        pause(Duration::from_millis(500));
        // From here on the primary takes what the replica never sees.
        replica.promote();
        pause(Duration::from_millis(900));
        world.fail_over_to(replica);
        pause(Duration::from_millis(900));
    });
    world.wait_until_in();
    assert!(worker.metric("tidemark_ingest_rewinds_total") > 0.0, "nothing was lost");
    worker.stop();
    world.wait_until_idle();
}

#[test]
fn emptied() {
    let world = World::new();
    let mut worker = world.worker();
    world.with_traffic(|| {
        pause(Duration::from_millis(800));
        world.redis.command::<()>(&["FLUSHALL"]).expect("emptied");
        pause(Duration::from_millis(800));
    });
    world.wait_until_in();
    world.redis.command::<()>(&["FLUSHALL"]).expect("emptied");
    // With nothing to take in, it notices all the same.
    world.wait_until_in();
    worker.check();
    world.check();
    worker.stop();
    world.wait_until_idle();
}

#[test]
fn replies_lost_after_the_function_ran() {
    const TIMES: usize = 20;
    // The function that flushes, as requests name it: an answer that is lost to a load is nothing.
    let flush = redis::Script::new(include_str!("../../store/src/redis/flush.lua"));
    let world = World::of(Setup { proxied: true, ..Setup::new() });
    let worker = world.worker();
    world.with_traffic(|| {
        let proxy = world.proxy();
        for round in 1..=TIMES {
            proxy.lose_replies_to(flush.get_hash(), 1);
            until("a reply is lost", || (proxy.lost() >= round).then_some(()));
        }
    });
    world.wait_until_in();
    report(&format!("{TIMES} replies of Redis to flushes lost"));
    worker.stop();
    world.wait_until_idle();
}

#[test]
fn out_of_memory() {
    let world = World::new();
    let mut worker = world.worker();
    world.produce(500);
    world.wait_until_in();
    world.with_traffic(|| {
        set_maxmemory(&world.redis, "1");
        worker.wait_until_it_waits_for("OOM");
        pause(Duration::from_millis(500));
        set_maxmemory(&world.redis, "0");
        worker.wait_until_ready();
    });
    world.wait_until_in();
    worker.stop();
    world.wait_until_idle();
}

/// Also one that ran out of memory in the middle, and whose worker was killed meanwhile.
#[test]
fn out_of_memory_as_its_worker_is_killed() {
    let world = World::new();
    let mut worker = world.worker();
    world.with_traffic(|| {
        pause(Duration::from_millis(500));
        let used: u64 = used_memory(&world.redis);
        set_maxmemory(&world.redis, &(used + 40_000).to_string());
        worker.wait_until_it_waits_for("OOM");
        worker.kill();
    });
    set_maxmemory(&world.redis, "0");
    world.wait_until_idle();
}

#[test]
fn loading_its_data() {
    // Slow enough to be seen.
    let slow = [("key-load-delay", "1500"), ("loading-process-events-interval-bytes", "1024")];
    let redis = Redis::with(&[&[("appendonly", "yes")][..], &slow].concat());
    let world = World::of(Setup { redis, ..Setup::new() });
    let mut worker = world.worker();
    world.produce(1500);
    world.wait_until_in();
    world.with_traffic(|| {
        world.redis.kill();
        world.redis.launch();
        worker.wait_until_it_waits_for("LOADING");
        world.redis.wait_until_ready();
        worker.wait_until_ready();
    });
    world.wait_until_in();
    worker.stop();
    world.wait_until_idle();
}

#[test]
fn one_that_may_evict_is_refused() {
    let world = World::new();
    world.produce(300);
    set_policy(&world.redis, "allkeys-lru");
    let refusal = ["maxmemory-policy", "allkeys-lru", "noeviction"];
    world.tidemark(&["ingest", "--source", "payments", "--until-idle"]).refused(&refusal);
    set_policy(&world.redis, "noeviction");
    let worker = world.worker();
    // One that is told to evict later is noticed as well.
    set_policy(&world.redis, "allkeys-lru");
    world.with_traffic(|| worker.ended().refused(&refusal));
    set_policy(&world.redis, "noeviction");
    world.wait_until_idle();
}

/// Two hundred thousand records wait, of which a slow Redis lets few through.
#[test]
fn memory_stays_bounded_while_it_is_slow() {
    const RECORDS: usize = 200_000;
    const MORE: u64 = 200 << 20;
    let world = World::of(Setup { proxied: true, ..Setup::new() });
    if !is_real(world.kafka, "a backlog larger than memory should be") {
        return;
    }
    world.pad(1500);
    let worker = world.worker();
    world.produce(2000);
    world.wait_until_in();
    let before = worker.memory();
    world.proxy().delay(Duration::from_millis(500));
    let mut most = before;
    for _ in 0..RECORDS / 10_000 {
        world.produce(10_000);
        most = most.max(worker.memory());
    }
    let waiting = RECORDS as f64 - worker.metric("tidemark_ingest_events_total");
    assert!(waiting > RECORDS as f64 / 2.0, "only {waiting} wait: it was not slow");
    let began = Instant::now();
    while began.elapsed() < Duration::from_secs(4) {
        most = most.max(worker.memory());
        pause(Duration::from_millis(50));
    }
    world.proxy().delay(Duration::ZERO);
    report(&format!(
        "{} MiB in use, at most {} MiB while {waiting} records waited",
        before >> 20,
        most >> 20
    ));
    assert!(most < before + MORE, "{before} bytes before, {most} while it was slow");
    worker.stop();
    world.wait_until_idle();
}

fn set_maxmemory(redis: &Redis, bytes: &str) {
    redis.command::<()>(&["CONFIG", "SET", "maxmemory", bytes]).expect("set");
}

fn set_policy(redis: &Redis, policy: &str) {
    redis.command::<()>(&["CONFIG", "SET", "maxmemory-policy", policy]).expect("set");
}

fn used_memory(redis: &Redis) -> u64 {
    let info = redis.command::<String>(&["INFO", "memory"]).expect("it answers");
    let used = info.lines().find_map(|line| line.strip_prefix("used_memory:")).expect("told");
    used.trim().parse().expect("a number")
}
