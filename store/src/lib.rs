//! Online stores: the contract that they all fulfil, and the conformance suite that tests it.
//!
//! A store keeps, for each generation of a view, the state of every entity as opaque bytes, and the position up to
//! which each partition was applied. It moves a group of states and their position together or not at all; everything
//! else about exactly once rests on that.
//!
//! Read in this order:
//! * [`contract`]: what every store guarantees, [`OnlineStore`] and the types of its calls;
//! * [`error`]: what can go wrong and what to do about it;
//! * [`sweep`]: which states may be forgotten, a few at a time;
//! * [`memory`]: the contract in its plainest form;
//! * [`embedded`]: the durable store of one process, one file, which [`ensure_database`] creates;
//! * [`redis`](mod@redis): the store of many processes, a Redis;
//! * `conformance` (feature `conformance`): the contract as tests that any store can run.
//!
//! This crate never decodes a state, has no aggregate and no RPC, and reads no clock but the one it is given.

#[cfg(any(test, feature = "conformance"))]
pub mod conformance;
pub mod contract;
mod database;
pub mod embedded;
pub mod error;
pub mod memory;
mod parts;
pub mod redis;
mod sample;
pub mod sweep;

pub use contract::{
    BUCKETS, BucketFlush, Clock, EntityLookup, EntityPages, EntityStates, FlushOutcome, Generation, Loaded,
    NewState, OnlineStore, PartitionStates, Positions, PublishOutcome, Sizes, begun_at, names_every_bucket,
};
pub use database::ensure_database;
pub use embedded::EmbeddedStore;
pub use error::StoreError;
pub use memory::MemoryStore;
pub use redis::{RedisConfig, RedisStore};
pub use sweep::Sweep;
