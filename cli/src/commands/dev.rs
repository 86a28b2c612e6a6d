//! `tidemark dev`: everything in one process.

use std::sync::Arc;

use tidemark_engine::dev::Dev;
use tidemark_engine::{Event, Tell};

use crate::args::{self, Global};
use crate::clock;
use crate::commands::{apply, check, ingest};
use crate::failure::{Result, problems, tell as tell_error};
use crate::output::duration;
use crate::progress::{Bars, say};
use crate::project::folder;
use crate::remote::Socket;
use crate::service::until_signalled;

mod greeting;

pub(super) async fn run(asked: args::Dev, global: &Global) -> Result<()> {
    let bars = Bars::default();
    let tell: Tell = Arc::new(move |event| match event {
        Event::Progress(progress) => bars.ingest(progress),
        event => {
            bars.clear();
            say_event(&event);
        }
    });
    let dev = Dev::open(folder(global)?, asked.listen.into(), &clock::host(), tell).await?;
    let socket = Socket::bind(dev.control());
    let (http, grpc) = dev.addresses()?;
    say(greeting::text(&dev.project, http, grpc));
    let mut service = until_signalled("stopping: letting calls end and committing what was taken in");
    match socket {
        Ok(socket) => {
            let stop = service.stopped();
            service.work(socket.serve(stop));
        }
        Err(error) => say(format_args!("note: cannot accept commands from other terminals: {error}")),
    }
    Ok(dev.run(service).await?)
}

fn say_event(event: &Event<'_>) {
    match event {
        Event::Progress(_) => {}
        Event::Changes(changes) => changes.iter().for_each(say),
        Event::Losses(losses) => apply::warn(losses),
        Event::SettingsLater => say("note: settings in tidemark.yaml take effect at the next start"),
        Event::Refused { error, version } => {
            match problems(*error) {
                Some(problems) => check::show(problems),
                None => tell_error(*error),
            }
            say(format_args!("note: version {version} goes on running until that is fixed"));
        }
        Event::Restored { version } => {
            say(format_args!("the definitions are those of version {version} again"));
        }
        Event::Applied { version, took } => {
            say(format_args!("applied version {version} in {}", duration(*took)));
        }
        Event::Files { project, reports } => ingest::say_files(project, reports),
        Event::NoFiles { source, pattern } => say(format_args!(
            "note: no file at `{pattern}` yet; files that appear there are taken into source {source}"
        )),
        Event::FilesFailed { error, .. } => tell_error(*error),
    }
}
