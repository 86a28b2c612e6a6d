//! The cost of the Redis store's layout and of alternatives: memory, bytes written and time of a blob for each state
//! against a field for each tile, and of the ways to send the flushes of many buckets.
//!
//! Starts its own `redis-server`, found on the path. `docs/redis-layout.md` quotes it.

#![allow(clippy::disallowed_methods, reason = "real services are waited for, and timed, by the real clock")]
#![allow(clippy::print_stdout, reason = "the figures are what it is for")]

use std::collections::BTreeMap;
use std::net::TcpListener;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use redis::{Client, Connection, ConnectionLike, Pipeline, pipe};
use tempfile::TempDir;
use tidemark_kernel::aggregate::Function;
use tidemark_kernel::codec::Writer;
use tidemark_kernel::plan::{FeatureSpec, Input, KeyField, ViewSpec};
use tidemark_kernel::value::Field;
use tidemark_kernel::{FeaturePlan, Partition, PartitionState, Span, Stamp, Time, Type, Value, Window};

fn main() {
    let mut server = Server::start();
    println!("{}", server.version());
    layouts(&mut server);
    flushes(&mut server);
}

/// A view of 12 windowed features over one amount.
fn plan() -> FeaturePlan {
    let windows = ["10m", "1h", "1d", "7d"];
    let functions = [Function::Count, Function::Sum, Function::Max];
    let features = functions.iter().flat_map(|function| {
        windows.map(|length| FeatureSpec {
            name: format!("{function}_{length}"),
            function: *function,
            input: Some(Input { sql: "amount".into(), ty: Type::Float64 }),
            filter: None,
            window: Window::sliding(Span::parse(length).expect("a span")).expect("a window"),
        })
    });
    FeaturePlan::new(ViewSpec {
        view: "payments".into(),
        entity: "user".into(),
        source: "payments".into(),
        source_version: None,
        fields: vec![Field { name: "amount".into(), ty: Type::Float64 }],
        keys: vec![KeyField { name: "user_id".into(), field: "user_id".into(), ty: Type::Int64 }],
        filter: None,
        features: features.collect(),
        time_travel: FeaturePlan::DEFAULT_TIME_TRAVEL,
        max_age: None,
        expression_semantics: 1,
    })
    .expect("a plan")
}

/// How busy an entity is.
struct Load {
    name: &'static str,
    /// Milliseconds between events.
    every: i64,
    /// Events between two flushes: one, but for entities that are busier than flushes are frequent.
    per_flush: i64,
}

const WEEK: i64 = 7 * 86_400_000;

const LOADS: [Load; 4] = [
    Load { name: "sparse (10 a week)", every: WEEK / 10, per_flush: 1 },
    Load { name: "typical (20 a day)", every: 4_320_000, per_flush: 1 },
    Load { name: "saturated (1 a minute)", every: 60_000, per_flush: 1 },
    Load { name: "hot (100 a second)", every: 10, per_flush: 10 },
];

/// An entity after more than a week of its events.
struct Entity {
    plan: FeaturePlan,
    state: PartitionState,
    offset: i64,
    at: i64,
}

impl Entity {
    fn new(load: &Load) -> Self {
        let mut entity =
            Self { plan: plan(), state: PartitionState::new(), offset: 0, at: 1_700_000_000_000 };
        // A busier entity has no more tiles than one with an event every two seconds, but for the last minutes.
        let coarse = load.every.max(2000);
        let end = entity.at + WEEK + 86_400_000;
        while entity.at < end {
            let every = if entity.at < end - 1_200_000 { coarse } else { load.every };
            entity.event(every);
            if entity.offset % 1000 == 0 {
                entity.state.coarsen(&entity.plan);
            }
        }
        entity.state.coarsen(&entity.plan);
        entity
    }

    fn event(&mut self, after: i64) {
        self.at += after;
        self.offset += 1;
        let time = Time::from_millis(self.at);
        let stamp =
            Stamp { partition: Partition(0), offset: self.offset, event_time: time, arrival_time: time };
        let amount = (self.offset.wrapping_mul(7_919) % 1_000_000) as f64 / 100.0;
        let inputs = vec![Value::float(amount); self.plan.aggregates.len()];
        self.state.apply(&self.plan, &stamp, &inputs);
    }

    fn flush(&mut self, load: &Load) {
        (0..load.per_flush).for_each(|_| self.event(load.every));
        self.state.coarsen(&self.plan);
    }

    /// The whole state, and room for a checksum.
    fn blob(&mut self) -> Vec<u8> {
        let mut blob = self.state.encode(&self.plan);
        blob.extend_from_slice(&[0; 4]);
        blob
    }

    /// The state as fields of a hash: one for each tile, and one for what they share.
    fn fields(&self) -> BTreeMap<Vec<u8>, Vec<u8>> {
        let mut head = Writer::new();
        head.zigzag(self.state.last_offset());
        head.zigzag(self.state.newest_arrival().millis());
        let mut fields = BTreeMap::from([(b"0".to_vec(), head.into_bytes())]);
        for tile in self.state.tiles() {
            let (mut field, mut value) = (Writer::new(), Writer::new());
            field.zigzag(0);
            field.zigzag(tile.span.start.millis());
            field.varint((tile.span.end.millis() - tile.span.start.millis()) as u64);
            value.varint((tile.span.end.millis() - tile.newest.millis()) as u64);
            self.state.states(&self.plan, tile).iter().for_each(|state| state.encode(&mut value));
            fields.insert(field.into_bytes(), value.into_bytes());
        }
        fields
    }
}

/// What one way to lay out an entity costs.
#[derive(Default)]
struct Cost {
    memory: u64,
    commands_per_event: f64,
    bytes_per_event: f64,
    flush: Duration,
    lookup: Duration,
}

/// As long as the names the store gives.
fn name(copy: usize) -> String {
    format!("tm:shop:{{payments:1763900000000000:7}}:{copy:08}")
}

fn layouts(server: &mut Server) {
    println!(
        "\n| entity | tiles | layout | state bytes | Redis bytes | commands/event | bytes/event | flush µs | lookup µs |"
    );
    println!("|---|---|---|---|---|---|---|---|---|");
    for load in &LOADS {
        let entity = Entity::new(load);
        let (tiles, bytes) = (entity.state.tiles().len(), entity.state.clone().encode(&entity.plan).len());
        let row = |layout: &str, cost: &Cost| {
            println!(
                "| {} | {tiles} | {layout} | {bytes} | {} | {:.1} | {:.0} | {:.1} | {:.1} |",
                load.name,
                cost.memory,
                cost.commands_per_event,
                cost.bytes_per_event,
                micros(cost.flush),
                micros(cost.lookup)
            );
        };
        row("blob", &blobs(server, load));
        server.set("hash-max-listpack-value", "8192");
        row("blob, listpack to 8 KiB", &blobs(server, load));
        server.set("hash-max-listpack-value", "64");
        row("field per tile", &tiles_as_fields(server, load));
    }
}

/// Copies of an entity, to measure memory and time over.
const COPIES: usize = 200;
/// Flushes to measure bytes over.
const FLUSHES: usize = 40;

fn blobs(server: &mut Server, load: &Load) -> Cost {
    let mut entity = Entity::new(load);
    let blob = entity.blob();
    let fill = (0..COPIES).map(|copy| pipe().cmd("HSET").arg(name(copy)).arg("0").arg(&blob).clone());
    let memory = server.memory(fill);
    let mut steps = Vec::new();
    let mut bytes = 0;
    for _ in 0..FLUSHES {
        entity.flush(load);
        let blob = entity.blob();
        bytes += name(0).len() + 1 + blob.len();
        steps.push(move |copy| pipe().cmd("HSET").arg(name(copy)).arg("0").arg(&blob).clone());
    }
    let flush = server.time(&steps);
    cost(load, memory, FLUSHES, bytes, flush, server.time_lookups())
}

fn tiles_as_fields(server: &mut Server, load: &Load) -> Cost {
    let mut entity = Entity::new(load);
    let mut before = entity.fields();
    let all: Vec<_> = before.clone().into_iter().collect();
    let fill = (0..COPIES).map(|copy| pipe().cmd("HSET").arg(name(copy)).arg(&all).clone());
    let memory = server.memory(fill);
    let (mut steps, mut commands, mut bytes) = (Vec::new(), 0, 0);
    for _ in 0..FLUSHES {
        entity.flush(load);
        let after = entity.fields();
        let gone: Vec<Vec<u8>> = before.keys().filter(|field| !after.contains_key(*field)).cloned().collect();
        let changed: Vec<_> =
            after.clone().into_iter().filter(|(field, value)| before.get(field) != Some(value)).collect();
        commands += 1 + usize::from(!gone.is_empty());
        bytes +=
            name(0).len() + changed.iter().map(|(field, value)| field.len() + value.len()).sum::<usize>();
        bytes += gone.iter().map(Vec::len).sum::<usize>() + if gone.is_empty() { 0 } else { name(0).len() };
        before = after;
        steps.push(move |copy| {
            let mut step = pipe();
            step.cmd("HSET").arg(name(copy)).arg(&changed);
            if !gone.is_empty() {
                step.cmd("HDEL").arg(name(copy)).arg(&gone);
            }
            step
        });
    }
    let flush = server.time(&steps);
    cost(load, memory, commands, bytes, flush, server.time_lookups())
}

fn cost(load: &Load, memory: u64, commands: usize, bytes: usize, flush: Duration, lookup: Duration) -> Cost {
    let events = FLUSHES as f64 * load.per_flush as f64;
    let (commands_per_event, bytes_per_event) = (commands as f64 / events, bytes as f64 / events);
    Cost { memory, commands_per_event, bytes_per_event, flush, lookup }
}

const BUCKETS: usize = 16;
const PER_BUCKET: usize = 10;
const STATE: usize = 500;
const ROUNDS: usize = 400;

/// The store's own function.
const FLUSH: &str = include_str!("../store/src/redis/flush.lua");

/// How to send the flushes of all buckets.
fn flushes(server: &mut Server) {
    println!("\n| {BUCKETS} buckets of {PER_BUCKET} states of {STATE} bytes | ms | against the first |");
    println!("|---|---|---|");
    let plain = server.rounds("", |_, round| plain_writes(round));
    let row = |way: &str, took: Duration| {
        println!(
            "| {way} | {:.3} | {:.2} |",
            took.as_secs_f64() * 1e3,
            took.as_secs_f64() / plain.as_secs_f64()
        );
    };
    row("plain HSET and PEXPIRE, unchecked, pipelined", plain);
    row("one EVALSHA a bucket, pipelined", server.rounds(FLUSH, one_a_bucket));
    row("one EVAL a bucket, pipelined", server.rounds(FLUSH, one_eval_a_bucket));
    row("one EVALSHA for all buckets", server.rounds(FLUSH, one_for_all));
}

fn plain_writes(round: usize) -> Pipeline {
    let mut calls = pipe();
    for of in 0..BUCKETS {
        for entity in entities(of) {
            calls.cmd("HSET").arg(&entity).arg("0").arg(state(round));
            calls.cmd("PEXPIRE").arg(&entity).arg(604_800_000);
        }
        calls.cmd("HSET").arg(bucket(of)).arg("0").arg(round + 1);
    }
    calls
}

fn one_a_bucket(hash: &str, round: usize) -> Pipeline {
    bucket_by_bucket("EVALSHA", hash, round)
}

fn one_eval_a_bucket(_: &str, round: usize) -> Pipeline {
    bucket_by_bucket("EVAL", FLUSH, round)
}

fn bucket_by_bucket(command: &str, function: &str, round: usize) -> Pipeline {
    let mut calls = pipe();
    for of in 0..BUCKETS {
        let call = calls.cmd(command).arg(function).arg(PER_BUCKET + 1).arg(bucket(of)).arg(entities(of));
        call.arg("f").arg(0).arg(round).arg(round + 1).arg(PER_BUCKET);
        add_states(call, round);
    }
    calls
}

fn one_for_all(hash: &str, round: usize) -> Pipeline {
    let mut calls = pipe();
    let call = calls.cmd("EVALSHA").arg(hash).arg(BUCKETS * (PER_BUCKET + 1));
    for of in 0..BUCKETS {
        call.arg(bucket(of)).arg(entities(of));
    }
    call.arg("f");
    for _ in 0..BUCKETS {
        call.arg(0).arg(round).arg(round + 1).arg(PER_BUCKET);
        add_states(call, round);
    }
    calls
}

/// The states of a bucket, each needed for a week.
fn add_states(call: &mut Pipeline, round: usize) {
    for _ in 0..PER_BUCKET {
        call.arg(state(round)).arg(0).arg(604_800_000);
    }
}

fn bucket(number: usize) -> String {
    format!("tm:shop:{{payments:1763900000000000:{number}}}")
}

fn entities(of: usize) -> Vec<String> {
    (0..PER_BUCKET).map(|number| format!("{}:{number:08}", bucket(of))).collect()
}

fn state(round: usize) -> Vec<u8> {
    vec![round as u8; STATE]
}

/// A `redis-server` that ends with the bench.
struct Server {
    process: Child,
    _folder: TempDir,
    connection: Connection,
}

impl Server {
    fn start() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let port =
            TcpListener::bind("127.0.0.1:0").and_then(|free| free.local_addr()).expect("a free port").port();
        let process = Command::new("redis-server")
            .args(["--bind", "127.0.0.1", "--save", "", "--port"])
            .arg(port.to_string())
            .arg("--dir")
            .arg(folder.path())
            .stdout(Stdio::null())
            .spawn()
            .expect("redis-server is on the path");
        let client = Client::open(("127.0.0.1", port)).expect("an address");
        let began = Instant::now();
        let connection = loop {
            match client.get_connection() {
                Ok(connection) => break connection,
                Err(error) => assert!(began.elapsed() < Duration::from_secs(20), "{error}"),
            }
        };
        Self { process, _folder: folder, connection }
    }

    fn version(&mut self) -> String {
        let info: redis::InfoDict = self.ask(redis::cmd("INFO").arg("server"));
        format!("Redis {}", info.get::<String>("redis_version").expect("it says"))
    }

    fn ask<T: redis::FromRedisValue>(&mut self, command: &redis::Cmd) -> T {
        command.query(&mut self.connection).expect("an answer")
    }

    fn run(&mut self, calls: &Pipeline) {
        calls.query::<redis::Value>(&mut self.connection).expect("answers");
    }

    fn set(&mut self, setting: &str, value: &str) {
        self.ask::<()>(redis::cmd("CONFIG").arg("SET").arg(setting).arg(value));
    }

    /// The memory of one of the copies that `fill` writes.
    fn memory(&mut self, fill: impl Iterator<Item = Pipeline>) -> u64 {
        self.ask::<()>(redis::cmd("FLUSHALL").arg("SYNC"));
        for calls in fill {
            self.run(&calls);
        }
        self.ask(redis::cmd("MEMORY").arg("USAGE").arg(name(0)).arg("SAMPLES").arg(0))
    }

    /// How long each of `steps` takes for one of the copies, many in one write.
    fn time<F: Fn(usize) -> Pipeline>(&mut self, steps: &[F]) -> Duration {
        let mut took = Duration::ZERO;
        for step in steps {
            let mut calls = pipe();
            for copy in 0..COPIES {
                for call in step(copy).cmd_iter() {
                    calls.add_command(call.clone());
                }
            }
            took += self.timed(&calls);
        }
        took / (steps.len() * COPIES) as u32
    }

    /// How long it takes to read one of the copies, many in one write.
    fn time_lookups(&mut self) -> Duration {
        let mut calls = pipe();
        for copy in 0..COPIES {
            calls.cmd("HGETALL").arg(name(copy));
        }
        (0..20).map(|_| self.timed(&calls)).sum::<Duration>() / (20 * COPIES) as u32
    }

    /// The median of many rounds of flushes, each of which continues at the position of the last. Building
    /// their arguments is not timed.
    fn rounds(&mut self, function: &str, calls: impl Fn(&str, usize) -> Pipeline) -> Duration {
        self.ask::<()>(redis::cmd("FLUSHALL").arg("SYNC"));
        for of in 0..BUCKETS {
            let positions = [("fingerprint", "f"), ("idle", "604800000"), ("0", "0")];
            self.ask::<()>(redis::cmd("HSET").arg(bucket(of)).arg(&positions));
        }
        let hash = match function {
            "" => String::new(),
            function => self.ask(redis::cmd("SCRIPT").arg("LOAD").arg(function)),
        };
        let mut took: Vec<Duration> = (0..ROUNDS).map(|round| self.timed(&calls(&hash, round))).collect();
        let position: usize = self.ask(redis::cmd("HGET").arg(bucket(0)).arg("0"));
        assert_eq!(position, ROUNDS, "every round was applied");
        took.sort_unstable();
        took[ROUNDS / 2]
    }

    fn timed(&mut self, calls: &Pipeline) -> Duration {
        let packed = calls.get_packed_pipeline();
        let began = Instant::now();
        let answers = self.connection.req_packed_commands(&packed, 0, calls.len()).expect("answers");
        let took = began.elapsed();
        assert_eq!(answers.len(), calls.len());
        took
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn micros(took: Duration) -> f64 {
    took.as_secs_f64() * 1e6
}
