//! Takes in the files of feeds as they appear.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use tidemark_host::{Host, Stopwatch};
use tidemark_ingest::files::matching;
use tidemark_ingest::{FileOutcome, FileReport, FilesReport, IngestError};

use crate::project::{Feed, Project};

/// How often the folders of feeds are looked at, at most. A file is taken in once its size and modification time are
/// unchanged between two looks: one that is still being written would be taken in halfway.
const PERIOD: Duration = Duration::from_secs(1);

/// How much longer than a look the pause after it is: looking costs at most a twentieth of a core.
const PAUSE: u32 = 20;

/// When files are tried again that could not be taken in.
const RETRY: Duration = Duration::from_secs(10);

/// When a file was written and how long it is.
type Stamp = (Option<SystemTime>, u64);

/// The files of each source.
type Files = BTreeMap<(String, PathBuf), Stamp>;

/// Files of one source that are new, or have changed.
#[derive(Debug)]
pub(super) struct Arrived {
    pub(super) source: String,
    pub(super) files: Vec<(PathBuf, Stamp)>,
}

/// The feeds of a project, and what became of their files.
#[derive(Debug)]
pub(super) struct Feeds {
    feeds: Vec<Feed>,
    /// The files whose outcome is known, as they were then.
    done: Files,
    /// The files that were refused and reported, by source.
    left_out: BTreeSet<(String, PathBuf)>,
    /// As they were when last looked at.
    seen: Files,
    /// Since the last look, and how long the pause after it is.
    looked: Option<(Stopwatch, Duration)>,
    /// The sources whose files could not be taken in: why, and since when.
    failed: BTreeMap<String, (String, Stopwatch)>,
}

impl Feeds {
    /// The feeds of a project, none of whose files were taken in.
    pub(super) fn of(project: &Project) -> Self {
        Self {
            feeds: project.feeds(),
            done: Files::new(),
            left_out: BTreeSet::new(),
            seen: Files::new(),
            looked: None,
            failed: BTreeMap::new(),
        }
    }

    /// Every feed with the patterns that match files now, and the errors of the others.
    pub(super) fn matched(&mut self) -> (Vec<Feed>, Vec<(String, IngestError)>) {
        let feeds = self.feeds.clone();
        self.seen = files(&feeds);
        patterns(&feeds)
    }

    /// From now on the feeds of another version. Files that were left out are tried again, and those of a feed that is
    /// new, or has other patterns, count as new. The errors of patterns of such feeds.
    pub(super) fn follow(&mut self, project: &Project) -> Vec<(String, IngestError)> {
        let before = std::mem::replace(&mut self.feeds, project.feeds());
        let changed: Vec<Feed> = self.feeds.iter().filter(|feed| !before.contains(feed)).cloned().collect();
        let is_changed = |source: &str| changed.iter().any(|feed| feed.source == source);
        let left_out = std::mem::take(&mut self.left_out);
        self.done.retain(|file, _| !left_out.contains(file) && !is_changed(&file.0));
        self.failed.clear();
        self.looked = None;
        patterns(&changed).1
    }

    /// The files that are new or have changed, and are not being written any more.
    pub(super) async fn look(&mut self, host: &Host) -> Vec<Arrived> {
        if self.looked.as_ref().is_some_and(|(looked, pause)| looked.elapsed() < *pause) {
            return Vec::new();
        }
        let (feeds, began) = (self.feeds.clone(), host.stopwatch());
        let Ok(found) = host.blocking(move || files(&feeds)).await else { return Vec::new() };
        self.looked = Some((host.stopwatch(), PERIOD.max(began.elapsed() * PAUSE)));
        self.done.retain(|file, _| found.contains_key(file));
        self.left_out.retain(|file| found.contains_key(file));
        let mut arrived: BTreeMap<&str, Vec<(PathBuf, Stamp)>> = BTreeMap::new();
        for (file, stamp) in &found {
            let is_complete = self.seen.get(file) == Some(stamp);
            if is_complete && self.done.get(file) != Some(stamp) && !self.waits(&file.0) {
                arrived.entry(&file.0).or_default().push((file.1.clone(), *stamp));
            }
        }
        let arrived = arrived.into_iter().map(|(source, files)| Arrived { source: source.to_owned(), files });
        let arrived = arrived.collect();
        self.seen = found;
        arrived
    }

    /// Whether files of a source could not be taken in just now.
    fn waits(&self, source: &str) -> bool {
        self.failed.get(source).is_some_and(|(_, since)| since.elapsed() < RETRY)
    }

    /// Records the reports of files, and returns those that are new: a file that is refused is reported once, and one
    /// that was in before not at all.
    pub(super) fn taken_in(&mut self, source: &str, report: FilesReport) -> FilesReport {
        self.failed.remove(source);
        let (mut new, mut files) = (report, Vec::new());
        for report in std::mem::take(&mut new.files) {
            let file = (source.to_owned(), report.path.clone());
            if let Some(stamp) = self.seen.get(&file) {
                self.done.insert(file.clone(), *stamp);
            }
            if self.is_news(file, &report) {
                files.push(report);
            }
        }
        new.files = files;
        new
    }

    fn is_news(&mut self, file: (String, PathBuf), report: &FileReport) -> bool {
        match report.outcome {
            FileOutcome::SetAside(_) | FileOutcome::Refused { .. } => self.left_out.insert(file),
            FileOutcome::Skipped { .. } => {
                self.left_out.remove(&file);
                false
            }
            FileOutcome::TakenIn { .. } | FileOutcome::GivenUp { .. } => {
                self.left_out.remove(&file);
                true
            }
        }
    }

    /// Takes note that files could not be taken in. Whether that is new.
    pub(super) fn failed(&mut self, source: &str, error: &IngestError, host: &Host) -> bool {
        let why = error.to_string();
        let before = self.failed.insert(source.to_owned(), (why.clone(), host.stopwatch()));
        before.is_none_or(|(before, _)| before != why)
    }
}

impl Arrived {
    /// The files that are still there, as patterns.
    pub(super) fn patterns(&self) -> Vec<String> {
        let there = self.files.iter().filter(|(path, _)| path.is_file());
        there.map(|(path, _)| path.display().to_string()).collect()
    }
}

/// Every feed with the patterns that match files, and the errors of the others.
fn patterns(feeds: &[Feed]) -> (Vec<Feed>, Vec<(String, IngestError)>) {
    let (mut matched, mut errors) = (Vec::new(), Vec::new());
    for Feed { source, patterns } in feeds {
        let mut found = Vec::new();
        for pattern in patterns {
            match matching(std::slice::from_ref(pattern)) {
                Ok(_) => found.push(pattern.clone()),
                Err(error) => errors.push((source.clone(), error)),
            }
        }
        if !found.is_empty() {
            matched.push(Feed { source: source.clone(), patterns: found });
        }
    }
    (matched, errors)
}

/// The files of feeds as they are. A pattern that matches none, or cannot be read, has none.
fn files(feeds: &[Feed]) -> Files {
    let mut files = Files::new();
    for Feed { source, patterns } in feeds {
        let paths =
            patterns.iter().filter_map(|pattern| matching(std::slice::from_ref(pattern)).ok()).flatten();
        for path in paths {
            if let Ok(metadata) = fs::metadata(&path) {
                files.insert((source.clone(), path), (metadata.modified().ok(), metadata.len()));
            }
        }
    }
    files
}
