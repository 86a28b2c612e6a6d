//! The online store of a project.

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

use super::{FOLDER, check_folder, is_address};
use crate::environment::{self, Environment, SettingError, expand};
use crate::key::{Choice, Key, SETTING, Table, Takes};
use crate::problem::Problem;
use crate::shape::{Reading, Shape};
use crate::tree::{Node, Scalar};

/// The online store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Online {
    /// A file of this machine, used by one process.
    Embedded {
        /// The folder.
        path: String,
    },
    /// Redis or Valkey.
    Redis {
        /// `redis://[user[:password]@]host[:port][/database]`, in which `${NAME}` stands for an environment variable.
        url: String,
    },
}

impl Default for Online {
    fn default() -> Self {
        Self::Embedded { path: PATH.to_owned() }
    }
}

/// The folder of an embedded store, unless the settings say otherwise.
const PATH: &str = "data/online";

/// The keys of the online store.
pub(super) const ONLINE: Table = Table {
    what: "`online`",
    about: "The online store. What it holds can be computed again from the event tables.",
    keys: &[
        Key::required(
            "store",
            Takes::Word(|| vec![EMBEDDED, REDIS]),
            REDIS,
            "`embedded` is a file on this machine that one process can open, and needs nothing else. `redis` is Redis or Valkey, for \
             many workers and servers.",
        ),
        Key::default("path", Takes::Scalar(FOLDER), || PATH.to_owned(), "/var/lib/shop", "The folder of the embedded store.")
            .with("store", EMBEDDED),
        Key::required(
            "url",
            Takes::Scalar(SETTING),
            "'redis://shop:${REDIS_PASSWORD}@redis:6379/0'",
            "Where Redis is: `redis://USER:PASSWORD@HOST:PORT/DATABASE`, of which only the host is needed. A password must come from an \
             environment variable, because each applied version keeps a copy of this file; it needs no escaping.",
        )
        .with("store", REDIS),
    ],
    choice: Choice::Free,
};

/// The words of `store`.
const EMBEDDED: &str = "embedded";
const REDIS: &str = "redis";

/// A store as it is written.
pub(super) fn written(online: &Online) -> String {
    match online {
        Online::Embedded { path } => format!("{{store: {EMBEDDED}, path: {path}}}"),
        Online::Redis { url } => format!("{{store: {REDIS}, url: '{url}'}}"),
    }
}

impl Online {
    /// The store with the values of the environment variables that its URL names, to open it with. Those before the
    /// `@` may hold any characters: they are escaped as a URL wants it.
    ///
    /// # Errors
    /// Fails where a variable is not set, or the URL is then none of Redis.
    pub fn expanded(&self, env: Environment<'_>) -> Result<Self, SettingError> {
        let Self::Redis { url } = self else { return Ok(self.clone()) };
        let at = url.rfind('@').unwrap_or(0);
        let escaped = |name: &str| env(name).map(|value| utf8_percent_encode(&value, USER).to_string());
        let url = expand(URL, &url[..at], &escaped)? + &expand(URL, &url[at..], env)?;
        match fault(&url) {
            None => Ok(Self::Redis { url }),
            Some((reason, help)) => {
                Err(SettingError::Invalid { setting: URL.into(), reason: reason.into(), help: help.into() })
            }
        }
    }

    pub(super) fn read(node: &Node, reading: &mut Reading<'_>) -> Option<Self> {
        let shape = Shape::read(node, &ONLINE, reading)?;
        let store = shape.require_text("store", reading)?;
        match store.value.as_str() {
            EMBEDDED => {
                foreign(&shape, "url", store, reading);
                let path = shape.text("path", reading);
                if let Some(path) = path {
                    check_folder(path, "`online`", reading);
                }
                Some(path.map_or_else(Self::default, |path| Self::Embedded { path: path.value.clone() }))
            }
            REDIS => {
                foreign(&shape, "path", store, reading);
                let url = shape.require_text("url", reading)?;
                check(url, reading);
                Some(Self::Redis { url: url.value.clone() })
            }
            _ => {
                let problem = Problem::error(store.place, format!("unknown online store `{}`", store.value));
                reading.report(problem.help(format!("stores: {EMBEDDED}, {REDIS}")));
                None
            }
        }
    }
}

/// The setting's name in messages.
const URL: &str = "online.url";

fn foreign(shape: &Shape<'_>, key: &str, store: &Scalar, reading: &mut Reading<'_>) {
    if let Some((key, _)) = shape.entry(key) {
        let message = format!("the {} store takes no `{}`", store.value, key.value);
        reading.report(Problem::error(key.place, message).related(store.place, "the store"));
    }
}

fn check(url: &Scalar, reading: &mut Reading<'_>) {
    let Some(sample) = environment::stand_in(url, reading) else { return };
    if let Some((reason, help)) = fault(&sample) {
        reading.report(Problem::error(url.place, reason).help(help.to_owned()));
    }
    let user = url.value.rfind('@').map(|at| &url.value[..at]);
    let password =
        user.and_then(|user| user.split_once("://")?.1.split_once(':')).map(|(_, password)| password);
    if let Some((user, password)) = user.zip(password).filter(|(_, password)| !password.contains("${")) {
        let place = url.within(reading.files, user.len() - password.len()..user.len());
        environment::secret(place, "REDIS_PASSWORD", reading);
    }
}

/// What is wrong with a URL of Redis, and what to do. Neither shows it: there may be a password in it.
fn fault(url: &str) -> Option<(&'static str, &'static str)> {
    let Some(rest) = url.strip_prefix("redis://") else {
        return Some(match url.starts_with("rediss://") {
            true => {
                ("Redis over TLS is not supported yet", "write `redis://`, and keep to a network you trust")
            }
            false => ("this is no URL of Redis", FORM),
        });
    };
    let (authority, database) = rest.split_once('/').unwrap_or((rest, "0"));
    let address = authority.rsplit_once('@').map_or(authority, |(_, address)| address);
    if !is_address(address) {
        return Some(("a URL of Redis names a host, and a port from 0 to 65535 if any", FORM));
    }
    let is_database = database.is_empty() || database.parse::<u16>().is_ok();
    (!is_database).then_some(("a database of Redis is a number", FORM))
}

const FORM: &str = "write `redis://HOST:PORT`, or `redis://USER:${REDIS_PASSWORD}@HOST:PORT/DATABASE`";

/// All that could end a user's name or password in a URL.
const USER: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

#[cfg(test)]
mod tests {
    use tidemark_kernel::Explain;

    use super::*;

    fn expanded(url: &str) -> Result<Online, String> {
        let env = |name: &str| match name {
            "PASSWORD" => Some("p@ss/w:rd ü".to_owned()),
            "HOST" => Some("redis.internal:6380".to_owned()),
            "URL" => Some("redis://u:p%40@h:1/2".to_owned()),
            "WRONG" => Some("secret".to_owned()),
            _ => None,
        };
        Online::Redis { url: url.into() }.expanded(&env).map_err(|error| error.explained())
    }

    #[test]
    fn a_url_is_filled_in_and_a_password_escaped() {
        for (url, filled_in) in [
            ("redis://127.0.0.1:6379", "redis://127.0.0.1:6379"),
            ("redis://[::1]:6379/1", "redis://[::1]:6379/1"),
            ("redis://u:${PASSWORD}@${HOST}/3", "redis://u:p%40ss%2Fw%3Ard%20%C3%BC@redis.internal:6380/3"),
            ("${URL}", "redis://u:p%40@h:1/2"),
        ] {
            assert_eq!(expanded(url), Ok(Online::Redis { url: filled_in.into() }));
        }
        assert_eq!(Online::default().expanded(&|_| None), Ok(Online::default()));
    }

    #[test]
    fn a_url_that_turns_out_wrong_is_not_shown() {
        let unset = "`online.url` in tidemark.yaml needs the environment variable NOBODY, which is not set";
        assert_eq!(expanded("redis://:${NOBODY}@h"), Err(unset.into()));
        let error = expanded("${WRONG}").expect_err("no URL");
        let rest = format!("with its environment variables filled in: this is no URL of Redis; {FORM}");
        assert_eq!(error, format!("`online.url` in tidemark.yaml, {rest}"));
    }
}
