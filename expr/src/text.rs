//! The text of an expression: its tokens, its syntax tree, and the place of each piece in the text.

use std::ops::Range;

use sqlparser::ast::Expr;
use sqlparser::dialect::GenericDialect;
use sqlparser::parser::{Parser, ParserError};
use sqlparser::tokenizer::{Location, Span, Token, TokenWithSpan, Tokenizer};

use crate::error::ExprError;

/// The most tokens of one expression. It bounds the depth of trees, and with it the stack.
const MOST_TOKENS: usize = 4000;

/// One expression's text.
#[derive(Clone, Copy)]
pub(crate) struct SqlText<'a> {
    sql: &'a str,
}

impl<'a> SqlText<'a> {
    pub(crate) const fn new(sql: &'a str) -> Self {
        Self { sql }
    }

    /// All of it.
    pub(crate) const fn whole(self) -> Range<usize> {
        0..self.sql.len()
    }

    /// A piece of it.
    pub(crate) fn slice(self, span: &Range<usize>) -> &'a str {
        self.sql.get(span.clone()).unwrap_or(self.sql)
    }

    /// The bytes of a span of lines and columns, with the brackets that its syntax tree forgot to count in; the
    /// whole text where the span is unknown.
    pub(crate) fn range(self, span: Span) -> Range<usize> {
        if span == Span::empty() {
            return self.whole();
        }
        let start = self.byte(span.start);
        start..self.closed(start, self.byte(span.end).max(start))
    }

    /// The bytes of a call, given those of its name at least: up to the closing bracket.
    pub(crate) fn call(self, span: Range<usize>) -> Range<usize> {
        let named_only =
            !self.slice(&span).contains('(') && self.sql[span.end..].trim_start().starts_with('(');
        let open = self.sql[span.end..].find('(').map_or(span.end, |found| span.end + found + 1);
        if named_only { span.start..self.closed(span.start, open) } else { span }
    }

    /// The bytes of a token.
    pub(crate) fn place(self, span: Span) -> Range<usize> {
        self.byte(span.start)..self.byte(span.end)
    }

    /// The byte of a location; its columns count characters from 1.
    fn byte(self, location: Location) -> usize {
        let line = usize::try_from(location.line.saturating_sub(1)).unwrap_or(0);
        let column = usize::try_from(location.column.saturating_sub(1)).unwrap_or(0);
        let start: usize = self.sql.split_inclusive('\n').take(line).map(str::len).sum();
        let rest = &self.sql[start..];
        start + rest.char_indices().nth(column).map_or(rest.len(), |(byte, _)| byte)
    }

    /// The end that takes in the brackets opened since `start`, or `end` itself.
    fn closed(self, start: usize, end: usize) -> usize {
        let count = |bracket| self.sql[start..end].matches(bracket).count();
        let missing = count('(').saturating_sub(count(')'));
        let close = |from: usize| self.sql[from..].find(')').map_or(from, |found| from + found + 1);
        (0..missing).fold(end, |end, _| close(end))
    }

    /// Its tokens, without spaces and comments.
    pub(crate) fn tokens(self) -> Result<Vec<TokenWithSpan>, ExprError> {
        let tokens = Tokenizer::new(&GenericDialect {}, self.sql).tokenize_with_location();
        let mut tokens = tokens.map_err(|error| {
            let at = self.byte(error.location).min(self.sql.len());
            self.syntax_error(&error.message, Some(at..self.sql.len()))
        })?;
        tokens.retain(|token| !matches!(token.token, Token::Whitespace(_)));
        if tokens.len() > MOST_TOKENS {
            let message = format!("the expression has {} tokens, more than {MOST_TOKENS}", tokens.len());
            return Err(ExprError::new(message, self.whole()));
        }
        Ok(tokens)
    }

    /// Its syntax tree.
    pub(crate) fn parse(self) -> Result<Expr, ExprError> {
        let tokens = self.tokens()?;
        if tokens.is_empty() {
            return Err(ExprError::new("the expression is empty", self.whole()));
        }
        let mut parser = Parser::new(&GenericDialect {}).with_tokens_with_locations(tokens);
        let tree = parser.parse_expr().map_err(|error| self.parser_error(&error))?;
        let rest = parser.peek_token();
        if rest.token == Token::EOF {
            return Ok(tree);
        }
        let message = format!("unexpected `{}` after the expression", rest.token);
        Err(ExprError::new(message, self.place(rest.span)))
    }

    /// sqlparser puts the place into the message: `… at Line: 1, Column: 9`.
    fn parser_error(self, error: &ParserError) -> ExprError {
        let (ParserError::TokenizerError(message) | ParserError::ParserError(message)) = error else {
            return ExprError::new("the expression is nested too deeply", self.whole())
                .with_help("split it into several features");
        };
        let Some((reason, place)) = message.rsplit_once(" at Line: ") else {
            return self.syntax_error(message, None);
        };
        let mut numbers = place.split(", Column: ").map(|number| number.trim().parse::<u64>());
        let (Some(Ok(line)), Some(Ok(column))) = (numbers.next(), numbers.next()) else {
            return self.syntax_error(message, None);
        };
        let start = self.byte(Location::new(line, column));
        let word = self.sql[start..].find(|c: char| c.is_whitespace()).map_or(self.sql.len(), |w| start + w);
        self.syntax_error(reason, Some(start..word))
    }

    fn syntax_error(self, reason: &str, span: Option<Range<usize>>) -> ExprError {
        let reason = reason.trim_start_matches("Expected: ");
        let message = match reason.split_once(", found: ") {
            Some((expected, "EOF")) => format!("the expression ends where {expected} was expected"),
            Some((expected, found)) => format!("expected {expected}, found `{found}`"),
            None => lower_first(reason),
        };
        ExprError::new(message, span.unwrap_or_else(|| self.whole()))
            .with_help("a name that is an SQL keyword is written in double quotes, text in single quotes")
    }
}

fn lower_first(text: &str) -> String {
    let mut chars = text.chars();
    chars.next().map_or_else(String::new, |first| first.to_lowercase().chain(chars).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn failure(sql: &str) -> (String, &str) {
        let error = SqlText::new(sql).parse().unwrap_err();
        (error.message.clone(), &sql[error.span])
    }

    #[test]
    fn syntax_errors_name_the_place() {
        assert_eq!(failure("a +"), ("the expression ends where an expression was expected".into(), "a +"));
        assert_eq!(failure("a\n + b c"), ("unexpected `c` after the expression".into(), "c"));
        assert_eq!(failure("'é' || (a))").1, ")");
        assert_eq!(failure(" ").0, "the expression is empty");
        assert_eq!(failure("'open").1, "'open");
    }

    #[test]
    fn columns_count_characters_and_brackets_are_closed() {
        use sqlparser::ast::Spanned;
        let text = SqlText::new("'é' || lower(x)");
        let Expr::BinaryOp { right, .. } = text.parse().unwrap() else { panic!("a concatenation") };
        assert_eq!(text.slice(&text.range(right.span())), "lower(x)");
    }
}
