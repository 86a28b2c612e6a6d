//! Waits for another process.

use std::time::{Duration, Instant};

/// How long anything may take before a test fails.
const PATIENCE: Duration = Duration::from_secs(60);

/// Asks every few milliseconds until there is an answer.
///
/// # Panics
/// After a minute: `what` did not happen.
#[track_caller]
pub fn until<T>(what: &str, mut ask: impl FnMut() -> Option<T>) -> T {
    let began = Instant::now();
    loop {
        if let Some(answer) = ask() {
            return answer;
        }
        assert!(began.elapsed() < PATIENCE, "waited a minute, in vain: {what}");
        pause(Duration::from_millis(5));
    }
}

/// Does nothing for so long.
#[allow(clippy::disallowed_methods, reason = "another process does not tell when it is ready")]
pub(crate) fn pause(time: Duration) {
    std::thread::sleep(time);
}
