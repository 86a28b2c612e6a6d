//! The files of feeds as they come.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use tidemark_host::{Host, Stopwatch};
use tidemark_ingest::files::matching;

use crate::project::{Feed, Project};

/// How often the folders of feeds are looked at. A file is taken in once it was the same twice: one that is still being
/// written would be taken in halfway.
const PERIOD: Duration = Duration::from_secs(1);

/// When a file was written and how long it is.
type Stamp = (Option<SystemTime>, u64);

/// The files of each source.
type Files = BTreeMap<(String, PathBuf), Stamp>;

/// The feeds of a project, and which of their files were taken in.
#[derive(Debug)]
pub(super) struct Feeds {
    feeds: Vec<Feed>,
    taken_in: Files,
    /// As they were when last looked at.
    seen: Files,
    looked: Option<Stopwatch>,
}

impl Feeds {
    /// The feeds of a project whose files, as far as they are there, are about to be taken in.
    pub(super) fn of(project: &Project) -> Self {
        let feeds = project.feeds();
        let taken_in = files(&feeds);
        Self { feeds, seen: taken_in.clone(), taken_in, looked: None }
    }

    /// From now on the feeds of another version. Files of a feed that is new, or has other patterns, count as new.
    pub(super) fn follow(&mut self, project: &Project) {
        let feeds = project.feeds();
        let changed = feeds.iter().filter(|feed| !self.feeds.contains(feed)).map(|feed| &feed.source);
        let changed: Vec<&String> = changed.collect();
        self.taken_in.retain(|(source, _), _| !changed.contains(&source));
        self.feeds = feeds;
        self.looked = None;
    }

    /// The files that are new or have changed, and are not being written any more, for each source that has some.
    pub(super) async fn look(&mut self, host: &Host) -> Vec<Feed> {
        if self.looked.as_ref().is_some_and(|looked| looked.elapsed() < PERIOD) {
            return Vec::new();
        }
        self.looked = Some(host.stopwatch());
        let feeds = self.feeds.clone();
        let Ok(found) = host.blocking(move || files(&feeds)).await else { return Vec::new() };
        let settled = found.iter().filter(|(file, stamp)| {
            self.seen.get(*file) == Some(*stamp) && self.taken_in.get(*file) != Some(*stamp)
        });
        let settled: Vec<_> = settled.map(|(file, stamp)| (file.clone(), *stamp)).collect();
        self.seen = found;
        let mut new: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for ((source, path), stamp) in settled {
            new.entry(source.clone()).or_default().push(path.display().to_string());
            self.taken_in.insert((source, path), stamp);
        }
        new.into_iter().map(|(source, patterns)| Feed { source, patterns }).collect()
    }
}

/// The files of feeds. A pattern that matches none, or cannot be read, has none.
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
