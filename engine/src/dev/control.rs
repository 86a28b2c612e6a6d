//! Commands that a running `dev` carries out, since it has the stores open.

use tidemark_ingest::IngestError;
use tidemark_registry::{Change, Loss, Problems};
use tokio::sync::{mpsc, oneshot, watch};

use crate::Result;
use crate::project::Project;

/// What applying the definitions of a folder came to.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// What they changed, in order.
    pub changes: Vec<Change>,
    /// What services answered before and do not any more.
    pub losses: Vec<Loss>,
    /// The views and services of the version before that mean something else in this version of Tidemark than in the one that
    /// applied them.
    pub reread: Vec<String>,
    /// Whether they meant anything else than the version before.
    pub is_change: bool,
    /// Whether settings have changed, which take effect at the next start.
    pub settings_later: bool,
    /// What is doubtful in them.
    pub warnings: Problems,
    /// The version that runs now.
    pub version: u64,
}

/// Where the answer to a request to apply goes.
pub(super) type Answer = oneshot::Sender<Result<Outcome>>;

/// Gives commands to a [`Dev`](super::Dev) that runs. Clones give them to the same one.
#[derive(Clone, Debug)]
pub struct Control {
    project: watch::Receiver<Project>,
    requests: mpsc::Sender<Answer>,
}

/// The other end of a [`Control`].
#[derive(Debug)]
pub(super) struct Controlled {
    pub(super) project: watch::Sender<Project>,
    pub(super) requests: mpsc::Receiver<Answer>,
}

pub(super) fn control(project: Project) -> (Control, Controlled) {
    let (tell, project) = watch::channel(project);
    let (request, requests) = mpsc::channel(1);
    (Control { project, requests: request }, Controlled { project: tell, requests })
}

impl Control {
    /// The version that runs. Its [store](Project::store), [lookups](Project::lookups) and [status](Project::status) are
    /// those of the running process, and files are [taken in](Project::take_in) by it.
    #[must_use]
    pub fn project(&self) -> Project {
        self.project.borrow().clone()
    }

    /// Waits until everything there is, in topics and pushes, is taken in and committed.
    ///
    /// # Errors
    /// Fails where a store or the ingestion does.
    pub async fn idle(&self) -> Result<()> {
        let ingest = self.project().running().map(|running| running.ingest.clone());
        match ingest {
            Some(ingest) => Ok(ingest.idle().await?),
            None => Ok(()),
        }
    }

    /// Applies the definitions of the folder, and backfills what they change. As with definitions that it finds changed by
    /// itself, what services lose by them is no reason to refuse them.
    ///
    /// # Errors
    /// Fails where they are refused; the version before goes on.
    pub async fn apply(&self) -> Result<Outcome> {
        let (answer, answered) = oneshot::channel();
        // A run that ends takes no request and drops the one at hand.
        let Ok(()) = self.requests.send(answer).await else { return Err(IngestError::NotRunning.into()) };
        answered.await.unwrap_or_else(|_| Err(IngestError::NotRunning.into()))
    }
}
