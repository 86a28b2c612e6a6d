//! The stream of a connection, which fails once a limit is met.

use std::fmt;
use std::io::{self, ErrorKind::TimedOut, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use futures::future::BoxFuture;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tonic::transport::server::Connected;

use super::slot::Slot;

/// A connection with its limits. Reads and writes fail once it has to end, and whatever serves it ends then.
pub(crate) struct Guarded {
    stream: TcpStream,
    slot: Arc<Slot>,
    /// None once it has ended.
    fate: Option<BoxFuture<'static, ()>>,
    /// How many bytes were read.
    read: usize,
}

impl Guarded {
    pub(super) fn new(stream: TcpStream, slot: Arc<Slot>) -> Self {
        let fate: BoxFuture<'static, ()> = Box::pin(Arc::clone(&slot).fate());
        Self { stream, slot, fate: Some(fate), read: 0 }
    }

    pub(crate) const fn slot(&self) -> &Arc<Slot> {
        &self.slot
    }

    /// Fails once the connection has to end; else it is polled again then.
    fn check(&mut self, context: &mut Context<'_>) -> io::Result<()> {
        if let Some(fate) = &mut self.fate {
            if fate.as_mut().poll(context).is_pending() {
                return Ok(());
            }
            self.fate = None;
        }
        Err(TimedOut.into())
    }
}

impl Drop for Guarded {
    fn drop(&mut self) {
        self.slot.leave();
    }
}

impl fmt::Debug for Guarded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Guarded").field("stream", &self.stream).finish_non_exhaustive()
    }
}

impl AsyncRead for Guarded {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.check(context)?;
        let before = into.filled().len();
        let read = ready!(Pin::new(&mut self.stream).poll_read(context, into));
        let more = into.filled().len() - before;
        if more > 0 {
            self.read = self.read.saturating_add(more);
            self.slot.received(self.read);
        }
        Poll::Ready(read)
    }
}

impl AsyncWrite for Guarded {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.check(context)?;
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.check(context)?;
        Pin::new(&mut self.stream).poll_write_vectored(context, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}

impl Connected for Guarded {
    type ConnectInfo = ();

    fn connect_info(&self) -> Self::ConnectInfo {}
}
