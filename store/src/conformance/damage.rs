//! Damage to what is stored, where a test can do it.
//!
//! A store must return only bytes that were written there. It need not notice a part
//! that is lost without a trace: decoding the state fails then, because the first part names all others.

use tidemark_kernel::event::Position;
use tidemark_kernel::key::EntityKey;
use tidemark_kernel::parts::{Rest, StateChange};

use super::{LOG, Subject, begin, flush, keys_of, step};
use crate::contract::{Generation, NewState};

/// One entity of a batch whose stored bytes are damaged is an error in its place, and the others are answered.
/// `damage` changes what is stored of an entity, whose state has the parts `second` and, with number 7, ` state`.
///
/// # Panics
/// Where the store breaks the law.
pub async fn a_damaged_entity_fails_alone(store: Subject, damage: impl AsyncFn(&Generation, &EntityKey)) {
    let generation = begin(&store).await;
    let keys = keys_of(2, 4);
    let mut written = step(LOG, 0, 1, &[(&keys[0], b"first state"), (&keys[2], b"third state")]);
    let parts = vec![(7, Some(b" state".to_vec()))];
    let change = StateChange { first: b"second".to_vec(), parts, rest: Rest::Absent };
    written.writes.push((keys[1].clone(), Some(NewState::new(change, None))));
    flush(&store, &generation, written).await;
    damage(&generation, &keys[1]).await;

    let found = store.lookup(&generation, &keys).await.unwrap();
    let [first, damaged, third, none] = &found[..] else { panic!("{found:?}") };
    assert_eq!(first.as_ref().unwrap(), &[(LOG, b"first state".to_vec())]);
    assert_eq!(third.as_ref().unwrap(), &[(LOG, b"third state".to_vec())]);
    assert_eq!(none.as_ref().unwrap(), &[]);
    let error = damaged.as_ref().unwrap_err();
    assert!(error.is_of_entity(), "{error:?}");
    assert!(error.to_string().contains(&format!("0x{:?}", keys[1])), "{error}");

    // A read of everything must fail here: what is left is not all there is.
    let mut pages = store.entities(&generation).await.unwrap();
    assert!(pages.next_page().await.unwrap_err().is_of_entity());
    assert!(store.check().await.unwrap_err().is_of_entity());
    assert_eq!(store.positions(&generation).await.unwrap()[&LOG][&2], Position(1));
}
