//! Developer tasks: `cargo xtask TASK`.

use std::process::ExitCode;

mod audit;
mod book;
mod generate;
mod installed;
mod services;
mod test;
mod upgrade;

use upgrade::Earlier;

/// How many rounds `faults` takes unless told.
const FAULT_ROUNDS: u32 = 50;

const USAGE: &str = "usage: cargo xtask TASK

tasks:
  test [FILTER…]       set up what the tests need, build everything, run every test
  faults [--rounds N]  set up as for `test`, and run the fault tests with many rounds each (50)
  simulate             run ingestion and serving in virtual time, with faults as a seed decides
    [--seeds N]          how many seeds (500)
    [--from S]           the first of them (0)
    [--mutant NAME]      with a fault put back, which some seed must find
    [--keep-going]       name every seed that fails, not only the first
  upgrade [REVISION]   replace workers and servers of an earlier version one by one, in a test; REVISION is built first, whole,
                       under target/upgrade: the latest tag before HEAD, else HEAD~1
    [--binary PATH]      the binary of an earlier version, instead of a revision
  generate [--check]   write the code generated from the .proto files, or fail where it is stale
  book                 make a book of docs/ below target/book, with mdBook
  audit                look for bad licenses and known faults of dependencies, unused ones, and misspelt words, with cargo-deny,
                       cargo-machete and typos";

/// The folder of the workspace.
const WORKSPACE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/..");

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let outcome = match arguments.as_slice() {
        ["audit"] => audit::run(),
        ["book"] => book::run(),
        ["generate"] => generate::write(),
        ["generate", "--check"] => generate::check(),
        ["test", filter @ ..] => test::run(filter),
        ["faults"] => test::faults(FAULT_ROUNDS),
        ["faults", "--rounds", rounds] => match rounds.parse() {
            Ok(rounds) => test::faults(rounds),
            Err(_) => return fail(USAGE, 2),
        },
        ["upgrade"] => upgrade::run(&Earlier::Latest),
        ["upgrade", "--binary", path] => upgrade::run(&Earlier::Binary(path)),
        ["upgrade", revision] if !revision.starts_with('-') => upgrade::run(&Earlier::Revision(revision)),
        ["simulate", rest @ ..] => match settings(rest) {
            Some(settings) => test::simulate(&settings),
            None => return fail(USAGE, 2),
        },
        _ => return fail(USAGE, 2),
    };
    outcome.map_or_else(|error| fail(&format!("error: {error:#}"), 1), |()| ExitCode::SUCCESS)
}

/// The variables that tell the simulation what the flags of `simulate` say; none where one of them is unknown.
fn settings<'a>(mut flags: &[&'a str]) -> Option<Vec<(&'static str, &'a str)>> {
    let mut settings = Vec::new();
    loop {
        let (setting, rest) = match flags {
            [] => return Some(settings),
            ["--seeds", value, rest @ ..] => (("TIDEMARK_SIMULATE_SEEDS", *value), rest),
            ["--from", value, rest @ ..] => (("TIDEMARK_SIMULATE_FROM", *value), rest),
            ["--mutant", value, rest @ ..] => (("TIDEMARK_SIMULATE_MUTANT", *value), rest),
            ["--keep-going", rest @ ..] => (("TIDEMARK_SIMULATE_KEEP_GOING", "1"), rest),
            _ => return None,
        };
        settings.push(setting);
        flags = rest;
    }
}

#[allow(clippy::print_stderr)]
fn fail(message: &str, code: u8) -> ExitCode {
    eprintln!("{message}");
    ExitCode::from(code)
}
