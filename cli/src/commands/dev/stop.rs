//! Being asked to stop.

use anyhow::Result;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;

/// Says to all clones that it is time to stop.
#[derive(Clone, Debug)]
pub(super) struct Stop(watch::Sender<bool>);

impl Default for Stop {
    fn default() -> Self {
        Self(watch::Sender::new(false))
    }
}

impl Stop {
    pub(super) fn now(&self) {
        self.0.send_replace(true);
    }

    /// Ends once it is time to stop.
    pub(super) async fn wait(self) {
        // Fails only if every sender is gone, and this is one.
        drop(self.0.subscribe().wait_for(|stop| *stop).await);
    }
}

/// Ends once the process gets SIGINT or SIGTERM, or `stop` ends.
pub(super) async fn signalled(stop: impl Future<Output = ()>) -> Result<()> {
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    tokio::select! {
        _ = interrupt.recv() => {}
        _ = terminate.recv() => {}
        () = stop => {}
    }
    Ok(())
}
