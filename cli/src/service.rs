//! Running until stopped: what goes on side by side, and how it ends together.

use std::time::Duration;

use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;
use tokio::task::{JoinError, JoinSet};

use crate::clock;
use crate::failure::{Failure, Result};
use crate::progress::say;

/// How long calls under way may take once it is stopped.
const PATIENCE: Duration = Duration::from_secs(3);

/// Workers and servers. Whatever ends first, well or not, ends them all.
pub(crate) struct Service {
    stop: watch::Sender<bool>,
    workers: JoinSet<Result<()>>,
    servers: JoinSet<Result<()>>,
}

impl Service {
    /// Nothing yet but the readiness to be stopped, by SIGINT or SIGTERM. `farewell` is then said.
    pub(crate) fn new(farewell: &'static str) -> Self {
        let stop = watch::Sender::new(false);
        let mut service = Self { stop, workers: JoinSet::new(), servers: JoinSet::new() };
        let stopped = service.stopped();
        service.work(signalled(farewell, stopped));
        service
    }

    /// Ends once it is time to stop.
    pub(crate) fn stopped(&self) -> impl Future<Output = ()> + Send + use<> {
        let mut stop = self.stop.subscribe();
        // The sender is gone only after the service has ended.
        async move { drop(stop.wait_for(|stop| *stop).await) }
    }

    /// Adds what ends soon once it is [stopped](Self::stopped).
    pub(crate) fn work(&mut self, work: impl Future<Output = Result<()>> + Send + 'static) {
        self.workers.spawn(work);
    }

    /// Adds what lets calls end once it is [stopped](Self::stopped), and may be cut off where they do not.
    pub(crate) fn serve(&mut self, server: impl Future<Output = Result<()>> + Send + 'static) {
        self.servers.spawn(server);
    }

    /// Runs everything until it is stopped or something ends; then waits until all has ended.
    pub(crate) async fn run(mut self) -> Result<()> {
        let first = tokio::select! {
            Some(ended) = self.servers.join_next() => ended,
            Some(ended) = self.workers.join_next() => ended,
        };
        self.stop.send_replace(true);
        let mut outcome = flat(first);
        while let Some(ended) = self.workers.join_next().await {
            outcome = outcome.and(flat(ended));
        }
        let ending = async {
            while let Some(ended) = self.servers.join_next().await {
                flat(ended)?;
            }
            Ok(())
        };
        // Whoever keeps a connection open beyond that is cut off.
        outcome.and(clock::host().timeout(PATIENCE, ending).await.unwrap_or(Ok(())))
    }
}

fn flat(ended: Result<Result<()>, JoinError>) -> Result<()> {
    ended.map_err(Failure::defect("go on"))?
}

/// Ends once the process gets SIGINT or SIGTERM, or `stop` ends.
async fn signalled(farewell: &str, stop: impl Future<Output = ()>) -> Result<()> {
    let listen = |kind| signal(kind).map_err(Failure::defect("listen to signals"));
    let (mut interrupt, mut terminate) = (listen(SignalKind::interrupt())?, listen(SignalKind::terminate())?);
    tokio::select! {
        _ = interrupt.recv() => say(farewell),
        _ = terminate.recv() => say(farewell),
        () = stop => {}
    }
    Ok(())
}
