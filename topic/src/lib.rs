//! The calls of librdkafka that rdkafka lacks: the id of a topic, and leader epochs.
//!
//! A topic that is deleted and created again keeps its name and counts its offsets from 0 again. Only its id shows that
//! it is another one. A partition that is truncated and written again has other records at the same offsets. Only the
//! leader epochs of its records show that. This crate must never contain anything else: it is the only one with unsafe
//! code.

#[allow(unsafe_code)]
mod describe;
#[allow(unsafe_code)]
mod epoch;

pub use describe::{Description, describe};
pub use epoch::{leader_epoch, set_leader_epoch};
