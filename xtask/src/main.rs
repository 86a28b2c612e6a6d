//! Developer tasks: `cargo xtask TASK`.

use std::process::ExitCode;

mod generate;
mod test;

const USAGE: &str = "usage: cargo xtask TASK

tasks:
  test [FILTER…]       set up what the tests need, build everything, run every test
  generate [--check]   write the code generated from the .proto files, or fail where it is stale";

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let outcome = match arguments.as_slice() {
        ["generate"] => generate::write(),
        ["generate", "--check"] => generate::check(),
        ["test", filter @ ..] => test::run(filter),
        _ => return fail(USAGE, 2),
    };
    outcome.map_or_else(|error| fail(&format!("error: {error:#}"), 1), |()| ExitCode::SUCCESS)
}

#[allow(clippy::print_stderr)]
fn fail(message: &str, code: u8) -> ExitCode {
    eprintln!("{message}");
    ExitCode::from(code)
}
