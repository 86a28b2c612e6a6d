//! A Kafka topic with its consumer group. Records are gathered and decoded by the code that reads real topics; what is
//! simulated is the broker, the group, and what goes wrong with both.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use parking_lot::Mutex;
use rdkafka::message::{OwnedMessage, Timestamp};
use tidemark_host::Host;
use tidemark_ingest::IngestError;
use tidemark_ingest::feed::Start;
use tidemark_ingest::kafka::{
    Gathered, Input, Reader, Subscription, Timestamps, TopicProperties, TopicSettings, Topics,
};
use tidemark_kernel::{Partition, Position, PositionRange, Time};
use tidemark_offline::Positions;
use tidemark_registry::feed::KafkaFeed;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinSet;

use crate::world::World;

/// The one topic there is.
pub(crate) const TOPIC: &str = "payments";

/// How long the group believes in a member that has died.
const SESSION: Duration = Duration::from_secs(6);

/// How often a reader looks for records and changes of the group when there are none.
const IDLE: u64 = 50;

/// The epoch of the leader of every partition, which never changes.
const EPOCH: i32 = 1;

/// What is at one offset: a record, or a mark of a transaction.
type Slot = Option<OwnedMessage>;

/// The cluster, its one topic and that topic's one group.
#[derive(Clone, Debug)]
pub(crate) struct Kafka {
    world: Arc<World>,
    cluster: Arc<Mutex<Cluster>>,
}

#[derive(Debug, Default)]
struct Cluster {
    partitions: Vec<Vec<Slot>>,
    /// Who reads each partition; its next reader waits until this one lets go.
    owners: BTreeMap<i32, u64>,
    /// Whether records are removed that others of their key have replaced.
    is_compacted: bool,
    /// Whether they never are.
    stays_whole: bool,
    /// Whether they are since some time.
    has_begun_compaction: bool,
    members: BTreeMap<u64, Member>,
    next_member: u64,
}

#[derive(Debug, Default)]
struct Member {
    /// What it shall read.
    target: BTreeSet<i32>,
    /// When the group notices that it has died, if it has.
    dies: Option<Duration>,
    /// Until when it does not notice that the group has given it up, if that has happened.
    deaf: Option<Duration>,
}

fn unreachable(reason: &str) -> IngestError {
    IngestError::Unreachable { servers: "simulated".into(), reason: reason.into() }
}

impl Cluster {
    fn is_member(&self, id: u64) -> bool {
        self.members.get(&id).is_some_and(|member| member.deaf.is_none())
    }

    /// Divides the partitions among the members, and lets go of those of members that are gone.
    fn rebalance(&mut self) {
        let living: Vec<u64> = self.members.keys().copied().filter(|id| self.is_member(*id)).collect();
        let Self { members, owners, partitions, .. } = self;
        members.values_mut().for_each(|member| member.target.clear());
        owners.retain(|_, owner| living.contains(owner));
        if living.is_empty() {
            return;
        }
        for partition in 0..partitions.len() {
            let id = living[partition % living.len()];
            members.entry(id).or_default().target.insert(partition as i32);
        }
    }

    fn bury(&mut self, now: Duration) -> bool {
        let before = self.members.len();
        self.members.retain(|_, member| member.dies.is_none_or(|dies| now < dies));
        let buried = self.members.len() < before;
        if buried {
            self.rebalance();
        }
        buried
    }
}

impl Kafka {
    /// In some runs the topic is compacted, from the beginning or from some time on.
    pub(crate) fn new(world: &Arc<World>, partitions: usize) -> Self {
        let partitions = vec![Vec::new(); partitions];
        let (is_compacted, stays_whole) = (world.chance(25), world.chance(50));
        world.say(&format!("the topic is compacted: {is_compacted}"));
        let cluster = Cluster { partitions, is_compacted, stays_whole, ..Cluster::default() };
        Self { world: Arc::clone(world), cluster: Arc::new(Mutex::new(cluster)) }
    }

    /// Appends a record, or a mark of a transaction, and says where.
    pub(crate) fn append(
        &self,
        partition: i32,
        time: Time,
        payload: Option<Option<Vec<u8>>>,
    ) -> (Partition, i64) {
        let mut cluster = self.cluster.lock();
        let slots = &mut cluster.partitions[partition as usize];
        let offset = slots.len() as i64;
        slots.push(payload.map(|payload| {
            let time = Timestamp::CreateTime(time.millis());
            OwnedMessage::new(payload, None, TOPIC.into(), time, partition, offset, None)
        }));
        (Partition(partition), offset)
    }

    pub(crate) fn partitions(&self) -> i32 {
        self.cluster.lock().partitions.len() as i32
    }

    pub(crate) fn add_partition(&self) {
        let mut cluster = self.cluster.lock();
        cluster.partitions.push(Vec::new());
        cluster.rebalance();
    }

    /// Has the topic compacted from now on. False where it is already, or never is.
    pub(crate) fn begin_compaction(&self) -> bool {
        let mut cluster = self.cluster.lock();
        let begins = !cluster.is_compacted && !cluster.stays_whole;
        cluster.is_compacted |= begins;
        cluster.has_begun_compaction |= begins;
        begins
    }

    pub(crate) fn has_begun_compaction(&self) -> bool {
        self.cluster.lock().has_begun_compaction
    }

    /// Removes some records, where the topic is compacted: never the last one of a partition. Where they were.
    pub(crate) fn compact(&self) -> Vec<(Partition, i64)> {
        let mut cluster = self.cluster.lock();
        let mut removed = Vec::new();
        if !cluster.is_compacted {
            return removed;
        }
        for (partition, slots) in (0..).zip(&mut cluster.partitions) {
            let Some((_, replaced)) = slots.split_last_mut() else { continue };
            for (offset, slot) in (0..).zip(replaced) {
                if slot.is_some() && self.world.chance(20) {
                    *slot = None;
                    removed.push((Partition(partition), offset));
                }
            }
        }
        removed
    }

    /// Where each partition ends.
    pub(crate) fn ends_now(&self) -> Positions {
        let cluster = self.cluster.lock();
        (0..)
            .zip(&cluster.partitions)
            .map(|(partition, slots)| (Partition(partition), Position(slots.len() as i64)))
            .collect()
    }

    /// The group gives up a member, which goes on reading and notices it only later. False where there is none.
    pub(crate) fn make_zombie(&self) -> bool {
        let until = self.world.elapsed() + Duration::from_millis(self.world.draw(500..6000));
        let mut cluster = self.cluster.lock();
        let living: Vec<u64> = cluster.members.keys().copied().filter(|id| cluster.is_member(*id)).collect();
        if living.is_empty() {
            return false;
        }
        let id = living[self.world.draw(0..living.len() as u64) as usize];
        cluster.members.entry(id).or_default().deaf = Some(until);
        cluster.rebalance();
        true
    }

    async fn ask(&self) -> Result<(), IngestError> {
        self.world.pause().await;
        let weather = self.world.weather();
        if weather.brokers_away || self.world.chance(weather.failing) {
            self.world.count("brokers away");
            return Err(unreachable("no answer"));
        }
        Ok(())
    }

    fn join(&self) -> u64 {
        let mut cluster = self.cluster.lock();
        let id = cluster.next_member;
        cluster.next_member += 1;
        cluster.members.insert(id, Member::default());
        cluster.rebalance();
        self.world.count("rebalance");
        id
    }

    fn leave(&self, id: u64) {
        let mut cluster = self.cluster.lock();
        cluster.members.remove(&id);
        cluster.rebalance();
        self.world.count("rebalance");
    }
}

#[async_trait]
impl Topics for Kafka {
    async fn describe(&self, topic: &str) -> Result<TopicProperties, IngestError> {
        self.ask().await?;
        Ok(TopicProperties { topic: topic.to_owned(), id: Some("one".into()), partitions: self.partitions() })
    }

    /// As Kafka 4 has them by default, but for compaction.
    async fn settings(&self, _: &str) -> Result<TopicSettings, IngestError> {
        self.ask().await?;
        let timestamps = Timestamps::Producers(Some(KafkaFeed::DEFAULT_MAX_TIMESTAMP_AHEAD));
        Ok(TopicSettings { timestamps, is_compacted: self.cluster.lock().is_compacted })
    }

    async fn ends(&self, _: &str) -> Result<BTreeMap<Partition, PositionRange>, IngestError> {
        self.ask().await?;
        let held = |(partition, end)| (partition, PositionRange { start: Position::START, end });
        Ok(self.ends_now().into_iter().map(held).collect())
    }

    async fn starts(&self, _: &str, _: Start) -> Result<Positions, IngestError> {
        self.ask().await?;
        Ok(self.ends_now().into_keys().map(|partition| (partition, Position::START)).collect())
    }

    fn read(
        &self,
        _: &Host,
        subscription: Subscription,
    ) -> Result<(Box<dyn Reader>, mpsc::Receiver<Input>), IngestError> {
        let Subscription { source, metrics, room, .. } = subscription;
        let (inputs, receive) = mpsc::channel(1);
        let id = Arc::new(Mutex::new(self.join()));
        let mut task = JoinSet::new();
        let (kafka, member) = (self.clone(), Arc::clone(&id));
        task.spawn(async move {
            let gathered = Gathered::new(&source, TOPIC, metrics, room);
            let mut reading = Reading { kafka, member, inputs, gathered, idle: false, away: false };
            reading.run().await;
        });
        Ok((Box::new(Consumer { kafka: self.clone(), id, task }), receive))
    }
}

/// A member of the group as its process holds it. Dropped with the process, the group notices later.
struct Consumer {
    kafka: Kafka,
    id: Arc<Mutex<u64>>,
    task: JoinSet<()>,
}

impl Consumer {
    fn id(&self) -> u64 {
        *self.id.lock()
    }
}

#[async_trait]
impl Reader for Consumer {
    fn committed(&self, _: &Positions) {}

    async fn stop(mut self: Box<Self>) -> bool {
        self.task.shutdown().await;
        self.kafka.leave(self.id());
        true
    }
}

impl Drop for Consumer {
    fn drop(&mut self) {
        let dies = self.kafka.world.elapsed() + SESSION;
        if let Some(member) = self.kafka.cluster.lock().members.get_mut(&self.id()) {
            member.dies = Some(dies);
        }
    }
}

struct Reading<'s> {
    kafka: Kafka,
    member: Arc<Mutex<u64>>,
    inputs: mpsc::Sender<Input>,
    gathered: Gathered<'s>,
    /// Whether the receiver was told that everything was read.
    idle: bool,
    away: bool,
}

impl Reading<'_> {
    /// Reads until the receiver is dropped.
    async fn run(&mut self) {
        while !self.inputs.is_closed() {
            self.kafka.world.pause().await;
            if self.look_at_brokers().await && self.follow_group().await {
                self.read();
                if !self.hand_over().await {
                    self.kafka.world.sleep(IDLE).await;
                }
            } else {
                self.kafka.world.sleep(IDLE).await;
            }
        }
    }

    fn id(&self) -> u64 {
        *self.member.lock()
    }

    async fn send(&mut self, input: Input) {
        // A receiver that is gone ends the loop.
        drop(self.inputs.send(input).await);
    }

    /// Whether the brokers are there.
    async fn look_at_brokers(&mut self) -> bool {
        let away = self.kafka.world.weather().brokers_away;
        if away != self.away {
            self.away = away;
            let input = if away { Input::Away(unreachable("no broker answers")) } else { Input::Back };
            self.send(input).await;
        }
        !away
    }

    /// Carries out what the group has decided. Whether there is something to read.
    async fn follow_group(&mut self) -> bool {
        let (now, id) = (self.kafka.world.elapsed(), self.id());
        let (lost, target) = {
            let mut cluster = self.kafka.cluster.lock();
            if cluster.bury(now) {
                self.kafka.world.count("rebalance");
            }
            match cluster.members.get(&id) {
                Some(Member { deaf: Some(until), .. }) if now < *until => return true,
                Some(Member { deaf: None, target, .. }) => (false, target.clone()),
                _ => (true, BTreeSet::new()),
            }
        };
        let have: Vec<Partition> = self.gathered.positions().into_keys().collect();
        let gone: Vec<Partition> =
            have.into_iter().filter(|partition| !target.contains(&partition.0)).collect();
        if !gone.is_empty() {
            self.revoke(gone, lost).await;
        }
        if lost {
            self.kafka.cluster.lock().members.remove(&id);
            *self.member.lock() = self.kafka.join();
            return false;
        }
        let new: Vec<Partition> = {
            let mut cluster = self.kafka.cluster.lock();
            let free = |partition: &i32| {
                !self.gathered.has(Partition(*partition)) && !cluster.owners.contains_key(partition)
            };
            let new: Vec<i32> = target.into_iter().filter(free).collect();
            cluster.owners.extend(new.iter().map(|partition| (*partition, id)));
            new.into_iter().map(Partition).collect()
        };
        if !new.is_empty() {
            self.assign(new).await;
        }
        true
    }

    async fn revoke(&mut self, partitions: Vec<Partition>, lost: bool) {
        self.kafka.world.say(&format!("member {} loses {partitions:?} (lost: {lost})", self.id()));
        let gathered = self.gathered.cut_last(&partitions).expect("records that are rows");
        self.gathered.revoke(&partitions);
        if !gathered.is_empty() {
            self.send(Input::Batches(gathered)).await;
        }
        let (done, is_done) = oneshot::channel();
        self.send(Input::Revoked { partitions: partitions.clone(), lost, done }).await;
        drop(is_done.await);
        let (id, mut cluster) = (self.id(), self.kafka.cluster.lock());
        cluster
            .owners
            .retain(|partition, owner| *owner != id || !partitions.contains(&Partition(*partition)));
    }

    async fn assign(&mut self, partitions: Vec<Partition>) {
        self.kafka.world.say(&format!("member {} gets {partitions:?}", self.id()));
        let (answer, answered) = oneshot::channel();
        self.send(Input::Assigned { partitions: partitions.clone(), answer }).await;
        let Ok(resume) = answered.await else { return };
        for partition in partitions {
            let Position(position) = resume.positions[&partition];
            let back = if self.kafka.world.chance(25) { self.kafka.world.draw(1..10) as i64 } else { 0 };
            if back.min(position) > 0 {
                self.kafka.world.fault("records read again", &partition.to_string());
            }
            self.gathered.assign(partition, Position((position - back).max(0)), None);
        }
        self.idle = false;
    }

    /// Reads a few records of each partition.
    fn read(&mut self) {
        let cluster = self.kafka.cluster.lock();
        for (partition, position) in self.gathered.positions() {
            let Some(slots) = cluster.partitions.get(partition.0 as usize) else { continue };
            let from = (position.0 as usize).min(slots.len());
            // Compaction may have left nothing for a long way.
            let first = slots[from..].iter().position(Option::is_some).unwrap_or(slots.len() - from);
            let to = slots.len().min(from + first + self.kafka.world.draw(1..24) as usize);
            slots[from..to].iter().flatten().for_each(|record| self.gathered.take(record, Some(EPOCH)));
            if to == slots.len() {
                self.gathered.ended(partition);
                self.gathered.ends_at(partition, Position(to as i64));
            }
        }
    }

    /// Hands over what was gathered. Whether there was anything.
    async fn hand_over(&mut self) -> bool {
        let batches = self.gathered.cut().expect("records that are rows");
        if !batches.is_empty() {
            self.idle = false;
            self.send(Input::Batches(batches)).await;
            return true;
        }
        if self.gathered.is_at_end()
            && self.gathered.is_empty()
            && !self.idle
            && !self.gathered.positions().is_empty()
        {
            self.idle = true;
            self.send(Input::Idle).await;
        }
        false
    }
}
