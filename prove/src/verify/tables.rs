//! The event tables, each at a version that holds what the store has applied.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use tidemark_kernel::Position;
use tidemark_offline::{EventTable, Positions};

use super::{Request, VerifyError, View};

/// How long to wait before a table is looked at again.
const AGAIN: Duration = Duration::from_millis(200);

/// The event table of each source, at the newest version that was needed so far.
pub(super) struct Tables<'r> {
    request: &'r Request,
    open: BTreeMap<String, Arc<EventTable>>,
}

impl<'r> Tables<'r> {
    pub(super) const fn new(request: &'r Request) -> Self {
        Self { request, open: BTreeMap::new() }
    }

    /// The table of a view's source, once it holds all that was `applied`.
    ///
    /// # Errors
    /// [`VerifyError::Behind`] where it does not in time. Fails where the table holds less than the view's states because
    /// records were taken back, and where it cannot be read.
    pub(super) async fn covering(
        &mut self,
        view: &View<'_>,
        applied: &Positions,
    ) -> Result<Arc<EventTable>, VerifyError> {
        let name = &view.plan.source;
        if let Some(table) = self.open.get(name)
            && check_covered(view, table, applied).is_ok()
        {
            view.check_retractions(table).await?;
            return Ok(Arc::clone(table));
        }
        let missing = || VerifyError::Source { view: view.plan.view.clone(), name: name.clone() };
        let source = self.request.sources.get(name).ok_or_else(missing)?;
        let waiting = self.request.host.stopwatch();
        let mut table = EventTable::open(&self.request.location, source).await?;
        loop {
            view.check_retractions(&table).await?;
            match check_covered(view, &table, applied) {
                Ok(()) => break,
                Err(behind) if waiting.elapsed() >= self.request.patience => return Err(behind),
                Err(_) => self.request.host.sleep(AGAIN).await,
            }
            table.reload().await?;
        }
        let table = Arc::new(table);
        self.open.insert(name.clone(), Arc::clone(&table));
        Ok(table)
    }
}

/// What was applied must be in the table, or there is nothing to compare with.
fn check_covered(view: &View<'_>, table: &EventTable, applied: &Positions) -> Result<(), VerifyError> {
    for (partition, applied) in applied {
        let held = table.positions().get(partition).copied().unwrap_or(Position::START);
        if *applied > held {
            let (view, source_name) = (view.plan.view.clone(), view.plan.source.clone());
            return Err(VerifyError::Behind {
                view,
                source_name,
                partition: *partition,
                applied: *applied,
                held,
            });
        }
    }
    Ok(())
}
