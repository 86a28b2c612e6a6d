//! Lookups from a store that other processes write, and the ports that they are answered on.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;

use tidemark_host::Host;
use tidemark_ingest::{Ingest, unwatched};
use tidemark_kernel::Explain;
use tidemark_online::http::Part;
use tidemark_online::listen::listen;
use tidemark_online::{Connections, Limits, Lookups, Protocol, RowLimits, grpc, http};
use tidemark_store::{OnlineStore, StoreError};
use tokio::net::TcpListener;

use crate::Result;
use crate::error::EngineError;
use crate::folder::Folder;
use crate::histories::Histories;
use crate::newer::{Newer, PERIOD};
use crate::project::Project;
use crate::service::Service;

/// Where to listen; the ports of the settings, on this machine alone, where it does not say.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Listen {
    /// Lookups by HTTP, pushes and metrics.
    pub http: Option<SocketAddr>,
    /// Lookups by gRPC.
    pub grpc: Option<SocketAddr>,
}

/// The ports, taken before any work is done.
#[derive(Debug)]
pub struct Ports {
    http: TcpListener,
    grpc: TcpListener,
}

impl Ports {
    /// Takes the ports.
    ///
    /// # Errors
    /// Fails where another program has one of them.
    pub async fn bind(asked: Listen, project: &Project) -> Result<Self> {
        let ports = project.repo.project.ports;
        let here = |port| SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        let http = listen(asked.http.unwrap_or_else(|| here(ports.http))).await?;
        let grpc = listen(asked.grpc.unwrap_or_else(|| here(ports.grpc))).await?;
        Ok(Self { http, grpc })
    }

    /// Where HTTP and gRPC listen, in this order.
    ///
    /// # Errors
    /// Fails where the operating system cannot report the address.
    pub fn addresses(&self) -> Result<(SocketAddr, SocketAddr)> {
        Ok((address(&self.http)?, address(&self.grpc)?))
    }

    /// Answers lookups, and takes pushes where there is an ingestion.
    pub(crate) fn serve(
        self,
        service: &mut Service,
        lookups: &Arc<Lookups>,
        ingest: Option<&Ingest>,
        host: &Host,
    ) {
        let part = ingest.map(|ingest| {
            let (metrics, health) = (ingest.metrics(), ingest.health());
            let (clock, noted) = (host.clock(), host.clock());
            Part {
                metrics: Arc::new(move || metrics.prometheus(clock())),
                notes: Arc::new(move || health.notes(noted())),
                operations: ingest.push_operations(),
            }
        });
        let connections = [Protocol::Http, Protocol::Grpc].map(|server| connections(server, host));
        let of_connections =
            connections.clone().map(|connections| Part::of_metrics(move || connections.prometheus()));
        let [by_http, by_grpc] = connections;
        let router = http::router(Arc::clone(lookups), part.into_iter().chain(of_connections).collect());
        let router = match ingest {
            Some(ingest) => router.merge(ingest.push_router()),
            None => router,
        };
        let stop = service.stopped();
        service.serve(async move {
            http::serve(router, self.http, by_http, stop).await;
            Ok(())
        });
        let (lookups, stop) = (Arc::clone(lookups), service.stopped());
        service.serve(async move { Ok(grpc::serve(lookups, self.grpc, by_grpc, stop).await?) });
    }
}

/// No connections yet, within the limits of this process.
pub(crate) fn connections(server: Protocol, host: &Host) -> Connections {
    Connections::new(server, host.clone(), Limits::default())
}

/// Lookups over a store, within the limits that a project sets.
pub(crate) fn lookups(project: &Project, store: &Arc<dyn OnlineStore>, host: &Host) -> Lookups {
    let rows = RowLimits::of_calls(project.repo.project.lookups.rows);
    Lookups::new(Arc::clone(store), host.clock()).limited(rows)
}

/// Where a port listens.
pub(crate) fn address(port: &TcpListener) -> Result<SocketAddr> {
    port.local_addr().map_err(EngineError::system("listen"))
}

/// Lookups from a store that other processes write: `tidemark serve`.
pub struct Server {
    /// The version that is served; version 0 is what the folder defines where nothing was applied yet, which a process
    /// that takes in events will do.
    pub project: Project,
    ports: Ports,
    served: ServedServices,
}

impl Server {
    /// Takes the ports and opens the store; nothing is answered yet.
    ///
    /// # Errors
    /// Fails where the store is embedded or cannot be used, a port is taken, or the version that runs is not valid.
    pub async fn open(folder: Folder, listen: Listen, host: &Host) -> Result<Self> {
        let project = defined(folder, host)?;
        if project.is_embedded() {
            return Err(EngineError::Embedded);
        }
        let ports = Ports::bind(listen, &project).await?;
        let store = project.store().await?;
        let lookups = Arc::new(lookups(&project, &store, host));
        lookups.serve(project.repo.services.values().cloned())?;
        let (newer, histories) = (Newer::than(&project), Histories::of(&project)?);
        let served =
            ServedServices { newer, histories, store, lookups, next: None, ready: None, host: host.clone() };
        Ok(Self { project, ports, served })
    }

    /// Where HTTP and gRPC listen, in this order.
    ///
    /// # Errors
    /// Fails where the operating system cannot report the address.
    pub fn addresses(&self) -> Result<(SocketAddr, SocketAddr)> {
        self.ports.addresses()
    }

    /// Answers lookups until the service ends. Versions that are applied meanwhile are served once their views are
    /// backfilled.
    ///
    /// # Errors
    /// Fails where a server fails, or the store holds the states of another deployment.
    pub async fn run(self, mut service: Service) -> Result<()> {
        self.ports.serve(&mut service, &self.served.lookups, None, self.project.host());
        service.work(self.served.follow(service.stopped()));
        service.run().await
    }
}

/// The version that runs; where none was applied yet, what the folder defines.
fn defined(folder: Folder, host: &Host) -> Result<Project> {
    if let Some(running) = Project::applied(folder.clone(), host)? {
        return Ok(running);
    }
    let repo = tidemark_registry::load(folder.path())?;
    Ok(Project::of(folder, 0, repo, host.clone()))
}

/// The services that are looked up, and those of a newer version that wait for their views.
struct ServedServices {
    newer: Newer,
    histories: Histories,
    store: Arc<dyn OnlineStore>,
    lookups: Arc<Lookups>,
    next: Option<Project>,
    /// Why not every view could be looked up when that was last asked, if it was.
    ready: Option<Option<String>>,
    host: Host,
}

impl ServedServices {
    /// Serves newer versions once their views are backfilled, and logs whether every view can be looked up, until `stop`.
    async fn follow(mut self, stop: impl Future<Output = ()>) -> Result<()> {
        let (mut stop, host) = (std::pin::pin!(stop), self.host.clone());
        loop {
            self.look().await?;
            tokio::select! {
                biased;
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
            let lookups = next.lookups(Arc::clone(&self.store), &unwatched).await?;
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
