//! What a feature *means*.
//!
//! Everything that decides a value is here, once: [`time`], [`window`]s, [`visibility`], [`aggregate`]s, tiles
//! ([`state`]), the compiled [`plan`], whole [`answer`]s, and the canonical bytes of state ([`codec`]). Engines
//! carry it out; they never decide it again. The [`oracle`] says the same a second time, slowly and obviously, and
//! tests hold the two together.
//!
//! This crate must never contain I/O, async, clocks, Kafka, Redis, gRPC, DataFusion or definition syntax. Of Arrow
//! it knows arrays and schemas only.
//!
//! Reading order: [`time`] and [`value`] with [`value::convert`] (what of people's data becomes which value), then
//! [`event`], [`window`] and [`span`], [`aggregate`], [`layout`], [`parts`] and [`state`], [`retention`], [`answer`],
//! [`replay`]; last the [`oracle`]. [`error`] is what the errors of all engines have in common.

pub mod aggregate;
pub mod answer;
pub mod codec;
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
pub use event::{Event, Offset, Order, Partition, Position, Stamp};
pub use key::EntityKey;
pub use layout::Layout;
pub use parts::StateChange;
pub use plan::{FeaturePlan, Fingerprint};
pub use retention::Retention;
pub use service::ServicePlan;
pub use source::SourcePlan;
pub use state::PartitionState;
pub use time::{Span, Time, TimeRange};
pub use token::Token;
pub use value::{FeatureType, Type, Value};
pub use visibility::Visibility;
pub use window::Window;
