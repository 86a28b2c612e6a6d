//! States that are not needed any more, in stores that do not forget by themselves.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use tidemark_host::Host;
use tidemark_kernel::aggregate::Function;
use tidemark_kernel::answer::answer;
use tidemark_kernel::plan::{FeatureSpec, KeyField, ViewSpec};
use tidemark_kernel::retention::GRACE;
use tidemark_kernel::source::{Arrival, TimeField};
use tidemark_kernel::{EntityKey, FeaturePlan, PartitionState, SourcePlan, Span, Time, Type, Value, Window};
use tidemark_store::{Clock, EmbeddedStore, MemoryStore, OnlineStore};

use super::fixture::{Project, RECEIVED, clock, field, states};
use crate::maintenance::Forgetting;
use crate::unwatched;

const HOUR: Span = Span::from_secs(3600);
const DAY: Span = Span::from_secs(86_400);

/// Flights are booked weeks before they take place.
fn bookings() -> Arc<SourcePlan> {
    Arc::new(SourcePlan {
        name: "bookings".into(),
        fields: vec![
            field("user", Type::Int64),
            field("booked", Type::Timestamp),
            field("flight", Type::Timestamp),
        ],
        origins: BTreeMap::new(),
        optional: BTreeSet::new(),
        zones: BTreeMap::new(),
        event_time: TimeField { field: "flight".into(), unit: None },
        arrival: Arrival::Field(TimeField { field: "booked".into(), unit: None }),
        max_ahead: Span::from_secs(60 * 86_400),
        // Years of bookings are taken in at once.
        max_arrival_ahead: Some(Span::from_secs(10 * 365 * 86_400)),
        unique: None,
        keep_raw: false,
    })
}

/// How many flights in the last hour.
fn flights() -> Arc<FeaturePlan> {
    let feature = FeatureSpec {
        name: "flights_1h".into(),
        function: Function::Count,
        input: None,
        filter: None,
        window: Window::sliding(HOUR).expect("a window"),
    };
    let spec = ViewSpec {
        view: "flights".into(),
        entity: "user".into(),
        source: "bookings".into(),
        source_version: None,
        fields: vec![field("user", Type::Int64)],
        keys: vec![KeyField { name: "user".into(), field: "user".into(), ty: Type::Int64 }],
        filter: None,
        features: vec![feature],
        time_travel: FeaturePlan::DEFAULT_TIME_TRAVEL,
        max_age: None,
        expression_semantics: tidemark_expr::SEMANTICS,
    };
    Arc::new(FeaturePlan::new(spec).expect("a plan"))
}

/// A project whose store goes by a clock that the test sets, and a walk through its states.
struct Airport {
    project: Project,
    now: Arc<AtomicI64>,
    forgetting: Forgetting,
    files: usize,
}

impl Airport {
    fn new(store: impl FnOnce(Clock) -> Arc<dyn OnlineStore>) -> Self {
        let now = Arc::new(AtomicI64::new(RECEIVED.millis()));
        let told = Arc::clone(&now);
        let store = store(Arc::new(move || Time::from_millis(told.load(Ordering::Relaxed))));
        let project = Project { sources: vec![bookings()], views: vec![flights()], ..Project::new(store) };
        Self {
            project,
            now,
            forgetting: Forgetting::new(Host::real(clock()), flights(), Arc::default()),
            files: 0,
        }
    }

    /// Takes in a file of bookings: who, when booked, when the flight is.
    async fn book(&mut self, bookings: &[(i64, Time, Time)]) {
        let line = |(user, booked, flight): &(i64, Time, Time)| {
            format!("{{\"user\":{user},\"booked\":\"{booked}\",\"flight\":\"{flight}\"}}\n")
        };
        self.files += 1;
        let content: String = bookings.iter().map(line).collect();
        let path = self.project.file(&format!("{}.jsonl", self.files), &content);
        let mut ingest = self.project.open().await;
        ingest.take_in_files("bookings", &[path], &unwatched).await.expect("taken in");
    }

    /// Walks through the states twice while the clock says `now`; how many are forgotten.
    async fn forget(&mut self, now: Time) -> u64 {
        self.now.store(now.millis(), Ordering::Relaxed);
        let mut forgotten = 0;
        for _ in 0..2 {
            let round = self.forgetting.round(&*self.project.store, Duration::ZERO).await;
            forgotten += round.expect("a store");
        }
        forgotten
    }

    /// A user's flights in the hour before `at`.
    async fn flights(&self, user: i64, at: Time) -> Value {
        let key = EntityKey::encode(&[Value::Int64(user)]).expect("a key");
        let held = states(&self.project.store, "flights").await;
        let plan = flights();
        let decode = |bytes: &[u8]| PartitionState::decode(&plan, bytes).expect("a state");
        let partitions = held.get(key.as_bytes()).into_iter().flatten();
        let partitions: Vec<_> = partitions.map(|(partition, bytes)| (*partition, decode(bytes))).collect();
        answer(&plan, &partitions, at).expect("late enough").values[0].clone()
    }
}

async fn an_event_far_ahead(store: impl FnOnce(Clock) -> Arc<dyn OnlineStore>) {
    let mut airport = Airport::new(store);
    let after = |start: Time, days: i64| start.plus(Span::from_millis(days * DAY.millis()));
    let booked = RECEIVED;
    let flight = after(booked, 22);
    airport.book(&[(1, booked, flight)]).await;
    // Others keep the partition going, day by day; each flies when they book.
    for day in 1..60 {
        let now = after(booked, day);
        airport.now.store(now.millis(), Ordering::Relaxed);
        airport.book(&[(100 + day, now, now)]).await;
        airport.forget(now).await;
        if day == 22 {
            let ask = flight.plus(Span::from_secs(600));
            assert_eq!(
                airport.flights(1, ask).await,
                Value::Int64(1),
                "forgotten before it was in any window"
            );
        }
        let held = states(&airport.project.store, "flights").await.len();
        assert!(held <= 10, "{held} states on day {day}");
        let there = airport.flights(1, flight.next()).await == Value::Int64(1);
        // The hour's window, the grace, and the margin of a day that writers add.
        assert_eq!(there, day <= 22 + GRACE.millis() / DAY.millis() + 1, "on day {day}");
    }
}

#[tokio::test]
async fn an_event_far_ahead_is_kept_until_its_window_has_passed() {
    an_event_far_ahead(|clock| Arc::new(MemoryStore::new(clock))).await;
    let folder = tempfile::tempdir().expect("a folder");
    an_event_far_ahead(|clock| Arc::new(EmbeddedStore::open(folder.path(), clock).expect("opened"))).await;
}

/// Files of years ago, taken in months apart: what continues the first of them finds its states.
#[tokio::test]
async fn history_that_is_taken_in_part_by_part_is_not_forgotten_in_between() {
    let long_ago = Time::parse("2019-03-01T00:00:00Z").expect("a time");
    let minute = |minutes: i64| long_ago.plus(Span::from_secs(60 * minutes));
    let first = [(1, minute(0), minute(0)), (2, minute(1), minute(1))];
    let second = [(1, minute(20), minute(20)), (3, minute(30), minute(30))];
    let mut whole = Airport::new(|clock| Arc::new(MemoryStore::new(clock)));
    whole.book(&first).await;
    whole.book(&second).await;

    let mut airport = Airport::new(|clock| Arc::new(MemoryStore::new(clock)));
    airport.book(&first).await;
    let later = RECEIVED.plus(Span::from_millis(90 * DAY.millis()));
    assert_eq!(airport.forget(later).await, 0, "nothing that was read says that they are not needed");
    airport.book(&second).await;
    let held = states(&airport.project.store, "flights").await;
    assert_eq!(held, states(&whole.project.store, "flights").await);
    assert_eq!(airport.flights(1, minute(31)).await, Value::Int64(2));

    // Once the partition has been read on by a year they go, each some days after its last write.
    let year = minute(365 * 24 * 60);
    airport.book(&[(4, year, year)]).await;
    assert_eq!(airport.forget(later).await, 1, "user 2 was written with the first file");
    assert_eq!(airport.forget(later.plus(Span::from_millis(9 * DAY.millis()))).await, 2);
}

#[tokio::test]
async fn what_a_backfill_writes_is_forgotten_by_the_same_rule() {
    let long_ago = Time::parse("2019-03-01T00:00:00Z").expect("a time");
    let mut airport = Airport::new(|clock| Arc::new(MemoryStore::new(clock)));
    let days = |days: i64| long_ago.plus(Span::from_millis(days * DAY.millis()));
    airport.book(&[(1, days(0), days(22)), (2, days(1), days(1)), (3, days(100), days(100))]).await;
    let held = states(&airport.project.store, "flights").await;
    // A store that has lost everything is backfilled from the event tables.
    let now = Arc::clone(&airport.now);
    let clock: Clock = Arc::new(move || Time::from_millis(now.load(Ordering::Relaxed)));
    airport.project.store = Arc::new(MemoryStore::new(clock));
    airport.project.open().await.catch_up(&unwatched).await.expect("backfilled");
    assert_eq!(states(&airport.project.store, "flights").await, held);

    // From the write on, as long as the events that follow are read no faster than they came, and a day more.
    let window = HOUR.millis() + 60_000 + flights().time_travel.millis() + GRACE.millis() + DAY.millis();
    let expiry = |ahead: i64| RECEIVED.plus(Span::from_millis(window + ahead * DAY.millis()));
    let before = |expiry: Time| expiry.minus(Span::TICK);
    assert_eq!(airport.forget(before(expiry(0))).await, 0);
    assert_eq!(airport.forget(expiry(0)).await, 1, "user 2; user 3 is the newest");
    assert_eq!(airport.forget(before(expiry(22))).await, 0);
    assert_eq!(airport.forget(expiry(22)).await, 1, "user 1");
    assert_eq!(states(&airport.project.store, "flights").await.len(), 1);
}
