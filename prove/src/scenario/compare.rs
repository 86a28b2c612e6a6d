//! Asks every engine, and compares their replies with each other and with the tables.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use tidemark_offline::durable::FileError;
use tidemark_store::{Clock, EmbeddedStore, MemoryStore, OnlineStore};

use super::document::{Document, Table};
use super::engine::Reply;
use super::engine::oracle::Oracle;
use super::engine::stream::{self, StreamRun};
use super::engine::training::Tables;
use super::script::{Expected, Question, Script};
use super::{Disagreement, Outcome, RunError};

/// The replies of one engine, one for each question that it can be asked.
pub(crate) struct Engine {
    name: &'static str,
    replies: Vec<Option<Reply>>,
    /// For each record why it is no event, where the engine decides that.
    dead: Option<Vec<Option<&'static str>>>,
}

impl Engine {
    fn stream(name: &'static str, served: StreamRun) -> Self {
        Self { name, replies: served.replies, dead: Some(served.dead) }
    }
}

/// Runs every engine; the oracle comes first.
pub(crate) async fn replies(script: &Script, clock: &Clock) -> Result<Vec<Engine>, RunError> {
    let oracle = Oracle::new(script)?;
    let answers = script.questions.iter().map(|question| oracle.answer(question).map(Some));
    let rejections = oracle.rejections.iter().map(|rejection| rejection.as_ref().map(|reason| reason.code()));
    let truth = Engine {
        name: "oracle",
        replies: answers.collect::<Result<_, _>>()?,
        dead: Some(rejections.collect()),
    };
    let memory = || Arc::new(MemoryStore::new(Arc::clone(clock))) as Arc<dyn OnlineStore>;
    let served = stream::run(script, memory(), |_| false).await?;
    let folder = tempfile::tempdir().map_err(FileError::of("create", &std::env::temp_dir()))?;
    let tables = Tables::write(script, folder.path()).await?;
    let trained = tables.answer(&served.tokens, folder.path()).await?;
    let training = Engine { name: "training set", replies: trained, dead: None };
    let mut engines = vec![truth, Engine::stream("lookup", served)];
    for cut in 1..script.records.len() {
        let restarted = stream::run(script, memory(), |record| record == cut).await?;
        engines.push(Engine::stream("restarted", restarted));
    }
    let embedded = EmbeddedStore::open(&folder.path().join("online"), Arc::clone(clock))?;
    let embedded = stream::run(script, Arc::new(embedded), |_| true).await?;
    engines.push(Engine::stream("embedded", embedded));
    engines.push(training);
    Ok(engines)
}

/// Compares every cell with every engine that replied to its question.
pub(crate) fn compare(
    file: &Path,
    document: &Document,
    script: &Script,
    engines: &[Engine],
) -> Result<Outcome, RunError> {
    let mut outcome = Outcome {
        file: file.to_owned(),
        title: document.title.clone(),
        questions: script.questions.len(),
        cells: 0,
        disagreements: dead_letters(file, script, engines),
        rewritten: 0,
    };
    for (index, question) in script.questions.iter().enumerate() {
        for expected in &question.expected {
            outcome.cells += 1;
            let header = &document.expects[question.row.0].header[expected.column].text;
            let subject = format!("{header} of {}", question.subject());
            outcome.disagreements.extend(cell(file.to_owned(), subject, expected, index, engines));
        }
    }
    Ok(outcome)
}

fn cell(
    file: PathBuf,
    subject: String,
    expected: &Expected,
    question: usize,
    engines: &[Engine],
) -> Option<Disagreement> {
    let replied =
        || engines.iter().filter_map(|engine| Some((engine.name, engine.replies[question].as_ref()?)));
    if replied().all(|(_, reply)| reply.is_meant(&expected.cell.text, &expected.output)) {
        return None;
    }
    let mut found: Vec<_> = replied().map(|(name, reply)| (name, reply.spell(&expected.output))).collect();
    found.dedup();
    Some(Disagreement {
        file,
        place: expected.cell.place,
        subject,
        expected: expected.cell.text.clone(),
        found,
    })
}

/// Where engines differ about which records are events, or the table of events disagrees with them.
fn dead_letters(file: &Path, script: &Script, engines: &[Engine]) -> Vec<Disagreement> {
    let spelled = |code: Option<&'static str>| code.unwrap_or("").to_owned();
    let record = |(index, record): (usize, &super::script::Record)| {
        let decided = engines.iter().filter_map(|engine| Some((engine.name, engine.dead.as_ref()?[index])));
        let mut found: Vec<_> = decided.map(|(name, code)| (name, spelled(code))).collect();
        found.dedup();
        let truth = found.first().map(|(_, code)| code.clone()).unwrap_or_default();
        let expected = record.dead.as_ref().map_or(truth, |cell| cell.text.clone());
        let agreed = found.iter().all(|(_, code)| *code == expected);
        let place = record.dead.as_ref().map_or(record.place, |cell| cell.place);
        let subject = format!("dead_letter of event {}", index + 1);
        (!agreed).then(|| Disagreement { file: file.to_owned(), place, subject, expected, found })
    };
    script.records.iter().enumerate().filter_map(record).collect()
}

/// The text with every agreed disagreement written into its cell, and how many there were. They are taken off the
/// outcome.
pub(crate) fn rewrite(
    document: &Document,
    script: &Script,
    engines: &[Engine],
    outcome: &mut Outcome,
) -> (String, usize) {
    let mut tables: Vec<(usize, Table)> = document.expects.iter().cloned().enumerate().collect();
    let before = outcome.disagreements.len();
    for (index, question) in script.questions.iter().enumerate() {
        let Some(truth) = engines.first().and_then(|engine| engine.replies[index].as_ref()) else { continue };
        for expected in &question.expected {
            let here = |other: &Disagreement| other.place == expected.cell.place;
            let agreed = |other: &Disagreement| here(other) && other.engines_agree();
            if outcome.disagreements.iter().any(agreed) {
                put(&mut tables, question, expected, truth.spell(&expected.output));
                outcome.disagreements.retain(|other| !here(other));
            }
        }
    }
    let rewritten = before - outcome.disagreements.len();
    // Later tables first, so that the lines of earlier ones stay where they are.
    tables.reverse();
    (document.rewritten(&tables), rewritten)
}

fn put(tables: &mut [(usize, Table)], question: &Question, expected: &Expected, text: String) {
    let (table, row) = question.row;
    tables[table].1.rows[row][expected.column].text = text;
}
