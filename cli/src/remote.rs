//! Commands that a running `tidemark dev` carries out: it has the stores open that they need.
//!
//! A command finds the Unix socket of the repo's `data` folder and sends its arguments in one line of JSON. The process
//! that runs answers with what the command writes, piece by piece, and with its exit code.

use std::ffi::OsString;
use std::fs::{self, Permissions};
use std::io::{self, ErrorKind};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::Parser;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use tidemark_engine::dev::Control;
use tidemark_engine::{EngineError, Folder, Project};
use tidemark_kernel::error;
use tidemark_offline::durable::FileError;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use crate::args::{Arguments, Command, Ingest};
use crate::clock;
use crate::commands::{self, lookup};
use crate::console::{self, CALLER, Caller, Frame};
use crate::failure::{Failure, Result, exit_code_of};
use crate::output::Output;

/// How long no caller is accepted after one could not be.
const PAUSE: Duration = Duration::from_millis(100);

const VERSION: &str = env!("CARGO_PKG_VERSION");

/// A command as it is sent.
#[derive(Debug, Deserialize, Serialize)]
struct Request {
    arguments: Vec<String>,
    /// Where its relative paths begin.
    folder: PathBuf,
    colour: bool,
    input: Option<String>,
}

/// What every version can read of a request.
#[derive(Debug, Deserialize, Serialize)]
struct Envelope {
    version: String,
    request: Value,
}

/// Has a command carried out by the process that runs the repo. False where none does, or the command needs none.
///
/// # Errors
/// Fails with the exit code that it has there, or where that process ends before.
pub(crate) async fn forward(folder: &Folder, command: &Command) -> Result<bool> {
    let Some(stream) = connect(folder).await? else { return Ok(false) };
    if reads_topics_alone(folder, command) {
        return Ok(false);
    }
    let request = line(&Envelope { version: VERSION.to_owned(), request: request(command)? })?;
    let (read, mut write) = stream.into_split();
    write.write_all(request.as_bytes()).await.map_err(stopped)?;
    let mut lines = BufReader::new(read).lines();
    while let Some(line) = lines.next_line().await.map_err(stopped)? {
        match serde_json::from_str(&line).map_err(Failure::defect("read the answer of `tidemark dev`"))? {
            Frame::Out(text) => Output::write(text)?,
            Frame::Said(said) => console::say(said),
            Frame::Exit(0) => return Ok(true),
            Frame::Exit(code) => return Err(Failure::Elsewhere(code)),
        }
    }
    Err(stopped(ErrorKind::UnexpectedEof.into()))
}

/// A worker on a store that is shared needs nothing of the process that runs: it takes its part of the topics.
fn reads_topics_alone(folder: &Folder, command: &Command) -> bool {
    let Command::Ingest(Ingest { source, from, forget, forget_offsets, .. }) = command else { return false };
    if !from.is_empty() || !forget.is_empty() || forget_offsets.is_some() {
        return false;
    }
    let Ok(Some(project)) = Project::applied(folder.clone(), &clock::host()) else { return false };
    let is_asked = |name: &str| source.as_deref().is_none_or(|only| only == name);
    let mut feeds = project.repo.feeds.iter().filter(|(name, _)| is_asked(name));
    !project.is_embedded() && feeds.all(|(_, feed)| feed.kafka().is_some())
}

fn stopped(_: io::Error) -> Failure {
    let help = "run the command again; ingested events are kept";
    Failure::of(error::ErrorKind::Unavailable, "`tidemark dev` stopped before the command finished", help)
}

/// The process that runs the repo; none where there is none.
async fn connect(folder: &Folder) -> Result<Option<UnixStream>> {
    match UnixStream::connect(folder.socket()).await {
        Ok(stream) => Ok(Some(stream)),
        // Of a process that was killed; of another user; or a path that is too long for a socket.
        Err(error)
            if matches!(
                error.kind(),
                ErrorKind::NotFound
                    | ErrorKind::ConnectionRefused
                    | ErrorKind::PermissionDenied
                    | ErrorKind::InvalidInput
            ) =>
        {
            Ok(None)
        }
        Err(error) => Err(stopped(error)),
    }
}

fn request(command: &Command) -> Result<Value> {
    let arguments = std::env::args_os().map(|argument| argument.into_string());
    let not_text = |argument: OsString| {
        let message = format!("{} is not UTF-8", argument.display());
        Failure::mistake(message, "stop `tidemark dev` and run the command again")
    };
    let request = Request {
        arguments: arguments.collect::<Result<_, _>>().map_err(not_text)?,
        folder: std::env::current_dir().map_err(FileError::of("find", Path::new(".")))?,
        colour: console::colour(),
        input: command.rows().map(lookup::lines).transpose()?,
    };
    serde_json::to_value(request).map_err(Failure::defect("write JSON"))
}

fn line(message: &impl Serialize) -> Result<String> {
    serde_json::to_string(message).map(|line| line + "\n").map_err(Failure::defect("write JSON"))
}

/// Where this process takes commands.
pub(crate) struct Socket {
    listener: UnixListener,
    path: PathBuf,
    control: Control,
}

impl Socket {
    /// Takes commands for what `control` runs. The socket is this user's alone. One that is there was left by a process
    /// that was killed: the journal belongs to the process that runs, which is this one.
    ///
    /// # Errors
    /// Fails where there can be no socket, as on a path of more than a hundred bytes.
    pub(crate) fn bind(control: Control) -> io::Result<Self> {
        let path = control.project().folder().socket();
        match fs::remove_file(&path) {
            Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let listener = UnixListener::bind(&path)?;
        let socket = Self { listener, path, control };
        fs::set_permissions(&socket.path, Permissions::from_mode(0o600))?;
        Ok(socket)
    }

    /// Carries out commands until `stop` ends. The error of a command is sent to its caller.
    pub(crate) async fn serve(self, stop: impl Future<Output = ()>) -> Result<(), EngineError> {
        let (mut stop, mut callers) = (std::pin::pin!(stop), JoinSet::new());
        loop {
            tokio::select! {
                () = &mut stop => break,
                accepted = self.listener.accept() => match accepted {
                    Ok((stream, _)) => drop(callers.spawn(answer(stream, self.control.clone()))),
                    // No descriptors are left, for instance.
                    Err(_) => clock::host().sleep(PAUSE).await,
                },
                Some(_) = callers.join_next() => {}
            }
        }
        callers.shutdown().await;
        Ok(())
    }
}

impl Drop for Socket {
    fn drop(&mut self) {
        // One that stays is removed by the next process.
        drop(fs::remove_file(&self.path));
    }
}

/// Carries out the command of one caller. A caller that goes away gets no more output; what it
/// has asked the ingestion for is carried out.
async fn answer(stream: UnixStream, control: Control) {
    let (read, mut write) = stream.into_split();
    let mut lines = BufReader::new(read).lines();
    let Ok(Some(request)) = lines.next_line().await else { return };
    let (frames, mut written) = mpsc::unbounded_channel();
    let mut running = std::pin::pin!(carry_out(request, control, frames));
    let mut code = None;
    loop {
        let frame = tokio::select! {
            biased;
            Some(frame) = written.recv() => frame,
            ended = &mut running, if code.is_none() => {
                code = Some(ended);
                continue;
            }
            _ = lines.next_line(), if code.is_none() => return,
            else => break,
        };
        if send(&mut write, &frame).await.is_err() {
            return;
        }
    }
    drop(send(&mut write, &Frame::Exit(code.unwrap_or_default())).await);
}

async fn send(write: &mut (impl AsyncWriteExt + Unpin), frame: &Frame) -> io::Result<()> {
    let line = serde_json::to_string(frame)? + "\n";
    write.write_all(line.as_bytes()).await
}

/// Carries out a command with the engines that run, and gives its exit code.
async fn carry_out(text: String, control: Control, frames: mpsc::UnboundedSender<Frame>) -> u8 {
    let request = read(&text);
    let (colour, input) = match &request {
        Ok(request) => (request.colour, request.input.clone()),
        Err(_) => (false, None),
    };
    let caller = Caller { frames, colour, input, control };
    CALLER.scope(caller, async move { exit_code_of(given(request).await) }).await
}

fn read(text: &str) -> Result<Request> {
    let not_read = Failure::defect("read the command");
    let Envelope { version, request } = serde_json::from_str(text).map_err(not_read)?;
    if version != VERSION {
        let message =
            format!("the running `tidemark dev` is version {VERSION}, but this command is version {version}");
        return Err(Failure::mistake(message, "use the same version for both"));
    }
    serde_json::from_value(request).map_err(Failure::defect("read the command"))
}

async fn given(request: Result<Request>) -> Result<()> {
    let request = request?;
    // The caller has parsed them as well, so they are right.
    let arguments = Arguments::try_parse_from(&request.arguments);
    let Arguments { global, mut command } = arguments.map_err(Failure::defect("read the command"))?;
    if std::env::current_dir().ok().as_ref() != Some(&request.folder) {
        command.start_paths_at(&request.folder);
    }
    commands::with_stores(command, &global, Output::new(global.format)).await
}
