//! The host of production: the clock, timers and threads of the real machine.

use std::thread::{Builder, JoinHandle};
use std::time::Duration;

use futures::executor::block_on;
use futures::future::{BoxFuture, FutureExt};
use tidemark_kernel::Time;
use tokio::runtime::Handle;
use tokio::time::{Instant, sleep};
use uuid::Uuid;

use crate::{Clock, Machine, Stopped, Work};

pub(crate) struct Real {
    clock: Clock,
    began: Instant,
}

#[expect(clippy::disallowed_methods, reason = "this is the machine that all others are handed")]
impl Real {
    pub(crate) fn new(clock: Clock) -> Self {
        Self { clock, began: Instant::now() }
    }
}

#[expect(clippy::disallowed_methods, reason = "this is the machine that all others are handed")]
impl Machine for Real {
    fn now(&self) -> Time {
        (self.clock)()
    }

    fn uptime(&self) -> Duration {
        self.began.elapsed()
    }

    fn sleep(&self, span: Duration) -> BoxFuture<'static, ()> {
        sleep(span).boxed()
    }

    fn id(&self) -> u128 {
        Uuid::new_v4().as_u128()
    }

    fn blocking(&self, work: Work) -> BoxFuture<'static, ()> {
        match Handle::try_current() {
            // A panic shows by the result that is missing.
            Ok(runtime) => runtime.spawn_blocking(work).map(drop).boxed(),
            Err(_) => {
                work();
                std::future::ready(()).boxed()
            }
        }
    }

    fn apart(&self, name: &str, task: BoxFuture<'static, ()>) -> Result<Box<dyn Send + Sync>, Stopped> {
        let thread = Builder::new().name(name.to_owned()).spawn(move || block_on(task));
        Ok(Box::new(Joined(Some(thread.map_err(|_| Stopped)?))))
    }
}

struct Joined(Option<JoinHandle<()>>);

impl Drop for Joined {
    fn drop(&mut self) {
        drop(self.0.take().map(JoinHandle::join));
    }
}
