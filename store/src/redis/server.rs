//! Checks of the server when it is opened and while it is used: its version, the format of its data, and that it never
//! evicts keys, which would lose states.

use std::collections::BTreeMap;
use std::sync::OnceLock;
use std::time::Duration;

use parking_lot::Mutex;
use redis::{Cmd, FromRedisValue, Pipeline};
use tidemark_kernel::Explain;
use tokio::time::Instant;

use super::layout::{self, FORMAT};
use super::link::Link;
use crate::error::StoreError;

/// The oldest major version of Redis with the scripts we write.
const OLDEST: u32 = 7;

/// How often a server in use is looked at again.
const INTERVAL: Duration = Duration::from_secs(5);

/// Looks again, now and then, whether a server evicts, which it can be told to at any time, and whether its format is still one
/// that this version reads.
#[derive(Debug)]
pub(super) struct Watch {
    next: Mutex<Instant>,
    /// `evicted_keys` when last looked at; none where the server does not tell.
    evicted: Mutex<Option<u64>>,
    /// That keys were evicted, or that a newer version uses the store. Every later call fails with it: what was lost is not known,
    /// and a format is never lowered.
    broken: OnceLock<StoreError>,
}

impl Watch {
    /// Checks a server that is being opened.
    #[expect(clippy::disallowed_methods, reason = "how often a real server is asked is not simulated")]
    pub(super) async fn open(link: &Link) -> Result<Self, StoreError> {
        let properties = Properties::ask(link).await?;
        properties.check_version(link)?;
        let policy = match properties.policy() {
            Some(policy) => Some(policy.to_owned()),
            None => configured_policy(link).await?,
        };
        match policy {
            Some(policy) => check_policy(link, &policy)?,
            None => tracing::warn!(
                place = link.place(),
                "Redis does not say whether it evicts: see that its `maxmemory-policy` is `noeviction`, or allow \
                 this user INFO"
            ),
        }
        let (next, evicted) = (Mutex::new(Instant::now() + INTERVAL), Mutex::new(properties.evicted()));
        Ok(Self { next, evicted, broken: OnceLock::new() })
    }

    /// Fails if the server evicts, or has evicted since it was opened, and if a newer version has changed its format since.
    pub(super) async fn look(&self, link: &Link) -> Result<(), StoreError> {
        if let Some(broken) = self.broken.get() {
            return Err(broken.clone());
        }
        if !self.is_due() {
            return Ok(());
        }
        let properties = Properties::ask(link).await?;
        if let Some(evicted) = self.evicted_since(&properties) {
            return Err(self.breaks(link, evicted).await);
        }
        properties.policy().map_or(Ok(()), |policy| check_policy(link, policy))?;
        match check_format(link).await {
            Err(error @ (StoreError::Newer { .. } | StoreError::Corrupt { .. })) => {
                Err(self.broken.get_or_init(|| error).clone())
            }
            other => other.map(|_| ()),
        }
    }

    /// Remembers the loss, and leaves a mark so that no process opens what is left; for the mark there may be no room.
    async fn breaks(&self, link: &Link, evicted: u64) -> StoreError {
        let what = format!(
            "Redis has evicted {evicted} keys, so set `maxmemory-policy` to `noeviction` and delete all that are left"
        );
        let error = self.broken.get_or_init(|| link.corrupt(&what)).clone();
        if let Err(error) = link.ask::<()>(&Cmd::set(layout::damage_key(link.prefix()), &what)).await {
            tracing::warn!(
                place = link.place(),
                error = error.explained(),
                "cannot mark the online store as damaged"
            );
        }
        error
    }

    /// Whether it is time to ask. True for one caller only.
    #[expect(clippy::disallowed_methods, reason = "how often a real server is asked is not simulated")]
    fn is_due(&self) -> bool {
        let mut next = self.next.lock();
        let now = Instant::now();
        let due = *next <= now;
        if due {
            *next = now + INTERVAL;
        }
        due
    }

    /// How many keys were evicted since the last look. The count starts at zero when the server does.
    fn evicted_since(&self, properties: &Properties) -> Option<u64> {
        let now = properties.evicted()?;
        let before = self.evicted.lock().replace(now)?;
        let since = now.checked_sub(before).unwrap_or(now);
        (since > 0).then_some(since)
    }
}

/// What a server says about itself; nothing where it does not tell this user.
#[derive(Debug, Default, PartialEq, Eq)]
struct Properties(BTreeMap<String, String>);

impl Properties {
    async fn ask(link: &Link) -> Result<Self, StoreError> {
        let told: Option<String> = if_allowed(link, &["INFO"]).await?;
        Ok(told.map(|told| Self::parse(&told)).unwrap_or_default())
    }

    fn parse(told: &str) -> Self {
        let properties = told.lines().filter_map(|line| line.trim().split_once(':'));
        Self(properties.map(|(name, value)| (name.to_owned(), value.to_owned())).collect())
    }

    fn get(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(String::as_str)
    }

    fn policy(&self) -> Option<&str> {
        self.get("maxmemory_policy")
    }

    fn evicted(&self) -> Option<u64> {
        self.get("evicted_keys")?.parse().ok()
    }

    fn check_version(&self, link: &Link) -> Result<(), StoreError> {
        if self.get("cluster_enabled") == Some("1") {
            return Err(link.cluster());
        }
        let version = self.get("redis_version").unwrap_or_default();
        let major = version.split('.').next().and_then(|major| major.parse::<u32>().ok());
        match major {
            Some(major) if major < OLDEST => {
                let help = format!("install Redis {OLDEST} or newer");
                Err(link.refused(format!("it has version {version}"), help))
            }
            _ => Ok(()),
        }
    }
}

async fn configured_policy(link: &Link) -> Result<Option<String>, StoreError> {
    let told: Option<BTreeMap<String, String>> =
        if_allowed(link, &["CONFIG", "GET", "maxmemory-policy"]).await?;
    Ok(told.and_then(|mut told| told.remove("maxmemory-policy")))
}

async fn if_allowed<T: FromRedisValue>(link: &Link, words: &[&str]) -> Result<Option<T>, StoreError> {
    let mut calls = Pipeline::new();
    words.iter().fold(calls.add_command(Cmd::new()), |call, word| call.arg(word));
    let answer = link.send_if_allowed(&calls).await?.and_then(|mut answers| answers.pop());
    answer.map(|answer| link.read(answer)).transpose()
}

fn check_policy(link: &Link, policy: &str) -> Result<(), StoreError> {
    match policy {
        "noeviction" => Ok(()),
        policy => Err(StoreError::Evicts { place: link.place().to_owned(), policy: policy.to_owned() }),
    }
}

/// Whether the place has our format already. Fails if this version cannot read it, or if it is marked as damaged.
pub(super) async fn check_format(link: &Link) -> Result<bool, StoreError> {
    let damage: Option<String> = link.ask(&Cmd::get(layout::damage_key(link.prefix()))).await?;
    damage.map_or(Ok(()), |damage| Err(link.corrupt(damage)))?;
    let key = layout::format_key(link.prefix());
    let Some(found) = link.ask::<Option<String>>(&Cmd::get(&key)).await? else { return Ok(false) };
    match found.parse() {
        Ok(FORMAT) => Ok(true),
        Ok(newer) if newer > FORMAT => {
            Err(StoreError::Newer { place: link.place().to_owned(), found: newer, supported: FORMAT })
        }
        _ => Err(link.corrupt(format!("`{key}` holds {found:?}, which is no format"))),
    }
}

/// Gives an empty place our format. Of several that do so at once the first wins.
pub(super) async fn claim(link: &Link) -> Result<(), StoreError> {
    if !check_format(link).await? {
        let key = layout::format_key(link.prefix());
        link.ask::<()>(&Cmd::set_nx(key, FORMAT)).await?;
        check_format(link).await?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn link() -> Link {
        Link::new("redis://127.0.0.1:1", "tm").expect("a url")
    }

    fn properties(told: &str) -> Properties {
        Properties::parse(told)
    }

    #[test]
    fn a_server_must_be_new_enough_and_stand_alone() {
        let check = |told: &str| properties(told).check_version(&link()).map_err(|error| error.explained());
        assert_eq!(check("# Server\r\nredis_version:7.0.15\r\ncluster_enabled:0\r\n"), Ok(()));
        assert_eq!(check("redis_version:10.1\r\n"), Ok(()));
        assert_eq!(check(""), Ok(()), "where it does not say");
        let old = check("redis_version:6.2.14\r\n").expect_err("too old");
        assert!(old.contains("6.2.14") && old.contains("Redis 7"), "{old}");
        assert!(check("redis_version:7.2.0\r\ncluster_enabled:1\r\n").is_err());
    }

    #[test]
    fn only_noeviction_is_taken() {
        check_policy(&link(), "noeviction").expect("fine");
        for policy in ["allkeys-lru", "volatile-ttl"] {
            let error = check_policy(&link(), policy).expect_err("evicts");
            let told = error.explained();
            assert!(told.contains(policy) && told.contains("noeviction"), "{told}");
        }
    }

    #[tokio::test]
    #[expect(clippy::disallowed_methods, reason = "never looked at")]
    async fn evictions_are_counted_across_restarts() {
        let next = Mutex::new(Instant::now());
        let watch = Watch { next, evicted: Mutex::new(None), broken: OnceLock::new() };
        let evicted = |count: u64| watch.evicted_since(&properties(&format!("evicted_keys:{count}\r\n")));
        assert_eq!(evicted(3), None, "what was evicted before is not ours");
        assert_eq!([evicted(3), evicted(5), evicted(5)], [None, Some(2), None]);
        assert_eq!([evicted(0), evicted(1)], [None, Some(1)], "the count starts at zero with the server");
        assert_eq!(evicted(0), None);
        assert_eq!(watch.evicted_since(&properties("")), None, "where it does not say");
        assert_eq!([watch.is_due(), watch.is_due()], [true, false]);
    }
}
