//! `tidemark serve`: lookups from a store that others fill.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;

use tidemark_ingest::Ingest;
use tidemark_kernel::Explain;
use tidemark_online::http::Part;
use tidemark_online::listen::listen;
use tidemark_online::{Lookups, grpc, http};
use tidemark_store::{OnlineStore, StoreError};
use tokio::net::TcpListener;

use crate::args::{Global, Listen, Serve};
use crate::clock;
use crate::failure::{Failure, Result};
use crate::histories::Histories;
use crate::newer::{Newer, PERIOD};
use crate::progress::say;
use crate::project::{Folder, Project};
use crate::service::Service;

pub(super) async fn run(asked: Serve, global: &Global) -> Result<()> {
    let project = defined(Folder::find(global)?)?;
    refuse_embedded(&project)?;
    let ports = Ports::bind(asked.listen, &project).await?;
    let store = project.store().await?;
    let lookups = Arc::new(Lookups::new(Arc::clone(&store), clock::shared()));
    lookups.serve(project.repo.services.values().cloned())?;
    let (http, grpc) = ports.addresses()?;
    let (version, name) = (project.version, &project.repo.project.name);
    if version == 0 {
        say(
            "note: nothing was applied here yet; `tidemark ingest` or `tidemark apply` does, and fills the views",
        );
    }
    say(format_args!("version {version} of {name} is served at http://{http}, and by gRPC at {grpc}"));
    let mut service = Service::new("stopping: letting calls end");
    ports.serve(&mut service, &lookups, None);
    let (newer, histories) = (Newer::than(&project), Histories::of(&project)?);
    let served = Served { newer, histories, store, lookups, next: None, ready: None };
    service.work(served.follow(service.stopped()));
    service.run().await
}

/// The version that runs; where none was applied yet, what the folder defines, as version 0: whoever takes in events
/// applies it.
fn defined(folder: Folder) -> Result<Project> {
    if let Some(running) = folder.running()? {
        return Ok(Project::of(folder, running.version, running.repo));
    }
    let repo = tidemark_registry::load(folder.path())?;
    Ok(Project::of(folder, 0, repo))
}

fn refuse_embedded(project: &Project) -> Result<()> {
    if !project.is_embedded() {
        return Ok(());
    }
    let message = "the online store is embedded: it belongs to one process, the one that takes in events";
    let help = "run `tidemark dev`, or write `online: {store: redis, url: …}` in tidemark.yaml and apply it";
    Err(Failure::mistake(message, help))
}

/// The services that are looked up, and those of a newer version that wait for their views.
struct Served {
    newer: Newer,
    histories: Histories,
    store: Arc<dyn OnlineStore>,
    lookups: Arc<Lookups>,
    next: Option<Project>,
    /// Why not every view could be looked up when that was last asked, if it was.
    ready: Option<Option<String>>,
}

impl Served {
    /// Serves newer versions once their views are filled, and logs whether every view can be looked up, until `stop`.
    async fn follow(mut self, stop: impl Future<Output = ()>) -> Result<()> {
        let (mut stop, host) = (std::pin::pin!(stop), clock::host());
        loop {
            self.look().await?;
            tokio::select! {
                () = &mut stop => return Ok(()),
                () = host.sleep(PERIOD) => {}
            }
        }
    }

    async fn look(&mut self) -> Result<()> {
        // A store that was emptied may be another deployment's by now. One that is away is waited for.
        if let Err(error @ StoreError::OtherHistory { .. }) = self.histories.check(&*self.store).await {
            return Err(error.into());
        }
        self.next = self.newer.look().or(self.next.take());
        if let Some(next) = self.next.take() {
            let lookups = next.lookups(Arc::clone(&self.store)).await?;
            if lookups.ready().await.is_ok() {
                self.lookups.serve(next.repo.services.values().cloned())?;
                self.histories = Histories::of(&next)?;
                tracing::info!(version = next.version, "serving a newer version");
            } else {
                self.next = Some(next);
            }
        }
        let reason = self.lookups.ready().await.err().map(|error| error.explained());
        if self.ready.as_ref() != Some(&reason) {
            match &reason {
                None => tracing::info!("ready: every view can be looked up"),
                Some(reason) => tracing::warn!(reason, "not ready"),
            }
            self.ready = Some(reason);
        }
        Ok(())
    }
}

/// Where a port listens.
pub(super) fn address(port: &TcpListener) -> Result<SocketAddr> {
    port.local_addr().map_err(Failure::defect("listen"))
}

/// The ports of lookups, taken before any work is done.
pub(super) struct Ports {
    http: TcpListener,
    grpc: TcpListener,
}

impl Ports {
    pub(super) async fn bind(asked: Listen, project: &Project) -> Result<Self> {
        let ports = project.repo.project.ports;
        let here = |port| SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        let http = listen(asked.http.unwrap_or_else(|| here(ports.http))).await?;
        let grpc = listen(asked.grpc.unwrap_or_else(|| here(ports.grpc))).await?;
        Ok(Self { http, grpc })
    }

    /// Where HTTP and gRPC listen.
    pub(super) fn addresses(&self) -> Result<(SocketAddr, SocketAddr)> {
        Ok((address(&self.http)?, address(&self.grpc)?))
    }

    /// Answers lookups, and takes pushes where there is an ingestion.
    pub(super) fn serve(self, service: &mut Service, lookups: &Arc<Lookups>, ingest: Option<&Ingest>) {
        let part = ingest.map(|ingest| {
            let (metrics, health) = (ingest.metrics(), ingest.health());
            Part {
                metrics: Arc::new(move || metrics.prometheus(clock::now())),
                notes: Arc::new(move || health.notes(clock::now())),
            }
        });
        let router = http::router(Arc::clone(lookups), part.into_iter().collect());
        let router = match ingest {
            Some(ingest) => router.merge(ingest.push_router()),
            None => router,
        };
        let stop = service.stopped();
        service.serve(async move { Ok(http::serve(router, self.http, stop).await?) });
        let (lookups, stop) = (Arc::clone(lookups), service.stopped());
        service.serve(async move { Ok(grpc::serve(lookups, self.grpc, stop).await?) });
    }
}
