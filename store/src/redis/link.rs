//! The connection to Redis: one for all calls, pipelined, opened again after it broke. All commands go through it, and
//! all errors of Redis are translated here.

use std::fmt;
use std::io;
use std::time::Duration;

use futures::FutureExt;
use futures::future::{BoxFuture, Shared};
use parking_lot::Mutex;
use redis::aio::MultiplexedConnection;
use redis::io::tcp::TcpSettings;
use redis::{
    AsyncConnectionConfig, Client, Cmd, ConnectionAddr, ConnectionInfo, ErrorKind, FromRedisValue,
    IntoConnectionInfo, Pipeline, RedisConnectionInfo, RedisError, ServerErrorKind, Value,
};

use super::layout::escape_prefix;
use super::script::Script;
use crate::error::StoreError;

/// How long Redis may take to accept a connection.
const CONNECT: Duration = Duration::from_secs(2);

/// How long Redis may take to answer what was sent in one write.
const ANSWER: Duration = Duration::from_secs(5);

/// A connection being made, or made. Those who wait for the same one share its failure.
pub(super) type Connection = Shared<BoxFuture<'static, Result<MultiplexedConnection, RedisError>>>;

/// The way to one Redis.
pub(super) struct Link {
    prefix: String,
    place: String,
    client: Client,
    /// What is sent first over every connection.
    greeting: Pipeline,
    connection: Mutex<Option<Connection>>,
}

impl Link {
    /// The way to the keys under `prefix` in the Redis at `url`, not taken yet.
    pub(super) fn new(url: &str, prefix: &str) -> Result<Self, StoreError> {
        let prefix = escape_prefix(prefix);
        let given = url.into_connection_info().map_err(|error| misunderstood(&error))?;
        let place = place(&given, &prefix);
        let greeting = greeting(given.redis_settings());
        // RESP2, in which every server answers alike; what must be said first is in the greeting.
        let plain = RedisConnectionInfo::default().set_skip_set_lib_name();
        let tcp = TcpSettings::default().set_nodelay(true);
        let client = Client::open(given.set_redis_settings(plain).set_tcp_settings(tcp));
        let client = client.map_err(|error| misunderstood(&error))?;
        Ok(Self { prefix, place, client, greeting, connection: Mutex::default() })
    }

    /// What messages call this Redis: never with the password.
    pub(super) fn place(&self) -> &str {
        &self.place
    }

    /// What the names of all its keys begin with.
    pub(super) fn prefix(&self) -> &str {
        &self.prefix
    }

    /// Sends one command and waits for its answer.
    pub(super) async fn ask<T: FromRedisValue>(&self, command: &Cmd) -> Result<T, StoreError> {
        let mut calls = Pipeline::new();
        calls.add_command(command.clone());
        let answer = self.send(&calls).await?.pop().unwrap_or_default();
        self.read(answer)
    }

    /// Sends all calls in one write and waits for their answers. The first that failed fails all, though the others
    /// may have been carried out.
    pub(super) async fn send(&self, calls: &Pipeline) -> Result<Vec<Value>, StoreError> {
        self.sound(self.exchange(calls).await.map_err(|error| self.explain(&error))?)
    }

    /// As `send`, where an error of one call says nothing about the others.
    pub(super) async fn send_each(
        &self,
        calls: &Pipeline,
    ) -> Result<Vec<Result<Value, StoreError>>, StoreError> {
        let answers = self.exchange(calls).await.map_err(|error| self.explain(&error))?;
        let sound = |answer: Value| answer.extract_error().map_err(|error| self.explain(&error));
        Ok(answers.into_iter().map(sound).collect())
    }

    /// As `send`, for commands that the user may not be allowed or the server may not have: then there is no answer.
    pub(super) async fn send_if_allowed(&self, calls: &Pipeline) -> Result<Option<Vec<Value>>, StoreError> {
        let answers = self.exchange(calls).await.map_err(|error| self.explain(&error))?;
        if answers.iter().any(is_denied) { Ok(None) } else { self.sound(answers).map(Some) }
    }

    /// As `send` over one particular connection, for questions to a server in several steps.
    pub(super) async fn send_over(
        &self,
        connection: &Connection,
        calls: &Pipeline,
    ) -> Result<Vec<Value>, StoreError> {
        self.sound(self.exchange_over(connection, calls).await.map_err(|error| self.explain(&error))?)
    }

    /// Sends calls of `script`, and sends them again if Redis did not know it.
    ///
    /// Some may have been carried out at the first try, where another process made it known in between. What they
    /// did, they did in order: so their answers are kept, and the others are those of the second try.
    pub(super) async fn run(&self, script: &Script, calls: &Pipeline) -> Result<Vec<Value>, StoreError> {
        let first = self.exchange(calls).await.map_err(|error| self.explain(&error))?;
        if !first.iter().any(is_unknown_script) {
            return self.sound(first);
        }
        self.ask::<Value>(&script.load()).await?;
        let second = self.send(calls).await?;
        let answers = first.into_iter().zip(second);
        Ok(answers.map(|(first, second)| if is_unknown_script(&first) { second } else { first }).collect())
    }

    /// The connection in use, or a new one, and whether it is in use.
    pub(super) fn connection(&self) -> (Connection, bool) {
        let mut connection = self.connection.lock();
        match &*connection {
            Some(connection) => (connection.clone(), true),
            None => (connection.insert(connect(&self.client, &self.greeting)).clone(), false),
        }
    }

    /// A connection that others used before may have been closed while it was idle, or by a restart that is over:
    /// that is no reason to fail, since every call may be repeated.
    async fn exchange(&self, calls: &Pipeline) -> Result<Vec<Value>, RedisError> {
        let (connection, used) = self.connection();
        match self.exchange_over(&connection, calls).await {
            Err(error) if used && error.is_connection_dropped() => {
                self.exchange_over(&self.connection().0, calls).await
            }
            exchanged => exchanged,
        }
    }

    async fn exchange_over(
        &self,
        connection: &Connection,
        calls: &Pipeline,
    ) -> Result<Vec<Value>, RedisError> {
        if calls.is_empty() {
            return Ok(Vec::new());
        }
        let exchanged = match connection.clone().await {
            Ok(mut connection) => connection.send_packed_commands(calls, 0, calls.len()).await,
            Err(error) => Err(error),
        };
        if exchanged.as_ref().map_or(true, |answers| answers.iter().any(is_no_primary)) {
            self.forget(connection);
        }
        exchanged
    }

    /// No longer uses a connection that failed: a late answer would be as bad as none. Nor one to a server that is
    /// not the primary any more: its address may lead to the one that is.
    fn forget(&self, failed: &Connection) {
        let mut connection = self.connection.lock();
        if connection.as_ref().is_some_and(|connection| connection.ptr_eq(failed)) {
            *connection = None;
        }
    }

    fn sound(&self, answers: Vec<Value>) -> Result<Vec<Value>, StoreError> {
        let sound = |answer: Value| answer.extract_error().map_err(|error| self.explain(&error));
        answers.into_iter().map(sound).collect()
    }

    /// An answer as what it must be.
    pub(super) fn read<T: FromRedisValue>(&self, answer: Value) -> Result<T, StoreError> {
        redis::from_redis_value(answer).map_err(|error| self.corrupt(format!("it answers: {error}")))
    }

    pub(super) fn corrupt(&self, what: impl Into<String>) -> StoreError {
        StoreError::Corrupt { place: self.place.clone(), what: what.into() }
    }

    pub(super) fn refused(&self, reason: impl Into<String>, help: impl Into<String>) -> StoreError {
        StoreError::Refused { place: self.place.clone(), reason: reason.into(), help: help.into() }
    }

    /// The refusal of a Redis Cluster.
    pub(super) fn cluster(&self) -> StoreError {
        self.refused("it is a Redis Cluster", "name a single server")
    }

    pub(super) fn unavailable(&self, reason: impl Into<String>) -> StoreError {
        StoreError::Unavailable { place: self.place.clone(), reason: reason.into() }
    }

    fn explain(&self, error: &RedisError) -> StoreError {
        let Some(code) = error.code() else {
            let reason = if error.is_timeout() { "no answer in time".to_owned() } else { error.to_string() };
            return self.unavailable(reason);
        };
        // What follows is where in which script it happened.
        let detail = error.detail().unwrap_or_default().split(" script: ").next().unwrap_or_default();
        let said = format!("{code} {detail}");
        match code {
            "LOADING" | "OOM" | "READONLY" | "MISCONF" | "MASTERDOWN" | "CLUSTERDOWN" | "BUSY"
            | "TRYAGAIN" | "NOREPLICAS" | "NOSCRIPT" => self.unavailable(said),
            "ERR" if detail.starts_with("max number of clients") => self.unavailable(said),
            "WRONGPASS" => self.refused(said, "correct the user or the password in its URL"),
            "NOAUTH" => self.refused(said, "give the password in its URL"),
            "NOPERM" => self.refused(said, "grant this to the user in its URL"),
            "MOVED" | "ASK" | "CROSSSLOT" => self.cluster(),
            "WRONGTYPE" => self.corrupt("a key of it is of another type"),
            _ => StoreError::io(&self.place, "use", io::Error::other(said)),
        }
    }
}

impl fmt::Debug for Link {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Link").field("place", &self.place).finish_non_exhaustive()
    }
}

/// The library's own way of authenticating would keep the server's words to itself.
fn greeting(given: &RedisConnectionInfo) -> Pipeline {
    let mut greeting = Pipeline::new();
    if let Some(password) = given.password() {
        greeting.cmd("AUTH").arg(given.username()).arg(password);
    }
    if given.db() != 0 {
        greeting.cmd("SELECT").arg(given.db());
    }
    greeting
}

fn connect(client: &Client, greeting: &Pipeline) -> Connection {
    let (client, greeting) = (client.clone(), greeting.clone());
    let connected = async move {
        let config = AsyncConnectionConfig::new()
            .set_connection_timeout(Some(CONNECT))
            .set_response_timeout(Some(ANSWER));
        let mut connection = client.get_multiplexed_async_connection_with_config(&config).await?;
        if !greeting.is_empty() {
            let answers = connection.send_packed_commands(&greeting, 0, greeting.len()).await?;
            answers.into_iter().try_for_each(|answer| answer.extract_error().map(drop))?;
        }
        Ok(connection)
    };
    connected.boxed().shared()
}

fn is_unknown_script(answer: &Value) -> bool {
    matches!(answer, Value::ServerError(error) if error.kind() == Some(ServerErrorKind::NoScript))
}

fn is_no_primary(answer: &Value) -> bool {
    matches!(answer, Value::ServerError(error) if matches!(error.code(), "READONLY" | "MASTERDOWN"))
}

fn is_denied(answer: &Value) -> bool {
    let Value::ServerError(error) = answer else { return false };
    let unknown = || error.details().is_some_and(|details| details.starts_with("unknown command"));
    error.kind() == Some(ServerErrorKind::NoPerm) || unknown()
}

/// The address without user and password, and the keys.
fn place(given: &ConnectionInfo, prefix: &str) -> String {
    let db = given.redis_settings().db();
    match given.addr() {
        ConnectionAddr::Unix(path) => format!("unix://{}?db={db} ({prefix}:*)", path.display()),
        address => format!("redis://{address}/{db} ({prefix}:*)"),
    }
}

/// A URL that is not understood is not repeated: it may hold a password.
fn misunderstood(error: &RedisError) -> StoreError {
    debug_assert_eq!(error.kind(), ErrorKind::InvalidClientConfig);
    let said = error.to_string();
    let said = said.split(" - ").next().unwrap_or_default();
    let help = "write its URL as redis://[[user]:password@]host[:port][/database]";
    StoreError::Refused { place: "on Redis".to_owned(), reason: said.to_owned(), help: help.to_owned() }
}

#[cfg(test)]
mod tests {
    use redis::parse_redis_value;

    use tidemark_kernel::{ErrorKind as Kind, Explain};

    use super::*;

    fn link() -> Link {
        Link::new("redis://worker:hunter2@127.0.0.1:6380/3", "tm").expect("a url")
    }

    /// The error that an answer of the server becomes.
    fn explained(answer: &str) -> StoreError {
        let answer = parse_redis_value(answer.as_bytes()).expect("an answer");
        link().sound(vec![answer]).expect_err("an error")
    }

    #[test]
    fn a_place_never_tells_the_password() {
        assert_eq!(link().place(), "redis://127.0.0.1:6380/3 (tm:*)");
        let unix = Link::new("unix:///run/redis.sock?db=2&pass=hunter2", "tm:a b").expect("a url");
        assert_eq!(unix.place(), "unix:///run/redis.sock?db=2 (tm:a%20b:*)");
        assert!(!format!("{:?} {unix:?}", link()).contains("hunter2"));
        for url in ["redis://:hunter2@host:port", "http://:hunter2@host", "rediss://:hunter2@host", "hunter2"]
        {
            let error = Link::new(url, "tm").expect_err("no such URL");
            assert!(matches!(error, StoreError::Refused { .. }), "{error:?}");
            assert!(
                error.explained().contains("redis://[[user]:password@]host")
                    && !format!("{error:?}").contains("hunter2")
            );
        }
    }

    #[test]
    fn what_may_pass_is_waited_for() {
        for said in [
            "LOADING Redis is loading",
            "OOM no memory",
            "READONLY a replica",
            "MISCONF no disk",
            "MASTERDOWN x",
            "BUSY x",
            "CLUSTERDOWN x",
            "TRYAGAIN x",
            "NOREPLICAS x",
            "ERR max number of clients reached",
        ] {
            let error = explained(&format!("-{said}\r\n"));
            assert_eq!(error.kind(), Kind::Unavailable, "{error:?}");
            assert!(
                error.to_string().contains(said) && error.to_string().contains("127.0.0.1:6380"),
                "{error}"
            );
        }
        let lost = link().explain(&io::Error::from(io::ErrorKind::ConnectionReset).into());
        assert_eq!(lost.kind(), Kind::Unavailable);
    }

    #[test]
    fn what_will_not_pass_is_told() {
        for said in ["WRONGPASS x", "NOAUTH x", "NOPERM x", "MOVED 1 127.0.0.1:1", "CROSSSLOT x"] {
            let error = explained(&format!("-{said}\r\n"));
            assert!(matches!(error, StoreError::Refused { .. }), "{error:?}");
        }
        assert!(matches!(explained("-WRONGTYPE x\r\n"), StoreError::Corrupt { .. }));
        let stop =
            explained("-ERR user_script:3: attempt to call a nil value script: 1234, on @user_script:3.\r\n");
        assert_eq!(stop.kind(), Kind::Internal);
        assert!(!stop.to_string().contains("1234"), "{stop}");
    }
}
