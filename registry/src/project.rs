//! `tidemark.yaml`: where a project keeps its state and how it is reached.

use tidemark_kernel::time::Span;

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
    /// How many bytes of memory a process that ingests may use for what it holds, where that is set.
    pub memory: Option<usize>,
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

const KEYS: [&str; 7] = ["project", "online", "offline", "kafka", "memory", "lookups", "ports"];

/// The shortest and the longest time between commits: each one is a file that readers open.
const COMMIT_EVERY: [Span; 2] = [Span::from_millis(100), Span::from_secs(600)];

impl Project {
    /// A project with nothing but a name.
    #[must_use]
    pub fn named(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            online: Online::default(),
            offline: Offline::default(),
            kafka: None,
            memory: None,
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
        let shape = Shape::read(node, "tidemark.yaml", &KEYS, reading)?;
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
            memory,
            lookups: lookups.unwrap_or_default(),
            ports: ports.unwrap_or_default(),
        })
    }
}

fn offline(node: &Node, reading: &mut Reading<'_>) -> Offline {
    let default = Offline::default();
    let keys = &["path", "commit_every", "commit_rows"];
    let Some(shape) = Shape::read(node, "`offline`", keys, reading) else { return default };
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
    let Some(shape) = Shape::read(node, "`lookups`", &["rows"], reading) else { return default };
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
    if let Some(shape) = Shape::read(node, "`ports`", &["grpc", "http"], reading) {
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
