//! Opening the ports that are listened on.

use std::borrow::Cow;
use std::io;
use std::net::SocketAddr;

use thiserror::Error;
use tidemark_kernel::error::{ErrorKind, Explain};
use tokio::net::TcpListener;

/// Why a server cannot run.
#[derive(Debug, Error)]
pub enum ServeError {
    /// Another program has the port.
    #[error("port {} of {} is in use", .0.port(), .0.ip())]
    InUse(SocketAddr),
    /// The address cannot be listened on.
    #[error("cannot listen on {address}: {source}")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// The error of the operating system.
        source: io::Error,
    },
    /// The gRPC server stopped.
    #[error("the gRPC server failed: {0}")]
    Grpc(#[from] tonic::transport::Error),
    /// The checked-in descriptors cannot be served.
    #[error("gRPC reflection cannot be offered: {0}")]
    Reflection(#[from] tonic_reflection::server::Error),
}

impl Explain for ServeError {
    fn kind(&self) -> ErrorKind {
        match self {
            Self::InUse(_) => ErrorKind::Environment,
            Self::Listen { source, .. } => source.kind().into(),
            Self::Grpc(_) | Self::Reflection(_) => ErrorKind::Internal,
        }
    }

    fn help(&self) -> Option<Cow<'_, str>> {
        match self {
            Self::InUse(_) => Some("stop the program that has it, or choose another port".into()),
            Self::Listen { .. } | Self::Grpc(_) | Self::Reflection(_) => None,
        }
    }
}

/// Listens on an address; with port 0 on any free one.
///
/// # Errors
/// Fails where the port is in use or the address is not this machine's.
pub async fn listen(address: SocketAddr) -> Result<TcpListener, ServeError> {
    TcpListener::bind(address).await.map_err(|source| match source.kind() {
        io::ErrorKind::AddrInUse => ServeError::InUse(address),
        _ => ServeError::Listen { address, source },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_port_in_use_is_named() {
        let first = listen("127.0.0.1:0".parse().unwrap()).await.unwrap();
        let address = first.local_addr().unwrap();
        let error = listen(address).await.unwrap_err();
        let said = format!(
            "port {} of 127.0.0.1 is in use; stop the program that has it, or choose another port",
            address.port()
        );
        assert_eq!((error.kind(), error.explained()), (ErrorKind::Environment, said));
    }
}
