//! States kept decoded between batches, within bounds.

use std::collections::HashMap;

use tidemark_kernel::{EntityKey, Log, LogState};
use tidemark_store::BUCKETS;

use super::Touched;

/// How many encoded bytes of states are kept per view. Decoded they take several times as much.
const BYTES: usize = 32 << 20;

/// What a state costs besides its bytes.
const OVERHEAD: usize = 128;

/// States as they stand at the positions we know, by bucket.
#[derive(Debug)]
pub(super) struct Cache {
    buckets: Vec<HashMap<(Log, EntityKey), Cached>>,
    bytes: usize,
    turn: u64,
}

#[derive(Debug)]
struct Cached {
    state: LogState,
    bytes: usize,
    /// The turn in which it was last used.
    used: u64,
}

impl Default for Cache {
    fn default() -> Self {
        Self { buckets: (0..BUCKETS).map(|_| HashMap::new()).collect(), bytes: 0, turn: 0 }
    }
}

impl Cache {
    /// Takes a state out. Whoever changes it puts it back once the change is stored.
    pub(super) fn take(&mut self, bucket: u16, log: Log, key: &EntityKey) -> Option<LogState> {
        let cached = self.buckets[usize::from(bucket)].remove(&(log, key.clone()))?;
        self.bytes -= cached.bytes;
        Some(cached.state)
    }

    /// Keeps the states that were just stored, each with its number of bytes.
    pub(super) fn keep(&mut self, bucket: u16, log: Log, entities: Vec<Touched>, bytes: &[usize]) {
        for (entity, bytes) in entities.into_iter().zip(bytes) {
            let Some(state) = entity.state else { continue };
            let cached = Cached { state, bytes: bytes + OVERHEAD, used: self.turn };
            self.bytes += cached.bytes;
            let before = self.buckets[usize::from(bucket)].insert((log, entity.key), cached);
            self.bytes -= before.map_or(0, |before| before.bytes);
        }
    }

    /// Forgets what is known of a bucket's states for a log.
    pub(super) fn forget(&mut self, bucket: u16, log: Log) {
        self.retain_in(usize::from(bucket), |known, _| known != log);
    }

    /// Ends a turn: where there is too much, keeps what was used in this turn, or else nothing.
    pub(super) fn trim(&mut self) {
        let turn = self.turn;
        for oldest in [turn, turn + 1] {
            if self.bytes > BYTES {
                (0..self.buckets.len()).for_each(|bucket| self.retain_in(bucket, |_, used| used >= oldest));
            }
        }
        self.turn += 1;
    }

    fn retain_in(&mut self, bucket: usize, wanted: impl Fn(Log, u64) -> bool) {
        let bytes = &mut self.bytes;
        self.buckets[bucket].retain(|(log, _), cached| {
            let keep = wanted(*log, cached.used);
            *bytes -= if keep { 0 } else { cached.bytes };
            keep
        });
    }
}

#[cfg(test)]
mod tests {
    use tidemark_kernel::Value;

    use super::*;

    fn touched(number: i64) -> Touched {
        let key = EntityKey::encode(&[Value::Int64(number)]).expect("no null");
        Touched { key, kept: Vec::new(), state: Some(LogState::new()) }
    }

    #[test]
    fn what_was_not_used_lately_goes_first() {
        let mut cache = Cache::default();
        cache.keep(0, Log(0), vec![touched(1)], &[BYTES / 2]);
        cache.trim();
        cache.keep(0, Log(0), vec![touched(2)], &[BYTES / 2]);
        cache.trim();
        assert!(cache.take(0, Log(0), &touched(1).key).is_none());
        assert!(cache.take(0, Log(0), &touched(2).key).is_some());
        assert_eq!(cache.bytes, 0);
        cache.keep(0, Log(0), vec![touched(3)], &[2 * BYTES]);
        cache.trim();
        assert_eq!(cache.bytes, 0, "a single turn may be too much");
    }

    #[test]
    fn a_bucket_is_forgotten_log_by_log() {
        let mut cache = Cache::default();
        cache.keep(3, Log(0), vec![touched(1)], &[1]);
        cache.keep(3, Log(1), vec![touched(1)], &[1]);
        cache.forget(3, Log(0));
        assert!(cache.take(3, Log(0), &touched(1).key).is_none());
        assert!(cache.take(3, Log(1), &touched(1).key).is_some());
    }
}
