//! Commands that a running `tidemark dev` carries out: it has the stores open that they need.
//!
//! A command finds the Unix socket of the repo's `data` folder and sends its arguments in one line of JSON. The process
//! that runs answers with what the command writes, piece by piece, and with its exit code.

use std::fs::{self, Permissions};
use std::io::{self, ErrorKind};
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

use clap::Parser;
use serde::{Deserialize, Serialize};
use tidemark_engine::Folder;
use tidemark_engine::dev::Control;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use crate::args::{Arguments, Command};
use crate::commands;
use crate::console::{self, CALLER, Caller, Frame};
use crate::failure::{Failure, Result, exit_code_of};
use crate::output::Output;
use crate::progress::say;

const VERSION: &str = env!("CARGO_PKG_VERSION");

/// A command as it is sent.
#[derive(Debug, Deserialize, Serialize)]
struct Request {
    version: String,
    arguments: Vec<String>,
    /// Where its relative paths begin.
    folder: PathBuf,
    colour: bool,
    stdin: Option<String>,
}

/// Has a command carried out by the process that runs the repo. False where none does.
///
/// # Errors
/// Fails with the exit code that it has there, or where that process ends before.
pub(crate) async fn forward(folder: &Folder, command: &Command) -> Result<bool> {
    let Some(stream) = connect(folder).await? else { return Ok(false) };
    let request = request(command)?;
    let (read, mut write) = stream.into_split();
    let sent = write.write_all(line(&request)?.as_bytes()).await;
    sent.map_err(Failure::defect("send the command to `tidemark dev`"))?;
    let mut lines = BufReader::new(read).lines();
    while let Some(line) = lines.next_line().await.map_err(Failure::defect("hear from `tidemark dev`"))? {
        match serde_json::from_str(&line).map_err(Failure::defect("understand `tidemark dev`"))? {
            Frame::Out(text) => Output::write(text)?,
            Frame::Err(text) => console::err(text),
            Frame::Exit(0) => return Ok(true),
            Frame::Exit(code) => return Err(Failure::Elsewhere(code)),
        }
    }
    let message = "`tidemark dev` has ended before the command was done";
    Err(Failure::mistake(message, "give it again; what was taken in stays so"))
}

/// The process that runs the repo; none where there is none.
async fn connect(folder: &Folder) -> Result<Option<UnixStream>> {
    match UnixStream::connect(folder.socket()).await {
        Ok(stream) => Ok(Some(stream)),
        // Of a process that was killed; or a path that is too long for a socket.
        Err(error)
            if matches!(
                error.kind(),
                ErrorKind::NotFound | ErrorKind::ConnectionRefused | ErrorKind::InvalidInput
            ) =>
        {
            Ok(None)
        }
        Err(error) => Err(Failure::defect("reach `tidemark dev`")(error)),
    }
}

fn request(command: &Command) -> Result<Request> {
    let arguments = std::env::args_os().map(|argument| argument.to_string_lossy().into_owned());
    let read = || console::stdin().map_err(Failure::defect("read stdin"));
    Ok(Request {
        version: VERSION.to_owned(),
        arguments: arguments.collect(),
        folder: std::env::current_dir().map_err(Failure::defect("find the current folder"))?,
        colour: console::colour(),
        stdin: command.reads_stdin().then(read).transpose()?,
    })
}

fn line(message: &impl Serialize) -> Result<String> {
    serde_json::to_string(message).map(|line| line + "\n").map_err(Failure::defect("write JSON"))
}

/// Carries out commands of other processes until `stop` ends. Where that is not possible, it is said, and everything else
/// goes on.
pub(crate) async fn serve(control: Control, stop: impl Future<Output = ()>) {
    let path = control.project().folder().socket();
    let listener = match bind(&path) {
        Ok(listener) => listener,
        Err(error) => {
            say(format_args!("note: commands in other terminals cannot use what runs here: {error}"));
            return stop.await;
        }
    };
    let (mut stop, mut callers) = (std::pin::pin!(stop), JoinSet::new());
    loop {
        tokio::select! {
            () = &mut stop => break,
            Ok((stream, _)) = listener.accept() => drop(callers.spawn(answer(stream, control.clone()))),
            Some(_) = callers.join_next() => {}
        }
    }
    callers.shutdown().await;
    drop(fs::remove_file(path));
}

/// The socket is this user's alone. One that is there was left by a process that was killed: whoever runs the repo has its
/// journal, and this process has that.
fn bind(path: &PathBuf) -> io::Result<UnixListener> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let listener = UnixListener::bind(path)?;
    fs::set_permissions(path, Permissions::from_mode(0o600))?;
    Ok(listener)
}

/// Carries out the command of one caller. A caller that goes away gives it up.
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
async fn carry_out(request: String, control: Control, frames: mpsc::UnboundedSender<Frame>) -> u8 {
    let request: Request = match serde_json::from_str(&request) {
        Ok(request) => request,
        Err(error) => return exit_code_of(Err(Failure::defect("understand the command")(error))),
    };
    let caller = Caller { frames, colour: request.colour, stdin: request.stdin.clone(), control };
    CALLER.scope(caller, async move { exit_code_of(given(request).await) }).await
}

async fn given(request: Request) -> Result<()> {
    if request.version != VERSION {
        let message = format!("`tidemark dev` here has version {VERSION}, this command {}", request.version);
        return Err(Failure::mistake(message, "use one version of both"));
    }
    // The caller has parsed them as well, so they are right.
    let arguments = Arguments::try_parse_from(&request.arguments);
    let Arguments { global, mut command } = arguments.map_err(Failure::defect("understand the command"))?;
    if std::env::current_dir().ok().as_ref() != Some(&request.folder) {
        command.start_paths_at(&request.folder);
    }
    commands::with_stores(command, &global, Output::new(global.format)).await
}
