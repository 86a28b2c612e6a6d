//! Ports that stay reserved while the service behind them is down.

use std::fs::File;
use std::net::TcpListener;
use std::process;
use std::sync::atomic::{AtomicU16, Ordering};

/// Below every range that systems take the ports of outgoing connections from: a client that tries to connect to a
/// service which is down would otherwise be given that very port in the end, and be connected to itself.
const FIRST: u16 = 12_000;
const COUNT: u16 = 18_000;

/// A port of the loopback interface that no other test has, in whatever process, until this is dropped.
#[derive(Debug)]
pub(crate) struct Port {
    number: u16,
    _lock: File,
}

impl Port {
    /// A port that is free.
    pub(crate) fn free() -> Self {
        static NEXT: AtomicU16 = AtomicU16::new(0);
        // Each process begins somewhere else, so that they seldom ask for the same.
        let start = process::id().wrapping_mul(61);
        let candidates = (0..COUNT).map(|_| {
            let nth = u32::from(NEXT.fetch_add(1, Ordering::Relaxed));
            FIRST + (start.wrapping_add(nth) % u32::from(COUNT)) as u16
        });
        candidates.filter_map(Self::take).next().expect("a port is free")
    }

    fn take(number: u16) -> Option<Self> {
        let folder = std::env::temp_dir().join("tidemark-ports");
        std::fs::create_dir_all(&folder).expect("the temporary folder can be written");
        let lock = File::create(folder.join(number.to_string())).ok()?;
        lock.try_lock().ok()?;
        TcpListener::bind(("127.0.0.1", number)).ok()?;
        Some(Self { number, _lock: lock })
    }

    pub(crate) const fn number(&self) -> u16 {
        self.number
    }
}
