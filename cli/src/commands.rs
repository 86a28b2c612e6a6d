//! One file for each command.

pub(crate) mod apply;
pub(crate) mod check;
mod compact;
mod dead_letters;
mod demo;
mod dev;
mod ingest;
mod init;
pub(crate) mod lookup;
mod schema;
mod serve;
mod status;
mod test;
mod train;
mod verify;

use tokio::runtime::Builder;

use crate::args::{Arguments, Command, Global};
use crate::failure::{Failure, Result};
use crate::log;
use crate::output::Output;
use crate::project::folder;
use crate::remote;

/// Carries out what was asked.
///
/// # Errors
/// Those of the command.
pub(crate) fn run(arguments: Arguments) -> Result<()> {
    let Arguments { global, command } = arguments;
    log::start(command.logs())?;
    let output = Output::new(global.format);
    let runtime = Builder::new_multi_thread().enable_all().build().map_err(Failure::defect("start"))?;
    runtime.block_on(async {
        match command {
            Command::Demo(demo) => demo::run(&demo, output).await,
            Command::Init(init) => init::run(&init, output),
            Command::Check => check::run(&global, output),
            Command::Schema(schema) => schema::run(schema, output),
            Command::Dev(dev) => dev::run(dev, &global).await,
            Command::Train(train) => train::run(&train, &global, output).await,
            Command::Test(test) => test::run(&test, &global, output).await,
            Command::Serve(serve) => serve::run(serve, &global).await,
            Command::Compact(compact) => compact::run(&compact, &global, output).await,
            command if remote::forward(&folder(&global)?, &command).await? => Ok(()),
            command => with_stores(command, &global, output).await,
        }
    })
}

/// Carries out a command that needs stores: those of a process that runs, or its own.
///
/// # Errors
/// Those of the command.
pub(crate) async fn with_stores(command: Command, global: &Global, output: Output) -> Result<()> {
    match command {
        Command::Apply(asked) => apply::run(asked, global, output).await,
        Command::Ingest(ingest) => ingest::run(&ingest, global, output).await,
        Command::Lookup(lookup) => lookup::run(&lookup, global, output).await,
        Command::Verify(verify) => verify::run(verify, global, output).await,
        Command::Status(asked) => status::run(asked, global, output).await,
        Command::DeadLetters(asked) => dead_letters::run(&asked, global, output).await,
        _ => Err(Failure::mistake(
            "this command cannot run inside `tidemark dev`",
            "stop `tidemark dev` and run it again",
        )),
    }
}
