use super::*;
use crate::aggregate::Probability;

fn spec() -> ViewSpec {
    let field = |name: &str| Field { name: name.into(), ty: Type::Int64 };
    let input = || Input { sql: "amount".into(), ty: Type::Int64 };
    let feature = |name: &str, function, input| FeatureSpec {
        name: name.into(),
        function,
        input,
        filter: None,
        window: Window::sliding(Span::from_secs(3600)).expect("a window"),
    };
    ViewSpec {
        view: "payments".into(),
        entity: "user".into(),
        source: "payments".into(),
        source_version: None,
        fields: vec![field("user_id"), field("amount")],
        keys: vec![KeyField { name: "user_id".into(), field: "user_id".into(), ty: Type::Int64 }],
        filter: None,
        features: vec![
            feature("sum_1h", Function::Sum, Some(input())),
            feature("avg_1h", Function::Avg, Some(input())),
            feature("count_1h", Function::Count, None),
        ],
        time_travel: FeaturePlan::DEFAULT_TIME_TRAVEL,
        max_age: None,
        expression_semantics: 1,
    }
}

fn changed(change: impl FnOnce(&mut ViewSpec)) -> Result<FeaturePlan, PlanError> {
    let mut spec = spec();
    change(&mut spec);
    FeaturePlan::new(spec)
}

#[test]
fn features_that_finish_one_state_share_it() {
    let plan = changed(|_| ()).expect("a plan");
    let kinds: Vec<StateKind> = plan.aggregates.iter().map(|aggregate| aggregate.kind).collect();
    assert_eq!(kinds, [StateKind::IntSum, StateKind::Count]);
    assert_eq!(plan.features.iter().map(|feature| feature.aggregate).collect::<Vec<_>>(), [0, 0, 1]);
    let filtered = changed(|spec| spec.features[1].filter = Some("amount > 0".into()));
    assert_eq!(filtered.expect("a plan").aggregates.len(), 3);
}

#[test]
fn whatever_changes_answers_changes_the_fingerprint() {
    let changes: [fn(&mut ViewSpec); 20] = [
        |spec| spec.view.push('2'),
        |spec| spec.entity.push('2'),
        |spec| spec.source.push('2'),
        |spec| spec.fields[1].ty = Type::Float64,
        |spec| spec.keys[0].name.push('2'),
        |spec| spec.keys[0].field = "amount".into(),
        |spec| spec.filter = Some("amount > 0".into()),
        |spec| spec.filter = Some(String::new()),
        |spec| spec.features[0].name.push('2'),
        |spec| spec.features[0].function = Function::Avg,
        |spec| spec.features[0].input = Some(Input { sql: "amount + 0".into(), ty: Type::Int64 }),
        |spec| spec.features[0].input = Some(Input { sql: "amount".into(), ty: Type::Float64 }),
        |spec| spec.features[0].filter = Some("amount > 0".into()),
        |spec| spec.features[0].window = Window::Lifetime,
        |spec| spec.features[0].window = Window::exact(Span::from_secs(3600)).expect("a window"),
        |spec| spec.time_travel = Span::ZERO,
        |spec| spec.max_age = Some(Span::ZERO),
        |spec| spec.expression_semantics += 1,
        |spec| spec.source_version = Some(SourceVersion(0)),
        |spec| spec.source_version = Some(SourceVersion(1)),
    ];
    let mut seen = vec![changed(|_| ()).expect("a plan").fingerprint()];
    for change in changes {
        seen.push(changed(change).expect("a plan").fingerprint());
    }
    let count = seen.len();
    seen.sort_unstable();
    seen.dedup();
    assert_eq!(seen.len(), count);
}

#[test]
fn the_order_of_the_sources_fields_means_nothing() {
    let turned = changed(|spec| spec.fields.reverse()).expect("a plan");
    assert_eq!(turned.fingerprint(), changed(|_| ()).expect("a plan").fingerprint());
}

#[test]
fn fingerprints_are_read_back() {
    let fingerprint = changed(|_| ()).expect("a plan").fingerprint();
    assert_eq!(Fingerprint::parse(&fingerprint.to_string()), Some(fingerprint));
    for text in [
        "",
        "0123",
        "+1234567890123456789012345678901",
        "g1234567890123456789012345678901",
        "A1234567890123456789012345678901",
    ] {
        assert_eq!(Fingerprint::parse(text), None, "{text}");
    }
}

#[test]
fn plans_that_are_none_are_refused() {
    let refused = |change: fn(&mut ViewSpec)| changed(change).expect_err("no plan").to_string();
    assert_eq!(refused(|spec| spec.features.clear()), "view payments has no feature");
    assert_eq!(refused(|spec| spec.features[1].name = "sum_1h".into()), "feature sum_1h is declared twice");
    assert_eq!(
        refused(|spec| spec.features[0].input = Some(Input { sql: "status".into(), ty: Type::String })),
        "feature sum_1h: sum does not take string; it takes int64 or float64"
    );
    assert_eq!(
        refused(|spec| spec.features[0].input = None),
        "feature sum_1h: sum does not take no input; it takes int64 or float64"
    );
    let no_key = "view payments: a key is one or several of int64, string, bool, timestamp";
    assert_eq!(refused(|spec| spec.keys.clear()), no_key);
    assert_eq!(refused(|spec| spec.keys[0].ty = Type::Float64), no_key);
}

/// Stored views are known by these: a name that changes here would have every one of them backfilled again.
#[test]
fn what_is_hashed_is_spelled_as_it_always_was() {
    let p = |p| Function::ApproxPercentile(Probability::new(p).expect("in range"));
    let functions = [
        (Function::Count, "count"),
        (Function::CountDistinct, "count(distinct)"),
        (Function::Sum, "sum"),
        (Function::Avg, "avg"),
        (Function::VarPop, "var_pop"),
        (Function::VarSamp, "var_samp"),
        (Function::StddevPop, "stddev_pop"),
        (Function::StddevSamp, "stddev_samp"),
        (Function::Min, "min"),
        (Function::Max, "max"),
        (Function::First, "first"),
        (Function::Last, "last"),
        (Function::LastN(12), "last_n(12)"),
        (Function::TopK(3), "top_k(3)"),
        (p(0.0), "approx_percentile(0.0)"),
        (p(0.95), "approx_percentile(0.95)"),
        (p(1e-7), "approx_percentile(1e-7)"),
        (p(1.0), "approx_percentile(1.0)"),
    ];
    for (function, text) in functions {
        assert_eq!(function.canonical(), text);
    }
    let types = Type::ALL.map(Type::canonical);
    assert_eq!(types, ["bool", "int64", "float64", "string", "timestamp", "bytes"]);
    assert_eq!(types.map(Type::from_canonical), Type::ALL.map(Some));
    let plan = changed(|_| ()).expect("a plan");
    assert_eq!(plan.fingerprint().to_string(), "0ce355932fd0e2d26ea85d4a4b0c5afe");
    let percentile = changed(|spec| spec.features[0].function = p(0.5)).expect("a plan");
    assert_eq!(percentile.fingerprint().to_string(), "7b8c07801d2fa35d1fc4d0e429d37c9a");
}
