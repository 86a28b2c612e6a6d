//! Log lines that could repeat a thousand times a second, written at most once in ten seconds.

use std::collections::BTreeMap;

use parking_lot::Mutex;
use tidemark_kernel::time::{Span, Time};

/// How long none of a kind is logged once one was.
const PAUSE: Span = Span::from_secs(10);

/// When a line of each kind was logged last.
#[derive(Debug)]
pub(crate) struct Pauses<K>(Mutex<BTreeMap<K, Logged>>);

#[derive(Debug)]
struct Logged {
    /// When the last one was logged.
    at: Time,
    /// How many there were since.
    since: u64,
}

impl<K> Default for Pauses<K> {
    fn default() -> Self {
        Self(Mutex::new(BTreeMap::new()))
    }
}

impl<K: Ord> Pauses<K> {
    /// How many of a kind were not logged since the last one was; none where this one is not to be logged either.
    pub(crate) fn due(&self, kind: K, now: Time) -> Option<u64> {
        let mut kinds = self.0.lock();
        match kinds.get_mut(&kind) {
            // A clock that was set back ends the pause.
            Some(logged) if logged.at <= now && now < logged.at.plus(PAUSE) => {
                logged.since += 1;
                None
            }
            _ => kinds.insert(kind, Logged { at: now, since: 0 }).map_or(Some(0), |last| Some(last.since)),
        }
    }
}
