//! What holds across crates, one test binary for each area:
//!
//! * `arrows`: which crate may know which;
//! * `scenarios`: Markdown files of events and expectations, run by every engine;
//! * `parity`: random plans and streams, lookup = training set = oracle;
//! * `faults`: ingestion killed at any moment;
//! * `command_line`: the binary as people run it.
