//! Tokens: which events a lookup saw. With the tokens, a training set can be computed from exactly the same events.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use thiserror::Error;
use xxhash_rust::xxh3::xxh3_64;

use crate::codec::{DecodeError, Reader, Writer};
use crate::error::{ErrorKind, Explain};
use crate::event::{Offset, Partition, Position};
use crate::plan::Fingerprint;
use crate::time::Time;

/// What one lookup saw of one entity in one view.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ViewToken {
    /// The meaning it was answered with.
    pub fingerprint: Fingerprint,
    /// For each partition the offset of the last event applied to this entity. A partition that is not named gave nothing.
    pub last: BTreeMap<Partition, Offset>,
    /// Whether the instant was before the entity's horizon, so that the view was not answered.
    pub too_early: bool,
    /// Up to where the states were made without the rows that were taken back: a position in [`Partition::RETRACTIONS`].
    pub retractions: Position,
}

/// What one lookup saw: the instant it was asked about, and what of each view.
///
/// As text it is one opaque word, `tm1` and URL-safe base64, short enough to log with the prediction; `tm2` where some
/// view was not answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Token {
    /// The instant asked about: the label time of the training row it belongs to.
    pub at: Time,
    /// By the [role](crate::service::ServiceView::role) of the view, which is its own name where it has no other.
    pub views: BTreeMap<String, ViewToken>,
}

/// Why a text is no token.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum TokenError {
    /// The text does not start like a token.
    #[error("not a token: tokens start with `{WHOLE}` or `{PARTIAL}`")]
    Foreign,
    /// The text is cut short, was changed, or has characters that no token has.
    #[error("the token is cut short or altered")]
    Damaged,
}

impl Explain for TokenError {
    fn kind(&self) -> ErrorKind {
        ErrorKind::Invalid
    }

    fn help(&self) -> Option<Cow<'_, str>> {
        Some("copy the whole `token` from the answer of the lookup".into())
    }
}

/// What the tokens begin with whose views were all answered, and the others, which say it of each view.
const WHOLE: &str = "tm1";
const PARTIAL: &str = "tm2";
const CHECK: usize = 4;

impl fmt::Display for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let is_partial = self.views.values().any(|view| view.too_early);
        let mut out = Writer::new();
        out.zigzag(self.at.millis());
        out.varint(self.views.len() as u64);
        for (view, token) in &self.views {
            out.bytes(view.as_bytes());
            out.raw(&token.fingerprint.0);
            // Written as an offset like any other: versions that know no retractions refuse the token.
            let retraction = (token.retractions > Position::START).then(|| token.retractions.0 - 1);
            let retraction = retraction.map(|last| (Partition::RETRACTIONS, last));
            out.varint(token.last.len() as u64 + u64::from(retraction.is_some()));
            for (partition, offset) in
                retraction.iter().map(|(partition, last)| (partition, last)).chain(&token.last)
            {
                out.zigzag(i64::from(partition.0));
                out.zigzag(*offset);
            }
            if is_partial {
                out.u8(u8::from(token.too_early));
            }
        }
        let mut bytes = out.into_bytes();
        bytes.extend_from_slice(&xxh3_64(&bytes).to_le_bytes()[..CHECK]);
        let prefix = if is_partial { PARTIAL } else { WHOLE };
        write!(f, "{prefix}{}", URL_SAFE_NO_PAD.encode(bytes))
    }
}

impl FromStr for Token {
    type Err = TokenError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let text = text.trim();
        let whole = text.strip_prefix(WHOLE).map(|body| (body, false));
        let partial = || text.strip_prefix(PARTIAL).map(|body| (body, true));
        let (body, is_partial) = whole.or_else(partial).ok_or(TokenError::Foreign)?;
        let bytes = URL_SAFE_NO_PAD.decode(body).map_err(|_| TokenError::Damaged)?;
        let (body, check) = bytes.split_last_chunk::<CHECK>().ok_or(TokenError::Damaged)?;
        if xxh3_64(body).to_le_bytes()[..CHECK] != *check {
            return Err(TokenError::Damaged);
        }
        Self::decode(body, is_partial).map_err(|_| TokenError::Damaged)
    }
}

impl Token {
    fn decode(bytes: &[u8], is_partial: bool) -> Result<Self, DecodeError> {
        let mut from = Reader::new(bytes);
        let at = Time::from_millis(from.zigzag()?);
        let mut views = BTreeMap::new();
        for _ in 0..from.count(18)? {
            let name = from.text()?.to_owned();
            let mut fingerprint = Fingerprint([0; 16]);
            fingerprint.0.copy_from_slice(from.raw(16)?);
            let mut last = BTreeMap::new();
            for _ in 0..from.count(2)? {
                let partition = i32::try_from(from.zigzag()?).map_err(|_| from.malformed("a partition"))?;
                last.insert(Partition(partition), from.zigzag()?);
            }
            let retractions = last
                .remove(&Partition::RETRACTIONS)
                .map_or(Position::START, |last| Position(last.saturating_add(1)));
            let too_early = is_partial && from.u8()? == 1;
            views.insert(name, ViewToken { fingerprint, last, too_early, retractions });
        }
        from.finish()?;
        Ok(Self { at, views })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn token() -> Token {
        let last = BTreeMap::from([(Partition::FILE, 12), (Partition(3), 70_000)]);
        let retractions = Position(2);
        let view = ViewToken { fingerprint: Fingerprint([7; 16]), last, too_early: false, retractions };
        Token { at: Time::from_millis(-5), views: BTreeMap::from([("payments".into(), view)]) }
    }

    #[test]
    fn tokens_are_read_back() {
        assert_eq!(token().to_string().parse(), Ok(token()));
        let empty = Token { at: Time::MAX, views: BTreeMap::new() };
        assert_eq!(empty.to_string().parse(), Ok(empty));
    }

    #[test]
    fn a_view_that_was_not_answered_is_said() {
        let whole = token();
        let mut partial = token();
        let mut early = whole.views["payments"].clone();
        early.too_early = true;
        partial.views.insert("merchants".into(), early);
        assert!(whole.to_string().starts_with("tm1") && partial.to_string().starts_with("tm2"));
        assert_eq!(partial.to_string().parse(), Ok(partial));
    }

    #[test]
    fn altered_tokens_are_refused() {
        let text = token().to_string();
        assert_eq!("hello".parse::<Token>(), Err(TokenError::Foreign));
        assert_eq!(text[..text.len() - 2].parse::<Token>(), Err(TokenError::Damaged));
        for at in WHOLE.len()..text.len() {
            let other = if text.as_bytes()[at] == b'A' { "B" } else { "A" };
            let mut altered = text.clone();
            altered.replace_range(at..=at, other);
            assert!(altered.parse::<Token>().is_err(), "{altered}");
        }
    }
}
