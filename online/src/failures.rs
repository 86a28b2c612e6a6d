//! Logs calls that failed as a whole. Failures that need attention are logged at most once in a while: a server that
//! does not respond fails a thousand calls a second.

use tidemark_kernel::error::{ErrorKind, Explain, Severity};
use tidemark_kernel::time::Time;

use crate::error::LookupError;
use crate::pauses::Pauses;

/// What was logged of each kind that needs attention. What callers can fix goes to `debug`, all of it.
#[derive(Debug, Default)]
pub(crate) struct Failures(Pauses<ErrorKind>);

impl Failures {
    /// Logs a call that failed now.
    pub(crate) fn tell(&self, error: &LookupError, now: Time) {
        let (kind, name) = (error.kind(), error.kind().name());
        match kind.severity() {
            Severity::Debug => tracing::debug!(kind = name, error = error.explained(), "a lookup failed"),
            Severity::Warn => {
                if let Some(not_logged) = self.0.due(kind, now) {
                    tracing::warn!(kind = name, error = error.explained(), not_logged, "a lookup failed");
                }
            }
            Severity::Error => {
                if let Some(not_logged) = self.0.due(kind, now) {
                    tracing::error!(kind = name, error = error.explained(), not_logged, "a lookup failed");
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fmt;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicI64, Ordering};

    use parking_lot::Mutex;
    use tidemark_store::{MemoryStore, StoreError};
    use tracing::field::{Field, Visit};
    use tracing::span::{Attributes, Id, Record};
    use tracing::{Event, Level, Metadata, Subscriber};

    use super::*;
    use crate::lookups::{Clock, Lookups};

    /// What was logged here.
    #[derive(Clone, Default)]
    struct Log(Arc<Mutex<Vec<Line>>>);

    #[derive(Debug, PartialEq)]
    struct Line {
        level: Level,
        kind: String,
        error: String,
        not_logged: Option<u64>,
    }

    impl Subscriber for Log {
        fn enabled(&self, metadata: &Metadata<'_>) -> bool {
            metadata.target() == "tidemark_online::failures"
        }
        fn new_span(&self, _: &Attributes<'_>) -> Id {
            Id::from_u64(1)
        }
        fn record(&self, _: &Id, _: &Record<'_>) {}
        fn record_follows_from(&self, _: &Id, _: &Id) {}
        fn event(&self, event: &Event<'_>) {
            let level = *event.metadata().level();
            let mut line = Line { level, kind: String::new(), error: String::new(), not_logged: None };
            event.record(&mut line);
            self.0.lock().push(line);
        }
        fn enter(&self, _: &Id) {}
        fn exit(&self, _: &Id) {}
    }

    impl Visit for Line {
        fn record_str(&mut self, field: &Field, value: &str) {
            match field.name() {
                "kind" => self.kind = value.to_owned(),
                "error" => self.error = value.to_owned(),
                "message" => assert_eq!(value, "a lookup failed"),
                other => panic!("{other}={value}"),
            }
        }
        fn record_u64(&mut self, field: &Field, value: u64) {
            assert_eq!(field.name(), "not_logged");
            self.not_logged = Some(value);
        }
        fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
            assert_eq!((field.name(), format!("{value:?}").as_str()), ("message", "a lookup failed"));
        }
    }

    #[test]
    fn calls_are_logged_by_their_kind_and_what_needs_attention_now_and_then() {
        let clock = Arc::new(AtomicI64::new(0));
        let told = Arc::clone(&clock);
        let now: Clock = Arc::new(move || Time::from_millis(told.load(Ordering::SeqCst)));
        let lookups = Lookups::new(Arc::new(MemoryStore::new(Arc::clone(&now))), now);
        let log = Log::default();
        let _subscribed = tracing::subscriber::set_default(log.clone());
        let fail = |millis: i64, error: LookupError| -> Vec<Line> {
            clock.store(millis, Ordering::SeqCst);
            drop(lookups.failed(error));
            std::mem::take(&mut *log.0.lock())
        };
        let backfilling = || LookupError::Backfilling { view: "payments".into() };
        let full = || LookupError::Store(StoreError::Full { place: "data/online".into() });
        let unknown = || LookupError::UnknownService { name: "spam".into(), help: "none is defined".into() };
        let line = |level, error: LookupError, not_logged| {
            vec![Line { level, kind: error.kind().name().into(), error: error.explained(), not_logged }]
        };

        assert_eq!(fail(0, backfilling()), line(Level::WARN, backfilling(), Some(0)));
        assert_eq!(fail(1, full()), line(Level::ERROR, full(), Some(0)), "each kind by itself");
        for millis in [1, 9_999] {
            assert!(fail(millis, backfilling()).is_empty());
        }
        assert_eq!(fail(10_000, backfilling()), line(Level::WARN, backfilling(), Some(2)));
        assert!(fail(10_000, full()).is_empty());
        assert_eq!(fail(10_001, full()), line(Level::ERROR, full(), Some(1)));
        assert_eq!(
            fail(9_999, backfilling()),
            line(Level::WARN, backfilling(), Some(0)),
            "the clock was set back"
        );
        for _ in 0..2 {
            assert_eq!(fail(10_001, unknown()), line(Level::DEBUG, unknown(), None));
        }
        let metrics = lookups.metrics().render();
        for counted in ["{kind=\"not_ready\"} 5\n", "{kind=\"out_of_space\"} 3\n", "{kind=\"unknown\"} 2\n"] {
            assert!(metrics.contains(&format!("tidemark_lookup_errors_total{counted}")), "{metrics}");
        }
    }
}
