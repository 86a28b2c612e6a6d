//! The Kafka cluster of a project.

use std::collections::BTreeMap;

use super::is_address;
use crate::environment::{self, Environment, SettingError, expand};
use crate::key::{Choice, Key, SETTING, TEXT, Table, Takes};
use crate::problem::Problem;
use crate::shape::{self, Reading, Shape};
use crate::tree::{Node, Scalar};

/// The Kafka cluster that sources read from. In its texts `${NAME}` stands for an environment variable.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Kafka {
    /// The brokers to begin with, `host:port[,host:port]…`.
    pub bootstrap_servers: String,
    /// Options of librdkafka, such as `security.protocol`; none of those that Tidemark sets itself.
    pub options: BTreeMap<String, String>,
}

/// The keys of the cluster.
pub(super) const CLUSTER: Table = Table {
    what: "`kafka`",
    about: "The Kafka cluster.",
    keys: &[
        Key::required(
            "bootstrap_servers",
            Takes::Scalar(SETTING),
            "'broker-1:9092,broker-2:9092'",
            "The brokers to connect to first, as `HOST:PORT` with commas between them.",
        ),
        Key::optional(
            "options",
            Takes::Pairs(TEXT, SETTING),
            "those of librdkafka",
            "{client.id: shop, security.protocol: SASL_PLAINTEXT, sasl.password: '${KAFKA_PASSWORD}'}",
            "[Options of librdkafka](https://github.com/confluentinc/librdkafka/blob/master/CONFIGURATION.md), such as those for \
             authentication. Options that the guarantees rest on, such as `group.id`, are refused. A password must come from an \
             environment variable.",
        ),
    ],
    choice: Choice::Free,
};

/// Options that Tidemark sets itself, and why nobody else may.
const OWN: [(&str, &str); 10] = [
    ("bootstrap.servers", "`bootstrap_servers`, beside `options`, says it"),
    ("metadata.broker.list", "`bootstrap_servers`, beside `options`, says it"),
    ("group.id", "the workers of a source find each other by it"),
    ("enable.auto.commit", "what was kept says where to go on, not what was read"),
    ("enable.auto.offset.store", "what was kept says where to go on, not what was read"),
    ("auto.offset.reset", "a source's `start` says where to begin, and nothing is ever skipped in silence"),
    ("isolation.level", "records of an aborted transaction are no events"),
    ("enable.partition.eof", "the end of a partition is how a worker knows that it has read everything"),
    ("partition.assignment.strategy", "workers hand over single partitions while the others go on"),
    ("auto.commit.enable", "what was kept says where to go on, not what was read"),
];

impl Kafka {
    /// The cluster with the values of the environment variables that its settings name, to connect with.
    ///
    /// # Errors
    /// Fails where a variable is not set, or the brokers are then no addresses.
    pub fn expanded(&self, env: Environment<'_>) -> Result<Self, SettingError> {
        let bootstrap_servers = expand(SERVERS, &self.bootstrap_servers, env)?;
        if no_address(&bootstrap_servers).is_some() {
            let (setting, reason, help) = (SERVERS.into(), "a broker's address is none".into(), FORM.into());
            return Err(SettingError::Invalid { setting, reason, help });
        }
        let option = |(key, text): (&String, &String)| {
            Ok((key.clone(), expand(&format!("kafka.options.{key}"), text, env)?))
        };
        let options = self.options.iter().map(option).collect::<Result<_, _>>()?;
        Ok(Self { bootstrap_servers, options })
    }

    /// Reads it; what cannot be read is empty, and among the problems.
    pub(super) fn read(node: &Node, reading: &mut Reading<'_>) -> Self {
        let mut kafka = Self { bootstrap_servers: String::new(), options: BTreeMap::new() };
        let Some(shape) = Shape::read(node, &CLUSTER, reading) else {
            return kafka;
        };
        if let Some(servers) = shape.require_text("bootstrap_servers", reading) {
            check(servers, reading);
            kafka.bootstrap_servers.clone_from(&servers.value);
        }
        if let Some(options) = shape.get("options") {
            let options = shape::map(options, "`options`", reading);
            kafka.options = options.iter().filter_map(|(key, value)| option(key, value, reading)).collect();
        }
        kafka
    }
}

/// The setting's name in messages.
const SERVERS: &str = "kafka.bootstrap_servers";
const FORM: &str = "write `HOST:PORT`, several of them separated by commas";

fn check(servers: &Scalar, reading: &mut Reading<'_>) {
    let sample = environment::stand_in(servers, reading);
    if let Some(server) = sample.as_deref().and_then(no_address) {
        let message = if server.is_empty() {
            "a broker is missing".into()
        } else {
            format!("`{server}` is no address")
        };
        reading.report(Problem::error(servers.place, message).help(FORM.to_owned()));
    }
}

/// The first address that names no broker.
fn no_address(servers: &str) -> Option<&str> {
    servers.split(',').map(str::trim).find(|server| !is_address(server))
}

fn option(key: &Scalar, value: &Node, reading: &mut Reading<'_>) -> Option<(String, String)> {
    if let Some((name, reason)) = OWN.iter().find(|(name, _)| *name == key.value) {
        let problem = Problem::error(key.place, format!("Tidemark sets `{name}` itself")).label(*reason);
        reading.report(problem.help("leave it out".to_owned()));
        return None;
    }
    let text = shape::text(value, &format!("`{}`", key.value), reading)?;
    environment::stand_in(text, reading);
    if is_secret(&key.value) && !text.value.contains("${") {
        let variable = format!("KAFKA_{}", key.value.to_uppercase().replace('.', "_"));
        environment::secret(text.place, &variable, reading);
    }
    Some((key.value.clone(), text.value.clone()))
}

fn is_secret(key: &str) -> bool {
    ["password", "passphrase", "secret", "key.pem"].iter().any(|part| key.contains(part))
}

#[cfg(test)]
mod tests {
    use tidemark_kernel::Explain;

    use super::*;

    fn kafka(servers: &str, password: &str) -> Kafka {
        let options = BTreeMap::from([("sasl.password".to_owned(), password.to_owned())]);
        Kafka { bootstrap_servers: servers.to_owned(), options }
    }

    fn expanded(servers: &str, password: &str) -> Result<Kafka, String> {
        let env = |name: &str| match name {
            "BROKERS" => Some("a:9092,b".to_owned()),
            "PASSWORD" => Some("p@ss".to_owned()),
            "WRONG" => Some("a:b".to_owned()),
            _ => None,
        };
        kafka(servers, password).expanded(&env).map_err(|error| error.explained())
    }

    #[test]
    fn settings_are_filled_in() {
        assert_eq!(expanded("${BROKERS}, c:1", "${PASSWORD}"), Ok(kafka("a:9092,b, c:1", "p@ss")));
    }

    #[test]
    fn settings_that_turn_out_wrong_are_named() {
        let unset = "`kafka.options.sasl.password` in tidemark.yaml needs the environment variable NOBODY, \
                     which is not set";
        assert_eq!(expanded("a", "${NOBODY}"), Err(unset.into()));
        let wrong = "`kafka.bootstrap_servers` in tidemark.yaml, with its environment variables filled in: \
                     a broker's address is none; write `HOST:PORT`, several of them separated by commas";
        assert_eq!(expanded("${WRONG}", ""), Err(wrong.into()));
    }
}
