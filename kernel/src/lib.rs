//! The semantics of features: what value a feature has, as pure functions.
//!
//! Everything that decides a value is here, once: how a record becomes an event ([`source`]), [`time`], [`window`]s, [`visibility`], [`aggregate`]s, tiles
//! ([`state`]), the compiled [`plan`], whole [`answer`]s, and the canonical bytes of state ([`codec`]). Engines
//! call it and have no rules of their own. The [`oracle`] computes the same values in the simplest way, and tests
//! compare the two.
//!
//! This crate must never contain I/O, async, clocks, Kafka, Redis, gRPC, DataFusion or definition syntax. Of Arrow
//! it knows arrays and schemas only.
//!
//! Where records come from and how they get here is not its business: brokers, files and requests end before it.
//!
//! Reading order, in which no module uses a later one:
//!
//! 1. What everything is made of: [`error`] (what the errors of all engines have in common), [`codec`] (the primitives of stored
//!    bytes), [`time`], [`value`] with [`value::convert`] (what of people's data becomes which value).
//! 2. From records to events: [`event`], [`unique`] (records that were sent twice), [`source`] (which records are accepted), [`key`].
//! 3. What a view computes: [`exact`] (sums without an order), [`aggregate`], [`window`], [`layout`], [`plan`] with the
//!    fingerprint, [`service`].
//! 4. States and answers: [`span`] (how tiles grow), [`parts`], [`state`], [`retention`], [`answer`], [`visibility`], [`replay`],
//!    [`token`].
//! 5. Last the [`oracle`].

pub mod aggregate;
pub mod answer;
pub mod codec;
mod defect;
pub mod error;
pub mod event;
pub mod exact;
pub mod key;
pub mod layout;
pub mod oracle;
pub mod parts;
pub mod plan;
pub mod replay;
pub mod retention;
pub mod service;
pub mod source;
pub mod span;
pub mod state;
pub mod time;
pub mod token;
pub mod unique;
pub mod value;
pub mod visibility;
pub mod window;

pub use answer::{Answer, Status};
pub use error::{ErrorKind, Explain};
pub use event::{Event, Offset, Order, Partition, PartitionKind, Position, PositionRange, Stamp};
pub use key::EntityKey;
pub use layout::Layout;
pub use parts::StateChange;
pub use plan::{FeaturePlan, Fingerprint};
pub use retention::Retention;
pub use service::{ServicePlan, ServiceView};
pub use source::SourcePlan;
pub use state::PartitionState;
pub use time::{Span, Time, TimeRange};
pub use token::Token;
pub use value::{FeatureType, Type, Value};
pub use visibility::Visibility;
pub use window::Window;
