//! PARITY: for every plan, every set of applied events and every `at` that may be asked about, a lookup, the training
//! set `as_served` by its token, and the oracle give the same values, statuses and times, bit for bit.
//!
//! Plans are random definitions, compiled by the registry; streams come in several partitions, with late, early, tied and
//! malformed records; lookups fall between them, and the ingesting process is restarted at random.

use std::collections::BTreeMap;

use proptest::prelude::*;
use proptest::test_runner::TestCaseError;
use tidemark_kernel::{Layout, Span, Time, Value, Visibility};
use tidemark_prove::labels::{Label, train};
use tidemark_prove::truth::ServiceAnswer;

mod generate;
mod world;

use generate::{Case, Record, Step};
use world::World;

/// A lookup that was answered.
struct Lookup {
    label: Label,
    answer: ServiceAnswer,
}

async fn live(world: &mut World, steps: &[Step]) -> Result<Vec<Lookup>, TestCaseError> {
    let mut lookups = Vec::new();
    for step in steps {
        match step {
            Step::Receive(count) => world.receive(*count).await,
            Step::Restart => world.open().await,
            Step::Ask { user, amount, later } => {
                let asked = world.asked(*user, *amount);
                // Without an instant the answer is about the earliest one allowed: the clock is at the beginning.
                let (earliest, answer) = world.lookup(&asked, None).await;
                compare(world, &asked, &earliest, &answer)?;
                lookups.push(Lookup { label: label(&asked, &earliest), answer });
                let at = if earliest.at == Time::MIN.next() { world.start() } else { earliest.at };
                let (later, answer) = world.lookup(&asked, Some(at.plus(*later))).await;
                compare(world, &asked, &later, &answer)?;
                lookups.push(Lookup { label: label(&asked, &later), answer });
            }
        }
    }
    Ok(lookups)
}

fn label(asked: &BTreeMap<String, tidemark_kernel::Value>, token: &tidemark_kernel::Token) -> Label {
    Label { asked: asked.clone(), at: token.at, token: Some(token.clone()) }
}

fn compare(
    world: &World,
    asked: &BTreeMap<String, tidemark_kernel::Value>,
    token: &tidemark_kernel::Token,
    answer: &ServiceAnswer,
) -> Result<(), TestCaseError> {
    let truth = world.truth(asked, token, Visibility::AsServed);
    prop_assert_eq!(answer, &truth, "lookup and oracle at {}", token.at);
    Ok(())
}

async fn trained(world: &World, lookups: &[Lookup], visibility: Visibility) -> Vec<ServiceAnswer> {
    let labels: Vec<Label> = lookups.iter().map(|lookup| lookup.label.clone()).collect();
    let file = world.folder().join(format!("{visibility}.parquet"));
    let service = world.service();
    let set = train(service, world.sources(), world.location(), &labels, visibility, &file).await;
    set.expect("a training set")
}

async fn parity(case: Case) -> Result<(), TestCaseError> {
    let mut world = World::new(&case).await;
    let lookups = live(&mut world, &case.steps).await?;
    if lookups.is_empty() {
        return Ok(());
    }
    world.write_tables().await;
    let served: Vec<ServiceAnswer> = lookups.iter().map(|lookup| lookup.answer.clone()).collect();
    prop_assert_eq!(trained(&world, &lookups, Visibility::AsServed).await, served, "training and lookups");
    for visibility in [Visibility::AsKnown, Visibility::EventTime] {
        let truth: Vec<ServiceAnswer> = lookups
            .iter()
            .map(|lookup| {
                let token = lookup.label.token.as_ref().expect("each has one");
                world.truth(&lookup.label.asked, token, visibility)
            })
            .collect();
        prop_assert_eq!(
            trained(&world, &lookups, visibility).await,
            truth,
            "training {} and oracle",
            visibility
        );
    }
    Ok(())
}

/// `PROPTEST_CASES` asks for more of them.
fn cases() -> u32 {
    std::env::var("PROPTEST_CASES").ok().and_then(|cases| cases.parse().ok()).unwrap_or(300)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: cases(), max_shrink_iters: 300, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn lookups_training_and_the_oracle_give_the_same_bits(case in generate::case()) {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
        runtime.expect("a runtime").block_on(parity(case))?;
    }
}

/// Parquet's statistics leave NaNs out, so a file of these looks as if it held one number only.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_nan_beside_one_other_number() {
    let start = Time::from_millis(0);
    let record = |user: i64, f: f64| Record {
        partition: 1,
        received: start,
        fields: [
            Value::Int64(user),
            Value::Timestamp(start),
            Value::Null,
            Value::Float64(f),
            Value::Null,
            Value::Null,
        ],
    };
    let case = Case {
        definitions: NAN.to_owned(),
        layout: Layout::default(),
        records: vec![record(0, -0.01), record(2, f64::NAN)],
        steps: vec![Step::Ask { user: Some(2), amount: None, later: Span::from_millis(1) }],
    };
    parity(case).await.expect("the same bits");
}

const NAN: &str = "
entities: [{name: user, keys: [{name: user, type: int64}]}]
sources:
  - name: clicks
    fields: [{name: user, type: int64}, {name: at, type: timestamp}, {name: i, type: int64}, {name: f, type: float64},
             {name: s, type: string}, {name: b, type: bool}]
    event_time: at
views:
  - {name: v, entity: user, source: clicks, time_travel: 0s, features: [{name: total, aggregate: sum(f), windows: [1d]}]}
services:
  - {name: service, features: [v], request: [{name: amount, type: int64}]}
";
