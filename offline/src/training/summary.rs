//! The summary of a training set: how many rows and values it has, and which features are empty. Without it, a set
//! whose keys match nothing looks like one of rare features.

use arrow::array::{Array, ArrayRef};
use arrow::datatypes::Field;
use tidemark_kernel::{FeaturePlan, Span, Time, TimeRange};

/// What a training set holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Summary {
    /// Its rows: those of the label file.
    pub rows: usize,
    /// How many rows of event tables were read, once for each role of each view.
    pub events: u64,
    /// How many evaluations of derived features failed; their values are null.
    pub failed: u64,
    /// The views whose source has no events at all, by their roles in the service: every feature of theirs is empty in
    /// every row.
    pub empty_views: Vec<String>,
    /// The views whose source has events of which no label sees any, by their roles in the service: counts are 0 in every
    /// row, and everything else is null.
    pub unseen_views: Vec<String>,
    /// The views with labels about instants at which none of their windows can see an event.
    pub outside: Vec<Outside>,
    /// Whether label times name no zone, and so were read as UTC.
    pub has_naive_times: bool,
    /// Its features in order.
    pub features: Vec<FeatureSummary>,
}

/// Labels that a view cannot answer from any event, whatever their entity.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outside {
    /// The view, by its role in the service.
    pub view: String,
    /// How many labels are so early that every window ends at or before the first event of the view's source.
    pub before: usize,
    /// How many labels are so late that the longest window begins behind the last event.
    pub after: usize,
    /// The event time of the source's first event.
    pub first: Time,
    /// The event time of the source's last event.
    pub last: Time,
}

/// How often a feature has a value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FeatureSummary {
    /// Its column.
    pub name: String,
    /// In how many rows its value is null.
    pub nulls: usize,
}

/// The labels from which a view's windows see none of the events, whose times are in this range; none where there are
/// no such labels.
pub(super) fn find_outside(
    (role, plan): (&str, &FeaturePlan),
    times: &[Time],
    events: TimeRange,
) -> Option<Outside> {
    let is_before = |at: Time| plan.windows.iter().all(|window| window.edges(at).end <= events.start);
    let is_after = |at: Time| plan.windows.iter().all(|window| window.edges(at).start >= events.end);
    let before = times.iter().filter(|at| is_before(**at)).count();
    let after = times.iter().filter(|at| is_after(**at)).count();
    let (first, last) = (events.start, events.end.minus(Span::TICK));
    (before + after > 0).then(|| Outside { view: role.to_owned(), before, after, first, last })
}

/// How often each feature is null.
pub(super) fn summarize(fields: &[Field], columns: &[ArrayRef]) -> Vec<FeatureSummary> {
    let features = fields.iter().zip(columns);
    features
        .map(|(field, column)| FeatureSummary { name: field.name().clone(), nulls: column.null_count() })
        .collect()
}
