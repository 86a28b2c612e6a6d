//! Descriptions of services: which keys and request fields a lookup must name, and which features it returns.

use tidemark_kernel::service::{ServiceFeature, ServicePlan, ServiceView};
use tidemark_proto::serving::v1;

use crate::served::{RowField, Served};
use crate::wire::{duration, feature_type, scalar_type};

/// A service as `GetService` tells it.
pub(crate) fn service(served: &Served) -> v1::Service {
    let plan = served.plan();
    let (keys, request) = served.asked().iter().partition::<Vec<_>, _>(|asked| asked.is_key);
    v1::Service {
        name: plan.name.clone(),
        fingerprint: plan.fingerprint().to_string(),
        keys: keys.into_iter().map(field).collect(),
        request: request.into_iter().map(field).collect(),
        views: plan.views.iter().map(self::view).collect(),
        features: features(plan),
        derived: derived(plan),
    }
}

fn field(asked: &RowField) -> v1::Field {
    v1::Field { name: asked.name.clone(), r#type: scalar_type(asked.ty).into() }
}

/// Its name is the role: the other parts of an answer know it by that.
fn view(view: &ServiceView) -> v1::View {
    let plan = &view.plan;
    v1::View {
        name: view.role.clone(),
        entity: plan.entity.clone(),
        source: plan.source.clone(),
        fingerprint: plan.fingerprint().to_string(),
        keys: view.keys.iter().map(|key| key.name.clone()).collect(),
        time_travel: Some(duration(plan.time_travel)),
        max_age: plan.max_age.map(duration),
    }
}

fn features(plan: &ServicePlan) -> Vec<v1::Feature> {
    let describe = |place: &ServiceFeature| {
        let (column, (view, feature)) = (plan.column(*place), plan.feature(*place));
        v1::Feature {
            name: column.name,
            r#type: Some(feature_type(column.ty)),
            view: view.role.clone(),
            window: view.plan.windows[feature.window].to_string(),
        }
    };
    plan.features.iter().map(describe).collect()
}

fn derived(plan: &ServicePlan) -> Vec<v1::Derived> {
    let describe = |derived: &tidemark_kernel::service::Derived| v1::Derived {
        name: derived.name.clone(),
        r#type: scalar_type(derived.ty).into(),
        expression: derived.sql.clone(),
    };
    plan.derived.iter().map(describe).collect()
}
