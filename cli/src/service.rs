//! Runs a service until the process gets a signal to stop.

use tidemark_engine::{EngineError, Service};
use tokio::signal::unix::{SignalKind, signal};

use crate::clock;
use crate::progress::say;

/// A service that ends at SIGINT or SIGTERM. `farewell` is then said.
pub(crate) fn until_signalled(farewell: &'static str) -> Service {
    let mut service = Service::new(clock::host());
    let stopped = service.stopped();
    service.work(signalled(farewell, stopped));
    service
}

async fn signalled(farewell: &str, stop: impl Future<Output = ()>) -> Result<(), EngineError> {
    let listen = |kind| signal(kind).map_err(EngineError::system("listen to signals"));
    let (mut interrupt, mut terminate) = (listen(SignalKind::interrupt())?, listen(SignalKind::terminate())?);
    tokio::select! {
        _ = interrupt.recv() => say(farewell),
        _ = terminate.recv() => say(farewell),
        () = stop => {}
    }
    Ok(())
}
