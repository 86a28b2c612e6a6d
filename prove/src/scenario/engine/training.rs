//! The training engine: event tables on disk, label files, training sets.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use tidemark_kernel::{Token, Visibility};
use tidemark_offline::{EventTable, Location, Positions};

use super::{Reply, batch};
use crate::labels::{Label, train};
use crate::scenario::RunError;
use crate::scenario::script::{Question, Script};

/// Event tables of a scenario in a folder of their own.
pub(crate) struct Tables<'s> {
    script: &'s Script,
    location: Location,
}

impl<'s> Tables<'s> {
    /// Writes all events of the scenario, source by source.
    pub(crate) async fn write(script: &'s Script, folder: &Path) -> Result<Self, RunError> {
        let location = Location::local(folder.join("offline"));
        for source in script.repo.sources.values() {
            let mut table = EventTable::open_or_create(&location, source).await?;
            let (mut rows, mut to) = (Vec::new(), Positions::new());
            for record in script.records.iter().filter(|record| record.source.name == source.name) {
                let batch = batch(record)?;
                to.insert(batch.partition, batch.to);
                rows.extend(Some(batch.events).filter(|events| events.num_rows() > 0));
            }
            table.append(&rows, &Positions::new(), &to, None).await?;
        }
        Ok(Self { script, location })
    }

    /// Answers the questions, each with its visibility. Those of visibility `as_served` go by the token of their
    /// lookup, and are not asked where there is none.
    pub(crate) async fn answer(
        &self,
        tokens: &[Option<Token>],
        folder: &Path,
    ) -> Result<Vec<Option<Reply>>, RunError> {
        let mut replies = vec![None; self.script.questions.len()];
        for (index, group) in self.groups(tokens).into_values().enumerate() {
            let first = &self.script.questions[group[0]];
            let labels: Vec<Label> = group
                .iter()
                .map(|question| label(&self.script.questions[*question], tokens[*question].as_ref()))
                .collect();
            let service = Arc::clone(&first.service);
            let file = folder.join(format!("labels{index}.parquet"));
            let sources = &self.script.repo.sources;
            let answers = train(service, sources, &self.location, &labels, first.visibility, &file).await?;
            for (question, answer) in group.into_iter().zip(answers) {
                replies[question] = Some(Reply::Answer(answer));
            }
        }
        Ok(replies)
    }

    /// Questions that can share a label file.
    fn groups(&self, tokens: &[Option<Token>]) -> BTreeMap<(usize, String), Vec<usize>> {
        let mut groups: BTreeMap<(usize, String), Vec<usize>> = BTreeMap::new();
        for (index, question) in self.script.questions.iter().enumerate() {
            if question.visibility != Visibility::AsServed || tokens[index].is_some() {
                groups.entry((question.row.0, question.visibility.to_string())).or_default().push(index);
            }
        }
        groups
    }
}

fn label(question: &Question, token: Option<&Token>) -> Label {
    Label { asked: question.asked.clone(), at: question.at, token: token.cloned() }
}
