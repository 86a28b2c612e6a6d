//! `tidemark`, the one binary: the only place where the parts are wired together.
//!
//! Reading order: [`args`] (what can be asked), [`project`] (a repo with its stores and engines), [`service`] (running
//! until stopped), `commands` (one file each), then what they speak through: [`output`] (results, on stdout),
//! [`progress`] (talk, on stderr), [`log`], [`failure`] (errors and exit codes), [`clock`].
//!
//! It must never contain anything that a test would want to call: tests run the binary.

mod args;
mod clock;
mod commands;
mod failure;
mod histories;
mod log;
mod newer;
mod output;
mod progress;
mod project;
mod service;

use std::process::ExitCode;

use clap::Parser;

/// States are many small pieces that one thread makes and another one drops: the allocator of glibc keeps a third more memory for
/// them.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    let arguments = args::Arguments::parse();
    failure::report(commands::run(arguments))
}
