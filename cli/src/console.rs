//! The streams for results and messages: those of this process, or, where it runs a command for another process, of
//! that one.

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
    /// The rows of a lookup, if it has them in a file or on stdin.
    pub(crate) input: Option<String>,
    /// The project that this process runs.
    pub(crate) control: Control,
}

/// One piece of a command's output.
#[derive(Debug, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Frame {
    /// For stdout.
    Out(String),
    /// For stderr.
    Said(Said),
    /// The exit code, after everything else.
    Exit(u8),
}

/// Something to say on stderr.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub(crate) struct Said {
    pub(crate) level: Level,
    /// The kind of an error, where it has one.
    pub(crate) kind: Option<String>,
    pub(crate) message: String,
    /// What to do, one suggestion per line.
    pub(crate) help: Option<String>,
}

/// How bad something is.
#[derive(Clone, Copy, Debug, Deserialize, Serialize, PartialEq, Eq)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Level {
    /// Talk: what goes on.
    Note,
    /// The command did what it was asked for, and the result may not be what is wanted.
    Warning,
    /// The command did not do what it was asked for.
    Error,
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
    if let Some(frames) = of_caller(|caller| caller.frames.clone()) {
        // A caller that has gone reads nothing more.
        drop(frames.send(Frame::Out(text)));
        return Ok(());
    }
    let mut out = io::stdout().lock();
    out.write_all(text.as_bytes()).and_then(|()| out.flush())
}

/// Writes a message to stderr, as text or as a line of JSON. A closed stderr is not an error.
pub(crate) fn say(said: Said) {
    if let Some(frames) = of_caller(|caller| caller.frames.clone()) {
        return drop(frames.send(Frame::Said(said)));
    }
    let Said { level, kind, message, help } = said;
    if log::is_json() {
        let (kind, help, message) = (kind.as_deref(), help.as_deref(), message.trim());
        return match level {
            Level::Note => tracing::info!("{message}"),
            Level::Warning => tracing::warn!(help, "{message}"),
            Level::Error => tracing::error!(kind, help, "{message}"),
        };
    }
    let name = match level {
        Level::Note => "",
        Level::Warning => "warning: ",
        Level::Error => "error: ",
    };
    let advice: String =
        help.iter().flat_map(|help| help.lines()).map(|line| format!("\nhelp: {line}")).collect();
    drop(writeln!(io::stderr().lock(), "{name}{message}{advice}"));
}

/// The text that the caller has sent with the command.
pub(crate) fn input() -> Option<String> {
    of_caller(|caller| caller.input.clone()).flatten()
}

/// Whether stderr takes colours.
pub(crate) fn colour() -> bool {
    let here = || io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none();
    of_caller(|caller| caller.colour).unwrap_or_else(here)
}

/// Whether there is a person to ask: one who sees stderr and types on stdin, at this process.
pub(crate) fn can_ask() -> bool {
    is_watched() && io::stdin().is_terminal()
}

/// Asks the person at the terminal, and says whether the answer is yes. Anything else, and no answer, is no.
pub(crate) fn ask(question: &str) -> bool {
    let mut stderr = io::stderr().lock();
    if stderr.write_all(question.as_bytes()).and_then(|()| stderr.flush()).is_err() {
        return false;
    }
    let mut answer = String::new();
    let is_read = io::stdin().read_line(&mut answer).is_ok();
    is_read && matches!(answer.trim().to_ascii_lowercase().as_str(), "y" | "yes")
}

/// Whether a person watches stderr, where bars can move.
pub(crate) fn is_watched() -> bool {
    control().is_none() && io::stderr().is_terminal() && !log::is_json()
}
