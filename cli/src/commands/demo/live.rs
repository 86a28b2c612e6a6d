//! `tidemark demo --live`: payments of the present into a topic, for a repo that reads them from there.

use std::time::Duration;

use serde_json::json;
use tidemark_prove::demo::{DemoTopic, Live, PaymentProducer};

use super::SOURCE;
use crate::args::Demo;
use crate::clock;
use crate::failure::Result;
use crate::output::{Output, counted};
use crate::progress::say;
use crate::service::until_signalled;

/// How often payments are sent at most: those that are due by then go together.
const PERIOD: Duration = Duration::from_millis(10);

/// Produces until it is stopped, or as many payments as were asked for.
pub(super) async fn run(asked: &Demo, servers: &str, per_second: u32, output: Output) -> Result<()> {
    let name = asked.topic.clone().unwrap_or_else(|| SOURCE.to_owned());
    let topic = DemoTopic { servers: servers.to_owned(), name };
    topic.ensure().await?;
    let seed = asked.seed.unwrap_or_else(|| clock::now().millis().unsigned_abs());
    let mut stream = Stream { producer: topic.producer()?, payments: Live::new(seed), sent: 0 };
    let rate = counted(u64::from(per_second), "payment");
    say(format_args!("producing {rate} a second into topic {} at {servers} (Ctrl-C stops it)", topic.name));
    let service = until_signalled("stopping: sending what is on its way");
    tokio::select! {
        biased;
        stopped = service.run() => stopped?,
        sent = stream.send(per_second, asked.events.map(u64::from)) => sent?,
    }
    tokio::task::block_in_place(|| stream.producer.flush())?;
    output.result(
        || json!({"topic": topic.name, "payments": stream.sent}),
        || format!("produced {} into topic {}", counted(stream.sent, "payment"), topic.name),
    )
}

struct Stream {
    producer: PaymentProducer,
    payments: Live,
    sent: u64,
}

impl Stream {
    /// Sends each payment when it is due, up to `most` of them.
    async fn send(&mut self, per_second: u32, most: Option<u64>) -> Result<()> {
        let (host, began) = (clock::host(), clock::stopwatch());
        let period = PERIOD.max(Duration::from_secs(1) / per_second);
        loop {
            // The first one is due at once.
            let due = (began.elapsed().as_secs_f64() * f64::from(per_second)) as u64 + 1;
            let due = most.map_or(due, |most| most.min(due));
            while self.sent < due {
                self.producer.send(&self.payments.receive(host.now()))?;
                self.sent += 1;
            }
            if most == Some(due) {
                return Ok(());
            }
            host.sleep(period).await;
        }
    }
}
