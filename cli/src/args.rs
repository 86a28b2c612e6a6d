//! The arguments of the command line.

use std::net::SocketAddr;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};

use clap::{Args, Parser, Subcommand, ValueEnum, value_parser};
use tidemark_ingest::files::pattern_in;
use tidemark_kernel::time::Zone;
use tidemark_kernel::value::Unit;
use tidemark_kernel::{Partition, Position, PositionRange, Span, Time, Visibility};

/// A streaming feature store: the value a model is served and the value it was trained on are the same bits.
#[derive(Debug, Parser)]
#[command(name = "tidemark", version, propagate_version = true, after_help = FIRST_STEPS, arg_required_else_help = true)]
pub(crate) struct Arguments {
    #[command(flatten)]
    pub(crate) global: Global,
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// The arguments of every command.
#[derive(Args, Clone, Debug)]
pub(crate) struct Global {
    /// The feature repo [default: the nearest folder from here upwards that has a tidemark.yaml]
    #[arg(long, global = true, value_name = "DIR")]
    pub(crate) repo: Option<PathBuf>,
    /// The format of results on stdout; progress and messages go to stderr
    #[arg(long, global = true, value_enum, default_value_t)]
    pub(crate) format: Format,
}

/// The format of results.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    /// Tables to read
    #[default]
    Text,
    /// One JSON document
    Json,
}

const FIRST_STEPS: &str = "\
First steps:
  tidemark demo                    a month of payments, served, trained on, compared bit by bit
  tidemark init shop && cd shop    start a repo of your own
  tidemark check                   what is wrong with the definitions, and where
  tidemark dev                     run it all in one process, and edit while it runs

With Kafka and Redis:
  tidemark ingest                  read the topics, as many processes as you like
  tidemark serve                   answer lookups from Redis

Exit codes: 0 done, 1 something you can fix, 2 wrong usage, 3 anything else";

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Show it all on generated payments: ingest, look up, train, compare
    #[command(after_help = "\
Examples:
  tidemark demo                            a month of payments into ./tidemark-demo
  tidemark demo --events 20000 --seed 7    fewer, and others
  cd tidemark-demo && tidemark dev         keep it running
  tidemark demo --kafka localhost:9092 --redis redis://localhost:6379
                                           the same through a topic, into Redis
  tidemark demo --kafka localhost:9092 --live 5
                                           only produce: 5 payments a second, until stopped")]
    Demo(Demo),
    /// Write an example repo into an empty folder
    #[command(after_help = "\
Example:
  tidemark init shop && cd shop && tidemark check")]
    Init(Init),
    /// Report every problem of the definitions, with its place
    #[command(after_help = "\
Examples:
  tidemark check
  tidemark check --format json | jq '.problems[] | .file, .line, .message'")]
    Check,
    /// Print the JSON Schema of the definition files, or of tidemark.yaml, for editors
    #[command(after_help = "\
Examples:
  tidemark schema definitions > definitions.schema.json
  tidemark schema project > project.schema.json

An editor with the YAML language server (VS Code: the extension YAML by Red Hat) completes and checks keys in a
file that begins with the line

  # yaml-language-server: $schema=definitions.schema.json

where the path of the schema starts at the folder of the file.")]
    Schema(Schema),
    /// Make the definitions the ones that run, and backfill new or changed views from history
    #[command(after_help = "\
Examples:
  tidemark apply            shows what changes, records it, backfills the views it touches
  tidemark apply --yes      also where a service answers less than before, without asking

Where the definitions take away a service, or a value of one, or change its type, programs that read it
fail at once. In a terminal it asks first; elsewhere it is refused without --yes.")]
    Apply(Apply),
    /// Run everything in one process: take in files, topics and pushed events, answer lookups, reload definitions
    #[command(after_help = "\
Examples:
  tidemark dev
  tidemark dev --http 127.0.0.1:8080 --grpc 127.0.0.1:0    port 0 takes any free one
  curl -X POST localhost:6567/v1/sources/payments/events -d '{\"user_id\": 7, …}'
  curl -X POST localhost:6567/v1/services/fraud/lookup -d '{\"rows\": [{\"user_id\": 7, …}]}'")]
    Dev(Dev),
    /// Take in events from files and topics, each exactly once
    #[command(after_help = "\
Examples:
  tidemark ingest                                             every feed of the repo
  tidemark ingest --from january.parquet --source payments    these files
  tidemark ingest --from 'data/*.csv' 'more/*.jsonl' --source payments
  tidemark ingest --from lake --source payments               all files in a folder, at any depth
  tidemark ingest --until-idle                                what there is, then end
  tidemark ingest --source payments --member worker-1 --http 0.0.0.0:8080 --log json
  tidemark ingest --source payments --from january.csv --replace    it was corrected
  tidemark ingest --source payments --forget january.csv            it should never have come in

A file is known by its content: seen again, under any name, it is skipped. A file that was taken in before
with other content is refused until you say what it is (--replace, --append, --as-new). Killed at any moment
and started again, an ingest goes on where it was. Records that are no events are kept as dead letters, and
the reasons are printed. The exit code is 1 where no row of a file, or with --until-idle no record at
all, was an event. A folder named `country=DE` is a column `country` of its files.

Where a source has a `kafka` feed, it goes on reading until it is stopped (Ctrl-C, SIGTERM). Any number
of processes may share a topic: start the same command again, elsewhere, on the same data and Redis.
--http answers /healthz (the process runs), /readyz (every source is read; else 503 and why) and /metrics.")]
    Ingest(Ingest),
    /// Answer lookups from Redis, while other processes take in events
    #[command(after_help = "\
Examples:
  tidemark serve
  tidemark serve --http 0.0.0.0:6567 --grpc 0.0.0.0:6566 --log json
  curl -X POST localhost:6567/v1/services/fraud/lookup -d '{\"rows\": [{\"user_id\": 7, …}]}'

It only reads: /readyz says 503 and why until every view is live as it was applied.
The embedded store belongs to one process: there, `tidemark dev` answers.")]
    Serve(Serve),
    /// Ask for the features of an entity, now or at an instant
    #[command(after_help = "\
Examples:
  tidemark lookup fraud user_id=7 merchant_id=3 card_id=c-7-1 amount=12.5
  tidemark lookup fraud user_id=7 merchant_id=null card_id=c-7-1 amount=1 --at 2026-11-20T08:00:00Z
  tidemark lookup fraud --rows rows.jsonl --format json     one object of values on each line

Values are read as the types that the service declares; null is no value. The online store is opened for
each call: programs ask the HTTP or gRPC port of `tidemark dev` or `tidemark serve`.")]
    Lookup(Lookup),
    /// Build a training set: the value of each feature at each label's instant
    #[command(after_help = "\
Examples:
  tidemark train fraud --labels labels.csv --time at_time --out training.parquet
  tidemark train fraud --labels labels.csv --time ts --key user_id=customer --status --out out.parquet
  tidemark train fraud --labels 'labels/day=2026-*/*.parquet' --time epoch --unit s --out out.parquet
  tidemark train fraud --labels till.csv --time sold_at --zone Europe/Berlin --out out.parquet
  tidemark train fraud --labels served.csv --time at --visibility as_served --token token --out o.parquet

Every label row comes out once, in its order, with the features behind its own columns. Files of a folder
are read in order of their paths; a folder named `day=2026-11-20` is a column `day` of its files.")]
    Train(Train),
    /// Rebuild every state from history and compare it with the stored one, byte by byte
    #[command(after_help = "\
Examples:
  tidemark verify
  tidemark verify --sample 1000      only so many entities of each view

Exits with 1 where anything differs, and names the entity and the view.")]
    Verify(Verify),
    /// Run the scenarios of the repo: Markdown files with a table of events and what to expect
    #[command(after_help = "\
Examples:
  tidemark test                            every tests/**/*.md
  tidemark test burst                      those whose path contains `burst`
  UPDATE_EXPECT=1 tidemark test            write what is answered into the files")]
    Test(Test),
    /// Show the positions, sizes and problems of every source and view
    #[command(after_help = "\
Examples:
  tidemark status
  tidemark status --files            with the files that were taken in
  tidemark status --exact            with what views hold counted, however long it takes
  tidemark status --format json | jq '.sources[].partitions | map_values(.lag)'

What views hold is estimated where they hold much, as `~` and `estimated` in the JSON say. A view with `few`
entities has too few entities for an estimate, and 0 in the JSON.")]
    Status(Status),
    /// List the records that were rejected, by reason, or retry them after a fix
    #[command(after_help = "\
Examples:
  tidemark dead-letters                              why, how many, where from
  tidemark dead-letters --source payments --format json | jq '.sources[].reasons'
  tidemark apply && tidemark dead-letters --retry    after a fix of the definitions

With --retry, each record that is an event by now is taken in once, as a new row of its source, and leaves
the dead letters; one that is rejected again stays. Stopped at any moment, the next command of the source
goes on. While `tidemark dev` runs, stop it first.")]
    DeadLetters(DeadLetters),
    /// Merge the small files of the event tables, and remove those that are no longer needed
    #[command(after_help = "\
Examples:
  tidemark compact
  tidemark compact --source payments --vacuum-older-than none    merge, remove nothing

No row changes, nor its order. It may run while others read and write the tables; a file that was merged
into another stays for those who still read it, until it is older than --vacuum-older-than.")]
    Compact(Compact),
}

impl Command {
    /// The file that the command reads rows from.
    pub(crate) fn rows(&self) -> Option<&Path> {
        match self {
            Self::Lookup(Lookup { rows, .. }) => rows.as_deref(),
            _ => None,
        }
    }

    /// Has relative paths begin at `folder`.
    pub(crate) fn start_paths_at(&mut self, folder: &Path) {
        if let Self::Ingest(Ingest { from, forget, give_up, .. }) = self {
            from.iter_mut().for_each(|pattern| *pattern = pattern_in(folder, pattern));
            forget.iter_mut().chain(give_up).for_each(|path| *path = folder.join(&*path));
        }
    }

    /// The format of its logs, where it is a command that runs until it is stopped.
    pub(crate) const fn logs(&self) -> Option<LogForm> {
        match self {
            Self::Ingest(Ingest { logs, .. })
            | Self::Serve(Serve { logs, .. })
            | Self::Dev(Dev { logs, .. }) => Some(logs.log),
            _ => None,
        }
    }
}

/// Logging of the commands that keep running.
#[derive(Args, Clone, Copy, Debug)]
pub(crate) struct Logs {
    /// The format of logs on stderr. `TIDEMARK_LOG` sets the level, such as `debug` or `warn,tidemark_ingest=debug`
    #[arg(long, value_name = "FORM", value_enum, default_value_t)]
    pub(crate) log: LogForm,
}

/// The format of logs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum LogForm {
    /// Lines of text
    #[default]
    Text,
    /// One JSON object a line
    Json,
}

/// The addresses on which lookups are answered.
#[derive(Args, Clone, Copy, Debug)]
pub(crate) struct Listen {
    /// The address of HTTP [default: 127.0.0.1 and the port in tidemark.yaml, 6567]
    #[arg(long, value_name = "ADDRESS")]
    pub(crate) http: Option<SocketAddr>,
    /// The address of gRPC [default: 127.0.0.1 and the port in tidemark.yaml, 6566]
    #[arg(long, value_name = "ADDRESS")]
    pub(crate) grpc: Option<SocketAddr>,
}

impl From<Listen> for tidemark_engine::serve::Listen {
    fn from(Listen { http, grpc }: Listen) -> Self {
        Self { http, grpc }
    }
}

/// The default number of payments of a demo: about as many as the default shape gives.
pub(crate) const USUAL_EVENTS: u32 = 300_000;

#[derive(Args, Debug)]
pub(crate) struct Demo {
    /// Where to write it; an earlier demo there is replaced
    #[arg(long, value_name = "DIR", default_value = "tidemark-demo")]
    pub(crate) dir: PathBuf,
    /// About how many payments to generate; with --live, exactly [default: 300000; with --live, no end]
    #[arg(long, value_name = "N", value_parser = value_parser!(u32).range(1..))]
    pub(crate) events: Option<u32>,
    /// Equal seeds give equal payments [default: 1; with --live, another one each time]
    #[arg(long, value_name = "S")]
    pub(crate) seed: Option<u64>,
    /// Produce them into a new topic of these brokers, and read them from there
    #[arg(long, value_name = "HOST:PORT")]
    pub(crate) kafka: Option<String>,
    /// Keep the features in this Redis, under keys of their own
    #[arg(long, value_name = "URL")]
    pub(crate) redis: Option<String>,
    /// With --kafka: only produce so many payments a second, made now, for a repo that reads them from there
    #[arg(long, value_name = "PER_SECOND", requires = "kafka", conflicts_with_all = ["dir", "redis"], value_parser = value_parser!(u32).range(1..=1000))]
    pub(crate) live: Option<u32>,
    /// With --live: into this topic, which is created where it is missing [default: payments]
    #[arg(long, value_name = "NAME", requires = "live")]
    pub(crate) topic: Option<String>,
}

#[derive(Args, Debug)]
pub(crate) struct Init {
    /// The folder, new or empty; the project is named after it
    #[arg(value_name = "DIR")]
    pub(crate) dir: PathBuf,
}

#[derive(Args, Clone, Copy, Debug)]
pub(crate) struct Schema {
    /// Which files it is for
    #[arg(value_name = "FILES", value_enum, default_value_t)]
    pub(crate) files: SchemaFiles,
}

/// Files that have a schema.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum SchemaFiles {
    /// Those with entities, sources, views and services
    #[default]
    Definitions,
    /// tidemark.yaml
    Project,
}

#[derive(Args, Clone, Copy, Debug)]
pub(crate) struct Dev {
    #[command(flatten)]
    pub(crate) listen: Listen,
    #[command(flatten)]
    pub(crate) logs: Logs,
}

#[derive(Args, Debug)]
pub(crate) struct Ingest {
    /// Files, folders or patterns: Parquet, CSV or TSV with a header, JSON lines, text also .gz or .zst [default: the feeds of the
    /// repo]
    #[arg(long, value_name = "FILE", num_args = 1.., requires = "source")]
    pub(crate) from: Vec<String>,
    /// Only this source and its views; with --from, the one that the files hold events of
    #[arg(long, value_name = "NAME")]
    pub(crate) source: Option<String>,
    /// End when everything there is was taken in and committed; files always do
    #[arg(long)]
    pub(crate) until_idle: bool,
    /// Go on where Kafka deleted records before they were read, and note each gap in `dead_letters`
    #[arg(long)]
    pub(crate) skip_lost: bool,
    /// With --from: where a file was taken in before with other content, take those rows back and read it again
    #[arg(long, requires = "from", conflicts_with_all = ["append", "as_new"])]
    pub(crate) replace: bool,
    /// With --from: where a CSV or JSON lines file has grown, keep its rows and take in the ones behind them
    #[arg(long, requires = "from", conflicts_with = "as_new")]
    pub(crate) append: bool,
    /// With --from: where a file was taken in before with other content, keep those rows and count it as a new file
    #[arg(long, requires = "from")]
    pub(crate) as_new: bool,
    /// Take back all rows of these files: delete them from the history and from every view
    #[arg(long, value_name = "FILE", num_args = 1.., requires = "source", conflicts_with_all = ["from", "until_idle", "http"])]
    pub(crate) forget: Vec<PathBuf>,
    /// Take back these records, TO not included, such as 100..120
    #[arg(long, value_name = "FROM..TO", requires = "source", value_parser = offsets, conflicts_with_all = ["from", "forget", "until_idle", "http"])]
    pub(crate) forget_offsets: Option<PositionRange>,
    /// With --forget-offsets: of which partition of the source, `file`, `push` or a number [default: file]
    #[arg(long, value_name = "PARTITION", requires = "forget_offsets", value_parser = partition)]
    pub(crate) partition: Option<Partition>,
    /// Give up these partly ingested files: rows already ingested stay, and a dead letter records the rest
    #[arg(long, value_name = "FILE", num_args = 1..)]
    pub(crate) give_up: Vec<PathBuf>,
    /// A stable name of this process in the consumer group: restarted soon, it keeps its partitions
    #[arg(long, value_name = "NAME")]
    pub(crate) member: Option<String>,
    /// The address of liveness, readiness and metrics [default: none]
    #[arg(long, value_name = "ADDRESS")]
    pub(crate) http: Option<SocketAddr>,
    #[command(flatten)]
    pub(crate) logs: Logs,
}

#[derive(Args, Clone, Copy, Debug)]
pub(crate) struct Apply {
    /// Apply it without asking where services answer less than before
    #[arg(long)]
    pub(crate) yes: bool,
}

#[derive(Args, Clone, Copy, Debug)]
pub(crate) struct Serve {
    #[command(flatten)]
    pub(crate) listen: Listen,
    #[command(flatten)]
    pub(crate) logs: Logs,
}

#[derive(Args, Debug)]
pub(crate) struct DeadLetters {
    /// Only those of this source
    #[arg(long, value_name = "NAME")]
    pub(crate) source: Option<String>,
    /// Retry them under the present definition of the source
    #[arg(long)]
    pub(crate) retry: bool,
}

#[derive(Args, Debug)]
pub(crate) struct Compact {
    /// Only the tables of this source
    #[arg(long, value_name = "NAME")]
    pub(crate) source: Option<String>,
    /// Remove files that crashes left and that were merged into others, if they are older: `24h`, `7d`, `none`
    #[arg(long, value_name = "SPAN", default_value = "24h", value_parser = age)]
    pub(crate) vacuum_older_than: Age,
}

/// How old something must be; none where nothing is old enough.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Age(pub(crate) Option<Span>);

#[derive(Args, Debug)]
pub(crate) struct Lookup {
    /// The service to ask
    #[arg(value_name = "SERVICE")]
    pub(crate) service: String,
    /// A value for each key and request field of the service
    #[arg(value_name = "KEY=VALUE", value_parser = pair)]
    pub(crate) values: Vec<(String, String)>,
    /// The instant to ask about, such as 2026-11-20T08:00:00Z [default: now]
    #[arg(long, value_name = "TIME", value_parser = time)]
    pub(crate) at: Option<Time>,
    /// Many rows instead: a file with one JSON object of values on each line, `-` for stdin
    #[arg(long, value_name = "FILE", conflicts_with = "values")]
    pub(crate) rows: Option<PathBuf>,
}

#[derive(Args, Debug)]
pub(crate) struct Train {
    /// The service whose features are wanted
    #[arg(value_name = "SERVICE")]
    pub(crate) service: String,
    /// The labels: a file, a folder of files or a pattern of either; Parquet, CSV or JSON lines, also as .gz and .zst
    #[arg(long, value_name = "PATH")]
    pub(crate) labels: PathBuf,
    /// The label column with each label's instant
    #[arg(long, value_name = "COLUMN")]
    pub(crate) time: String,
    /// The unit of label times that are numbers since 1970: s, ms, us or ns
    #[arg(long, value_name = "UNIT", value_parser = unit)]
    pub(crate) unit: Option<Unit>,
    /// The zone of times in label columns that name none, such as Europe/Berlin [default: UTC]
    #[arg(long, value_name = "ZONE", value_parser = zone)]
    pub(crate) zone: Option<Zone>,
    /// The training set to write, .parquet or .csv
    #[arg(long, value_name = "FILE")]
    pub(crate) out: PathBuf,
    /// Which events a label sees: as_known (arrived by then), event_time (with hindsight), as_served (what the
    /// lookup of its token saw)
    #[arg(long, value_name = "WHICH", default_value_t, hide_default_value = true, value_parser = visibility)]
    pub(crate) visibility: Visibility,
    /// The label column with the lookups' tokens, for as_served
    #[arg(long, value_name = "COLUMN")]
    pub(crate) token: Option<String>,
    /// The label column of a key or request field, where it has another name
    #[arg(long = "key", value_name = "KEY=COLUMN", value_parser = pair)]
    pub(crate) keys: Vec<(String, String)>,
    /// Add a status for each feature and the newest event time for each view
    #[arg(long)]
    pub(crate) status: bool,
}

#[derive(Args, Clone, Copy, Debug)]
pub(crate) struct Verify {
    /// At most so many entities of each view, drawn at random; the rest of the store is not read [default: all]
    #[arg(long, value_name = "N")]
    pub(crate) sample: Option<NonZeroUsize>,
}

#[derive(Args, Clone, Copy, Debug)]
pub(crate) struct Status {
    /// Also the files that were taken in, with their first offsets and rows, and what was taken back of them
    #[arg(long)]
    pub(crate) files: bool,
    /// Count what views hold instead of estimating it, and read how far each view is; takes time for all that is stored
    #[arg(long)]
    pub(crate) exact: bool,
}

#[derive(Args, Debug)]
pub(crate) struct Test {
    /// Only scenarios whose path contains this
    #[arg(value_name = "FILTER")]
    pub(crate) filter: Option<String>,
}

fn pair(text: &str) -> Result<(String, String), String> {
    let (name, value) = text.split_once('=').ok_or("expected name=value")?;
    Ok((name.to_owned(), value.to_owned()))
}

fn time(text: &str) -> Result<Time, String> {
    Time::parse(text)
        .ok_or_else(|| "expected an instant in RFC 3339, such as 2026-11-20T08:00:00Z".to_owned())
}

fn offsets(text: &str) -> Result<PositionRange, String> {
    let position = |text: &str| text.parse().ok().map(Position);
    let range = text.split_once("..");
    let range =
        range.and_then(|(from, to)| Some(PositionRange { start: position(from)?, end: position(to)? }));
    range
        .filter(|range| Position::START <= range.start && range.start < range.end)
        .ok_or_else(|| "expected a range of offsets with the end behind it, such as 100..120".to_owned())
}

fn partition(text: &str) -> Result<Partition, String> {
    match text {
        "file" => Ok(Partition::FILE),
        "push" => Ok(Partition::PUSH),
        number => match number.parse() {
            Ok(partition @ 0..) => Ok(Partition(partition)),
            _ => Err("expected `file`, `push`, or the number of a partition of the topic".to_owned()),
        },
    }
}

fn age(text: &str) -> Result<Age, String> {
    if text == "none" {
        return Ok(Age(None));
    }
    let span = Span::parse(text).ok_or("expected a length of time, such as 24h or 7d, or `none`")?;
    Ok(Age(Some(span)))
}

fn unit(text: &str) -> Result<Unit, String> {
    let unit = Unit::NAMED.iter().find(|(name, _)| *name == text).map(|(_, unit)| *unit);
    unit.ok_or_else(|| "expected s, ms, us or ns".to_owned())
}

fn zone(text: &str) -> Result<Zone, String> {
    let none = || "expected a time zone of the IANA database, such as Europe/Berlin or UTC".to_owned();
    Zone::named(text).ok_or_else(none)
}

fn visibility(text: &str) -> Result<Visibility, String> {
    text.parse()
}
