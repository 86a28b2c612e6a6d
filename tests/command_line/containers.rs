//! `docker-compose.yml` and the `Dockerfile`: Docker can read them, and what they say is so.

use std::collections::BTreeMap;
use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};

use crate::process::tidemark;

const COMPOSE: &str = include_str!("../../docker-compose.yml");
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

/// What a file of block mappings says: the keys joined by `/`, with what is behind the last.
fn settings(text: &str) -> BTreeMap<String, &str> {
    let mut keys = Vec::new();
    let lines = text.lines().filter(|line| !line.trim().is_empty() && !line.trim().starts_with('#'));
    let said = lines.map(|line| {
        let (key, value) = line.split_once(':').expect("a key");
        keys.truncate((key.len() - key.trim_start().len()) / 2);
        keys.push(key.trim());
        (keys.join("/"), value.trim())
    });
    said.collect()
}

/// `[a, "b"]` without its brackets and quotes.
fn items(list: &str) -> Vec<&str> {
    let inner = list.trim_start_matches('[').trim_end_matches(']');
    inner.split(", ").map(|item| item.trim_matches('"')).filter(|item| !item.is_empty()).collect()
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
    assert!(is_yaml(COMPOSE) && !is_yaml(&format!("{COMPOSE}x: [")));
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
    let said = settings(COMPOSE);
    let at = |service: &str, key: &str| said.get(&format!("services/{service}/{key}")).copied();
    let profiles: BTreeMap<&str, Vec<&str>> = ["kafka", "redis", "ingest", "serve"]
        .map(|service| (service, items(at(service, "profiles").expect("a profile"))))
        .into();
    let (dependency, role) = (vec!["deps", "tidemark"], vec!["tidemark"]);
    let expected = [("kafka", &dependency), ("redis", &dependency), ("ingest", &role), ("serve", &role)];
    assert!(expected.iter().all(|(service, wanted)| profiles[service] == **wanted), "{profiles:?}");
    for service in profiles.keys() {
        assert!(at(service, "healthcheck/test").is_some(), "{service} has no health check");
        for volume in items(at(service, "volumes").expect("volumes")) {
            let (name, _) = volume.rsplit_once(':').expect("where it is mounted");
            let known = name.starts_with('$') || said.contains_key(&format!("volumes/{name}"));
            assert!(known, "{service} mounts `{name}`, which is declared nowhere");
        }
    }
    let awaited = said.keys().filter_map(|key| key.rsplit_once("/depends_on/")).map(|(_, service)| service);
    assert!(awaited.into_iter().all(|service| profiles.contains_key(service)));
    assert!(
        at("redis", "command").is_some_and(|command| command.ends_with("--maxmemory-policy, noeviction]"))
    );
}

#[test]
fn the_broker_is_the_one_of_the_tests() {
    let image = settings(COMPOSE)["services/kafka/image"];
    let version = image.strip_prefix("apache/kafka:").expect("Apache's own image");
    assert!(include_str!("../services/kafka/broker.rs").contains(&format!("\"{image}\"")));
    assert!(include_str!("../../xtask/src/services.rs").contains(&format!("\"{version}\"")));
}

#[test]
fn the_roles_run_commands_that_there_are() {
    let said = settings(COMPOSE);
    for role in ["ingest", "serve"] {
        let command = items(said[&format!("services/{role}/command")]);
        assert!(command.contains(&"--http") && command.contains(&"0.0.0.0:6567"), "{command:?}");
        // With --help behind it, a command is read as a whole and does nothing.
        tidemark(workspace(), &[&command[..], &["--help"]].concat()).done();
        let unknown = tidemark(workspace(), &[&command[..], &["--unknown", "--help"]].concat());
        assert_eq!(unknown.code, Some(2), "{unknown:#?}");
    }
}

#[test]
fn the_image_is_built_in_stages_and_runs_the_binary_as_nobody_special() {
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
