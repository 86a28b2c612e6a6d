//! Training sets, from labels in files or in memory.

use std::collections::BTreeMap;
use std::path::Path;

use tidemark_kernel::Visibility;
use tidemark_kernel::time::Zone;
use tidemark_kernel::value::Unit;
use tidemark_offline::{
    Effort, LabelSource, Progress, Summary, TrainRequest, TrainingSet, label_files, train,
};

use crate::Result;
use crate::error::EngineError;
use crate::project::Project;

/// What to train on.
#[derive(Clone, Debug)]
pub struct Training {
    /// The service whose features are wanted.
    pub service: String,
    /// The labels.
    pub labels: LabelSource,
    /// The label column that holds each label's instant.
    pub time: String,
    /// The unit of label times that are numbers.
    pub unit: Option<Unit>,
    /// The zone of times in label columns that name none; UTC without one.
    pub zone: Option<Zone>,
    /// The label columns of keys and request fields, by the service's names; one that is not named has a column of its own name.
    pub keys: BTreeMap<String, String>,
    /// Which events labels see.
    pub visibility: Visibility,
    /// The label column with the lookups' tokens, which [`Visibility::AsServed`] needs.
    pub token: Option<String>,
    /// Whether statuses and times of newest events are wanted as well.
    pub status: bool,
}

impl Training {
    /// Every feature of a service as of each label's instant, as far as it was known then; keys have columns of their
    /// own names.
    pub fn new(service: impl Into<String>, labels: impl Into<LabelSource>, time: impl Into<String>) -> Self {
        Self {
            service: service.into(),
            labels: labels.into(),
            time: time.into(),
            unit: None,
            zone: None,
            keys: BTreeMap::new(),
            visibility: Visibility::AsKnown,
            token: None,
            status: false,
        }
    }
}

/// How a training set tells how far it is.
pub type TrainingWatch<'w> = &'w mut (dyn FnMut(Progress<'_>) + Send);

impl Project {
    /// Makes a training set and writes it to `out`, as Parquet or CSV by its extension: whole or not at all.
    ///
    /// # Errors
    /// Says what to change in the labels, the request or the tables.
    pub async fn train(&self, training: &Training, out: &Path, watch: TrainingWatch<'_>) -> Result<Summary> {
        if let LabelSource::Files(labels) = &training.labels {
            refuse_own_labels(labels, out)?;
        }
        Ok(train(&self.request(training)?, out, watch).await?)
    }

    /// Makes a training set in memory.
    ///
    /// # Errors
    /// Says what to change in the labels, the request or the tables.
    pub async fn training_set(&self, training: &Training, watch: TrainingWatch<'_>) -> Result<TrainingSet> {
        Ok(TrainingSet::build(&self.request(training)?, watch).await?)
    }

    fn request(&self, training: &Training) -> Result<TrainRequest> {
        Ok(TrainRequest {
            service: self.service(&training.service)?,
            sources: self.repo.sources.clone(),
            location: self.location()?,
            labels: training.labels.clone(),
            time: training.time.clone(),
            unit: training.unit,
            zone: training.zone,
            keys: training.keys.clone(),
            visibility: training.visibility,
            token: training.token.clone(),
            status: training.status,
            effort: Effort::default(),
        })
    }
}

/// A training set is never written over the labels it is made of.
fn refuse_own_labels(labels: &Path, out: &Path) -> Result<()> {
    let Ok(out) = out.canonicalize() else { return Ok(()) };
    let files = label_files(labels)?;
    let own = files.into_iter().find(|file| file.canonicalize().is_ok_and(|file| file == out));
    own.map_or(Ok(()), |own| Err(EngineError::OwnLabels(own)))
}
