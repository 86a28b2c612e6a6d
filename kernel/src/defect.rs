//! What the kernel does where two of its parts contradict each other.
//!
//! A sum that is given text, or two states of different kinds, cannot come from any definition or any data: plans, columns and
//! stored states are checked when they come in. If it happens all the same, Tidemark has a defect. A null or a skipped value
//! would then be stored and served as if it were right, so the kernel stops instead, in release builds too.

use std::fmt::Debug;

/// Stops with a message that names both parts. It is never inlined, so that the loops which check pay for a jump alone.
///
/// # Panics
/// Always.
#[cold]
#[inline(never)]
#[track_caller]
#[expect(clippy::panic, reason = "a wrong value that is stored cannot be told from a right one")]
pub(crate) fn defect(expected: &str, found: &dyn Debug) -> ! {
    /// A state may be megabytes, and what the first values of it are tells enough.
    const SHOWN: usize = 200;
    let found: String = format!("{found:?}").chars().take(SHOWN).collect();
    panic!("defect of Tidemark: {expected}, but found {found}; please report it")
}
