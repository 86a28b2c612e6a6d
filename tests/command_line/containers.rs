//! `docker-compose.yml`, its repo and the `Dockerfile`: Docker can read them, and they agree with the code.
//!
//! `kafka/compose.rs` runs the services of `docker-compose.yml` as processes.

use std::collections::BTreeMap;
use std::env;
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use tidemark_registry::{Feed, Online};
use tidemark_services::compose::{self, Service, items};

use crate::process::{Ran, binary, tidemark};

const DOCKERFILE: &str = include_str!("../../Dockerfile");
const WORKSPACE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/..");

fn workspace() -> &'static Path {
    Path::new(WORKSPACE)
}

/// Whether it is YAML, to the reader of definitions.
fn is_yaml(text: &str) -> bool {
    let problems = tidemark_registry::parse([("docker-compose.yml", text)]).err();
    !problems.is_some_and(|problems| problems.iter().any(|problem| problem.message == "invalid YAML"))
}

/// The services that run tidemark.
fn roles() -> Vec<Service> {
    compose::services().into_iter().filter(Service::is_tidemark).collect()
}

/// The repo of those that have one.
fn repo() -> PathBuf {
    let folders: Vec<PathBuf> = roles().iter().filter_map(Service::repo).collect();
    assert!(
        folders.len() == 2 && folders[0] == folders[1],
        "the worker and the server have the same: {folders:?}"
    );
    folders[0].clone()
}

/// Runs `tidemark` with these variables and no other.
fn tidemark_with(variables: &[(&str, &str)], folder: &Path, arguments: &[&str]) -> Ran {
    let mut command = Command::new(binary());
    command.args(arguments).current_dir(folder).env_clear().envs(variables.iter().copied());
    Ran::of(command.output().expect("it runs"))
}

/// The instructions of the Dockerfile, each with what it is given, lines that go on joined.
fn instructions() -> Vec<(&'static str, String)> {
    let joined = DOCKERFILE.replace("\\\n", " ");
    let lines = joined.lines().filter(|line| !line.is_empty() && !line.starts_with('#'));
    let known = ["FROM", "WORKDIR", "COPY", "RUN", "USER", "EXPOSE", "ENTRYPOINT", "CMD"];
    let instruction = |line: &str| {
        let (word, rest) = line.split_once(' ').expect("an instruction");
        (known.into_iter().find(|known| *known == word).expect("one that is known"), rest.trim().to_owned())
    };
    lines.map(instruction).collect()
}

#[test]
fn compose_can_be_read() {
    assert!(is_yaml(compose::TEXT) && !is_yaml(&format!("{}x: [", compose::TEXT)));
    let docker = |arguments: &[&str]| {
        let mut command = Command::new("docker");
        command.args(["compose", "--profile", "*"]).args(arguments).current_dir(workspace());
        command.stdin(Stdio::null()).output()
    };
    if docker(&["version"]).is_ok_and(|output| output.status.success()) {
        let output = docker(&["config", "--quiet"]).expect("it just ran");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        return;
    }
    let line =
        "docker-compose.yml: without `docker compose` here, only its YAML and what it says are checked";
    let _ = writeln!(std::io::stderr(), "{line}");
}

#[test]
fn compose_has_the_dependencies_alone_and_the_roles_with_them() {
    let services = compose::services();
    let profiles: BTreeMap<&str, Vec<&str>> =
        services.iter().map(|service| (service.name.as_str(), service.list("profiles"))).collect();
    let (dependency, role) = (vec!["deps", "tidemark"], vec!["tidemark"]);
    let expected = [
        ("kafka", &dependency),
        ("redis", &dependency),
        ("payments", &role),
        ("ingest", &role),
        ("serve", &role),
    ];
    let expected: BTreeMap<&str, Vec<&str>> = expected.map(|(name, of)| (name, of.clone())).into();
    assert_eq!(profiles, expected);
    for service in &services {
        let name = &service.name;
        assert!(service.text("healthcheck/test").is_some(), "{name} has no health check");
        // Where one that others need stays down, they end and are restarted in vain.
        assert_eq!(service.text("restart"), Some("unless-stopped"), "{name}");
        for awaited in service.awaited() {
            assert!(profiles.contains_key(awaited), "{name} waits for `{awaited}`, which is no service");
            let condition = service.text(&format!("depends_on/{awaited}"));
            assert_eq!(condition, Some("{condition: service_healthy}"), "{name} and {awaited}");
        }
        for volume in service.list("volumes") {
            let (folder, _) = volume.rsplit_once(':').expect("where it is mounted");
            let known = folder.starts_with('$') || compose::has_volume(folder);
            assert!(known, "{name} mounts `{folder}`, which is declared nowhere");
        }
    }
    assert!(compose::service("redis").list("command").ends_with(&["--maxmemory-policy", "noeviction"]));
}

#[test]
fn a_worker_starts_once_there_are_stores_and_the_topic() {
    assert_eq!(compose::service("ingest").awaited(), ["kafka", "payments", "redis"]);
    assert_eq!(compose::service("payments").awaited(), ["kafka"]);
    assert_eq!(compose::service("serve").awaited(), ["redis"]);
}

#[test]
fn the_broker_is_the_one_of_the_tests() {
    let image = compose::service("kafka").text("image").expect("an image");
    let version = image.strip_prefix("apache/kafka:").expect("Apache's own image");
    assert!(include_str!("../services/kafka/broker.rs").contains(&format!("\"{image}\"")));
    assert!(include_str!("../../xtask/src/services.rs").contains(&format!("\"{version}\"")));
}

#[test]
fn the_roles_run_commands_that_there_are() {
    for role in roles() {
        let (command, check) = (role.list("command"), role.list("healthcheck/test"));
        let checks = check.strip_prefix(&["CMD", "tidemark"]);
        for command in [Some(&command[..]), checks].into_iter().flatten() {
            // With --help behind it, a command is read as a whole and does nothing.
            tidemark(workspace(), &[command, &["--help"]].concat()).done();
            let unknown = tidemark(workspace(), &[command, &["--unknown", "--help"]].concat());
            assert_eq!(unknown.code, Some(2), "{unknown:#?}");
        }
        // The others have a port that tells whether they are ready.
        let port = command.contains(&"0.0.0.0:6567");
        assert_eq!(checks.is_none(), port && check.concat().contains("/127.0.0.1/6567 "), "{check:?}");
    }
}

#[test]
fn the_repo_of_the_roles_is_valid_and_complete_with_their_variables() {
    let (repo, ours) = (repo(), roles().into_iter().filter(|role| role.repo().is_some()));
    let loaded = tidemark_registry::load(&repo).unwrap_or_else(|problems| panic!("{problems}"));
    let feed = &loaded.feeds["payments"];
    assert!(matches!(feed, Feed::Kafka(feed) if feed.topic == "payments"), "{feed:?}");
    for role in ours {
        let variables = role.variables();
        let ran = tidemark_with(&variables, &repo, &["check"]).done();
        assert!(ran.stdout.ends_with("\nno problems\n"), "{ran:#?}");
        let value = |name: &str| {
            let found = variables.iter().find(|(variable, _)| *variable == name);
            found.map(|(_, value)| (*value).to_owned())
        };
        let online = loaded.project.online.expanded(&value).expect("every variable");
        assert_eq!(online, Online::Redis { url: "redis://redis:6379".to_owned() });
        let kafka = loaded.project.kafka.as_ref().expect("brokers").expanded(&value).expect("every variable");
        assert_eq!(kafka.bootstrap_servers, "kafka:9094");
    }
}

/// `UPDATE_EXPECT=1` writes them again.
#[test]
fn the_definitions_of_the_roles_are_those_of_the_example_but_for_the_feed() {
    let example = include_str!("../../feature_repo/payments.yaml");
    let push = example.lines().find(|line| line.starts_with("    push: {}")).expect("a feed");
    let topic = "kafka: {topic: payments, format: json, start: earliest}\n";
    let expected = example.replace(&format!("{push}\n    # {topic}"), &format!("    {topic}"));
    assert_ne!(expected, example, "the example shows the feed that is used here");
    let path = repo().join("payments.yaml");
    if env::var_os("UPDATE_EXPECT").is_some() {
        fs::write(&path, &expected).expect("written");
    }
    assert_eq!(fs::read_to_string(&path).expect("read"), expected, "UPDATE_EXPECT=1 writes it again");
    let others = fs::read_dir(repo()).expect("a folder").map(|file| file.expect("a file").file_name());
    let yaml = others.filter(|name| name.to_string_lossy().ends_with(".yaml")).count();
    assert_eq!(yaml, 2, "settings and definitions, nothing else");
}

#[test]
fn the_image_is_built_in_stages_and_runs_the_binary_without_root() {
    let instructions = instructions();
    let given = |word: &str| -> Vec<&str> {
        instructions.iter().filter(|(known, _)| *known == word).map(|(_, given)| given.as_str()).collect()
    };
    let version = concat!("rust:", env!("CARGO_PKG_RUST_VERSION"), "-bookworm AS builder");
    assert_eq!(given("FROM"), [version, "debian:bookworm-slim"]);
    let [build, rest] = given("RUN").try_into().expect("one for each stage");
    assert!(build.contains("cargo build --profile dist --locked --package tidemark"), "{build}");
    assert!(include_str!("../../Cargo.toml").contains("[profile.dist]"));
    let binary = "/usr/local/bin/tidemark";
    assert!(build.ends_with(&format!("cp target/dist/tidemark {binary}")), "{build}");
    assert_eq!(given("COPY"), [". .", &format!("--from=builder {binary} {binary}")]);
    let user = given("USER").concat();
    assert!(user.parse::<u32>().is_ok_and(|id| id > 0) && rest.contains(&format!("--uid {user} ")), "{rest}");
    assert_eq!(given("ENTRYPOINT"), ["[\"tidemark\"]"]);
    tidemark(workspace(), &items(given("CMD").concat().as_str())).done();
}

#[test]
fn what_a_build_reads_is_sent_to_it() {
    let ignored: Vec<&str> = include_str!("../../.dockerignore").lines().collect();
    let manifest = include_str!("../../Cargo.toml").split("members = [").nth(1).expect("members");
    let members = manifest.split(']').next().unwrap_or_default().split('"').skip(1).step_by(2);
    for needed in members.chain(["Cargo.toml", "Cargo.lock", ".cargo"]) {
        assert!(!needed.is_empty() && !ignored.contains(&needed), "a build needs {needed}");
    }
    assert!(ignored.contains(&"**/target") && ignored.contains(&".git"));
}
