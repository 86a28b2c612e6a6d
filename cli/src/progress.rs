//! Messages and progress, on stderr: bars on a terminal, elsewhere a line every few seconds.

use std::collections::BTreeMap;
use std::time::Duration;

use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};
use parking_lot::Mutex;
use tidemark_host::Stopwatch;
use tidemark_ingest::progress::{Progress, Task};

use crate::clock;
use crate::console::{self, Level, Said};
use crate::output::{bytes, count, duration, rate};

/// How often a line is written where there is no terminal.
const LINE_PERIOD: Duration = Duration::from_secs(5);

/// Prints a line of progress. A failure is ignored, since there may be no terminal.
pub(crate) fn say(text: impl std::fmt::Display) {
    console::say(Said { level: Level::Note, kind: None, message: text.to_string(), help: None });
}

/// What is counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Unit {
    Bytes,
    Each(&'static str),
}

/// How far one piece of work has come.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Step<'a> {
    /// What is being done. One task follows the other.
    pub(crate) task: &'static str,
    /// What it is done to. Several subjects of one task may go on at once.
    pub(crate) subject: &'a str,
    pub(crate) unit: Unit,
    pub(crate) done: u64,
    /// None where it is not known.
    pub(crate) total: Option<u64>,
    /// What to say beside it.
    pub(crate) note: &'a str,
}

/// Shows the progress of work.
#[derive(Debug)]
pub(crate) struct Bars {
    /// None where the output is no terminal.
    terminal: Option<MultiProgress>,
    current: Mutex<Current>,
}

/// The task at hand, subject by subject.
#[derive(Debug, Default)]
struct Current {
    task: &'static str,
    subjects: BTreeMap<String, Subject>,
}

#[derive(Debug)]
struct Subject {
    started: Stopwatch,
    said: Option<Stopwatch>,
    bar: Option<ProgressBar>,
}

impl Default for Bars {
    fn default() -> Self {
        let terminal = console::is_watched()
            .then(|| MultiProgress::with_draw_target(ProgressDrawTarget::stderr_with_hz(10)));
        Self { terminal, current: Mutex::default() }
    }
}

impl Bars {
    /// Shows how far a piece of work is.
    pub(crate) fn show(&self, step: Step<'_>) {
        let mut current = self.current.lock();
        if current.task != step.task {
            current.end();
            current.task = step.task;
        }
        let begin = || Subject::begin(self.terminal.as_ref(), step);
        current.subjects.entry(step.subject.to_owned()).or_insert_with(begin).show(step);
    }

    /// Takes all bars away.
    pub(crate) fn clear(&self) {
        self.current.lock().end();
    }

    /// Shows how far an ingest or a backfill is.
    pub(crate) fn ingest(&self, progress: Progress<'_>) {
        let (task, subject, unit) = match progress.task {
            Task::Identify => ("looking at files", "", Unit::Each("files")),
            Task::TakeIn { source, .. } => ("ingesting", source, Unit::Bytes),
            Task::Retry { source } => ("taking again", source, Unit::Each("dead letters")),
            Task::Backfill { view } => ("backfilling", view, Unit::Each("events")),
        };
        let rows = match progress.rows {
            0 => None,
            rows => Some(format!("{} rows, {}", count(rows), rate(rows, self.elapsed(task, subject)))),
        };
        let file = match progress.task {
            Task::TakeIn { file, .. } => file.file_name().map(|name| name.to_string_lossy().into_owned()),
            Task::Identify | Task::Retry { .. } | Task::Backfill { .. } => None,
        };
        let note = file.into_iter().chain(rows).collect::<Vec<_>>().join(", ");
        let total = Some(progress.total).filter(|total| *total > 0);
        self.show(Step { task, subject, unit, done: progress.done, total, note: &note });
    }

    /// How long a piece of work has been going on.
    fn elapsed(&self, task: &str, subject: &str) -> Duration {
        let current = self.current.lock();
        let subject = current.subjects.get(subject).filter(|_| current.task == task);
        subject.map_or(Duration::ZERO, |subject| subject.started.elapsed())
    }
}

impl Drop for Bars {
    fn drop(&mut self) {
        self.clear();
    }
}

impl Current {
    fn end(&mut self) {
        let subjects = std::mem::take(&mut self.subjects);
        subjects.into_values().filter_map(|subject| subject.bar).for_each(|bar| bar.finish_and_clear());
    }
}

impl Subject {
    fn begin(terminal: Option<&MultiProgress>, step: Step<'_>) -> Self {
        let bar = terminal.map(|bars| bars.add(bar(step)));
        Self { started: clock::stopwatch(), said: None, bar }
    }

    fn show(&mut self, step: Step<'_>) {
        match &self.bar {
            Some(bar) => {
                step.total.into_iter().for_each(|total| bar.set_length(total));
                bar.set_position(step.done);
                bar.set_message(step.note.to_owned());
            }
            None => self.line(step),
        }
    }

    /// Work that ends sooner than a period passes in silence: its result says enough.
    fn line(&mut self, step: Step<'_>) {
        if self.said.as_ref().unwrap_or(&self.started).elapsed() >= LINE_PERIOD {
            self.said = Some(clock::stopwatch());
            say(self.describe(step));
        }
    }

    fn describe(&self, step: Step<'_>) -> String {
        let number = |number| match step.unit {
            Unit::Bytes => bytes(number),
            Unit::Each(_) => count(number),
        };
        let unit = if let Unit::Each(unit) = step.unit { format!(" {unit}") } else { String::new() };
        let of = step.total.map_or_else(String::new, |total| format!(" of {}", number(total)));
        let note = if step.note.is_empty() { String::new() } else { format!(", {}", step.note) };
        let left = self.left(step).map_or_else(String::new, |left| format!(", {} left", duration(left)));
        format!("{}: {}{of}{unit}{note}{left}", title(step), number(step.done))
    }

    fn left(&self, step: Step<'_>) -> Option<Duration> {
        let share = step.done as f64 / step.total.filter(|total| *total > 0)? as f64;
        let rest = (1.0 - share).max(0.0) / share;
        Duration::try_from_secs_f64(self.started.elapsed().as_secs_f64() * rest).ok()
    }
}

fn title(step: Step<'_>) -> String {
    if step.subject.is_empty() { step.task.to_owned() } else { format!("{} {}", step.task, step.subject) }
}

fn bar(step: Step<'_>) -> ProgressBar {
    let bar = step.total.map_or_else(ProgressBar::no_length, ProgressBar::new);
    let numbers = match step.unit {
        Unit::Bytes => "{decimal_bytes} of {decimal_total_bytes}",
        Unit::Each(_) => "{human_pos} of {human_len}",
    };
    let template = match step.total {
        Some(_) => format!("{{prefix}} {{bar:24}} {numbers}, {{eta}} left  {{msg}}"),
        None => "{prefix} {spinner} {human_pos}  {msg}".to_owned(),
    };
    if let Ok(style) = ProgressStyle::with_template(&template) {
        bar.set_style(style.progress_chars("━╸ "));
    }
    bar.set_prefix(title(step));
    bar
}
