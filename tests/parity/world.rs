//! One case: ingestion, an online store, event tables and the oracle, all given the same records.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch};
use arrow::datatypes::{Field, Schema};
use tempfile::TempDir;
use tidemark_host::Host;
use tidemark_ingest::decode::{Batch, Chunk, Form, Forms, Raw, RecordPlace};
use tidemark_ingest::{Advance, Memory, ViewWriter};
use tidemark_kernel::source::EventTimes;
use tidemark_kernel::value::FeatureType;
use tidemark_kernel::value::arrow::{array_of, data_type};
use tidemark_kernel::{
    Answer, FeaturePlan, Partition, Position, ServicePlan, SourcePlan, Stamp, Time, Token, Value, Visibility,
};
use tidemark_offline::{EventTable, Location, Positions};
use tidemark_online::Lookups;
use tidemark_prove::truth::{self, Reach, ServiceAnswer, ViewHistory};
use tidemark_registry::Repo;
use tidemark_store::{Generation, MemoryStore, OnlineStore};

use crate::generate::{Case, Record};

pub(crate) struct World {
    repo: Repo,
    records: Vec<Record>,
    /// Where each record is in its partition.
    offsets: Vec<i64>,
    received: usize,
    store: Arc<dyn OnlineStore>,
    generation: Generation,
    writer: ViewWriter,
    lookups: Lookups,
    history: ViewHistory,
    folder: TempDir,
    location: Location,
}

const LOGS: [Partition; 3] = [Partition(0), Partition(1), Partition(2)];

impl World {
    pub(crate) async fn new(case: &Case) -> Self {
        let repo = tidemark_registry::parse([("definitions.yaml", &case.definitions)]);
        let repo = repo.map_err(|problems| problems.to_string()).expect(&case.definitions);
        let plan = Arc::clone(&repo.views["v"]);
        let store: Arc<dyn OnlineStore> = Arc::new(MemoryStore::new(Arc::new(|| Time::MIN)));
        let starts = LOGS.map(|partition| (partition, Position::START)).into();
        let generation = store
            .begin("v", plan.generation_fingerprint(case.layout), &starts, None)
            .await
            .expect("a generation");
        store.publish("v", None, Some(&generation)).await.expect("published");
        let writer = writer(&plan, &store, &generation).await;
        let lookups = Lookups::new(Arc::clone(&store), Arc::new(|| Time::MIN));
        lookups.serve([Arc::clone(&repo.services["service"])]).expect("a service");
        let mut next = BTreeMap::new();
        let offsets = case.records.iter().map(|record| {
            let next: &mut i64 = next.entry(record.partition).or_default();
            *next += 1;
            *next - 1
        });
        let offsets: Vec<i64> = offsets.collect();
        let history = history(&repo, &case.records, &offsets);
        let folder = tempfile::tempdir().expect("a folder");
        let location = Location::local(folder.path().join("offline"));
        let records = case.records.clone();
        Self {
            repo,
            records,
            offsets,
            received: 0,
            store,
            generation,
            writer,
            lookups,
            history,
            folder,
            location,
        }
    }

    /// Restarts the ingesting process. What was received is received once more, as from history: the position of a
    /// bucket that it did not concern may not have been stored yet.
    pub(crate) async fn open(&mut self) {
        self.writer = writer(&self.repo.views["v"], &self.store, &self.generation).await;
        let received = std::mem::take(&mut self.received);
        self.receive(received).await;
    }

    /// Receives the next records, each run of one partition as one batch.
    pub(crate) async fn receive(&mut self, count: usize) {
        let to = self.records.len().min(self.received + count);
        let run: Vec<usize> = (self.received..to).collect();
        for run in run.chunk_by(|a, b| self.records[*a].partition == self.records[*b].partition) {
            let batch = self.batch(run);
            let advance = self.writer.advance(&Arc::new(batch)).await.expect("a batch is taken");
            assert_eq!(advance, Advance::Done);
        }
        self.received = to;
    }

    /// Records of one partition that follow one another, as ingestion takes them in.
    fn batch(&self, run: &[usize]) -> Batch {
        let source = &self.repo.sources["clicks"];
        let offsets: Vec<i64> = run.iter().map(|record| self.offsets[*record]).collect();
        let column = |(index, field): (usize, &tidemark_kernel::value::Field)| -> ArrayRef {
            array_of(
                FeatureType::Scalar(field.ty),
                run.iter().map(|record| &self.records[*record].fields[index]),
            )
        };
        let (from, to) = (Position(offsets[0]), Position::after(offsets[offsets.len() - 1]));
        let chunk = Chunk {
            columns: source.fields.iter().enumerate().map(column).collect(),
            has_clocks: false,
            times: run.iter().map(|record| Some(self.records[*record].received)).collect(),
            added: None,
            numbers: offsets.clone(),
            offsets,
            raw: Raw::Columns,
            forms: Forms::All(Form::Columns),
            partitions: None,
            place: RecordPlace::Push,
            dead: Vec::new(),
            from,
            to,
        };
        chunk.accept(source, Partition(self.records[run[0]].partition)).expect("a batch")
    }

    pub(crate) fn asked(&self, user: Option<i64>, amount: Option<i64>) -> BTreeMap<String, Value> {
        let value = |number: Option<i64>| number.map_or(Value::Null, Value::Int64);
        // The other user of a row, where the service has the view in a second role.
        let other = amount.map(|amount| amount.rem_euclid(5));
        let of_key = |name: &str| value(if name == "user" { user } else { other });
        let service = self.service();
        let keys = service.keys().into_iter().map(|key| (key.name.clone(), of_key(&key.name)));
        keys.chain([("amount".to_owned(), value(amount))]).collect()
    }

    /// The answer to a lookup, and its token.
    pub(crate) async fn lookup(
        &self,
        asked: &BTreeMap<String, Value>,
        at: Option<Time>,
    ) -> (Token, ServiceAnswer) {
        let results = self.lookups.lookup("service", vec![asked.clone()], at).await.expect("a lookup");
        let row = results.into_iter().next().expect("one row").expect("not too early");
        assert_eq!(row.token.at, row.at);
        (row.token, ServiceAnswer { values: row.values, statuses: row.statuses, newest: row.newest })
    }

    /// When the first record was received.
    pub(crate) fn start(&self) -> Time {
        self.records[0].received
    }

    /// What the oracle answers to the row of a lookup with this token; `as_served` it sees what was received so far.
    pub(crate) fn truth(
        &self,
        asked: &BTreeMap<String, Value>,
        token: &Token,
        visibility: Visibility,
    ) -> ServiceAnswer {
        let at = token.at;
        let received = self.records.iter().zip(&self.offsets).take(self.received);
        let reach: Reach = received.map(|(record, offset)| (Partition(record.partition), *offset)).collect();
        let service = self.service();
        let entities = truth::entities(&service, asked);
        let answers = service.views.iter().zip(&entities).map(|(view, entity)| {
            // Of several entities, some may be asked about an instant before their horizon.
            if visibility == Visibility::AsServed && token.views[&view.role].too_early {
                return Answer::too_early(&view.plan, at);
            }
            self.history.answer(entity.as_ref(), at, visibility, &reach)
        });
        truth::assemble(&service, asked, &answers.collect::<Vec<_>>()).expect("derived features")
    }

    /// Writes every event, partition by partition.
    pub(crate) async fn write_tables(&self) {
        let source = &self.repo.sources["clicks"];
        let mut table = EventTable::open_or_create(&self.location, source).await.expect("a table");
        for partition in LOGS {
            let run: Vec<usize> = (0..self.records.len())
                .filter(|record| self.records[*record].partition == partition.0)
                .collect();
            if !run.is_empty() {
                let batch = self.batch(&run);
                let to = Positions::from([(partition, batch.to)]);
                table.append(&[batch.events], &Positions::new(), &to, None).await.expect("appended");
            }
        }
    }

    pub(crate) fn service(&self) -> Arc<ServicePlan> {
        Arc::clone(&self.repo.services["service"])
    }

    pub(crate) fn sources(&self) -> &BTreeMap<String, Arc<SourcePlan>> {
        &self.repo.sources
    }

    pub(crate) fn location(&self) -> &Location {
        &self.location
    }

    pub(crate) fn folder(&self) -> &Path {
        self.folder.path()
    }
}

async fn writer(
    plan: &Arc<FeaturePlan>,
    store: &Arc<dyn OnlineStore>,
    generation: &Generation,
) -> ViewWriter {
    let writer = ViewWriter::open(
        Host::real(Arc::new(|| Time::MIN)),
        Arc::clone(plan),
        Arc::clone(store),
        generation.clone(),
        Arc::default(),
        Memory::default(),
    )
    .await;
    writer.expect("a store that works").expect("a generation with all its positions")
}

/// Every event there is, decided without ingestion.
fn history(repo: &Repo, records: &[Record], offsets: &[i64]) -> ViewHistory {
    let source = &repo.sources["clicks"];
    let mut history = ViewHistory::new(Arc::clone(&repo.views["v"]));
    let stamp = |(record, offset): (&Record, &i64)| {
        let field = |name: &str| source.field(name).map_or(Value::Null, |index| record.fields[index].clone());
        let accepted = source.accept(Partition(record.partition), Some(record.received), field).ok();
        accepted.map(|EventTimes { event_time, arrival_time }| Stamp {
            partition: Partition(record.partition),
            offset: *offset,
            event_time,
            arrival_time,
        })
    };
    let decided = records.iter().zip(offsets).map(|pair| (pair.0, stamp(pair)));
    let (events, stamps): (Vec<&Record>, Vec<Stamp>) =
        decided.filter_map(|(record, stamp)| Some((record, stamp?))).unzip();
    let columns = source.fields.iter().enumerate().map(|(index, field)| -> ArrayRef {
        array_of(FeatureType::Scalar(field.ty), events.iter().map(|record| &record.fields[index]))
    });
    let fields = source.fields.iter().map(|field| Field::new(&field.name, data_type(field.ty), true));
    let schema = Arc::new(Schema::new(fields.collect::<Vec<_>>()));
    let batch = RecordBatch::try_new(schema, columns.collect()).expect("a batch");
    history.add(&batch, &stamps).expect("expressions that fit");
    history
}
