//! The status of sources and views: positions, sizes and dead letters, read from the stores themselves.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use futures::TryStreamExt;
use tidemark_kernel::value::arrow::value_at;
use tidemark_kernel::{Explain, FeaturePlan, Offset, Partition, Position, Span, Time};
use tidemark_offline::table::{PartitionStatistics, layout};
use tidemark_offline::{OfflineTable, TableKind};
use tidemark_store::{Generation, OnlineStore, Sizes, StoreError};

use crate::backfill;
use crate::decode::RETRACTED;
use crate::error::IngestError;
use crate::feed::SourceFeed;
use crate::health::Ahead;
use crate::journal::files::KnownFile;
use crate::pipeline::Shared;
use crate::pipeline::arrivals::newest_ahead;
use crate::tally::FEW;

/// The period over which the rate of a partition is measured.
const RECENTLY: Span = Span::from_secs(60);

/// What a status contains whose cost grows with what is stored. Without it a status takes about a second, whatever is stored.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Detail {
    /// The files that were taken in: [`SourceStatus::files`].
    pub files: bool,
    /// For each view its positions, and exact sizes, which are only estimated without this.
    pub exact: bool,
}

impl Detail {
    /// Everything.
    pub const ALL: Self = Self { files: true, exact: true };
}

/// The status of every source and view.
#[derive(Clone, Debug, PartialEq)]
pub struct Status {
    /// Every source, by name.
    pub sources: Vec<SourceStatus>,
    /// Every view, as declared.
    pub views: Vec<ViewStatus>,
}

/// The status of a source.
#[derive(Clone, Debug, PartialEq)]
pub struct SourceStatus {
    /// Its name.
    pub source: String,
    /// Its partitions, those without any record left out.
    pub partitions: BTreeMap<Partition, PartitionStatus>,
    /// Why it is not known where the partitions of its topic end, if it is not, and what to do about it.
    pub unreachable: Option<String>,
    /// What is rejected of its records, where that is most of them.
    pub rejecting: Option<Rejecting>,
    /// The newest arrival among its events, where that is ahead of the clock of this process by more than the source's
    /// `max_arrival_ahead`.
    pub ahead: Option<Ahead>,
    /// The files that were taken in, in the order of their rows in the file partition. Empty where this process keeps no
    /// journal, and where they were not [asked for](Detail::files).
    pub files: Vec<FileStatus>,
    /// The files of its feed that were left out when it was last looked at, by absolute path, and why.
    pub refused: Vec<(PathBuf, String)>,
}

/// A file that was taken in, or the end of one that has grown.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileStatus {
    /// Its absolute path when it was taken in.
    pub path: PathBuf,
    /// Where its first row is in the file partition.
    pub first: Offset,
    /// How many rows were taken in, dead letters included; none until it was read to its end.
    pub rows: Option<u64>,
    /// How many of them were taken back.
    pub taken_back: u64,
    /// How many rows of the file come before these: they were taken in earlier.
    pub before: u64,
}

impl FileStatus {
    /// The files among the entries of a file partition.
    fn all(entries: &[KnownFile]) -> Vec<Self> {
        let (files, retractions): (Vec<_>, Vec<_>) =
            entries.iter().partition(|entry| entry.retracts.is_none());
        let retractions: Vec<KnownFile> = retractions.into_iter().cloned().collect();
        let status = |file: &KnownFile| Self {
            path: file.path.clone(),
            first: file.first,
            rows: file.rows.map(i64::unsigned_abs),
            taken_back: file.records().retracted(&retractions).unsigned_abs(),
            before: file.before.unsigned_abs(),
        };
        files.into_iter().map(status).collect()
    }
}

/// Records of which most are no events: those committed over the last minute, or, where no record of the source ever was
/// an event, all of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rejecting {
    /// How many of them are events.
    pub events: u64,
    /// How many of them are dead letters.
    pub dead_letters: u64,
    /// The reason of the latest dead letter, of the partition with the most of them.
    pub reason: String,
    /// Where that dead letter came from.
    pub place: String,
}

/// The positions of a partition of a source in the event tables.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct PartitionStatus {
    /// The next record to commit.
    pub position: Position,
    /// The next record that will be appended, where that is known.
    pub end: Option<Position>,
    /// How many events are in.
    pub events: u64,
    /// How many dead letters are in.
    pub dead_letters: u64,
    /// The greatest event time.
    pub newest: Option<Time>,
    /// Events committed per second, over the last minute.
    pub rate: f64,
}

impl PartitionStatus {
    /// How many records are still to be committed, where that is known.
    #[must_use]
    pub fn lag(&self) -> Option<u64> {
        self.end.map(|end| end.0.saturating_sub(self.position.0).max(0).unsigned_abs())
    }
}

/// The status of a view in the online store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ViewStatus {
    /// Its name.
    pub view: String,
    /// The name of its source.
    pub source: String,
    /// The generation that answers lookups, if there is one.
    pub live: Option<Generation>,
    /// Whether the live generation was made by the present definition of the view.
    pub current: bool,
    /// Whether the online store has lost that generation or a part of it. It is backfilled under another number by the next
    /// worker that looks; until then `positions` and `sizes` are empty.
    pub lost: bool,
    /// For each partition, the position that all of its buckets have reached; none where they were not
    /// [asked for](Detail::exact).
    pub positions: Option<BTreeMap<Partition, Position>>,
    /// How much it holds.
    pub sizes: Sizes,
}

impl Shared {
    /// The status of a source that is read under this version. The worker that takes it in is neither asked nor
    /// held up.
    pub(crate) async fn status(
        &self,
        feed: &SourceFeed,
        detail: Detail,
    ) -> Result<SourceStatus, IngestError> {
        let source = &feed.source;
        let mut partitions: BTreeMap<Partition, PartitionStatus> = BTreeMap::new();
        let (ends, unreachable) = match self.ends_of_partitions(feed).await {
            Ok(ends) => (ends, None),
            // Brokers that are away hide nothing else.
            Err(error) => (self.ends(&source.name)?, Some(error.explained())),
        };
        for (partition, end) in ends {
            if end > Position::START {
                partitions.entry(partition).or_default().end = end.bounded();
            }
        }
        let now = self.host.now();
        let since = now.minus(RECENTLY);
        let events = self.offline.open(source, TableKind::Events).await?;
        let dead_letters = self.offline.open(source, TableKind::DeadLetters).await?;
        for (partition, position) in events.positions() {
            partitions.entry(*partition).or_default().position = *position;
        }
        let statistics = events.partition_statistics().await?;
        for (partition, held) in &statistics {
            let status = partitions.entry(*partition).or_default();
            (status.events, status.newest) = (held.rows, held.newest_event);
        }
        let ahead = newest_ahead(feed, &*events, &statistics, now).await?;
        let held = dead_letters.partition_statistics().await?;
        for (partition, held) in &held {
            partitions.entry(*partition).or_default().dead_letters = held.rows;
        }
        let recent = events.recent(since).await?;
        for (partition, rows) in &recent {
            partitions.entry(*partition).or_default().rate = *rows as f64 / RECENTLY.millis() as f64 * 1000.0;
        }
        let all = |of: fn(&PartitionStatus) -> u64| partitions.values().map(of).sum::<u64>();
        let all = (all(|partition| partition.events), all(|partition| partition.dead_letters));
        let rejecting = rejecting(&*dead_letters, since, recent.values().sum(), all, &held).await?;
        let files = match detail.files {
            true => FileStatus::all(&self.files(&source.name).await?),
            false => Vec::new(),
        };
        let refused = self.refused(&source.name).await?;
        Ok(SourceStatus {
            source: source.name.clone(),
            partitions,
            unreachable,
            rejecting,
            ahead,
            files,
            refused,
        })
    }
}

/// What is rejected: `recent` events were committed since `since`, and there are so many events and dead letters in `all`.
async fn rejecting(
    table: &dyn OfflineTable,
    since: Time,
    recent: u64,
    all: (u64, u64),
    held: &BTreeMap<Partition, PartitionStatistics>,
) -> Result<Option<Rejecting>, IngestError> {
    let letters = table.recent(since).await?;
    let (events, dead_letters) = match (recent, letters.values().sum::<u64>()) {
        (events, dead_letters) if dead_letters >= FEW && dead_letters > events => (events, dead_letters),
        _ if all.0 == 0 && all.1 > 0 => all,
        _ => return Ok(None),
    };
    let most = letters.iter().max_by_key(|(_, rows)| **rows).map(|(partition, _)| *partition);
    let most =
        most.or_else(|| held.iter().max_by_key(|(_, held)| held.rows).map(|(partition, _)| *partition));
    let Some((partition, last)) = most.and_then(|partition| Some((partition, held.get(&partition)?.last)))
    else {
        return Ok(None);
    };
    let at = |position| BTreeMap::from([(partition, position)]);
    let columns = [layout::DETAIL, layout::PLACE, layout::REASON];
    let mut rows = table.scan(&columns, &at(Position(last)), &at(Position::after(last)))?;
    let Some(row) = rows.try_next().await? else { return Ok(None) };
    let text = |column| value_at(row.column(column), 0).to_string();
    if text(2) == RETRACTED {
        return Ok(None);
    }
    Ok(Some(Rejecting { events, dead_letters, reason: text(0), place: text(1) }))
}

/// The status of views in the online store, which is read once for all of them unless exact sizes are wanted.
pub(crate) async fn views(
    plans: &[Arc<FeaturePlan>],
    store: &dyn OnlineStore,
    detail: Detail,
) -> Result<Vec<ViewStatus>, IngestError> {
    let names: Vec<&str> = plans.iter().map(|plan| plan.view.as_str()).collect();
    let mut live = store.live_of(&names).await?;
    let generations: Vec<Generation> = live.iter().flatten().cloned().collect();
    let mut whole = store.are_whole(&generations).await?.into_iter();
    let mut lost = Vec::with_capacity(plans.len());
    for (view, live) in names.iter().zip(&mut live) {
        let is_lost = live.is_some() && whole.next() != Some(true) && !look_again(view, live, store).await?;
        lost.push(is_lost);
    }
    let of_whole = live.iter().zip(&lost).filter(|(_, lost)| !**lost);
    let held: Vec<Generation> = of_whole.filter_map(|(live, _)| live.clone()).collect();
    let mut held = self::held(&held, store, detail).await?.into_iter();
    let mut views = Vec::with_capacity(plans.len());
    for ((plan, live), lost) in plans.iter().zip(live).zip(lost) {
        let (positions, sizes) = match live.is_some() && !lost {
            true => held.next().unwrap_or_default(),
            false => Held::default(),
        };
        let current = live.as_ref().is_some_and(|live| backfill::is_of_plan(plan, live));
        let (view, source) = (plan.view.clone(), plan.source.clone());
        views.push(ViewStatus { view, source, live, current, lost, positions, sizes });
    }
    Ok(views)
}

/// The live generation of a view, of which a part was missing, may have been replaced and dropped in between. Brings the one
/// that is live now, and says whether it is whole; one that stays live is lost.
async fn look_again(
    view: &str,
    live: &mut Option<Generation>,
    store: &dyn OnlineStore,
) -> Result<bool, StoreError> {
    loop {
        let now = store.live(view).await?;
        if now == *live {
            return Ok(live.is_none());
        }
        *live = now;
        let Some(generation) = &*live else { return Ok(true) };
        if store.is_whole(generation).await? {
            return Ok(true);
        }
    }
}

/// The positions that all buckets have reached, where they are wanted, and sizes.
type Held = (Option<BTreeMap<Partition, Position>>, Sizes);

/// What each of these generations holds. One that is dropped meanwhile holds nothing.
async fn held(
    generations: &[Generation],
    store: &dyn OnlineStore,
    detail: Detail,
) -> Result<Vec<Held>, StoreError> {
    if !detail.exact {
        let sizes = store.estimate(generations).await?;
        return Ok(sizes.into_iter().map(|sizes| (None, sizes)).collect());
    }
    let mut all = Vec::with_capacity(generations.len());
    for generation in generations {
        let held = async { Ok((Some(reached(generation, store).await?), store.sizes(generation).await?)) };
        all.push(match held.await {
            Err(StoreError::Gone(_)) => Held::default(),
            held => held?,
        });
    }
    Ok(all)
}

/// For each partition that anything was applied of, the position that all buckets have reached.
async fn reached(
    generation: &Generation,
    store: &dyn OnlineStore,
) -> Result<BTreeMap<Partition, Position>, StoreError> {
    let positions = store.positions(generation).await?.into_iter();
    let lowest = positions.filter_map(|(partition, buckets)| Some((partition, *buckets.values().min()?)));
    let is_partition = |partition: &Partition| *partition != Partition::RETRACTIONS;
    Ok(lowest
        .filter(|(partition, position)| *position > Position::START && is_partition(partition))
        .collect())
}
