//! The contract of every online store: [`OnlineStore`] and the types of its calls.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use async_trait::async_trait;
pub use tidemark_host::Clock;
use tidemark_kernel::event::{Partition, Position};
use tidemark_kernel::key::EntityKey;
use tidemark_kernel::parts::{Rest, StateChange};
use tidemark_kernel::plan::Fingerprint;
use tidemark_kernel::retention::Retention;
use tidemark_kernel::time::Span;

use crate::error::StoreError;
use crate::sample::Lowest;
use crate::sweep::Sweep;

/// Into how many groups the entities of a view fall. A group is what a flush moves as a whole (in Redis: one hash
/// tag). The same for every generation: another number is another layout, backfilled again.
pub const BUCKETS: u16 = 16;

/// The online state of views: a contract for those who implement a store, and what
/// those who use one may rely on.
///
/// # What is kept
/// A view has generations, of which at most one is *live*. A [generation](Generation) holds, for each of the
/// [`BUCKETS`] buckets and each partition, one [`Position`], and for each entity and partition at most one state: bytes that the
/// store does not look into. An entity lies in bucket [`EntityKey::bucket`]`(BUCKETS)`, and so do its states for all
/// partitions. Generations share nothing.
///
/// A state is written in parts, so that a flush need not write all of a large one: a first part, which every write
/// gives, and others that have numbers, of which a write gives those that changed ([`StateChange`]). Any `i64` is a
/// number, any bytes are a part, also none. Every read gives the state in one piece: the first part, then the others by
/// ascending number. [`Sizes`] count it once.
///
/// # What is atomic
/// One bucket of one generation, and the live pointer of one view. [`flush`](Self::flush) checks the position, writes
/// the states and moves the position as one step for each [`BucketFlush`]; [`load`](Self::load) reads a bucket's
/// position and states as of one instant; [`lookup`](Self::lookup) reads all partitions of *one* entity as of one instant.
/// Nothing is asked across buckets, nor across the entities of a lookup.
///
/// # What is ordered
/// A read that starts after a write has returned sees it. Flushes of one call are applied in the order given, so
/// that one call may carry a bucket on in several steps.
///
/// # What is durable
/// What a call has returned survives the death of the process; in a durable store also the loss of power. A store may
/// nevertheless fall back to an older instant (a failover, a restored backup) provided that each *bucket* does so as
/// a whole, states and positions together: writers then find the older position and go on from there.
///
/// # Absence
/// An absent position is never 0: it means that the store does not know how far the bucket is, and only a backfill can
/// say. [`begin`](Self::begin) and [`add_partition`](Self::add_partition) create positions, [`flush`](Self::flush) moves them,
/// nothing else does. A generation that is not there, wholly or for the bucket asked for, is
/// [`StoreError::Gone`], never empty.
///
/// # Forgetting
/// A state says how long it is needed ([`NewState::retention`]). From [`Retention::expiry`] of its last write on, or of
/// the last one that asked to [renew](NewState::renew) it, a store may forget it, at any time or never; not before, not
/// because of what is written about another partition or entity, and not because a worker of another version wrote in between.
/// Positions are never forgotten.
///
/// A state is forgotten with all of its parts, and a write of any of them counts for all. A write that keeps parts of a
/// state that was forgotten is [`FlushOutcome::Incomplete`]: the parts that it does not give are lost to the store.
///
/// # Histories
/// The states of a source's views were made from one history: one `events` table, whose id moves with it.
/// [`claim_history`](Self::claim_history) records that id for the source, where none is recorded, and refuses any
/// other. So two deployments that name the same store never read each other's states as their own. A store that has
/// lost its data has lost the recorded id too, and the next worker that claims it backfills it.
///
/// # Lost replies
/// Every call may be repeated. If the reply to a flush is lost, or its future dropped, it may or may not have been
/// applied: the second try then answers [`FlushOutcome::At`] the position `to`, which means done. Equal position
/// means equal bytes, so there are no owners, epochs or leases: every writer at the stored position may write.
///
/// # Errors
/// Any method may fail with [`StoreError::InUse`], [`Newer`](StoreError::Newer), [`Corrupt`](StoreError::Corrupt),
/// [`CorruptState`](StoreError::CorruptState), [`CorruptEntity`](StoreError::CorruptEntity),
/// [`Full`](StoreError::Full), [`Unavailable`](StoreError::Unavailable), [`Evicts`](StoreError::Evicts),
/// [`Refused`](StoreError::Refused) or [`Io`](StoreError::Io); those that take a
/// generation with [`StoreError::Gone`]. A store never answers with bytes other than those it was given: damage it
/// notices is an error, and so is a flush of which only a part could be written (the part must not be visible). Damage
/// to one entity is an error of that entity alone where several are [looked up](Self::lookup).
#[async_trait]
pub trait OnlineStore: Send + Sync + fmt::Debug {
    /// The states of `keys` for `partition`, in the order of `keys`, with the bucket's position for that partition, all as of one
    /// instant. Use the states only if the position is your own.
    ///
    /// # Errors
    /// [`StoreError::Misplaced`] if a key lies in another bucket.
    async fn load(
        &self,
        generation: &Generation,
        bucket: u16,
        partition: Partition,
        keys: &[EntityKey],
    ) -> Result<Loaded, StoreError>;

    /// Applies each flush if the bucket's position for its partition is `from`, and if every state of which it keeps parts is
    /// stored; the outcomes follow the flushes. The position is checked first, then all states of the flush, and only
    /// then is anything of it written.
    ///
    /// A state that is given whole replaces what is stored ([`Rest::Removed`]), and a write of none deletes a state, each
    /// with all parts. [`Rest::Absent`] is the same where no other parts are stored. If there are some, although the
    /// caller says that there are none, later reads are unspecified.
    ///
    /// A flush with `from == to` is allowed: it writes states and moves nothing. A backfill uses it to bring a bucket's
    /// states in several pieces before the one that moves the position; a test uses it to plant a wrong state.
    ///
    /// # Errors
    /// [`StoreError::Misplaced`] if a key lies in another bucket, [`StoreError::Backwards`] if `to < from`; both
    /// before anything is written. After any other error each flush was either applied or not: ask again.
    async fn flush(
        &self,
        generation: &Generation,
        flushes: Vec<BucketFlush>,
    ) -> Result<Vec<FlushOutcome>, StoreError>;

    /// All states of each entity by ascending partition, in the order of `keys`; empty for an entity that has none.
    ///
    /// # Errors
    /// An entity whose states are damaged is an error in its place ([`StoreError::is_of_entity`]); the others are
    /// answered. What concerns the generation, the store or its server fails the call.
    async fn lookup(
        &self,
        generation: &Generation,
        keys: &[EntityKey],
    ) -> Result<Vec<EntityLookup>, StoreError>;

    /// Every position of a generation. A partition that lacks one of the [`BUCKETS`] buckets has lost it: the generation
    /// cannot be continued, drop it and backfill again.
    async fn positions(&self, generation: &Generation) -> Result<Positions, StoreError>;

    /// As [`positions`](Self::positions), for these partitions only. A worker reads few of the partitions of a large topic.
    async fn positions_of(
        &self,
        generation: &Generation,
        partitions: &[Partition],
    ) -> Result<Positions, StoreError> {
        let mut positions = self.positions(generation).await?;
        positions.retain(|partition, _| partitions.contains(partition));
        Ok(positions)
    }

    /// As [`positions_of`](Self::positions_of), for several generations, in their order; none for one that is
    /// [gone](StoreError::Gone).
    async fn positions_of_each(
        &self,
        generations: &[Generation],
        partitions: &[Partition],
    ) -> Result<Vec<Option<Positions>>, StoreError> {
        let mut all = Vec::with_capacity(generations.len());
        for generation in generations {
            all.push(match self.positions_of(generation, partitions).await {
                Err(StoreError::Gone(_)) => None,
                positions => Some(positions?),
            });
        }
        Ok(all)
    }

    /// Whether each of these generations is the live one of its view and has every bucket at exactly these positions, in
    /// their order. A worker calls this at every tick for all views that are idle: where it is false,
    /// [`live`](Self::live) and [`positions_of`](Self::positions_of) show why.
    async fn are_live_at(
        &self,
        generations: &[Generation],
        positions: &BTreeMap<Partition, Position>,
    ) -> Result<Vec<bool>, StoreError> {
        let views: Vec<&str> = generations.iter().map(|generation| generation.view.as_str()).collect();
        let partitions: Vec<Partition> = positions.keys().copied().collect();
        let live = self.live_of(&views).await?;
        let stored = self.positions_of_each(generations, &partitions).await?;
        let mut found = Vec::with_capacity(generations.len());
        for ((generation, live), stored) in generations.iter().zip(live).zip(stored) {
            let is_there = stored.is_some_and(|stored| is_everywhere_at(&stored, positions));
            found.push(is_there && live.as_ref() == Some(generation));
        }
        Ok(found)
    }

    /// Makes sure that the states of a source's views are those of this history, and records the history where none is
    /// recorded. Of several concurrent calls the first wins.
    ///
    /// # Errors
    /// [`StoreError::OtherHistory`] if another is recorded.
    async fn claim_history(&self, source: &str, history: &str) -> Result<(), StoreError>;

    /// The same check for readers: it records nothing, and succeeds where nothing is recorded.
    ///
    /// # Errors
    /// [`StoreError::OtherHistory`] if another is recorded.
    async fn check_history(&self, source: &str, history: &str) -> Result<(), StoreError>;

    /// Whether the store has every bucket of a generation, so that every entity can be looked up. False, and no error,
    /// for one that was dropped or lost. The live pointer may still name a lost generation: [`publish`](Self::publish)
    /// replaces it.
    async fn is_whole(&self, generation: &Generation) -> Result<bool, StoreError> {
        match self.positions(generation).await {
            Err(StoreError::Gone(_)) => Ok(false),
            positions => Ok(names_every_bucket(&positions?)),
        }
    }

    /// As [`is_whole`](Self::is_whole), for several generations, in their order. A server calls this for all its
    /// views at each readiness check.
    async fn are_whole(&self, generations: &[Generation]) -> Result<Vec<bool>, StoreError> {
        let mut whole = Vec::with_capacity(generations.len());
        for generation in generations {
            whole.push(self.is_whole(generation).await?);
        }
        Ok(whole)
    }

    /// Creates an empty generation that is not live, every bucket at `positions`.
    ///
    /// `least` is how long after its write a state is needed at least
    /// ([`retention::least`](tidemark_kernel::retention::least)); none for good. Where older workers share the store
    /// they go by it, since they do not say how long each state is needed.
    ///
    /// A generation is named by [`unpublished`](Self::unpublished) only once it is complete. Its number is greater
    /// than any that the view had before and is never given again; where others may still hold a generation of a
    /// store that has lost its data, not even then.
    async fn begin(
        &self,
        view: &str,
        fingerprint: Fingerprint,
        positions: &BTreeMap<Partition, Position>,
        least: Option<Span>,
    ) -> Result<Generation, StoreError>;

    /// Gives every bucket that has no position for `partition` this one: for a partition that appeared after
    /// [`begin`](Self::begin). Positions that exist stay, so that two workers may call it at once and either may be
    /// interrupted.
    async fn add_partition(
        &self,
        generation: &Generation,
        partition: Partition,
        position: Position,
    ) -> Result<(), StoreError>;

    /// Makes `new` the live generation of `view`, or none, if `expected` is the live one.
    ///
    /// # Errors
    /// [`StoreError::Gone`] if `new` was dropped, or is no generation of `view`.
    async fn publish(
        &self,
        view: &str,
        expected: Option<&Generation>,
        new: Option<&Generation>,
    ) -> Result<PublishOutcome, StoreError>;

    /// The live generation of a view: the one to look up.
    async fn live(&self, view: &str) -> Result<Option<Generation>, StoreError>;

    /// As [`live`](Self::live), for several views, in their order.
    async fn live_of(&self, views: &[&str]) -> Result<Vec<Option<Generation>>, StoreError> {
        let mut live = Vec::with_capacity(views.len());
        for view in views {
            live.push(self.live(view).await?);
        }
        Ok(live)
    }

    /// Every generation of a view but the live one, by ascending number. One with a greater number than the live one
    /// is a backfill under way or cut short: resume or drop it. One with a smaller number was replaced: it answers lookups as
    /// long as it is kept.
    async fn unpublished(&self, view: &str) -> Result<Vec<Generation>, StoreError>;

    /// As [`unpublished`](Self::unpublished), for several views, in their order.
    async fn unpublished_of(&self, views: &[&str]) -> Result<Vec<Vec<Generation>>, StoreError> {
        let mut all = Vec::with_capacity(views.len());
        for view in views {
            all.push(self.unpublished(view).await?);
        }
        Ok(all)
    }

    /// Removes a generation, its states and positions. Repeating it is no error. Cut short, the generation is still
    /// named by [`unpublished`](Self::unpublished), but no bucket that lost a state has kept a position.
    ///
    /// # Errors
    /// [`StoreError::Live`] if it is the live one: [`publish`](Self::publish) another, or none, first.
    async fn drop_generation(&self, generation: &Generation) -> Result<(), StoreError>;

    /// As [`drop_generation`](Self::drop_generation), for several generations. A store that keeps no list of the entities
    /// of a generation looks for those of all of them in one pass.
    ///
    /// # Errors
    /// [`StoreError::Live`] if one of them is the live one. The others may be dropped.
    async fn drop_generations(&self, generations: &[Generation]) -> Result<(), StoreError> {
        for generation in generations {
            self.drop_generation(generation).await?;
        }
        Ok(())
    }

    /// Every entity of a generation with its states, in the order of its key's bytes, page by page. Each entity is
    /// read as of one instant; what is written meanwhile may or may not be seen.
    async fn entities<'a>(&'a self, generation: &Generation)
    -> Result<Box<dyn EntityPages + 'a>, StoreError>;

    /// As [`entities`](Self::entities), for several generations, each given once, in their order. A store that keeps no
    /// list of the entities of a generation looks for those of all of them in one pass.
    async fn entities_of<'a>(
        &'a self,
        generations: &[Generation],
    ) -> Result<Vec<Box<dyn EntityPages + 'a>>, StoreError> {
        let mut all = Vec::with_capacity(generations.len());
        for generation in generations {
            all.push(self.entities(generation).await?);
        }
        Ok(all)
    }

    /// At most `count` entities of each of these generations, each given once, in their order. All of a generation that
    /// has no more. No entity is preferred because of its key or its states, and `seed` may decide which are chosen.
    async fn sample(
        &self,
        generations: &[Generation],
        count: usize,
        seed: u64,
    ) -> Result<Vec<BTreeSet<EntityKey>>, StoreError> {
        let mut samples = Vec::with_capacity(generations.len());
        for generation in generations {
            let mut lowest = Lowest::new(count, seed);
            let mut pages = self.entities(generation).await?;
            loop {
                let page = pages.next_page().await?;
                if page.is_empty() {
                    break;
                }
                page.into_iter().for_each(|entity| lowest.add(entity.key));
            }
            samples.push(lowest.keys());
        }
        Ok(samples)
    }

    /// How much a generation holds. It may read all of it.
    async fn sizes(&self, generation: &Generation) -> Result<Sizes, StoreError>;

    /// About how much each of these generations holds, each given once, in their order; nothing where one is gone. It
    /// takes about a second however much that is: a store that keeps no counts estimates from a sample
    /// ([`Sizes::estimated`]).
    async fn estimate(&self, generations: &[Generation]) -> Result<Vec<Sizes>, StoreError> {
        let mut all = Vec::with_capacity(generations.len());
        for generation in generations {
            all.push(match self.sizes(generation).await {
                Err(StoreError::Gone(_)) => Sizes::default(),
                sizes => sizes?,
            });
        }
        Ok(all)
    }

    /// Takes one step of a walk through the states of a generation and forgets those that are not needed any more:
    /// how many. A step is short, whatever the generation holds. A store that forgets by itself takes no steps and
    /// answers 0. A damaged state is passed over. Call it now and then, with the [`Sweep`] of this generation.
    async fn expire(&self, generation: &Generation, sweep: &mut Sweep) -> Result<u64, StoreError>;

    /// Reads everything that is stored and fails at the first damage. It may take long and hold up other calls.
    async fn check(&self) -> Result<(), StoreError>;

    /// As [`check`](Self::check), but the states of generations in `read` may be left out: the caller has read them all.
    async fn check_others(&self, read: &[Generation]) -> Result<(), StoreError> {
        let _ = read;
        self.check().await
    }
}

/// The entities of a generation, a page at a time.
#[async_trait]
pub trait EntityPages: Send {
    /// The next entities, never cut within one; an empty page is the end.
    ///
    /// # Errors
    /// Those of [`OnlineStore`]. After an error the iteration is over.
    async fn next_page(&mut self) -> Result<Vec<EntityStates>, StoreError>;
}

/// One backfill of one view: what every state and position belongs to.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Generation {
    /// The view's name.
    pub view: String,
    /// Which backfill of the view; greater is later.
    pub number: u64,
    /// The meaning of the plan whose states it holds, and how they are laid out.
    pub fingerprint: Fingerprint,
}

impl fmt::Display for Generation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "generation {} of view `{}`", self.number, self.view)
    }
}

/// States together with the position they belong to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Loaded {
    /// The bucket's position for the partition; none if the partition is unknown in this generation (which is never 0).
    pub position: Option<Position>,
    /// One for each key asked for, none where there is no state.
    pub states: Vec<Option<Vec<u8>>>,
}

/// One step of one bucket along one partition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BucketFlush {
    /// The bucket, below [`BUCKETS`].
    pub bucket: u16,
    /// The partition whose events were applied.
    pub partition: Partition,
    /// The position that the bucket must have.
    pub from: Position,
    /// The position that it has afterwards, not before `from`.
    pub to: Position,
    /// What is new of the state of each entity that changed, each once; none deletes it.
    pub writes: Vec<(EntityKey, Option<NewState>)>,
}

/// A state to be stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewState {
    /// What is written of it. A store does not look into its parts.
    pub change: StateChange,
    /// How long the whole of it is needed; none: for good.
    pub retention: Option<Retention>,
    /// Whether this write must extend the state's expiry. If not, the writer knows of an applied write that has set one which is
    /// late enough: a store may leave that as it is, but must set one if it does not hold the state.
    pub renew: bool,
}

impl NewState {
    /// A change of a state that is needed for so long from now on.
    #[must_use]
    pub const fn new(change: StateChange, retention: Option<Retention>) -> Self {
        Self { change, retention, renew: true }
    }

    /// A state that replaces what is stored, whatever that is.
    #[must_use]
    pub const fn whole(bytes: Vec<u8>, retention: Option<Retention>) -> Self {
        Self::new(StateChange::whole(bytes), retention)
    }

    /// A state that is never forgotten.
    #[must_use]
    pub const fn permanent(bytes: Vec<u8>) -> Self {
        Self::whole(bytes, None)
    }
}

impl BucketFlush {
    /// The entities whose states must be stored, since parts of them are kept.
    pub(crate) fn kept(&self) -> impl Iterator<Item = &EntityKey> {
        let keeps = |state: &NewState| state.change.rest == Rest::Kept;
        self.writes.iter().filter(move |(_, state)| state.as_ref().is_some_and(keeps)).map(|(key, _)| key)
    }
}

/// What became of a [`BucketFlush`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FlushOutcome {
    /// Its states are written and its position moved.
    Applied,
    /// Nothing was written, because the bucket is at this position and not at `from`. Being at `to` means that it was
    /// done before; none that the partition is unknown in this generation.
    At(Option<Position>),
    /// Nothing was written and the position not moved, because a state of which parts were to be kept ([`Rest::Kept`])
    /// is not stored, or not any more: it was forgotten. Give all states of the flush whole.
    Incomplete,
}

/// What became of a [`publish`](OnlineStore::publish).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PublishOutcome {
    /// The new generation is live.
    Published,
    /// Nothing was changed, because this generation is live and not the one expected. Being the new one means that
    /// it was done before.
    Live(Option<Generation>),
}

/// The states of one entity, one for each partition that has one, by ascending partition.
pub type PartitionStates = Vec<(Partition, Vec<u8>)>;

/// The states of one entity, or what is wrong with them.
pub type EntityLookup = Result<PartitionStates, StoreError>;

/// For each partition, the position of each bucket.
pub type Positions = BTreeMap<Partition, BTreeMap<u16, Position>>;

/// Whether every bucket has a position for some partition. What ingestion begins has some partition; one without any position has
/// lost them.
#[must_use]
pub fn names_every_bucket(positions: &Positions) -> bool {
    (0..BUCKETS).all(|bucket| positions.values().any(|buckets| buckets.contains_key(&bucket)))
}

/// Whether every bucket is at exactly these positions.
fn is_everywhere_at(stored: &Positions, expected: &BTreeMap<Partition, Position>) -> bool {
    expected.iter().all(|(partition, position)| {
        let Some(buckets) = stored.get(partition) else { return false };
        (0..BUCKETS).all(|bucket| buckets.get(&bucket) == Some(position))
    })
}

/// The position in [`Partition::RETRACTIONS`] that a generation with these positions was begun at: records that were taken back
/// before are not in its states. It never changes.
#[must_use]
pub fn begun_at(positions: &Positions) -> Position {
    let buckets = positions.get(&Partition::RETRACTIONS).into_iter().flat_map(|buckets| buckets.values());
    buckets.min().copied().unwrap_or(Position::START)
}

/// One entity and its states.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EntityStates {
    /// The key of the entity.
    pub key: EntityKey,
    /// At least one.
    pub states: PartitionStates,
}

/// How much a generation holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sizes {
    /// Entities that have a state for at least one partition.
    pub entities: u64,
    /// States: one for each entity and partition, whatever parts it has.
    pub states: u64,
    /// Bytes of all states, without their keys and what the store adds.
    pub bytes: u64,
    /// Bytes of memory that the generation takes in the store's server, where there is one that says.
    pub memory: Option<u64>,
    /// Whether these are estimates from a sample.
    pub estimated: bool,
}

impl Sizes {
    /// These sizes and one entity more.
    pub(crate) fn add(&mut self, entity: &EntityStates) {
        self.entities += 1;
        self.states += entity.states.len() as u64;
        self.bytes += entity.states.iter().map(|(_, state)| state.len() as u64).sum::<u64>();
    }
}

/// Refuses a history where another one is recorded for the source.
pub(crate) fn compare_history(
    place: &str,
    source: &str,
    recorded: Option<&str>,
    given: &str,
) -> Result<(), StoreError> {
    match recorded.filter(|recorded| *recorded != given) {
        None => Ok(()),
        Some(recorded) => Err(StoreError::OtherHistory {
            place: place.to_owned(),
            source_name: source.to_owned(),
            recorded: recorded.to_owned(),
            given: given.to_owned(),
        }),
    }
}

/// Refuses keys that do not lie in `bucket`: a state written there would never be found again.
pub(crate) fn check_bucket<'a>(
    bucket: u16,
    keys: impl IntoIterator<Item = &'a EntityKey>,
) -> Result<(), StoreError> {
    match keys.into_iter().find(|key| key.bucket(BUCKETS) != bucket) {
        Some(key) => Err(StoreError::Misplaced { key: key.clone(), bucket, belongs: key.bucket(BUCKETS) }),
        None => Ok(()),
    }
}

/// Refuses flushes that no store may apply, whatever it holds.
pub(crate) fn check_flushes(flushes: &[BucketFlush]) -> Result<(), StoreError> {
    for flush in flushes {
        if flush.to < flush.from {
            return Err(StoreError::Backwards { partition: flush.partition, from: flush.from, to: flush.to });
        }
        check_bucket(flush.bucket, flush.writes.iter().map(|(key, _)| key))?;
    }
    Ok(())
}
