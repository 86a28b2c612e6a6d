//! A project in a folder of its own, and what its stores hold.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use arrow::array::RecordBatch;
use futures::TryStreamExt;
use futures::future::{BoxFuture, ready};
use parking_lot::Mutex;
use tidemark_host::{Host, Machine, Stopped, Work};
use tidemark_kernel::aggregate::Function;
use tidemark_kernel::plan::{FeatureSpec, Input, KeyField, ViewSpec};
use tidemark_kernel::source::{Arrival, TimeField};
use tidemark_kernel::value::Field;
use tidemark_kernel::value::arrow::value_at;
use tidemark_kernel::{FeaturePlan, Partition, SourcePlan, Span, Time, Type, Window};
use tidemark_offline::{EventTable, Location};
use tidemark_store::{Clock, MemoryStore, OnlineStore};

use crate::journal::Journal;
use crate::journal::push::PushedRecord;
use crate::{CommitRule, Ingest, IngestConfig, IngestError, Memory, SourceFeed, Tally, push};

/// A machine whose time passes only while it is waited for. Something may happen whenever the disk is asked.
#[derive(Default)]
pub(crate) struct Patient {
    uptime: Mutex<Duration>,
    at_disk: Option<Box<dyn Fn() + Send + Sync>>,
}

impl Patient {
    /// One on which this happens before each piece of work that may block.
    pub(super) fn at_disk(happens: impl Fn() + Send + Sync + 'static) -> Self {
        Self { at_disk: Some(Box::new(happens)), ..Self::default() }
    }
}

impl Machine for Patient {
    fn now(&self) -> Time {
        RECEIVED
    }
    fn uptime(&self) -> Duration {
        *self.uptime.lock()
    }
    fn sleep(&self, span: Duration) -> BoxFuture<'static, ()> {
        *self.uptime.lock() += span;
        Box::pin(ready(()))
    }
    fn id(&self) -> u128 {
        0
    }
    fn blocking(&self, work: Work) -> BoxFuture<'static, ()> {
        self.at_disk.iter().for_each(|happens| happens());
        work();
        Box::pin(ready(()))
    }
    /// Nothing runs apart.
    fn apart(&self, _: &str, _: BoxFuture<'static, ()>) -> Result<Box<dyn Send + Sync>, Stopped> {
        Ok(Box::new(()))
    }
}

/// When everything that is pushed is received.
pub(crate) const RECEIVED: Time = Time::from_millis(1_767_225_600_000);

pub(crate) fn clock() -> Clock {
    Arc::new(|| RECEIVED)
}

pub(crate) fn memory() -> Arc<dyn OnlineStore> {
    Arc::new(MemoryStore::new(clock()))
}

pub(super) fn field(name: &str, ty: Type) -> Field {
    Field { name: name.into(), ty }
}

/// Payments: who, how much, when.
pub(crate) fn payments() -> Arc<SourcePlan> {
    Arc::new(SourcePlan {
        name: "payments".into(),
        fields: vec![
            field("user", Type::Int64),
            field("shop", Type::String),
            field("amount", Type::Float64),
            field("at", Type::Timestamp),
        ],
        origins: BTreeMap::new(),
        optional: BTreeSet::new(),
        zones: BTreeMap::new(),
        event_time: TimeField { field: "at".into(), unit: None },
        arrival: Arrival::Record,
        max_ahead: Span::from_secs(60),
        max_arrival_ahead: Some(SourcePlan::DEFAULT_MAX_ARRIVAL_AHEAD),
        unique: None,
        keep_raw: false,
    })
}

/// A view of payments by one of its fields, with a filter.
pub(super) fn view(name: &str, key: &Field, filter: Option<&str>) -> Arc<FeaturePlan> {
    let amount = || Some(Input { sql: "amount".into(), ty: Type::Float64 });
    let hour = Window::sliding(Span::from_secs(3600)).expect("a window");
    let feature = |name: &str, function, input, window| FeatureSpec {
        name: name.into(),
        function,
        input,
        filter: None,
        window,
    };
    let spec = ViewSpec {
        view: name.into(),
        entity: key.name.clone(),
        source: "payments".into(),
        source_version: None,
        fields: vec![field("amount", Type::Float64), key.clone()],
        keys: vec![KeyField { name: key.name.clone(), field: key.name.clone(), ty: key.ty }],
        filter: filter.map(str::to_owned),
        features: vec![
            feature("payments_1h", Function::Count, None, hour),
            feature("amount_sum_1h", Function::Sum, amount(), hour),
            feature("last_amount", Function::Last, amount(), Window::Lifetime),
        ],
        time_travel: FeaturePlan::DEFAULT_TIME_TRAVEL,
        max_age: None,
        expression_semantics: tidemark_expr::SEMANTICS,
    };
    Arc::new(FeaturePlan::new(spec).expect("a plan"))
}

pub(crate) fn by_user() -> Arc<FeaturePlan> {
    view("by_user", &field("user", Type::Int64), None)
}

pub(super) fn by_shop() -> Arc<FeaturePlan> {
    view("by_shop", &field("shop", Type::String), Some("amount > 10"))
}

/// JSON lines of payments: `count` of them from `first` on, some of them broken, some without a user.
pub(super) fn lines(first: usize, count: usize) -> String {
    let mut text = String::new();
    for number in first..first + count {
        let at = Time::from_millis(RECEIVED.millis() - 10_000_000 + 1_000 * (number as i64 * 7919 % 10_000));
        let line = match number % 17 {
            3 => format!("{{\"user\":{number},\"amount\":"),
            5 => format!("{{\"user\":{number},\"amount\":1}}"),
            8 => format!("{{\"shop\":\"s{}\",\"amount\":{number}.5,\"at\":\"{at}\"}}", number % 5),
            _ => {
                let (user, shop) = (number % 23, number % 5);
                format!("{{\"user\":{user},\"shop\":\"s{shop}\",\"amount\":{number}.25,\"at\":\"{at}\"}}")
            }
        };
        writeln!(text, "{line}").expect("text");
    }
    text
}

/// So many pushed records.
pub(crate) fn pushed(count: usize) -> Vec<PushedRecord> {
    let lines = lines(0, count);
    let records = lines.lines().zip(0..);
    records
        .map(|(json, offset)| PushedRecord { offset, received: RECEIVED, json: json.as_bytes().to_vec() })
        .collect()
}

/// What became of so many records: events, dead letters, and events without a user or shop.
pub(crate) fn tally(events: u64, dead_letters: u64, keyless: u64) -> Tally {
    let (event, keyless_event) =
        (format!("{{\"user\":1,\"at\":\"{RECEIVED}\"}}"), format!("{{\"at\":\"{RECEIVED}\"}}"));
    let kinds = [(events, event.as_str()), (dead_letters, "{"), (keyless, keyless_event.as_str())];
    let lines = kinds.into_iter().flat_map(|(count, json)| (0..count).map(move |_| json.as_bytes().to_vec()));
    let pushed = lines.zip(0..).map(|(json, offset)| PushedRecord { offset, received: RECEIVED, json });
    let source = payments();
    let batch = push::decode(&source, &pushed.collect::<Vec<_>>()).expect("decoded");
    Tally::of(&batch, &source, [&*by_user(), &*by_shop()].into_iter())
}

/// A project.
pub(crate) struct Project {
    pub(super) folder: tempfile::TempDir,
    pub(super) store: Arc<dyn OnlineStore>,
    pub(super) sources: Vec<Arc<SourcePlan>>,
    pub(super) views: Vec<Arc<FeaturePlan>>,
    pub(super) give_up: Vec<PathBuf>,
    pub(crate) host: Host,
}

impl Project {
    pub(crate) fn new(store: Arc<dyn OnlineStore>) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        Self {
            folder,
            store,
            sources: vec![payments()],
            views: vec![by_user(), by_shop()],
            give_up: Vec::new(),
            host: Host::real(clock()),
        }
    }

    pub(super) fn location(&self) -> Location {
        Location::local(self.folder.path().join("offline"))
    }

    pub(super) async fn try_open(&self) -> Result<Ingest, IngestError> {
        self.open_with(Journal::open(&self.folder.path().join("ingest.redb"))?).await
    }

    pub(super) async fn open_with(&self, journal: Journal) -> Result<Ingest, IngestError> {
        Ingest::open(self.config(journal)).await
    }

    /// Its sources, none of which has a topic.
    pub(super) fn feeds(&self) -> Vec<SourceFeed> {
        self.sources.iter().cloned().map(SourceFeed::from).collect()
    }

    pub(super) fn config(&self, journal: Journal) -> IngestConfig {
        IngestConfig {
            journal: Some(journal),
            offline: Arc::new(self.location()),
            commit: CommitRule::default(),
            sources: self.feeds(),
            views: self.views.clone(),
            store: Arc::clone(&self.store),
            topics: None,
            skip_lost: false,
            give_up: self.give_up.clone(),
            memory: Memory::default(),
            host: self.host.clone(),
        }
    }

    pub(crate) async fn open(&self) -> Ingest {
        self.try_open().await.expect("opened")
    }

    /// Writes a file and gives the pattern that names it.
    pub(super) fn file(&self, name: &str, content: &str) -> String {
        let path: PathBuf = self.folder.path().join(name);
        std::fs::write(&path, content).expect("written");
        path.to_string_lossy().into_owned()
    }

    /// Everything that both stores hold.
    pub(super) async fn held(&self) -> Held {
        let mut views = BTreeMap::new();
        for plan in &self.views {
            views.insert(plan.view.clone(), states(&self.store, &plan.view).await);
        }
        let source = &self.sources[0];
        let events = EventTable::open(&self.location(), source).await.expect("events");
        let dead = EventTable::open_dead_letters(&self.location(), source).await.expect("dead letters");
        Held { views, events: rows(&events).await, dead_letters: rows(&dead).await }
    }
}

/// For each entity, by its key, the states by partition.
type States = BTreeMap<Vec<u8>, Vec<(Partition, Vec<u8>)>>;

/// Everything that both stores hold.
#[derive(PartialEq, Eq)]
pub(super) struct Held {
    pub(super) views: BTreeMap<String, States>,
    pub(super) events: Vec<String>,
    pub(super) dead_letters: Vec<String>,
}

/// Its size, and a hash of each part to compare by.
impl std::fmt::Debug for Held {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let hash = |text: String| blake3::hash(text.as_bytes()).to_hex()[..8].to_owned();
        for (view, states) in &self.views {
            writeln!(f, "{view}: {} entities {}", states.len(), hash(format!("{states:?}")))?;
        }
        for (table, rows) in [("events", &self.events), ("dead_letters", &self.dead_letters)] {
            writeln!(f, "{table}: {} rows {} {:?}", rows.len(), hash(rows.join("\n")), rows.first())?;
        }
        Ok(())
    }
}

pub(super) async fn states(store: &Arc<dyn OnlineStore>, view: &str) -> States {
    let live = store.live(view).await.expect("a store").expect("a live generation");
    let mut pages = store.entities(&live).await.expect("entities");
    let mut states = States::new();
    loop {
        let page = pages.next_page().await.expect("a page");
        if page.is_empty() {
            return states;
        }
        states.extend(page.into_iter().map(|entity| (entity.key.as_bytes().to_vec(), entity.states)));
    }
}

/// The rows of a table in order of partition and offset, spelled out.
async fn rows(table: &EventTable) -> Vec<String> {
    let scan = table.scan(&[], &BTreeMap::new(), table.positions()).expect("a scan");
    let batches: Vec<RecordBatch> = scan.try_collect().await.expect("rows");
    let mut rows = Vec::new();
    for batch in &batches {
        let number = |name: &str, row| {
            let column = batch.column_by_name(name).expect("a column");
            arrow::util::display::array_value_to_string(column, row)
                .expect("a number")
                .parse::<i64>()
                .expect("a number")
        };
        for row in 0..batch.num_rows() {
            let values = batch.columns().iter().map(|column| match column.data_type() {
                arrow::datatypes::DataType::Int32 => String::new(),
                _ => value_at(column, row).to_string(),
            });
            let text = values.collect::<Vec<_>>().join(" | ");
            rows.push(((number("_log", row), number("_offset", row)), text));
        }
    }
    rows.sort();
    rows.into_iter().map(|((partition, offset), text)| format!("{partition} {offset}: {text}")).collect()
}
