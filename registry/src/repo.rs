//! A whole repo: from files to plans.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;

use tidemark_kernel::plan::FeaturePlan;
use tidemark_kernel::service::ServicePlan;
use tidemark_kernel::source::SourcePlan;

use crate::entity::{ENTITY, Entity, EntityDeclaration};
use crate::feed::Feed;
use crate::file::{Files, Place};
use crate::folder::{self, PROJECT_FILE};
use crate::key::{Choice, Key, Table, Takes};
use crate::name;
use crate::problem::{Problem, Problems};
use crate::project::Project;
use crate::service::{self, SERVICE, ServiceDeclaration, Views};
use crate::shape::{Reading, Shape};
use crate::source::{SOURCE, SourceDeclaration};
use crate::tree::{self, Kind, Node, Scalar};
use crate::view::{self, VIEW, ViewDeclaration};

/// A checked repo.
#[derive(Clone, Debug)]
pub struct Repo {
    /// Its settings.
    pub project: Project,
    /// What features describe, by name.
    pub entities: BTreeMap<String, Entity>,
    /// What the records of each stream of events mean, by name.
    pub sources: BTreeMap<String, Arc<SourcePlan>>,
    /// Where their records come from: one feed for each of the sources, by the same names.
    pub feeds: BTreeMap<String, Feed>,
    /// The compiled views, by name.
    pub views: BTreeMap<String, Arc<FeaturePlan>>,
    /// The services, by name.
    pub services: BTreeMap<String, Arc<ServicePlan>>,
    /// What declarations are for, by path: `view.user_payments`, `view.user_payments.amount_sum_7d`,
    /// `source.payments.amount`, `service.fraud`.
    pub descriptions: BTreeMap<String, String>,
    /// What is probably not meant.
    pub warnings: Problems,
    /// Where declarations are written, by the same paths.
    pub(crate) places: BTreeMap<String, Place>,
    pub(crate) files: Arc<Files>,
}

impl Repo {
    /// The definition files by name, as they were read: enough to make this repo again.
    pub fn texts(&self) -> impl Iterator<Item = (&str, &str)> {
        self.files.iter().map(|file| (file.name.as_str(), file.text.as_str()))
    }
}

/// Reads the repo in a folder: `tidemark.yaml`, and every other YAML file but hidden ones and those in the
/// top folders `data` and `tests`.
///
/// # Errors
/// Every problem of every file.
pub fn load(dir: &Path) -> Result<Repo, Problems> {
    let (mut files, unreadable) = folder::read(dir);
    let mut problems = unreadable;
    if problems.is_empty() && !files.iter().any(|file| file.name == PROJECT_FILE) {
        let file = files.add(PROJECT_FILE, "");
        let problem =
            Problem::error(Place { file, start: 0, end: 0 }, "there is no tidemark.yaml, so this is no repo");
        let help =
            "`tidemark init DIR` writes an example repo; an own one begins with the line `project: NAME`";
        problems.push(problem.help(help.to_owned()));
        return Err(Problems::new(Arc::new(files), problems));
    }
    check(files, problems)
}

/// Reads definitions from memory: pairs of file name and text. Settings are default ones unless a file is named
/// `tidemark.yaml`.
///
/// # Errors
/// Every problem of every file.
pub fn parse<N: Into<String>, T: AsRef<str>>(
    files: impl IntoIterator<Item = (N, T)>,
) -> Result<Repo, Problems> {
    let mut read = Files::default();
    for (name, text) in files {
        read.add(name, text.as_ref());
    }
    check(read, Vec::new())
}

fn check(files: Files, problems: Vec<Problem>) -> Result<Repo, Problems> {
    let files = Arc::new(files);
    let unread: BTreeSet<usize> = problems.iter().map(|problem| problem.place.file).collect();
    let mut reading = Reading { files: &files, problems, incomplete: !unread.is_empty() };
    let declared = Declarations::read(&unread, &mut reading);
    let compiled = declared.compile(&mut reading);
    let problems = Problems::new(Arc::clone(&files), reading.problems);
    if problems.errors() > 0 {
        return Err(problems);
    }
    let declarations = declared.unique;
    Ok(Repo {
        project: declared.project.unwrap_or_else(|| Project::named("project")),
        entities: declarations
            .entities
            .iter()
            .map(|(name, entity)| (name.clone(), entity.entity()))
            .collect(),
        sources: compiled.sources,
        feeds: compiled.feeds,
        views: compiled.views,
        services: compiled.services,
        descriptions: declarations.descriptions(),
        warnings: problems,
        places: declarations.places(),
        files,
    })
}

/// Everything that the files declare, each name once.
#[derive(Default)]
struct Unique {
    entities: BTreeMap<String, EntityDeclaration>,
    sources: BTreeMap<String, SourceDeclaration>,
    views: BTreeMap<String, ViewDeclaration>,
    services: BTreeMap<String, ServiceDeclaration>,
}

struct Declarations {
    project: Option<Project>,
    unique: Unique,
}

struct Compiled {
    sources: BTreeMap<String, Arc<SourcePlan>>,
    feeds: BTreeMap<String, Feed>,
    views: BTreeMap<String, Arc<FeaturePlan>>,
    services: BTreeMap<String, Arc<ServicePlan>>,
}

/// The keys of a definition file.
pub(crate) const DEFINITIONS: Table = Table {
    what: "a definition file",
    about: "Every YAML file in the folder of the repo and below is a definition file, but for `tidemark.yaml`, hidden files, and the \
            folders `data` and `tests`. It may hold any of these lists, and names refer to each other across files.",
    keys: &[
        Key::optional(
            "entities",
            Takes::List(&Takes::Mapping(&ENTITY)),
            "none",
            "[{name: user, keys: [{name: user_id, type: int64}]}]",
            "What features describe.",
        ),
        Key::optional(
            "sources",
            Takes::List(&Takes::Mapping(&SOURCE)),
            "none",
            "[{name: payments, fields: [{name: user_id, type: int64}, {name: created_at, type: timestamp}], event_time: created_at}]",
            "The streams of events.",
        ),
        Key::optional(
            "views",
            Takes::List(&Takes::Mapping(&VIEW)),
            "none",
            "[{name: user_payments, entity: user, source: payments, features: [{name: payments, aggregate: count(*), windows: [1h]}]}]",
            "The features.",
        ),
        Key::optional(
            "services",
            Takes::List(&Takes::Mapping(&SERVICE)),
            "none",
            "[{name: fraud, features: [user_payments]}]",
            "What models take.",
        ),
    ],
    choice: Choice::Free,
};

impl Declarations {
    fn read(unread: &BTreeSet<usize>, reading: &mut Reading<'_>) -> Self {
        let mut project = None;
        let (mut entities, mut sources, mut views, mut services) = (vec![], vec![], vec![], vec![]);
        for (index, file) in reading.files.iter().enumerate().filter(|(index, _)| !unread.contains(index)) {
            let before = reading.errors();
            let node = tree::read(index, file, &mut reading.problems);
            reading.incomplete |= node.is_none() && reading.errors() > before;
            let empty = Node { place: Place { file: index, start: 0, end: 0 }, kind: Kind::Null };
            if file.name == PROJECT_FILE {
                // A file that could not be read has said so already.
                if node.is_some() || reading.errors() == before {
                    project = Project::read(&node.unwrap_or(empty), reading);
                }
                continue;
            }
            let Some(node) = node else { continue };
            let Some(shape) = Shape::read(&node, &DEFINITIONS, reading) else { continue };
            let mut each = |key: &str, read: &mut dyn FnMut(&Node, &mut Reading<'_>)| {
                shape.list(key, reading).iter().for_each(|node| read(node, reading));
            };
            each("entities", &mut |node, reading| entities.extend(EntityDeclaration::read(node, reading)));
            each("sources", &mut |node, reading| sources.extend(SourceDeclaration::read(node, reading)));
            each("views", &mut |node, reading| views.extend(ViewDeclaration::read(node, reading)));
            each("services", &mut |node, reading| services.extend(ServiceDeclaration::read(node, reading)));
        }
        let unique = Unique {
            entities: by_name(entities, "entity", |entity| &entity.name, reading),
            sources: by_name(sources, "source", |source| &source.name, reading),
            views: by_name(views, "view", |view| &view.name, reading),
            services: by_name(services, "service", |service| &service.name, reading),
        };
        Self { project, unique }
    }

    fn compile(&self, reading: &mut Reading<'_>) -> Compiled {
        let Unique { entities, sources, views, services } = &self.unique;
        let views: Views = views
            .iter()
            .map(|(name, view)| (name.clone(), view::compile(view, entities, sources, reading).map(Arc::new)))
            .collect();
        let services = services
            .iter()
            .filter_map(|(name, service)| {
                Some((name.clone(), Arc::new(service::compile(service, &views, reading)?)))
            })
            .collect();
        self.brokers(reading);
        self.unique.warn(reading);
        let feeds = sources.iter().filter_map(|(name, source)| Some((name.clone(), source.feed.clone()?)));
        let feeds = feeds.collect();
        let sources =
            sources.iter().filter_map(|(name, source)| Some((name.clone(), Arc::new(source.plan.clone()?))));
        let views = views.into_iter().filter_map(|(name, plan)| Some((name, plan?)));
        Compiled { sources: sources.collect(), feeds, views: views.collect(), services }
    }

    /// A topic is read from the project's brokers. Definitions without a project of their own may leave them open.
    fn brokers(&self, reading: &mut Reading<'_>) {
        if self.project.as_ref().is_none_or(|project| project.kafka.is_some()) {
            return;
        }
        for source in self.unique.sources.values() {
            let Some(place) = source.kafka else { continue };
            let message =
                format!("source `{}` reads a topic, but tidemark.yaml names no brokers", source.name.value);
            let help = "add `kafka: {bootstrap_servers: HOST:PORT}` to tidemark.yaml";
            reading.report(Problem::error(place, message).help(help.to_owned()));
        }
    }
}

fn by_name<D>(
    declared: Vec<D>,
    what: &str,
    name: impl Fn(&D) -> &Scalar,
    reading: &mut Reading<'_>,
) -> BTreeMap<String, D> {
    let unique = name::unique(declared, what, &name, reading);
    unique.into_iter().map(|declaration| (name(&declaration).value.clone(), declaration)).collect()
}

impl Unique {
    /// What is declared and never used; said only where nothing is wrong, which may be the reason.
    fn warn(&self, reading: &mut Reading<'_>) {
        if reading.errors() > 0 {
            return;
        }
        if self.sources.is_empty() && self.entities.is_empty() && self.views.is_empty() {
            let problem = Problem::warning(Place { file: 0, start: 0, end: 0 }, "nothing is declared");
            let help = "write entities, sources and views into a YAML file beside tidemark.yaml";
            if reading.files.iter().next().is_some() {
                reading.report(problem.help(help.to_owned()));
            }
        }
        let used = |of: fn(&ViewDeclaration) -> &Option<Scalar>, name: &str| {
            self.views.values().filter_map(|view| of(view).as_ref()).any(|text| text.value == name)
        };
        let entities = self.entities.iter().filter(|(name, _)| !used(|view| &view.entity, name));
        let sources = self.sources.iter().filter(|(name, _)| !used(|view| &view.source, name));
        let entities = entities.map(|(name, entity)| ("entity", name, entity.name.place));
        let sources = sources.map(|(name, source)| ("source", name, source.name.place));
        for (what, name, place) in entities.chain(sources) {
            let problem = Problem::warning(place, format!("{what} `{name}` is used by no view"));
            reading.report(problem);
        }
    }

    /// Every declaration: its path, its place and its description.
    fn paths(&self) -> Vec<(String, Place, Option<&String>)> {
        let mut paths = Vec::new();
        for entity in self.entities.values() {
            let path = format!("entity.{}", entity.name.value);
            paths.push((path, entity.name.place, entity.description.as_ref()));
        }
        for source in self.sources.values() {
            let path = format!("source.{}", source.name.value);
            paths.extend(source.fields.iter().map(|field| {
                (format!("{path}.{}", field.name.value), field.ty_place, field.description.as_ref())
            }));
            paths.push((path, source.name.place, source.description.as_ref()));
        }
        for view in self.views.values() {
            let path = format!("view.{}", view.name.value);
            paths.extend(view.features.iter().flat_map(|feature| {
                let column = |window| format!("{path}.{}", feature.column(window));
                let windows = feature.windows.iter();
                windows.map(move |(_, text)| (column(text), text.place, feature.description.as_ref()))
            }));
            paths.push((path, view.name.place, view.description.as_ref()));
        }
        for service in self.services.values() {
            let path = format!("service.{}", service.name.value);
            paths.extend(service.derived.iter().map(|derived| {
                (format!("{path}.{}", derived.name.value), derived.name.place, derived.description.as_ref())
            }));
            paths.push((path, service.name.place, service.description.as_ref()));
        }
        paths
    }

    fn descriptions(&self) -> BTreeMap<String, String> {
        self.paths()
            .into_iter()
            .filter_map(|(path, _, description)| Some((path, description?.clone())))
            .collect()
    }

    fn places(&self) -> BTreeMap<String, Place> {
        self.paths().into_iter().map(|(path, place, _)| (path, place)).collect()
    }
}
