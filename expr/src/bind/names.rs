//! Binds column names.

use std::sync::Arc;

use datafusion_physical_expr::expressions::Column;
use sqlparser::ast::Ident;

use super::{Binder, Result, Typed};
use crate::error::ExprError;
use crate::scope::Unresolved;

impl Binder<'_> {
    /// The column named by `parts`, which the text joins with dots.
    pub(super) fn column(&mut self, parts: &[Ident]) -> Result<Typed> {
        let name = parts.iter().map(|part| part.value.as_str()).collect::<Vec<_>>().join(".");
        let span = parts.iter().map(|part| part.span).reduce(|all, part| all.union(&part));
        let span = span.map_or_else(|| self.text.whole(), |span| self.text.range(span));
        let field = self.scope.resolve(&name).map_err(|reason| {
            let error = ExprError::new(message(&name, &reason), span.clone());
            let quoted = parts.iter().any(|part| part.quote_style == Some('"'));
            match self.name_help(&name, &reason, quoted) {
                Some(help) => error.with_help(help),
                None => error,
            }
        })?;
        let index = self.columns.iter().position(|known| known.name == field.name).unwrap_or_else(|| {
            self.columns.push(field.clone());
            self.columns.len() - 1
        });
        Ok(Typed::computed(Arc::new(Column::new(&field.name, index)), field.ty, span))
    }

    fn name_help(&self, name: &str, reason: &Unresolved, quoted: bool) -> Option<String> {
        match reason {
            Unresolved::Unknown { closest: Some(closest) } => Some(format!("did you mean `{closest}`?")),
            Unresolved::Unknown { closest: None } if quoted => {
                Some(format!("double quotes are for names; text is written '{name}'"))
            }
            Unresolved::Unknown { closest: None } => {
                let known: Vec<_> =
                    self.scope.fields().iter().map(|field| format!("`{}`", field.name)).collect();
                (!known.is_empty()).then(|| format!("there are {}", known.join(", ")))
            }
            Unresolved::Ambiguous(names) => {
                let names: Vec<_> = names.iter().map(|name| format!("`{name}`")).collect();
                Some(format!("write {}", names.join(" or ")))
            }
            Unresolved::List(_) => Some("expressions work on single values, not on lists".to_owned()),
        }
    }
}

fn message(name: &str, reason: &Unresolved) -> String {
    match reason {
        Unresolved::Unknown { .. } => format!("unknown field `{name}`"),
        Unresolved::Ambiguous(_) => format!("`{name}` is short for several features"),
        Unresolved::List(ty) => format!("`{name}` is a {ty} and cannot be used in expressions"),
    }
}
