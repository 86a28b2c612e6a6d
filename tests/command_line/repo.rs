//! A small repo with a few payments.

use std::fs;
use std::path::{Path, PathBuf};

use tempfile::TempDir;

use crate::process::{Ran, tidemark};

const SETTINGS: &str = "project: shop\n";

pub(crate) const DEFINITIONS: &str = "
entities:
  - {name: user, keys: [{name: user_id, type: int64}]}
sources:
  - name: payments
    push: {}
    fields:
      - {name: user_id, type: int64}
      - {name: amount, type: float64}
      - {name: status, type: string}
      - {name: created_at, type: timestamp}
    event_time: created_at
views:
  - name: user_payments
    entity: user
    source: payments
    features:
      - {name: payments, aggregate: count(*), windows: [1h, lifetime]}
      - {name: total, aggregate: sum(amount), windows: [lifetime]}
services:
  - name: fraud
    features: [user_payments]
    request: [{name: amount, type: float64}]
    derived: [{name: share, expr: amount / nullif(user_payments.total, 0)}]
";

/// Ten users with five payments each, a tenth of an hour apart.
pub(crate) const EVENTS: usize = 50;

/// A repo in a folder of its own.
pub(crate) struct TestRepo(TempDir);

impl TestRepo {
    /// Definitions, nothing applied, and `payments.csv` and `labels.csv` beside them.
    pub(crate) fn new() -> Self {
        let repo = Self(tempfile::tempdir().expect("a folder"));
        repo.write("tidemark.yaml", SETTINGS);
        repo.write("shop.yaml", DEFINITIONS);
        repo.write("payments.csv", &payments());
        repo.write("labels.csv", &labels());
        repo
    }

    /// With the payments taken in.
    pub(crate) fn ingested() -> Self {
        let repo = Self::new();
        repo.run("ingest --from payments.csv --source payments").done();
        repo
    }

    pub(crate) fn path(&self) -> &Path {
        self.0.path()
    }

    pub(crate) fn file(&self, name: &str) -> PathBuf {
        self.path().join(name)
    }

    pub(crate) fn write(&self, name: &str, text: &str) {
        fs::write(self.file(name), text).expect("written");
    }

    /// Runs `tidemark` with arguments that have no spaces.
    #[track_caller]
    pub(crate) fn run(&self, arguments: &str) -> Ran {
        tidemark(self.path(), &arguments.split_whitespace().collect::<Vec<_>>())
    }
}

fn payments() -> String {
    let row = |index: usize| {
        let (user, minute) = (index % 10, 6 * (index / 10));
        format!("{user},{}.25,settled,2026-11-20T08:{minute:02}:00Z\n", index + 1)
    };
    "user_id,amount,status,created_at\n".to_owned() + &(0..EVENTS).map(row).collect::<String>()
}

fn labels() -> String {
    let row = |user: usize| format!("{user},10.5,2026-11-20T09:0{user}:00Z\n");
    "user_id,amount,at_time\n".to_owned() + &(0..10).map(row).collect::<String>()
}
