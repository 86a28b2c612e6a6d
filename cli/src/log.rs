//! Logs of long-running commands, on stderr.

use std::env;
use std::io;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

use tracing_subscriber::EnvFilter;

use crate::args::LogForm;
use crate::console;
use crate::failure::{Failure, Result};

/// The environment variable that says how much is logged.
const VARIABLE: &str = "TIDEMARK_LOG";

/// What a service logs, and what a command does that ends soon.
const USUAL: [&str; 2] = ["warn,tidemark=info", "error,tidemark=warn"];

/// Whether everything on stderr is JSON.
static JSON: AtomicBool = AtomicBool::new(false);

/// From now on logs go to stderr: of a service in that form, of any other command only what went wrong.
///
/// # Errors
/// Fails where the environment says how much, and cannot be understood.
pub(crate) fn start(service: Option<LogForm>) -> Result<()> {
    let usual = USUAL[usize::from(service.is_none())];
    let wanted = env::var(VARIABLE).ok().filter(|wanted| !wanted.is_empty());
    let filter = EnvFilter::try_new(wanted.as_deref().unwrap_or(usual)).map_err(|error| {
        let message = format!("{VARIABLE} cannot be understood: {error}");
        Failure::mistake(message, "write `debug`, or `warn,tidemark_ingest=debug`")
    })?;
    let logs = tracing_subscriber::fmt().with_env_filter(filter).with_writer(io::stderr);
    let started = match service {
        Some(LogForm::Json) => {
            JSON.store(true, Relaxed);
            logs.json().flatten_event(true).with_current_span(false).with_span_list(false).try_init()
        }
        Some(LogForm::Text) | None => logs.with_ansi(console::colour()).with_target(false).try_init(),
    };
    started.map_err(Failure::defect("start the log"))
}

/// Whether whatever is said on stderr is said to machines.
pub(crate) fn is_json() -> bool {
    JSON.load(Relaxed)
}
