//! Checks of Tidemark's guarantees, on examples and on real stores.
//!
//! * [`scenario`]: Markdown files of events and expectations, run by every engine;
//! * [`verify`](mod@verify): the online state rebuilt from the event tables and compared byte for byte;
//! * [`demo`]: a month of generated payments, and the comparison of thousands of lookups with training and the
//!   oracle;
//! * [`truth`]: the kernel's oracle asked about whole services;
//! * [`labels`]: training sets read back as answers.
//!
//! This crate must never contain anything that an engine needs: only the `engine` library, the command line and the tests depend on
//! it.

pub mod demo;
pub mod labels;
mod rows;
pub mod scenario;
pub mod truth;
pub mod verify;

pub use rows::WriteError;
