//! Reading topics until stopped, or until everything there is was taken in.

use std::collections::BTreeMap;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use futures::future::try_join_all;
use tidemark_ingest::status::Detail;
use tidemark_ingest::{
    Changed, Condition, FilesReport, Health, Ingest, IngestError, IngestHandle, Status, Tally, monitor,
};
use tidemark_kernel::{ErrorKind, Explain};
use tidemark_online::http;
use tokio::net::TcpListener;
use tokio::sync::oneshot;

use super::unusable::{self, Complaint};
use super::{Wanted, table};
use crate::clock;
use crate::failure::{Failure, Result};
use crate::newer::{Newer, PERIOD};
use crate::progress::say;
use crate::project::Project;
use crate::service::Service;

/// How long a source may wait for a store, a disk or a broker where somebody waits for the end.
const PATIENCE: Duration = Duration::from_secs(10);

/// How topics are read.
#[derive(Debug, Default)]
pub(crate) struct Reading {
    /// Files to take in beside the topics.
    pub(crate) files: Vec<Wanted>,
    /// The only source, if there is only one.
    pub(crate) source: Option<String>,
    /// Where to tell how it goes.
    pub(crate) monitor: Option<TcpListener>,
    /// Whether to end once everything there is was taken in.
    pub(crate) until_idle: bool,
}

/// What was read.
#[derive(Debug)]
pub(crate) struct Read {
    /// Each source with what became of its files.
    pub(crate) files: Vec<(String, FilesReport)>,
    /// What was said of them.
    pub(crate) complaints: Vec<Complaint>,
    /// What became of the records of each source, without rows of files.
    pub(crate) taken: BTreeMap<String, Tally>,
    /// Where everything stood once everything there is was taken in; none where it was stopped before.
    pub(crate) idle: Option<Status>,
}

/// Takes in files and topics until it is stopped or told to end. Versions that are applied meanwhile take effect.
///
/// # Errors
/// Fails where something must be seen to: what was taken in stays so, and the next start goes on from there.
pub(crate) async fn read(project: &Project, mut ingest: Ingest, reading: Reading) -> Result<Read> {
    let mut service = Service::new("stopping: committing what was taken in");
    if let Some(listener) = reading.monitor {
        let router = monitor::router(ingest.health(), ingest.metrics(), clock::shared());
        let stop = service.stopped();
        service.serve(async move { Ok(http::serve(router, listener, stop).await?) });
    }
    let health = ingest.health();
    let ((tell_files, mut files), (tell_idle, mut idle)) = (oneshot::channel(), oneshot::channel());
    let taken_in = take_in(project.clone(), ingest.handle(), reading.files, tell_files);
    let (handle, stop) = (ingest.handle(), service.stopped());
    if reading.until_idle {
        service.work(until_idle(taken_in, handle, ingest.health(), stop, tell_idle));
    } else {
        service.work(async move {
            taken_in.await?;
            stop.await;
            Ok(())
        });
    }
    let newer = Newer::than(project);
    service.work(follow(newer, ingest.handle(), reading.source, service.stopped()));
    let stop = service.stopped();
    service.work(async move { Ok(ingest.run(stop).await?) });
    service.run().await?;
    // All have ended: what was not told by now will not be.
    let (files, complaints) = files.try_recv().unwrap_or_default();
    Ok(Read { files, complaints, taken: health.taken(), idle: idle.try_recv().ok() })
}

/// Each source with what became of its files, and what was said of them.
type Files = (Vec<(String, FilesReport)>, Vec<Complaint>);

/// Takes files in beside everything else, those of one source beside those of another.
async fn take_in(
    project: Project,
    handle: IngestHandle,
    wanted: Vec<Wanted>,
    tell: oneshot::Sender<Files>,
) -> Result<()> {
    let reports = wanted.into_iter().map(async |(source, patterns)| {
        let report = handle.take_in_files_as(&source, patterns, Changed::SetAside).await?;
        Ok((source, report))
    });
    let reports = match try_join_all(reports).await {
        // The ingestion has ended, and says itself why. A file that is under way is taken up by the next start.
        Err(IngestError::NotRunning) => return Ok(()),
        reports => reports?,
    };
    if !reports.is_empty() {
        say(table(&reports).trim_end());
    }
    let complaints = unusable::of_files(&project, &reports)?;
    unusable::say_all(&complaints);
    drop(tell.send((reports, complaints)));
    Ok(())
}

/// Ends once everything there is was taken in and committed, and tells where everything stands then.
async fn until_idle(
    files: impl Future<Output = Result<()>>,
    handle: IngestHandle,
    health: Arc<Health>,
    stop: impl Future<Output = ()>,
    tell: oneshot::Sender<Status>,
) -> Result<()> {
    let idle = async {
        handle.idle().await?;
        handle.status(Detail::default()).await
    };
    let ended = async {
        files.await?;
        Ok::<_, Failure>(idle.await)
    };
    tokio::select! {
        ended = ended => match ended? {
            Ok(status) => drop(tell.send(status)),
            // The ingestion has ended, and says itself why.
            Err(IngestError::NotRunning) => {}
            Err(error) => return Err(error.into()),
        },
        failure = out_of_patience(&health) => return Err(failure),
        () = stop => {}
    }
    Ok(())
}

/// Ends once a source has waited too long for what may come back by itself.
async fn out_of_patience(health: &Health) -> Failure {
    let mut since = clock::stopwatch();
    loop {
        let waiting = health.conditions().into_values().find_map(|condition| match condition {
            Condition::Waiting { reason, help } => Some((reason, help)),
            Condition::Starting | Condition::Running => None,
        });
        match waiting {
            Some((reason, help)) if since.elapsed() >= PATIENCE => {
                let again = || "start it again then, it goes on where it was".to_owned();
                return Failure::of(ErrorKind::Unavailable, reason, help.unwrap_or_else(again));
            }
            Some(_) => {}
            None => since = clock::stopwatch(),
        }
        clock::host().sleep(PERIOD).await;
    }
}

/// Applies versions as they are recorded, until `stop` ends. A version that comes while the views of the one before are
/// being backfilled takes its place.
async fn follow(
    mut newer: Newer,
    handle: IngestHandle,
    source: Option<String>,
    stop: impl Future<Output = ()>,
) -> Result<()> {
    let (mut stop, host) = (std::pin::pin!(stop), clock::host());
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
                    let handle = handle.clone();
                    reload = Box::pin(async move { (project.version, handle.reload(sources, views).await) });
                }
            }
        }
    }
}
