//! Tests of all of ingestion, from partitions to both stores, with everything that may go wrong in between.

#![allow(clippy::disallowed_methods, reason = "real services are waited for, and timed, by the real clock")]

mod arrivals;
mod changed;
mod definitions;
mod dividing;
pub(crate) mod faults;
mod files;
pub(crate) mod fixture;
mod forgetting;
mod idle;
mod lost;
mod push;
mod reader;
mod repeated;
mod retracting;
mod retries;
mod rivals;
mod stalled;
mod views;
