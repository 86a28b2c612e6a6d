//! Developer tasks: `cargo xtask TASK`.

use std::process::ExitCode;

mod generate;
mod services;
mod test;

/// How many rounds `faults` takes unless told.
const FAULT_ROUNDS: u32 = 50;

const USAGE: &str = "usage: cargo xtask TASK

tasks:
  test [FILTER…]       set up what the tests need, build everything, run every test
  faults [--rounds N]  set up as for `test`, and run the fault tests with many rounds each (50)
  generate [--check]   write the code generated from the .proto files, or fail where it is stale";

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let outcome = match arguments.as_slice() {
        ["generate"] => generate::write(),
        ["generate", "--check"] => generate::check(),
        ["test", filter @ ..] => test::run(filter),
        ["faults"] => test::faults(FAULT_ROUNDS),
        ["faults", "--rounds", rounds] => match rounds.parse() {
            Ok(rounds) => test::faults(rounds),
            Err(_) => return fail(USAGE, 2),
        },
        _ => return fail(USAGE, 2),
    };
    outcome.map_or_else(|error| fail(&format!("error: {error:#}"), 1), |()| ExitCode::SUCCESS)
}

#[allow(clippy::print_stderr)]
fn fail(message: &str, code: u8) -> ExitCode {
    eprintln!("{message}");
    ExitCode::from(code)
}
