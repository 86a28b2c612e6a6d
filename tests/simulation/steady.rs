//! Load without a pause: whatever comes all the time must not hold up what comes seldom.

use std::sync::Arc;
use std::time::Duration;

use tidemark_kernel::{Log, Position};
use tidemark_offline::TableKind;
use tokio::task::JoinSet;

use crate::run::{Project, keep_running};
use crate::script::definitions;

/// For how long pushes come without a pause.
const LOAD: Duration = Duration::from_secs(12);

/// How late a commit may be: its rule says a second, and what it takes comes on top.
const COMMIT: Duration = Duration::from_secs(3);

/// How late status and definitions may be.
const ANSWER: Duration = Duration::from_secs(3);

/// Pushes from several senders, each the next as soon as the last is acknowledged.
///
/// # Errors
/// Names what had to wait for too long.
pub(crate) async fn pushes(project: Arc<Project>) -> Result<(), String> {
    let world = Arc::clone(&project.world);
    let mut tasks = JoinSet::new();
    tasks.spawn(keep_running(Arc::clone(&project), 0));
    while project.alive(0).is_none() {
        world.sleep(100).await;
    }
    for _ in 0..4 {
        let project = Arc::clone(&project);
        tasks.spawn(async move { while project.push_once().await {} });
    }
    let (mut seen, mut since, mut round) = (Position::START, world.elapsed(), 0);
    while world.elapsed() < LOAD {
        world.sleep(250).await;
        let table = project.offline.version("clicks", TableKind::Events);
        let committed = table.and_then(|table| table.positions.get(&Log::PUSH).copied()).unwrap_or_default();
        if committed > seen {
            (seen, since) = (committed, world.elapsed());
        } else if world.elapsed() - since > COMMIT {
            return Err(format!("no commit since {since:?}, at {seen}"));
        }
        round += 1;
        if round % 12 == 0 {
            answer(&project, round / 12).await?;
        }
    }
    Ok(())
}

/// Asks for the status, and for other definitions.
async fn answer(project: &Project, version: usize) -> Result<(), String> {
    let (world, handle) = (&project.world, project.alive(0).ok_or("the worker has ended")?.handle);
    let began = world.elapsed();
    handle.status().await.map_err(|error| error.to_string())?;
    let told = world.elapsed() - began;
    project.define(version);
    let definitions = definitions(version);
    let reloaded = handle.reload(definitions.sources.clone(), definitions.views.clone());
    reloaded.await.map_err(|error| error.to_string())?;
    let changed = world.elapsed() - began - told;
    if told > ANSWER || changed > ANSWER {
        return Err(format!("status took {told:?}, definitions {changed:?}"));
    }
    Ok(())
}
