//! `tidemark dev`: everything in one process, on embedded stores.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use anyhow::Result;
use tidemark_ingest::Ingest;
use tidemark_online::http::MoreMetrics;
use tidemark_online::listen::listen;
use tidemark_online::{Lookups, grpc, http};
use tokio::net::TcpListener;
use tokio::task::JoinSet;

use crate::args::{Dev, Global};
use crate::clock;
use crate::commands::apply::Candidate;
use crate::commands::{check, ingest};
use crate::failure::message;
use crate::progress::say;
use crate::project::{Folder, Project, catch_up};
use definitions::Definitions;
use stop::Stop;

mod definitions;
mod greeting;
mod stop;

/// How long calls under way may take once it is stopped.
const PATIENCE: Duration = Duration::from_secs(3);

pub(super) async fn run(asked: Dev, global: &Global) -> Result<()> {
    let project = start(Folder::find(global)?).await?;
    let ports = Ports::bind(asked, &project).await?;
    let store = project.store()?;
    let mut ingest = project.ingest(Arc::clone(&store)).await?;
    catch_up(&mut ingest).await?;
    let reports = ingest::take_in(&mut ingest, &ingest::feeds(&project)).await?;
    if !reports.is_empty() {
        say(ingest::table(&reports).trim_end());
    }
    let lookups = Arc::new(Lookups::new(store, clock::shared()));
    lookups.serve(project.repo.services.values().cloned())?;
    say(greeting::text(&project, ports.http.local_addr()?, ports.grpc.local_addr()?));
    serve(project, ports, ingest, lookups).await
}

/// The definitions of the folder, or the version before where they are wrong.
async fn start(folder: Folder) -> Result<Project> {
    let Some(running) = folder.running()? else { return Candidate::read(&folder)?.apply(folder).await };
    if !running.differs(folder.path()) {
        return Ok(Project::of(folder, running.version, running.repo));
    }
    match Candidate::read(&folder) {
        Ok(candidate) => {
            candidate.changes.iter().for_each(say);
            candidate.apply(folder).await
        }
        Err(error) => {
            definitions::refuse(&error, running.version);
            Ok(Project::of(folder, running.version, running.repo))
        }
    }
}

/// The ports, taken before any work is done.
struct Ports {
    http: TcpListener,
    grpc: TcpListener,
}

impl Ports {
    async fn bind(asked: Dev, project: &Project) -> Result<Self> {
        let ports = project.repo.project.ports;
        let here = |port| SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        let http = listen(asked.http.unwrap_or_else(|| here(ports.http))).await?;
        let grpc = listen(asked.grpc.unwrap_or_else(|| here(ports.grpc))).await?;
        Ok(Self { http, grpc })
    }
}

/// Runs everything until it is stopped or something fails; then lets calls end and commits what was taken in.
async fn serve(project: Project, ports: Ports, mut ingest: Ingest, lookups: Arc<Lookups>) -> Result<()> {
    let stop = Stop::default();
    let metrics = ingest.metrics();
    let more: MoreMetrics = Arc::new(move || metrics.prometheus());
    let router = http::router(Arc::clone(&lookups), vec![more]).merge(ingest.push_router());
    let definitions = Definitions::new(project, ingest.handle(), Arc::clone(&lookups));

    let mut servers: JoinSet<Result<()>> = JoinSet::new();
    let (http_stop, grpc_stop) = (stop.clone(), stop.clone());
    servers.spawn(async move {
        Ok(http::serve(router, ports.http, async move { http_stop.wait().await }).await?)
    });
    servers.spawn(async move { Ok(grpc::serve(lookups, ports.grpc, grpc_stop.wait()).await?) });

    let mut workers: JoinSet<Result<()>> = JoinSet::new();
    let taking_stop = stop.clone();
    workers.spawn(async move { Ok(ingest.run(taking_stop.wait()).await?) });
    let definitions_stop = stop.clone();
    workers.spawn(async move { definitions.follow(definitions_stop.wait()).await });
    let signal_stop = stop.clone();
    workers.spawn(async move { stop::signalled(signal_stop.wait()).await });

    let first = tokio::select! {
        ended = servers.join_next() => ended,
        ended = workers.join_next() => ended,
    };
    say("stopping: letting calls end and committing what was taken in");
    stop.now();
    let mut outcome = first.map_or(Ok(()), flat);
    while let Some(ended) = workers.join_next().await {
        outcome = outcome.and(flat(ended));
    }
    let ending = async {
        while let Some(ended) = servers.join_next().await {
            flat(ended)?;
        }
        Ok(())
    };
    // Whoever keeps a connection open beyond that is cut off.
    outcome.and(tokio::time::timeout(PATIENCE, ending).await.unwrap_or(Ok(())))
}

fn flat(ended: Result<Result<()>, tokio::task::JoinError>) -> Result<()> {
    ended?
}

/// Problems of definitions with their places, else the error and what to do.
fn tell(error: &anyhow::Error) {
    match error.downcast_ref() {
        Some(problems) => check::show(problems),
        None => say(message(error)),
    }
}
