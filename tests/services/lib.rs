//! The real services the tests run on: a Redis, a Kafka broker, and a proxy that breaks connections on command.
//!
//! Each is started in a folder of its own on a free port, and ends with the test binary that started it, however that
//! ends. Reading order: `process` (what ends with its parent), [`Redis`], [`Kafka`], [`Proxy`]. [`compose`] reads what
//! `docker-compose.yml` says of its services.
//!
//! | variable | what it says |
//! |---|---|
//! | `TIDEMARK_REDIS_SERVER` | the `redis-server` to run, else the one of the path, else Docker's |
//! | `TIDEMARK_KAFKA_LIBS` | the folder of Kafka's jars, else what `cargo xtask test` put under `target/`, else Docker's |
//! | `TIDEMARK_TEST_REDIS` | the URL of a Redis for tests that only use one ([`Redis::shared`]) |
//! | `TIDEMARK_TEST_KAFKA` | `host:port` of a broker for tests that only use one ([`Kafka::shared`]) |
//!
//! Nothing here gives an error back where a service cannot be had: a test without its service has failed.

#![allow(clippy::disallowed_methods, reason = "real services are waited for, and timed, by the real clock")]
#![allow(clippy::panic, reason = "a test that cannot have its service has failed")]

pub mod compose;
mod kafka;
mod port;
mod process;
mod proxy;
mod redis;
mod wait;

pub use kafka::{Kafka, Producer, Record};
pub use proxy::Proxy;
pub use redis::{Redis, Snapshot};
pub use wait::until;

use std::collections::hash_map::RandomState;
use std::hash::BuildHasher;

/// `name` with something behind it that no other test has: for topics and key prefixes on a shared service.
pub fn unique(name: &str) -> String {
    format!("{name}-{:016x}", RandomState::new().hash_one(name))
}
