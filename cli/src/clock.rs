//! The real clock. Every other part takes the time as an argument.

use std::sync::{Arc, OnceLock};
use std::time::{SystemTime, UNIX_EPOCH};

use tidemark_host::{Host, Stopwatch};
use tidemark_kernel::Time;

/// Now, floored to the millisecond.
#[expect(
    clippy::disallowed_methods,
    reason = "the one place that reads the wall clock; it is handed to all others"
)]
pub(crate) fn now() -> Time {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Time::from_millis(i64::try_from(since.as_millis()).unwrap_or(i64::MAX))
}

/// The machine that this process runs on.
pub(crate) fn host() -> Host {
    static HOST: OnceLock<Host> = OnceLock::new();
    HOST.get_or_init(|| Host::real(shared())).clone()
}

/// Begins to measure how long something takes.
pub(crate) fn stopwatch() -> Stopwatch {
    host().stopwatch()
}

/// The clock as stores and servers take it.
pub(crate) fn shared() -> Arc<dyn Fn() -> Time + Send + Sync> {
    Arc::new(now)
}
