//! What one seed decides: a random stream, the weather (which parts fail just now), virtual time, and the history of a
//! run.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};
use std::fmt::Write;
use std::ops::Range;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use parking_lot::Mutex;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use tidemark_kernel::{Span, Time};

use crate::mutant::Mutant;

/// The wall clock when a run begins.
const BEGIN: Time = Time::from_millis(1_790_000_000_000);

/// How often each kind of fault happened, by its name.
pub(crate) type Counts = BTreeMap<&'static str, u64>;

/// What all parts of one run share.
#[derive(Debug)]
pub(crate) struct World {
    pub(crate) mutant: Option<Mutant>,
    inner: Mutex<Inner>,
}

#[derive(Debug)]
struct Inner {
    random: ChaCha8Rng,
    weather: Weather,
    history: String,
    counts: Counts,
    /// Virtual time since the run began.
    elapsed: Duration,
    /// What waits for a time; of the same time, in the order in which it was begun.
    timers: BinaryHeap<Reverse<(Duration, u64)>>,
    wakers: BTreeMap<u64, Waker>,
    next_timer: u64,
}

/// What is broken just now.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Weather {
    /// No call to the online store gets through.
    pub(crate) store_away: bool,
    /// Calls to the online store take up to two seconds.
    pub(crate) store_slow: bool,
    /// In so many of a hundred calls something fails, before or after the call is carried out.
    pub(crate) failing: u64,
    /// The disk of the event tables is full.
    pub(crate) tables_full: bool,
    /// Calls to the event tables take up to two seconds.
    pub(crate) tables_slow: bool,
    /// The disk of the journal is full.
    pub(crate) journal_full: bool,
    /// The brokers do not answer.
    pub(crate) brokers_away: bool,
}

impl World {
    pub(crate) fn new(seed: u64, mutant: Option<Mutant>) -> Self {
        let inner = Inner {
            random: ChaCha8Rng::seed_from_u64(seed),
            weather: Weather::default(),
            history: String::new(),
            counts: Counts::new(),
            elapsed: Duration::ZERO,
            timers: BinaryHeap::new(),
            wakers: BTreeMap::new(),
            next_timer: 0,
        };
        Self { mutant, inner: Mutex::new(inner) }
    }

    /// The virtual time since the run began.
    pub(crate) fn elapsed(&self) -> Duration {
        self.inner.lock().elapsed
    }

    /// The wall clock.
    pub(crate) fn now(&self) -> Time {
        BEGIN.plus(Span::from_millis(self.elapsed().as_millis() as i64))
    }

    /// A number of a range.
    pub(crate) fn draw(&self, range: Range<u64>) -> u64 {
        self.inner.lock().random.random_range(range)
    }

    /// True in so many of a hundred cases.
    pub(crate) fn chance(&self, percent: u64) -> bool {
        percent > 0 && self.draw(0..100) < percent
    }

    pub(crate) fn weather(&self) -> Weather {
        self.inner.lock().weather
    }

    /// Changes the weather.
    pub(crate) fn turn(&self, change: impl FnOnce(&mut Weather)) {
        change(&mut self.inner.lock().weather);
    }

    /// Counts a fault and writes it into the history.
    pub(crate) fn fault(&self, kind: &'static str, detail: &str) {
        self.count(kind);
        self.say(&format!("FAULT {kind} {detail}"));
    }

    /// Counts without a word.
    pub(crate) fn count(&self, kind: &'static str) {
        *self.inner.lock().counts.entry(kind).or_default() += 1;
    }

    /// Writes a line into the history.
    pub(crate) fn say(&self, line: &str) {
        let mut inner = self.inner.lock();
        let elapsed = inner.elapsed.as_secs_f64();
        writeln!(inner.history, "{elapsed:>9.3} {line}").expect("text");
    }

    pub(crate) fn history(&self) -> String {
        self.inner.lock().history.clone()
    }

    pub(crate) fn counts(&self) -> Counts {
        self.inner.lock().counts.clone()
    }

    /// A place where other tasks get their turn: none of them, some, or all that is due within milliseconds.
    pub(crate) async fn pause(self: &Arc<Self>) {
        match self.draw(0..10) {
            0..5 => {}
            5..8 => tokio::task::yield_now().await,
            8 => self.sleep(self.draw(0..4)).await,
            _ => self.sleep(self.draw(0..30)).await,
        }
    }

    /// Waits for up to two seconds.
    pub(crate) async fn dawdle(self: &Arc<Self>) {
        self.sleep(self.draw(0..2000)).await;
    }

    /// Waits for so many milliseconds.
    pub(crate) async fn sleep(self: &Arc<Self>, millis: u64) {
        self.wait(Duration::from_millis(millis)).await;
    }

    /// Waits for a span of virtual time.
    pub(crate) fn wait(self: &Arc<Self>, span: Duration) -> Timer {
        Timer { world: Arc::clone(self), span, begun: None }
    }

    /// Advances the clock to the next timer that a task waits for. Called when no task can run.
    pub(crate) fn advance(&self) {
        let mut due = Vec::new();
        let mut inner = self.inner.lock();
        while let Some(Reverse((time, number))) = inner.timers.peek().copied() {
            if !due.is_empty() && time > inner.elapsed {
                break;
            }
            inner.timers.pop();
            if let Some(waker) = inner.wakers.remove(&number) {
                inner.elapsed = inner.elapsed.max(time);
                due.push(waker);
            }
        }
        drop(inner);
        due.into_iter().for_each(Waker::wake);
    }
}

/// See [`World::wait`].
pub(crate) struct Timer {
    world: Arc<World>,
    span: Duration,
    /// Its number and when it is due, once it was waited for.
    begun: Option<(u64, Duration)>,
}

impl Future for Timer {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        let world = Arc::clone(&self.world);
        let mut inner = world.inner.lock();
        let span = self.span;
        let (number, due) = *self.begun.get_or_insert_with(|| {
            let begun = (inner.next_timer, inner.elapsed + span);
            inner.next_timer += 1;
            inner.timers.push(Reverse((begun.1, begun.0)));
            begun
        });
        if inner.elapsed >= due {
            return Poll::Ready(());
        }
        inner.wakers.insert(number, context.waker().clone());
        Poll::Pending
    }
}

impl Drop for Timer {
    fn drop(&mut self) {
        if let Some((number, _)) = self.begun {
            self.world.inner.lock().wakers.remove(&number);
        }
    }
}
