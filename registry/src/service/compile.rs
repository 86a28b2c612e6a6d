//! From a service's declaration to its plan: features found, names apart, derived features typed.

use std::collections::BTreeMap;
use std::sync::Arc;

use tidemark_expr::closest;
use tidemark_kernel::plan::{Feature, FeaturePlan};
use tidemark_kernel::service::{Derived, ServiceFeature, ServicePlan, ServiceView};
use tidemark_kernel::value::Field;
use tidemark_kernel::value::Type;

use super::{ChosenDeclaration, DerivedDeclaration, RoleDeclaration, ServiceDeclaration};
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
    for chosen in &service.features {
        match chosen {
            ChosenDeclaration::Named(text) => compiler.choose(text),
            ChosenDeclaration::Role(role) => compiler.choose_role(role),
        }
    }
    compiler.roles();
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
    /// The views used so far, in their roles.
    views: Vec<ServiceView>,
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
                let view = ServiceView::from(Arc::clone(plan));
                (0..plan.features.len()).for_each(|feature| self.add(&view, feature, text.place));
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
            return self.add(&ServiceView::from(Arc::clone(plan)), found, text.place);
        }
        let place = text.within(self.reading.files, view.len() + 1..text.value.len());
        self.no_feature(plan, feature, place);
    }

    fn no_feature(&mut self, plan: &FeaturePlan, feature: &str, place: Place) {
        self.whole = false;
        let (view, names) = (&plan.view, plan.features.iter().map(|feature| feature.name.as_str()));
        let help = suggest::help(feature, &format!("features of `{view}`"), names);
        let message = format!("view `{view}` has no feature `{feature}`");
        self.reading.report(Problem::error(place, message).help(help));
    }

    /// Adds a view in a role.
    fn choose_role(&mut self, role: &RoleDeclaration) {
        let (name, place) = (&role.view.value, role.view.place);
        let plan = match self.all.get(name) {
            Some(Some(plan)) => plan,
            Some(None) => return self.whole = false,
            None => {
                self.whole = false;
                return self.reading.unknown("view", (name, place), self.all.keys().map(String::as_str));
            }
        };
        let Some(view) = role.view(plan, self.reading) else { return self.whole = false };
        if role.features.is_empty() {
            (0..plan.features.len()).for_each(|feature| self.add(&view, feature, role.place()));
        }
        for wanted in &role.features {
            match plan.features.iter().position(|known| known.name == wanted.value) {
                Some(feature) => self.add(&view, feature, wanted.place),
                None => self.no_feature(plan, &wanted.value, wanted.place),
            }
        }
    }

    fn choose_short(&mut self, text: &Scalar) {
        let plans = self.all.values().flatten();
        let found = plans.flat_map(|plan| {
            let places = plan.features.iter().enumerate();
            places.filter(|(_, known)| known.name == text.value).map(move |(i, _)| (plan, i))
        });
        let found: Vec<(&Arc<FeaturePlan>, usize)> = found.collect();
        match found[..] {
            [(plan, feature)] => self.add(&ServiceView::from(Arc::clone(plan)), feature, text.place),
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

    fn add(&mut self, view: &ServiceView, feature: usize, place: Place) {
        let known = self.views.iter().position(|known| known.role == view.role);
        let index = known.unwrap_or_else(|| {
            self.views.push(view.clone());
            self.views.len() - 1
        });
        if self.views[index] != *view {
            return self.other_role(index, view, place);
        }
        let added = ServiceFeature { view: index, feature };
        match self.chosen.iter().find(|(known, _)| *known == added) {
            None => self.chosen.push((added, place)),
            Some((_, first)) => {
                let message = format!("`{}` is listed twice", view.qualified(&view.plan.features[feature]));
                let problem = Problem::error(place, message).label("listed again");
                let problem = problem.related(*first, "listed first");
                self.reading.report(problem.help("keep one of them".to_owned()));
            }
        }
    }

    /// Reports a role whose name is that of another view's, or of the same view's with other keys.
    fn other_role(&mut self, known: usize, view: &ServiceView, place: Place) {
        self.whole = false;
        let other = &self.views[known];
        let what = if other.plan.view == view.plan.view { "with other keys" } else { "of another view" };
        let message = format!("`{}` is named twice, once {what}", view.role);
        let mut problem = Problem::error(place, message).label("named again");
        if let Some(first) = self.first_place(known) {
            problem = problem.related(first, "named first");
        }
        self.reading.report(problem.help("give each role a name of its own with `as`".to_owned()));
    }

    /// Two roles of a view with the same keys would always have the same values.
    fn roles(&mut self) {
        let views = self.views.iter().enumerate();
        let same = views.filter_map(|(index, view)| {
            let is_same = |other: &ServiceView| other.plan.view == view.plan.view && other.keys == view.keys;
            Some((index, self.views[..index].iter().position(is_same)?))
        });
        for (index, first) in same.collect::<Vec<_>>() {
            let (role, other) = (&self.views[index].role, &self.views[first].role);
            let message = format!("the roles `{other}` and `{role}` have the same keys, so the same values");
            let help = "name the columns of one of them: `keys: {KEY: COLUMN}`";
            let (Some(place), Some(first)) = (self.first_place(index), self.first_place(first)) else {
                continue;
            };
            let problem = Problem::error(place, message).related(first, format!("`{other}`"));
            self.reading.report(problem.help(help.to_owned()));
        }
    }

    /// Where a view was named first, in its role.
    fn first_place(&self, view: usize) -> Option<Place> {
        self.chosen.iter().find(|(feature, _)| feature.view == view).map(|(_, place)| *place)
    }

    /// A key that two views share has one type.
    fn keys(&mut self) {
        let mut first: BTreeMap<&str, (&str, Type)> = BTreeMap::new();
        for (index, view) in self.views.iter().enumerate() {
            for Field { name, ty: own } in &view.keys {
                let (a, ty) = *first.entry(name).or_insert((&view.role, *own));
                if ty == *own {
                    continue;
                }
                let b = &view.role;
                let message = format!("key `{name}` is {ty} in view `{a}` and {own} in view `{b}`");
                if let Some(place) = self.first_place(index) {
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
            self.views.iter().flat_map(|view| &view.keys).map(|key| key.name.as_str()).collect();
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

    fn feature(&self, feature: ServiceFeature) -> (&ServiceView, &Feature) {
        let view = &self.views[feature.view];
        (view, &view.plan.features[feature.feature])
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
        let files = self.reading.files;
        for at in before..self.reading.problems.len() {
            let advice = self.listing(files.text(self.reading.problems[at].place));
            if let Some(advice) = advice {
                let problem = &mut self.reading.problems[at];
                problem.label = Some("the service does not list it".to_owned());
                problem.help = Some(advice);
            }
        }
    }

    /// How to list a feature that exists and is not listed; none for anything else.
    fn listing(&self, name: &str) -> Option<String> {
        let (of, feature) = name.split_once('.')?;
        let has = |plan: &FeaturePlan| plan.features.iter().any(|known| known.name == feature);
        let is_listed = |(chosen, _): &(ServiceFeature, Place)| {
            let (view, feature) = self.feature(*chosen);
            view.qualified(feature) == name
        };
        if self.chosen.iter().any(is_listed) {
            return None;
        }
        let is_role = |view: &&ServiceView| **view != ServiceView::from(Arc::clone(&view.plan));
        if let Some(view) = self.views.iter().filter(is_role).find(|view| view.role == of) {
            return has(&view.plan).then(|| format!("add `{feature}` to the `features` of `{of}`"));
        }
        let plan = self.all.get(of)?.as_ref().filter(|plan| has(plan))?;
        let roles = self.views.iter().filter(|view| view.plan.view == plan.view && view.role != *of);
        let roles: Vec<String> = roles.map(|view| format!("`{}.{feature}`", view.role)).collect();
        Some(match roles.is_empty() {
            true => format!("add `{name}` to the service's `features`"),
            false => format!("the service names `{of}` by its role: write {}", roles.join(" or ")),
        })
    }
}
