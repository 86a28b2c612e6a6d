//! `tidemark`, the command line: it reads arguments, has `tidemark-engine` do the work, and shows the result.
//!
//! Reading order: [`args`] (what can be asked), [`project`] (the repo that a command works on), `commands` (one file
//! each), then their output: [`output`] (results, on stdout), [`progress`] (messages, on stderr), [`log`],
//! [`failure`] (errors and exit codes), [`service`] (signals), [`clock`]. A command that needs stores which a running
//! `tidemark dev` has open is carried out by that process: [`remote`], [`console`].
//!
//! It must never contain anything that a test would want to call: tests run the binary.

#![recursion_limit = "256"]

mod args;
mod clock;
mod commands;
mod console;
mod failure;
mod log;
mod output;
mod progress;
mod project;
#[cfg(test)]
mod reference;
mod remote;
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
