//! A view that is up: a task applies what comes in, with a queue for each partition.
//!
//! Partitions do not wait for each other, and views do not wait for each other: what they wait for is the store, each for
//! itself. A view that cannot go on, because its generation is lost or has fallen back, ends and says so; the source then
//! brings it back from history.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::panic::AssertUnwindSafe;
use std::sync::{Arc, Weak};

use futures::FutureExt;
use futures::future::{AbortHandle, BoxFuture, abortable};
use futures::stream::{FuturesUnordered, StreamExt};
use tidemark_kernel::{FeaturePlan, Partition};
use tidemark_offline::Positions;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinSet;

use crate::error::IngestError;
use crate::health::SourceHealth;
use crate::room::InFlight;
use crate::view::{Advance, SharedView, ViewWriter};

/// A view that is up. Dropped, it ends where it is; what it has not applied is missing in it from then on.
pub(super) struct Live {
    writer: SharedView,
    orders: mpsc::UnboundedSender<Order>,
    _task: JoinSet<()>,
}

/// What reconciles a view later, if it is up then.
pub(super) struct Reconciler(mpsc::WeakUnboundedSender<Order>);

impl Reconciler {
    /// As [`Live::reconcile`] does, for a view that is current, and without an answer.
    pub(super) fn reconcile(&self, expected: Positions) {
        let Some(orders) = self.0.upgrade() else { return };
        let (answer, _) = oneshot::channel();
        // A view that has ended says so itself.
        drop(orders.send(Order::Reconcile(Reconcile { expected, current: true, answer })));
    }
}

/// Where a view says that it cannot go on.
pub(super) type FallenSender = mpsc::UnboundedSender<Fallen>;

/// A view that cannot go on.
pub(super) struct Fallen {
    pub(super) writer: SharedView,
    /// Whether the view can be rebuilt from history; an error says why not.
    pub(super) outcome: Result<(), IngestError>,
}

enum Order {
    Apply(Arc<InFlight>),
    Reconcile(Reconcile),
    Forget(Vec<Partition>, oneshot::Sender<()>),
}

struct Reconcile {
    expected: Positions,
    /// Whether its generation has what `events` has.
    current: bool,
    answer: oneshot::Sender<()>,
}

impl Live {
    /// Starts the task of a view that has everything that was taken so far.
    pub(super) fn start(writer: SharedView, health: SourceHealth, fallen: FallenSender) -> Self {
        let (orders, receive) = mpsc::unbounded_channel();
        // A task that has nothing to do keeps neither the writer nor its store: a store can be opened again as soon as those
        // who used it are dropped.
        let (mut tasks, of) = (JoinSet::new(), Arc::downgrade(&writer));
        tasks.spawn(async move {
            let mut task = Task::new(Weak::clone(&of), health, receive);
            let ended = AssertUnwindSafe(task.run()).catch_unwind().await;
            let outcome = ended.unwrap_or_else(|_| Err(IngestError::stopped("the writer of a view died")));
            // Before it drops its batches, so that the source knows of its end by then. A source that is gone does not
            // need it.
            if let Some(writer) = of.upgrade() {
                drop(fallen.send(Fallen { writer, outcome }));
            }
        });
        Self { writer, orders, _task: tasks }
    }

    /// The plan that it carries out.
    pub(super) fn plan(&self) -> &Arc<FeaturePlan> {
        self.writer.plan()
    }

    /// What writes it.
    pub(super) const fn writer(&self) -> &SharedView {
        &self.writer
    }

    /// Applies a batch after those of its partition that were handed over before.
    pub(super) fn apply(&self, batch: Arc<InFlight>) {
        // A view that has ended is brought back from history, where this will be.
        drop(self.orders.send(Order::Apply(batch)));
    }

    /// Compares partitions that have nothing on the way with where the view should be in them, and stores how far it is.
    /// Resolves once that is done; with an error where the view cannot go on, as one cannot that is not `current`.
    pub(super) fn reconcile(&self, expected: Positions, current: bool) -> oneshot::Receiver<()> {
        let (answer, reconciled) = oneshot::channel();
        drop(self.orders.send(Order::Reconcile(Reconcile { expected, current, answer })));
        reconciled
    }

    /// What reconciles it later.
    pub(super) fn reconciler(&self) -> Reconciler {
        Reconciler(self.orders.downgrade())
    }

    /// Lets go of partitions: what waits of them is not applied any more, and what is being applied ends where it is.
    pub(super) async fn forget(&self, partitions: &[Partition]) {
        let (answer, forgotten) = oneshot::channel();
        drop(self.orders.send(Order::Forget(partitions.to_vec(), answer)));
        // A view that has ended applies nothing.
        forgotten.await.unwrap_or_default();
        partitions.iter().for_each(|partition| self.writer.forget(*partition));
    }
}

/// A piece of work that has ended.
struct Done {
    /// What it was for.
    partitions: Vec<Partition>,
    /// What was applied; none where it was reconciling.
    batch: Option<Arc<InFlight>>,
    /// Tells the caller that the view was reconciled.
    answer: Option<oneshot::Sender<()>>,
    outcome: Result<Advance, IngestError>,
}

struct Task {
    writer: Weak<ViewWriter>,
    health: SourceHealth,
    orders: mpsc::UnboundedReceiver<Order>,
    queues: BTreeMap<Partition, VecDeque<Arc<InFlight>>>,
    /// The partitions that something is being done for.
    busy: BTreeSet<Partition>,
    /// What is being done, which gives nothing where it was ended.
    working: FuturesUnordered<BoxFuture<'static, Option<Done>>>,
    /// What ends the batch of a partition that is being applied.
    applying: BTreeMap<Partition, AbortHandle>,
    is_reconciling: bool,
    /// What is reconciled once that has ended.
    reconciles: VecDeque<Reconcile>,
    /// The batch that could not be applied, and the answer that cannot be given: dropped once the source knows of the
    /// end.
    refused: (Option<Arc<InFlight>>, Option<oneshot::Sender<()>>),
}

impl Task {
    fn new(writer: Weak<ViewWriter>, health: SourceHealth, orders: mpsc::UnboundedReceiver<Order>) -> Self {
        Self {
            writer,
            health,
            orders,
            queues: BTreeMap::new(),
            busy: BTreeSet::new(),
            working: FuturesUnordered::new(),
            applying: BTreeMap::new(),
            is_reconciling: false,
            reconciles: VecDeque::new(),
            refused: (None, None),
        }
    }

    /// Ends where the view has to be brought back from history.
    async fn run(&mut self) -> Result<(), IngestError> {
        loop {
            tokio::select! {
                biased;
                Some(done) = self.working.next() => {
                    let Some(done) = done else { continue };
                    if !matches!(done.outcome, Ok(Advance::Done)) {
                        self.refused = (done.batch, done.answer);
                        return done.outcome.map(drop);
                    }
                    for partition in done.partitions {
                        self.busy.remove(&partition);
                        self.applying.remove(&partition);
                        self.go_on(partition);
                    }
                    self.is_reconciling &= done.batch.is_some();
                    if let Some(answer) = done.answer {
                        // The caller may not wait for it.
                        answer.send(()).unwrap_or_default();
                    }
                    self.reconcile_next();
                }
                order = self.orders.recv() => match order {
                    Some(order) => self.obey(order),
                    // The source has dropped the view.
                    None => return Ok(()),
                },
            }
        }
    }

    fn obey(&mut self, order: Order) {
        match order {
            Order::Apply(batch) => {
                let partition = batch.batch.partition;
                self.queues.entry(partition).or_default().push_back(batch);
                self.go_on(partition);
            }
            // While the store is unavailable, each tick of the loop sends another one and does not wait for it.
            Order::Reconcile(reconcile) if self.is_reconciling && reconcile.answer.is_closed() => {}
            Order::Reconcile(reconcile) => {
                self.reconciles.push_back(reconcile);
                self.reconcile_next();
            }
            Order::Forget(partitions, answer) => {
                self.queues.retain(|partition, _| !partitions.contains(partition));
                for (partition, applying) in
                    self.applying.extract_if(.., |partition, _| partitions.contains(partition))
                {
                    applying.abort();
                    self.busy.remove(&partition);
                }
                // The caller may not wait for it.
                answer.send(()).unwrap_or_default();
            }
        }
    }

    /// Begins to reconcile what is next, if nothing is being reconciled.
    fn reconcile_next(&mut self) {
        if self.is_reconciling {
            return;
        }
        let Some(writer) = self.writer.upgrade() else { return };
        let Some(Reconcile { mut expected, current, answer }) = self.reconciles.pop_front() else { return };
        self.is_reconciling = true;
        // Applying a batch checks the positions of its partition.
        expected.retain(|partition, _| !self.busy.contains(partition));
        let partitions: Vec<Partition> = expected.keys().copied().collect();
        self.busy.extend(&partitions);
        let health = self.health.clone();
        self.working.push(Box::pin(async move {
            let outcome = match current {
                true => reconcile(&writer, &health, &expected).await,
                false => Ok(Advance::Lost),
            };
            Some(Done { partitions, batch: None, answer: Some(answer), outcome })
        }));
    }

    /// Begins with the next batch of a partition, if nothing is being done for it.
    fn go_on(&mut self, partition: Partition) {
        if self.busy.contains(&partition) {
            return;
        }
        let Some(writer) = self.writer.upgrade() else { return };
        let Some(batch) = self.queues.get_mut(&partition).and_then(VecDeque::pop_front) else {
            self.queues.remove(&partition);
            return;
        };
        self.busy.insert(partition);
        let health = self.health.clone();
        let (applying, end) = abortable(async move {
            let outcome = apply(&writer, &health, &batch).await;
            Done { partitions: vec![partition], batch: Some(batch), answer: None, outcome }
        });
        self.applying.insert(partition, end);
        self.working.push(Box::pin(applying.map(Result::ok)));
    }
}

async fn apply(writer: &SharedView, health: &SourceHealth, batch: &InFlight) -> Result<Advance, IngestError> {
    let mut wait = health.wait();
    loop {
        match writer.advance(&batch.batch).await {
            Err(error) if wait.out(&error).await => {}
            outcome => return outcome,
        }
    }
}

async fn reconcile(
    writer: &SharedView,
    health: &SourceHealth,
    expected: &Positions,
) -> Result<Advance, IngestError> {
    let mut wait = health.wait();
    loop {
        let reconciled = async {
            match writer.is_live().await? {
                true => writer.reconcile(expected).await,
                false => Ok(Advance::Lost),
            }
        };
        match reconciled.await {
            Err(error) if wait.out(&error).await => {}
            outcome => return outcome,
        }
    }
}

#[cfg(test)]
mod tests {
    use tidemark_host::Host;
    use tidemark_kernel::Position;
    use tidemark_store::OnlineStore;

    use super::*;
    use crate::decode::Batch;
    use crate::health::Health;
    use crate::memory::Memory;
    use crate::push;
    use crate::room::{Arrivals, Room};
    use crate::tests::faults::Faulty;
    use crate::tests::fixture::{by_user, clock, payments, pushed};

    #[tokio::test]
    async fn a_partition_is_let_go_of_while_its_store_is_away() {
        let (store, plan, host) = (Arc::new(Faulty::new()), by_user(), Host::real(clock()));
        let starts = [0, 1].map(|partition| (Partition(partition), Position::START)).into();
        let generation =
            store.begin("by_user", plan.new_generation_fingerprint(), &starts, None).await.expect("begun");
        let (shared, memory) = (Arc::clone(&store) as Arc<dyn OnlineStore>, Memory::default());
        let writer =
            ViewWriter::open(host.clone(), plan, shared, generation.clone(), Arc::default(), memory).await;
        let writer = Arc::new(writer.expect("a store").expect("whole"));
        let (falls, mut fallen) = mpsc::unbounded_channel();
        let health = Arc::new(Health::default()).of("payments", &host);
        let live = Live::start(writer, health.clone(), falls);
        let applied = None;
        let arrivals =
            Arc::new(Arrivals { source: "payments".into(), host, metrics: Arc::default(), applied });
        let room = Room::default();
        store.set_away(Some("by_user"));
        for partition in [Partition(0), Partition(1)] {
            let batch = push::decode(&payments(), &pushed(40)).expect("decoded");
            live.apply(room.enter(Batch { partition, ..batch }, &arrivals));
        }
        while health.longest_wait().is_zero() {
            tokio::task::yield_now().await;
        }
        live.forget(&[Partition(0)]).await;
        room.drained(&[Partition(0)]).await;
        assert!(!room.is_drained(Partition(1)), "its partition is still waited for");
        store.set_away(None);
        room.drained(&[Partition(1)]).await;
        assert!(fallen.try_recv().is_err(), "the view goes on");
        let stored = store.positions(&generation).await.expect("a generation");
        assert!(stored[&Partition(0)].values().all(|position| *position == Position::START));
        assert!(stored[&Partition(1)].values().any(|position| *position == Position(40)));
    }
}
