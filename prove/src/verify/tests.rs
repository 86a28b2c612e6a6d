//! Verifying while workers write.

use std::collections::VecDeque;
use std::future::Future;
use std::ops::Range;
use std::pin::Pin;
use std::sync::Mutex;

use tempfile::TempDir;
use tidemark_host::{Clock, Machine, Stopped, Work};
use tidemark_ingest::decode::{Batch, Chunk, Form, Forms, Raw, RecordPlace};
use tidemark_ingest::{Advance, Memory, ViewWriter};
use tidemark_kernel::value::arrow::array_of;
use tidemark_kernel::{FeatureType, Offset, Value};
use tidemark_offline::Retraction;
use tidemark_registry::Repo;
use tidemark_store::{BucketFlush, FlushOutcome, MemoryStore, NewState, PublishOutcome};

use super::*;

const DEFINITIONS: &str = "\
entities:
  - {name: user, keys: [{name: user_id, type: int64}]}
sources:
  - name: payments
    fields: [{name: user_id, type: int64}, {name: amount, type: float64}, {name: ts, type: timestamp}]
    event_time: ts
views:
  - name: v
    entity: user
    source: payments
    features:
      - {name: n, aggregate: count(*), windows: [1d]}
      - {name: total, aggregate: sum(amount), windows: [1d]}
services:
  - {name: s, features: [v]}
";

const ONE: Partition = Partition(0);
const OTHER: Partition = Partition(1);

const NOW: Time = Time::from_millis(1_767_225_600_000);

fn clock() -> Clock {
    Arc::new(|| NOW)
}

/// Something that others do.
enum Act {
    /// Events reach the online store.
    Apply(Partition, Range<Offset>),
    /// Events reach the event table.
    Commit(Partition, Range<Offset>),
    /// A record is taken back.
    TakeBack,
    /// The view gets another generation, and the old one is dropped.
    Replace,
    /// The store loses its states.
    Lose,
}

use Act::{Apply, Commit, Lose, Replace, TakeBack};

/// A view, its source, and what both stores hold of them.
struct World {
    folder: TempDir,
    repo: Repo,
    store: Arc<MemoryStore>,
    generation: Generation,
    writers: tokio::sync::Mutex<BTreeMap<Partition, ViewWriter>>,
}

impl World {
    /// One in which others have done this.
    async fn after(acts: impl IntoIterator<Item = Act>) -> Arc<Self> {
        let repo = tidemark_registry::parse([("shop.yaml", DEFINITIONS)]).expect("definitions");
        let store = Arc::new(MemoryStore::new(clock()));
        let generation = begin(&store, &repo.views["v"], None).await;
        let folder = tempfile::tempdir().expect("a folder");
        let world = Self { folder, repo, store, generation, writers: tokio::sync::Mutex::default() };
        for act in acts {
            world.act(act).await;
        }
        Arc::new(world)
    }

    fn plan(&self) -> &Arc<FeaturePlan> {
        &self.repo.views["v"]
    }

    fn location(&self) -> Location {
        Location::local(self.folder.path())
    }

    async fn table(&self) -> EventTable {
        let source = &self.repo.sources["payments"];
        EventTable::open_or_create(&self.location(), source).await.expect("a table")
    }

    async fn act(&self, act: Act) {
        match act {
            Apply(partition, events) => self.apply(partition, events).await,
            Commit(partition, events) => {
                let from = [(partition, Position(events.start))].into();
                let to = [(partition, Position(events.end))].into();
                let rows = [self.batch(partition, events).events];
                self.table().await.append(&rows, &from, &to, None).await.expect("committed");
            }
            TakeBack => {
                let wrong = Retraction { partition: ONE, from: Position(2), to: Position(3), at: 3 };
                assert_eq!(self.table().await.retract(wrong).await.expect("taken back"), Some(1));
            }
            Replace => {
                begin(&self.store, self.plan(), Some(&self.generation)).await;
                self.store.drop_generation(&self.generation).await.expect("dropped");
            }
            Lose => self.store.lose_generations(),
        }
    }

    async fn apply(&self, partition: Partition, events: Range<Offset>) {
        let mut writers = self.writers.lock().await;
        let writer = match writers.remove(&partition) {
            Some(writer) => writer,
            None => self.writer(partition).await,
        };
        let batch = Arc::new(self.batch(partition, events));
        assert_eq!(writer.advance(&batch).await.expect("applied"), Advance::Done);
        writers.insert(partition, writer);
    }

    async fn writer(&self, partition: Partition) -> ViewWriter {
        self.store.add_partition(&self.generation, partition, Position::START).await.expect("added");
        let (host, store) = (Host::real(clock()), Arc::clone(&self.store));
        let (plan, generation) = (Arc::clone(self.plan()), self.generation.clone());
        let writer = ViewWriter::open(host, plan, store, generation, Arc::default(), Memory::default()).await;
        writer.expect("opened").expect("whole")
    }

    fn batch(&self, partition: Partition, events: Range<Offset>) -> Batch {
        let source = &self.repo.sources["payments"];
        let at = |offset: Offset| Time::from_millis(NOW.millis() - 3_600_000 + 1_000 * offset);
        let row = |offset| {
            [Value::Int64(user(offset)), Value::float(offset as f64 + 0.5), Value::Timestamp(at(offset))]
        };
        let rows: Vec<[Value; 3]> = events.clone().map(row).collect();
        let column = |index: usize| {
            let ty = FeatureType::Scalar(source.fields[index].ty);
            array_of(ty, rows.iter().map(|row| &row[index]))
        };
        let chunk = Chunk {
            columns: (0..3).map(column).collect(),
            has_clocks: false,
            offsets: events.clone().collect(),
            times: events.clone().map(|offset| Some(at(offset))).collect(),
            added: None,
            numbers: events.clone().collect(),
            raw: Raw::Columns,
            forms: Forms::All(Form::Columns),
            partitions: None,
            place: RecordPlace::Row(Arc::from("test")),
            dead: Vec::new(),
            from: Position(events.start),
            to: Position(events.end),
        };
        let batch = chunk.accept(source, partition).expect("a batch");
        assert!(batch.dead.is_empty(), "{:?}", batch.dead);
        batch
    }

    /// Stores for one user what is the state of another.
    async fn spoil(&self, spoiled: i64, other: i64) {
        let wrong = self.store.lookup(&self.generation, &[key(other)]).await.expect("found").remove(0);
        let (partition, wrong) = wrong.expect("undamaged").remove(0);
        let bucket = key(spoiled).bucket(BUCKETS);
        let at = self.store.positions(&self.generation).await.expect("read")[&partition][&bucket];
        let writes = vec![(key(spoiled), Some(NewState::permanent(wrong)))];
        let flush = BucketFlush { bucket, partition, from: at, to: at, writes };
        let outcomes = self.store.flush(&self.generation, vec![flush]).await.expect("written");
        assert_eq!(outcomes, [FlushOutcome::Applied]);
    }

    /// Verifies while others do this, something each time it is waited. Gives also how long that was.
    async fn verify(
        self: &Arc<Self>,
        meanwhile: impl IntoIterator<Item = Vec<Act>>,
        sample: Option<usize>,
    ) -> (Result<Verified, VerifyError>, Duration) {
        let acts = Mutex::new(meanwhile.into_iter().collect());
        let host = Host::new(Busy { world: Arc::clone(self), uptime: Mutex::default(), acts });
        let request = Request {
            host: host.clone(),
            patience: Duration::from_secs(2),
            store: Arc::clone(&self.store) as Arc<dyn OnlineStore>,
            location: self.location(),
            views: vec![Arc::clone(self.plan())],
            sources: self.repo.sources.clone(),
            sample,
            asked: 100,
            seed: 7,
            now: NOW,
            effort: Effort { threads: 2, memory: 64 << 20 },
        };
        (verify(&request, &mut |_| ()).await, host.uptime())
    }

    /// Verifies where nothing may fail or differ; returns how many entities, states and values were compared.
    async fn assert_verified(
        self: &Arc<Self>,
        meanwhile: impl IntoIterator<Item = Vec<Act>>,
        sample: Option<usize>,
        waits: u32,
    ) -> [u64; 3] {
        let (verified, waited) = self.verify(meanwhile, sample).await;
        let verified = verified.expect("verified");
        assert_eq!(verified.mismatches, []);
        assert_eq!(waited, waits * Duration::from_millis(200));
        [verified.entities, verified.states, verified.values]
    }
}

/// A new live generation.
async fn begin(store: &MemoryStore, plan: &FeaturePlan, old: Option<&Generation>) -> Generation {
    let positions = [(ONE, Position::START)].into();
    let new = store.begin(&plan.view, plan.new_generation_fingerprint(), &positions, None).await;
    let new = new.expect("begun");
    let published = store.publish(&plan.view, old, Some(&new)).await.expect("published");
    assert_eq!(published, PublishOutcome::Published);
    new
}

/// The user of an event: one of five, and from offset 10 on another.
fn user(offset: Offset) -> i64 {
    if offset < 10 { offset % 5 } else { 9 }
}

fn key(user: i64) -> EntityKey {
    EntityKey::encode(&[Value::Int64(user)]).expect("no null")
}

/// A machine whose time passes only while it is waited for, which is when others do something.
struct Busy {
    world: Arc<World>,
    uptime: Mutex<Duration>,
    acts: Mutex<VecDeque<Vec<Act>>>,
}

type Done = Pin<Box<dyn Future<Output = ()> + Send>>;

impl Machine for Busy {
    fn now(&self) -> Time {
        NOW
    }
    fn uptime(&self) -> Duration {
        *self.uptime.lock().expect("no panic")
    }
    fn sleep(&self, span: Duration) -> Done {
        *self.uptime.lock().expect("no panic") += span;
        let acts = self.acts.lock().expect("no panic").pop_front().unwrap_or_default();
        let world = Arc::clone(&self.world);
        Box::pin(async move {
            for act in acts {
                world.act(act).await;
            }
        })
    }
    fn id(&self) -> u128 {
        0
    }
    fn blocking(&self, work: Work) -> Done {
        work();
        Box::pin(std::future::ready(()))
    }
    fn apart(&self, _: &str, _: Done) -> Result<Box<dyn Send + Sync>, Stopped> {
        Err(Stopped)
    }
}

/// In which both stores hold all of a partition.
async fn at_rest(events: Range<Offset>) -> Arc<World> {
    World::after([Apply(ONE, events.clone()), Commit(ONE, events)]).await
}

/// In which the store is one event ahead of the table, so that it is waited.
async fn ahead() -> Arc<World> {
    World::after([Apply(ONE, 0..7), Commit(ONE, 0..6)]).await
}

/// What happens once it is waited: the table catches up, but the store goes on, with events of all users but 0 and 1.
fn going_on() -> [Vec<Act>; 2] {
    [vec![Commit(ONE, 6..7), Apply(ONE, 7..12)], vec![Commit(ONE, 7..12)]]
}

#[tokio::test]
async fn nothing_is_waited_for_at_rest() {
    let world = at_rest(0..12).await;
    // Two features at four instants.
    assert_eq!(world.assert_verified([], None, 0).await, [6, 6, 6 * 4 * 2]);
    assert_eq!(world.assert_verified([], Some(2), 0).await, [2, 2, 2 * 4 * 2]);
}

#[tokio::test]
async fn a_table_that_lags_is_waited_for() {
    let world = World::after([Apply(ONE, 0..12), Commit(ONE, 0..6)]).await;
    let meanwhile = [vec![], vec![Commit(ONE, 6..9)], vec![Commit(ONE, 9..12)]];
    assert_eq!(world.assert_verified(meanwhile, None, 3).await, [6, 6, 48]);
}

#[tokio::test]
async fn a_table_that_does_not_come_is_behind() {
    let (behind, waited) = ahead().await.verify([], None).await;
    let behind = behind.expect_err("behind");
    let at = (ONE, Position(7), Position(6));
    assert!(
        matches!(&behind, VerifyError::Behind { partition, applied, held, .. } if (*partition, *applied, *held) == at),
        "{behind:?}"
    );
    assert_eq!((behind.kind(), waited), (ErrorKind::NotReady, Duration::from_secs(2)));
}

#[tokio::test]
async fn what_is_written_meanwhile_is_no_mismatch_and_counts_once() {
    for sample in [None, Some(100)] {
        assert_eq!(ahead().await.assert_verified(going_on(), sample, 2).await, [6, 6, 48]);
    }
}

#[tokio::test]
async fn a_partition_that_appears_meanwhile_is_no_mismatch() {
    let meanwhile = [vec![Commit(ONE, 6..7), Apply(OTHER, 0..4)], vec![Commit(OTHER, 0..4)]];
    assert_eq!(ahead().await.assert_verified(meanwhile, None, 2).await, [5, 9, 40]);
}

#[tokio::test]
async fn a_wrong_state_is_found_once() {
    let assert_found = |verified: &Verified| {
        let [mismatch] = verified.mismatches.as_slice() else { panic!("{:?}", verified.mismatches) };
        assert_eq!((mismatch.entity.as_str(), mismatch.partition), ("user_id=0", Some(ONE)));
        assert_eq!(mismatch.what, "the last event applied is at offset 6, it should be 5");
        assert_eq!([verified.entities, verified.states, verified.values], [6, 6, 40]);
    };
    for sample in [None, Some(100)] {
        let world = ahead().await;
        world.spoil(0, 1).await;
        let (verified, waited) = world.verify(going_on(), sample).await;
        assert_found(&verified.expect("verified"));
        assert_eq!(waited, Duration::from_millis(400));
        // The same holds once the writes have ended.
        let (verified, waited) = world.verify([], sample).await;
        assert_found(&verified.expect("verified"));
        assert_eq!(waited, Duration::ZERO);
    }
}

#[tokio::test]
async fn a_view_that_is_replaced_or_lost_meanwhile_is_told() {
    let told = async |act: Act| {
        let (result, _) = ahead().await.verify([vec![Commit(ONE, 6..7), act]], None).await;
        result.expect_err("an error")
    };
    let replaced = told(Replace).await;
    assert!(matches!(replaced, VerifyError::Replaced(_)), "{replaced:?}");
    assert_eq!(replaced.explained(), "the state of view v was replaced while it was verified; run it again");
    assert_eq!(replaced.kind(), ErrorKind::NotReady);
    let lost = told(Lose).await;
    assert!(matches!(lost, VerifyError::Lost(_)), "{lost:?}");
    let taken_back = told(TakeBack).await;
    assert!(matches!(taken_back, VerifyError::TakenBack(_)), "{taken_back:?}");
}

#[tokio::test]
async fn records_that_were_taken_back_before_are_told_at_once() {
    let world = World::after([Apply(ONE, 0..7), Commit(ONE, 0..6), TakeBack]).await;
    let (taken_back, waited) = world.verify([], None).await;
    assert!(matches!(taken_back, Err(VerifyError::TakenBack(_))), "{taken_back:?}");
    assert_eq!(waited, Duration::ZERO);
}
