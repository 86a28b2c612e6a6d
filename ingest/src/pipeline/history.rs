//! Checks that the states of the online store were made from this project's event tables.

use super::Pipeline;
use crate::error::IngestError;

impl Pipeline {
    /// Makes sure that what the online store holds of the source was made from these event tables, before any of it is
    /// read or written.
    pub(super) async fn claim_history(&self) -> Result<(), IngestError> {
        let mut wait = self.health.wait();
        loop {
            let claimed = self.shared.store.claim_history(&self.source.name, self.tables.history()).await;
            match claimed.map_err(IngestError::from) {
                Err(error) if wait.out(&error).await => {}
                claimed => return claimed,
            }
        }
    }
}
