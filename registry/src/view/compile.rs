//! From a view's declaration to its plan: names resolved, expressions typed.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

use tidemark_expr::closest;
use tidemark_kernel::plan::{FeaturePlan, FeatureSpec, Input, KeyField, ViewSpec};
use tidemark_kernel::value::{Field, Type};
use tidemark_kernel::window::Window;

use super::{FeatureDeclaration, ViewDeclaration};
use crate::entity::EntityDeclaration;
use crate::expression::{self, Scope};
use crate::field::FieldDeclaration;
use crate::file::Place;
use crate::problem::Problem;
use crate::shape::Reading;
use crate::source::SourceDeclaration;
use crate::suggest;
use crate::tree::Scalar;

type Entities = BTreeMap<String, EntityDeclaration>;
type Sources = BTreeMap<String, SourceDeclaration>;

/// The view's plan; none where something in it, its entity or its source is wrong.
pub(crate) fn compile(
    view: &ViewDeclaration,
    entities: &Entities,
    sources: &Sources,
    reading: &mut Reading<'_>,
) -> Option<FeaturePlan> {
    let entity = view.entity.as_ref().and_then(|name| find(name, "entity", entities, reading));
    let source = view.source.as_ref().and_then(|name| find(name, "source", sources, reading));
    let (source, before) = (source?, reading.errors());
    if !source.whole {
        return None;
    }
    let mut compiler = Compiler::new(source, reading);
    let keys = entity.map(|entity| compiler.keys(view, entity));
    let filter = view.filter.as_ref().and_then(|sql| compiler.condition(sql, 0..sql.value.len()));
    let features = compiler.features(view);
    let fields = compiler.fields();
    if !view.whole || !entity?.whole || reading.errors() > before {
        return None;
    }
    let plan = FeaturePlan::new(ViewSpec {
        view: view.name.value.clone(),
        entity: entity?.name.value.clone(),
        source: source.name.value.clone(),
        source_version: source.version_in_views(),
        fields,
        keys: keys?,
        filter,
        features,
        time_travel: view.time_travel,
        max_age: view.max_age,
        expression_semantics: tidemark_expr::SEMANTICS,
    });
    plan.map_err(|error| reading.report(Problem::error(view.name.place, error.to_string()))).ok()
}

fn find<'d, D>(
    name: &Scalar,
    what: &str,
    declared: &'d BTreeMap<String, D>,
    reading: &mut Reading<'_>,
) -> Option<&'d D> {
    let found = declared.get(&name.value);
    if found.is_none() {
        reading.unknown(what, (&name.value, name.place), declared.keys().map(String::as_str));
    }
    found
}

/// Compiles a view's expressions, and keeps which fields they use.
struct Compiler<'d, 'r, 'f> {
    source: &'d SourceDeclaration,
    scope: Scope,
    used: BTreeSet<String>,
    reading: &'r mut Reading<'f>,
}

impl<'d, 'r, 'f> Compiler<'d, 'r, 'f> {
    fn new(source: &'d SourceDeclaration, reading: &'r mut Reading<'f>) -> Self {
        let scope = Scope::new(source.fields.iter().map(FieldDeclaration::field));
        Self { source, scope, used: BTreeSet::new(), reading }
    }

    /// The source's fields that are used, in its order.
    fn fields(&self) -> Vec<Field> {
        let fields = self.source.fields.iter().filter(|field| self.used.contains(&field.name.value));
        fields.map(FieldDeclaration::field).collect()
    }

    fn keys(&mut self, view: &ViewDeclaration, entity: &EntityDeclaration) -> Vec<KeyField> {
        let names = entity.keys.iter().map(|key| key.name.value.as_str());
        for (key, _) in &view.keys {
            if entity.whole && !names.clone().any(|name| name == key.value) {
                let message = format!("entity `{}` has no key `{}`", entity.name.value, key.value);
                let help = suggest::help(&key.value, "its keys", names.clone());
                self.reading.report(Problem::error(key.place, message).help(help));
            }
        }
        entity
            .keys
            .iter()
            .filter_map(|key| self.key(view, entity, &key.name.value, key.ty, key.ty_place))
            .collect()
    }

    fn key(
        &mut self,
        view: &ViewDeclaration,
        entity: &EntityDeclaration,
        name: &str,
        ty: Type,
        declared: Place,
    ) -> Option<KeyField> {
        let mapped = view.keys.iter().find(|(key, _)| key.value == name).map(|(_, field)| field);
        let field = mapped.map_or(name, |field| field.value.as_str());
        let place = mapped.or(view.source.as_ref()).map_or(view.name.place, |text| text.place);
        let Some(found) = self.source.field(field) else {
            self.no_key_field(place, entity, name, field, mapped.is_some());
            return None;
        };
        if found.ty != ty {
            let (source, entity) = (&self.source.name.value, &entity.name.value);
            let message = format!(
                "key `{name}` of `{entity}` is {ty}, but field `{field}` of `{source}` is {}",
                found.ty
            );
            let problem = Problem::error(found.ty_place, message).label(format!("not {ty}"));
            self.reading.report(
                problem
                    .related(declared, "the key's type")
                    .help("keys are compared as bytes, never coerced: declare both alike".to_owned()),
            );
            return None;
        }
        self.used.insert(field.to_owned());
        Some(KeyField { name: name.to_owned(), field: field.to_owned(), ty })
    }

    fn no_key_field(
        &mut self,
        place: Place,
        entity: &EntityDeclaration,
        name: &str,
        field: &str,
        mapped: bool,
    ) {
        let known = self.source.fields.iter().map(|field| field.name.value.as_str());
        let near = closest(field, known.clone()).unwrap_or("some_field");
        let help = match mapped {
            true => suggest::help(field, "fields", known),
            false => Some(format!("name the field in the view: `keys: {{{name}: {near}}}`")),
        };
        let message = format!("source `{}` has no field `{field}`", self.source.name.value);
        let problem =
            Problem::error(place, message).label(format!("needed as key of `{}`", entity.name.value));
        self.reading.report(problem.help(help));
    }

    /// Compiles a part of a text as a condition. Gives its SQL.
    fn condition(&mut self, text: &Scalar, range: Range<usize>) -> Option<String> {
        let compiled = expression::condition(text, range, &self.scope, self.reading)?;
        self.used.extend(compiled.columns);
        Some(compiled.sql)
    }

    /// Compiles a part of a text as what an aggregate takes.
    fn input(&mut self, text: &Scalar, range: Range<usize>) -> Option<Input> {
        let compiled = expression::compile(text, range, &self.scope, self.reading)?;
        self.used.extend(compiled.columns);
        Some(Input { sql: compiled.sql, ty: compiled.ty })
    }

    fn features(&mut self, view: &ViewDeclaration) -> Vec<FeatureSpec> {
        let mut taken: BTreeMap<String, Place> = BTreeMap::new();
        let mut specs = Vec::new();
        for feature in &view.features {
            self.columns(feature, &mut taken);
            let Some(sql) = &feature.aggregate else { continue };
            let Some(template) = self.aggregate(sql) else { continue };
            specs.extend(feature.windows.iter().map(|(window, text)| FeatureSpec {
                name: feature.column(text),
                window: *window,
                ..template.clone()
            }));
        }
        specs
    }

    /// Every column of the view has a name of its own.
    fn columns(&mut self, feature: &FeatureDeclaration, taken: &mut BTreeMap<String, Place>) {
        for (_, text) in &feature.windows {
            let column = feature.column(text);
            match taken.get(&column) {
                None => {
                    taken.insert(column, text.place);
                }
                Some(first) => {
                    let problem = Problem::error(text.place, format!("two features are named `{column}`"));
                    self.reading.report(
                        problem
                            .label(format!("`{column}` again"))
                            .related(*first, format!("`{column}` first"))
                            .help("declare one of them as a feature of another name".to_owned()),
                    );
                }
            }
        }
    }

    /// A feature with neither name nor window: what all windows of a declaration have in common.
    fn aggregate(&mut self, sql: &Scalar) -> Option<FeatureSpec> {
        let call = expression::parse_aggregate(sql, self.reading)?;
        let input = match &call.argument {
            None => None,
            Some(piece) => Some(self.input(sql, piece.span.clone())?),
        };
        let filter = match &call.filter {
            None => None,
            Some(piece) => Some(self.condition(sql, piece.span.clone())?),
        };
        let ty = input.as_ref().map(|input| input.ty);
        if call.function.state(ty).is_none() {
            let place = call.argument.map_or(sql.place, |piece| sql.within(self.reading.files, piece.span));
            let given = ty.map_or("no input".to_owned(), |ty| ty.to_string());
            let problem = Problem::error(place, format!("{} does not take {given}", call.function.name()));
            let help = format!("it takes {}", call.function.takes());
            self.reading.report(problem.label(format!("this is {given}")).help(help));
            return None;
        }
        let (function, window) = (call.function, Window::Lifetime);
        Some(FeatureSpec { name: String::new(), function, input, filter, window })
    }
}
