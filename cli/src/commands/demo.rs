//! `tidemark demo`: a month of payments, ingested, looked up, trained on and compared.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Result;
use tidemark_kernel::Visibility;
use tidemark_offline::training::Summary;
use tidemark_offline::{Effort, TrainRequest, train};
use tidemark_prove::demo::{
    Comparison, Engines, Payment, Shape, compare, generate, questions, write_labels, write_payments,
};
use tidemark_store::OnlineStore;

use crate::args::{Demo, USUAL_EVENTS};
use crate::commands::apply::Candidate;
use crate::commands::ingest::take_in;
use crate::failure::{Failure, io_failure};
use crate::output::Output;
use crate::progress::{Bars, say};
use crate::project::{Folder, Project};
use folder::{LABELS, LOOKUPS, PAYMENTS, TRAINING};

mod folder;
mod report;

const SERVICE: &str = "fraud";
const SOURCE: &str = "payments";

/// What the demo found.
struct Found {
    events: u64,
    dead_letters: u64,
    ingested_in: Duration,
    trained: Summary,
    trained_in: Duration,
    training_bytes: u64,
    compared: Comparison,
}

pub(super) async fn run(asked: &Demo, output: Output) -> Result<()> {
    folder::prepare(&asked.dir)?;
    let shape = shape(asked);
    say(format_args!("generating a month of payments into {}", asked.dir.display()));
    let payments = generate(&shape);
    write(&asked.dir, &payments, &shape)?;
    drop(payments);
    let project = Candidate::read(&Folder::at(&asked.dir))?.apply(Folder::at(&asked.dir)).await?;
    let found = find(&project, &shape, &asked.dir).await?;
    output.result(|| report::json(&found), || report::text(&found, &asked.dir))?;
    report::tell(&found.compared.mismatches);
    if found.compared.mismatches.is_empty() { Ok(()) } else { Err(Failure::told().into()) }
}

/// About so many payments, as skewed as those of the default.
fn shape(asked: &Demo) -> Shape {
    let default = Shape::default();
    let share = f64::from(asked.events) / f64::from(USUAL_EVENTS);
    let scaled = |number: u32| ((f64::from(number) * share).ceil() as u32).max(1);
    Shape {
        seed: asked.seed,
        payments_per_day: scaled(default.payments_per_day),
        users: scaled(default.users),
        merchants: scaled(default.merchants),
        bursts: scaled(default.bursts),
        ..default
    }
}

fn write(dir: &Path, payments: &[Payment], shape: &Shape) -> Result<()> {
    write_payments(&dir.join(PAYMENTS), payments)?;
    Ok(write_labels(&dir.join(LABELS), payments, Shape::LABELS, shape.seed)?)
}

async fn find(project: &Project, shape: &Shape, dir: &Path) -> Result<Found> {
    let store = project.store()?;
    let began = Instant::now();
    let mut ingest = project.ingest(Arc::clone(&store)).await?;
    let pattern = dir.join(PAYMENTS).join("*.parquet").display().to_string();
    let reports = take_in(&mut ingest, &[(SOURCE.to_owned(), vec![pattern])]).await?;
    let ingested_in = began.elapsed();
    drop(ingest);
    let began = Instant::now();
    let trained = training(project, dir).await?;
    let trained_in = began.elapsed();
    say("comparing lookups with their training rows and with the oracle");
    let compared = compare(&engines(project, store, dir)?, questions(shape, Shape::LOOKUPS)).await?;
    let out = dir.join(TRAINING);
    Ok(Found {
        events: reports.iter().map(|(_, report)| report.events()).sum(),
        dead_letters: reports.iter().map(|(_, report)| report.dead_letters()).sum(),
        ingested_in,
        trained,
        trained_in,
        training_bytes: std::fs::metadata(&out).map_err(io_failure("read", &out))?.len(),
        compared,
    })
}

fn engines(project: &Project, store: Arc<dyn OnlineStore>, dir: &Path) -> Result<Engines> {
    Ok(Engines {
        store,
        location: project.location()?,
        service: project.service(SERVICE)?,
        sources: project.repo.sources.clone(),
        labels: dir.join(LOOKUPS),
    })
}

async fn training(project: &Project, dir: &Path) -> Result<Summary> {
    let request = TrainRequest {
        service: project.service(SERVICE)?,
        sources: project.repo.sources.clone(),
        location: project.location()?,
        labels: dir.join(LABELS),
        time: "label_time".to_owned(),
        keys: [].into(),
        visibility: Visibility::AsKnown,
        token: None,
        status: false,
        effort: Effort::default(),
    };
    let bars = Bars::default();
    Ok(train(&request, &dir.join(TRAINING), &mut |progress| super::train::show(&bars, progress)).await?)
}
