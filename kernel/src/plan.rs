//! The compiled view: everything an engine needs to carry a view out, and the fingerprint of its meaning.

use std::fmt;
use std::ops::Deref;

use thiserror::Error;

use crate::aggregate::{self, Function, StateKind};
use crate::codec::Writer;
use crate::layout::Layout;
use crate::source::{self, SourceVersion};
use crate::time::Span;
use crate::value::{FeatureType, Field, Type};
use crate::window::Window;

/// One part of a view's key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyField {
    /// The name that the entity gives it, and that lookups and labels use.
    pub name: String,
    /// The source's field that holds it.
    pub field: String,
    /// Its type, the same in both.
    pub ty: Type,
}

/// A scalar SQL expression over the source's fields, and the type it was checked to have.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Input {
    /// The expression's text.
    pub sql: String,
    /// Its type.
    pub ty: Type,
}

/// One aggregate state that the view keeps in every tile. Features that differ only in their window or in how
/// they finish (sum and avg) share it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Aggregate {
    /// What is kept.
    pub kind: StateKind,
    /// What is aggregated; none for `count(*)`.
    pub input: Option<Input>,
    /// The aggregate's own filter: a boolean expression, null excludes.
    pub filter: Option<String>,
}

/// One windowed feature of a plan.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Feature {
    /// `name_window`, unique in the view.
    pub name: String,
    /// The state it is finished from: an index into [`PlanParts::aggregates`].
    pub aggregate: usize,
    /// How it is finished.
    pub function: Function,
    /// Its window: an index into [`PlanParts::windows`].
    pub window: usize,
    /// The type of its values.
    pub ty: FeatureType,
}

/// One windowed feature as it is declared.
#[derive(Clone, Debug)]
pub struct FeatureSpec {
    /// `name_window`, unique in the view.
    pub name: String,
    /// The aggregate.
    pub function: Function,
    /// What is aggregated; none for `count(*)`.
    pub input: Option<Input>,
    /// The aggregate's own filter.
    pub filter: Option<String>,
    /// The window.
    pub window: Window,
}

/// A view as it is declared, checked and typed: what a [`FeaturePlan`] is made from.
#[derive(Clone, Debug)]
pub struct ViewSpec {
    /// The view's name.
    pub view: String,
    /// The entity its features describe.
    pub entity: String,
    /// The source its events come from.
    pub source: String,
    /// The version of that source, where it is part of the view's meaning: where several workers share its partitions.
    ///
    /// There a partition can change hands while a new version is applied: which version read a record cannot be told
    /// afterwards. So another reading of the source makes other views, backfilled from a history that was read the new
    /// way. A source that one process reads has only the version of the rules of time zones, [`ZONES`](crate::time::ZONES), and
    /// only where it names a zone: that process changes from one definition to the next at a position that it knows. [`READING`](source::READING) is part of every view: a process of another version of Tidemark
    /// cannot read the earlier way up to some position.
    pub source_version: Option<SourceVersion>,
    /// The source's fields that the keys and expressions use.
    pub fields: Vec<Field>,
    /// The parts of the key, in the entity's order.
    pub keys: Vec<KeyField>,
    /// The view's filter over the fields; null and false keep an event out.
    pub filter: Option<String>,
    /// Its features, in the order in which they are answered.
    pub features: Vec<FeatureSpec>,
    /// How long before the newest arrival a question may still be asked about.
    pub time_travel: Span,
    /// How old the newest event may be before answers say `outside_max_age`.
    pub max_age: Option<Span>,
    /// Version of the meaning of scalar expressions, which the expression engine sets.
    pub expression_semantics: u32,
}

/// Why a plan cannot be made.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum PlanError {
    /// The aggregate does not take such an input.
    #[error("feature {feature}: {function} does not take {given}; it takes {takes}")]
    Input {
        /// The name of the feature.
        feature: String,
        /// Its aggregate.
        function: &'static str,
        /// The input's type, or "no input".
        given: String,
        /// What the aggregate takes.
        takes: &'static str,
    },
    /// Two features of the view have one name.
    #[error("feature {0} is declared twice")]
    Duplicate(String),
    /// The view has nothing to answer.
    #[error("view {0} has no feature")]
    Empty(String),
    /// The key is empty or of a type that keys cannot have.
    #[error("view {view}: a key is one or several of int64, string, bool, timestamp")]
    Key {
        /// The name of the view.
        view: String,
    },
}

/// A compiled view: texts and types, no compiled objects. Engines share it as `Arc<FeaturePlan>`.
///
/// Its [parts](PlanParts) can be read and not changed, so that a plan always has the fingerprint of what it does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FeaturePlan {
    parts: PlanParts,
    fingerprint: Fingerprint,
    /// Of its states in each layout.
    states: [Fingerprint; Layout::ALL.len()],
}

/// What a [`FeaturePlan`] consists of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PlanParts {
    /// The view's name.
    pub view: String,
    /// The entity its features describe.
    pub entity: String,
    /// The source its events come from.
    pub source: String,
    /// The version of that source, where it is part of the view's meaning.
    pub source_version: Option<SourceVersion>,
    /// The source's fields that the keys and expressions use.
    pub fields: Vec<Field>,
    /// The parts of the key, in the entity's order.
    pub keys: Vec<KeyField>,
    /// The view's filter over the fields; null and false keep an event out.
    pub filter: Option<String>,
    /// The states of a tile, each once.
    pub aggregates: Vec<Aggregate>,
    /// The features, in the order in which they are answered.
    pub features: Vec<Feature>,
    /// The distinct windows, shortest first, `lifetime` last.
    pub windows: Vec<Window>,
    /// How long before the newest arrival a question may still be asked about.
    pub time_travel: Span,
    /// How old the newest event may be before answers say `outside_max_age`.
    pub max_age: Option<Span>,
}

/// For reading alone: there is no way to a part that could be changed.
impl Deref for FeaturePlan {
    type Target = PlanParts;

    fn deref(&self) -> &PlanParts {
        &self.parts
    }
}

impl FeaturePlan {
    /// How long before the newest arrival a question may be asked about, unless a view sets another length.
    pub const DEFAULT_TIME_TRAVEL: Span = Span::from_secs(10);

    /// Compiles a view: finds the states its features share, orders its windows, takes its fingerprint.
    ///
    /// # Errors
    /// Fails where a feature's input does not fit its aggregate, a name is taken twice, or features or keys are
    /// missing.
    pub fn new(spec: ViewSpec) -> Result<Self, PlanError> {
        if spec.features.is_empty() {
            return Err(PlanError::Empty(spec.view));
        }
        if spec.keys.is_empty() || spec.keys.iter().any(|key| !key.ty.is_key()) {
            return Err(PlanError::Key { view: spec.view });
        }
        let mut windows: Vec<Window> = spec.features.iter().map(|feature| feature.window).collect();
        windows.sort_unstable();
        windows.dedup();
        let fingerprint = Fingerprint::of(&spec);
        let mut parts = PlanParts {
            view: spec.view,
            entity: spec.entity,
            source: spec.source,
            source_version: spec.source_version,
            fields: spec.fields,
            keys: spec.keys,
            filter: spec.filter,
            aggregates: Vec::new(),
            features: Vec::with_capacity(spec.features.len()),
            windows,
            time_travel: spec.time_travel,
            max_age: spec.max_age,
        };
        for feature in spec.features {
            parts.add(feature)?;
        }
        Ok(Self { parts, fingerprint, states: Layout::ALL.map(|layout| fingerprint.of_states(layout)) })
    }

    /// The hash of the plan's meaning: equal fingerprints give equal answers to equal questions about equal events.
    ///
    /// Which records become events is the [source's](crate::source::SourcePlan::version) meaning, not the view's:
    /// neither its rules of time nor its other fields are in it, unless there is a [`PlanParts::source_version`]. The
    /// [reading](source::READING) that all sources share is.
    #[must_use]
    pub const fn fingerprint(&self) -> Fingerprint {
        self.fingerprint
    }

    /// The fingerprint of a generation: equal ones have equal states after equal events. It is the plan's own
    /// for the first layout, so that all that was stored in it is known.
    #[must_use]
    pub const fn generation_fingerprint(&self, layout: Layout) -> Fingerprint {
        self.states[layout as usize - 1]
    }

    /// The fingerprint of a generation that is begun by this version.
    #[must_use]
    pub fn new_generation_fingerprint(&self) -> Fingerprint {
        self.generation_fingerprint(Layout::default())
    }

    /// The layout of the states of a generation, which it keeps: so two versions never write different bytes at one position.
    /// None where they are not of this plan.
    #[must_use]
    pub fn layout_of_generation(&self, generation: Fingerprint) -> Option<Layout> {
        Layout::ALL.into_iter().find(|layout| self.generation_fingerprint(*layout) == generation)
    }

    /// The key's types, in the entity's order.
    pub fn key_types(&self) -> impl Iterator<Item = Type> + '_ {
        self.keys.iter().map(|key| key.ty)
    }

    /// `view.name`, as outputs spell it.
    #[must_use]
    pub fn qualified(&self, feature: &Feature) -> String {
        format!("{}.{}", self.view, feature.name)
    }
}

impl PlanParts {
    fn add(&mut self, spec: FeatureSpec) -> Result<(), PlanError> {
        if self.features.iter().any(|feature| feature.name == spec.name) {
            return Err(PlanError::Duplicate(spec.name));
        }
        let input = spec.input.as_ref().map(|input| input.ty);
        let (Some(kind), Some(ty)) = (spec.function.state(input), spec.function.output(input)) else {
            return Err(PlanError::Input {
                feature: spec.name,
                function: spec.function.name(),
                given: input.map_or("no input".into(), |ty| ty.to_string()),
                takes: spec.function.takes(),
            });
        };
        let aggregate = Aggregate { kind, input: spec.input, filter: spec.filter };
        let aggregate = self.aggregates.iter().position(|known| *known == aggregate).unwrap_or_else(|| {
            self.aggregates.push(aggregate);
            self.aggregates.len() - 1
        });
        let window = self.windows.binary_search(&spec.window).unwrap_or_else(|missing| missing);
        self.features.push(Feature { name: spec.name, aggregate, function: spec.function, window, ty });
        Ok(())
    }
}

/// The hash of a plan's meaning.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Fingerprint(pub [u8; 16]);

/// Version of what this file hashes and how. It changes with the rules of windows, tiles or answers.
const PLAN_SEMANTICS: u64 = 1;

impl Fingerprint {
    fn of(spec: &ViewSpec) -> Self {
        // By name, so that a new part does not compile before it is hashed, or left out on purpose.
        let ViewSpec {
            view,
            entity,
            source,
            source_version,
            fields,
            keys,
            filter,
            features,
            time_travel,
            max_age,
            expression_semantics,
        } = spec;
        let mut out = Writer::new();
        out.varint(PLAN_SEMANTICS);
        out.varint(u64::from(aggregate::SEMANTICS));
        out.varint(u64::from(*expression_semantics));
        out.varint(u64::from(source::READING));
        for text in [view, entity, source] {
            out.bytes(text.as_bytes());
        }
        out.varint(fields.len() as u64);
        // By name: where the source declares them makes no difference.
        let mut fields: Vec<&Field> = fields.iter().collect();
        fields.sort_unstable_by_key(|field| &field.name);
        for field in fields {
            field.encode(&mut out);
        }
        out.varint(keys.len() as u64);
        for KeyField { name, field, ty } in keys {
            out.bytes(name.as_bytes());
            out.bytes(field.as_bytes());
            out.bytes(ty.canonical().as_bytes());
        }
        optional(&mut out, filter.as_deref());
        out.varint(features.len() as u64);
        for FeatureSpec { name, function, input, filter, window } in features {
            out.bytes(name.as_bytes());
            out.bytes(function.canonical().as_bytes());
            optional(&mut out, input.as_ref().map(|input| input.sql.as_str()));
            optional(&mut out, input.as_ref().map(|input| input.ty.canonical()));
            optional(&mut out, filter.as_deref());
            let (length, hop) = match window {
                Window::Sliding { length, hop } => (length.millis() as u64, hop.millis() as u64),
                Window::Lifetime => (0, 0),
            };
            out.varint(length);
            out.varint(hop);
        }
        out.varint(time_travel.millis() as u64);
        out.varint(max_age.map_or(0, |age| age.millis() as u64 + 1));
        // Nothing is written for none, so that fingerprints older than this field stay what they were.
        if let Some(version) = source_version {
            out.bytes(&version.0.to_be_bytes());
        }
        Self::hash(&out.into_bytes())
    }

    pub(crate) fn hash(bytes: &[u8]) -> Self {
        let mut short = [0; 16];
        short.copy_from_slice(&blake3::hash(bytes).as_bytes()[..16]);
        Self(short)
    }

    fn of_states(self, layout: Layout) -> Self {
        match layout {
            Layout::One => self,
            Layout::Two => Self::hash(&[&self.0[..], b"states", &[layout as u8]].concat()),
        }
    }

    /// The fingerprint of a text; none if it is not how fingerprints are written: as 32 digits, `a` to `f` small.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let parsed = Self(u128::from_str_radix(text, 16).ok()?.to_be_bytes());
        (parsed.to_string() == text).then_some(parsed)
    }
}

fn optional(out: &mut Writer, text: Option<&str>) {
    match text {
        None => out.u8(0),
        Some(text) => {
            out.u8(1);
            out.bytes(text.as_bytes());
        }
    }
}

impl fmt::Display for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", u128::from_be_bytes(self.0))
    }
}

impl fmt::Debug for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests;
