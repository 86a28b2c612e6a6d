//! `tidemark.yaml`: where a project keeps its state and how it is reached.

use crate::name;
use crate::problem::Problem;
use crate::shape::{Reading, Shape};
use crate::tree::{Node, Text};

/// The settings of a project. Paths that are not absolute start at the repo's folder.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Project {
    /// Its name.
    pub name: String,
    /// Where the online state is.
    pub online: Online,
    /// Where the event tables are: a folder, or a URL such as `s3://bucket/prefix`.
    pub offline: String,
    /// The Kafka brokers, `host:port[,host:port]…`, if there are any.
    pub bootstrap_servers: Option<String>,
    /// Where it listens.
    pub ports: Ports,
}

/// The online store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Online {
    /// A file of this machine, used by one process.
    Embedded {
        /// The folder.
        path: String,
    },
    /// Redis or Valkey.
    Redis {
        /// `redis://host:port`.
        url: String,
    },
}

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

const KEYS: [&str; 5] = ["project", "online", "offline", "kafka", "ports"];
const ONLINE: &str = "data/online";
const OFFLINE: &str = "data/offline";

impl Project {
    /// A project with nothing but a name.
    #[must_use]
    pub fn named(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            online: Online::Embedded { path: ONLINE.to_owned() },
            offline: OFFLINE.to_owned(),
            bootstrap_servers: None,
            ports: Ports::default(),
        }
    }

    pub(crate) fn read(node: &Node, reading: &mut Reading<'_>) -> Option<Self> {
        let shape = Shape::read(node, "tidemark.yaml", &KEYS, reading)?;
        let name = shape.require_text("project", reading);
        let name = name.filter(|name| name::check(name, reading));
        let default = Self::named("");
        let online = shape.get("online").and_then(|node| online(node, reading));
        let offline = shape.get("offline").and_then(|node| one(node, "`offline`", &["path"], reading));
        let kafka = shape.get("kafka").and_then(|node| one(node, "`kafka`", &["bootstrap_servers"], reading));
        let ports = shape.get("ports").map(|node| ports(node, reading));
        Some(Self {
            name: name?.value.clone(),
            online: online.unwrap_or(default.online),
            offline: offline.unwrap_or(default.offline),
            bootstrap_servers: kafka,
            ports: ports.unwrap_or_default(),
        })
    }
}

/// The one value of a mapping that has only that.
fn one(
    node: &Node,
    what: &'static str,
    key: &'static [&'static str; 1],
    reading: &mut Reading<'_>,
) -> Option<String> {
    let shape = Shape::read(node, what, key, reading)?;
    shape.require_text(key[0], reading).map(|text| text.value.clone())
}

fn online(node: &Node, reading: &mut Reading<'_>) -> Option<Online> {
    let shape = Shape::read(node, "`online`", &["store", "path", "url"], reading)?;
    let store = shape.require_text("store", reading)?;
    match store.value.as_str() {
        "embedded" => {
            foreign(&shape, "url", store, reading);
            let path = shape.text("path", reading).map_or(ONLINE, |path| &path.value);
            Some(Online::Embedded { path: path.to_owned() })
        }
        "redis" => {
            foreign(&shape, "path", store, reading);
            shape.require_text("url", reading).map(|url| Online::Redis { url: url.value.clone() })
        }
        _ => {
            let problem = Problem::error(store.place, format!("unknown online store `{}`", store.value));
            reading.report(problem.help("stores: embedded, redis".to_owned()));
            None
        }
    }
}

fn foreign(shape: &Shape<'_>, key: &str, store: &Text, reading: &mut Reading<'_>) {
    if let Some((key, _)) = shape.entry(key) {
        let message = format!("the {} store takes no `{}`", store.value, key.value);
        reading.report(Problem::error(key.place, message).related(store.place, "the store"));
    }
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
