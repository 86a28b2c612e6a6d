//! The faults of a run, one after the other, some of them at once.

use std::sync::Arc;

use tidemark_ingest::IngestError;
use tokio::task::JoinSet;

use crate::run::{Project, WORKERS};
use crate::script::VERSIONS;
use crate::world::Weather;

/// How many things go wrong in a run.
const FAULTS: u64 = 24;

/// Breaks things for a while; what was broken is whole again at the end.
pub(crate) async fn trouble(project: Arc<Project>) {
    let world = &project.world;
    let mut under_way = JoinSet::new();
    let mut snapshot = project.store.snapshot();
    for number in 0..FAULTS {
        world.sleep(world.draw(200..2500)).await;
        if number % 3 == 0 {
            snapshot = project.store.snapshot();
        }
        match world.draw(0..23) {
            0..4 => kill(&project, world.draw(0..WORKERS as u64) as usize),
            4 => weather(&project, &mut under_way, "store away", |weather, is| weather.store_away = is),
            5 => weather(&project, &mut under_way, "store slow", |weather, is| weather.store_slow = is),
            6..9 => weather(&project, &mut under_way, "calls failing", |weather, is| {
                weather.failing = if is { 8 } else { 0 };
            }),
            9 => weather(&project, &mut under_way, "table full", |weather, is| weather.tables_full = is),
            10 => weather(&project, &mut under_way, "table slow", |weather, is| weather.tables_slow = is),
            11 => weather(&project, &mut under_way, "journal full", |weather, is| weather.journal_full = is),
            12 => weather(&project, &mut under_way, "brokers away", |weather, is| weather.brokers_away = is),
            13..15 => {
                world.fault("store fell back", "");
                project.store.fall_back(&snapshot);
            }
            15 => {
                // Everything, or all but which generation of each view is live.
                if number % 2 == 0 {
                    world.fault("store lost", "");
                    project.store.lose();
                } else {
                    world.fault("generations lost", "");
                    project.store.lose_generations();
                }
            }
            16..18 => {
                if project.kafka.make_zombie() {
                    world.fault("zombie", "");
                }
            }
            18 if project.kafka.partitions() < 5 => {
                world.fault("partition added", "");
                project.kafka.add_partition();
            }
            // While workers run, or between their runs.
            20 if project.kafka.begin_compaction() => {
                world.fault("compaction began", "");
                if number % 2 == 0 {
                    (0..WORKERS).for_each(|worker| kill(&project, worker));
                }
            }
            19 => {
                under_way.spawn(hide_file(Arc::clone(&project)));
            }
            _ => redefine(&project, &mut under_way),
        }
    }
    while under_way.join_next().await.is_some() {}
    world.turn(|weather| *weather = Weather::default());
}

fn kill(project: &Project, worker: usize) {
    project.kills[worker].send_modify(|kills| *kills += 1);
}

/// Bad weather for some seconds.
fn weather(
    project: &Arc<Project>,
    under_way: &mut JoinSet<()>,
    what: &'static str,
    set: fn(&mut Weather, bool),
) {
    let world = Arc::clone(&project.world);
    under_way.spawn(async move {
        world.say(&format!("{what} begins"));
        world.turn(|weather| set(weather, true));
        world.sleep(world.draw(200..6000)).await;
        world.turn(|weather| set(weather, false));
        world.say(&format!("{what} ends"));
    });
}

/// A file is away for a while, or cannot be read.
async fn hide_file(project: Arc<Project>) {
    let world = &project.world;
    let path = project.file(world.draw(0..2) as usize);
    let Ok(content) = std::fs::read(&path) else { return };
    std::fs::remove_file(&path).expect("removed");
    let unreadable = world.chance(50);
    if unreadable {
        world.fault("file unreadable", "");
        std::fs::create_dir(&path).expect("created");
    } else {
        world.fault("file away", "");
    }
    world.sleep(world.draw(200..4000)).await;
    if unreadable {
        std::fs::remove_dir(&path).expect("removed");
    }
    std::fs::write(&path, content).expect("written");
}

/// Other definitions: every worker is told, then the server.
fn redefine(project: &Arc<Project>, under_way: &mut JoinSet<()>) {
    let (project, world) = (Arc::clone(project), &project.world);
    let version = world.draw(0..VERSIONS as u64) as usize;
    world.fault("definitions changed", &version.to_string());
    project.define(version);
    under_way.spawn(async move {
        for worker in 0..WORKERS {
            let definitions = project.definitions();
            let Some(alive) = project.alive(worker) else { continue };
            let (sources, views) = (definitions.sources.clone(), definitions.views.clone());
            let reloaded = alive.handle.reload(sources, views).await;
            project.world.say(&format!("worker {worker} has reloaded: {reloaded:?}"));
            if matches!(reloaded, Err(IngestError::Superseded)) {
                // The process that redefined it since goes on from here.
                return;
            }
            if reloaded.is_err() {
                // As a service does whose definitions cannot be put into force.
                kill(&project, worker);
            }
        }
        project.serve();
    });
}
