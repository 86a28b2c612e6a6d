//! librdkafka's broker inside this process, for machines that can have no other.

use std::io::Write;
use std::sync::Once;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;

use parking_lot::Mutex;
use rdkafka::mocking::MockCluster;

/// A topic to be created, and whom to tell.
type Wanted = (String, i32, Sender<()>);

#[derive(Debug)]
pub(crate) struct Mock {
    bootstrap: String,
    wanted: Mutex<Sender<Wanted>>,
}

impl Mock {
    /// Starts it, and says so in one line that no test runner swallows.
    pub(crate) fn start() -> Self {
        static SAID: Once = Once::new();
        let line =
            "kafka: neither Java with Kafka's jars nor Docker: these tests run on librdkafka's mock broker";
        SAID.call_once(|| drop(writeln!(std::io::stderr(), "{line}")));
        let ((tell, told), (wanted, asked)) = (channel(), channel());
        thread::spawn(move || serve(&tell, &asked));
        Self { bootstrap: told.recv().expect("the mock starts"), wanted: Mutex::new(wanted) }
    }

    pub(crate) fn bootstrap(&self) -> &str {
        &self.bootstrap
    }

    pub(crate) fn create_topic(&self, name: &str, partitions: i32) {
        let (tell, told) = channel();
        let wanted = self.wanted.lock();
        wanted.send((name.to_owned(), partitions, tell)).expect("the mock runs");
        told.recv().expect("the mock creates it");
    }
}

/// The cluster may not leave its thread. It ends with the [`Mock`].
fn serve(tell: &Sender<String>, asked: &Receiver<Wanted>) {
    let cluster = MockCluster::new(1).expect("the mock starts");
    let _ = tell.send(cluster.bootstrap_servers());
    for (name, partitions, tell) in asked {
        cluster.create_topic(&name, partitions, 1).expect("a topic");
        let _ = tell.send(());
    }
}
