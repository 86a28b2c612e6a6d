//! The producer: a process that can be killed at any moment, and started again goes on where the topic ends.
//!
//! It is this test binary, told by its environment what to send and by its input how far. Nothing but the topic says
//! what was sent: records go to their partitions in one order, so that the end of a partition is the number of its
//! records that are there. An idempotent producer keeps that order, without a gap, whatever the network does.

use std::env;
use std::fs::{self, File};
use std::io::{self, BufRead, BufReader, Lines, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::Duration;

use tidemark_kernel::Time;
use tidemark_services::{Kafka, Record};

use super::files::Movement;
use crate::world::pause;

/// The topic and the file, for the process.
const TOPIC: &str = "TIDEMARK_FLIGHTS_TOPIC";
const FILE: &str = "TIDEMARK_FLIGHTS_FILE";

/// For how long a partition must not have grown to be what a killed producer left.
const QUIET: Duration = Duration::from_millis(400);

/// How many records wait to be sent at most: a producer that has begun with more has sent some, but not all.
const QUEUE: usize = 500;

/// How many records must be left to send for a producer to be killed in the middle of them.
pub(crate) const ENOUGH: usize = 4 * QUEUE;

/// Movements as a file for the process.
pub(crate) struct Records<'k> {
    kafka: &'k Kafka,
    topic: &'k str,
    file: PathBuf,
}

impl<'k> Records<'k> {
    pub(crate) fn write(kafka: &'k Kafka, topic: &'k str, movements: &[Movement], folder: &Path) -> Self {
        let line = |movement: &Movement| {
            let Movement { at, plane, value } = movement;
            format!("{}\t{}\t{plane}\t{value}\n", at.millis(), movement.partition())
        };
        let file = folder.join("records");
        fs::write(&file, movements.iter().map(line).collect::<String>()).expect("written");
        Self { kafka, topic, file }
    }

    /// Starts the process. It is killed when dropped.
    pub(crate) fn producer(&self) -> Producer {
        let mut child = Command::new(env::current_exe().expect("this test has a path"))
            .args(["--exact", "flights::producer::produces", "--ignored", "--nocapture"])
            .env("TIDEMARK_TEST_KAFKA", self.kafka.bootstrap())
            .env(TOPIC, self.topic)
            .env(FILE, &self.file)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("it runs");
        let orders = child.stdin.take().expect("piped");
        let says = BufReader::new(child.stdout.take().expect("piped")).lines();
        let mut producer = Producer { child, orders, says, held: 0 };
        producer.held = producer.heard("holds");
        producer
    }
}

/// The process.
pub(crate) struct Producer {
    child: Child,
    orders: ChildStdin,
    says: Lines<BufReader<ChildStdout>>,
    /// How many records the topic held when it started.
    pub(crate) held: usize,
}

impl Producer {
    /// Has it send everything before `end`, and waits until the broker has it.
    pub(crate) fn send_before(&mut self, end: Time) {
        self.order(end, usize::MAX);
        self.heard("sent");
    }

    /// Has it send everything before `end`, and kills it when it has handed over the first so many of all records.
    pub(crate) fn kill_amid(mut self, end: Time, records: usize) {
        self.order(end, records);
        self.heard("amid");
        self.child.kill().expect("it runs");
        self.child.wait().expect("a child");
    }

    fn order(&mut self, end: Time, stop: usize) {
        writeln!(self.orders, "{} {stop}", end.millis()).expect("it listens");
    }

    /// The number in its next line that begins with `word`.
    fn heard(&mut self, word: &str) -> usize {
        let line = |line: io::Result<String>| {
            let (said, number) =
                line.expect("text").split_once(' ').map(|(a, b)| (a.to_owned(), b.to_owned()))?;
            (said == word).then(|| number.parse().expect("a number"))
        };
        self.says
            .by_ref()
            .find_map(line)
            .unwrap_or_else(|| panic!("the producer ended before it said `{word}`"))
    }
}

impl Drop for Producer {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// What the process does.
#[test]
#[ignore = "a process that the flights start"]
fn produces() {
    let (Ok(topic), Ok(file)) = (env::var(TOPIC), env::var(FILE)) else { return };
    let kafka = Kafka::shared();
    let queue = QUEUE.to_string();
    let producer =
        kafka.producer_with(&[("queue.buffering.max.messages", &queue), ("compression.type", "zstd")]);
    let held = held(kafka, &topic);
    // The test runner has begun a line.
    println!("\nholds {}", held.iter().sum::<i64>());
    let lines = BufReader::new(File::open(file).expect("a file")).lines();
    let mut records = lines.map(|line| Line::parse(&line.expect("text"))).peekable();
    let (mut ends, mut passed) = (vec![0; held.len()], 0);
    'orders: for order in io::stdin().lines() {
        let order = order.expect("text");
        let (end, stop) = order.split_once(' ').expect("an order");
        let (end, stop): (i64, usize) = (end.parse().expect("a time"), stop.parse().expect("a number"));
        let mut places = Vec::new();
        while let Some(Line { at, partition, plane, value }) = records.next_if(|record| record.at < end) {
            let offset = ends[partition];
            ends[partition] += 1;
            passed += 1;
            if offset < held[partition] {
                continue;
            }
            let record = Record::new(&topic, value).key(plane).at(at).partition(partition as i32);
            producer.send(&record);
            places.push((partition as i32, offset));
            if passed == stop {
                println!("amid {passed}");
                continue 'orders;
            }
        }
        let landed = producer.flush();
        let astray = landed.iter().zip(&places).find(|(landed, place)| landed != place);
        assert_eq!(astray, None, "another producer writes to the topic");
        println!("sent {passed}");
    }
}

/// How many records each partition holds, once what a killed process had under way has come to rest.
fn held(kafka: &Kafka, topic: &str) -> Vec<i64> {
    let mut ends = kafka.watermarks(topic);
    loop {
        pause(QUIET);
        let now = kafka.watermarks(topic);
        if now == ends {
            return ends.into_values().map(|(_, end)| end).collect();
        }
        ends = now;
    }
}

/// A line of the file.
struct Line {
    at: i64,
    partition: usize,
    plane: String,
    value: String,
}

impl Line {
    fn parse(line: &str) -> Self {
        let mut parts = line.splitn(4, '\t');
        let mut part = || parts.next().expect("four parts");
        let (at, partition) = (part().parse().expect("a time"), part().parse().expect("a partition"));
        Self { at, partition, plane: part().to_owned(), value: part().to_owned() }
    }
}
