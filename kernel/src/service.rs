//! Services: the named, versioned list of features that a model takes.

use std::sync::Arc;

use crate::codec::Writer;
use crate::plan::{Feature, FeaturePlan, Fingerprint, KeyField};
use crate::value::{Field, Type};

/// One windowed feature of a service.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ServiceFeature {
    /// Its view: an index into [`ServicePlan::views`].
    pub view: usize,
    /// Its place in the view: an index into [`FeaturePlan::features`].
    pub feature: usize,
}

/// A feature computed from other features of the service and from request fields. It sees values only.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Derived {
    /// Its name, bare.
    pub name: String,
    /// Scalar SQL over `view.feature` columns and request fields.
    pub sql: String,
    /// The type it was checked to have.
    pub ty: Type,
}

/// A checked service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServicePlan {
    /// Its name.
    pub name: String,
    /// The views it takes features from, each once.
    pub views: Vec<Arc<FeaturePlan>>,
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
    pub fn keys(&self) -> Vec<&KeyField> {
        let mut keys: Vec<&KeyField> = Vec::new();
        for key in self.views.iter().flat_map(|view| &view.keys) {
            if !keys.iter().any(|known| known.name == key.name) {
                keys.push(key);
            }
        }
        keys
    }

    /// The view and declaration of a windowed feature.
    #[must_use]
    pub fn feature(&self, feature: ServiceFeature) -> (&FeaturePlan, &Feature) {
        let view = &self.views[feature.view];
        (view, &view.features[feature.feature])
    }

    /// The hash of what the service answers: its views' meaning, its features, request fields and expressions.
    #[must_use]
    pub fn fingerprint(&self) -> Fingerprint {
        let mut out = Writer::new();
        let parts = [self.views.len(), self.features.len(), self.request.len(), self.derived.len()];
        parts.iter().for_each(|count| out.varint(*count as u64));
        for view in &self.views {
            out.raw(&view.fingerprint().0);
        }
        for feature in &self.features {
            out.varint(feature.view as u64);
            out.varint(feature.feature as u64);
        }
        for field in &self.request {
            out.bytes(field.name.as_bytes());
            out.bytes(field.ty.name().as_bytes());
        }
        for derived in &self.derived {
            out.bytes(derived.name.as_bytes());
            out.bytes(derived.sql.as_bytes());
        }
        Fingerprint::hash(&out.into_bytes())
    }
}
