//! What `docker compose --profile tidemark up` starts: the command line of each service with its variables, as processes.
//! README.md shows how. Addresses of this machine take the places of those of the network, and a copy of the repo that of its mount.

use std::fs;
use std::path::Path;

use serde_json::{Value as Json, json};
use tempfile::TempDir;
use tidemark_services::compose::{Service, service, services};
use tidemark_services::{Kafka, Redis, until};

use crate::is_real;
use crate::worker::{Worker, free_port, post};

/// How many of the busiest users are looked up: two of five payments are theirs.
const USERS: i64 = 20;

#[test]
fn lookups_give_features_of_the_payments_that_are_produced() {
    // The topic has a fixed name, so the broker is one that no other test has.
    let kafka = Kafka::start();
    if !is_real(&kafka, "the services of docker-compose.yml") {
        return;
    }
    let network = Network::of(kafka);
    let mut up: Vec<(Service, Worker)> = Vec::new();
    let mut waiting: Vec<Service> = services().into_iter().filter(Service::is_tidemark).collect();
    while !waiting.is_empty() {
        // Those that others wait for come first.
        let awaits = |service: &Service| {
            service.awaited().iter().any(|name| waiting.iter().any(|other| other.name == *name))
        };
        let at =
            waiting.iter().position(|service| !awaits(service)).expect("services do not wait in a circle");
        let service = waiting.remove(at);
        let mut process = network.start(&service);
        // Waited for only where others do: a server is not ready before a worker has applied the definitions.
        if waiting.iter().any(|other| other.awaited().contains(&service.name.as_str())) {
            network.wait_until_healthy(&service, &mut process);
        }
        up.push((service, process));
    }
    for (service, process) in &mut up {
        network.wait_until_healthy(service, process);
    }
    let server = up.iter().find(|(service, _)| service.name == "serve").expect("a server");
    until("a lookup gives a feature", || feature(server.1.http()));
    // None of them has ended and would have been restarted. All stop well, the last one first.
    for (_, mut process) in up.into_iter().rev() {
        process.check();
        process.stop();
    }
}

/// A sum of amounts that is not null, of any user.
fn feature(http: u16) -> Option<f64> {
    let row =
        |id: i64| json!({"user_id": id, "merchant_id": id, "card_id": format!("c-{id}-1"), "amount": 12.5});
    let asked = json!({"rows": (1..=USERS).map(row).collect::<Vec<_>>()});
    let (status, body) = post(http, "/v1/services/fraud/lookup", &asked.to_string()).expect("an answer")?;
    assert_eq!(status, 200, "{body}");
    let answer: Json = serde_json::from_str(&body).expect("JSON");
    let rows = answer["rows"].as_array().expect("rows");
    rows.iter().find_map(|row| row["values"]["user_payments.amount_sum_1h"].as_f64())
}

/// The services beside tidemark, and what has the place of addresses and mounts.
struct Network {
    kafka: Kafka,
    redis: Redis,
    folder: TempDir,
}

impl Network {
    fn of(kafka: Kafka) -> Self {
        let redis = service("redis").list("command");
        let (settings, rest) = redis[1..].as_chunks::<2>();
        assert!(rest.is_empty() && redis[0] == "redis-server", "{redis:?}");
        let settings: Vec<(&str, &str)> =
            settings.iter().map(|[name, value]| (name.trim_start_matches("--"), *value)).collect();
        let folder = tempfile::tempdir().expect("a folder");
        let repo = services().iter().find_map(Service::repo).expect("a repo");
        copy(&repo, &folder.path().join("repo"));
        Self { kafka, redis: Redis::with(&settings), folder }
    }

    fn start(&self, service: &Service) -> Worker {
        let http = service.list("command").contains(&"0.0.0.0:6567").then(free_port);
        let words = self.words(&service.list("command"), http);
        let variables = service.variables().into_iter().map(|(name, value)| (name, self.here(value)));
        let log = self.folder.path().join(format!("{}.log", service.name));
        Worker::exactly(&words, &variables.collect::<Vec<_>>(), http, log)
    }

    /// As its health check does: by a command of tidemark, or by whether it is ready.
    fn wait_until_healthy(&self, service: &Service, process: &mut Worker) {
        let check = service.list("healthcheck/test");
        let Some(command) = check.strip_prefix(&["CMD", "tidemark"]) else {
            return process.wait_until_ready();
        };
        let log = self.folder.path().join(format!("{}-check.log", service.name));
        let checked = Worker::exactly(&self.words(command, None), &[], None, log).ended().done();
        assert!(checked.said.contains("produced 1 payment into topic payments"), "{}", checked.said);
        process.check();
    }

    fn words(&self, command: &[&str], http: Option<u16>) -> Vec<String> {
        let word = |word: &&str| match (*word, http) {
            ("0.0.0.0:6567", Some(http)) => format!("127.0.0.1:{http}"),
            ("0.0.0.0:6566", _) => "127.0.0.1:0".to_owned(),
            ("/repo", _) => self.folder.path().join("repo").display().to_string(),
            (word, _) => self.here(word),
        };
        command.iter().map(word).collect()
    }

    /// The text with the addresses of this machine.
    fn here(&self, text: &str) -> String {
        let redis = format!("127.0.0.1:{}", self.redis.port());
        text.replace("kafka:9094", self.kafka.bootstrap()).replace("redis:6379", &redis)
    }
}

/// Copies the files of a folder, but not what is in folders of it.
fn copy(from: &Path, to: &Path) {
    fs::create_dir(to).expect("created");
    let files = fs::read_dir(from).expect("a folder").map(|file| file.expect("a file").path());
    for file in files.filter(|file| file.is_file()) {
        fs::copy(&file, to.join(file.file_name().expect("a name"))).expect("copied");
    }
}
