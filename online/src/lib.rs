//! The lookup service: the features of entities now, or at a recent instant.
//!
//! [`Lookups`] answers from the online state of an [`OnlineStore`](tidemark_store::OnlineStore) for a set of
//! services that can be swapped while it runs; [`grpc`] and [`http`] serve it. The values are the
//! kernel's: this crate reads states, passes them to the kernel and returns the answers with their tokens.
//!
//! Read in this order:
//! * [`served`]: a service made ready to be looked up, and what a question must name;
//! * `states`: from entities to their stored states, of the right meaning or not at all;
//! * [`answer`]: the one file in which this engine touches what a plan means; `derive`: derived features;
//! * [`lookups`]: all of it, many entities per call; `admission`: how many rows at once;
//! * [`error`]: what can go wrong, and what to do about it;
//! * [`metrics`]: every metric of this crate; `failures`: calls that failed, in the log; `damages`: damaged entities,
//!   each logged once; `pauses`: lines that would repeat;
//! * [`grpc`] with `wire` and `describe`, [`http`] with [`json`]: the protocols and their conversions;
//! * [`listen`]: the ports; [`connections`]: how many there are, and how long each may take.
//!
//! This crate must never contain an aggregate of its own, Kafka or a definition file.

mod admission;
pub mod answer;
pub mod connections;
mod damages;
mod derive;
mod describe;
pub mod error;
mod failures;
pub mod grpc;
pub mod http;
pub mod json;
pub mod listen;
pub mod lookups;
pub mod metrics;
mod pauses;
pub mod served;
mod states;
mod wire;

pub use admission::RowLimits;
pub use answer::RowAnswer;
pub use connections::{Connections, Limits, Protocol};
pub use error::{LookupError, RowError};
pub use lookups::{Clock, Lookups, Row};
pub use served::{DefinitionError, Served};
