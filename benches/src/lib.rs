//! Code that the benchmarks share. Each benchmark is one file beside this folder; `README.md` there says what it
//! measures and what it needs. Run one with `cargo bench -p tidemark-benches --bench kernel`.
//!
//! Reading order: [`shop`] (definitions, and the events they are about), [`engine`] (an ingestion that runs),
//! [`recorder`] (the calls it makes to its store), [`table`] (results as text).
//!
//! Nothing here gives an error back: a benchmark that cannot run has failed.

#![allow(clippy::panic, reason = "a benchmark that cannot run has failed")]

pub mod engine;
pub mod recorder;
pub mod shop;
pub mod table;

use std::str::FromStr;
use std::time::{SystemTime, UNIX_EPOCH};

use tidemark_kernel::Time;

/// The allocator of the `tidemark` binary.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// The wall clock.
#[expect(
    clippy::disallowed_methods,
    reason = "a benchmark is a program: it is where clocks are injected from"
)]
pub fn now() -> Time {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Time::from_millis(i64::try_from(since.as_millis()).unwrap_or(i64::MAX))
}

/// What an environment variable says, or `usual`.
///
/// # Panics
/// Where it says something else.
pub fn setting<T: FromStr>(name: &str, usual: T) -> T {
    let Ok(text) = std::env::var(name) else { return usual };
    text.parse().unwrap_or_else(|_| panic!("{name}={text} is no such number"))
}
