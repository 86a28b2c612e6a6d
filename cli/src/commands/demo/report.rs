//! The output of the demo: one compact report, and what to type next.

use std::env;
use std::path::Path;

use serde_json::{Value as Json, json};
use tidemark_kernel::Value;
use tidemark_prove::demo::{Example, ExampleFeature, Mismatch};

use super::Found;
use super::folder::{LOOKUPS, PAYMENTS, TRAINING};
use super::services::Services;
use crate::output::{Table, bytes, count, counted, duration, rate};
use crate::progress::say;

/// How many mismatches are spelled out.
const SHOWN: usize = 10;

/// How many features of the example are shown.
const FEATURES: usize = 12;

pub(super) fn text(found: &Found, services: &Services, dir: &Path) -> String {
    let compared = &found.compared;
    let latency = &compared.latency;
    let mismatches = match compared.mismatches.len() {
        1 => "1 mismatch".to_owned(),
        many => format!("{} mismatches", count(many as u64)),
    };
    let ingested = format!(
        "{} in {}, {}; {}",
        counted(found.events, "event"),
        duration(found.ingested_in),
        rate(found.events, found.ingested_in),
        counted(found.dead_letters, "dead letter")
    );
    let trained = format!(
        "{} of {} in {}; {TRAINING}, {}",
        counted(found.trained.rows as u64, "row"),
        counted(found.trained.features.len() as u64, "feature"),
        duration(found.trained_in),
        bytes(found.training_bytes)
    );
    let [p50, p95, p99, max] = [latency.p50, latency.p95, latency.p99, latency.max].map(duration);
    let looked_up = format!("{}; p50 {p50}, p95 {p95}, p99 {p99}, max {max}", count(compared.lookups as u64));
    let example = compared.example.as_ref().map(example).unwrap_or_default();
    format!(
        "\n  ingested   {ingested}\n  trained    {trained}\n  looked up  {looked_up}\n  compared   each lookup with the \
         training set of what it saw, and with the oracle\n{example}\n  {} values compared, {mismatches}\n\n{}",
        count(compared.values as u64),
        next(services, dir)
    )
}

/// One lookup as it was served, trained on and computed by the oracle. Where there are many features, floating-point ones
/// come first: they are the ones that other systems do not agree on.
fn example(example: &Example) -> String {
    let is_float = |feature: &&ExampleFeature| matches!(feature.lookup, Value::Float64(_));
    let (floats, rest): (Vec<_>, Vec<_>) = example.features.iter().partition(is_float);
    let mut table = Table::new(&["  feature", ">lookup", ">training set", ">oracle", "bits"]);
    for feature in floats.into_iter().chain(rest).take(FEATURES) {
        let ExampleFeature { name, lookup, training, oracle } = feature;
        let same = if lookup == training && lookup == oracle { "=" } else { "DIFFER" };
        let bits = match lookup {
            Value::Float64(value) => format!("{same} {:016x}", value.to_bits()),
            _ => same.to_owned(),
        };
        table.row(vec![
            format!("  {name}"),
            lookup.to_string(),
            training.to_string(),
            oracle.to_string(),
            bits,
        ]);
    }
    format!("\n  one of them: {}\n\n{table}", example.question)
}

/// What to type next.
fn next(services: &Services, dir: &Path) -> String {
    let dir = dir.display();
    let payments =
        services.topic.as_ref().map_or(format!("{dir}/{PAYMENTS}/"), |topic| format!("topic {}", topic.name));
    let everything =
        services.redis.as_ref().map_or(format!("{dir}/data/"), |_| format!("{dir}/data/ and Redis"));
    let tidemark = name();
    let lookup = r#"{"rows": [{"user_id": 7, "merchant_id": 3, "card_id": "c-7-1", "amount": 12.5}]}"#;
    format!(
        "next:\n  cd {dir}\n  {tidemark} lookup fraud user_id=7 merchant_id=3 card_id=c-7-1 amount=12.5\n  \
         {tidemark} verify          # every state, rebuilt from history and compared byte by byte\n  \
         {tidemark} train fraud --labels {LOOKUPS} --time label_time --visibility as_served --token served_token --out served.parquet\n  \
         {tidemark} dev             # keep it running, edit payments.yaml, and in another terminal:\n  \
         curl -s http://127.0.0.1:6567/v1/services/fraud/lookup -d '{lookup}'\n\n\
         {payments} holds the payments, {everything} everything that can be rebuilt from them"
    )
}

/// How to call this binary: by its name where the shell finds it, else by its path.
fn name() -> String {
    let Ok(this) = env::current_exe() else { return "tidemark".to_owned() };
    let path = env::var_os("PATH").unwrap_or_default();
    let found = env::split_paths(&path).map(|folder| folder.join("tidemark")).find(|file| file.is_file());
    let same = found.and_then(|file| file.canonicalize().ok()) == this.canonicalize().ok();
    if same { "tidemark".to_owned() } else { this.display().to_string() }
}

pub(super) fn tell(mismatches: &[Mismatch]) {
    for Mismatch { question, feature, lookup, training, oracle } in mismatches.iter().take(SHOWN) {
        say(format_args!(
            "mismatch: {feature} of {question}\n  lookup    {lookup}\n  training  {training}\n  oracle    {oracle}"
        ));
    }
    if mismatches.len() > SHOWN {
        say(format_args!("… and {} more", count((mismatches.len() - SHOWN) as u64)));
    }
}

pub(super) fn json(found: &Found) -> Json {
    let compared = &found.compared;
    let latency = &compared.latency;
    json!({
        "events": found.events,
        "dead_letters": found.dead_letters,
        "ingest_seconds": found.ingested_in.as_secs_f64(),
        "training_rows": found.trained.rows,
        "training_seconds": found.trained_in.as_secs_f64(),
        "lookups": compared.lookups,
        "lookup_seconds": {
            "p50": latency.p50.as_secs_f64(), "p95": latency.p95.as_secs_f64(), "p99": latency.p99.as_secs_f64(),
            "max": latency.max.as_secs_f64(),
        },
        "values_compared": compared.values,
        "mismatches": compared.mismatches.len(),
    })
}
