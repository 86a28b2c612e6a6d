//! Tokens held against labels, plans and tables: whether `as_served` can see again what the lookups saw.

use tidemark_kernel::token::ViewToken;
use tidemark_kernel::{FeaturePlan, Position, Time, Token};

use super::error::{TokenProblem, TrainError};
use super::labels::Labels;
use crate::table::Positions;

/// The labels' tokens, each of a lookup about its label's time.
pub(super) fn read(labels: &Labels, column: &str, times: &[Time]) -> Result<Vec<Token>, TrainError> {
    let tokens = labels.tokens(column)?;
    for (at, (token, label)) in tokens.iter().zip(times).enumerate() {
        if token.at != *label {
            let problem = TokenProblem::OtherTime { label: *label, at: token.at };
            return Err(labels.bad_token(at, problem));
        }
    }
    Ok(tokens)
}

/// Checks that the tokens are of this version of the view and that its table, which stands at `positions`, holds
/// what they saw.
pub(super) fn check(
    labels: &Labels,
    tokens: &[Token],
    plan: &FeaturePlan,
    positions: &Positions,
) -> Result<(), TrainError> {
    let checked = |token: &Token| {
        let view = token.views.get(&plan.view).ok_or_else(|| TokenProblem::NoView(plan.view.clone()))?;
        check_view(view, plan, positions)
    };
    tokens
        .iter()
        .enumerate()
        .try_for_each(|(at, token)| checked(token).map_err(|problem| labels.bad_token(at, problem)))
}

fn check_view(token: &ViewToken, plan: &FeaturePlan, positions: &Positions) -> Result<(), TokenProblem> {
    if token.fingerprint != plan.fingerprint() {
        let (view, token, plan) = (plan.view.clone(), token.fingerprint, plan.fingerprint());
        return Err(TokenProblem::Foreign { view, token, plan });
    }
    for (log, last) in &token.last {
        let position = positions.get(log).copied().unwrap_or(Position::START);
        if !position.covers(*last) {
            let source_name = plan.source.clone();
            return Err(TokenProblem::Uncovered { source_name, log: *log, position, last: *last });
        }
    }
    Ok(())
}
