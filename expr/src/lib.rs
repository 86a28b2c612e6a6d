//! Scalar SQL: parse, type-check, evaluate on batches.
//!
//! An [`Expression`] is compiled once, against a [`Scope`] of named, typed columns, and evaluated on record
//! batches. A row's value depends on that row alone: any batch split and any row order give the same bits, and a
//! row that fails (division by zero, integer overflow, a cast) is null and counted.
//!
//! Parsing is sqlparser's; the trees that are evaluated are DataFusion's physical expressions, held together by
//! our own rules of types (`bind`) over an allow list ([`allow`]) whose functions give the same bits everywhere.
//! No DataFusion type leaves this crate.
//!
//! Reading order: [`allow`] (what may be written), `bind` (how text becomes a typed tree), [`Expression`] (how a
//! batch is evaluated), [`ViewEvaluator`] and [`DerivedEvaluator`] (what every engine does with a view's and a
//! service's expressions).
//!
//! This crate must never contain an aggregate or I/O. It parses aggregate *calls* ([`parse_aggregate`]); what
//! they compute is the kernel's.

mod aggregate;
pub mod allow;
mod bind;
mod call;
mod derived;
mod error;
mod expression;
mod kernels;
mod scope;
mod suggest;
mod text;
mod view;

pub use aggregate::{AggregateCall, Piece, parse_aggregate};
pub use derived::{DerivedEvaluator, Operand};
pub use error::{EvaluateError, ExprError};
pub use expression::{Evaluated, Expression};
pub use scope::Scope;
pub use suggest::closest;
pub use view::{ViewEvaluator, ViewRows};

/// Version of what expressions mean, down to the bits. Part of every fingerprint.
///
/// It changes whenever any expression gives other bits for any row; the golden tests notice.
pub const SEMANTICS: u32 = 2;
