//! Visibility: which events a row of a training set may see, by their arrival.

use std::fmt;
use std::str::FromStr;

/// Which events a question about `at` sees. Whatever the visibility, their event time is before `at`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Visibility {
    /// Events that had also arrived: `arrival time <= at`. What a store without delay would have answered.
    #[default]
    AsKnown,
    /// All events: the ideal, with hindsight.
    EventTime,
    /// Events that one logged lookup had seen, named by its [token](crate::token::Token).
    AsServed,
}

impl Visibility {
    /// Every visibility with its name.
    pub const NAMED: [(&str, Self); 3] =
        [("as_known", Self::AsKnown), ("event_time", Self::EventTime), ("as_served", Self::AsServed)];
}

impl fmt::Display for Visibility {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = Self::NAMED.iter().find(|(_, visibility)| visibility == self).map_or("", |(name, _)| name);
        f.write_str(name)
    }
}

impl FromStr for Visibility {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let found = Self::NAMED.iter().find(|(name, _)| *name == text);
        found.map(|(_, visibility)| *visibility).ok_or_else(|| {
            format!("unknown visibility `{text}`; it is one of as_known, event_time, as_served")
        })
    }
}
