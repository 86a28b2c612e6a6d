//! The stream: records go through ingestion into an online store, questions are lookups.

use std::collections::BTreeMap;
use std::sync::Arc;

use tidemark_host::Host;
use tidemark_ingest::{Advance, Memory, ViewWriter};
use tidemark_kernel::{Partition, Position, Time, Token, Visibility};
use tidemark_online::{Lookups, RowError};
use tidemark_store::{Generation, OnlineStore};

use super::{Reply, batch};
use crate::scenario::RunError;
use crate::scenario::script::{Question, Record, Script};
use crate::truth::ServiceAnswer;

/// What a run of the stream gave.
#[derive(Debug, Default)]
pub(crate) struct StreamRun {
    /// The replies to questions that are lookups.
    pub(crate) replies: Vec<Option<Reply>>,
    /// The tokens of those that were answered.
    pub(crate) tokens: Vec<Option<Token>>,
    /// For each record why it is no event.
    pub(crate) dead: Vec<Option<&'static str>>,
}

/// Runs the whole scenario over an empty store; the ingesting process is replaced before the records that
/// `restart` names.
pub(crate) async fn run(
    script: &Script,
    store: Arc<dyn OnlineStore>,
    restart: impl Fn(usize) -> bool,
) -> Result<StreamRun, RunError> {
    let mut stream = Stream::start(script, store).await?;
    let count = script.questions.len();
    let mut served = StreamRun { replies: vec![None; count], tokens: vec![None; count], dead: Vec::new() };
    for received in 0..=script.records.len() {
        stream.ask(received, &mut served).await?;
        let Some(record) = script.records.get(received) else { break };
        if restart(received) {
            stream.open().await?;
            stream.catch_up(received).await?;
        }
        served.dead.push(stream.receive(record).await?);
    }
    Ok(served)
}

struct Stream<'s> {
    host: Host,
    script: &'s Script,
    store: Arc<dyn OnlineStore>,
    generations: BTreeMap<&'s str, Generation>,
    writers: Vec<ViewWriter>,
    lookups: Lookups,
}

impl<'s> Stream<'s> {
    async fn start(script: &'s Script, store: Arc<dyn OnlineStore>) -> Result<Self, RunError> {
        let mut generations = BTreeMap::new();
        for plan in script.repo.views.values() {
            let of_source = script.records.iter().filter(|record| record.source.name == plan.source);
            let partitions: BTreeMap<Partition, Position> =
                of_source.map(|record| (record.partition, Position::START)).collect();
            let generation =
                store.begin(&plan.view, plan.new_generation_fingerprint(), &partitions, None).await?;
            store.publish(&plan.view, None, Some(&generation)).await?;
            generations.insert(plan.view.as_str(), generation);
        }
        let host = Host::real(Arc::new(|| Time::MIN));
        let lookups = Lookups::on(host.clone(), Arc::clone(&store));
        let services = script.questions.iter().map(|question| (&question.service.name, &question.service));
        let services: BTreeMap<_, _> = services.collect();
        lookups.serve(services.into_values().cloned())?;
        let mut stream = Self { host, script, store, generations, writers: Vec::new(), lookups };
        stream.open().await?;
        Ok(stream)
    }

    /// Starts ingestion, with nothing but what the store holds.
    async fn open(&mut self) -> Result<(), RunError> {
        self.writers.clear();
        for (plan, generation) in self.script.repo.views.values().zip(self.generations.values()) {
            let (plan, store) = (Arc::clone(plan), Arc::clone(&self.store));
            let writer = ViewWriter::open(
                self.host.clone(),
                plan,
                store,
                generation.clone(),
                Arc::default(),
                Memory::default(),
            )
            .await?;
            self.writers.push(writer.ok_or(RunError::Lost)?);
        }
        Ok(())
    }

    /// Receives the first records once more, as from history: the position of a bucket that they did not concern may not
    /// have been stored yet. Whatever the store has is skipped.
    async fn catch_up(&mut self, received: usize) -> Result<(), RunError> {
        for record in &self.script.records[..received] {
            self.receive(record).await?;
        }
        Ok(())
    }

    async fn receive(&mut self, record: &Record) -> Result<Option<&'static str>, RunError> {
        let batch = Arc::new(batch(record)?);
        for writer in self.writers.iter_mut().filter(|writer| writer.plan().source == record.source.name) {
            if writer.advance(&batch).await? != Advance::Done {
                return Err(RunError::Lost);
            }
        }
        Ok(batch.dead.first().map(|letter| letter.code))
    }

    /// Asks the questions whose turn it is.
    async fn ask(&self, received: usize, served: &mut StreamRun) -> Result<(), RunError> {
        let questions = self.script.questions.iter().enumerate();
        let turn =
            |question: &Question| question.after == received && question.visibility == Visibility::AsServed;
        for (index, question) in questions.filter(|(_, question)| turn(question)) {
            let rows = vec![question.asked.clone()];
            let results = self.lookups.lookup(&question.service.name, rows, Some(question.at)).await?;
            let result = results.into_iter().next().ok_or(RunError::Lost)?;
            served.replies[index] = Some(match result {
                Ok(row) => {
                    served.tokens[index] = Some(row.token);
                    Reply::Answer(ServiceAnswer {
                        values: row.values,
                        statuses: row.statuses,
                        newest: row.newest,
                    })
                }
                Err(RowError::TooEarly { .. }) => Reply::TooEarly,
                Err(error @ RowError::Damaged(_)) => return Err(error.into()),
            });
        }
        Ok(())
    }
}
