//! A small shop: two views, one service, some events.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use tidemark_kernel::aggregate::Function;
use tidemark_kernel::plan::{FeatureSpec, Input, KeyField, ViewSpec};
use tidemark_kernel::service::{Derived, ServiceFeature};
use tidemark_kernel::value::Field;
use tidemark_kernel::{
    EntityKey, FeaturePlan, Partition, PartitionState, Position, ServicePlan, Span, Stamp, Time, Type, Value,
    Window,
};
use tidemark_online::{Lookups, Row, RowLimits};
use tidemark_store::{
    BUCKETS, BucketFlush, Clock, FlushOutcome, Generation, MemoryStore, NewState, OnlineStore,
};

/// 2026-11-20T08:00:00Z.
pub(crate) const NOON: Time = Time::from_millis(1_795_161_600_000);
pub(crate) const TIME_TRAVEL: Span = Span::from_secs(10);

/// A time some seconds from [`NOON`].
pub(crate) fn at(seconds: i64) -> Time {
    Time::from_millis(NOON.millis() + seconds * 1000)
}

fn feature(name: &str, function: Function, input: Option<Type>, window: &str) -> FeatureSpec {
    let input = input.map(|ty| Input { sql: "amount".into(), ty });
    let window = Span::parse(window).map_or(Window::Lifetime, |length| Window::sliding(length).unwrap());
    FeatureSpec { name: name.into(), function, input, filter: None, window }
}

fn view(name: &str, keys: &[(&str, Type)], features: Vec<FeatureSpec>) -> FeaturePlan {
    let keys = keys.iter().map(|(key, ty)| KeyField { name: (*key).into(), field: (*key).into(), ty: *ty });
    FeaturePlan::new(ViewSpec {
        view: name.into(),
        entity: name.into(),
        source: name.into(),
        source_version: None,
        fields: vec![Field { name: "amount".into(), ty: Type::Float64 }],
        keys: keys.collect(),
        filter: None,
        features,
        time_travel: TIME_TRAVEL,
        max_age: Some(Span::from_secs(1800)),
        expression_semantics: tidemark_expr::SEMANTICS,
    })
    .unwrap()
}

/// By user.
pub(crate) fn payments() -> FeaturePlan {
    let features = vec![
        feature("payments_1h", Function::Count, None, "1h"),
        feature("amount_sum_1h", Function::Sum, Some(Type::Float64), "1h"),
        feature("amounts", Function::LastN(2), Some(Type::Float64), "lifetime"),
        feature("amount_top", Function::TopK(2), Some(Type::Float64), "lifetime"),
    ];
    view("payments", &[("user_id", Type::Int64)], features)
}

/// By user and device.
pub(crate) fn logins() -> FeaturePlan {
    let features = vec![feature("logins_10m", Function::Count, None, "10m")];
    view("logins", &[("user_id", Type::Int64), ("device", Type::String)], features)
}

/// All of it, with a request field and a derived feature.
pub(crate) fn fraud() -> ServicePlan {
    let place = |view, feature| ServiceFeature { view, feature };
    ServicePlan {
        name: "fraud".into(),
        views: vec![Arc::new(payments()).into(), Arc::new(logins()).into()],
        features: vec![place(0, 0), place(0, 1), place(0, 2), place(0, 3), place(1, 0)],
        request: vec![Field { name: "amount".into(), ty: Type::Float64 }],
        derived: vec![Derived {
            name: "share".into(),
            sql: "amount / payments.amount_sum_1h".into(),
            ty: Type::Float64,
        }],
    }
}

/// An event of either view: arrival is event time.
#[derive(Clone, Copy)]
pub(crate) struct Event {
    pub(crate) partition: Partition,
    pub(crate) offset: i64,
    pub(crate) seconds: i64,
    pub(crate) amount: f64,
}

/// A payment of the file partition.
pub(crate) const fn event(offset: i64, seconds: i64, amount: f64) -> Event {
    Event { partition: Partition::FILE, offset, seconds, amount }
}

/// A store, lookups over it, and a clock that tests set.
pub(crate) struct Shop {
    pub(crate) store: Arc<dyn OnlineStore>,
    pub(crate) lookups: Arc<Lookups>,
    pub(crate) clock: Arc<AtomicI64>,
}

impl Shop {
    /// The service over a store without any state.
    pub(crate) fn empty() -> Self {
        Self::over(|clock| Arc::new(MemoryStore::new(clock)))
    }

    /// The service over this store, which is given the clock.
    pub(crate) fn over(store: impl FnOnce(Clock) -> Arc<dyn OnlineStore>) -> Self {
        let clock = Arc::new(AtomicI64::new(NOON.millis()));
        let told = Arc::clone(&clock);
        let now = move || Time::from_millis(told.load(Ordering::SeqCst));
        let store = store(Arc::new(now.clone()));
        let lookups = Arc::new(Lookups::new(Arc::clone(&store), Arc::new(now)));
        lookups.serve([Arc::new(fraud())]).unwrap();
        Self { store, lookups, clock }
    }

    /// The same within other limits of rows.
    pub(crate) fn limited(self, rows: RowLimits) -> Self {
        let Ok(lookups) = Arc::try_unwrap(self.lookups) else {
            panic!("lookups are limited before they are shared")
        };
        Self { lookups: Arc::new(lookups.limited(rows)), ..self }
    }

    /// Both views live: user 1 paid 10, 20 and 20 a while ago and logged in with the phone.
    pub(crate) async fn open() -> Self {
        Self::empty().filled().await
    }

    /// The same over its own store.
    pub(crate) async fn filled(self) -> Self {
        let shop = self;
        let payments = payments();
        let generation = shop.live(&payments).await;
        let events = [event(0, -7200, 10.0), event(4, -600, 20.0), event(9, -60, 20.0)];
        shop.apply(&generation, &payments, &[Value::Int64(1)], &events).await;
        let logins = logins();
        let generation = shop.live(&logins).await;
        let push = Event { partition: Partition::PUSH, ..event(3, -30, 0.0) };
        shop.apply(&generation, &logins, &[Value::Int64(1), Value::string("phone")], &[push]).await;
        shop
    }

    /// A new live generation with nothing in it.
    pub(crate) async fn live(&self, plan: &FeaturePlan) -> Generation {
        let partitions =
            BTreeMap::from([(Partition::FILE, Position::START), (Partition::PUSH, Position::START)]);
        let begun =
            self.store.begin(&plan.view, plan.new_generation_fingerprint(), &partitions, None).await.unwrap();
        let live = self.store.live(&plan.view).await.unwrap();
        self.store.publish(&plan.view, live.as_ref(), Some(&begun)).await.unwrap();
        begun
    }

    /// Writes the state of an entity that saw these events of one partition.
    pub(crate) async fn apply(
        &self,
        generation: &Generation,
        plan: &FeaturePlan,
        key: &[Value],
        events: &[Event],
    ) {
        let mut state = PartitionState::new();
        for event in events {
            let time = at(event.seconds);
            let stamp = Stamp {
                partition: event.partition,
                offset: event.offset,
                event_time: time,
                arrival_time: time,
            };
            let input = |counts: bool| if counts { Value::Bool(true) } else { Value::float(event.amount) };
            let inputs = plan.aggregates.iter().map(|aggregate| input(aggregate.input.is_none()));
            state.apply(plan, &stamp, &inputs.collect::<Vec<_>>());
        }
        self.plant(generation, events[0].partition, key, state.encode(plan)).await;
    }

    /// Writes any bytes as the state of an entity.
    pub(crate) async fn plant(
        &self,
        generation: &Generation,
        partition: Partition,
        key: &[Value],
        state: Vec<u8>,
    ) {
        let key = EntityKey::encode(key).unwrap();
        let (bucket, start) = (key.bucket(BUCKETS), Position::START);
        let writes = vec![(key, Some(NewState::permanent(state)))];
        let flush = BucketFlush { bucket, partition, from: start, to: start, writes };
        let outcomes = self.store.flush(generation, vec![flush]).await.unwrap();
        assert_eq!(outcomes, [FlushOutcome::Applied]);
    }

    pub(crate) fn set_clock(&self, time: Time) {
        self.clock.store(time.millis(), Ordering::SeqCst);
    }
}

/// A row of the service.
pub(crate) fn row(user: impl Into<Option<i64>>, device: &str, amount: f64) -> Row {
    let user = user.into().map_or(Value::Null, Value::Int64);
    let values = [("user_id", user), ("device", Value::string(device)), ("amount", Value::float(amount))];
    values.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
}
