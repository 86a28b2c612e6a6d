//! One connection, as the server's limits see it.

use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::Notify;

use super::exchange::Exchange;
use super::{Limit, Limits, Protocol, Shared};

/// The place of one connection among all of them.
pub(crate) struct Slot {
    shared: Arc<Shared>,
    number: u64,
    is_reserved: bool,
    phase: Mutex<Phase>,
    closed: Notify,
}

/// What the connection is doing, and since when by [`Host::uptime`](tidemark_host::Host::uptime).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// Nothing was sent since the last answer.
    Idle(Duration),
    /// A request has begun.
    Header(Duration),
    /// Its header is in.
    Body(Duration),
    /// Its body is in.
    Answer(Duration),
    /// Calls come and go; a byte came last then.
    Calls(Duration),
    /// It makes room for another one.
    Closed,
}

/// The preface of HTTP/2, with which every connection of gRPC begins.
const PREFACE: usize = 24;

impl Slot {
    pub(super) fn new(shared: Arc<Shared>, number: u64, is_reserved: bool) -> Self {
        let phase = Mutex::new(Phase::Idle(shared.host.uptime()));
        Self { shared, number, is_reserved, phase, closed: Notify::new() }
    }

    pub(super) const fn number(&self) -> u64 {
        self.number
    }

    /// Whether it was let in beyond the limit, for a health check.
    pub(crate) const fn is_reserved(&self) -> bool {
        self.is_reserved
    }

    /// Since when it waits for a request; none while it has one.
    pub(super) fn waiting_since(&self) -> Option<Duration> {
        match *self.phase.lock() {
            Phase::Idle(since) | Phase::Header(since) => Some(since),
            Phase::Body(_) | Phase::Answer(_) | Phase::Calls(_) | Phase::Closed => None,
        }
    }

    /// Makes the connection end.
    pub(super) fn close(&self) {
        *self.phase.lock() = Phase::Closed;
        self.closed.notify_one();
    }

    #[cfg(test)]
    pub(super) fn is_closed(&self) -> bool {
        *self.phase.lock() == Phase::Closed
    }

    /// More was sent: `total` bytes since the connection was opened.
    pub(super) fn received(&self, total: usize) {
        let now = self.shared.host.uptime();
        self.change(|phase| match (phase, self.shared.server) {
            (Phase::Idle(_) | Phase::Header(_) | Phase::Calls(_), Protocol::Grpc) if total > PREFACE => {
                Phase::Calls(now)
            }
            (Phase::Idle(_), _) => Phase::Header(now),
            (phase, _) => phase,
        });
    }

    /// The header of a request is in.
    pub(super) fn begin(&self) {
        let now = self.shared.host.uptime();
        self.change(|_| Phase::Body(now));
    }

    /// A request whose header is in, until its answer is taken.
    pub(crate) fn exchange(this: &Arc<Self>) -> Arc<Exchange> {
        this.begin();
        Exchange::begin(Arc::clone(&this.shared), Some(Arc::clone(this)))
    }

    /// The body of the request is in.
    pub(super) fn answer(&self) {
        let now = self.shared.host.uptime();
        self.change(|phase| if matches!(phase, Phase::Body(_)) { Phase::Answer(now) } else { phase });
    }

    /// The answer is taken.
    pub(super) fn end(&self) {
        let now = self.shared.host.uptime();
        self.change(|_| Phase::Idle(now));
    }

    fn change(&self, to: impl FnOnce(Phase) -> Phase) {
        let mut phase = self.phase.lock();
        if *phase != Phase::Closed {
            *phase = to(*phase);
        }
    }

    /// The connection is gone.
    pub(super) fn leave(&self) {
        self.shared.leave(self.number);
    }

    /// Ends when the connection has to: once it has met a limit, which is counted, or makes room.
    pub(super) async fn fate(self: Arc<Self>) {
        let limits = self.shared.limits;
        // Phases may end earlier than the one that was looked at, so none is slept through.
        let shortest = limits.header.min(limits.body).min(limits.answer).min(limits.idle);
        let often = (shortest / 4).max(Duration::from_millis(1));
        loop {
            let Some((until, limit)) = self.phase.lock().deadline(&limits) else { return };
            let left = until.saturating_sub(self.shared.host.uptime());
            if left.is_zero() {
                self.shared.meet(limit);
                return;
            }
            tokio::select! {
                biased;
                () = self.closed.notified() => {}
                () = self.shared.host.sleep(left.min(often)) => {}
            }
        }
    }
}

impl Phase {
    /// When it has to end, and which limit that is; none where it has to at once.
    fn deadline(self, limits: &Limits) -> Option<(Duration, Limit)> {
        match self {
            Self::Idle(since) | Self::Calls(since) => Some((since + limits.idle, Limit::Idle)),
            Self::Header(since) => Some((since + limits.header, Limit::Header)),
            Self::Body(since) => Some((since + limits.body, Limit::Body)),
            Self::Answer(since) => Some((since + limits.answer, Limit::Answer)),
            Self::Closed => None,
        }
    }
}
