//! Logs damaged entities, each once, since one may be asked about a thousand times a second.

use std::collections::BTreeSet;

use parking_lot::Mutex;
use tidemark_kernel::error::Explain;
use tidemark_kernel::event::Partition;

use crate::error::{Damage, RowError};
use crate::lookups::Results;

/// How many are remembered. Where more are damaged, naming each says nothing more; the metric still counts them.
const REMEMBERED: usize = 1000;

/// The damaged entities that were logged.
#[derive(Debug, Default)]
pub(crate) struct Damages(Mutex<BTreeSet<(String, String, Option<Partition>)>>);

impl Damages {
    /// Logs those that some of these rows met with and that were not logged before.
    pub(crate) fn tell(&self, results: &Results) {
        for result in results {
            if let Err(RowError::Damaged(damage)) = result
                && self.is_new(damage)
            {
                tracing::error!(view = damage.view, entity = damage.entity, "{}", damage.explained());
            }
        }
    }

    fn is_new(&self, damage: &Damage) -> bool {
        let mut told = self.0.lock();
        told.len() < REMEMBERED && told.insert((damage.view.clone(), damage.entity.clone(), damage.partition))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::DamageReason;

    #[test]
    fn each_is_told_once() {
        let damages = Damages::default();
        let of = |entity: usize| Damage {
            view: "payments".into(),
            entity: format!("user_id={entity}"),
            partition: Some(Partition(3)),
            reason: DamageReason::Checksum,
        };
        assert!(damages.is_new(&of(0)) && !damages.is_new(&of(0)));
        assert!(damages.is_new(&Damage { partition: None, ..of(0) }));
        let told = (1..2 * REMEMBERED).filter(|entity| damages.is_new(&of(*entity))).count();
        assert_eq!(told, REMEMBERED - 2);
    }
}
