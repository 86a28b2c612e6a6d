//! What a process asks of the machine it runs on: the wall clock, timers, random ids, threads that may block, and files that last.
//!
//! Engines receive a [`Host`] and call nothing else for these; `clippy.toml` bans the real ones by name. The reason is
//! the simulation (`tests/simulation`): it runs the same code on one thread in virtual time, and everything that
//! happens in it follows from one seed. A single timer or thread that bypasses the host would make its runs differ.
//!
//! Two rules for code that runs on a host:
//!
//! * Every `tokio::select!` is `biased;`. By default it polls its branches in a random order.
//! * Every task has an owner, and dropping the owner aborts the task. A process can then be ended at any await point by
//!   dropping its future, as `kill -9` ends it.
//!
//! [`durable`] writes files so that they survive a crash; the real disk is the only one it knows.
//!
//! [`Host::real`] is the real machine. This crate must never contain anything of Tidemark itself.

use std::fmt;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use futures::channel::oneshot;
use futures::future::BoxFuture;
use thiserror::Error;
use tidemark_kernel::Time;

pub mod durable;
mod real;

/// The wall clock, in UTC.
pub type Clock = Arc<dyn Fn() -> Time + Send + Sync>;

/// A piece of work that may block the thread it runs on.
pub type Work = Box<dyn FnOnce() + Send>;

/// What a [`Host`] is made of: the real machine, or a simulated one.
pub trait Machine: Send + Sync {
    /// The time of the wall clock.
    fn now(&self) -> Time;

    /// The time since some fixed instant, by a clock that never goes back.
    fn uptime(&self) -> Duration;

    /// Ends after `span`, or later.
    fn sleep(&self, span: Duration) -> BoxFuture<'static, ()>;

    /// A random id that is never given again.
    fn id(&self) -> u128;

    /// Runs work that may block. Ends once it has; dropped before, the work may or may not be carried out.
    fn blocking(&self, work: Work) -> BoxFuture<'static, ()>;

    /// Runs a task that blocks again and again on a thread of its own. The guard ends it: dropped, it waits until the
    /// task has returned, so tell the task to return first.
    fn apart(&self, name: &str, task: BoxFuture<'static, ()>) -> Result<Box<dyn Send + Sync>, Stopped>;
}

/// Work was not carried out to its end, because the process is shutting down or the work panicked.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
#[error("a piece of work was given up in the middle")]
pub struct Stopped;

/// The machine that a process runs on. Clones are the same one.
#[derive(Clone)]
pub struct Host(Arc<dyn Machine>);

impl fmt::Debug for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Host").finish_non_exhaustive()
    }
}

impl From<Clock> for Host {
    fn from(clock: Clock) -> Self {
        Self::real(clock)
    }
}

impl Host {
    /// The real machine, with this wall clock. Its timers and [`blocking`](Self::blocking) need a Tokio runtime.
    #[must_use]
    pub fn real(clock: Clock) -> Self {
        Self(Arc::new(real::Real::new(clock)))
    }

    /// Another machine.
    #[must_use]
    pub fn new(machine: impl Machine + 'static) -> Self {
        Self(Arc::new(machine))
    }

    /// The time of the wall clock.
    #[must_use]
    pub fn now(&self) -> Time {
        self.0.now()
    }

    /// The wall clock by itself.
    #[must_use]
    pub fn clock(&self) -> Clock {
        let host = self.clone();
        Arc::new(move || host.now())
    }

    /// The time since some fixed instant, by a clock that never goes back.
    #[must_use]
    pub fn uptime(&self) -> Duration {
        self.0.uptime()
    }

    /// A random id that is never given again.
    #[must_use]
    pub fn id(&self) -> u128 {
        self.0.id()
    }

    /// Begins to measure how long something takes.
    #[must_use]
    pub fn stopwatch(&self) -> Stopwatch {
        Stopwatch { host: self.clone(), began: self.uptime() }
    }

    /// Waits for `span`.
    pub async fn sleep(&self, span: Duration) {
        self.0.sleep(span).await;
    }

    /// What `task` gives, unless it takes longer than `span`: it is then dropped.
    pub async fn timeout<T>(&self, span: Duration, task: impl Future<Output = T>) -> Option<T> {
        tokio::select! {
            biased;
            done = task => Some(done),
            () = self.sleep(span) => None,
        }
    }

    /// Ticks at once, and then a `period` after the last tick was received.
    #[must_use]
    pub fn ticks(&self, period: Duration) -> Ticks {
        Ticks { host: self.clone(), period, next: self.uptime() }
    }

    /// Runs work that may block, where it holds up no task. Outside of a Tokio runtime the work runs on this thread, and
    /// a panic is the caller's.
    ///
    /// # Errors
    /// Fails where the runtime shuts down before the work is done, or the work panics.
    pub async fn blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, Stopped> {
        let (send, receive) = oneshot::channel();
        // A receiver that is gone does not want the result.
        self.0.blocking(Box::new(move || drop(send.send(work())))).await;
        receive.await.map_err(|_| Stopped)
    }

    /// Runs a task that blocks again and again on a thread of its own, until the task returns. Drop the guard to wait
    /// for that.
    ///
    /// # Errors
    /// Fails if the system gives no further thread.
    pub fn apart(
        &self,
        name: &str,
        task: impl Future<Output = ()> + Send + 'static,
    ) -> Result<Box<dyn Send + Sync>, Stopped> {
        self.0.apart(name, Box::pin(task))
    }
}

/// Measures how long something takes.
#[derive(Clone, Debug)]
pub struct Stopwatch {
    host: Host,
    began: Duration,
}

impl Stopwatch {
    /// The time since it was made.
    #[must_use]
    pub fn elapsed(&self) -> Duration {
        self.host.uptime().saturating_sub(self.began)
    }
}

/// See [`Host::ticks`].
#[derive(Debug)]
pub struct Ticks {
    host: Host,
    period: Duration,
    next: Duration,
}

impl Ticks {
    /// The next tick comes a whole period from now, however long the work took that the last one began.
    pub fn reset(&mut self) {
        self.next = self.host.uptime() + self.period;
    }

    /// Waits for the next tick. Dropped before, nothing is lost.
    pub async fn tick(&mut self) {
        let wait = self.next.saturating_sub(self.host.uptime());
        if !wait.is_zero() {
            self.host.sleep(wait).await;
        }
        self.next = self.host.uptime() + self.period;
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;

    fn host() -> Host {
        Host::real(Arc::new(Time::default))
    }

    #[tokio::test]
    async fn work_gives_its_result_and_a_panic_is_an_error() {
        assert_eq!(host().blocking(|| 7).await, Ok(7));
        assert_eq!(host().blocking(|| panic!("on purpose")).await, Err::<(), _>(Stopped));
    }

    /// A machine whose time passes only while it is waited for.
    #[derive(Default)]
    struct Patient(Mutex<Duration>);

    impl Machine for Patient {
        fn now(&self) -> Time {
            Time::default()
        }
        fn uptime(&self) -> Duration {
            *self.0.lock().unwrap()
        }
        fn sleep(&self, span: Duration) -> BoxFuture<'static, ()> {
            *self.0.lock().unwrap() += span;
            Box::pin(std::future::ready(()))
        }
        fn id(&self) -> u128 {
            0
        }
        fn blocking(&self, work: Work) -> BoxFuture<'static, ()> {
            work();
            Box::pin(std::future::ready(()))
        }
        fn apart(&self, _: &str, _: BoxFuture<'static, ()>) -> Result<Box<dyn Send + Sync>, Stopped> {
            Err(Stopped)
        }
    }

    #[tokio::test]
    async fn a_tick_that_came_late_delays_the_next() {
        let (host, period) = (Host::new(Patient::default()), Duration::from_secs(5));
        let mut ticks = host.ticks(period);
        ticks.tick().await;
        let watch = host.stopwatch();
        host.sleep(period * 3).await;
        ticks.tick().await;
        ticks.tick().await;
        assert_eq!(watch.elapsed(), period * 4);
        assert_eq!(host.timeout(period, std::future::pending::<()>()).await, None);
    }

    #[test]
    fn a_task_apart_is_waited_for() {
        let (send, mut receive) = tokio::sync::mpsc::channel::<()>(1);
        let (done, mut finished) = tokio::sync::oneshot::channel();
        let inner = host();
        let guard = host().apart("test", async move {
            receive.recv().await;
            // Outside of a runtime, work runs where it is.
            done.send(inner.blocking(|| 3).await).unwrap();
        });
        drop(send);
        drop(guard.expect("a thread"));
        assert_eq!(finished.try_recv(), Ok(Ok(3)));
    }
}
