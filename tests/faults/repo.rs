//! A repo and its events: enough to keep an ingest busy while it is killed.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

/// How many files there are, and rows in each.
const FILES: usize = 5;
const ROWS: usize = 4_000;

pub(crate) const DEFINITIONS: &str = "\
entities:
  - {name: user, keys: [{name: user, type: int64}]}
  - {name: shop, keys: [{name: shop, type: string}]}
sources:
  - name: payments
    fields: [{name: user, type: int64}, {name: shop, type: string}, {name: amount, type: float64},
             {name: at, type: timestamp}, {name: received, type: timestamp}]
    event_time: at
    arrival: received
views:
  - name: by_user
    entity: user
    source: payments
    features:
      - {name: total, aggregate: sum(amount), windows: [10m, 1h, 7d]}
      - {name: shops, aggregate: count(distinct shop), windows: [1d]}
      - {name: last, aggregate: last(amount), windows: [lifetime]}
  - name: by_shop
    entity: shop
    source: payments
    where: amount > 1
    features:
      - {name: n, aggregate: count(*), windows: [1h, lifetime]}
      - {name: p95, aggregate: 'approx_percentile(amount, 0.95)', windows: [1d, lifetime]}
services:
  - {name: fraud, features: [by_user, by_shop]}
";

pub(crate) fn write(repo: &Path) {
    fs::create_dir_all(repo).expect("a folder");
    fs::write(repo.join("tidemark.yaml"), "project: faults\n").expect("written");
    fs::write(repo.join("definitions.yaml"), DEFINITIONS).expect("written");
}

/// Events in JSON lines; some arrive late, some are ahead of their arrival, some lines are half written.
pub(crate) fn write_events(folder: &Path) {
    fs::create_dir_all(folder).expect("a folder");
    let mut random = ChaCha8Rng::seed_from_u64(9);
    let mut now: i64 = 1_780_000_000_000;
    for file in 0..FILES {
        let mut text = String::new();
        for _ in 0..ROWS {
            now += random.random_range(0..2_000);
            let late = random.random_range(-65_000..120_000i64).max(random.random_range(-65_000..1_000));
            let (user, shop) = (random.random_range(0..300), random.random_range(0..40));
            let amount = f64::from(random.random_range(0..10_000u32)) / 100.0;
            let (at, received) = (instant(now - late), instant(now));
            if random.random_bool(0.01) {
                writeln!(text, r#"{{"user": {user}, "shop": "s{shop}", "amo"#).expect("written");
            } else {
                writeln!(text, r#"{{"user": {user}, "shop": "s{shop}", "amount": {amount}, "at": "{at}", "received": "{received}"}}"#)
                    .expect("written");
            }
        }
        fs::write(folder.join(format!("{file}.jsonl")), text).expect("written");
    }
}

fn instant(millis: i64) -> String {
    tidemark_kernel::Time::from_millis(millis).to_string()
}
