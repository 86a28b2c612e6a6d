//! Binds function calls, also those with a special syntax in SQL.

use std::ops::Range;

use sqlparser::ast::{
    CeilFloorKind, Expr, Function as Call, FunctionArg, FunctionArgExpr, FunctionArguments, ObjectNamePart,
    TrimWhereField,
};
use tidemark_kernel::value::{Type, Value};

use super::{Binder, Result, Typed};
use crate::allow::{Alike, Function, Overload, REFUSED, Shape};
use crate::error::ExprError;
use crate::kernels::instants::Unit;
use crate::suggest;

impl Binder<'_> {
    pub(super) fn function(&mut self, call: &Call) -> Result<Typed> {
        let name_span = self.span(&call.name);
        let name = match call.name.0.as_slice() {
            [ObjectNamePart::Identifier(name)] => name,
            _ => return Err(unknown(&call.name.to_string(), name_span)),
        };
        // SQL calls a few names without brackets (`user`, `current_date`); a column may have such a name.
        if matches!(call.args, FunctionArguments::None) && self.scope.resolve(&name.value).is_ok() {
            return self.column(std::slice::from_ref(name));
        }
        if call.over.is_some() {
            let message =
                format!("`{}` over a window is not available: an expression sees one row", name.value);
            return Err(ExprError::new(message, self.text.call(self.span(call))));
        }
        let function = Function::named(&name.value).ok_or_else(|| unknown(&name.value, name_span.clone()))?;
        let plain = call.filter.is_none() && call.null_treatment.is_none() && call.within_group.is_empty();
        let arguments = match &call.args {
            FunctionArguments::List(list)
                if plain && list.duplicate_treatment.is_none() && list.clauses.is_empty() =>
            {
                self.arguments(&list.args)?
            }
            FunctionArguments::None => Vec::new(),
            _ => return Err(wrong(function, "takes plain arguments only", self.text.call(self.span(call)))),
        };
        self.call(function, arguments, self.text.call(self.span(call)))
    }

    fn arguments(&mut self, arguments: &[FunctionArg]) -> Result<Vec<Typed>> {
        let argument = |argument: &FunctionArg| match argument {
            FunctionArg::Unnamed(FunctionArgExpr::Expr(expr)) => self.expr(expr),
            other => Err(ExprError::new(format!("`{other}` is no argument here"), self.span(other))),
        };
        arguments.iter().map(argument).collect()
    }

    /// `extract(hour from t)`, `trim(both 'x' from s)`, `substring(s from 2)`, `position(a in b)`, `floor(x)`.
    pub(super) fn special_form(&mut self, expr: &Expr) -> Result<Typed> {
        let span = self.span(expr);
        let (name, arguments): (_, Vec<&Expr>) = match expr {
            Expr::Extract { field, expr, .. } => {
                let word = Typed::literal(Value::string(&field.to_string().to_lowercase()), span.clone());
                let instant = self.expr(expr)?;
                return self.named("date_part", vec![word, instant], span);
            }
            Expr::Ceil { expr, field } if is_plain(field) => ("ceil", vec![expr.as_ref()]),
            Expr::Floor { expr, field } if is_plain(field) => ("floor", vec![expr.as_ref()]),
            Expr::Position { expr, r#in } => ("strpos", vec![r#in.as_ref(), expr.as_ref()]),
            Expr::Substring { expr, substring_from: Some(from), substring_for, .. } => {
                let pieces = [expr, from].into_iter().chain(substring_for);
                ("substr", pieces.map(AsRef::as_ref).collect())
            }
            Expr::Trim { expr, trim_where, trim_what, trim_characters } => {
                let what = trim_what.as_deref().into_iter().chain(trim_characters.iter().flatten());
                (trim(*trim_where), [expr.as_ref()].into_iter().chain(what).collect())
            }
            _ => return Err(self.refused(expr)),
        };
        let arguments = arguments.into_iter().map(|argument| self.expr(argument)).collect::<Result<_>>()?;
        self.named(name, arguments, span)
    }

    fn named(&mut self, name: &str, arguments: Vec<Typed>, span: Range<usize>) -> Result<Typed> {
        match Function::named(name) {
            Some(function) => self.call(function, arguments, span),
            None => Err(unknown(name, span)),
        }
    }

    fn call(&self, function: &'static Function, arguments: Vec<Typed>, span: Range<usize>) -> Result<Typed> {
        match &function.shape {
            Shape::Fixed(overloads) => self.fixed(function, overloads, arguments, span),
            Shape::Unit { words, gives } => self.unit(function, words, *gives, arguments, span),
            Shape::Alike { least, most, work } => {
                if arguments.len() < *least || arguments.len() > *most {
                    return Err(wrong(function, &given(arguments.len()), span));
                }
                let (arguments, ty) = self.alike(arguments)?;
                match work {
                    Alike::Coalesce => self.coalesce(arguments, ty, span),
                    Alike::Call(work) => Ok(Typed::call(function.name, *work, arguments, ty, span)),
                }
            }
        }
    }

    /// The form that takes the arguments as they are, or else the first that they can be fitted to.
    fn fixed(
        &self,
        function: &'static Function,
        overloads: &'static [Overload],
        arguments: Vec<Typed>,
        span: Range<usize>,
    ) -> Result<Typed> {
        let count = arguments.len();
        let counted: Vec<_> = overloads.iter().filter(|form| form.takes_count(count)).collect();
        let exactly = |form: &&&Overload| form.each(&arguments).all(|(ty, argument)| argument.ty == Some(ty));
        let fitting = |form: &&&Overload| form.each(&arguments).all(|(ty, argument)| argument.fits(ty));
        let Some(form) = counted.iter().find(exactly).or_else(|| counted.iter().find(fitting)) else {
            return Err(mismatched(function, &counted, &arguments, span));
        };
        let types: Vec<_> = form.each(&arguments).map(|(ty, _)| ty).collect();
        let fitted = arguments.into_iter().zip(types).map(|(argument, ty)| argument.fitted(ty, self.text));
        Ok(Typed::call(function.name, form.work, fitted.collect::<Result<_>>()?, form.gives, span))
    }

    fn unit(
        &self,
        function: &'static Function,
        words: &'static [Unit],
        gives: Type,
        arguments: Vec<Typed>,
        span: Range<usize>,
    ) -> Result<Typed> {
        let count = arguments.len();
        let Ok([word, instant]) = <[Typed; 2]>::try_from(arguments) else {
            return Err(wrong(function, &given(count), span));
        };
        let Some(Value::String(text)) = &word.literal else {
            return Err(
                ExprError::new("the unit must be quoted text", word.span).with_help(function.signature())
            );
        };
        let Some(unit) = words.iter().find(|unit| unit.word.eq_ignore_ascii_case(text)) else {
            let known: Vec<_> = words.iter().map(|unit| unit.word).collect();
            return Err(ExprError::new(format!("unknown unit `{text}`"), word.span)
                .with_help(format!("the units are {}", known.join(", "))));
        };
        let instant = instant.fitted(Type::Timestamp, self.text)?;
        Ok(Typed::call(unit.name, crate::call::Work::Kernel(unit.kernel), vec![instant], gives, span))
    }
}

impl Overload {
    fn takes_count(&self, count: usize) -> bool {
        self.takes.len() == count || self.repeats && self.takes.len() < count
    }

    /// Each argument with the type it should have.
    fn each<'a>(&'a self, arguments: &'a [Typed]) -> impl Iterator<Item = (Type, &'a Typed)> {
        let last = self.takes.last();
        let types = self.takes.iter().chain(last.into_iter().cycle());
        types.copied().zip(arguments)
    }
}

fn is_plain(field: &CeilFloorKind) -> bool {
    use sqlparser::ast::DateTimeField;
    matches!(field, CeilFloorKind::DateTimeField(DateTimeField::NoDateTime))
}

fn trim(side: Option<TrimWhereField>) -> &'static str {
    match side {
        Some(TrimWhereField::Leading) => "ltrim",
        Some(TrimWhereField::Trailing) => "rtrim",
        Some(TrimWhereField::Both) | None => "btrim",
    }
}

fn given(count: usize) -> String {
    let plural = if count == 1 { "" } else { "s" };
    format!("does not take {count} argument{plural}")
}

fn wrong(function: &Function, reason: &str, span: Range<usize>) -> ExprError {
    ExprError::new(format!("`{}` {reason}", function.name), span).with_help(forms(function))
}

fn forms(function: &Function) -> String {
    format!("write {}", function.signature().replace('\n', " or "))
}

fn mismatched(
    function: &Function,
    counted: &[&Overload],
    arguments: &[Typed],
    span: Range<usize>,
) -> ExprError {
    let Some(form) = counted.first() else { return wrong(function, &given(arguments.len()), span) };
    let culprit = form.each(arguments).find(|(ty, argument)| !argument.fits(*ty));
    let culprit = culprit.map_or(span, |(_, argument)| argument.span.clone());
    let types: Vec<_> = arguments.iter().map(Typed::named).collect();
    wrong(function, &format!("does not take ({})", types.join(", ")), culprit)
}

fn unknown(name: &str, span: Range<usize>) -> ExprError {
    let lower = name.to_lowercase();
    if let Some((_, reason)) = REFUSED.iter().find(|(names, _)| names.contains(&lower.as_str())) {
        return ExprError::new(format!("`{name}` is not available in expressions"), span).with_help(*reason);
    }
    let error = ExprError::new(format!("unknown function `{name}`"), span);
    match suggest::closest(name, Function::names()) {
        Some(closest) => error.with_help(format!("did you mean `{closest}`?")),
        None => error.with_help("the functions are listed in the documentation of expressions"),
    }
}
