//! SIM: ingestion and serving on one thread in virtual time, with faults, as one seed decides.
//!
//! The code is the real one. What is simulated is what it runs on: the [machine], the [store] that all share behind
//! calls that fail, event [table]s in memory, a [topic] with its group, the [disk] of the journal. A [run] lets two
//! workers and a server work while there is [chaos], waits until everything is in, and [check]s the promises of
//! `docs/exactly-once.md`. That a check can fail is shown by [mutant]s.
//!
//! `cargo xtask simulate --seeds 10000 --from 500` runs more; a seed that fails prints its history.

use std::sync::atomic::{AtomicU64, Ordering::SeqCst};

use parking_lot::Mutex;

mod chaos;
mod check;
mod disk;
mod machine;
mod mutant;
mod run;
mod script;
mod store;
mod table;
mod topic;
mod world;

use mutant::Mutant;
use run::{Outcome, run};
use world::Counts;

/// How many seeds are run unless told.
const SEEDS: u64 = 500;

/// From how many seeds on every kind of fault must have happened.
const ENOUGH: u64 = 100;

/// After how many seeds a mutant must have been found.
const PATIENCE: u64 = 1000;

/// What must have happened: every kind of fault, and that lookups were compared.
const HAPPENS: [&str; 32] = [
    "little memory",
    "backfill divided",
    "brokers away",
    "commit lost its race",
    "compaction began",
    "definitions changed",
    "file away",
    "file unreadable",
    "backfilled beside the stream",
    "flush cut",
    "flush refused",
    "generations lost",
    "journal full",
    "lookup compared",
    "partition added",
    "parts kept",
    "rebalance",
    "record compacted",
    "record sent again",
    "records read again",
    "store away",
    "store failed",
    "store fell back",
    "store lost",
    "store reply lost",
    "store slow",
    "table full",
    "table reply lost",
    "table slow",
    "table unreadable",
    "worker killed",
    "zombie",
];

fn setting(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}

fn number(name: &str, unless: u64) -> u64 {
    setting(name).map_or(unless, |value| value.parse().expect(name))
}

#[allow(clippy::print_stdout, reason = "what a batch of seeds finds is its result")]
fn report(line: &str) {
    println!("{line}");
}

/// Runs seeds on two threads, up to the first that fails.
fn batch(from: u64, seeds: u64, mutant: Option<Mutant>) -> Result<Counts, Outcome> {
    let keep_going = setting("TIDEMARK_SIMULATE_KEEP_GOING").is_some();
    let next = AtomicU64::new(from);
    let (counts, failed) = (Mutex::new(Counts::new()), Mutex::new(None::<Outcome>));
    std::thread::scope(|threads| {
        for _ in 0..2 {
            threads.spawn(|| {
                while keep_going || failed.lock().is_none() {
                    let seed = next.fetch_add(1, SeqCst);
                    if seed >= from + seeds {
                        return;
                    }
                    let outcome = run(seed, mutant);
                    for (kind, count) in &outcome.counts {
                        *counts.lock().entry(kind).or_default() += count;
                    }
                    if let Some(failure) = &outcome.failure {
                        report(&format!("seed {seed}: {failure}"));
                        let mut failed = failed.lock();
                        if failed.as_ref().is_none_or(|failed| outcome.seed < failed.seed) {
                            *failed = Some(outcome);
                        }
                    }
                }
            });
        }
    });
    match failed.into_inner() {
        Some(outcome) => Err(outcome),
        None => Ok(counts.into_inner()),
    }
}

#[test]
fn every_seed_keeps_the_promises() {
    let (from, seeds) = (number("TIDEMARK_SIMULATE_FROM", 0), number("TIDEMARK_SIMULATE_SEEDS", SEEDS));
    let known = || Mutant::NAMED.map(|(name, ..)| name).join(", ");
    let mutant = setting("TIDEMARK_SIMULATE_MUTANT").map(|name| {
        Mutant::named(&name).unwrap_or_else(|| panic!("no mutant `{name}`; there are {}", known()))
    });
    match (batch(from, seeds, mutant), mutant) {
        (Ok(_), Some(mutant)) => panic!("{mutant:?} was not found in {seeds} seeds from {from}"),
        (Err(found), Some(_)) => report(&format!("found by seed {}", found.seed)),
        (Ok(counts), None) => {
            report(&format!("{seeds} seeds from {from}: {counts:?}"));
            let never = HAPPENS.iter().filter(|kind| !counts.contains_key(*kind)).collect::<Vec<_>>();
            assert!(seeds < ENOUGH || never.is_empty(), "never happened: {never:?}");
        }
        (Err(Outcome { seed, history, failure, .. }), None) => {
            panic!(
                "{history}\nseed {seed}: {}\nto see it again: cargo xtask simulate --seeds 1 --from {seed}",
                failure.unwrap_or_default()
            );
        }
    }
}

#[test]
fn a_seed_decides_everything() {
    for seed in 0..10 {
        let (one, two) = (run(seed, None), run(seed, None));
        assert_eq!(one.history.lines().count(), two.history.lines().count(), "seed {seed}");
        assert_eq!((&one.counts, &one.failure), (&two.counts, &two.failure), "seed {seed}");
        let differs = one.history.lines().zip(two.history.lines()).find(|(one, two)| one != two);
        assert_eq!(differs, None, "the histories of seed {seed} differ");
    }
}

#[test]
fn every_mutant_is_found() {
    for (name, mutant, from) in Mutant::NAMED {
        let found = batch(from, PATIENCE, Some(mutant)).err();
        let found = found.unwrap_or_else(|| panic!("{name} was not found in {PATIENCE} seeds from {from}"));
        println!("{name}: seed {}: {}", found.seed, found.failure.unwrap_or_default());
    }
}
