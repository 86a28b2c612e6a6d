//! A typed piece of an expression, and the few implicit conversions between types.

use std::ops::Range;
use std::sync::Arc;

use datafusion_common::ScalarValue;
use datafusion_physical_expr::PhysicalExpr;
use datafusion_physical_expr::expressions::Literal;
use tidemark_kernel::time::Time;
use tidemark_kernel::value::{Type, Value};

use super::Result;
use crate::call::{Call, Work};
use crate::error::ExprError;
use crate::kernels::casts;
use crate::text::SqlText;

/// A typed piece of an expression.
#[derive(Clone)]
pub(crate) struct Typed {
    pub(crate) physical: Arc<dyn PhysicalExpr>,
    /// None for a bare `null`.
    pub(crate) ty: Option<Type>,
    /// The value, where it is written out.
    pub(crate) literal: Option<Value>,
    pub(crate) span: Range<usize>,
}

impl Typed {
    /// What is computed.
    pub(crate) fn computed(physical: Arc<dyn PhysicalExpr>, ty: Type, span: Range<usize>) -> Self {
        Self { physical, ty: Some(ty), literal: None, span }
    }

    /// A value that is written out; null has no type yet.
    pub(crate) fn literal(value: Value, span: Range<usize>) -> Self {
        let ty = value.scalar_type();
        let physical = Arc::new(Literal::new(scalar(&value, ty)));
        Self { physical, ty, literal: Some(value), span }
    }

    /// A call of a kernel of ours, of arguments whose types are resolved.
    pub(crate) fn call(
        name: &'static str,
        work: Work,
        arguments: Vec<Self>,
        gives: Type,
        span: Range<usize>,
    ) -> Self {
        let takes: Vec<_> = arguments.iter().filter_map(|argument| argument.ty).collect();
        let arguments = arguments.into_iter().map(|argument| argument.physical).collect();
        Self::computed(Arc::new(Call::new(name, work, arguments, &takes, gives)), gives, span)
    }

    /// The type in words.
    pub(crate) fn named(&self) -> &'static str {
        self.ty.map_or("null", Type::name)
    }

    /// Whether it can take the place of a value of type `to`.
    pub(crate) fn fits(&self, to: Type) -> bool {
        match self.ty {
            None => true,
            Some(Type::Int64) => matches!(to, Type::Int64 | Type::Float64),
            Some(Type::String) if to == Type::Timestamp => matches!(self.literal, Some(Value::String(_))),
            Some(ty) => ty == to,
        }
    }

    /// Itself as a value of type `to`.
    pub(crate) fn fitted(self, to: Type, text: SqlText<'_>) -> Result<Self> {
        if self.ty == Some(to) {
            return Ok(self);
        }
        if !self.fits(to) {
            let message = format!("expected {to}, found {}", self.named());
            let help = cast_help(text.slice(&self.span), self.ty, to);
            let error = ExprError::new(message, self.span);
            return Err(match help {
                Some(help) => error.with_help(help),
                None => error,
            });
        }
        match (&self.literal, to) {
            (Some(Value::Null), _) => {
                let physical = Arc::new(Literal::new(scalar(&Value::Null, Some(to))));
                Ok(Self { physical, ty: Some(to), ..self })
            }
            #[expect(clippy::cast_precision_loss, reason = "rounding is what widening means")]
            (Some(Value::Int64(value)), _) => Ok(Self::literal(Value::float(*value as f64), self.span)),
            (Some(Value::String(instant)), _) => match Time::parse_rfc3339(instant) {
                Some(time) => Ok(Self::literal(Value::Timestamp(time), self.span)),
                None => Err(no_instant(instant, self.span)),
            },
            _ => Ok(self.widened()),
        }
    }

    /// An integer as a float.
    fn widened(self) -> Self {
        let span = self.span.clone();
        match casts::between(Type::Int64, Type::Float64) {
            Some(cast) => {
                Self::call("int64_to_float64", Work::Kernel(cast.strict), vec![self], Type::Float64, span)
            }
            None => self,
        }
    }
}

/// Says that quoted text is no instant.
pub(crate) fn no_instant(text: &str, span: Range<usize>) -> ExprError {
    ExprError::new(format!("'{text}' is no timestamp"), span)
        .with_help("write it as '2026-11-20T08:30:00Z' or '2026-11-20'")
}

/// The one type that all pieces fit, or an error at the first that does not fit those before it.
pub(crate) fn common(pieces: &[&Typed], text: SqlText<'_>) -> Result<Option<Type>> {
    let mut common: Option<Type> = None;
    for (i, piece) in pieces.iter().enumerate() {
        let Some(ty) = piece.ty else { continue };
        common = Some(match common {
            None => ty,
            Some(so_far) if piece.fits(so_far) => so_far,
            Some(_) if pieces[..i].iter().all(|before| before.fits(ty)) => ty,
            Some(so_far) => {
                let message = format!("{so_far} and {ty} do not go together");
                let error = ExprError::new(message, piece.span.clone());
                return Err(match cast_help(text.slice(&piece.span), Some(ty), so_far) {
                    Some(help) => error.with_help(help),
                    None => error,
                });
            }
        });
    }
    Ok(common)
}

/// The cast to write, if there is one.
pub(crate) fn cast_help(piece: &str, from: Option<Type>, to: Type) -> Option<String> {
    let from = from?;
    Some(match (from, to) {
        (Type::Int64, Type::Timestamp) => format!("write `to_timestamp_millis({piece})`"),
        (Type::Timestamp, Type::Int64 | Type::Float64) => format!("write `epoch_ms({piece})`"),
        _ => {
            casts::between(from, to)?;
            format!("write `cast({piece} as {to})`")
        }
    })
}

/// A value as DataFusion holds it.
fn scalar(value: &Value, ty: Option<Type>) -> ScalarValue {
    let utc = || Some("UTC".into());
    match (value, ty) {
        (Value::Bool(value), _) => ScalarValue::Boolean(Some(*value)),
        (Value::Int64(value), _) => ScalarValue::Int64(Some(*value)),
        (Value::Float64(value), _) => ScalarValue::Float64(Some(*value)),
        (Value::String(value), _) => ScalarValue::Utf8(Some(value.to_string())),
        (Value::Timestamp(value), _) => ScalarValue::TimestampMillisecond(Some(value.millis()), utc()),
        (Value::Bytes(value), _) => ScalarValue::Binary(Some(value.to_vec())),
        (_, Some(Type::Bool)) => ScalarValue::Boolean(None),
        (_, Some(Type::Int64)) => ScalarValue::Int64(None),
        (_, Some(Type::Float64)) => ScalarValue::Float64(None),
        (_, Some(Type::String)) => ScalarValue::Utf8(None),
        (_, Some(Type::Timestamp)) => ScalarValue::TimestampMillisecond(None, utc()),
        (_, Some(Type::Bytes)) => ScalarValue::Binary(None),
        (_, None) => ScalarValue::Null,
    }
}
