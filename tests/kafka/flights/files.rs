//! The input files: the flights, the weather, and the questions of lookups.
//!
//! They are taken in as files by the binary itself, and read from the tables that it makes of them.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef};
use arrow::compute::cast;
use arrow::datatypes::DataType;
use futures::TryStreamExt;
use serde_json::{Map, Value as Json};
use tidemark_kernel::value::arrow::value_at;
use tidemark_kernel::{SourcePlan, Time, Value};
use tidemark_offline::{EventTable, Location, Positions};
use xxhash_rust::xxh3::xxh3_64;

use crate::worker::run;

/// How many partitions the topic has.
pub(crate) const PARTITIONS: i32 = 12;

/// The fields of a movement that are in a record's value. Those that a departure or an arrival lacks are null.
const FIELDS: [&str; 8] =
    ["movement", "flight_id", "carrier", "origin", "dest", "delay", "distance", "air_time"];

/// A departure or an arrival, as a record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Movement {
    pub(crate) at: Time,
    /// The key of the record.
    pub(crate) plane: String,
    /// An object in JSON.
    pub(crate) value: String,
}

impl Movement {
    fn new(at: &Value, plane: &Value, fields: &[Value]) -> Self {
        let Value::String(plane) = plane else { panic!("a flight without a plane: {fields:?}") };
        Self { at: time(at), plane: plane.to_string(), value: object(&FIELDS, fields) }
    }

    /// Always the same for the same plane.
    pub(crate) fn partition(&self) -> i32 {
        (xxh3_64(self.plane.as_bytes()) % PARTITIONS.unsigned_abs() as u64) as i32
    }
}

/// What the files hold up to some instant, each in order of time.
pub(crate) struct Files {
    pub(crate) movements: Vec<Movement>,
    /// Instants with lines of JSON.
    pub(crate) weather: Vec<(Time, String)>,
    /// Each flight with the instant at which it is asked about.
    pub(crate) questions: Vec<(Time, BTreeMap<String, Value>)>,
}

impl Files {
    /// The movements before an instant.
    pub(crate) fn before(&self, at: Time) -> &[Movement] {
        &self.movements[..self.movements.partition_point(|movement| movement.at < at)]
    }

    /// Reads what happened before `end`.
    pub(crate) async fn read(folder: &Path, end: Time) -> Self {
        let repo = tempfile::tempdir().expect("a folder");
        let definitions = include_str!("files.yaml").replace("FOLDER", &folder.display().to_string());
        fs::write(repo.path().join("tidemark.yaml"), "project: files").expect("written");
        fs::write(repo.path().join("files.yaml"), &definitions).expect("written");
        run(repo.path(), &["ingest"], &repo.path().join("log")).done();
        let plans = tidemark_registry::parse([("files.yaml", &definitions)]).expect("definitions").sources;
        let tables = Tables { location: Location::local(repo.path().join("data/offline")), plans, end };
        Self {
            movements: tables.movements().await,
            weather: tables.weather().await,
            questions: tables.questions().await,
        }
    }
}

/// The files as tables, up to an end.
struct Tables {
    location: Location,
    plans: BTreeMap<String, Arc<SourcePlan>>,
    end: Time,
}

impl Tables {
    async fn movements(&self) -> Vec<Movement> {
        let mut movements = Vec::new();
        let flight = ["event_time", "tailnum", "flight_id", "carrier", "origin", "dest"];
        let departure = [&flight[..], &["dep_delay", "distance"]].concat();
        self.each("departures", &departure, |row| {
            let [at, plane, flight @ .., delay, distance] = row else { panic!("{row:?}") };
            let of = [&[Value::string("departure")], flight, &[delay.clone(), distance.clone(), Value::Null]];
            movements.push(Movement::new(at, plane, &of.concat()));
        })
        .await;
        let arrival = [&flight[..], &["arr_delay", "air_time"]].concat();
        self.each("arrivals", &arrival, |row| {
            let [at, plane, flight @ .., delay, air_time] = row else { panic!("{row:?}") };
            let of = [&[Value::string("arrival")], flight, &[delay.clone(), Value::Null, air_time.clone()]];
            movements.push(Movement::new(at, plane, &of.concat()));
        })
        .await;
        movements.sort_by_key(|movement| movement.at);
        movements
    }

    async fn weather(&self) -> Vec<(Time, String)> {
        let columns = ["event_time", "origin", "temp", "humid", "wind_speed", "precip", "visib", "pressure"];
        let mut weather = Vec::new();
        self.each("weather", &columns, |row| weather.push((time(&row[0]), object(&columns, row)))).await;
        weather.sort_by_key(|(at, _)| *at);
        weather
    }

    async fn questions(&self) -> Vec<(Time, BTreeMap<String, Value>)> {
        let columns = ["label_time", "carrier", "tailnum", "origin", "dest"];
        let mut questions = Vec::new();
        self.each("labels", &columns, |row| {
            let keys = columns[1..].iter().zip(&row[1..]);
            let keys = keys.map(|(name, value)| ((*name).to_owned(), value.clone()));
            questions.push((time(&row[0]), keys.collect()));
        })
        .await;
        questions.sort_by_key(|(at, _)| *at);
        questions
    }

    /// The rows in time, by their first column.
    async fn each(&self, source: &str, columns: &[&str], mut row: impl FnMut(&[Value])) {
        let in_time = |values: &[Value]| {
            if time(&values[0]) < self.end {
                row(values);
            }
        };
        each_row(&self.location, &self.plans[source], columns, in_time).await;
    }
}

/// Every movement of a table of events, with its partition and offset.
pub(crate) async fn movements(location: &Location, source: &SourcePlan) -> Vec<((i64, i64), Movement)> {
    let mut movements = Vec::new();
    let columns = [&["event_time", "tailnum", "_log", "_offset"][..], &FIELDS].concat();
    each_row(location, source, &columns, |row| {
        let [at, plane, Value::Int64(partition), Value::Int64(offset), fields @ ..] = row else {
            panic!("{row:?}")
        };
        movements.push(((*partition, *offset), Movement::new(at, plane, fields)));
    })
    .await;
    movements
}

async fn each_row(location: &Location, source: &SourcePlan, columns: &[&str], mut row: impl FnMut(&[Value])) {
    let table = EventTable::open(location, source).await.expect("a table");
    let mut batches = table.scan(columns, &Positions::new(), table.positions()).expect("its columns");
    while let Some(batch) = batches.try_next().await.expect("rows") {
        // The kernel knows no narrower type.
        let wide = |column: &ArrayRef| match column.data_type() {
            DataType::Int32 => cast(column, &DataType::Int64).expect("wide enough"),
            _ => Arc::clone(column),
        };
        let columns: Vec<ArrayRef> = batch.columns().iter().map(wide).collect();
        for index in 0..batch.num_rows() {
            let values = columns.iter().map(|column| value_at(column, index));
            row(&values.collect::<Vec<_>>());
        }
    }
}

fn time(value: &Value) -> Time {
    let Value::Timestamp(time) = value else { panic!("{value:?} is no time") };
    *time
}

/// An object in JSON of what is not null.
fn object(names: &[&str], values: &[Value]) -> String {
    let members = names.iter().zip(values).filter(|(_, value)| !value.is_null());
    let members = members.map(|(name, value)| ((*name).to_owned(), json(value)));
    Json::Object(members.collect::<Map<_, _>>()).to_string()
}

fn json(value: &Value) -> Json {
    match value {
        Value::Int64(number) => (*number).into(),
        Value::Float64(number) => (*number).into(),
        Value::String(text) => (**text).into(),
        Value::Timestamp(time) => time.to_string().into(),
        other => panic!("no file has {other:?}"),
    }
}
