//! Table properties: what a table says of its partitions beyond their positions, so that the worker that opens it finds
//! out whether they are still of the same topic or files. They are kept in the properties of the Delta table,
//! under `tidemark.`.

use std::collections::{BTreeMap, HashMap};
use std::path::Path;

use deltalake_core::DeltaTableError;
use deltalake_core::kernel::{Metadata, MetadataExt};

use super::log::Outcome;
use super::{EventTable, Positions, TableError};

/// What a table says of its partitions, by name.
pub type Properties = BTreeMap<String, String>;

/// Which topic the partitions belong to: its name and its id.
pub const TOPIC: &str = "topic";

/// The version of the source under which records are read.
pub const SOURCE_VERSION: &str = "source_version";

/// From which generation number on states were made from records as this table has them. States from before
/// may hold records that were read again under another version of the source, or that a compacted topic has lost.
pub const GENERATIONS_SINCE: &str = "generations_since";

/// That [`GENERATIONS_SINCE`] is of an upgrade: where the source was defined as before, and an earlier version of
/// Tidemark only read it differently. That number, a space, and what the number was before (0 for none).
pub const UPGRADED_SINCE: &str = "upgraded_since";

/// There while the topic is compacted, as far as its readers know: [`NOTED`] until [`GENERATIONS_SINCE`] says
/// which generations were begun after that, and `true` from then on.
pub const COMPACTED: &str = "compacted";

/// What [`COMPACTED`] says first.
pub const NOTED: &str = "noted";

/// What tells this history of a source from any other: 32 hexadecimal digits, made once when the table is first opened
/// to be written, and moved and restored with it.
pub const HISTORY: &str = "history";

/// The format of the table, a number. Tables of format 1, the only one so far, do not have it. A later version
/// that writes tables which this one would misread gives them a greater number.
const FORMAT: &str = "format";

/// The newest format that this version reads.
const NEWEST: u32 = 1;

/// The prefix of Tidemark's own among the properties of a Delta table.
const PREFIX: &str = "tidemark.";

impl EventTable {
    /// The table's properties, as this handle has seen them.
    #[must_use]
    pub fn properties(&self) -> &Properties {
        self.log.properties()
    }

    /// Replaces the table's properties, provided that they still are as expected.
    ///
    /// # Errors
    /// [`TableError::OtherProperties`] where they are not: nothing was changed.
    pub async fn set_properties(
        &mut self,
        expected: &Properties,
        new: &Properties,
    ) -> Result<(), TableError> {
        self.declare(Some((expected, new)), &Positions::new()).await
    }

    /// Names partitions that start elsewhere than at their beginning, or that shall be named before they have any row: in
    /// one commit, provided that none of them is named yet.
    ///
    /// # Errors
    /// [`TableError::Behind`] where another writer has registered one of them: nothing was changed, and
    /// [`positions`](Self::positions) holds the other writer's.
    /// [`TableError::Superseded`] as in [`append`](Self::append).
    pub async fn start_partitions(&mut self, starts: &Positions) -> Result<(), TableError> {
        self.declare(None, starts).await
    }

    /// [`set_properties`](Self::set_properties) and [`start_partitions`](Self::start_partitions) in one commit.
    ///
    /// # Errors
    /// As both of them.
    pub async fn begin(
        &mut self,
        expected: &Properties,
        new: &Properties,
        starts: &Positions,
    ) -> Result<(), TableError> {
        self.declare(Some((expected, new)), starts).await
    }

    /// From now on this handle moves partitions only while the table's [`SOURCE_VERSION`], if it has one, is this one.
    pub fn work_under(&mut self, source_version: impl Into<String>) {
        self.source_version = Some(source_version.into());
    }

    /// Catches up with what other handles have committed, and makes sure that the source still has the version to
    /// [work under](Self::work_under).
    ///
    /// # Errors
    /// [`TableError::Superseded`] where it has another.
    pub async fn check_source(&mut self) -> Result<(), TableError> {
        self.reload().await?;
        self.check_version()
    }

    async fn declare(
        &mut self,
        properties: Option<(&Properties, &Properties)>,
        starts: &Positions,
    ) -> Result<(), TableError> {
        loop {
            self.reload().await?;
            match properties {
                Some((expected, _)) if expected != self.properties() => {
                    return Err(TableError::OtherProperties {
                        path: self.folder().to_owned(),
                        properties: self.properties().clone(),
                    });
                }
                Some(_) => {}
                None => self.check_version()?,
            }
            if starts.keys().any(|partition| self.positions().contains_key(partition)) {
                return Err(self.behind());
            }
            let properties = properties.map(|(_, new)| new).filter(|new| *new != self.properties());
            if properties.is_none() && starts.is_empty() {
                return Ok(());
            }
            if let Outcome::Committed(_) = self.log.declare(properties, starts).await? {
                return Ok(());
            }
        }
    }

    /// Whether the source still has the version that this handle works under.
    pub(super) fn check_version(&self) -> Result<(), TableError> {
        match (&self.source_version, self.properties().get(SOURCE_VERSION)) {
            (Some(ours), Some(theirs)) if ours != theirs => {
                let (path, ours, theirs) = (self.folder().to_owned(), ours.clone(), theirs.clone());
                Err(TableError::Superseded { path, ours, theirs })
            }
            _ => Ok(()),
        }
    }
}

/// Makes sure that this version can read a table with these properties.
pub(super) fn check_format(folder: &Path, properties: &Properties) -> Result<(), TableError> {
    let Some(found) = properties.get(FORMAT) else { return Ok(()) };
    if found.parse::<u32>().is_ok_and(|format| format <= NEWEST) {
        return Ok(());
    }
    let detail = format!("its property {PREFIX}{FORMAT} is {found}, this version reads up to {NEWEST}");
    Err(TableError::Newer { path: folder.into(), detail })
}

/// The properties among the properties of a table.
pub(super) fn of(properties: &HashMap<String, String>) -> Properties {
    let property =
        |(name, value): (&String, &String)| Some((name.strip_prefix(PREFIX)?.to_owned(), value.clone()));
    properties.iter().filter_map(property).collect()
}

/// The metadata with these properties and no other; everything else of it stays.
pub(super) fn put(metadata: &Metadata, properties: &Properties) -> Result<Metadata, DeltaTableError> {
    let mut metadata = metadata.clone();
    for name in of(metadata.configuration()).keys() {
        metadata = metadata.remove_config_key(&format!("{PREFIX}{name}"))?;
    }
    for (name, property) in properties {
        metadata = metadata.add_config_key(format!("{PREFIX}{name}"), property.clone())?;
    }
    Ok(metadata)
}
