//! `tidemark demo`: a month of payments, ingested, looked up, trained on and compared.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use tidemark_engine::topics::{Reading, read};
use tidemark_engine::{Candidate, Feed, Folder, Intake, Losses, Project, Training};
use tidemark_ingest::{Changed, FilesReport, Watch};
use tidemark_kernel::ErrorKind;
use tidemark_offline::Progress;
use tidemark_offline::durable::FileError;
use tidemark_offline::training::Summary;
use tidemark_prove::demo::{
    Comparison, Engines, Payment, Shape, compare, generate, questions, write_labels, write_payments,
};

use crate::args::{Demo, USUAL_EVENTS};
use crate::clock;
use crate::failure::{Failure, Result};
use crate::output::Output;
use crate::progress::{Bars, say};
use crate::service::until_signalled;
use folder::{LABELS, LOOKUPS, PAYMENTS, TRAINING};
use services::Services;

mod folder;
mod live;
mod report;
mod services;

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
    if let (Some(per_second), Some(servers)) = (asked.live, &asked.kafka) {
        return live::run(asked, servers, per_second, output).await;
    }
    let services = Services::of(asked);
    folder::prepare(&asked.dir, &services).await?;
    let shape = shape(asked);
    let into = services.topic.as_ref().map_or(asked.dir.display().to_string(), |topic| {
        format!("topic {} at {}", topic.name, topic.servers)
    });
    say(format_args!("generating a month of payments into {into}"));
    let payments = generate(&shape);
    write(&asked.dir, &services, &payments, &shape).await?;
    drop(payments);
    let bars = Bars::default();
    let watch: Watch<'_> = &|progress| bars.ingest(progress);
    let candidate = Candidate::read(&Folder::at(&asked.dir)?).await?;
    let project = candidate.apply(Losses::Allow, &clock::host(), watch).await?;
    drop(bars);
    let found = find(&project, &services, &shape, &asked.dir).await?;
    output.result(|| report::json(&found), || report::text(&found, &services, &asked.dir))?;
    report::tell(&found.compared.mismatches);
    if found.compared.mismatches.is_empty() { Ok(()) } else { Err(Failure::Told) }
}

/// About so many payments, as skewed as those of the default.
fn shape(asked: &Demo) -> Shape {
    let default = Shape::default();
    let share = f64::from(asked.events.unwrap_or(USUAL_EVENTS)) / f64::from(USUAL_EVENTS);
    let scaled = |number: u32| ((f64::from(number) * share).ceil() as u32).max(1);
    Shape {
        seed: asked.seed.unwrap_or(default.seed),
        payments_per_day: scaled(default.payments_per_day),
        users: scaled(default.users),
        merchants: scaled(default.merchants),
        bursts: scaled(default.bursts),
        ..default
    }
}

async fn write(dir: &Path, services: &Services, payments: &[Payment], shape: &Shape) -> Result<()> {
    match &services.topic {
        Some(topic) => {
            topic.create().await?;
            tokio::task::block_in_place(|| topic.produce(payments))?;
        }
        None => drop(write_payments(&dir.join(PAYMENTS), payments)?),
    }
    Ok(write_labels(&dir.join(LABELS), payments, Shape::LABELS, shape.seed)?)
}

async fn find(project: &Project, services: &Services, shape: &Shape, dir: &Path) -> Result<Found> {
    let began = clock::stopwatch();
    let (events, dead_letters) =
        if services.topic.is_some() { read_topic(project).await? } else { read_files(project, dir).await? };
    let ingested_in = began.elapsed();
    let began = clock::stopwatch();
    let trained = training(project, dir).await?;
    let trained_in = began.elapsed();
    say("comparing lookups with their training rows and with the oracle");
    let compared = compare(&engines(project, dir).await?, questions(shape, Shape::LOOKUPS)).await?;
    let out = dir.join(TRAINING);
    Ok(Found {
        events,
        dead_letters,
        ingested_in,
        trained,
        trained_in,
        training_bytes: std::fs::metadata(&out).map_err(FileError::of("read", &out))?.len(),
        compared,
    })
}

/// How many events and dead letters the files hold.
async fn read_files(project: &Project, dir: &Path) -> Result<(u64, u64)> {
    let pattern = dir.join(PAYMENTS).join("*.parquet").display().to_string();
    let feed = Feed { source: SOURCE.to_owned(), patterns: vec![pattern] };
    let bars = Bars::default();
    let watch: Watch<'_> = &|progress| bars.ingest(progress);
    let reports = project.take_in(Intake::default(), &[feed], Changed::Refuse, watch).await?.files;
    let sum = |count: fn(&FilesReport) -> u64| reports.iter().map(|(_, report)| count(report)).sum();
    Ok((sum(FilesReport::events), sum(FilesReport::dead_letters)))
}

/// How many events and dead letters the topic holds.
async fn read_topic(project: &Project) -> Result<(u64, u64)> {
    let intake = Intake { journal: project.is_embedded(), topics: true, ..Intake::default() };
    let ingest = project.ingest(project.store().await?, intake).await?;
    let reading = Reading { until_idle: true, ..Reading::default() };
    let service = until_signalled("stopping: committing what was taken in");
    let read = read(project, ingest, reading, service, Arc::new(|_| ())).await?;
    let stopped =
        || Failure::of(ErrorKind::NotReady, "the demo was stopped", "start it again; it begins from scratch");
    let partitions =
        read.idle.ok_or_else(stopped)?.sources.into_iter().flat_map(|source| source.partitions.into_values());
    Ok(partitions
        .fold((0, 0), |(events, dead), partition| (events + partition.events, dead + partition.dead_letters)))
}

async fn engines(project: &Project, dir: &Path) -> Result<Engines> {
    Ok(Engines {
        store: project.store().await?,
        location: project.location()?,
        service: project.service(SERVICE)?,
        sources: project.repo.sources.clone(),
        labels: dir.join(LOOKUPS),
    })
}

async fn training(project: &Project, dir: &Path) -> Result<Summary> {
    let training = Training::new(SERVICE, dir.join(LABELS), "label_time");
    let bars = Bars::default();
    let mut watch = |progress: Progress<'_>| super::train::show(&bars, progress);
    Ok(project.train(&training, &dir.join(TRAINING), &mut watch).await?)
}
