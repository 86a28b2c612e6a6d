//! Binds `cast`, `try_cast` and `::`.

use sqlparser::ast::{CastKind, DataType, Expr};
use tidemark_kernel::value::Type;

use super::typed::cast_help;
use super::{Binder, Result, Typed};
use crate::call::Work;
use crate::error::ExprError;
use crate::kernels::casts;

impl Binder<'_> {
    pub(super) fn cast(&mut self, kind: &CastKind, expr: &Expr, to: &DataType) -> Result<Typed> {
        let inner = self.expr(expr)?;
        let to = target(to).map_err(|help| {
            ExprError::new(
                format!("there are no values of type {}", to.to_string().to_lowercase()),
                inner.span.clone(),
            )
            .with_help(help)
        })?;
        let Some(from) = inner.ty else { return inner.fitted(to, self.text) };
        if from == to {
            return Ok(Typed { literal: None, ..inner });
        }
        let Some(cast) = casts::between(from, to) else {
            let error = ExprError::new(format!("cannot cast {from} to {to}"), inner.span.clone());
            return Err(match cast_help(self.text.slice(&inner.span), Some(from), to) {
                Some(help) => error.with_help(help),
                None => error,
            });
        };
        let (name, kernel) = match kind {
            CastKind::Cast | CastKind::DoubleColon => ("cast", cast.strict),
            CastKind::TryCast | CastKind::SafeCast => ("try_cast", cast.lenient),
        };
        let span = inner.span.clone();
        Ok(Typed::call(name, Work::Kernel(kernel), vec![inner], to, span))
    }
}

/// Our type of that SQL type, or what to write instead.
fn target(ty: &DataType) -> std::result::Result<Type, String> {
    Ok(match ty {
        DataType::Bool | DataType::Boolean => Type::Bool,
        DataType::Int64 | DataType::BigInt(None) => Type::Int64,
        DataType::Float64 | DataType::Double(_) | DataType::DoublePrecision => Type::Float64,
        DataType::String(None) | DataType::Text | DataType::Varchar(None) => Type::String,
        DataType::Timestamp(None, _) => Type::Timestamp,
        DataType::Bytes(None) | DataType::Bytea | DataType::Blob(None) | DataType::Binary(None) => {
            Type::Bytes
        }
        other => {
            let name = other.to_string().to_lowercase();
            let instead = match name.split(|c: char| !c.is_ascii_alphabetic()).next().unwrap_or_default() {
                "int" | "integer" | "smallint" | "tinyint" | "bigint" | "uint" | "unsigned" => "int64",
                "float" | "real" | "decimal" | "numeric" | "dec" => "float64",
                "char" | "varchar" | "character" | "nvarchar" | "string" => "string",
                "date" | "time" | "datetime" | "timestamptz" | "timestamp" => "timestamp",
                _ => return Err(format!("the types are {}", names())),
            };
            return Err(format!("write `{instead}`; the types are {}", names()));
        }
    })
}

fn names() -> String {
    Type::ALL.map(Type::name).join(", ")
}
