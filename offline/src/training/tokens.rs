//! Checks of tokens against labels, plans and tables: whether `as_served` can see the same events as the lookups.

use tidemark_kernel::token::ViewToken;
use tidemark_kernel::{FeaturePlan, Position, ServiceView, Time, Token};

use super::error::{TokenProblem, TrainError};
use super::labels::Labels;
use super::problems::LabelProblems;
use crate::table::{EventTable, Retraction};

/// The labels' tokens, each of a lookup about its label's time. Empty where there are problems.
pub(super) fn read(
    labels: &Labels,
    column: &str,
    times: &[Time],
    problems: &mut LabelProblems,
) -> Result<Vec<Token>, TrainError> {
    let tokens = labels.tokens(column, problems)?;
    // Without all times, rows are not side by side.
    if times.len() == tokens.len() {
        for (at, (token, label)) in tokens.iter().zip(times).enumerate() {
            if let Some(token) = token.as_ref().filter(|token| token.at != *label) {
                let problem = TokenProblem::OtherTime { label: *label, at: token.at };
                labels.bad_token(at, &problem, problems);
            }
        }
    }
    Ok(tokens.into_iter().collect::<Option<_>>().unwrap_or_default())
}

/// Checks that the tokens are of this version of the view, and that its table holds what they saw of it in this role.
pub(super) fn check(
    labels: &Labels,
    tokens: &[Token],
    view: &ServiceView,
    table: &EventTable,
) -> Result<(), TrainError> {
    let retractions = if tokens.is_empty() { Vec::new() } else { table.retractions()? };
    let checked = |token: &Token| {
        let seen = token.views.get(&view.role).ok_or_else(|| TokenProblem::NoView(view.role.clone()))?;
        check_view(seen, &view.plan, table, &retractions)
    };
    let mut problems = LabelProblems::default();
    for (at, token) in tokens.iter().enumerate() {
        if let Err(problem) = checked(token) {
            labels.bad_token(at, &problem, &mut problems);
        }
    }
    problems.check()
}

fn check_view(
    token: &ViewToken,
    plan: &FeaturePlan,
    table: &EventTable,
    retractions: &[Retraction],
) -> Result<(), TokenProblem> {
    if token.fingerprint != plan.fingerprint() {
        let (view, token, plan) = (plan.view.clone(), token.fingerprint, plan.fingerprint());
        return Err(TokenProblem::Foreign { view, token, plan });
    }
    for (partition, last) in &token.last {
        let position = table.positions().get(partition).copied().unwrap_or(Position::START);
        if !position.covers(*last) {
            let source_name = plan.source.clone();
            return Err(TokenProblem::Uncovered {
                source_name,
                partition: *partition,
                position,
                last: *last,
            });
        }
    }
    // What was taken back behind the last event of the entity did not change what the lookup saw.
    let may_have_seen = |taken_back: &&Retraction| {
        token.last.get(&taken_back.partition).is_some_and(|last| taken_back.from.0 <= *last)
    };
    let seen = usize::try_from(token.retractions.0).unwrap_or(usize::MAX);
    if seen > retractions.len() {
        let (source_name, known) = (plan.source.clone(), retractions.len());
        return Err(TokenProblem::Restored { source_name, seen, known });
    }
    match retractions.iter().skip(seen).find(may_have_seen) {
        Some(taken_back) => {
            let (source_name, partition) = (plan.source.clone(), taken_back.partition);
            Err(TokenProblem::Retracted { source_name, partition, from: taken_back.from, to: taken_back.to })
        }
        None => Ok(()),
    }
}
