use super::*;
use crate::aggregate::Function;
use crate::plan::{FeatureSpec, KeyField, ViewSpec};
use crate::window::Window;

fn plan() -> Arc<FeaturePlan> {
    let spec = ViewSpec {
        view: "payments".into(),
        entity: "pair".into(),
        source: "payments".into(),
        source_version: None,
        fields: Vec::new(),
        keys: ["user_id", "shop_id"]
            .map(|key| KeyField { name: key.into(), field: key.into(), ty: Type::Int64 })
            .into(),
        filter: None,
        features: vec![FeatureSpec {
            name: "n".into(),
            function: Function::Count,
            input: None,
            filter: None,
            window: Window::Lifetime,
        }],
        time_travel: FeaturePlan::DEFAULT_TIME_TRAVEL,
        max_age: None,
        expression_semantics: 1,
    };
    Arc::new(FeaturePlan::new(spec).expect("a plan"))
}

fn role(role: &str, user: &str) -> ServiceView {
    let mut view = ServiceView::from(plan());
    view.role = role.into();
    view.keys[0].name = user.into();
    view
}

fn service(views: Vec<ServiceView>) -> ServicePlan {
    let features = (0..views.len()).map(|view| ServiceFeature { view, feature: 0 }).collect();
    ServicePlan { name: "transfer".into(), views, features, request: Vec::new(), derived: Vec::new() }
}

#[test]
fn keys_are_those_of_all_roles_each_once() {
    let service = service(vec![role("buyer", "buyer_id"), role("seller", "seller_id")]);
    let keys: Vec<&str> = service.keys().iter().map(|key| key.name.as_str()).collect();
    assert_eq!(keys, ["buyer_id", "shop_id", "seller_id"]);
    let names = service.features.iter().map(|place| service.feature(*place));
    let names: Vec<String> = names.map(|(view, feature)| view.qualified(feature)).collect();
    assert_eq!(names, ["buyer.n", "seller.n"]);
}

#[test]
fn a_service_without_roles_keeps_its_fingerprint() {
    let mut out = Writer::new();
    [1, 1, 0, 0].iter().for_each(|count| out.varint(*count));
    out.raw(&plan().fingerprint().0);
    [0, 0].iter().for_each(|place| out.varint(*place));
    let before = Fingerprint::hash(&out.into_bytes());
    assert_eq!(service(vec![plan().into()]).fingerprint(), before);
}

#[test]
fn the_names_of_roles_and_of_their_keys_change_the_fingerprint() {
    let both = |a, b| service(vec![a, b]).fingerprint();
    let fingerprints = [
        service(vec![plan().into()]).fingerprint(),
        service(vec![role("payments", "buyer_id")]).fingerprint(),
        service(vec![role("buyer", "user_id")]).fingerprint(),
        both(role("buyer", "buyer_id"), role("seller", "seller_id")),
        both(role("seller", "seller_id"), role("buyer", "buyer_id")),
        both(role("buyer", "seller_id"), role("seller", "buyer_id")),
        both(plan().into(), role("seller", "seller_id")),
    ];
    for (at, fingerprint) in fingerprints.iter().enumerate() {
        assert!(!fingerprints[..at].contains(fingerprint), "{at}");
    }
}
