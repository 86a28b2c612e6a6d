//! The one physical expression that is not DataFusion's: a function applied to arguments of known types.
//!
//! DataFusion's own node for functions asks its arguments for their nullability on every batch, which for `case`
//! means evaluating constants; this one knows its types from the start.

use std::fmt::{self, Display, Formatter};
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, RecordBatch};
use arrow::compute::cast;
use arrow::datatypes::{Field, FieldRef, Schema};
use arrow::error::ArrowError;
use datafusion_common::config::ConfigOptions;
use datafusion_common::{Result, ScalarValue};
use datafusion_expr::{ColumnarValue, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDF};
use datafusion_physical_expr::PhysicalExpr;
use tidemark_kernel::value::Type;
use tidemark_kernel::value::arrow::data_type;

/// A function over arrays of equal length. It looks at valid rows only and gives one row for each.
pub(crate) type Kernel = fn(&[ArrayRef]) -> Result<ArrayRef, ArrowError>;

/// Who carries a function out.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Work {
    /// We do.
    Kernel(Kernel),
    /// DataFusion does.
    DataFusion(fn() -> Arc<ScalarUDF>),
}

/// A function applied to arguments.
#[derive(Debug)]
pub(crate) struct Call {
    /// Names the work: two calls of one name do the same.
    name: &'static str,
    work: Work,
    arguments: Vec<Arc<dyn PhysicalExpr>>,
    takes: Vec<FieldRef>,
    gives: FieldRef,
    config: Arc<ConfigOptions>,
}

impl Call {
    pub(crate) fn new(
        name: &'static str,
        work: Work,
        arguments: Vec<Arc<dyn PhysicalExpr>>,
        takes: &[Type],
        gives: Type,
    ) -> Self {
        let field = |ty: Type| Arc::new(Field::new("", data_type(ty), true));
        let takes = takes.iter().map(|ty| field(*ty)).collect();
        Self { name, work, arguments, takes, gives: field(gives), config: Arc::default() }
    }

    fn kernel(&self, kernel: Kernel, arguments: &[ColumnarValue], rows: usize) -> Result<ColumnarValue> {
        let constant = arguments.iter().all(|argument| matches!(argument, ColumnarValue::Scalar(_)));
        let rows = if constant { 1 } else { rows };
        let arrays = arguments.iter().map(|argument| argument.to_array(rows));
        let array = kernel(&arrays.collect::<Result<Vec<_>>>()?)?;
        Ok(if constant {
            ColumnarValue::Scalar(ScalarValue::try_from_array(&array, 0)?)
        } else {
            ColumnarValue::Array(array)
        })
    }

    fn datafusion(
        &self,
        function: &ScalarUDF,
        args: Vec<ColumnarValue>,
        rows: usize,
    ) -> Result<ColumnarValue> {
        let constants: Vec<_> = args
            .iter()
            .map(|argument| match argument {
                ColumnarValue::Scalar(scalar) => Some(scalar),
                ColumnarValue::Array(_) => None,
            })
            .collect();
        let constant = constants.iter().all(Option::is_some);
        let returned = ReturnFieldArgs { arg_fields: &self.takes, scalar_arguments: &constants };
        let return_field = function.return_field_from_args(returned)?;
        let value = function.invoke_with_args(ScalarFunctionArgs {
            args,
            arg_fields: self.takes.clone(),
            number_rows: rows,
            return_field,
            config_options: Arc::clone(&self.config),
        })?;
        // Constant arguments may come back as an array of one row.
        let value = match value {
            ColumnarValue::Array(array) if constant && array.len() == 1 => {
                ColumnarValue::Scalar(ScalarValue::try_from_array(&array, 0)?)
            }
            value => value,
        };
        self.widened(value)
    }

    /// DataFusion's lengths are narrower than our integers.
    fn widened(&self, value: ColumnarValue) -> Result<ColumnarValue> {
        let wanted = self.gives.data_type();
        if value.data_type() == *wanted {
            return Ok(value);
        }
        Ok(match value {
            ColumnarValue::Array(array) => ColumnarValue::Array(cast(&array, wanted)?),
            ColumnarValue::Scalar(scalar) => ColumnarValue::Scalar(scalar.cast_to(wanted)?),
        })
    }
}

impl PhysicalExpr for Call {
    fn evaluate(&self, batch: &RecordBatch) -> Result<ColumnarValue> {
        let arguments = self.arguments.iter().map(|argument| argument.evaluate(batch));
        let arguments = arguments.collect::<Result<Vec<_>>>()?;
        match self.work {
            Work::Kernel(kernel) => self.kernel(kernel, &arguments, batch.num_rows()),
            Work::DataFusion(function) => self.datafusion(&function(), arguments, batch.num_rows()),
        }
    }

    fn return_field(&self, _: &Schema) -> Result<FieldRef> {
        Ok(Arc::clone(&self.gives))
    }

    fn children(&self) -> Vec<&Arc<dyn PhysicalExpr>> {
        self.arguments.iter().collect()
    }

    fn with_new_children(
        self: Arc<Self>,
        arguments: Vec<Arc<dyn PhysicalExpr>>,
    ) -> Result<Arc<dyn PhysicalExpr>> {
        Ok(Arc::new(Self {
            name: self.name,
            work: self.work,
            arguments,
            takes: self.takes.clone(),
            gives: Arc::clone(&self.gives),
            config: Arc::clone(&self.config),
        }))
    }

    fn fmt_sql(&self, f: &mut Formatter<'_>) -> fmt::Result {
        Display::fmt(self, f)
    }
}

impl Display for Call {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, "{}(", self.name)?;
        for (i, argument) in self.arguments.iter().enumerate() {
            write!(f, "{}{argument}", if i == 0 { "" } else { ", " })?;
        }
        f.write_str(")")
    }
}

impl PartialEq for Call {
    fn eq(&self, other: &Self) -> bool {
        self.name == other.name
            && self.takes == other.takes
            && self.gives == other.gives
            && self.arguments == other.arguments
    }
}

impl Eq for Call {}

impl Hash for Call {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.name.hash(state);
        self.arguments.hash(state);
    }
}
