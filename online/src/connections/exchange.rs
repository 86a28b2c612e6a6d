//! One request and its answer, and the bodies that count for it.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed};
use std::task::{Context, Poll, ready};

use axum::BoxError;
use axum::body::Bytes;
use hyper::body::{Body, Frame, SizeHint};
use thiserror::Error;

use super::slot::Slot;
use super::{Limit, Shared};

/// A request that is being received or answered. Dropped once its answer is taken, it gives back what it has taken.
pub(crate) struct Exchange {
    shared: Arc<Shared>,
    /// The connection that has no other request meanwhile.
    slot: Option<Arc<Slot>>,
    /// Bytes of its body so far.
    bytes: AtomicUsize,
    is_refused: AtomicBool,
}

impl Exchange {
    pub(super) fn begin(shared: Arc<Shared>, slot: Option<Arc<Slot>>) -> Arc<Self> {
        let (bytes, is_refused) = (AtomicUsize::new(0), AtomicBool::new(false));
        Arc::new(Self { shared, slot, bytes, is_refused })
    }

    /// Takes room for more of the body, if there is any.
    pub(super) fn take(&self, bytes: usize) -> bool {
        let taken = self.shared.take(bytes);
        if taken {
            self.bytes.fetch_add(bytes, Relaxed);
        } else if !self.is_refused.swap(true, Relaxed) {
            self.shared.meet(Limit::Bytes);
        }
        taken
    }

    /// Whether its body was broken off because there was no room.
    pub(crate) fn is_refused(&self) -> bool {
        self.is_refused.load(Relaxed)
    }

    /// How many bytes the bodies of all requests may have.
    pub(crate) fn bytes_max(&self) -> usize {
        self.shared.limits.bytes
    }

    /// How many connections there may be.
    pub(crate) fn connections_max(&self) -> usize {
        self.shared.limits.connections
    }
}

impl Drop for Exchange {
    fn drop(&mut self) {
        self.shared.bytes.fetch_sub(self.bytes.load(Relaxed), Relaxed);
        if let Some(slot) = &self.slot {
            slot.end();
        }
    }
}

/// There is no room for more of a body.
#[derive(Debug, Error)]
#[error("the requests under way are too large together")]
struct NoRoom;

/// The body of a request, while it comes in.
pub(crate) struct Received<B> {
    body: B,
    exchange: Arc<Exchange>,
}

impl<B> Received<B> {
    pub(crate) const fn new(body: B, exchange: Arc<Exchange>) -> Self {
        Self { body, exchange }
    }
}

impl<B> Drop for Received<B> {
    /// It was received to its end, or is not wanted.
    fn drop(&mut self) {
        if let Some(slot) = &self.exchange.slot {
            slot.answer();
        }
    }
}

impl<B> Body for Received<B>
where
    B: Body<Data = Bytes> + Unpin,
    B::Error: Into<BoxError>,
{
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let frame = ready!(Pin::new(&mut self.body).poll_frame(context));
        let length = |frame: &Frame<Bytes>| frame.data_ref().map_or(0, Bytes::len);
        Poll::Ready(frame.map(|frame| match frame {
            Ok(frame) if !self.exchange.take(length(&frame)) => Err(NoRoom.into()),
            frame => frame.map_err(Into::into),
        }))
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// A body that holds something until it is sent.
pub(crate) struct Held<B, G> {
    body: B,
    _guard: G,
}

impl<B, G> Held<B, G> {
    pub(crate) const fn new(body: B, guard: G) -> Self {
        Self { body, _guard: guard }
    }
}

impl<B: Body + Unpin, G: Unpin> Body for Held<B, G> {
    type Data = B::Data;
    type Error = B::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<B::Data>, B::Error>>> {
        Pin::new(&mut self.body).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// A whole text that is sent in pieces, so that what it holds is let go of when nearly all of it is sent, and not once all of it
/// waits to be.
pub(crate) struct Pieces(Bytes);

/// How much is handed to the connection at once.
const PIECE: usize = 64 << 10;

impl Pieces {
    pub(crate) const fn new(text: Bytes) -> Self {
        Self(text)
    }
}

impl Body for Pieces {
    type Data = Bytes;
    type Error = std::convert::Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        if self.0.is_empty() {
            return Poll::Ready(None);
        }
        let piece = self.0.len().min(PIECE);
        Poll::Ready(Some(Ok(Frame::data(self.0.split_to(piece)))))
    }

    fn is_end_stream(&self) -> bool {
        self.0.is_empty()
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.0.len() as u64)
    }
}
