use arrow::array::{Float64Array, Int64Array, StringArray};
use tidemark_kernel::aggregate::Function;
use tidemark_kernel::plan::{FeatureSpec, Input, KeyField, ViewSpec};
use tidemark_kernel::value::{Field, Type};
use tidemark_kernel::window::Window;

use super::*;

fn feature(name: &str, function: Function, input: Option<(&str, Type)>, filter: Option<&str>) -> FeatureSpec {
    let input = input.map(|(sql, ty)| Input { sql: sql.into(), ty });
    FeatureSpec {
        name: name.into(),
        function,
        input,
        filter: filter.map(str::to_owned),
        window: Window::Lifetime,
    }
}

fn plan(features: Vec<FeatureSpec>) -> FeaturePlan {
    let field = |name: &str, ty| Field { name: name.into(), ty };
    FeaturePlan::new(ViewSpec {
        view: "v".into(),
        entity: "user".into(),
        source: "payments".into(),
        source_version: None,
        fields: vec![
            field("user_id", Type::Int64),
            field("amount", Type::Float64),
            field("status", Type::String),
        ],
        keys: vec![KeyField { name: "user".into(), field: "user_id".into(), ty: Type::Int64 }],
        filter: Some("status = 'settled'".into()),
        features,
        time_travel: FeaturePlan::DEFAULT_TIME_TRAVEL,
        max_age: None,
        expression_semantics: crate::SEMANTICS,
    })
    .unwrap()
}

fn batch() -> RecordBatch {
    let ids = Int64Array::from(vec![Some(1), Some(2), None, Some(4), Some(5)]);
    let amounts = Float64Array::from(vec![Some(4.0), Some(1.0), Some(1.0), Some(0.0), None]);
    let status =
        StringArray::from(vec![Some("settled"), None, Some("settled"), Some("settled"), Some("settled")]);
    let columns: [(&str, ArrayRef); 3] =
        [("status", Arc::new(status)), ("user_id", Arc::new(ids)), ("amount", Arc::new(amounts))];
    RecordBatch::try_from_iter(columns).unwrap()
}

#[test]
fn a_view_sees_the_rows_that_pass_and_have_a_key() {
    let plan = plan(vec![
        feature("inverse", Function::Sum, Some(("1 / amount", Type::Float64)), None),
        feature("n", Function::Count, None, None),
        feature("large", Function::Count, None, Some("amount > 1")),
        feature(
            "some",
            Function::Max,
            Some(("amount", Type::Float64)),
            Some("amount is not null and user_id < 4"),
        ),
    ]);
    let rows = ViewEvaluator::new(&plan).unwrap().evaluate(&batch()).unwrap();
    assert_eq!(rows.rows, [0, 3, 4]);
    assert_eq!((rows.null_keys, rows.failed), (1, 1));
    let keys: Vec<_> = [1, 4, 5].map(|id| EntityKey::encode(&[Value::Int64(id)]).unwrap()).into();
    assert_eq!(rows.keys, keys);
    let (yes, null) = (Value::Bool(true), Value::Null);
    assert_eq!(rows.values(0), [Value::float(0.25), yes.clone(), yes.clone(), Value::float(4.0)]);
    assert_eq!(rows.values(1), [null.clone(), yes.clone(), null.clone(), null.clone()]);
    assert_eq!(rows.values(2), [null.clone(), yes, null.clone(), null]);
}

#[test]
fn an_empty_batch_has_no_rows() {
    let plan = plan(vec![feature("n", Function::Count, None, None)]);
    let rows = ViewEvaluator::new(&plan).unwrap().evaluate(&batch().slice(0, 0)).unwrap();
    assert!(rows.rows.is_empty() && rows.inputs[0].is_empty());
}

#[test]
fn a_plan_whose_types_are_not_those_of_its_expressions_is_refused() {
    let plan = plan(vec![feature("n", Function::Sum, Some(("amount", Type::Int64)), None)]);
    let error = ViewEvaluator::new(&plan).unwrap_err();
    assert_eq!(error.message, "the plan takes `amount` for int64, it is float64");
}
