//! A worker that reads topics until it is stopped, or until everything there is was taken in.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use futures::future::try_join_all;
use tidemark_host::Host;
use tidemark_ingest::status::Detail;
use tidemark_ingest::{
    Changed, Condition, FilesReport, Health, Ingest, IngestError, IngestHandle, Status, Tally, monitor,
};
use tidemark_kernel::Explain;
use tidemark_online::listen::listen;
use tidemark_online::{Protocol, http};
use tokio::net::TcpListener;
use tokio::sync::oneshot;

use crate::Result;
use crate::error::EngineError;
use crate::event::{Event, Tell};
use crate::newer::{Newer, PERIOD};
use crate::project::{Feed, Project};
use crate::serve::{address, connections};
use crate::service::Service;
use crate::sources::fed;

/// How long a source may wait for a store, a disk or a broker where the end of the run is waited for.
const PATIENCE: Duration = Duration::from_secs(10);

/// How topics are read.
#[derive(Debug, Default)]
pub struct Reading {
    /// Files to take in beside the topics.
    pub files: Vec<Feed>,
    /// The only source, if there is only one.
    pub source: Option<String>,
    /// The address of health and metrics; none where they are not served.
    pub monitor: Option<Monitor>,
    /// Whether to end once everything there is was taken in.
    pub until_idle: bool,
}

/// A port for health and metrics, taken before any work is done.
#[derive(Debug)]
pub struct Monitor(TcpListener);

impl Monitor {
    /// Takes the port.
    ///
    /// # Errors
    /// Fails where another program has it.
    pub async fn bind(address: SocketAddr) -> Result<Self> {
        Ok(Self(listen(address).await?))
    }

    /// Where it listens.
    ///
    /// # Errors
    /// Fails where the operating system cannot report the address.
    pub fn address(&self) -> Result<SocketAddr> {
        address(&self.0)
    }
}

/// What was read.
#[derive(Debug)]
pub struct Read {
    /// Each source with what became of its files.
    pub files: Vec<(String, FilesReport)>,
    /// What became of the records of each source, without rows of files.
    pub taken: BTreeMap<String, Tally>,
    /// The status once everything there is was taken in; none where the run was stopped before.
    pub idle: Option<Status>,
}

/// Takes in files and topics until the service ends or everything is taken in. Versions that are applied meanwhile take
/// effect. Files are reported as soon as they are in.
///
/// # Errors
/// Fails where something must be seen to: what was taken in stays so, and the next start goes on from there.
pub async fn read(
    project: &Project,
    mut ingest: Ingest,
    reading: Reading,
    mut service: Service,
    tell: Tell,
) -> Result<Read> {
    let host = project.host().clone();
    if let Some(Monitor(listener)) = reading.monitor {
        let connections = connections(Protocol::Http, &host);
        let counted = connections.clone();
        let of_server = move || counted.prometheus();
        let router = monitor::router(ingest.health(), ingest.metrics(), host.clock(), of_server);
        let stop = service.stopped();
        service.serve(async move {
            http::serve(router, listener, connections, stop).await;
            Ok(())
        });
    }
    let health = ingest.health();
    let ((tell_files, mut files), (tell_idle, mut idle)) = (oneshot::channel(), oneshot::channel());
    let taken_in = take_in(project.clone(), ingest.handle(), reading.files, tell, tell_files);
    let (handle, stop) = (ingest.handle(), service.stopped());
    if reading.until_idle {
        let patience = out_of_patience(ingest.health(), host.clone());
        service.work(until_idle(taken_in, handle, patience, stop, tell_idle));
    } else {
        service.work(async move {
            taken_in.await?;
            stop.await;
            Ok(())
        });
    }
    let newer = Newer::than(project);
    service.work(follow(newer, ingest.handle(), reading.source, host, service.stopped()));
    let stop = service.stopped();
    service.work(async move { Ok(ingest.run(stop).await?) });
    service.run().await?;
    // All have ended: what was not told by now will not be.
    let files = files.try_recv().unwrap_or_default();
    Ok(Read { files, taken: health.taken(), idle: idle.try_recv().ok() })
}

/// Takes files in beside everything else, those of one source beside those of another.
async fn take_in(
    project: Project,
    handle: IngestHandle,
    wanted: Vec<Feed>,
    tell: Tell,
    done: oneshot::Sender<Vec<(String, FilesReport)>>,
) -> Result<()> {
    let reports = wanted.into_iter().map(async |Feed { source, patterns }| {
        let report = handle.take_in_files_as(&source, patterns, Changed::SetAside).await?;
        Ok((source, report))
    });
    let reports = match try_join_all(reports).await {
        // The ingestion has ended, and says itself why. A file that is under way is taken up by the next start.
        Err(IngestError::NotRunning) => return Ok(()),
        reports => reports?,
    };
    if !reports.is_empty() {
        tell(Event::Files { project: &project, reports: &reports });
    }
    drop(done.send(reports));
    Ok(())
}

/// Ends once everything there is was taken in and committed, and returns the status then.
async fn until_idle(
    files: impl Future<Output = Result<()>>,
    handle: IngestHandle,
    impatient: impl Future<Output = EngineError>,
    stop: impl Future<Output = ()>,
    tell: oneshot::Sender<Status>,
) -> Result<()> {
    let idle = async {
        handle.idle().await?;
        handle.status(Detail::default()).await
    };
    let ended = async {
        files.await?;
        Ok::<_, EngineError>(idle.await)
    };
    tokio::select! {
        biased;
        ended = ended => match ended? {
            Ok(status) => drop(tell.send(status)),
            // The ingestion has ended, and says itself why.
            Err(IngestError::NotRunning) => {}
            Err(error) => return Err(error.into()),
        },
        error = impatient => return Err(error),
        () = stop => {}
    }
    Ok(())
}

/// Ends once a source has waited too long for what may come back by itself.
async fn out_of_patience(health: Arc<Health>, host: Host) -> EngineError {
    let mut since = host.stopwatch();
    loop {
        let waiting = health.conditions().into_values().find_map(|condition| match condition {
            Condition::Waiting { kind, reason, help } => {
                Some(EngineError::WaitTimeout { kind, reason, help })
            }
            Condition::Starting | Condition::Running => None,
        });
        match waiting {
            Some(impatient) if since.elapsed() >= PATIENCE => return impatient,
            Some(_) => {}
            None => since = host.stopwatch(),
        }
        host.sleep(PERIOD).await;
    }
}

/// Applies versions as they are recorded, until `stop` ends. A version that comes while the views of the one before are
/// being backfilled takes its place.
async fn follow(
    mut newer: Newer,
    handle: IngestHandle,
    source: Option<String>,
    host: Host,
    stop: impl Future<Output = ()>,
) -> Result<()> {
    let mut stop = std::pin::pin!(stop);
    let mut reload: Pin<Box<dyn Future<Output = _> + Send>> = Box::pin(std::future::pending());
    loop {
        tokio::select! {
            biased;
            () = &mut stop => return Ok(()),
            reloaded = &mut reload => {
                match reloaded {
                    (_, Err(IngestError::NotRunning)) => return Ok(()),
                    // Those that replaced it come next. If not, the ingestion ends, and says itself why.
                    (version, Err(error)) if error.is_outdated() => {
                        tracing::warn!(version, error = error.explained(), "a newer version was replaced before it was applied");
                    }
                    (_, Err(error)) => return Err(error.into()),
                    (version, Ok(())) => tracing::info!(version, "a newer version was applied and runs"),
                }
                reload = Box::pin(std::future::pending());
            }
            () = host.sleep(PERIOD) => {
                if let Some(project) = newer.look() {
                    let (sources, views) = project.only(source.as_deref());
                    let sources = fed(&project.repo, sources);
                    let handle = handle.clone();
                    reload = Box::pin(async move { (project.version, handle.reload(sources, views).await) });
                }
            }
        }
    }
}
