//! Where results and talk go: to the terminal of this process, or, where it runs a command for another one, to that one's.

use std::io::{self, IsTerminal, Write};

use serde::{Deserialize, Serialize};
use tidemark_engine::dev::Control;
use tokio::sync::mpsc::UnboundedSender;

use crate::log;

tokio::task_local! {
    /// The process that gave the command at hand; none where it was given to this one.
    pub(crate) static CALLER: Caller;
}

/// A process that has given this one a command.
#[derive(Clone, Debug)]
pub(crate) struct Caller {
    pub(crate) frames: UnboundedSender<Frame>,
    /// Whether its stderr takes colours.
    pub(crate) colour: bool,
    /// What was written to its stdin, if the command reads that.
    pub(crate) stdin: Option<String>,
    /// The project that this process runs.
    pub(crate) control: Control,
}

/// A piece of what a command comes to.
#[derive(Debug, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Frame {
    /// For stdout.
    Out(String),
    /// For stderr.
    Err(String),
    /// The exit code, after everything else.
    Exit(u8),
}

/// What `ask` says of the caller; none where there is none.
fn of_caller<T>(ask: impl FnOnce(&Caller) -> T) -> Option<T> {
    CALLER.try_with(ask).ok()
}

/// The project that this process runs, where it runs a command for another one.
pub(crate) fn control() -> Option<Control> {
    of_caller(|caller| caller.control.clone())
}

/// Writes to stdout.
///
/// # Errors
/// Fails where it cannot be written.
pub(crate) fn out(text: String) -> io::Result<()> {
    let text = match of_caller(|caller| caller.frames.clone()) {
        // A caller that has gone reads nothing more.
        Some(frames) => return Ok(drop(frames.send(Frame::Out(text)))),
        None => text,
    };
    let mut out = io::stdout().lock();
    out.write_all(text.as_bytes()).and_then(|()| out.flush())
}

/// Writes to stderr, where perhaps nobody reads it.
pub(crate) fn err(text: String) {
    match of_caller(|caller| caller.frames.clone()) {
        Some(frames) => drop(frames.send(Frame::Err(text))),
        None => drop(io::stderr().lock().write_all(text.as_bytes())),
    }
}

/// Everything that comes from stdin.
///
/// # Errors
/// Fails where it cannot be read.
pub(crate) fn stdin() -> io::Result<String> {
    of_caller(|caller| caller.stdin.clone().unwrap_or_default())
        .map_or_else(|| io::read_to_string(io::stdin()), Ok)
}

/// Whether stderr takes colours.
pub(crate) fn colour() -> bool {
    let here = || io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none();
    of_caller(|caller| caller.colour).unwrap_or_else(here)
}

/// Whether a person watches stderr, where bars can move.
pub(crate) fn is_watched() -> bool {
    control().is_none() && io::stderr().is_terminal() && !is_log()
}

/// Whether what is said goes to a log, as JSON.
pub(crate) fn is_log() -> bool {
    control().is_none() && log::is_json()
}
