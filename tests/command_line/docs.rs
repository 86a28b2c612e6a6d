//! The commands and outputs that the documentation shows are those of the binary.

use std::fs;
use std::process::Command;

use crate::process::binary;
use crate::repo::TestRepo;
use markdown::Page;

mod commands;
mod indexes;
mod links;
mod markdown;

/// What the example in `docs/scenarios.md` is about.
const DEFINITIONS: &str = "
entities:
  - {name: user, keys: [{name: user_id, type: int64}]}
sources:
  - name: payments
    fields: [{name: user_id, type: int64}, {name: amount, type: float64}, {name: created_at, type: timestamp}]
    event_time: created_at
views:
  - name: user_payments
    entity: user
    source: payments
    features:
      - {name: payments, aggregate: count(*), windows: [1h, 7d]}
      - {name: amount_sum, aggregate: sum(amount), windows: [1h, 7d]}
services:
  - name: fraud
    features: [user_payments]
    request: [{name: amount, type: float64}]
    derived:
      - name: amount_vs_week
        expr: amount / nullif(user_payments.amount_sum_7d / user_payments.payments_7d, 0)
";

/// The blocks of a page in that language, one behind the other.
fn blocks(page: &Page, language: &str) -> String {
    page.blocks_in(language).into_iter().map(|block| block.text).collect()
}

#[test]
fn the_scenario_shown_holds_and_a_wrong_cell_is_shown_and_rewritten() {
    let repo = TestRepo::new();
    repo.write("shop.yaml", DEFINITIONS);
    fs::create_dir(repo.file("tests")).expect("created");
    let page = Page::read("docs/scenarios.md");
    let example = blocks(&page, "markdown");
    repo.write("tests/an_hour.md", &example);
    assert!(
        repo.run("test").done().stdout.contains("ok      tests/an_hour.md: A payment counts for an hour")
    );

    repo.write("tests/an_hour.md", &example.replace("| 08:30 | 2 ", "| 08:30 | 3 "));
    let ran = repo.run("test");
    assert_eq!(ran.code, Some(1), "{ran:#?}");
    assert!(ran.stdout.contains("FAILED  tests/an_hour.md") && ran.stdout.contains("1 failed"), "{ran:#?}");
    assert_eq!(ran.stderr, blocks(&page, "text"));

    let rewriting =
        Command::new(binary()).arg("test").env("UPDATE_EXPECT", "1").current_dir(repo.path()).output();
    assert!(rewriting.expect("it runs").status.success());
    repo.run("test").done();
    let rewritten = fs::read_to_string(repo.file("tests/an_hour.md")).expect("read");
    assert!(rewritten.contains("| 08:30 | 2 "), "{rewritten}");
}
