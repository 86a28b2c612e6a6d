//! The one file in which lookups use the semantics of a plan: states are decoded, the instant is resolved, the kernel
//! answers, and the token records which events were seen.

use std::collections::BTreeMap;
use std::sync::Arc;

use tidemark_kernel::answer::{Answer, Status, TooEarly, answer, horizon};
use tidemark_kernel::event::{Partition, Position};
use tidemark_kernel::key::EntityKey;
use tidemark_kernel::plan::FeaturePlan;
use tidemark_kernel::service::{ServicePlan, ServiceView};
use tidemark_kernel::source::SourcePlan;
use tidemark_kernel::state::PartitionState;
use tidemark_kernel::time::{Span, Time};
use tidemark_kernel::token::{Token, ViewToken};
use tidemark_kernel::value::Value;

use crate::error::{Damage, DamageReason, RowError};
use crate::states::Stored;

/// What one row was answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RowAnswer {
    /// The instant it is about: its values see the events before it.
    pub at: Time,
    /// One value for each feature of the service, windowed ones first, then the derived ones.
    pub values: Vec<Value>,
    /// One status for each value.
    pub statuses: Vec<Status>,
    /// For each view of the service, in each of its roles, the event time of its newest event within reach of its windows.
    pub newest: Vec<Option<Time>>,
    /// What was seen.
    pub token: Token,
    /// How many windowed values are null because an int64 total does not fit.
    pub overflowed: u64,
}

/// Which instant a row is asked about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Instant {
    /// This instant or no answer.
    At(Time),
    /// This instant, or the row's horizon where that is a little later.
    NotBefore(Time),
}

/// How much later the instant of a row may be than the clock because of horizons that are: clocks differ by less. A
/// horizon further ahead is that of a clock which is wrong, and must not move the answers of other views.
const SKEW: Span = SourcePlan::DEFAULT_MAX_ARRIVAL_AHEAD;

/// The state of one entity in one view; no partitions for a null key.
pub(crate) struct Entity<'p> {
    role: &'p str,
    plan: &'p FeaturePlan,
    partitions: Vec<(Partition, PartitionState)>,
    /// As of [`ViewToken::retractions`].
    retractions: Position,
}

impl<'p> Entity<'p> {
    /// Decodes what is stored of an entity.
    ///
    /// # Errors
    /// Fails where the store found it damaged, or a state's bytes are not those of a state of this plan.
    pub(crate) fn decode(
        view: &'p ServiceView,
        key: Option<&EntityKey>,
        stored: &Stored,
        retractions: Position,
    ) -> Result<Self, RowError> {
        let plan: &FeaturePlan = &view.plan;
        let decode = |(partition, bytes): &(Partition, Vec<u8>)| match PartitionState::decode(plan, bytes) {
            Ok(state) => Ok((*partition, state)),
            Err(error) => {
                let entity = key.map_or_else(String::new, |key| name_entity(plan, key));
                let reason = DamageReason::Undecodable(error);
                Err(RowError::Damaged(Damage {
                    view: plan.view.clone(),
                    entity,
                    partition: Some(*partition),
                    reason,
                }))
            }
        };
        let stored = stored.as_ref().map_err(|damage| RowError::Damaged(damage.clone()))?;
        let partitions = stored.iter().flatten().map(decode).collect::<Result<_, _>>()?;
        Ok(Self { role: &view.role, plan, partitions, retractions })
    }

    /// The entity's retention horizon in this view.
    fn horizon(&self) -> Option<Time> {
        horizon(self.plan, &self.partitions)
    }

    /// Whether it cannot be asked about this instant any more.
    fn is_after(&self, at: Time) -> bool {
        self.horizon().is_some_and(|horizon| at < horizon)
    }

    /// What it is at this instant: too early, where that is before its horizon.
    fn answer(&self, at: Time) -> Answer {
        answer(self.plan, &self.partitions, at).unwrap_or_else(|_| Answer::too_early(self.plan, at))
    }

    fn token(&self, at: Time) -> (String, ViewToken) {
        let last =
            self.partitions.iter().map(|(partition, state)| (*partition, state.last_offset())).collect();
        let (fingerprint, retractions) = (self.plan.fingerprint(), self.retractions);
        let too_early = self.is_after(at);
        (self.role.to_owned(), ViewToken { fingerprint, last, too_early, retractions })
    }
}

/// Answers the windowed features of a service for one row, from its entity in each role of each view. Derived features are
/// still to be added.
///
/// # Errors
/// Refuses an instant before the horizons of all its entities. Where some can be answered, the others' features are too
/// early.
pub(crate) fn answer_row(
    service: &ServicePlan,
    entities: &[Arc<Entity<'_>>],
    instant: Instant,
) -> Result<RowAnswer, RowError> {
    let at = resolve(entities, instant)?;
    let answers: Vec<Answer> = entities.iter().map(|entity| entity.answer(at)).collect();
    let features = || service.features.iter();
    Ok(RowAnswer {
        at,
        values: features().map(|place| answers[place.view].values[place.feature].clone()).collect(),
        statuses: features().map(|place| answers[place.view].statuses[place.feature]).collect(),
        newest: answers.iter().map(|answer| answer.newest).collect(),
        overflowed: answers.iter().map(|answer| answer.overflowed).sum(),
        token: Token {
            at,
            views: entities.iter().map(|entity| entity.token(at)).collect::<BTreeMap<_, _>>(),
        },
    })
}

/// The instant a row is answered for. It is asked of all entities together, so that one `at` holds for all of them.
fn resolve(entities: &[Arc<Entity<'_>>], instant: Instant) -> Result<Time, RowError> {
    let horizons = || entities.iter().filter_map(|entity| Some((entity.horizon()?, entity)));
    let all_after = |at: Time| entities.iter().all(|entity| entity.is_after(at));
    let latest = horizons().max_by_key(|(horizon, _)| *horizon);
    match (instant, latest) {
        (Instant::At(at), Some((horizon, entity))) if all_after(at) => {
            let early = TooEarly { at, horizon, time_travel: entity.plan.time_travel };
            Err(RowError::TooEarly { view: entity.role.to_owned(), early })
        }
        (Instant::NotBefore(at), Some((horizon, _))) if all_after(at.plus(SKEW)) => Ok(horizon),
        (Instant::NotBefore(at), _) => {
            let near = horizons().map(|(horizon, _)| horizon).filter(|horizon| *horizon <= at.plus(SKEW));
            Ok(near.fold(at, Time::max))
        }
        (Instant::At(at), _) => Ok(at),
    }
}

/// An entity as `name=value`, its parts joined by commas; its bytes in hexadecimal where they are no such key.
pub(crate) fn name_entity(plan: &FeaturePlan, key: &EntityKey) -> String {
    match key.decode(plan.key_types()) {
        Ok(values) => {
            let parts = plan.keys.iter().zip(values).map(|(key, value)| format!("{}={value}", key.name));
            parts.collect::<Vec<_>>().join(",")
        }
        Err(_) => format!("0x{key:?}"),
    }
}
