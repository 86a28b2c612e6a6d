//! The barrier that turns a panic of the database library into an error.
//!
//! redb checks the pages of a file against their checksums after an unclean shutdown and when asked to, but not at
//! each read. In between it trusts what it decodes, and what a damaged page decodes to may fail one of its
//! assertions. To a user that is a damaged file like any other and deserves the same message, so everything that
//! touches redb runs in here. (In a build with `panic = "abort"` there is nothing to catch and the process ends.)

use std::any::Any;
use std::cell::Cell;
use std::panic::{self, AssertUnwindSafe};
use std::sync::Once;

thread_local! {
    static INSIDE: Cell<bool> = const { Cell::new(false) };
}

/// Runs `work`; if it panics, the panic's message.
///
/// The caller must not use what `work` was changing any more: that is what makes the unwinding safe.
pub(super) fn run<T>(work: impl FnOnce() -> T) -> Result<T, String> {
    silence_inside();
    let outer = INSIDE.replace(true);
    let result = panic::catch_unwind(AssertUnwindSafe(work));
    INSIDE.set(outer);
    result.map_err(|payload| message(payload.as_ref()))
}

/// The default panic hook prints before anyone can catch: the message is ours to give, once, as an error. Panics
/// elsewhere go to the hook that was there.
fn silence_inside() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let before = panic::take_hook();
        panic::set_hook(Box::new(move |info| {
            if !INSIDE.get() {
                before(info);
            }
        }));
    });
}

fn message(payload: &(dyn Any + Send)) -> String {
    let text = payload.downcast_ref::<&str>().copied();
    let text = text.or_else(|| payload.downcast_ref::<String>().map(String::as_str));
    text.unwrap_or("no message").lines().next().unwrap_or_default().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_becomes_its_message() {
        assert_eq!(run(|| 7), Ok(7));
        assert_eq!(run(|| panic!("page {} is odd\nand more", 3)), Err::<(), _>("page 3 is odd".to_owned()));
        assert_eq!(run(|| panic::panic_any(3)), Err::<(), _>("no message".to_owned()));
        assert!(!INSIDE.get());
    }
}
