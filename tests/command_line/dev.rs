//! `tidemark dev`: pushing, looking up and editing while it runs.

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::{Value as Json, json};

use crate::http::{get, post};
use crate::process::binary;
use crate::repo::{DEFINITIONS, TestRepo};

/// How long anything may take.
const PATIENCE: Duration = Duration::from_secs(60);

/// A running `tidemark dev`.
pub(crate) struct Dev {
    child: Child,
    said: Receiver<String>,
    http: String,
}

impl Dev {
    /// Starts it on free ports and waits until it serves.
    pub(crate) fn start(repo: &TestRepo) -> Self {
        let mut command = Command::new(binary());
        command.args(["dev", "--http", "127.0.0.1:0", "--grpc", "127.0.0.1:0"]).current_dir(repo.path());
        let mut child = command.stderr(Stdio::piped()).stdout(Stdio::null()).spawn().expect("it runs");
        let lines = BufReader::new(child.stderr.take().expect("piped")).lines();
        let (say, said) = channel();
        thread::spawn(move || lines.map_while(Result::ok).try_for_each(|line| say.send(line)));
        let mut dev = Self { child, said, http: String::new() };
        let line = dev.wait_for("http://");
        let address = line.split("http://").nth(1).and_then(|rest| rest.split_whitespace().next());
        dev.http = address.expect("an address").to_owned();
        dev
    }

    /// Waits until it says something, and gives the line.
    #[track_caller]
    fn wait_for(&self, part: &str) -> String {
        let mut before = Vec::new();
        loop {
            let line = self.said.recv_timeout(PATIENCE);
            let line = line.map_err(|_| format!("not `{part}`, but {before:#?}")).expect("it says so");
            if line.contains(part) {
                return line;
            }
            before.push(line);
        }
    }

    fn lookup(&self, user: i64) -> Json {
        let body = json!({"rows": [{"user_id": user, "amount": 1.0}]});
        let (status, answer) = post(&self.http, "/v1/services/fraud/lookup", &body.to_string());
        assert_eq!(status, 200, "{answer}");
        serde_json::from_str::<Json>(&answer).expect("JSON")["rows"][0]["values"].clone()
    }

    /// Looks up until a value is there.
    #[track_caller]
    fn await_value(&self, user: i64, feature: &str, value: &Json) {
        let began = Instant::now();
        while &self.lookup(user)[feature] != value {
            assert!(
                began.elapsed() < PATIENCE,
                "{feature} is {} and not {value}",
                self.lookup(user)[feature]
            );
            thread::yield_now();
        }
    }

    /// Asks it to stop, and waits until it has.
    pub(crate) fn stop(mut self) {
        let killed = Command::new("kill").args(["-TERM", &self.child.id().to_string()]).status();
        assert!(killed.expect("kill runs").success());
        assert_eq!(self.child.wait().expect("it ends").code(), Some(0));
    }
}

impl Drop for Dev {
    /// A test that failed must not leave it running.
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

#[test]
fn pushed_events_are_served_at_once_and_edits_are_filled() {
    let repo = TestRepo::ingested();
    let dev = Dev::start(&repo);
    dev.await_value(3, "user_payments.total", &json!(121.25));

    let event =
        json!({"user_id": 3, "amount": 0.75, "status": "settled", "created_at": "2026-11-20T10:00:00Z"});
    let (status, answer) = post(&dev.http, "/v1/sources/payments/events", &event.to_string());
    assert_eq!(status, 200, "{answer}");
    let pushed = Instant::now();
    dev.await_value(3, "user_payments.total", &json!(122.0));
    assert!(pushed.elapsed() < Duration::from_secs(10), "{:?}", pushed.elapsed());
    let (status, answer) = post(&dev.http, "/v1/sources/payments/events", &event.to_string()[..30]);
    assert_eq!(status, 400, "{answer}");

    // What is wrong is said, and the old definitions go on.
    repo.write("shop.yaml", &DEFINITIONS.replace("sum(amount)", "sum(amuont)"));
    dev.wait_for("did you mean `amount`");
    dev.wait_for("version 1 goes on running");
    assert_eq!(dev.lookup(3)["user_payments.total"], json!(122.0));

    repo.write("shop.yaml", DEFINITIONS);
    dev.wait_for("those of version 1 again");

    let feature = "      - {name: largest, aggregate: max(amount), windows: [lifetime]}\nservices:";
    repo.write("shop.yaml", &DEFINITIONS.replace("services:", feature));
    dev.wait_for("applied version 2");
    assert_eq!(dev.lookup(3)["user_payments.largest"], json!(44.25));
    assert_eq!(dev.lookup(3)["user_payments.total"], json!(122.0));
    let (status, metrics) = get(&dev.http, "/metrics");
    assert!(
        status == 200 && metrics.contains("tidemark_lookups_total") && metrics.contains("tidemark_ingest_"),
        "{metrics}"
    );
    assert_eq!(get(&dev.http, "/readyz").0, 200);
    dev.stop();

    // Everything was committed: another process sees it, and it is right.
    assert!(repo.run("verify").done().stdout.contains("0 mismatches"));
    let status = repo.run("status --format json").done().json();
    assert_eq!((&status["version"], &status["sources"][0]["logs"]["push"]["events"]), (&json!(2), &json!(1)));
}
