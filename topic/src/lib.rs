//! The id of a Kafka topic: the one call that rdkafka lacks.
//!
//! A topic that is deleted and created again keeps its name and counts its offsets from 0 anew. Only its id tells
//! that it is another one. This crate must never contain anything else: it is the only one with unsafe code.

#[allow(unsafe_code)]
mod describe;

pub use describe::{Description, describe};
