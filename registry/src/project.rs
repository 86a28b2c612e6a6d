//! `tidemark.yaml`: where a project keeps its state and how it is reached.

use tidemark_kernel::time::Span;

use crate::key::{Choice, Form, Key, NAME, SPAN, Table, Takes};
use crate::name;
use crate::problem::Problem;
use crate::shape::{Reading, Shape};
use crate::tree::{Node, Scalar};

mod kafka;
mod memory;
mod online;

pub use kafka::Kafka;
pub use online::Online;

/// The settings of a project. Paths that are not absolute start at the repo's folder.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Project {
    /// Its name.
    pub name: String,
    /// Where the online state is.
    pub online: Online,
    /// Where the event tables are.
    pub offline: Offline,
    /// The Kafka cluster that sources read from, if there is one.
    pub kafka: Option<Kafka>,
    /// How many bytes of memory a process that ingests may use for what it holds.
    pub memory: usize,
    /// What a server answers at once.
    pub lookups: Lookups,
    /// Where it listens.
    pub ports: Ports,
}

/// The event tables, and how often they are committed to. Whichever comes first commits: the time or the rows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Offline {
    /// A folder, or a `file://` URL of one.
    pub path: String,
    /// How long an event of a topic waits at most before it is committed.
    pub commit_every: Span,
    /// How many rows wait at most.
    pub commit_rows: usize,
}

impl Default for Offline {
    fn default() -> Self {
        Self { path: "data/offline".to_owned(), commit_every: Span::from_secs(5), commit_rows: 131_072 }
    }
}

/// What `dev` and `serve` answer at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lookups {
    /// How many rows a call may have. Four times as many are answered at once.
    pub rows: usize,
}

impl Default for Lookups {
    fn default() -> Self {
        Self { rows: 10_000 }
    }
}

/// The most rows that may be allowed: each takes some kilobytes until its answer is sent.
const LOOKUP_ROWS_MAX: usize = 1_000_000;

/// The ports that `dev` and `serve` listen on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ports {
    /// gRPC.
    pub grpc: u16,
    /// HTTP/JSON, pushes and metrics.
    pub http: u16,
}

impl Default for Ports {
    fn default() -> Self {
        Self { grpc: 6566, http: 6567 }
    }
}

/// The keys of `tidemark.yaml`.
pub(crate) const SETTINGS: Table = Table {
    what: "tidemark.yaml",
    about: "The file `tidemark.yaml` makes a folder a repo. It holds the settings of the project; paths that are not absolute start at its \
            folder.",
    keys: &[
        Key::required(
            "project",
            Takes::Scalar(NAME),
            "shop",
            "The name of the project. Its keys in Redis and its consumer groups begin with it, so projects that share a Redis or a \
             Kafka cluster need different names.",
        ),
        Key::default(
            "online",
            Takes::Mapping(&online::ONLINE),
            || online::written(&Online::default()),
            "{store: redis, url: 'redis://127.0.0.1:6379'}",
            "Where the newest state of every feature is, which lookups read.",
        ),
        Key::default(
            "offline",
            Takes::Mapping(&OFFLINE),
            || {
                let Offline { path, commit_every, commit_rows } = Offline::default();
                format!("{{path: {path}, commit_every: {commit_every}, commit_rows: {commit_rows}}}")
            },
            "{path: /mnt/history}",
            "Where the event tables are, the history that training sets and backfills read.",
        ),
        Key::optional(
            "kafka",
            Takes::Mapping(&kafka::CLUSTER),
            "no source can read a topic",
            "{bootstrap_servers: 'broker-1:9092,broker-2:9092'}",
            "The Kafka cluster whose topics the sources read.",
        ),
        Key::default(
            "memory",
            Takes::Scalar(memory::MEMORY),
            || memory::written(Project::DEFAULT_MEMORY),
            "2GiB",
            "How much memory a process that ingests may use for states, records, ids and caches, at least `64MiB`. Other buffers are not \
             counted. More means fewer reads from the online store. See [the project](../topics-and-stores.md#the-project).",
        ),
        Key::default(
            "lookups",
            Takes::Mapping(&LOOKUPS),
            || format!("{{rows: {}}}", Lookups::default().rows),
            "{rows: 20000}",
            "How much a server answers at once.",
        ),
        Key::default(
            "ports",
            Takes::Mapping(&PORTS),
            || {
                let Ports { grpc, http } = Ports::default();
                format!("{{grpc: {grpc}, http: {http}}}")
            },
            "{http: 8080}",
            "Where `tidemark dev` and `tidemark serve` listen, on 127.0.0.1 unless `--http` or `--grpc` names another address.",
        ),
    ],
    choice: Choice::Free,
};

const OFFLINE: Table = Table {
    what: "`offline`",
    about: "The event tables: Parquet files under Delta Lake, a folder for each source. Events of topics are committed when the time or \
            the number of rows is reached, whichever comes first. Rare commits write few, large files; frequent ones show events to \
            readers of the tables earlier.",
    keys: &[
        Key::default(
            "path",
            Takes::Scalar(FOLDER),
            || Offline::default().path,
            "/mnt/history",
            "The folder of the event tables. All workers of a deployment share it.",
        ),
        Key::default(
            "commit_every",
            Takes::Scalar(SPAN),
            || Offline::default().commit_every.to_string(),
            "30s",
            "How long an event of a topic waits at most before it is committed, from `100ms` to `10m`. Compacted topics are committed \
             every second.",
        ),
        Key::default(
            "commit_rows",
            Takes::Number(1, u64::MAX),
            || Offline::default().commit_rows.to_string(),
            "500000",
            "How many events wait at most before they are committed.",
        ),
    ],
    choice: Choice::Free,
};

const LOOKUPS: Table = Table {
    what: "`lookups`",
    about: "Limits of lookups over HTTP and gRPC. [The reference of the API](http.md#limits) lists the others.",
    keys: &[Key::default(
        "rows",
        Takes::Number(1, LOOKUP_ROWS_MAX as u64),
        || Lookups::default().rows.to_string(),
        "20000",
        "How many rows a call may ask for. Calls under way have four times as many together; others wait for up to five seconds.",
    )],
    choice: Choice::Free,
};

const PORTS: Table = Table {
    what: "`ports`",
    about: "The ports on which lookups are answered. 0 is any free port.",
    keys: &[
        Key::default(
            "grpc",
            Takes::Number(0, 65_535),
            || Ports::default().grpc.to_string(),
            "7000",
            "The port of gRPC.",
        ),
        Key::default(
            "http",
            Takes::Number(0, 65_535),
            || Ports::default().http.to_string(),
            "8080",
            "The port of HTTP: lookups in JSON, pushed events, `/healthz`, `/readyz` and `/metrics`.",
        ),
    ],
    choice: Choice::Free,
};

const FOLDER: Form = Form {
    name: "folder",
    pattern: None,
    about: "The path of a folder on the local disk, absolute or relative to the folder of the repo. A `file://` URL works for `offline.path` too.",
};

/// The shortest and the longest time between commits: each one is a file that readers open.
const COMMIT_EVERY: [Span; 2] = [Span::from_millis(100), Span::from_secs(600)];

impl Project {
    /// How many bytes of memory a process may use unless the settings say otherwise: 1 GiB.
    pub const DEFAULT_MEMORY: usize = 1 << 30;

    /// A project with nothing but a name.
    #[must_use]
    pub fn named(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            online: Online::default(),
            offline: Offline::default(),
            kafka: None,
            memory: Self::DEFAULT_MEMORY,
            lookups: Lookups::default(),
            ports: Ports::default(),
        }
    }

    /// The project name that is closest to `text`, such as the name of the project's folder. What one cluster or Redis
    /// is shared by is told apart by it, so that it should not be the same for everyone.
    #[must_use]
    pub fn name_from(text: &str) -> String {
        name::closest(text)
    }

    pub(crate) fn read(node: &Node, reading: &mut Reading<'_>) -> Option<Self> {
        let shape = Shape::read(node, &SETTINGS, reading)?;
        let name = shape.require_text("project", reading);
        let name = name.filter(|name| name::check(name, reading));
        let online = shape.get("online").and_then(|node| Online::read(node, reading));
        let offline = shape.get("offline").map(|node| offline(node, reading));
        let kafka = shape.get("kafka").map(|node| Kafka::read(node, reading));
        let memory = memory::read(&shape, "memory", reading);
        let lookups = shape.get("lookups").map(|node| lookups(node, reading));
        let ports = shape.get("ports").map(|node| ports(node, reading));
        Some(Self {
            name: name?.value.clone(),
            online: online.unwrap_or_default(),
            offline: offline.unwrap_or_default(),
            kafka,
            memory: memory.unwrap_or(Self::DEFAULT_MEMORY),
            lookups: lookups.unwrap_or_default(),
            ports: ports.unwrap_or_default(),
        })
    }
}

fn offline(node: &Node, reading: &mut Reading<'_>) -> Offline {
    let default = Offline::default();
    let Some(shape) = Shape::read(node, &OFFLINE, reading) else { return default };
    Offline {
        path: path(&shape, reading).unwrap_or(default.path),
        commit_every: commit_every(&shape, reading).unwrap_or(default.commit_every),
        commit_rows: commit_rows(&shape, reading).unwrap_or(default.commit_rows),
    }
}

/// Where the event tables are, which is on the local disk.
fn path(shape: &Shape<'_>, reading: &mut Reading<'_>) -> Option<String> {
    let text = shape.text("path", reading)?;
    check_folder(text, "`offline`", reading);
    if let Some((scheme, _)) = text.value.split_once("://").filter(|(scheme, _)| *scheme != "file") {
        let what = format!("event tables cannot be kept on `{scheme}`");
        let help = "write the path of a folder on the local disk, such as `data/offline`; object stores are not supported yet";
        reading.report(Problem::error(text.place, what).help(help.to_owned()));
    }
    Some(text.value.clone())
}

/// An empty path would be the folder of the repo: tables beside the definitions.
fn check_folder(path: &Scalar, of: &str, reading: &mut Reading<'_>) {
    if path.value.is_empty() {
        let problem = Problem::error(path.place, format!("`path` of {of} is empty"));
        reading.report(problem.help("name a folder, or leave `path` out".to_owned()));
    }
}

fn commit_every(shape: &Shape<'_>, reading: &mut Reading<'_>) -> Option<Span> {
    let span = shape.span("commit_every", reading)?;
    let [shortest, longest] = COMMIT_EVERY;
    if span < shortest || span > longest {
        let text = shape.text("commit_every", reading)?;
        let problem = Problem::error(text.place, format!("`commit_every` is {span}, which is out of range"));
        reading.report(problem.help(format!("write a length of time from {shortest} to {longest}")));
    }
    Some(span)
}

fn commit_rows(shape: &Shape<'_>, reading: &mut Reading<'_>) -> Option<usize> {
    let text = shape.text("commit_rows", reading)?;
    let rows = text.value.parse().ok().filter(|rows| *rows > 0);
    if rows.is_none() {
        let problem = Problem::error(text.place, format!("`{}` is no number of rows", text.value));
        reading.report(problem.help("write a whole number from 1: 131072".to_owned()));
    }
    rows
}

/// Whether a text is `host` or `host:port`.
fn is_address(text: &str) -> bool {
    let (host, port) = match text.rsplit_once(':') {
        Some((host, port)) if !text.ends_with(']') => (host, port),
        _ => (text, "0"),
    };
    !host.is_empty() && !text.contains(char::is_whitespace) && port.parse::<u16>().is_ok()
}

fn lookups(node: &Node, reading: &mut Reading<'_>) -> Lookups {
    let default = Lookups::default();
    let Some(shape) = Shape::read(node, &LOOKUPS, reading) else { return default };
    Lookups { rows: lookup_rows(&shape, reading).unwrap_or(default.rows) }
}

fn lookup_rows(shape: &Shape<'_>, reading: &mut Reading<'_>) -> Option<usize> {
    let text = shape.text("rows", reading)?;
    let rows = text.value.parse().ok().filter(|rows| (1..=LOOKUP_ROWS_MAX).contains(rows));
    if rows.is_none() {
        let what = format!("`{}` is no number of rows that a lookup may have", text.value);
        let help = format!("write a whole number from 1 to {LOOKUP_ROWS_MAX}: 10000");
        reading.report(Problem::error(text.place, what).help(help));
    }
    rows
}

fn ports(node: &Node, reading: &mut Reading<'_>) -> Ports {
    let mut ports = Ports::default();
    if let Some(shape) = Shape::read(node, &PORTS, reading) {
        ports.grpc = port(&shape, "grpc", reading).unwrap_or(ports.grpc);
        ports.http = port(&shape, "http", reading).unwrap_or(ports.http);
    }
    ports
}

fn port(shape: &Shape<'_>, key: &str, reading: &mut Reading<'_>) -> Option<u16> {
    let text = shape.text(key, reading)?;
    let port = text.value.parse().ok();
    if port.is_none() {
        let problem = Problem::error(text.place, format!("`{}` is no port", text.value));
        reading.report(problem.help("a port is a number from 0 (any free one) to 65535".to_owned()));
    }
    port
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_documented_as_they_are_checked() {
        let about = |table: &Table, key: &str| table.key(key).expect("a key").about;
        let [shortest, longest] = COMMIT_EVERY;
        assert!(about(&OFFLINE, "commit_every").contains(&format!("from `{shortest}` to `{longest}`")));
        assert!(
            about(&SETTINGS, "memory").contains(&format!("at least `{}`", memory::written(memory::LEAST)))
        );
    }
}
