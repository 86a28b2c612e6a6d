//! The Lua functions. The head of each describes its arguments and its answer.

use std::sync::LazyLock;

use redis::{Cmd, Value};

/// A Lua function that Redis keeps under its hash, until it restarts or is told to forget.
pub(super) struct Script {
    code: &'static str,
    hash: String,
}

pub(super) static FLUSH: LazyLock<Script> = LazyLock::new(|| Script::new(include_str!("flush.lua")));
pub(super) static LOAD: LazyLock<Script> = LazyLock::new(|| Script::new(include_str!("load.lua")));
pub(super) static COMPARE: LazyLock<Script> = LazyLock::new(|| Script::new(include_str!("compare.lua")));
pub(super) static MEASURE: LazyLock<Script> = LazyLock::new(|| Script::new(include_str!("measure.lua")));
pub(super) static ADD_LOG: LazyLock<Script> = LazyLock::new(|| Script::new(include_str!("add_log.lua")));
pub(super) static BEGIN: LazyLock<Script> = LazyLock::new(|| Script::new(include_str!("begin.lua")));
pub(super) static CREATE: LazyLock<Script> = LazyLock::new(|| Script::new(include_str!("create.lua")));
pub(super) static COMPLETE: LazyLock<Script> = LazyLock::new(|| Script::new(include_str!("complete.lua")));
pub(super) static PUBLISH: LazyLock<Script> = LazyLock::new(|| Script::new(include_str!("publish.lua")));
pub(super) static DROP: LazyLock<Script> = LazyLock::new(|| Script::new(include_str!("drop.lua")));

impl Script {
    /// What a function answers that has done what it was called for.
    pub(super) const DONE: Value = Value::Int(1);
    /// What a function answers that has done nothing since what it was called for is not there.
    pub(super) const GONE: Value = Value::Int(0);
    /// What a flush answers that has done nothing since a state of which parts were to be kept is not there.
    pub(super) const INCOMPLETE: Value = Value::Int(2);

    fn new(code: &'static str) -> Self {
        Self { code, hash: redis::Script::new(code).get_hash().to_owned() }
    }

    /// A call with these keys; the arguments are to be added.
    pub(super) fn call<K: AsRef<[u8]>>(&self, keys: &[K]) -> Cmd {
        self.large_call(keys, 0)
    }

    /// The same, with room for about so many bytes of arguments.
    pub(super) fn large_call<K: AsRef<[u8]>>(&self, keys: &[K], bytes: usize) -> Cmd {
        let keys_have: usize = keys.iter().map(|key| key.as_ref().len()).sum();
        // A few short arguments go with each key.
        let mut call = Cmd::with_capacity(4 + 7 * keys.len(), 64 + keys_have + 40 * keys.len() + bytes);
        call.arg("EVALSHA").arg(&self.hash).arg(keys.len());
        for key in keys {
            call.arg(key.as_ref());
        }
        call
    }

    /// Makes it known to Redis.
    pub(super) fn load(&self) -> Cmd {
        let mut load = redis::cmd("SCRIPT");
        load.arg("LOAD").arg(self.code);
        load
    }
}
