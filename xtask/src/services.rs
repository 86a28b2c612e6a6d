//! What the tests run their own Redis and Kafka from: programs of this machine, else packages of its system, else Docker.
//!
//! The services themselves are started by the tests (`tests/services`), each on its own.

use std::env;
use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use anyhow::{Context, Result, bail, ensure};

use crate::test::{Environment, target};

/// The broker's version, as Maven Central has it.
const KAFKA: &str = "4.1.1";

/// What that version needs.
const JAVA: u32 = 17;

/// Makes sure of a Redis and a Kafka, and says in one line each what they will be.
pub(crate) fn prepare() -> Result<Environment> {
    let (redis, redis_is) = redis()?;
    say(&format!("redis: {redis_is}"));
    let (kafka, kafka_is) = kafka()?;
    say(&format!("kafka: {kafka_is}"));
    Ok(redis.into_iter().chain(kafka).collect())
}

/// A variable for the tests, if they need one, and what will be used.
type Found = (Option<(&'static str, OsString)>, String);

fn redis() -> Result<Found> {
    let program = env::var("TIDEMARK_REDIS_SERVER").unwrap_or_else(|_| "redis-server".into());
    let version = || first_line(Command::new(&program).arg("--version"));
    if let Some(version) = version().or_else(|| install(&["redis-server"]).then(version)?) {
        return Ok((None, version.split(" sha=").next().unwrap_or_default().to_owned()));
    }
    if has_docker() {
        return Ok((None, "from Docker".into()));
    }
    bail!(
        "the tests need Redis 7: install redis-server (or name one in TIDEMARK_REDIS_SERVER), or start Docker"
    )
}

fn kafka() -> Result<Found> {
    let libs = match env::var_os("TIDEMARK_KAFKA_LIBS") {
        Some(given) => Some(given.into()),
        None => jars()?,
    };
    Ok(match libs {
        Some(libs) => {
            let what = format!("on Java {}, from {}", java().unwrap_or_default(), libs.display());
            (Some(("TIDEMARK_KAFKA_LIBS", libs.into())), what)
        }
        None if has_docker() => (None, "from Docker".into()),
        None => (
            None,
            format!(
                "librdkafka's mock broker, for lack of Java {JAVA} with Maven, and of Docker: faults are left out"
            ),
        ),
    })
}

/// The folder of the broker's jars, downloaded if need be, where Java and Maven can be had.
fn jars() -> Result<Option<PathBuf>> {
    let has_java = || java().is_some_and(|version| version >= JAVA);
    let has_maven = || first_line(Command::new("mvn").arg("--version")).is_some();
    let runs = has_java()
        || ["openjdk-17-jre-headless", "default-jre-headless"]
            .iter()
            .any(|jre| install(&[jre]) && has_java());
    let libs = target()?.join("kafka").join(KAFKA).join("libs");
    if !runs || libs.is_dir() {
        return Ok(runs.then_some(libs));
    }
    if has_maven() || (install(&["maven"]) && has_maven()) {
        download(&libs).with_context(|| format!("Apache Kafka {KAFKA} cannot be downloaded"))?;
        return Ok(Some(libs));
    }
    Ok(None)
}

/// Has Maven put the broker and all that it needs into `libs`, as a whole or not at all.
fn download(libs: &Path) -> Result<()> {
    let folder = tempfile::tempdir_in(target()?)?;
    let (pom, fresh) = (folder.path().join("pom.xml"), folder.path().join("libs"));
    fs::write(&pom, POM.replace("KAFKA", KAFKA))?;
    let mut maven = Command::new("mvn");
    maven.args(["--batch-mode", "--quiet", "--no-transfer-progress", "--file"]).arg(&pom);
    maven.arg("org.apache.maven.plugins:maven-dependency-plugin:3.8.1:copy-dependencies");
    maven.arg("-DincludeScope=runtime").arg(format!("-DoutputDirectory={}", fresh.display()));
    let maven = maven.output()?;
    ensure!(maven.status.success(), "{}", String::from_utf8_lossy(&maven.stdout));
    fs::create_dir_all(libs.parent().unwrap_or(libs))?;
    Ok(fs::rename(fresh, libs)?)
}

/// The broker, and a place for what it logs: its standard error.
const POM: &str = "\
<project xmlns=\"http://maven.apache.org/POM/4.0.0\">
  <modelVersion>4.0.0</modelVersion>
  <groupId>tidemark</groupId>
  <artifactId>kafka</artifactId>
  <version>1</version>
  <dependencies>
    <dependency>
      <groupId>org.apache.kafka</groupId>
      <artifactId>kafka_2.13</artifactId>
      <version>KAFKA</version>
    </dependency>
    <dependency>
      <groupId>org.slf4j</groupId>
      <artifactId>slf4j-simple</artifactId>
      <version>1.7.36</version>
    </dependency>
  </dependencies>
</project>
";

/// The major version of the Java of the path: `openjdk version \"17.0.15\" 2025-04-15` is 17.
fn java() -> Option<u32> {
    let output = output(Command::new("java").arg("-version"))?;
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    said.split('"').nth(1)?.split(['.', '-', '+']).next()?.parse().ok()
}

fn has_docker() -> bool {
    output(Command::new("docker").args(["version", "--format", "{{.Server.Version}}"])).is_some()
}

/// Installs packages where that is ours to do: as root, where there is apt. Whether it did.
fn install(packages: &[&str]) -> bool {
    let is_root = first_line(Command::new("id").arg("-u")).is_some_and(|id| id == "0");
    let apt = |arguments: &[&str]| {
        let mut command = Command::new("apt-get");
        command.env("DEBIAN_FRONTEND", "noninteractive").args(["-qq", "-y"]);
        output(command.args(arguments)).is_some()
    };
    if !is_root || !apt(&["--version"]) {
        return false;
    }
    say(&format!("installing {}", packages.join(" ")));
    let wanted = [&["install", "--no-install-recommends"], packages].concat();
    apt(&wanted) || (apt(&["update"]) && apt(&wanted))
}

fn first_line(command: &mut Command) -> Option<String> {
    String::from_utf8_lossy(&output(command)?.stdout).lines().next().map(str::to_owned)
}

/// What it said, where it could be run and succeeded.
fn output(command: &mut Command) -> Option<Output> {
    command.stdin(Stdio::null()).output().ok().filter(|output| output.status.success())
}

#[allow(clippy::print_stderr)]
fn say(line: &str) {
    eprintln!("{line}");
}
