//! The connections of a server: how many there are, and how long each may take.
//!
//! A client chooses when it sends, how much, and when it reads. Without limits, a thousand connections that send half a
//! header take every file that the process may open, and no other client is answered, health checks included. So
//!
//! * the number of connections is limited to less than the process may open. Where there is no room for another one,
//!   the one that has waited for a request for the longest is closed. If every one has a request under way, a few more are
//!   let in, to be told so, and for health checks;
//! * a header, a body, an answer and a pause between two requests each have a time in which they must end;
//! * the bodies of all requests under way have a limit of bytes.
//!
//! Each limit that is met is counted, and logged at most once in ten seconds.

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::time::Duration;

use parking_lot::Mutex;
use rustix::process::{Resource, getrlimit};
use tidemark_host::Host;
use tidemark_proto::prometheus::{Exposition, Metric};
use tokio::net::TcpStream;

use crate::pauses::Pauses;

/// Every metric of this file.
pub(crate) const METRICS: [Metric; 4] = [HTTP_CONNECTIONS, HTTP_LIMITS, GRPC_CONNECTIONS, GRPC_LIMITS];

const HTTP_CONNECTIONS: Metric =
    Metric::gauge("tidemark_http_connections", &[], "Open connections of the HTTP server.");
const HTTP_LIMITS: Metric = Metric::counter(
    "tidemark_http_limits_total",
    &["limit"],
    "Times that connections and requests of the HTTP server have met a limit.",
);
const GRPC_CONNECTIONS: Metric =
    Metric::gauge("tidemark_grpc_connections", &[], "Open connections of the gRPC server.");
const GRPC_LIMITS: Metric = Metric::counter(
    "tidemark_grpc_limits_total",
    &["limit"],
    "Times that connections and requests of the gRPC server have met a limit.",
);

mod exchange;
mod slot;
mod stream;

pub(crate) use exchange::{Exchange, Held, Pieces, Received};
pub(crate) use slot::Slot;
pub(crate) use stream::Guarded;

/// What a client may take of a server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// From the first byte of a request to the end of its header.
    pub header: Duration,
    /// From the header to the end of the body.
    pub body: Duration,
    /// From the end of the body until the client has taken the answer.
    pub answer: Duration,
    /// Without any request; over gRPC without a byte, which clients send every few seconds because the server asks for it.
    pub idle: Duration,
    /// How many connections there may be.
    pub connections: usize,
    /// How many more are let in while every connection has a request under way. They are answered health checks, and 429 to
    /// anything else.
    pub reserve: usize,
    /// How many bytes the bodies of all requests under way may have.
    pub bytes: usize,
}

impl Limits {
    /// The limits where the process may open this many files. A third is for each of the two servers, and one for stores, tables
    /// and brokers.
    const fn of_files(files: usize) -> Self {
        let connections = files / 3;
        Self {
            header: Duration::from_secs(10),
            body: Duration::from_secs(60),
            answer: Duration::from_secs(120),
            idle: Duration::from_secs(60),
            connections: if connections > CONNECTIONS_MAX { CONNECTIONS_MAX } else { connections - RESERVE },
            reserve: RESERVE,
            bytes: 256 << 20,
        }
    }
}

impl Default for Limits {
    /// Those for as many files as the process may open now.
    fn default() -> Self {
        let files = getrlimit(Resource::Nofile).current.and_then(|files| files.try_into().ok());
        Self::of_files(files.unwrap_or(usize::MAX).max(FILES_MIN))
    }
}

/// However many files may be open: each connection takes some kilobytes.
const CONNECTIONS_MAX: usize = 10_000;

const RESERVE: usize = 16;

/// Fewer files than these leave no room for connections at all.
const FILES_MIN: usize = 6 * RESERVE;

/// How long nothing is accepted after the system has refused another file.
const NO_FILES_PAUSE: Duration = Duration::from_millis(100);

/// A limit that was met.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Limit {
    Header,
    Body,
    Answer,
    Idle,
    /// There was no room for another connection.
    Connections,
    Bytes,
    /// The system has refused another connection.
    Files,
}

impl Limit {
    const ALL: [Self; 7] =
        [Self::Header, Self::Body, Self::Answer, Self::Idle, Self::Connections, Self::Bytes, Self::Files];

    /// The name in metrics and logs.
    const fn name(self) -> &'static str {
        match self {
            Self::Header => "header",
            Self::Body => "body",
            Self::Answer => "answer",
            Self::Idle => "idle",
            Self::Connections => "connections",
            Self::Bytes => "bytes",
            Self::Files => "files",
        }
    }

    const fn message(self) -> &'static str {
        match self {
            Self::Header => "a connection was closed: the header of a request took too long",
            Self::Body => "a connection was closed: the body of a request took too long",
            Self::Answer => "a connection was closed: its client did not take the answer in time",
            Self::Idle => "a connection was closed: it had no request",
            Self::Connections => "there are as many connections as are allowed; one was closed or refused",
            Self::Bytes => {
                "a request was refused: the bodies of the requests under way are too large together"
            }
            Self::Files => "the system does not accept another connection",
        }
    }
}

/// The connections of one server. Clones are the same ones.
#[derive(Clone)]
pub struct Connections(Arc<Shared>);

pub(crate) struct Shared {
    server: Protocol,
    limits: Limits,
    host: Host,
    open: Mutex<Open>,
    /// Bytes of the bodies of the requests under way.
    bytes: AtomicUsize,
    met: Mutex<BTreeMap<Limit, u64>>,
    told: Pauses<Limit>,
}

#[derive(Default)]
struct Open {
    /// The number of the next connection.
    next: u64,
    slots: BTreeMap<u64, Arc<Slot>>,
}

/// What a server speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// HTTP/1.1: one request after the other.
    Http,
    /// gRPC: many calls at once on one connection.
    Grpc,
}

impl Connections {
    /// None so far.
    #[must_use]
    pub fn new(server: Protocol, host: Host, limits: Limits) -> Self {
        Self(Arc::new(Shared {
            server,
            limits,
            host,
            open: Mutex::default(),
            bytes: AtomicUsize::new(0),
            met: Mutex::default(),
            told: Pauses::default(),
        }))
    }

    /// Takes a connection in, or closes it where there is no room.
    pub(crate) fn admit(&self, stream: TcpStream) -> Option<Guarded> {
        // Small answers must not wait for more to send. A connection that is gone already is found out when it is read.
        drop(stream.set_nodelay(true));
        let slot = self.0.slot()?;
        Some(Guarded::new(stream, slot))
    }

    /// The system has refused a connection: mostly because too many files are open. Ends when it is worth another try.
    pub(crate) async fn not_accepted(&self, error: &io::Error) {
        use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset};
        // The client was gone before it was let in.
        if !matches!(error.kind(), ConnectionAborted | ConnectionRefused | ConnectionReset) {
            self.0.meet(Limit::Files);
            self.0.host.sleep(NO_FILES_PAUSE).await;
        }
    }

    /// Closes the connections that wait for a request, because there will be no answer any more.
    pub(crate) fn close_waiting(&self) {
        for slot in self.0.open.lock().slots.values().filter(|slot| slot.waiting_since().is_some()) {
            slot.close();
        }
    }

    /// A request whose body is received and answered, which no connection waits for to end.
    pub(crate) fn exchange(&self) -> Arc<Exchange> {
        Exchange::begin(Arc::clone(&self.0), None)
    }

    /// Its metrics, in Prometheus' text form.
    #[must_use]
    pub fn prometheus(&self) -> String {
        let (connections, limits) = match self.0.server {
            Protocol::Http => (HTTP_CONNECTIONS, HTTP_LIMITS),
            Protocol::Grpc => (GRPC_CONNECTIONS, GRPC_LIMITS),
        };
        let mut text = Exposition::default();
        text.family(connections).number(&[], self.0.open.lock().slots.len());
        let met = self.0.met.lock();
        let count = |limit| met.get(&limit).copied().unwrap_or_default();
        text.numbers(limits, Limit::ALL.map(|limit| (limit.name(), count(limit))));
        text.into_string()
    }
}

impl Shared {
    /// A place for another connection.
    fn slot(self: &Arc<Self>) -> Option<Arc<Slot>> {
        let mut open = self.open.lock();
        let limits = &self.limits;
        let mut is_reserved = false;
        if open.slots.len() >= limits.connections {
            self.meet(Limit::Connections);
            let waiting = open.slots.values().filter_map(|slot| Some((slot.waiting_since()?, slot.number())));
            if let Some((_, number)) = waiting.min() {
                if let Some(slot) = open.slots.remove(&number) {
                    slot.close();
                }
            } else if open.slots.len() < limits.connections + limits.reserve {
                is_reserved = true;
            } else {
                return None;
            }
        }
        let number = open.next;
        open.next += 1;
        let slot = Arc::new(Slot::new(Arc::clone(self), number, is_reserved));
        open.slots.insert(number, Arc::clone(&slot));
        Some(slot)
    }

    /// A connection is closed.
    fn leave(&self, number: u64) {
        self.open.lock().slots.remove(&number);
    }

    /// Counts and logs a limit that was met.
    fn meet(&self, limit: Limit) {
        *self.met.lock().entry(limit).or_default() += 1;
        // Clients keep connections for later as a matter of course.
        if limit == Limit::Idle {
            return;
        }
        if let Some(not_logged) = self.told.due(limit, self.host.now()) {
            let server = match self.server {
                Protocol::Http => "HTTP",
                Protocol::Grpc => "gRPC",
            };
            tracing::warn!(server, limit = limit.name(), not_logged, "{}", limit.message());
        }
    }

    /// Whether there is room for more bytes of bodies, which are counted then.
    fn take(&self, bytes: usize) -> bool {
        let room = |taken: usize| taken.checked_add(bytes).filter(|taken| *taken <= self.limits.bytes);
        self.bytes.fetch_update(Relaxed, Relaxed, room).is_ok()
    }
}

#[cfg(test)]
mod tests {
    use std::fmt;

    use tidemark_kernel::time::Time;
    use tracing::field::{Field, Visit};
    use tracing::span::{Attributes, Id, Record};
    use tracing::{Event, Metadata, Subscriber};

    use super::*;

    /// The limits that were logged.
    #[derive(Clone, Default)]
    struct Log(Arc<Mutex<Vec<String>>>);

    impl Subscriber for Log {
        fn enabled(&self, metadata: &Metadata<'_>) -> bool {
            metadata.target() == "tidemark_online::connections"
        }
        fn new_span(&self, _: &Attributes<'_>) -> Id {
            Id::from_u64(1)
        }
        fn record(&self, _: &Id, _: &Record<'_>) {}
        fn record_follows_from(&self, _: &Id, _: &Id) {}
        fn event(&self, event: &Event<'_>) {
            event.record(&mut &*self);
        }
        fn enter(&self, _: &Id) {}
        fn exit(&self, _: &Id) {}
    }

    impl Visit for &Log {
        fn record_str(&mut self, field: &Field, value: &str) {
            if field.name() == "limit" {
                self.0.lock().push(value.to_owned());
            }
        }
        fn record_debug(&mut self, _: &Field, _: &dyn fmt::Debug) {}
    }

    #[test]
    fn limits_are_counted_each_time_and_logged_now_and_then() {
        let log = Log::default();
        let _subscribed = tracing::subscriber::set_default(log.clone());
        let shared = of(1, 0);
        for limit in [Limit::Header, Limit::Header, Limit::Idle, Limit::Files, Limit::Header] {
            shared.meet(limit);
        }
        assert_eq!(*log.0.lock(), ["header", "files"], "clients keep idle connections as a matter of course");
        let text = Connections(shared).prometheus();
        for (limit, count) in [("header", 3), ("idle", 1), ("files", 1), ("body", 0)] {
            let line = format!("tidemark_http_limits_total{{limit=\"{limit}\"}} {count}\n");
            assert!(text.contains(&line), "{line} is not in {text}");
        }
    }

    #[test]
    fn connections_leave_files_for_the_rest() {
        for files in [FILES_MIN, 256, 1024, 4096, 1 << 20, usize::MAX] {
            let limits = Limits::of_files(files);
            assert!(limits.connections > 0, "{files}");
            assert!(2 * (limits.connections + limits.reserve) <= files - files / 3, "{files}: {limits:?}");
        }
        let limits = Limits::default();
        assert!(limits.connections > 0 && limits.connections <= CONNECTIONS_MAX, "{limits:?}");
    }

    fn of(connections: usize, reserve: usize) -> Arc<Shared> {
        let limits = Limits { connections, reserve, bytes: 10, ..Limits::default() };
        Connections::new(Protocol::Http, Host::real(Arc::new(Time::default)), limits).0
    }

    #[tokio::test]
    async fn the_connection_that_has_waited_for_the_longest_makes_room() {
        let shared = of(2, 1);
        let [first, second] = [shared.slot().unwrap(), shared.slot().unwrap()];
        first.begin();
        let third = shared.slot().expect("the second has no request");
        assert!(second.is_closed() && !first.is_closed() && !third.is_reserved());
        let under_way = [Slot::exchange(&first), Slot::exchange(&third)];
        let reserved = shared.slot().expect("the reserve");
        assert!(reserved.is_reserved());
        let busy = Slot::exchange(&reserved);
        assert!(shared.slot().is_none(), "none of them waits");
        drop(under_way);
        assert!(shared.slot().is_some_and(|slot| !slot.is_reserved()), "both wait for another request");
        drop(busy);
        let text = Connections(Arc::clone(&shared)).prometheus();
        assert!(text.contains("tidemark_http_limits_total{limit=\"connections\"} 4\n"), "{text}");
    }

    #[test]
    fn bytes_are_taken_while_there_is_room_and_given_back() {
        let shared = of(1, 0);
        let exchange = Exchange::begin(Arc::clone(&shared), None);
        assert!(exchange.take(6) && exchange.take(4) && !exchange.is_refused());
        assert!(!exchange.take(1) && exchange.is_refused());
        let other = Exchange::begin(Arc::clone(&shared), None);
        assert!(!other.take(1));
        drop(exchange);
        assert!(other.take(10));
        assert_eq!(shared.met.lock()[&Limit::Bytes], 2);
    }
}
