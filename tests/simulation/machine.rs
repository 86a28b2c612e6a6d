//! The machine that a simulated process runs on: virtual time, and blocking work on the same single thread.

use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt;
use futures::future::BoxFuture;
use tidemark_host::{Host, Machine, Stopped, Work};
use tidemark_kernel::{Span, Time};
use tokio::task::JoinSet;

use crate::world::World;

pub(crate) struct Simulated {
    world: Arc<World>,
    /// How far the process's wall clock is off.
    skew: Span,
}

impl Simulated {
    pub(crate) fn host(world: &Arc<World>, skew: Span) -> Host {
        Host::new(Self { world: Arc::clone(world), skew })
    }
}

impl Machine for Simulated {
    fn now(&self) -> Time {
        self.world.now().plus(self.skew)
    }

    fn uptime(&self) -> Duration {
        self.world.elapsed()
    }

    fn sleep(&self, span: Duration) -> BoxFuture<'static, ()> {
        self.world.wait(span).boxed()
    }

    fn id(&self) -> u128 {
        u128::from(self.world.draw(0..u64::MAX))
    }

    fn blocking(&self, work: Work) -> BoxFuture<'static, ()> {
        let world = Arc::clone(&self.world);
        async move {
            world.pause().await;
            work();
            world.pause().await;
        }
        .boxed()
    }

    fn apart(&self, _: &str, task: BoxFuture<'static, ()>) -> Result<Box<dyn Send + Sync>, Stopped> {
        let mut tasks = JoinSet::new();
        tasks.spawn(task);
        Ok(Box::new(tasks))
    }
}
