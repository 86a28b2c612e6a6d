//! Everything in one process, for developing: events in, lookups out, and definitions and feeds that are followed as
//! their files change.

use std::net::SocketAddr;
use std::sync::Arc;

use tidemark_host::Host;
use tidemark_ingest::{Changed, Ingest, IngestError};
use tidemark_online::Lookups;
use tidemark_registry::Loss;

use crate::Result;
use crate::candidate::{Candidate, Losses};
use crate::event::{Event, Tell};
use crate::folder::Folder;
use crate::project::{Feed, Intake, Project, Running};
use crate::serve::{Listen, Ports, lookups};
use crate::service::Service;
use control::{Controlled, control};
use definitions::{Definitions, Seen, look};
use feeds::Feeds;

mod control;
mod definitions;
mod feeds;

pub use control::{Control, Outcome};

/// Everything in one process, ready to run: `tidemark dev`.
pub struct Dev {
    /// The version that runs first.
    pub project: Project,
    ports: Ports,
    ingest: Ingest,
    lookups: Arc<Lookups>,
    feeds: Feeds,
    tell: Tell,
    control: Control,
    controlled: Controlled,
    seen: Option<Seen>,
}

impl Dev {
    /// Applies the definitions of the folder, or goes on with the version before where they are wrong; takes the ports,
    /// catches up and takes in the files of the feeds.
    ///
    /// # Errors
    /// Fails where there is no valid version, a port is taken, or a store or table cannot be used. Definitions that are
    /// refused, and files of a feed that cannot be taken in, are told.
    pub async fn open(folder: Folder, listen: Listen, host: &Host, tell: Tell) -> Result<Self> {
        // Before they are read, so that what is written meanwhile counts as a change.
        let seen = look(folder.path()).ok();
        let project = start(folder, host, &tell).await?;
        let ports = Ports::bind(listen, &project).await?;
        let store = project.store().await?;
        let intake = Intake { journal: true, topics: true, ..Intake::default() };
        let mut ingest = project.ingest(Arc::clone(&store), intake).await?;
        let watch = |progress: tidemark_ingest::Progress<'_>| tell(Event::Progress(progress));
        ingest.catch_up(&watch).await?;
        let mut feeds = Feeds::of(&project);
        let (matched, unmatched) = feeds.matched();
        unmatched.into_iter().for_each(|(source, error)| tell_unmatched(&tell, &source, error));
        let mut reports = Vec::new();
        for Feed { source, patterns } in matched {
            let report = ingest.take_in_files_as(&source, &patterns, Changed::SetAside, &watch).await?;
            feeds.taken_in(&source, report.clone());
            reports.push((source, report));
        }
        if !reports.is_empty() {
            tell(Event::Files { project: &project, reports: &reports });
        }
        let lookups = Arc::new(lookups(&project, &store, host));
        lookups.serve(project.repo.services.values().cloned())?;
        let engines = Running { store, ingest: ingest.handle(), lookups: Arc::clone(&lookups) };
        let project = project.run_by(engines);
        let (control, controlled) = control(project.clone());
        Ok(Self { project, ports, ingest, lookups, feeds, tell, control, controlled, seen })
    }

    /// Where HTTP and gRPC listen, in this order.
    ///
    /// # Errors
    /// Fails where the operating system cannot report the address.
    pub fn addresses(&self) -> Result<(SocketAddr, SocketAddr)> {
        self.ports.addresses()
    }

    /// Gives it commands while it runs.
    #[must_use]
    pub fn control(&self) -> Control {
        self.control.clone()
    }

    /// Answers lookups, takes in pushes, topics and new files of feeds, and applies definitions as they change, until
    /// the service ends.
    ///
    /// # Errors
    /// Fails where a server or the ingestion does; what was taken in stays so.
    pub async fn run(self, mut service: Service) -> Result<()> {
        let Self { project, ports, mut ingest, lookups, feeds, tell, control, controlled, seen } = self;
        drop(control);
        ports.serve(&mut service, &lookups, Some(&ingest), project.host());
        let handle = ingest.handle();
        let definitions = Definitions::new(project, handle, lookups, feeds, tell, controlled);
        service.work(definitions.follow(seen, service.stopped()));
        let stop = service.stopped();
        service.work(async move { Ok(ingest.run(stop).await?) });
        service.run().await
    }
}

/// A pattern that matches no file may match one later, and an empty folder may get one; any other error of a pattern is one.
fn tell_unmatched(tell: &Tell, source: &str, error: IngestError) {
    match error {
        IngestError::NoFile(pattern) | IngestError::Folder(pattern) => {
            tell(Event::NoFiles { source, pattern: &pattern })
        }
        error => tell(Event::FilesFailed { source, error: &error.into() }),
    }
}

/// Definitions are followed as they are written, also where services answer less than before: the next edit may bring it back.
fn tell_losses(tell: &Tell, losses: &[Loss]) {
    if !losses.is_empty() {
        tell(Event::Losses(losses));
    }
}

/// The definitions of the folder, or the version before where they are wrong.
async fn start(folder: Folder, host: &Host, tell: &Tell) -> Result<Project> {
    let watch = |progress: tidemark_ingest::Progress<'_>| tell(Event::Progress(progress));
    let Some(running) = folder.running()? else {
        return Candidate::read(&folder).await?.apply(Losses::Refuse, host, &watch).await;
    };
    if !running.differs(folder.path()) {
        return Ok(Project::of(folder, running.version, running.repo, host.clone()));
    }
    match Candidate::read(&folder).await {
        Ok(candidate) => {
            tell(Event::Changes(&candidate.changes));
            tell_losses(tell, &candidate.losses);
            candidate.apply(Losses::Allow, host, &watch).await
        }
        Err(error) => {
            tell(Event::Refused { error: &error, version: running.version });
            Ok(Project::of(folder, running.version, running.repo, host.clone()))
        }
    }
}
