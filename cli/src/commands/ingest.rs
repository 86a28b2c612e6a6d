//! `tidemark ingest`: events from files and topics, each exactly once.

use std::sync::Arc;

use tidemark_engine::files::{given_up, places};
use tidemark_engine::topics::{Monitor, Reading, read};
use tidemark_engine::{Event, Feed, Intake, Project, Tell};
use tidemark_ingest::{Changed, FileOutcome, FileReport, FilesReport, Watch};
use tidemark_kernel::ErrorKind;

use crate::args::{self, Global};
use crate::clock;
use crate::console;
use crate::failure::{Failure, Result};
use crate::output::{Output, counted};
use crate::progress::{Bars, say};
use crate::project::open;
use crate::service::until_signalled;

mod report;
mod retract;
pub(crate) mod unusable;

pub(crate) use report::table;

pub(super) async fn run(asked: &args::Ingest, global: &Global, output: Output) -> Result<()> {
    let project = open(global).await?;
    if retract::run(asked, &project, output).await? {
        return Ok(());
    }
    let wanted = wanted(asked, &project)?;
    let topics = topics(asked, &project);
    if let Some(control) = console::control().filter(|_| !topics.is_empty()) {
        say("note: `tidemark dev` reads the topics already");
        if asked.until_idle {
            control.idle().await?;
        }
    }
    if topics.is_empty() || console::control().is_some() {
        take_in_files(asked, &project, &wanted, output).await
    } else {
        take_in_topics(asked, &project, wanted, &topics, output).await
    }
}

/// Ends once the files are in.
async fn take_in_files(
    asked: &args::Ingest,
    project: &Project,
    wanted: &[Feed],
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
    let intake = Intake {
        source: asked.source.clone(),
        journal: true,
        give_up: places(&asked.give_up)?,
        ..Intake::default()
    };
    let bars = Bars::default();
    let watch: Watch<'_> = &|progress| bars.ingest(progress);
    let taken_in = project.take_in(intake, wanted, changed(asked), watch).await?;
    drop(bars);
    say_given_up(&taken_in.given_up);
    // Begun by a process that was killed.
    taken_in.taken_back.iter().for_each(|(source, taken_back)| say(retract::line(source, taken_back)));
    let (reports, took) = (taken_in.files, began.elapsed());
    output.result(|| report::files_json(&reports, took), || report::files_text(&reports, took))?;
    report::notes(&reports).iter().for_each(say);
    let mut complaints = unusable::of_files(project, &reports)?;
    let must_give = asked.until_idle && reports.iter().all(|(_, report)| report.events() == 0);
    complaints.extend(unusable::of_records(project, &taken_in.taken, must_give)?);
    unusable::say_all(&complaints);
    unusable::check(&complaints)
}

/// Goes on until it is stopped, or everything there is was taken in.
async fn take_in_topics(
    asked: &args::Ingest,
    project: &Project,
    wanted: Vec<Feed>,
    topics: &[Topic],
    output: Output,
) -> Result<()> {
    let began = clock::stopwatch();
    let monitor = match asked.http {
        Some(address) => Some(Monitor::bind(address).await?),
        None => None,
    };
    let intake = Intake {
        source: asked.source.clone(),
        journal: project.is_embedded() || !wanted.is_empty() || !asked.give_up.is_empty(),
        topics: true,
        skip_lost: asked.skip_lost,
        give_up: places(&asked.give_up)?,
        member: asked.member.clone(),
    };
    let mut ingest = project.ingest(project.store().await?, intake).await?;
    if !asked.give_up.is_empty() {
        let bars = Bars::default();
        ingest.catch_up(&|progress| bars.ingest(progress)).await?;
        drop(bars);
        say_given_up(&given_up(&ingest, &places(&asked.give_up)?)?);
    }
    say_topics(project, topics, asked.until_idle);
    if let Some(monitor) = &monitor {
        say(format_args!("health and metrics at http://{}", monitor.address()?));
    }
    let reading =
        Reading { files: wanted, source: asked.source.clone(), monitor, until_idle: asked.until_idle };
    let service = until_signalled("stopping: committing what was taken in");
    let tell: Tell = Arc::new(|event| say_event(&event));
    let read = read(project, ingest, reading, service, tell).await?;
    let took = began.elapsed();
    if let Some(idle) = &read.idle {
        output.result(|| report::idle_json(&read, idle, took), || report::idle_text(&read, idle, took))?;
    }
    if asked.until_idle && read.idle.is_none() {
        let message = "stopped before everything there is was taken in";
        return Err(Failure::of(ErrorKind::NotReady, message, "start again; it goes on where it stopped"));
    }
    if !asked.until_idle {
        return Ok(());
    }
    let must_give = read.files.iter().all(|(_, report)| report.events() == 0);
    let complaints = unusable::of_records(project, &read.taken, must_give)?;
    unusable::say_all(&complaints);
    unusable::check(&unusable::of_files(project, &read.files)?).and(unusable::check(&complaints))
}

/// Says what became of the files to give up.
fn say_given_up(given_up: &[(String, FileReport)]) {
    for (source, file) in given_up {
        if let FileOutcome::GivenUp { rows } = file.outcome {
            let (path, rows) = (file.path.display(), counted(rows, "row"));
            say(format_args!("gave up {path}: {rows} of it stay in source {source}"));
        }
    }
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

/// A source and its topic.
type Topic = (String, String);

/// The files named, or the feeds of the repo.
fn wanted(asked: &args::Ingest, project: &Project) -> Result<Vec<Feed>> {
    if let Some(source) = &asked.source {
        project.check_source(source)?;
        if !asked.from.is_empty() {
            return Ok(vec![Feed { source: source.clone(), patterns: asked.from.clone() }]);
        }
    }
    let mut feeds = project.feeds();
    feeds.retain(|feed| asked.source.as_ref().is_none_or(|given| *given == feed.source));
    Ok(feeds)
}

/// The topics to read: none where files are named.
fn topics(asked: &args::Ingest, project: &Project) -> Vec<Topic> {
    let feeds = project.repo.feeds.iter();
    let feeds = feeds.filter(|(source, _)| asked.source.as_ref().is_none_or(|given| given == *source));
    let topics = feeds.filter_map(|(source, feed)| Some((source.clone(), feed.kafka()?.topic.clone())));
    topics.filter(|_| asked.from.is_empty()).collect()
}

/// Says what became of files, while everything else goes on.
pub(crate) fn say_files(project: &Project, reports: &[(String, FilesReport)]) {
    say(table(reports).trim_end());
    report::notes(reports).iter().for_each(say);
    match unusable::of_files(project, reports) {
        Ok(complaints) => unusable::say_all(&complaints),
        Err(failure) => failure.tell(),
    }
}

fn say_event(event: &Event<'_>) {
    if let Event::Files { project, reports } = event {
        say_files(project, reports);
    }
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
