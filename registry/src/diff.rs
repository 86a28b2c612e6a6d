//! What a new version of a repo changes.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use tidemark_kernel::plan::{Feature, FeaturePlan};
use tidemark_kernel::service::{ServicePlan, ServiceView};
use tidemark_kernel::source::SourcePlan;
use tidemark_kernel::value::{Field, Type};

use crate::feed::Feed;
use crate::file::{Files, Place};
use crate::problem::{Problem, Problems};
use crate::repo::Repo;

/// What kind of declaration changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// A source.
    Source,
    /// A view.
    View,
    /// A service.
    Service,
}

/// What happens to a declaration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// It is new.
    Added,
    /// It is gone.
    Removed,
    /// It means something else, in words.
    Changed(Vec<String>),
}

/// A declaration that a new version adds, removes or changes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// Its kind.
    pub kind: Kind,
    /// Its name.
    pub name: String,
    /// What happens to it.
    pub action: Action,
}

impl Change {
    /// Whether applying it backfills a view from history.
    #[must_use]
    pub fn backfills(&self) -> bool {
        self.kind == Kind::View && self.action != Action::Removed
    }
}

/// `changed view user_payments (backfill): amount_sum_30d added`.
impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = match self.kind {
            Kind::Source => "source",
            Kind::View => "view",
            Kind::Service => "service",
        };
        let name = &self.name;
        match &self.action {
            Action::Added if self.backfills() => write!(f, "added {kind} {name} (backfill)"),
            Action::Added => write!(f, "added {kind} {name}"),
            Action::Removed => write!(f, "removed {kind} {name}"),
            Action::Changed(reasons) => {
                let backfill = if self.backfills() { " (backfill)" } else { "" };
                write!(f, "changed {kind} {name}{backfill}: {}", reasons.join(", "))
            }
        }
    }
}

/// What the stored events of a source need of its definition. Rows bind a definition, not what was declared before.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Needs {
    /// The fields that the new definition declares as another type than rows hold.
    pub fields: Vec<HeldField>,
    /// The topic that positions were read of; none where no topic was ever read.
    pub topic: Option<String>,
}

/// A field that rows hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HeldField {
    /// Its name.
    pub field: String,
    /// Its type in the rows.
    pub stored: Type,
    /// How many rows have it.
    pub rows: u64,
    /// Where these are, for people; empty where that is not known.
    pub place: String,
}

/// What `new` changes of `old`: sources, then views, then services, each by name. `needs` are those of the sources of
/// `new`, by name; a source without is bound by nothing.
///
/// # Errors
/// Refuses, with the place, what stored events cannot follow: a field of which rows have another type, and another topic.
pub fn diff(old: &Repo, new: &Repo, needs: &BTreeMap<String, Needs>) -> Result<Vec<Change>, Problems> {
    let problems: Vec<Problem> = refusals(new, needs);
    if problems.is_empty() {
        return Ok(changes(old, new));
    }
    Err(Problems::new(Arc::<Files>::clone(&new.files), problems))
}

/// What changes, followed or not.
pub(crate) fn changes(old: &Repo, new: &Repo) -> Vec<Change> {
    let sources = compare(Kind::Source, &old.sources, &new.sources, |was, is| {
        let mut reasons = source_reasons(was, is);
        reasons.extend(feed_reasons(old.feeds.get(&was.name), new.feeds.get(&is.name)));
        reasons
    });
    let views = compare(Kind::View, &old.views, &new.views, view_reasons);
    let services = compare(Kind::Service, &old.services, &new.services, service_reasons);
    [sources, views, services].concat()
}

fn compare<P>(
    kind: Kind,
    old: &BTreeMap<String, Arc<P>>,
    new: &BTreeMap<String, Arc<P>>,
    reasons: impl Fn(&P, &P) -> Vec<String>,
) -> Vec<Change> {
    let mut names: Vec<&String> = old.keys().chain(new.keys()).collect();
    names.sort_unstable();
    names.dedup();
    let action = |name: &String| match (old.get(name), new.get(name)) {
        (None, _) => Some(Action::Added),
        (_, None) => Some(Action::Removed),
        (Some(old), Some(new)) => {
            Some(reasons(old, new)).filter(|reasons| !reasons.is_empty()).map(Action::Changed)
        }
    };
    let change = |name: &String| Some(Change { kind, name: name.clone(), action: action(name)? });
    names.into_iter().filter_map(change).collect()
}

/// Says `what changed` where it did.
fn changed(reasons: &mut Vec<String>, differs: bool, what: &str) {
    if differs {
        reasons.push(format!("{what} changed"));
    }
}

fn source_reasons(old: &SourcePlan, new: &SourcePlan) -> Vec<String> {
    let optional = |source: &SourcePlan, field: &Field| source.optional.contains(&field.name);
    let differs = |was: &Field, is: &Field| {
        was.ty != is.ty
            || old.origins.get(&was.name) != new.origins.get(&is.name)
            || optional(old, was) != optional(new, is)
            || old.zone(&was.name) != new.zone(&is.name)
    };
    let mut reasons = named(&old.fields, &new.fields, |field| &field.name, differs, "field ");
    let order = |fields: &[Field], other: &[Field]| -> Vec<String> {
        let both = fields.iter().filter(|field| other.iter().any(|other| other.name == field.name));
        both.map(|field| field.name.clone()).collect()
    };
    let moved = order(&old.fields, &new.fields) != order(&new.fields, &old.fields);
    changed(&mut reasons, moved, "the order of fields");
    changed(&mut reasons, old.event_time != new.event_time, "event_time");
    changed(&mut reasons, old.arrival != new.arrival, "arrival");
    changed(&mut reasons, old.max_ahead != new.max_ahead, "max_ahead");
    changed(&mut reasons, old.max_arrival_ahead != new.max_arrival_ahead, "max_arrival_ahead");
    changed(&mut reasons, old.unique != new.unique, "unique");
    changed(&mut reasons, old.keep_raw != new.keep_raw, "raw");
    reasons
}

fn feed_reasons(old: Option<&Feed>, new: Option<&Feed>) -> Vec<String> {
    let mut reasons = Vec::new();
    match (old, new) {
        (Some(Feed::Kafka(was)), Some(Feed::Kafka(is))) => {
            changed(&mut reasons, was.topic != is.topic, "topic");
            let differs = was.max_timestamp_ahead != is.max_timestamp_ahead;
            changed(&mut reasons, differs, "max_timestamp_ahead");
            if was.start != is.start {
                reasons.push("start changed (it only matters to partitions that were never read)".to_owned());
            }
        }
        (was, is) => changed(&mut reasons, was != is, "the feed"),
    }
    reasons
}

fn view_reasons(old: &FeaturePlan, new: &FeaturePlan) -> Vec<String> {
    if old.fingerprint() == new.fingerprint() {
        return Vec::new();
    }
    let differs = |a: &Feature, b: &Feature| meaning(old, a) != meaning(new, b);
    let mut reasons = named(&old.features, &new.features, |feature| &feature.name, differs, "");
    changed(&mut reasons, old.entity != new.entity, "entity");
    changed(&mut reasons, old.source != new.source, "source");
    changed(&mut reasons, old.source_version != new.source_version, "how its source is read");
    changed(&mut reasons, old.keys != new.keys, "keys");
    changed(&mut reasons, old.filter != new.filter, "where");
    changed(&mut reasons, old.time_travel != new.time_travel, "time_travel");
    changed(&mut reasons, old.max_age != new.max_age, "max_age");
    if reasons.is_empty() {
        let retyped = old.fields.iter().any(|field| !new.fields.contains(field));
        let what = if retyped { "the types of its fields" } else { "the order of features" };
        changed(&mut reasons, true, what);
    }
    reasons
}

/// What a feature computes, apart from where its plan keeps the parts.
fn meaning<'p>(plan: &'p FeaturePlan, feature: &Feature) -> impl PartialEq + use<'p> {
    let aggregate = &plan.aggregates[feature.aggregate];
    (feature.function, plan.windows[feature.window], &aggregate.input, &aggregate.filter)
}

fn service_reasons(old: &ServicePlan, new: &ServicePlan) -> Vec<String> {
    if old.fingerprint() == new.fingerprint() {
        return Vec::new();
    }
    let names =
        |plan: &ServicePlan| -> Vec<String> { plan.windowed_columns().map(|column| column.name).collect() };
    let (was, is) = (names(old), names(new));
    let mut reasons = named(&was, &is, |name| name, |_, _| false, "");
    let moved = reasons.is_empty() && was != is;
    changed(&mut reasons, moved, "the order of features");
    reasons.extend(named(
        &old.request,
        &new.request,
        |field| &field.name,
        |a, b| a.ty != b.ty,
        "request field ",
    ));
    let derived = |a: &tidemark_kernel::service::Derived, b: &tidemark_kernel::service::Derived| a != b;
    reasons.extend(named(&old.derived, &new.derived, |derived| &derived.name, derived, "derived feature "));
    for view in &new.views {
        let Some(before) = old.views.iter().find(|before| before.role == view.role) else { continue };
        let (name, role) = (&view.plan.view, &view.role);
        changed(&mut reasons, before.plan.view != *name, &format!("the view of {role}"));
        let columns =
            |view: &ServiceView| -> Vec<String> { view.keys.iter().map(|key| key.name.clone()).collect() };
        changed(&mut reasons, columns(before) != columns(view), &format!("the keys of {role}"));
        let differs = before.plan.view == *name && before.plan.fingerprint() != view.plan.fingerprint();
        let reason = format!("view {name}");
        // Two roles of a view change together.
        let is_told = reasons.contains(&format!("{reason} changed"));
        changed(&mut reasons, differs && !is_told, &reason);
    }
    if reasons.is_empty() {
        reasons.push("the order of its parts changed".to_owned());
    }
    reasons
}

/// `x added`, `x removed`, `x changed`, by name.
fn named<T>(
    old: &[T],
    new: &[T],
    name: impl Fn(&T) -> &String,
    differs: impl Fn(&T, &T) -> bool,
    what: &str,
) -> Vec<String> {
    let find = |list: &'_ [T], wanted: &String| list.iter().position(|item| name(item) == wanted);
    let kept = new.iter().filter_map(|item| match find(old, name(item)) {
        None => Some(format!("{what}{} added", name(item))),
        Some(before) => differs(&old[before], item).then(|| format!("{what}{} changed", name(item))),
    });
    let gone = old.iter().filter(|item| find(new, name(item)).is_none());
    kept.chain(gone.map(|item| format!("{what}{} removed", name(item)))).collect()
}

/// What stored events cannot follow.
fn refusals(new: &Repo, needs: &BTreeMap<String, Needs>) -> Vec<Problem> {
    let both = needs.iter().filter_map(|(name, needs)| Some((new.sources.get(name)?, needs)));
    let refused = both.flat_map(|(source, needs)| {
        let fields = needs.fields.iter().filter_map(|held| field_refusal(new, source, held));
        fields.chain(topic_refusal(new, source, needs.topic.as_deref()))
    });
    refused.collect()
}

fn place(repo: &Repo, path: &str) -> Place {
    repo.places.get(path).copied().unwrap_or(Place { file: 0, start: 0, end: 0 })
}

fn field_refusal(new: &Repo, source: &SourcePlan, held: &HeldField) -> Option<Problem> {
    let HeldField { field, stored, rows, place: at } = held;
    let ty = source.fields[source.field(field)?].ty;
    if ty == *stored {
        return None;
    }
    let name = &source.name;
    let hold = if *rows == 1 { "1 row holds".to_owned() } else { format!("{rows} rows hold") };
    let at = if at.is_empty() { String::new() } else { format!(" ({at})") };
    let message = format!("field `{field}` of source `{name}` is {ty} now, but {hold} it as {stored}{at}");
    let help = format!(
        "give it another name, with `from: {{column: {}}}` for what it is called in the data, or declare a new source",
        source.path(field).join(".")
    );
    let place = place(new, &format!("source.{name}.{field}"));
    Some(Problem::error(place, message).label(format!("was {stored}")).help(help))
}

fn topic_refusal(new: &Repo, is: &SourcePlan, read: Option<&str>) -> Option<Problem> {
    let (was, feed) = (read?, new.feeds.get(&is.name)?.kafka()?);
    if was == feed.topic {
        return None;
    }
    let (name, topic) = (&is.name, &feed.topic);
    let message = format!("source `{name}` read topic `{was}` and is to read `{topic}`");
    let problem = Problem::error(place(new, &format!("source.{name}")), message);
    let help = "declare a new source for the other topic";
    Some(problem.label(format!("its positions are those of `{was}`")).help(help.to_owned()))
}
