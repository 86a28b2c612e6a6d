//! The location of event tables, as settings name it.

use std::borrow::Cow;
use std::path::{Path, PathBuf};

use thiserror::Error;
use tidemark_kernel::{ErrorKind, Explain};
use url::Url;

/// The root of all event tables of a project.
///
/// Today that is a folder of the local disk; an object store becomes another kind of location, for which `table::storage` has an
/// implementation of its own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Location(PathBuf);

/// The text names no location that can hold event tables.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[error("event tables cannot be kept at `{given}`: {reason}")]
pub struct LocationError {
    given: String,
    reason: String,
}

impl Explain for LocationError {
    fn kind(&self) -> ErrorKind {
        ErrorKind::Invalid
    }

    fn help(&self) -> Option<Cow<'_, str>> {
        Some("give a folder, such as `data/offline`".into())
    }
}

impl Location {
    /// A folder on the local disk, which need not exist yet.
    pub fn local(folder: impl Into<PathBuf>) -> Self {
        Self(folder.into())
    }

    /// The location that a definition names: a path, taken from `base` where it is relative, or a `file://` URL.
    ///
    /// # Errors
    /// Fails on an URL of any other scheme.
    pub fn parse(text: &str, base: &Path) -> Result<Self, LocationError> {
        let error = |reason: String| LocationError { given: text.to_owned(), reason };
        if !text.contains("://") {
            return Ok(Self(base.join(text)));
        }
        let url = Url::parse(text).map_err(|problem| error(problem.to_string()))?;
        match url.scheme() {
            "file" => url.to_file_path().map(Self).map_err(|()| error("it is no absolute path".into())),
            scheme => Err(error(format!("this build keeps them on the local disk only, not on {scheme}"))),
        }
    }

    /// The root itself.
    #[must_use]
    pub fn root(&self) -> &Path {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_taken_from_the_base() {
        let parse = |text| Location::parse(text, Path::new("/repo"));
        assert_eq!(parse("data/offline"), Ok(Location::local("/repo/data/offline")));
        assert_eq!(parse("/elsewhere"), Ok(Location::local("/elsewhere")));
        assert_eq!(parse("file:///a%20b"), Ok(Location::local("/a b")));
        let refused = parse("s3://bucket/prefix").expect_err("no object store yet").to_string();
        assert!(refused.contains("not on s3"), "{refused}");
    }
}
