//! `tidemark ingest`: events from files and topics, each exactly once.

use std::path::PathBuf;

use tidemark_ingest::{Changed, FileOutcome, FilesReport, Ingest, Watch, files};
use tidemark_kernel::source::Feed;
use tidemark_online::listen::listen;

use crate::args::{self, Global};
use crate::clock;
use crate::commands::serve::address;
use crate::failure::{Failure, Result};
use crate::output::{Output, counted};
use crate::progress::{Bars, say};
use crate::project::{Intake, Project, catch_up};
use topics::{Reading, read};

mod report;
mod retract;
pub(crate) mod topics;
pub(crate) mod unusable;

pub(crate) use report::table;

pub(super) async fn run(asked: &args::Ingest, global: &Global, output: Output) -> Result<()> {
    let project = Project::open(global).await?;
    if retract::run(asked, &project, output).await? {
        return Ok(());
    }
    let wanted = wanted(asked, &project)?;
    let topics = topics(asked, &project);
    if topics.is_empty() {
        take_in_files(asked, &project, &wanted, output).await
    } else {
        take_in_topics(asked, &project, wanted, &topics, output).await
    }
}

/// Ends once the files are in.
async fn take_in_files(
    asked: &args::Ingest,
    project: &Project,
    wanted: &[Wanted],
    output: Output,
) -> Result<()> {
    if asked.http.is_some() {
        let message = "--http is for what goes on running, and files end by themselves";
        return Err(Failure::mistake(message, "leave it out"));
    }
    if wanted.is_empty() && asked.give_up.is_empty() {
        say_no_feed(asked);
    }
    let began = clock::stopwatch();
    let give_up = absolute(&asked.give_up)?;
    let intake = Intake { source: asked.source.clone(), journal: true, give_up, ..Intake::default() };
    let mut ingest = project.ingest(project.store().await?, intake).await?;
    catch_up(&mut ingest).await?;
    check_given_up(asked, &ingest)?;
    // Begun by a process that was killed.
    ingest.taken_back().iter().for_each(|(source, taken_back)| say(retract::line(source, taken_back)));
    let reports = take_in(&mut ingest, wanted, changed(asked)).await?;
    ingest.drain_push().await?;
    let took = began.elapsed();
    output.result(|| report::files_json(&reports, took), || report::files_text(&reports, took))?;
    let mut complaints = unusable::of_files(project, &reports)?;
    let must_give = asked.until_idle && reports.iter().all(|(_, report)| report.events() == 0);
    complaints.extend(unusable::of_records(project, &ingest.health().taken(), must_give)?);
    unusable::say_all(&complaints);
    unusable::check(&complaints)
}

/// Goes on until it is stopped, or everything there is was taken in.
async fn take_in_topics(
    asked: &args::Ingest,
    project: &Project,
    wanted: Vec<Wanted>,
    topics: &[Topic],
    output: Output,
) -> Result<()> {
    let began = clock::stopwatch();
    let monitor = match asked.http {
        Some(address) => Some(listen(address).await?),
        None => None,
    };
    let intake = Intake {
        source: asked.source.clone(),
        journal: project.is_embedded() || !wanted.is_empty() || !asked.give_up.is_empty(),
        topics: true,
        skip_lost: asked.skip_lost,
        give_up: absolute(&asked.give_up)?,
        member: asked.member.clone(),
    };
    let mut ingest = project.ingest(project.store().await?, intake).await?;
    if !asked.give_up.is_empty() {
        catch_up(&mut ingest).await?;
        check_given_up(asked, &ingest)?;
    }
    say_topics(project, topics, asked.until_idle);
    if let Some(monitor) = &monitor {
        say(format_args!("health and metrics at http://{}", address(&monitor)?));
    }
    let reading =
        Reading { files: wanted, source: asked.source.clone(), monitor, until_idle: asked.until_idle };
    let read = read(project, ingest, reading).await?;
    let took = began.elapsed();
    if let Some(idle) = &read.idle {
        output.result(|| report::idle_json(&read, idle, took), || report::idle_text(&read, idle, took))?;
    }
    if asked.until_idle && read.idle.is_none() {
        let message = "stopped before everything there is was taken in";
        return Err(Failure::mistake(message, "start it again, it goes on where it was"));
    }
    if !asked.until_idle {
        return Ok(());
    }
    let must_give = read.files.iter().all(|(_, report)| report.events() == 0);
    let complaints = unusable::of_records(project, &read.taken, must_give)?;
    unusable::say_all(&complaints);
    unusable::check(&read.complaints).and(unusable::check(&complaints))
}

/// Paths as the journal has them.
fn absolute(paths: &[PathBuf]) -> Result<Vec<PathBuf>> {
    paths.iter().map(|path| Ok(files::place(path)?)).collect()
}

/// Says what became of the files to give up. Only a file that was taken in halfway can be.
fn check_given_up(asked: &args::Ingest, ingest: &Ingest) -> Result<()> {
    let given_up = ingest.given_up();
    for (source, file) in &given_up {
        if let FileOutcome::GivenUp { rows } = file.outcome {
            let (path, rows) = (file.path.display(), counted(rows, "row"));
            say(format_args!("gave up {path}: {rows} of it stay in source {source}"));
        }
    }
    for (path, whole) in asked.give_up.iter().zip(absolute(&asked.give_up)?) {
        if !given_up.iter().any(|(_, file)| file.path == whole) {
            let message =
                format!("{} was not taken in halfway, so there is nothing to give up", path.display());
            return Err(Failure::mistake(message, "name a file that an error of `tidemark ingest` named"));
        }
    }
    Ok(())
}

/// What to do about files that would count rows twice. Those of a feed must not keep the others out: there may be no
/// person to ask.
const fn changed(asked: &args::Ingest) -> Changed {
    match asked {
        args::Ingest { replace: true, .. } => Changed::Replace,
        args::Ingest { append: true, .. } => Changed::Append,
        args::Ingest { as_new: true, .. } => Changed::AsNew,
        asked if asked.from.is_empty() => Changed::SetAside,
        _ => Changed::Refuse,
    }
}

/// A source and the path patterns of its files.
pub(crate) type Wanted = (String, Vec<String>);

/// A source and its topic.
type Topic = (String, String);

/// The files named, or the feeds of the repo.
fn wanted(asked: &args::Ingest, project: &Project) -> Result<Vec<Wanted>> {
    if let Some(source) = &asked.source {
        project.check_source(source)?;
        if !asked.from.is_empty() {
            return Ok(vec![(source.clone(), asked.from.clone())]);
        }
    }
    let mut feeds = feeds(project);
    feeds.retain(|(name, _)| asked.source.as_ref().is_none_or(|given| given == name));
    Ok(feeds)
}

/// The topics to read: none where files are named.
fn topics(asked: &args::Ingest, project: &Project) -> Vec<Topic> {
    let sources = project.repo.sources.values();
    let sources = sources.filter(|source| asked.source.as_ref().is_none_or(|given| *given == source.name));
    let topics = sources.filter_map(|source| match &source.feed {
        Feed::Kafka(feed) => Some((source.name.clone(), feed.topic.clone())),
        Feed::Push | Feed::Files { .. } => None,
    });
    topics.filter(|_| asked.from.is_empty()).collect()
}

/// The `files` feeds of a repo, their patterns starting at its folder.
pub(crate) fn feeds(project: &Project) -> Vec<Wanted> {
    let sources = project.repo.sources.values();
    let feeds = sources.filter_map(|source| match &source.feed {
        Feed::Files { paths } => {
            let pattern = |path: &String| project.folder().join(path).display().to_string();
            Some((source.name.clone(), paths.iter().map(pattern).collect()))
        }
        Feed::Push | Feed::Kafka(_) => None,
    });
    feeds.collect()
}

/// Takes in files with progress on stderr.
pub(crate) async fn take_in(
    ingest: &mut Ingest,
    wanted: &[Wanted],
    changed: Changed,
) -> Result<Vec<(String, FilesReport)>> {
    let bars = Bars::default();
    let watch: Watch<'_> = &|progress| bars.ingest(progress);
    let mut reports = Vec::new();
    for (source, patterns) in wanted {
        reports.push((source.clone(), ingest.take_in_files_as(source, patterns, changed, watch).await?));
    }
    Ok(reports)
}

fn say_no_feed(asked: &args::Ingest) {
    let (whose, name) = match &asked.source {
        Some(given) => (format!("source {given} has no"), given.as_str()),
        None => ("no source here has a".to_owned(), "NAME"),
    };
    say(format_args!(
        "note: {whose} `files` or `kafka` feed; name files: tidemark ingest --from FILE --source {name}"
    ));
}

fn say_topics(project: &Project, topics: &[Topic], until_idle: bool) {
    let topics: Vec<String> =
        topics.iter().map(|(source, topic)| format!("{source} from topic {topic}")).collect();
    let servers = project.repo.project.kafka.as_ref().map_or("", |kafka| kafka.bootstrap_servers.as_str());
    let end = if until_idle { "until everything there is was taken in" } else { "until stopped (Ctrl-C)" };
    say(format_args!("reading {} at {servers}, {end}", topics.join(", ")));
}
