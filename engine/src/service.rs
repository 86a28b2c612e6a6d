//! A service of several tasks, which run together and stop together.

use std::time::Duration;

use tidemark_host::Host;
use tokio::sync::watch;
use tokio::task::{JoinError, JoinSet};

use crate::Result;

/// How long calls under way may take once it is stopped.
const PATIENCE: Duration = Duration::from_secs(3);

/// Workers and servers. Whatever ends first, well or not, ends them all.
#[derive(Debug)]
pub struct Service {
    stop: watch::Sender<bool>,
    workers: JoinSet<Result<()>>,
    servers: JoinSet<Result<()>>,
    host: Host,
}

impl Service {
    /// Creates an empty service.
    #[must_use]
    pub fn new(host: Host) -> Self {
        Self { stop: watch::Sender::new(false), workers: JoinSet::new(), servers: JoinSet::new(), host }
    }

    /// Ends once it is time to stop.
    pub fn stopped(&self) -> impl Future<Output = ()> + Send + use<> {
        let mut stop = self.stop.subscribe();
        // The sender is gone only after the service has ended.
        async move { drop(stop.wait_for(|stop| *stop).await) }
    }

    /// Adds what ends soon once it is [stopped](Self::stopped). It stops everything when it ends, so a task that waits
    /// for a signal of the operating system is one.
    pub fn work(&mut self, work: impl Future<Output = Result<()>> + Send + 'static) {
        self.workers.spawn(work);
    }

    /// Adds what lets calls end once it is [stopped](Self::stopped), and may be cut off where they do not.
    pub fn serve(&mut self, server: impl Future<Output = Result<()>> + Send + 'static) {
        self.servers.spawn(server);
    }

    /// Runs everything until something ends; then stops the rest and waits for it.
    ///
    /// # Errors
    /// That of the first part that fails.
    pub async fn run(mut self) -> Result<()> {
        let first = tokio::select! {
            biased;
            Some(ended) = self.servers.join_next() => ended,
            Some(ended) = self.workers.join_next() => ended,
            else => return Ok(()),
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
        // A caller that keeps a connection open beyond that is cut off.
        outcome.and(self.host.timeout(PATIENCE, ending).await.unwrap_or(Ok(())))
    }
}

fn flat(ended: Result<Result<()>, JoinError>) -> Result<()> {
    ended?
}
