//! The lookup service: what are this entity's features now, or a moment ago?
//!
//! [`Lookups`] answers from the online state of an [`OnlineStore`](tidemark_store::OnlineStore) for a set of
//! services that can be swapped while it runs; [`grpc`] and [`http`] are two ways to ask it. The values are the
//! kernel's: this crate reads states, hands them over and says what it saw.
//!
//! Read in this order:
//! * [`served`]: a service made ready to be looked up, and what a question must name;
//! * `states`: from entities to their stored states, of the right meaning or not at all;
//! * [`answer`]: the one file in which this engine touches what a plan means; `derive`: derived features;
//! * [`lookups`]: all of it, many entities per call;
//! * [`error`]: what can go wrong, and what to do about it;
//! * [`metrics`]: every metric of this crate; `failures`: calls that failed, in the log; `damages`: damaged entities,
//!   each logged once;
//! * [`grpc`] with `wire` and `describe`, [`http`] with [`json`]: the protocols and their conversions;
//! * [`listen`]: the ports.
//!
//! This crate must never contain an aggregate of its own, Kafka or a definition file.

pub mod answer;
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
pub mod served;
mod states;
mod wire;

pub use answer::RowAnswer;
pub use error::{LookupError, RowError};
pub use lookups::{Clock, Lookups, Row};
pub use served::{DefinitionError, Served};
