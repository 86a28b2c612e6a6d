//! What the documentation shows is what happens.

use std::fs;
use std::process::Command;

use crate::process::{binary, tidemark};
use crate::repo::TestRepo;

const FIRST_STEPS: &str = include_str!("../../docs/first-steps.md");
const SCENARIOS: &str = include_str!("../../docs/scenarios.md");

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

/// The fenced blocks of a page in that language.
fn blocks(page: &str, language: &str) -> Vec<String> {
    let mut blocks: Vec<String> = Vec::new();
    let mut inside = None;
    for line in page.lines() {
        match (line.strip_prefix("```"), inside) {
            (Some(fence), None) => {
                inside = Some(fence == language);
                blocks.extend((fence == language).then(String::new));
            }
            (Some(_), Some(_)) => inside = None,
            (None, Some(true)) => blocks.last_mut().expect("begun").extend([line, "\n"]),
            (None, _) => {}
        }
    }
    blocks
}

#[test]
fn the_first_steps_can_be_taken() {
    let folder = tempfile::tempdir().expect("a folder");
    tidemark(folder.path(), &["init", "shop"]).done();
    let shop = folder.path().join("shop");
    let tables = blocks(FIRST_STEPS, "csv");
    for (name, text) in ["payments.csv", "labels.csv"].iter().zip(&tables) {
        fs::write(shop.join(name), text).expect("written");
    }
    let typed = blocks(FIRST_STEPS, "sh").concat();
    let commands = typed.lines().filter_map(|line| line.strip_prefix("tidemark "));
    let commands: Vec<&str> = commands.filter(|line| !line.starts_with("init") && *line != "dev").collect();
    assert!(commands.len() >= 5 && tables.len() == 2, "{commands:#?}");
    for command in commands {
        tidemark(&shop, &command.split_whitespace().collect::<Vec<_>>()).done();
    }
    assert!(shop.join("training.parquet").is_file());
}

#[test]
fn the_scenario_shown_holds_and_a_wrong_cell_is_shown_and_rewritten() {
    let repo = TestRepo::new();
    repo.write("shop.yaml", DEFINITIONS);
    fs::create_dir(repo.file("tests")).expect("created");
    let example = blocks(SCENARIOS, "markdown").concat();
    repo.write("tests/an_hour.md", &example);
    assert!(
        repo.run("test").done().stdout.contains("ok      tests/an_hour.md: A payment counts for an hour")
    );

    repo.write("tests/an_hour.md", &example.replace("| 08:30 | 2 ", "| 08:30 | 3 "));
    let ran = repo.run("test");
    assert_eq!(ran.code, Some(1), "{ran:#?}");
    assert!(ran.stdout.contains("FAILED  tests/an_hour.md") && ran.stdout.contains("1 failed"), "{ran:#?}");
    assert_eq!(ran.stderr, blocks(SCENARIOS, "text").concat());

    let rewriting =
        Command::new(binary()).arg("test").env("UPDATE_EXPECT", "1").current_dir(repo.path()).output();
    assert!(rewriting.expect("it runs").status.success());
    repo.run("test").done();
    let rewritten = fs::read_to_string(repo.file("tests/an_hour.md")).expect("read");
    assert!(rewritten.contains("| 08:30 | 2 "), "{rewritten}");
}
