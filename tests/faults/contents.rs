//! Everything that an ingest stores: states, positions, and the rows of both tables.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::compute::concat_batches;
use arrow::util::display::{ArrayFormatter, FormatOptions};
use futures::TryStreamExt;
use tidemark_kernel::{Partition, Time};
use tidemark_offline::{EventTable, Location};
use tidemark_store::{EmbeddedStore, EntityStates, OnlineStore, Positions};

use crate::repo::DEFINITIONS;

/// What one repo's folder holds.
pub(crate) struct Contents {
    views: BTreeMap<String, (Positions, Vec<EntityStates>)>,
    events: Vec<String>,
    dead_letters: Vec<String>,
}

impl Contents {
    pub(crate) async fn read(repo: &Path) -> Self {
        let definitions = tidemark_registry::parse([("definitions.yaml", DEFINITIONS)]).expect("definitions");
        let source = &definitions.sources["payments"];
        let location = Location::local(repo.join("data/offline"));
        let store = EmbeddedStore::open(&repo.join("data/online"), Arc::new(|| Time::MIN)).expect("a store");
        store.check().await.expect("an undamaged store");
        let mut views = BTreeMap::new();
        for name in definitions.views.keys() {
            views.insert(name.clone(), view(&store, name).await);
        }
        let events = EventTable::open(&location, source).await.expect("events");
        let dead_letters = EventTable::open_dead_letters(&location, source).await.expect("dead letters");
        let end = events.positions()[&Partition::FILE];
        assert!(
            views.values().all(|(positions, _)| positions[&Partition::FILE].values().all(|at| *at == end))
        );
        Self { views, events: rows(&events).await, dead_letters: rows(&dead_letters).await }
    }

    /// There is something to compare.
    pub(crate) fn check(&self) {
        assert!(self.events.len() > 15_000, "{} events", self.events.len());
        assert!(self.dead_letters.len() > 100, "{} dead letters", self.dead_letters.len());
        assert!(self.views.values().all(|(_, entities)| entities.len() > 30));
    }

    pub(crate) fn compare(&self, other: &Self, round: usize) {
        assert_eq!(self.events.len(), other.events.len(), "events of round {round}");
        assert!(self.events == other.events, "the events of round {round} differ");
        assert!(self.dead_letters == other.dead_letters, "the dead letters of round {round} differ");
        for (name, (positions, entities)) in &self.views {
            let (their_positions, their_entities) = &other.views[name];
            assert_eq!(positions, their_positions, "positions of view {name} in round {round}");
            assert!(entities == their_entities, "the states of view {name} in round {round} differ");
        }
    }
}

async fn view(store: &EmbeddedStore, name: &str) -> (Positions, Vec<EntityStates>) {
    let generation = store.live(name).await.expect("a store").expect("a live generation");
    let mut entities = Vec::new();
    let mut pages = store.entities(&generation).await.expect("pages");
    loop {
        let page = pages.next_page().await.expect("a page");
        if page.is_empty() {
            break;
        }
        entities.extend(page);
    }
    drop(pages);
    (store.positions(&generation).await.expect("positions"), entities)
}

/// Every row as text, sorted.
async fn rows(table: &EventTable) -> Vec<String> {
    let rows = table.scan(&[], &BTreeMap::new(), table.positions()).expect("a scan");
    let batches: Vec<RecordBatch> = rows.try_collect().await.expect("rows");
    let Some(first) = batches.first() else { return Vec::new() };
    let batch = concat_batches(&first.schema(), &batches).expect("one table");
    let options = FormatOptions::default().with_null("null");
    let columns =
        batch.columns().iter().map(|column| ArrayFormatter::try_new(column, &options).expect("a format"));
    let columns: Vec<ArrayFormatter<'_>> = columns.collect();
    let row =
        |row: usize| columns.iter().map(|column| column.value(row).to_string() + "|").collect::<String>();
    let mut rows: Vec<String> = (0..batch.num_rows()).map(row).collect();
    rows.sort_unstable();
    rows
}
