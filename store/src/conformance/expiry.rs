//! States that nobody writes any more.

use std::collections::BTreeMap;

use tidemark_kernel::event::Position;
use tidemark_kernel::plan::Fingerprint;
use tidemark_kernel::time::{Span, Time};

use super::{LOG, Subject, VIEW, begin, flush, keys_of, states, step};

/// Idle states are forgotten once they may be, positions never, and nothing at all where states are kept for ever.
/// `set_clock` sets the clock that the store was given.
///
/// # Panics
/// Where the store breaks the law.
pub async fn idle_states_expire(store: Subject, set_clock: impl Fn(Time)) {
    let hour = Span::from_secs(3600);
    let clock = |hours: i64| set_clock(Time::from_millis(hours * hour.millis()));
    let positions = BTreeMap::from([(LOG, Position::START)]);
    let expiring = store.begin(VIEW, Fingerprint([7; 16]), &positions, Some(hour)).await.unwrap();
    let eternal = begin(&store).await;
    let keys = keys_of(0, 2);

    clock(0);
    for generation in [&expiring, &eternal] {
        flush(&store, generation, step(LOG, 0, 1, &[(&keys[0], b"idle"), (&keys[1], b"busy")])).await;
    }
    clock(1);
    flush(&store, &expiring, step(LOG, 1, 2, &[(&keys[1], b"busy")])).await;
    assert_eq!(store.expire(&expiring).await.unwrap(), 0, "idle for exactly as long as it is kept");
    clock(2);
    assert_eq!(store.expire(&expiring).await.unwrap(), 1);
    assert_eq!(store.expire(&eternal).await.unwrap(), 0);

    assert_eq!(states(&store, &expiring, &keys[0]).await, []);
    assert_eq!(states(&store, &expiring, &keys[1]).await, [(LOG, b"busy".to_vec())]);
    assert_eq!(states(&store, &eternal, &keys[0]).await, [(LOG, b"idle".to_vec())]);
    assert_eq!(store.positions(&expiring).await.unwrap()[&LOG][&0], Position(2));
}
