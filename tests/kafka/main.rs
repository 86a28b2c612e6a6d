//! Exactly once, with a real broker and a real Redis, whatever breaks.
//!
//! Workers are processes of the real binary. Each test breaks something while records are on their way, and then
//! asks for what [`check`] says: every record of the topic is counted once in both stores, the online state is, byte
//! for byte, what `events` amounts to, and lookups give the sums that the test has kept itself.
//!
//! `TIDEMARK_FAULT_ROUNDS` says how often a worker is killed at random moments; by default eight times.

#![allow(clippy::disallowed_methods, reason = "real services are waited for, and timed, by the real clock")]
#![allow(
    clippy::panic,
    clippy::print_stdout,
    reason = "a test that finds a fault says so, and what its workers said"
)]

use std::io::Write;

use tidemark_services::Kafka;

mod arrivals;
mod broker;
mod check;
mod compacted;
mod compose;
mod definitions;
mod demo;
mod disk;
mod flights;
mod letters;
mod online;
mod traffic;
mod truncated;
mod unusable;
mod upgrade;
mod worker;
mod workers;
mod world;

/// How many rounds a test with random moments has.
fn rounds() -> usize {
    std::env::var("TIDEMARK_FAULT_ROUNDS").map_or(8, |rounds| rounds.parse().expect("a number of rounds"))
}

/// Whether the broker can do what a test needs. If not, says what is left out, past the test runner.
fn is_real(kafka: &Kafka, test: &str) -> bool {
    if !kafka.is_real() {
        leave_out(test, "librdkafka's mock broker cannot have that");
    }
    kafka.is_real()
}

/// Says that a test is left out, past the test runner.
fn leave_out(test: &str, reason: &str) {
    let _ = writeln!(std::io::stderr(), "kafka: left out: {test}: {reason}");
}

/// Says what a test has counted.
fn report(figures: &str) {
    let _ = writeln!(std::io::stderr(), "kafka: {figures}");
}
