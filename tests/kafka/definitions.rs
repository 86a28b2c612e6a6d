//! Definitions that change while records come, and views that are backfilled from history.

use std::time::{Duration, Instant};

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use crate::world::{World, pause};
use crate::{check, report, rounds};

/// A view that takes a while to backfill, of which each number makes another.
pub(crate) fn another_view(number: usize) -> String {
    format!(
        "views:
  - name: another
    entity: visit
    source: payments
    features:
      - {{name: n, aggregate: count(*), windows: [{}h, lifetime]}}
      - {{name: traces, aggregate: count(distinct trace), windows: [1h, 1d, lifetime]}}
      - {{name: p95, aggregate: 'approx_percentile(amount, 0.95)', windows: [1d, lifetime]}}
",
        number + 1
    )
}

/// How `by_user` counts, and how it could.
const WINDOWS: [&str; 3] = ["[10m, 1h, lifetime]", "[10m, 2h, lifetime]", "[lifetime]"];

#[test]
fn a_view_changes_in_the_middle_of_a_backlog() {
    let world = World::new();
    world.produce(6000);
    let (mut one, mut other) = (world.worker(), world.worker());
    world.with_traffic(|| {
        for change in WINDOWS.windows(2) {
            pause(Duration::from_millis(400));
            world.define(|text| text.replace(change[0], change[1]));
            world.tidemark(&["apply"]).done();
            pause(Duration::from_millis(1500));
            one.check();
            other.check();
        }
    });
    one.kill();
    other.stop();
    world.wait_until_idle();
}

#[test]
fn a_view_changes_while_a_worker_elsewhere_does_not_know() {
    let world = World::new();
    world.produce(3000);
    let copy = world.copy();
    let old = world.worker_of(&copy);
    world.with_traffic(|| {
        pause(Duration::from_millis(400));
        world.define(|text| text.replace(WINDOWS[0], WINDOWS[1]));
        world.tidemark(&["apply"]).done();
        let new = world.worker();
        old.ended().refused(&["view `by_user` was redefined", "newer definitions"]);
        pause(Duration::from_millis(500));
        new.stop();
    });
    world.wait_until_idle();
}

const READINGS: [&str; 3] = ["max_ahead: 1m", "max_ahead: 5m", "max_ahead: 1m"];

#[test]
fn a_source_is_read_otherwise_in_the_middle_of_a_backlog() {
    let world = World::new();
    world.produce(6000);
    let (mut one, mut other) = (world.worker(), world.worker());
    world.with_traffic(|| {
        for change in READINGS.windows(2) {
            pause(Duration::from_millis(400));
            world.define(|text| text.replace(change[0], change[1]));
            world.tidemark(&["apply"]).done();
            pause(Duration::from_millis(1500));
            one.check();
            other.check();
        }
    });
    one.kill();
    other.stop();
    wait_until_idle_either_way(&world);
}

#[test]
fn a_source_is_read_otherwise_while_a_worker_elsewhere_does_not_know() {
    let world = World::new();
    for change in READINGS.windows(2) {
        let copy = world.copy();
        let old = world.worker_of(&copy);
        world.with_traffic(|| {
            pause(Duration::from_millis(700));
            world.define(|text| text.replace(change[0], change[1]));
            world.tidemark(&["apply"]).done();
            let new = world.worker();
            // Whichever it notices first, the source or a view.
            old.ended().refused(&["another process", "definitions"]);
            pause(Duration::from_millis(700));
            new.stop();
        });
        wait_until_idle_either_way(&world);
    }
}

/// Waits until idle where it is a matter of the moment under which reading a record came in.
fn wait_until_idle_either_way(world: &World<'_>) {
    world.finish();
    check::decide_ahead(world);
    world.check();
}

#[test]
fn a_backfill_is_killed_at_every_step() {
    let (world, began) = (World::new(), Instant::now());
    let mut random = ChaCha8Rng::seed_from_u64(6);
    world.produce(40_000);
    world.wait_until_idle();
    let plain = world.definitions();
    // How long one takes that is left alone.
    let undisturbed = Instant::now();
    world.define(|text| text.replacen("views:\n", &another_view(0), 1));
    world.tidemark(&["apply"]).done();
    let took = undisturbed.elapsed();
    let mut kills = 0;
    for round in 1..=rounds() {
        world.write("definitions.yaml", &plain.replacen("views:\n", &another_view(round), 1));
        for words in [&["apply"][..], &["ingest", "--source", "payments", "--until-idle"]] {
            let command = world.begin_command(words);
            pause(took.mul_f64(random.random_range(0.0..1.0)));
            kills += usize::from(!command.kill_unless_done());
        }
        if round % 4 == 0 {
            world.produce(500);
        }
        if round % 2 == 0 {
            world.tidemark(&["apply"]).done();
            world.wait_until_idle();
        }
    }
    world.tidemark(&["apply"]).done();
    world.wait_until_idle();
    let seconds = began.elapsed().as_secs();
    report(&format!(
        "{kills} kills of a backfill that takes {took:?}, {} records, {seconds} s",
        world.records()
    ));
}
