//! Workers that are killed, suspended, or read the same partitions.

use std::collections::BTreeMap;
use std::fs;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::future::try_join_all;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use tidemark_engine::sources;
use tidemark_host::Host;
use tidemark_ingest::{CommitRule, Ingest, IngestConfig, KafkaConfig, Memory, Metrics};
use tidemark_kernel::Time;
use tidemark_offline::{EventTable, Location};
use tidemark_services::{Redis, unique, until};
use tokio::sync::watch;

use crate::definitions::another_view;
use crate::worker::{self, Worker, metric};
use crate::world::{COMMIT_EVERY, Setup, World, pause};
use crate::{check, is_real, report, rounds};

const REBALANCES: &str = "tidemark_ingest_rebalances_total";
const LOST_RACES: &str = "tidemark_ingest_lost_races_total";

/// How long something may take that should happen at once, on a machine with other things to do.
const AT_ONCE: Duration = Duration::from_secs(8);

#[test]
fn killed_at_random_moments_while_others_join_and_leave() {
    let (world, began) = (World::new(), Instant::now());
    let mut random = ChaCha8Rng::seed_from_u64(5);
    let (mut kills, mut rebalances) = (0, 0.0);
    for _ in 0..rounds() {
        world.with_traffic(|| {
            // One that its group knows again after a restart, and one that is a stranger each time.
            let mut workers = [Some(world.launch(&["--member", "one"])), Some(world.worker())];
            for victim in [random.random_range(0..2), random.random_range(0..2), 0, 1] {
                pause(Duration::from_millis(random.random_range(0..2500)));
                let Some(worker) = workers[victim].take() else { continue };
                rebalances += worker.metric(REBALANCES);
                worker.kill();
                kills += 1;
                if random.random_bool(0.7) {
                    workers[victim] =
                        Some(world.launch(if victim == 0 { &["--member", "one"] } else { &[] }));
                }
            }
            // The workers that are left are killed as they are dropped.
            for worker in workers.into_iter().flatten() {
                rebalances += worker.metric(REBALANCES);
                kills += 1;
            }
        });
        world.wait_until_idle();
    }
    let (records, seconds) = (world.records(), began.elapsed().as_secs());
    report(&format!(
        "{kills} kills, {rebalances} rebalances, {records} records, {seconds} s: each counted once"
    ));
}

#[test]
fn a_zombie_comes_back_after_another_took_over() {
    let world = World::new();
    if !is_real(world.kafka, "a zombie") {
        return;
    }
    let mut zombie = world.worker();
    for _ in 0..2 {
        world.with_traffic(|| {
            until("it reads everything", || has_all(&zombie, &world));
            pause(Duration::from_millis(700));
            zombie.signal("STOP");
            let mut other = world.worker();
            until("another takes over", || has_all(&other, &world));
            let before = other.metric("tidemark_ingest_events_total");
            until("another goes on", || {
                (other.metric("tidemark_ingest_events_total") > before).then_some(())
            });
            zombie.signal("CONT");
            until("both read", || (zombie.partitions() > 0 && other.partitions() > 0).then_some(()));
            zombie.check();
            other.check();
            other.kill();
        });
    }
    zombie.stop();
    world.wait_until_idle();
}

#[test]
fn a_graceful_stop_hands_over_at_once() {
    // A worker that does not leave the group would be noticed only after a minute.
    let world = World::of(Setup { session: Duration::from_secs(60), ..Setup::new() });
    if !is_real(world.kafka, "a partition handed over at once") {
        return;
    }
    let (first, mut second) = (world.worker(), world.worker());
    world.with_traffic(|| {
        until("both read", || (first.partitions() > 0 && second.partitions() > 0).then_some(()));
        pause(Duration::from_millis(500));
        let took = first.stop();
        assert!(took < AT_ONCE, "it took {took:?} to stop");
        let began = Instant::now();
        until("the other reads everything", || has_all(&second, &world));
        assert!(began.elapsed() < AT_ONCE, "it took {:?} to take over", began.elapsed());
        second.check();
    });
    world.wait_until_in();
    world.check();
    second.stop();
    world.wait_until_idle();
}

/// Two groups: each gives all partitions to its only member.
#[test]
fn two_that_both_believe_they_own_every_partition() {
    let world = World::new();
    world.produce(2000);
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    let runtime = runtime.expect("a runtime");
    let (stop, stopped) = watch::channel(false);
    let owner = |group| owner(&world, unique(group), CommitRule::default().rows);
    let (one, other) = (owner("one"), owner("other"));
    let [one, other] = [one, other].map(|owner| {
        let (mut ingest, mut stopped) = (runtime.block_on(owner), stopped.clone());
        let metrics = ingest.metrics();
        let stopped = async move { drop(stopped.wait_for(|stop| *stop).await) };
        (metrics, runtime.spawn(async move { ingest.run(stopped).await }))
    });
    let count = |name| [&one, &other].map(|(metrics, _)| metric(&metrics.prometheus(Time::MIN), name));
    world.with_traffic(|| {
        until("they meet", || count(LOST_RACES).iter().all(|races| *races > 0.0).then_some(()));
        pause(Duration::from_secs(3));
    });
    world.wait_until_in();
    report(&format!("{:?} races lost between two owners of everything", count(LOST_RACES)));
    stop.send(true).expect("they run");
    for (_, running) in [one, other] {
        runtime.block_on(running).expect("no panic").expect("it stops well");
    }
    world.wait_until_idle();
}

/// Two deployments of one repo, each with event tables and a Redis of its own: neither takes a part of the topic away from
/// the other.
#[test]
fn two_deployments_of_one_project_both_read_everything() {
    let (world, redis, runtime) = (World::new(), Redis::start(), check::runtime());
    let copy = world.copy();
    let (settings, offline) = (copy.path().join("tidemark.yaml"), copy.path().join("data/offline"));
    let here = fs::read_to_string(&settings).expect("written before");
    let [ours, theirs] = [&world.redis, &redis].map(|redis| redis.url().trim_end_matches('/'));
    let there = here.replace(ours, theirs);
    let there = there.replace(&world.offline().display().to_string(), &offline.display().to_string());
    fs::write(&settings, there).expect("written");

    let (one, other) = (world.worker(), world.worker_of(&copy));
    world.produce(1500);
    world.wait_until_in();
    let repo = check::repo(&world);
    let held = |location: &Location| {
        let table = runtime.block_on(EventTable::open(location, &repo.sources["payments"])).ok()?;
        Some(table.positions().clone())
    };
    let all = held(&check::location(&world)).expect("it is in");
    let elsewhere = Location::local(offline.clone());
    until("the other deployment has everything", || (held(&elsewhere)? == all).then_some(()));
    for worker in [&one, &other] {
        assert_eq!(worker.partitions(), world.partitions(), "each reads all of them");
    }
    one.stop();
    other.stop();
    worker::run(copy.path(), &["verify"], &copy.path().join("verify.log")).done();
    world.wait_until_idle();
}

/// Each worker backfills a new view from the partitions that it reads.
#[test]
fn a_backfill_is_divided_among_workers() {
    let (world, group) = (World::new(), unique("divided"));
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    let runtime = runtime.expect("a runtime");
    let (stop, stopped) = watch::channel(false);
    let workers = [0, 1].map(|_| {
        // So few rows that almost all of the history is backfilled beside the stream.
        let mut ingest = runtime.block_on(owner(&world, group.clone(), 400));
        let (metrics, handle, mut stopped) = (ingest.metrics(), ingest.handle(), stopped.clone());
        let stopped = async move { drop(stopped.wait_for(|stop| *stop).await) };
        (metrics, handle, runtime.spawn(async move { ingest.run(stopped).await }))
    });
    let partitions = |metrics: &Metrics| {
        let text = metrics.prometheus(Time::MIN);
        text.lines().filter(|line| line.starts_with("tidemark_ingest_position{")).count()
    };
    until("both read", || {
        let [one, other] = [0, 1].map(|worker| partitions(&workers[worker].0));
        (one > 0 && other > 0 && one + other == world.partitions()).then_some(())
    });
    world.produce(6000);
    world.wait_until_in();

    world.define(|text| text.replacen("views:\n", &another_view(0), 1));
    let repo = check::repo(&world);
    let reloads = workers
        .iter()
        .map(|(_, handle, _)| handle.reload(sources(&repo), repo.views.values().cloned().collect()));
    runtime.block_on(try_join_all(reloads)).expect("the view is up");
    let count = |name| [0, 1].map(|worker: usize| metric(&workers[worker].0.prometheus(Time::MIN), name));
    let events: f64 = count("tidemark_ingest_events_total").iter().sum();
    let applied = count("tidemark_ingest_applied_events_total{view=\"another\"}");
    report(&format!("two workers applied {applied:?} of {events} events to a new view"));
    assert!(applied.iter().all(|applied| *applied > 0.0), "{applied:?}: each has a part in it");
    assert!(applied.iter().sum::<f64>() < 1.25 * events, "{applied:?} of {events}: about once each");

    stop.send(true).expect("they run");
    for (_, _, running) in workers {
        runtime.block_on(running).expect("no panic").expect("it stops well");
    }
    world.tidemark(&["apply"]).done();
    world.wait_until_idle();
}

/// A worker in this process, in the consumer group of this project.
async fn owner(world: &World<'_>, project: String, rows: usize) -> Ingest {
    let repo = check::repo(world);
    let config = IngestConfig {
        journal: None,
        offline: Arc::new(check::location(world)),
        commit: CommitRule { every: COMMIT_EVERY, rows },
        sources: sources(&repo),
        views: repo.views.values().cloned().collect(),
        store: Arc::new(check::open(world).await.expect("Redis answers")),
        topics: Some(Arc::new(KafkaConfig {
            bootstrap_servers: world.kafka.bootstrap().to_owned(),
            options: BTreeMap::new(),
            project,
            member: None,
        })),
        skip_lost: false,
        give_up: Vec::new(),
        memory: Memory::default(),
        host: Host::real(Arc::new(|| Time::MIN)),
    };
    Ingest::open(config).await.expect("opened")
}

fn has_all(worker: &Worker, world: &World<'_>) -> Option<()> {
    (worker.partitions() == world.partitions()).then_some(())
}
