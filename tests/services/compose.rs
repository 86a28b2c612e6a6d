//! Reads `docker-compose.yml`, for the tests that compare its services with the code.
//!
//! It is read line by line: block mappings, with flow mappings and sequences on one line behind their key.

use std::collections::BTreeMap;
use std::path::PathBuf;

/// The file.
pub const TEXT: &str = include_str!("../../docker-compose.yml");

/// One service of the file.
#[derive(Clone, Debug)]
pub struct Service {
    /// Its name, by which the others find it on their network.
    pub name: String,
    settings: BTreeMap<String, &'static str>,
}

/// Every service, in the order of the file.
pub fn services() -> Vec<Service> {
    let mut services: Vec<Service> = Vec::new();
    for (key, value) in settings() {
        let Some(key) = key.strip_prefix("services/") else { continue };
        match key.split_once('/') {
            None => services.push(Service { name: key.to_owned(), settings: BTreeMap::new() }),
            Some((_, key)) => {
                services.last_mut().expect("a service").settings.insert(key.to_owned(), value);
            }
        }
    }
    services
}

/// The service of that name.
#[track_caller]
pub fn service(name: &str) -> Service {
    services().into_iter().find(|service| service.name == name).expect("a service of the file")
}

/// Whether the file declares this volume.
pub fn has_volume(name: &str) -> bool {
    settings().iter().any(|(key, _)| *key == format!("volumes/{name}"))
}

impl Service {
    /// Whether it is tidemark that runs in it.
    pub fn is_tidemark(&self) -> bool {
        self.text("image") == Some("tidemark")
    }

    /// What is behind a key, such as `healthcheck/interval`.
    pub fn text(&self, key: &str) -> Option<&'static str> {
        self.settings.get(key).copied()
    }

    /// The items of a sequence; nothing where the key is not there.
    pub fn list(&self, key: &str) -> Vec<&'static str> {
        self.text(key).map_or_else(Vec::new, items)
    }

    /// The environment variables of a service whose line has them all.
    pub fn variables(&self) -> Vec<(&'static str, &'static str)> {
        let variables = self.list("environment").into_iter();
        variables.map(|it| it.split_once(": ").expect("a value")).map(|(name, it)| (name, bare(it))).collect()
    }

    /// The services that it waits for.
    pub fn awaited(&self) -> Vec<&str> {
        self.settings.keys().filter_map(|key| key.strip_prefix("depends_on/")).collect()
    }

    /// The folder of the checkout that it has as its repo, unless the environment names another one.
    pub fn repo(&self) -> Option<PathBuf> {
        let mounted = self.list("volumes").into_iter().find_map(|it| it.strip_suffix(":/repo"))?;
        let folder = mounted.strip_prefix("${TIDEMARK_REPO:-")?.strip_suffix('}')?;
        Some(PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/..")).join(folder))
    }
}

/// `[a, "b"]` or `{a: b}` without what is around the items.
pub fn items(flow: &str) -> Vec<&str> {
    let inner = flow.trim_start_matches(['[', '{']).trim_end_matches([']', '}']);
    inner.split(", ").map(bare).filter(|item| !item.is_empty()).collect()
}

fn bare(item: &str) -> &str {
    item.trim_matches('"')
}

/// Every key with those above it, joined by `/`, and what is behind it, in the order of the file.
fn settings() -> Vec<(String, &'static str)> {
    let mut keys = Vec::new();
    let lines = TEXT.lines().filter(|line| !line.trim().is_empty() && !line.trim().starts_with('#'));
    let said = lines.map(|line| {
        let (key, value) = line.split_once(':').expect("a key");
        keys.truncate((key.len() - key.trim_start().len()) / 2);
        keys.push(key.trim());
        (keys.join("/"), value.trim())
    });
    said.collect()
}
