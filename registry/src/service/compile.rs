//! From a service's declaration to its plan: features found, names apart, derived features typed.

use std::collections::BTreeMap;
use std::sync::Arc;

use tidemark_expr::closest;
use tidemark_kernel::plan::{Feature, FeaturePlan};
use tidemark_kernel::service::{Derived, ServiceFeature, ServicePlan};
use tidemark_kernel::value::Type;

use super::{DerivedDeclaration, ServiceDeclaration};
use crate::expression::{self, Scope};
use crate::field::FieldDeclaration;
use crate::file::Place;
use crate::name;
use crate::problem::Problem;
use crate::shape::Reading;
use crate::suggest;
use crate::tree::Scalar;

/// Every declared view by name, without a plan where something in it is wrong.
pub(crate) type Views = BTreeMap<String, Option<Arc<FeaturePlan>>>;

/// The service's plan; none where something in it or in one of its views is wrong.
pub(crate) fn compile(
    service: &ServiceDeclaration,
    views: &Views,
    reading: &mut Reading<'_>,
) -> Option<ServicePlan> {
    let before = reading.errors();
    let mut compiler = Compiler { all: views, views: Vec::new(), chosen: Vec::new(), whole: true, reading };
    service.features.iter().for_each(|text| compiler.choose(text));
    compiler.keys();
    compiler.names(service);
    let scope = compiler.scope(&service.request);
    let whole = compiler.whole;
    let derived = match whole {
        true => service.derived.iter().filter_map(|derived| compiler.derive(derived, &scope)).collect(),
        false => Vec::new(),
    };
    let features = compiler.chosen.iter().map(|(feature, _)| *feature).collect();
    let plan = ServicePlan {
        name: service.name.value.clone(),
        views: compiler.views,
        features,
        request: service.request.iter().map(FieldDeclaration::field).collect(),
        derived,
    };
    (whole && service.whole && reading.errors() == before).then_some(plan)
}

struct Compiler<'v, 'r, 'f> {
    all: &'v Views,
    /// The views used so far.
    views: Vec<Arc<FeaturePlan>>,
    /// The features chosen so far, and by which text.
    chosen: Vec<(ServiceFeature, Place)>,
    /// Whether every view that is named has a plan.
    whole: bool,
    reading: &'r mut Reading<'f>,
}

impl Compiler<'_, '_, '_> {
    /// Adds what `view`, `view.feature` or a short `feature` stands for.
    fn choose(&mut self, text: &Scalar) {
        if let Some((view, feature)) = text.value.split_once('.') {
            return self.choose_qualified(text, view, feature);
        }
        match self.all.get(&text.value) {
            Some(Some(plan)) => {
                (0..plan.features.len()).for_each(|feature| self.add(plan, feature, text.place))
            }
            Some(None) => self.whole = false,
            None => self.choose_short(text),
        }
    }

    fn choose_qualified(&mut self, text: &Scalar, view: &str, feature: &str) {
        let plan = match self.all.get(view) {
            Some(Some(plan)) => plan,
            Some(None) => return self.whole = false,
            None => {
                self.whole = false;
                let place = text.within(self.reading.files, 0..view.len());
                return self.reading.unknown("view", (view, place), self.all.keys().map(String::as_str));
            }
        };
        if let Some(found) = plan.features.iter().position(|known| known.name == feature) {
            return self.add(plan, found, text.place);
        }
        self.whole = false;
        let names = plan.features.iter().map(|feature| feature.name.as_str());
        let help = suggest::help(feature, &format!("features of `{view}`"), names);
        let message = format!("view `{view}` has no feature `{feature}`");
        let place = text.within(self.reading.files, view.len() + 1..text.value.len());
        self.reading.report(Problem::error(place, message).help(help));
    }

    fn choose_short(&mut self, text: &Scalar) {
        let plans = self.all.values().flatten();
        let found = plans.flat_map(|plan| {
            let places = plan.features.iter().enumerate();
            places.filter(|(_, known)| known.name == text.value).map(move |(i, _)| (plan, i))
        });
        let found: Vec<(&Arc<FeaturePlan>, usize)> = found.collect();
        match found[..] {
            [(plan, feature)] => self.add(plan, feature, text.place),
            [] => self.nothing(text),
            _ => {
                let names: Vec<String> = found
                    .iter()
                    .map(|(plan, i)| format!("`{}`", plan.qualified(&plan.features[*i])))
                    .collect();
                self.whole = false;
                let message = format!("`{}` is a feature of several views", text.value);
                let help = format!("write {}", names.join(" or "));
                self.reading.report(Problem::error(text.place, message).help(help));
            }
        }
    }

    /// Nothing has that name, as far as can be known while some views have no plan.
    fn nothing(&mut self, text: &Scalar) {
        self.whole = false;
        if self.reading.incomplete || self.all.values().any(Option::is_none) {
            return;
        }
        let features = self.all.values().flatten().flat_map(|plan| &plan.features);
        let near = closest(&text.value, features.map(|feature| feature.name.as_str()));
        let views = self.all.keys().map(String::as_str);
        let help = match closest(&text.value, views.clone()).or(near) {
            Some(near) => Some(format!("did you mean `{near}`?")),
            None => suggest::help(&text.value, "views", views),
        };
        let message = format!("no view and no feature is named `{}`", text.value);
        self.reading.report(Problem::error(text.place, message).help(help));
    }

    fn add(&mut self, plan: &Arc<FeaturePlan>, feature: usize, place: Place) {
        let known = self.views.iter().position(|known| known.view == plan.view);
        let view = known.unwrap_or_else(|| {
            self.views.push(Arc::clone(plan));
            self.views.len() - 1
        });
        let added = ServiceFeature { view, feature };
        match self.chosen.iter().find(|(known, _)| *known == added) {
            None => self.chosen.push((added, place)),
            Some((_, first)) => {
                let message = format!("`{}` is listed twice", plan.qualified(&plan.features[feature]));
                let problem = Problem::error(place, message).label("listed again");
                let problem = problem.related(*first, "listed first");
                self.reading.report(problem.help("keep one of them".to_owned()));
            }
        }
    }

    /// A key that two views share has one type.
    fn keys(&mut self) {
        let mut first: BTreeMap<&str, (&FeaturePlan, Type)> = BTreeMap::new();
        for (view, plan) in self.views.iter().enumerate() {
            for key in &plan.keys {
                let (other, ty) = *first.entry(&key.name).or_insert((plan, key.ty));
                if ty == key.ty {
                    continue;
                }
                let (name, a, b) = (&key.name, &other.view, &plan.view);
                let message = format!("key `{name}` is {ty} in view `{a}` and {} in view `{b}`", key.ty);
                let place =
                    self.chosen.iter().find(|(feature, _)| feature.view == view).map(|(_, place)| *place);
                if let Some(place) = place {
                    let help =
                        "one lookup gives one value: declare the keys alike, or name one of them otherwise";
                    self.reading.report(Problem::error(place, message).help(help.to_owned()));
                }
            }
        }
    }

    /// Keys, request fields and derived features are columns of one row.
    fn names(&mut self, service: &ServiceDeclaration) {
        let keys: Vec<&str> =
            self.views.iter().flat_map(|plan| &plan.keys).map(|key| key.name.as_str()).collect();
        let request = service.request.iter().map(|field| ("request field", &field.name));
        let derived = service.derived.iter().map(|derived| ("derived feature", &derived.name));
        let mut first: BTreeMap<&str, (&str, Place)> = BTreeMap::new();
        for (what, name) in request.chain(derived) {
            if keys.contains(&name.value.as_str()) {
                let message = format!("{what} `{}` has the name of a key", name.value);
                let problem = Problem::error(name.place, message);
                self.reading.report(problem.help("keys are columns of the same row: rename it".to_owned()));
            } else if let Some((other, place)) = first.get(name.value.as_str()) {
                let problem = match *other == what {
                    true => name::taken(what, name, *place),
                    false => Problem::error(
                        name.place,
                        format!("{what} `{}` has the name of a {other}", name.value),
                    )
                    .related(*place, format!("the {other}"))
                    .help("rename one of them".to_owned()),
                };
                self.reading.report(problem);
            } else {
                first.insert(&name.value, (what, name.place));
            }
        }
    }

    /// What derived features may use.
    fn scope(&self, request: &[FieldDeclaration]) -> Scope {
        let chosen = self.chosen.iter().map(|(feature, _)| self.feature(*feature));
        Scope::of_service(chosen, request.iter().map(FieldDeclaration::field))
    }

    fn feature(&self, feature: ServiceFeature) -> (&FeaturePlan, &Feature) {
        let plan = &self.views[feature.view];
        (plan, &plan.features[feature.feature])
    }

    fn derive(&mut self, derived: &DerivedDeclaration, scope: &Scope) -> Option<Derived> {
        let whole = 0..derived.expr.value.len();
        let before = self.reading.errors();
        let compiled = expression::compile(&derived.expr, whole, scope, self.reading);
        self.unlisted(before);
        let compiled = compiled?;
        Some(Derived { name: derived.name.value.clone(), sql: compiled.sql, ty: compiled.ty })
    }

    /// Where a problem since `before` is about a feature that exists but is not listed, says so.
    fn unlisted(&mut self, before: usize) {
        let (files, all) = (self.reading.files, self.all);
        for problem in &mut self.reading.problems[before..] {
            let name = files.text(problem.place);
            let exists =
                |plan: &Arc<FeaturePlan>, feature: &str| plan.features.iter().any(|f| f.name == feature);
            let plan =
                name.split_once('.').and_then(|(view, feature)| Some((all.get(view)?.as_ref()?, feature)));
            let chosen = self.chosen.iter().any(|(feature, _)| {
                let plan = &self.views[feature.view];
                plan.qualified(&plan.features[feature.feature]) == name
            });
            if !chosen && plan.is_some_and(|(plan, feature)| exists(plan, feature)) {
                problem.label = Some("the service does not list it".to_owned());
                problem.help = Some(format!("add `{name}` to the service's `features`"));
            }
        }
    }
}
