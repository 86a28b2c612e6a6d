//! `tidemark dev`: everything in one process.

use std::sync::Arc;

use tidemark_ingest::Changed;
use tidemark_online::Lookups;

use crate::args::{Dev, Global};
use crate::clock;
use crate::commands::apply::Candidate;
use crate::commands::serve::Ports;
use crate::commands::{check, ingest};
use crate::failure::{Failure, Result};
use crate::progress::say;
use crate::project::{Folder, Intake, Project, catch_up};
use crate::service::Service;
use definitions::Definitions;

mod definitions;
mod greeting;

pub(super) async fn run(asked: Dev, global: &Global) -> Result<()> {
    let project = start(Folder::find(global)?).await?;
    let ports = Ports::bind(asked.listen, &project).await?;
    let store = project.store().await?;
    let intake = Intake { journal: true, topics: true, ..Intake::default() };
    let mut ingest = project.ingest(Arc::clone(&store), intake).await?;
    catch_up(&mut ingest).await?;
    let reports = ingest::take_in(&mut ingest, &ingest::feeds(&project), Changed::SetAside).await?;
    if !reports.is_empty() {
        say(ingest::table(&reports).trim_end());
    }
    ingest::unusable::say_all(&ingest::unusable::of_files(&project, &reports)?);
    let lookups = Arc::new(Lookups::new(store, clock::shared()));
    lookups.serve(project.repo.services.values().cloned())?;
    let (http, grpc) = ports.addresses()?;
    say(greeting::text(&project, http, grpc));

    let mut service = Service::new("stopping: letting calls end and committing what was taken in");
    ports.serve(&mut service, &lookups, Some(&ingest));
    let definitions = Definitions::new(project, ingest.handle(), lookups);
    service.work(definitions.follow(service.stopped()));
    let stop = service.stopped();
    service.work(async move { Ok(ingest.run(stop).await?) });
    service.run().await
}

/// The definitions of the folder, or the version before where they are wrong.
async fn start(folder: Folder) -> Result<Project> {
    let Some(running) = folder.running()? else { return Candidate::read(&folder).await?.apply(folder).await };
    if !running.differs(folder.path()) {
        return Ok(Project::of(folder, running.version, running.repo));
    }
    match Candidate::read(&folder).await {
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

/// Problems of definitions with their places, else the error and what to do.
fn tell(error: &Failure) {
    match error.problems() {
        Some(problems) => check::show(problems),
        None => error.tell(),
    }
}
