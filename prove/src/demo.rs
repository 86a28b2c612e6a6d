//! The demo: a month of generated payments, and the comparison that shows lookups and training to be equal.
//!
//! The payments have the shapes of real ones: nights and weekends, a few busy users and merchants and many quiet
//! ones, events that arrive hours late, exact ties, bursts of fraud, missing fields. The same seed gives the same
//! files, byte for byte. [`Live`] gives payments of the same shapes, but of the present.

mod compare;
mod files;
mod live;
mod payments;
mod produce;
mod skew;

pub use compare::{
    CheckedLookup, CompareError, Comparison, Engines, Example, ExampleFeature, Latency, Mismatch, compare,
    compare_answers, look_up, questions,
};
pub use files::{write_labels, write_payments};
pub use live::Live;
pub use payments::{Payment, generate};
pub use produce::{DemoTopic, PaymentProducer, ProduceError};

/// How much to generate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shape {
    /// Equal seeds give equal payments.
    pub seed: u64,
    /// How many days, from 2026-10-01 on.
    pub days: u32,
    /// How many payments on an ordinary day; weekends have more, and bursts of fraud come on top.
    pub payments_per_day: u32,
    /// How many users there are; the busiest does a ninth of all payments.
    pub users: u32,
    /// How many merchants there are.
    pub merchants: u32,
    /// How many bursts of fraud there are.
    pub bursts: u32,
}

impl Default for Shape {
    /// A month of some 300,000 payments.
    fn default() -> Self {
        Self { seed: 1, days: 30, payments_per_day: 9_500, users: 5_000, merchants: 800, bursts: 120 }
    }
}

impl Shape {
    /// How many labels the demo samples from its payments.
    pub const LABELS: usize = 20_000;
    /// How many lookups it makes and compares.
    pub const LOOKUPS: usize = 2_000;
}
