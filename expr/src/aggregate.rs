//! Aggregate calls as definitions write them: `sum(amount) filter (where status = 'settled')`.
//!
//! Only the call is read here. Its argument and filter are pieces of text for [`Expression`](crate::Expression),
//! with their places; what the aggregate computes is the kernel's.

use std::ops::Range;

use sqlparser::tokenizer::{Token, TokenWithSpan};
use tidemark_kernel::aggregate::{Function, Probability};

use crate::error::ExprError;
use crate::suggest;
use crate::text::SqlText;

/// A parsed aggregate call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AggregateCall {
    /// The aggregate, with its `n`, `k` or `p`.
    pub function: Function,
    /// What is aggregated; none for `count(*)`.
    pub argument: Option<Piece>,
    /// The condition of its `filter (where …)`.
    pub filter: Option<Piece>,
}

/// A piece of a text, unchanged.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Piece {
    /// The text of the piece.
    pub sql: String,
    /// Its range of bytes in the text. A place within the piece plus `span.start` is its place in the whole.
    pub span: Range<usize>,
}

/// Reads an aggregate call.
///
/// # Errors
/// Fails, naming the offending piece, where the text is no call of one aggregate, the aggregate is unknown, or
/// its arguments are not what it takes. The scalar expressions inside are not looked at.
pub fn parse_aggregate(sql: &str) -> Result<AggregateCall, ExprError> {
    let text = SqlText::new(sql);
    let tokens = text.tokens()?;
    Parser { text, tokens: &tokens }.call()
}

/// The names that definitions call, with how each is written.
const FORMS: [(&str, &str); 14] = [
    ("count", "`count(*)`, `count(x)` or `count(distinct x)`"),
    ("sum", "`sum(x)`"),
    ("avg", "`avg(x)`"),
    ("var_pop", "`var_pop(x)`"),
    ("var_samp", "`var_samp(x)`"),
    ("stddev_pop", "`stddev_pop(x)`"),
    ("stddev_samp", "`stddev_samp(x)`"),
    ("min", "`min(x)`"),
    ("max", "`max(x)`"),
    ("first", "`first(x)`"),
    ("last", "`last(x)`"),
    ("last_n", "`last_n(x, n)`"),
    ("approx_percentile", "`approx_percentile(x, p)`"),
    ("top_k", "`top_k(x, k)`"),
];

/// What other systems call them.
const ELSEWHERE: [(&[&str], &str); 7] = [
    (&["mean", "average"], "avg"),
    (&["stddev", "std", "stdev"], "stddev_samp"),
    (&["variance", "var"], "var_samp"),
    (&["first_value"], "first"),
    (&["last_value", "latest"], "last"),
    (&["approx_distinct", "approx_count_distinct", "count_distinct"], "count(distinct x)"),
    (
        &["median", "percentile", "quantile", "percentile_cont", "approx_quantile"],
        "approx_percentile(x, 0.5)",
    ),
];

struct Parser<'a> {
    text: SqlText<'a>,
    tokens: &'a [TokenWithSpan],
}

/// A call's arguments, each a range of tokens.
struct Arguments {
    distinct: bool,
    list: Vec<Range<usize>>,
    /// The closing bracket.
    close: usize,
}

impl Parser<'_> {
    fn call(&self) -> Result<AggregateCall, ExprError> {
        let (name, form) = self.name()?;
        let arguments = self.arguments()?;
        let filter = self.filter(arguments.close + 1)?;
        let (function, argument) = self.function(name, form, &arguments)?;
        Ok(AggregateCall { function, argument, filter })
    }

    /// The aggregate called, and how it is written.
    fn name(&self) -> Result<(&'static str, &'static str), ExprError> {
        let (Some(word), Some(Token::LParen)) = (self.word(0), self.token(1)) else {
            return Err(ExprError::new("this is no call of an aggregate", self.text.whole())
                .with_help("write one, such as `sum(x)` or `count(*)`"));
        };
        let lower = word.to_lowercase();
        if let Some(known) = FORMS.iter().find(|(name, _)| *name == lower) {
            return Ok(*known);
        }
        let elsewhere =
            ELSEWHERE.iter().find(|(names, _)| names.contains(&lower.as_str())).map(|(_, ours)| *ours);
        let meant = elsewhere.or_else(|| suggest::closest(word, FORMS.iter().map(|(name, _)| *name)));
        let help = meant.map_or_else(
            || format!("the aggregates are {}", FORMS.map(|(name, _)| name).join(", ")),
            |meant| format!("did you mean `{meant}`?"),
        );
        Err(ExprError::new(format!("unknown aggregate `{word}`"), self.place(0..1)).with_help(help))
    }

    fn arguments(&self) -> Result<Arguments, ExprError> {
        let close = self.closing(1)?;
        let distinct = self.word(2).is_some_and(|word| word.eq_ignore_ascii_case("distinct"));
        let first = if distinct { 3 } else { 2 };
        let (mut list, mut start, mut depth) = (Vec::new(), first, 0_i32);
        for i in first..close {
            match self.tokens[i].token {
                Token::LParen | Token::LBracket => depth += 1,
                Token::RParen | Token::RBracket => depth -= 1,
                Token::Comma if depth == 0 => {
                    list.push(start..i);
                    start = i + 1;
                }
                _ => {}
            }
        }
        if start < close || !list.is_empty() {
            list.push(start..close);
        }
        match list.iter().find(|argument| argument.is_empty()) {
            Some(_) => Err(ExprError::new("an argument is missing", self.place(0..close + 1))),
            None => Ok(Arguments { distinct, list, close }),
        }
    }

    /// `filter (where …)` from that token on, or nothing.
    fn filter(&self, from: usize) -> Result<Option<Piece>, ExprError> {
        let is =
            |at: usize, keyword: &str| self.word(at).is_some_and(|word| word.eq_ignore_ascii_case(keyword));
        if from == self.tokens.len() {
            return Ok(None);
        }
        if !is(from, "filter") {
            let piece = self.place(from..self.tokens.len());
            let message = format!("unexpected `{}` after the aggregate", self.tokens[from].token);
            return Err(ExprError::new(message, piece)
                .with_help("a feature is one aggregate; combine features in a service's `derived`"));
        }
        let whole = from..self.tokens.len();
        let error = || {
            ExprError::new("the aggregate's filter is malformed", self.place(whole.clone()))
                .with_help("write `filter (where condition)`")
        };
        if self.token(from + 1) != Some(&Token::LParen) || !is(from + 2, "where") {
            return Err(error());
        }
        let close = self.closing(from + 1)?;
        if close == from + 3 || close + 1 != self.tokens.len() {
            return Err(error());
        }
        Ok(Some(self.piece(from + 3..close)))
    }

    fn function(
        &self,
        name: &'static str,
        form: &str,
        arguments: &Arguments,
    ) -> Result<(Function, Option<Piece>), ExprError> {
        let Arguments { distinct, list, close } = arguments;
        let wrong = |reason: String| {
            ExprError::new(format!("`{name}` {reason}"), self.place(0..close + 1))
                .with_help(format!("write {form}"))
        };
        let wanted = if matches!(name, "last_n" | "approx_percentile" | "top_k") { 2 } else { 1 };
        if *distinct && name != "count" {
            return Err(wrong("does not take `distinct`".into()));
        }
        if list.len() != wanted {
            let plural = if wanted == 1 { "" } else { "s" };
            return Err(wrong(format!("takes {wanted} argument{plural}, not {}", list.len())));
        }
        let star = list[0].len() == 1 && self.tokens[list[0].start].token == Token::Mul;
        if star && (name != "count" || *distinct) {
            return Err(wrong("does not take `*`".into()));
        }
        let function = self.named(name, *distinct, list.get(1))?;
        Ok((function, (!star).then(|| self.piece(list[0].clone()))))
    }

    /// The aggregate of that name; `parameter` is there where it takes one.
    fn named(
        &self,
        name: &str,
        distinct: bool,
        parameter: Option<&Range<usize>>,
    ) -> Result<Function, ExprError> {
        Ok(match (name, parameter) {
            ("count", _) if distinct => Function::CountDistinct,
            ("sum", _) => Function::Sum,
            ("avg", _) => Function::Avg,
            ("var_pop", _) => Function::VarPop,
            ("var_samp", _) => Function::VarSamp,
            ("stddev_pop", _) => Function::StddevPop,
            ("stddev_samp", _) => Function::StddevSamp,
            ("min", _) => Function::Min,
            ("max", _) => Function::Max,
            ("first", _) => Function::First,
            ("last", _) => Function::Last,
            ("last_n", Some(n)) => Function::LastN(self.length("n", n)?),
            ("top_k", Some(k)) => Function::TopK(self.length("k", k)?),
            ("approx_percentile", Some(p)) => Function::ApproxPercentile(self.probability(p)?),
            _ => Function::Count,
        })
    }

    fn length(&self, parameter: &str, at: &Range<usize>) -> Result<u32, ExprError> {
        let place = self.place(at.clone());
        let text = self.text.slice(&place);
        text.parse().ok().filter(|n| (1..=Function::MAX_LIST).contains(n)).ok_or_else(|| {
            let most = Function::MAX_LIST;
            ExprError::new(
                format!("`{parameter}` must be a whole number from 1 to {most}, not `{text}`"),
                place,
            )
        })
    }

    fn probability(&self, at: &Range<usize>) -> Result<Probability, ExprError> {
        let place = self.place(at.clone());
        let text = self.text.slice(&place);
        let error =
            || ExprError::new(format!("`p` must be a number from 0 to 1, not `{text}`"), place.clone());
        match text.parse::<f64>().ok().and_then(Probability::new) {
            Some(p) => Ok(p),
            None if text.parse::<f64>().is_ok_and(|p| (1.0..=100.0).contains(&p)) => {
                Err(error().with_help("the median is 0.5, the 95th percentile is 0.95"))
            }
            None => Err(error()),
        }
    }

    /// The bracket that closes the one at `open`.
    fn closing(&self, open: usize) -> Result<usize, ExprError> {
        let mut depth = 0_i32;
        for (i, token) in self.tokens.iter().enumerate().skip(open) {
            match token.token {
                Token::LParen => depth += 1,
                Token::RParen => depth -= 1,
                _ => {}
            }
            if depth == 0 {
                return Ok(i);
            }
        }
        Err(ExprError::new("a bracket is not closed", self.place(open..self.tokens.len())))
    }

    fn token(&self, at: usize) -> Option<&Token> {
        self.tokens.get(at).map(|token| &token.token)
    }

    fn word(&self, at: usize) -> Option<&str> {
        match self.token(at) {
            Some(Token::Word(word)) if word.quote_style.is_none() => Some(&word.value),
            _ => None,
        }
    }

    fn piece(&self, tokens: Range<usize>) -> Piece {
        let span = self.place(tokens);
        Piece { sql: self.text.slice(&span).to_owned(), span }
    }

    /// The bytes from the first of some tokens to the last.
    fn place(&self, tokens: Range<usize>) -> Range<usize> {
        match self.tokens.get(tokens) {
            Some([first, .., last]) => self.text.place(first.span).start..self.text.place(last.span).end,
            Some([only]) => self.text.place(only.span),
            _ => self.text.whole(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(sql: &str) -> (Function, Option<String>, Option<String>) {
        let call = parse_aggregate(sql).unwrap_or_else(|error| panic!("{sql}: {error}"));
        let text = |piece: Option<Piece>| {
            piece.map(|piece| {
                assert_eq!(&sql[piece.span], piece.sql);
                piece.sql
            })
        };
        (call.function, text(call.argument), text(call.filter))
    }

    fn refused(sql: &str) -> (String, String, &str) {
        let error = parse_aggregate(sql).unwrap_err();
        (error.message, error.help.unwrap_or_default(), &sql[error.span])
    }

    #[test]
    fn every_aggregate_is_read() {
        let half = Function::ApproxPercentile(Probability::new(0.5).unwrap());
        for (sql, function, argument) in [
            ("count(*)", Function::Count, None),
            ("COUNT( x )", Function::Count, Some("x")),
            ("count(distinct lower(x))", Function::CountDistinct, Some("lower(x)")),
            ("sum(a + b)", Function::Sum, Some("a + b")),
            ("avg(x)", Function::Avg, Some("x")),
            ("var_pop(x)", Function::VarPop, Some("x")),
            ("var_samp(x)", Function::VarSamp, Some("x")),
            ("stddev_pop(x)", Function::StddevPop, Some("x")),
            ("stddev_samp(x)", Function::StddevSamp, Some("x")),
            ("min(x)", Function::Min, Some("x")),
            ("max(x)", Function::Max, Some("x")),
            ("first(x)", Function::First, Some("x")),
            ("last(coalesce(x, 'a,)'))", Function::Last, Some("coalesce(x, 'a,)')")),
            ("last_n(round(x, 2), 5)", Function::LastN(5), Some("round(x, 2)")),
            ("top_k(x, 1000)", Function::TopK(1000), Some("x")),
            ("approx_percentile(x, 0.5)", half, Some("x")),
        ] {
            assert_eq!(parsed(sql), (function, argument.map(str::to_owned), None), "{sql}");
        }
    }

    #[test]
    fn a_filter_is_a_piece_of_text() {
        let (function, argument, filter) = parsed("sum('é' || x)\n  FILTER (where y in (1, 2) and z)");
        assert_eq!((function, argument.as_deref()), (Function::Sum, Some("'é' || x")));
        assert_eq!(filter.as_deref(), Some("y in (1, 2) and z"));
    }

    #[test]
    fn what_is_wrong_is_named() {
        let cases = [
            ("summ(x)", "unknown aggregate `summ`", "did you mean `sum`?", "summ"),
            (
                "median(x)",
                "unknown aggregate `median`",
                "did you mean `approx_percentile(x, 0.5)`?",
                "median",
            ),
            (
                "amount",
                "this is no call of an aggregate",
                "write one, such as `sum(x)` or `count(*)`",
                "amount",
            ),
            ("sum()", "`sum` takes 1 argument, not 0", "write `sum(x)`", "sum()"),
            ("sum(a, b)", "`sum` takes 1 argument, not 2", "write `sum(x)`", "sum(a, b)"),
            ("last_n(x)", "`last_n` takes 2 arguments, not 1", "write `last_n(x, n)`", "last_n(x)"),
            ("sum(*)", "`sum` does not take `*`", "write `sum(x)`", "sum(*)"),
            ("sum(distinct x)", "`sum` does not take `distinct`", "write `sum(x)`", "sum(distinct x)"),
            ("top_k(x, 1001)", "`k` must be a whole number from 1 to 1000, not `1001`", "", "1001"),
            ("last_n(x, -1)", "`n` must be a whole number from 1 to 1000, not `-1`", "", "-1"),
            ("last_n(x, n)", "`n` must be a whole number from 1 to 1000, not `n`", "", "n"),
            ("sum(x", "a bracket is not closed", "", "(x"),
            ("sum(a,)", "an argument is missing", "", "sum(a,)"),
            (
                "sum(a) filter (b)",
                "the aggregate's filter is malformed",
                "write `filter (where condition)`",
                "filter (b)",
            ),
        ];
        for (sql, message, help, piece) in cases {
            assert_eq!(refused(sql), (message.into(), help.into(), piece), "{sql}");
        }
        assert_eq!(refused("approx_percentile(x, 95)").0, "`p` must be a number from 0 to 1, not `95`");
        assert_eq!(refused("sum(a) / count(*)").2, "/ count(*)");
    }
}
