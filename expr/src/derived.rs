//! A service's derived features over a batch of answers.
//!
//! Lookups and training both call this and have no other evaluation, so that their values cannot differ.

use std::collections::BTreeSet;
use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch, RecordBatchOptions};
use arrow::datatypes::{Schema, SchemaRef};
use tidemark_kernel::plan::Feature;
use tidemark_kernel::service::{Derived, ServiceColumn, ServicePlan, ServiceView};
use tidemark_kernel::value::arrow::feature_data_type;
use tidemark_kernel::value::{FeatureType, Field};

use crate::error::{EvaluateError, ExprError};
use crate::expression::{Evaluated, Expression};
use crate::scope::Scope;

/// The derived features of a service, compiled.
#[derive(Clone, Debug)]
pub struct DerivedEvaluator {
    expressions: Vec<Expression>,
    /// The columns that they use, in the order of `schema`.
    operands: Vec<(Operand, FeatureType)>,
    schema: SchemaRef,
}

/// Where a row has the value of a column that derived features use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operand {
    /// Among the values of its windowed features: an index into [`ServicePlan::features`].
    Windowed(usize),
    /// Among its request fields: an index into [`ServicePlan::request`].
    Request(usize),
}

impl DerivedEvaluator {
    /// Compiles the derived features of a service.
    ///
    /// # Errors
    /// Fails where the plan was not made by a registry that checked it: an expression does not compile, or has
    /// another type than the plan says.
    pub fn new(plan: &ServicePlan) -> Result<Self, ExprError> {
        let features = plan.features.iter().map(|feature| plan.feature(*feature));
        let scope = Scope::of_service(features, plan.request.iter().cloned());
        let compile = |derived: &Derived| {
            let compiled = Expression::compile(&derived.sql, &scope)?;
            if compiled.ty() == derived.ty {
                return Ok(compiled);
            }
            let (name, wanted, found) = (&derived.name, derived.ty, compiled.ty());
            Err(ExprError::new(
                format!("the plan takes `{name}` for {wanted}, it is {found}"),
                0..derived.sql.len(),
            ))
        };
        let expressions = plan.derived.iter().map(compile).collect::<Result<Vec<_>, _>>()?;
        let windowed = plan.windowed_columns().enumerate();
        let windowed = windowed.map(|(at, column)| (column, Operand::Windowed(at)));
        let request = plan.request.iter().enumerate().map(|(at, field)| {
            let (name, ty) = (field.name.clone(), FeatureType::Scalar(field.ty));
            (ServiceColumn { name, ty }, Operand::Request(at))
        });
        let used = |name: &String| expressions.iter().any(|expression| expression.columns().contains(name));
        let used = windowed.chain(request).filter(|(column, _)| used(&column.name));
        let (fields, operands): (Vec<arrow::datatypes::Field>, Vec<(Operand, FeatureType)>) = used
            .map(|(ServiceColumn { name, ty }, operand)| {
                (arrow::datatypes::Field::new(name, feature_data_type(ty), true), (operand, ty))
            })
            .unzip();
        Ok(Self { expressions, operands, schema: Arc::new(Schema::new(fields)) })
    }

    /// The derived features for each of `rows` answers, in the plan's order. `column` gives the values of one that they use,
    /// as the Arrow type of its feature type; a row each.
    ///
    /// # Errors
    /// Fails where a column has another type, or another number of rows. Rows that fail are null.
    pub fn extend(
        &self,
        rows: usize,
        mut column: impl FnMut(Operand, FeatureType) -> ArrayRef,
    ) -> Result<Vec<Evaluated>, EvaluateError> {
        let columns = self.operands.iter().map(|(operand, ty)| column(*operand, *ty)).collect();
        let options = RecordBatchOptions::new().with_row_count(Some(rows));
        let batch = RecordBatch::try_new_with_options(Arc::clone(&self.schema), columns, &options);
        let batch = batch.map_err(|error| {
            let names: Vec<&str> = self.schema.fields().iter().map(|field| field.name().as_str()).collect();
            EvaluateError::Engine { sql: names.join(", "), reason: error.to_string() }
        })?;
        self.evaluate(&batch)
    }

    /// The columns that a batch must have: `role.feature` for windowed features, request fields bare.
    #[must_use]
    pub fn columns(&self) -> BTreeSet<&str> {
        self.expressions.iter().flat_map(Expression::columns).map(String::as_str).collect()
    }

    /// The derived features for each row of `batch`, in the plan's order. A row's values are those of evaluating
    /// the row alone.
    ///
    /// # Errors
    /// Fails where a column is missing or of another Arrow type than its declared one. Rows that fail are null.
    pub fn evaluate(&self, batch: &RecordBatch) -> Result<Vec<Evaluated>, EvaluateError> {
        self.expressions.iter().map(|expression| expression.evaluate(batch)).collect()
    }
}

impl Scope {
    /// What derived features may name: the scalar features of their service, also without their role where that
    /// is unique, and the request fields. Features whose values are lists are known, and refused.
    #[must_use]
    pub fn of_service<'p>(
        features: impl IntoIterator<Item = (&'p ServiceView, &'p Feature)>,
        request: impl IntoIterator<Item = Field>,
    ) -> Self {
        let (mut columns, mut aliases, mut lists) = (Vec::new(), Vec::new(), Vec::new());
        for (view, feature) in features {
            let name = view.qualified(feature);
            aliases.push((feature.name.as_str(), name.clone()));
            match feature.ty {
                FeatureType::Scalar(ty) => columns.push(Field { name, ty }),
                FeatureType::List(_) | FeatureType::Counts(_) => lists.push((name, feature.ty)),
            }
        }
        columns.extend(request);
        let scope = aliases
            .into_iter()
            .fold(Self::new(columns), |scope, (alias, name)| scope.with_alias(alias, name));
        lists.into_iter().fold(scope, |scope, (name, ty)| scope.with_list(name, ty))
    }
}

#[cfg(test)]
mod tests {
    use arrow::array::{Float64Array, Int64Array};
    use tidemark_kernel::FeaturePlan;
    use tidemark_kernel::aggregate::Function;
    use tidemark_kernel::plan::{FeatureSpec, KeyField, ViewSpec};
    use tidemark_kernel::service::ServiceFeature;
    use tidemark_kernel::value::arrow::array_of;
    use tidemark_kernel::value::{Type, Value};
    use tidemark_kernel::window::Window;

    use super::*;

    fn service(sql: &str, ty: Type) -> ServicePlan {
        let key = KeyField { name: "user_id".into(), field: "user_id".into(), ty: Type::Int64 };
        let count = FeatureSpec {
            name: "payments".into(),
            function: Function::Count,
            input: None,
            filter: None,
            window: Window::Lifetime,
        };
        let view = FeaturePlan::new(ViewSpec {
            view: "pay".into(),
            entity: "user".into(),
            source: "payments".into(),
            source_version: None,
            fields: vec![Field { name: "user_id".into(), ty: Type::Int64 }],
            keys: vec![key],
            filter: None,
            features: vec![count],
            time_travel: FeaturePlan::DEFAULT_TIME_TRAVEL,
            max_age: None,
            expression_semantics: crate::SEMANTICS,
        });
        ServicePlan {
            name: "fraud".into(),
            views: vec![Arc::new(view.unwrap()).into()],
            features: vec![ServiceFeature { view: 0, feature: 0 }],
            request: vec![Field { name: "amount".into(), ty: Type::Float64 }],
            derived: vec![Derived { name: "share".into(), sql: sql.into(), ty }],
        }
    }

    #[test]
    fn features_go_by_their_whole_or_their_short_name() {
        let batch = RecordBatch::try_from_iter([
            ("pay.payments", Arc::new(Int64Array::from(vec![4, 0])) as _),
            ("amount", Arc::new(Float64Array::from(vec![2.0, 2.0])) as _),
        ]);
        let batch = batch.unwrap();
        for sql in ["amount / pay.payments", "amount / payments"] {
            let evaluator = DerivedEvaluator::new(&service(sql, Type::Float64)).unwrap();
            assert_eq!(evaluator.columns(), BTreeSet::from(["amount", "pay.payments"]));
            let evaluated = evaluator.evaluate(&batch).unwrap();
            assert_eq!(*evaluated[0].array, Float64Array::from(vec![Some(0.5), None]));
            assert_eq!(evaluated[0].failed, 1);
        }
    }

    #[test]
    fn the_columns_that_are_used_are_asked_for_by_their_place() {
        let evaluator = DerivedEvaluator::new(&service("amount / payments", Type::Float64)).unwrap();
        let evaluated = evaluator.extend(2, |operand, ty| match operand {
            Operand::Windowed(0) => array_of(ty, &[Value::Int64(4), Value::Null]),
            Operand::Request(0) => array_of(ty, &[Value::float(2.0), Value::float(2.0)]),
            other => panic!("{other:?} is not used"),
        });
        assert_eq!(*evaluated.unwrap()[0].array, Float64Array::from(vec![Some(0.5), None]));
        let evaluator = DerivedEvaluator::new(&service("amount * 2", Type::Float64)).unwrap();
        let evaluated = evaluator.extend(1, |operand, ty| {
            assert_eq!(operand, Operand::Request(0), "the other is not used");
            array_of(ty, &[Value::float(2.0)])
        });
        assert_eq!(*evaluated.unwrap()[0].array, Float64Array::from(vec![4.0]));
        let short = evaluator.extend(2, |_, ty| array_of(ty, &[Value::float(2.0)]));
        assert!(matches!(short, Err(EvaluateError::Engine { .. })));
    }

    #[test]
    fn a_plan_of_another_type_is_refused() {
        let error = DerivedEvaluator::new(&service("amount / 2", Type::Int64)).unwrap_err();
        assert_eq!(error.message, "the plan takes `share` for int64, it is float64");
    }
}
