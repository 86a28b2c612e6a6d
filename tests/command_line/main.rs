//! The binary as users run it: its output, its files, and its exit codes.
//!
//! `cargo build --workspace` builds it first; `cargo xtask test` does.

#![allow(clippy::disallowed_methods, reason = "real services are waited for, and timed, by the real clock")]

mod arrivals;
mod away;
mod bad_input;
mod beside_dev;
mod compact;
mod containers;
mod corrected;
mod damage;
mod dead_letters;
mod demo;
mod deployments;
mod dev;
mod docs;
mod fields;
mod happy_path;
mod http;
mod inputs;
mod labels;
mod lost;
mod process;
mod repo;
mod roles;
mod running;
mod schema;
mod tables;
mod taken_away;
mod unusable;
mod versions;
