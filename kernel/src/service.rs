//! Services: the named, versioned list of features that a model takes.

use std::sync::Arc;

use crate::codec::Writer;
use crate::plan::{Feature, FeaturePlan, Fingerprint};
use crate::value::{FeatureType, Field, Type};

/// A view in one of the roles that its entity has in the rows of a service, such as the buyer and the seller of a transfer.
///
/// A role only names things: all roles of a view are answered from the one state that the view has of each entity. A view that is
/// taken without a role has its own name as the role, and its own keys.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServiceView {
    /// The view.
    pub plan: Arc<FeaturePlan>,
    /// The name of the role, unique in the service: what the names of its features begin with, and what tokens know it by.
    pub role: String,
    /// The columns of a row that hold the parts of its key, in the entity's order.
    pub keys: Vec<Field>,
}

impl From<Arc<FeaturePlan>> for ServiceView {
    /// The view without a role.
    fn from(plan: Arc<FeaturePlan>) -> Self {
        let keys = plan.keys.iter().map(|key| Field { name: key.name.clone(), ty: key.ty }).collect();
        Self { role: plan.view.clone(), keys, plan }
    }
}

impl ServiceView {
    /// `role.name`, as outputs spell it.
    #[must_use]
    pub fn qualified(&self, feature: &Feature) -> String {
        format!("{}.{}", self.role, feature.name)
    }

    /// The column of a training set that holds the event times of the newest events.
    #[must_use]
    pub fn newest_event_name(&self) -> String {
        format!("{}__newest_event", self.role)
    }

    /// Whether the service gives the view or its keys other names.
    fn is_renamed(&self) -> bool {
        let is_renamed = self.keys.iter().zip(&self.plan.keys).any(|(key, own)| key.name != own.name);
        self.role != self.plan.view || is_renamed
    }
}

/// One windowed feature of a service.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ServiceFeature {
    /// Its view, in one of its roles: an index into [`ServicePlan::views`].
    pub view: usize,
    /// Its place in the view: an index into [`PlanParts::features`](crate::plan::PlanParts::features).
    pub feature: usize,
}

/// A feature computed from other features of the service and from request fields. It sees values only.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Derived {
    /// Its name, bare.
    pub name: String,
    /// Scalar SQL over `role.feature` columns and request fields.
    pub sql: String,
    /// The type it was checked to have.
    pub ty: Type,
}

/// One column of a service's answers, in lookups and in training sets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServiceColumn {
    /// `role.feature` for a windowed feature, the bare name of a derived one.
    pub name: String,
    /// The type of its values.
    pub ty: FeatureType,
}

impl ServiceColumn {
    /// The column of a training set that holds its statuses.
    #[must_use]
    pub fn status_name(&self) -> String {
        format!("{}__status", self.name)
    }
}

/// A checked service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServicePlan {
    /// Its name.
    pub name: String,
    /// The views it takes features from, each once for each of its roles.
    pub views: Vec<ServiceView>,
    /// Its windowed features, in the order in which they are answered.
    pub features: Vec<ServiceFeature>,
    /// Values that only the caller knows; in training, label columns of the same name.
    pub request: Vec<Field>,
    /// Its derived features, answered after the windowed ones.
    pub derived: Vec<Derived>,
}

impl ServicePlan {
    /// The keys a lookup names, each once: the keys of its views in order.
    #[must_use]
    pub fn keys(&self) -> Vec<&Field> {
        let mut keys: Vec<&Field> = Vec::new();
        for key in self.views.iter().flat_map(|view| &view.keys) {
            if !keys.iter().any(|known| known.name == key.name) {
                keys.push(key);
            }
        }
        keys
    }

    /// The columns of an answer in their order: those of the windowed features, then those of the derived ones.
    pub fn columns(&self) -> impl Iterator<Item = ServiceColumn> + '_ {
        let derived = self
            .derived
            .iter()
            .map(|derived| ServiceColumn { name: derived.name.clone(), ty: FeatureType::Scalar(derived.ty) });
        self.windowed_columns().chain(derived)
    }

    /// The columns of the windowed features, in the order of [`features`](Self::features).
    pub fn windowed_columns(&self) -> impl Iterator<Item = ServiceColumn> + '_ {
        self.features.iter().map(|feature| self.column(*feature))
    }

    /// The column of a windowed feature.
    #[must_use]
    pub fn column(&self, feature: ServiceFeature) -> ServiceColumn {
        let (view, feature) = self.feature(feature);
        ServiceColumn { name: view.qualified(feature), ty: feature.ty }
    }

    /// The view and declaration of a windowed feature.
    #[must_use]
    pub fn feature(&self, feature: ServiceFeature) -> (&ServiceView, &Feature) {
        let view = &self.views[feature.view];
        (view, &view.plan.features[feature.feature])
    }

    /// The hash of what the service answers: its views' meaning, its features, request fields and expressions.
    #[must_use]
    pub fn fingerprint(&self) -> Fingerprint {
        let mut out = Writer::new();
        let parts = [self.views.len(), self.features.len(), self.request.len(), self.derived.len()];
        parts.iter().for_each(|count| out.varint(*count as u64));
        for view in &self.views {
            out.raw(&view.plan.fingerprint().0);
        }
        for feature in &self.features {
            out.varint(feature.view as u64);
            out.varint(feature.feature as u64);
        }
        for field in &self.request {
            field.encode(&mut out);
        }
        for derived in &self.derived {
            out.bytes(derived.name.as_bytes());
            out.bytes(derived.sql.as_bytes());
        }
        // Nothing is written for views without a role, so that fingerprints of such services stay what they were.
        for (index, view) in self.views.iter().enumerate().filter(|(_, view)| view.is_renamed()) {
            out.varint(index as u64);
            out.bytes(view.role.as_bytes());
            view.keys.iter().for_each(|key| out.bytes(key.name.as_bytes()));
        }
        Fingerprint::hash(&out.into_bytes())
    }
}

#[cfg(test)]
mod tests;
