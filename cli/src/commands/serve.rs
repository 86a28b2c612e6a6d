//! `tidemark serve`: lookups from a store that other processes write.

use tidemark_engine::serve::Server;

use crate::args::{Global, Serve};
use crate::clock;
use crate::failure::Result;
use crate::progress::say;
use crate::project::folder;
use crate::service::until_signalled;

pub(super) async fn run(asked: Serve, global: &Global) -> Result<()> {
    let server = Server::open(folder(global)?, asked.listen.into(), &clock::host()).await?;
    let (http, grpc) = server.addresses()?;
    let (version, name) = (server.project.version, &server.project.repo.project.name);
    if version == 0 {
        say(
            "note: nothing was applied here yet; `tidemark ingest` or `tidemark apply` does, and backfills the views",
        );
    }
    say(format_args!("version {version} of {name} is served at http://{http}, and by gRPC at {grpc}"));
    Ok(server.run(until_signalled("stopping: letting calls end")).await?)
}
