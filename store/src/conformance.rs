//! The contract as tests: one function for each law of [`OnlineStore`], which panics where a store breaks it.
//!
//! [`conformance!`](crate::conformance!) runs them all, each as a test of its own on a fresh store:
//!
//! ```ignore
//! tidemark_store::conformance!(async || (Arc::new(MyStore::connect().await) as Subject, ()));
//! ```
//!
//! The closure gives a store that holds nothing, and whatever must live as long as it (a temporary directory). The
//! calling crate needs `tokio` with `macros` and `rt-multi-thread`.
//!
//! [`expiry`] needs a clock that can be set: run it with [`conformance_of_expiry!`](crate::conformance_of_expiry!) where
//! the store takes one. [`damage`] needs a way to what is stored. What a store keeps across a restart is its own to test.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a broken law is a panic")]

pub mod contents;
pub mod damage;
pub mod duel;
pub mod expiry;
pub mod flushes;
pub mod generations;
pub mod histories;
pub mod parts;
pub mod races;

use std::collections::BTreeMap;
use std::sync::Arc;

use tidemark_kernel::event::{Offset, Partition, Position};
use tidemark_kernel::key::EntityKey;
use tidemark_kernel::plan::Fingerprint;

use crate::contract::{
    BUCKETS, BucketFlush, FlushOutcome, Generation, NewState, OnlineStore, PartitionStates,
};

/// A store under test.
pub type Subject = Arc<dyn OnlineStore>;

/// Tests that a store keeps the contract, one for each law. See [the module](mod@crate::conformance).
#[macro_export]
macro_rules! conformance {
    ($fresh:expr) => {
        $crate::conformance_of! { $fresh;
            contents: entities_come_in_key_order, several_generations_are_read_at_once,
                a_sample_is_of_the_generation, sizes_are_counted, sizes_are_estimated, any_bytes_are_a_key, any_bytes_are_a_state;
            duel: two_owners_lose_and_double_nothing;
            flushes: states_come_with_their_position, a_flush_from_elsewhere_writes_nothing,
                a_repeated_flush_is_done, an_absent_position_is_never_zero, flushes_follow_each_other,
                a_flush_in_place_writes, a_state_can_be_deleted, partitions_are_kept_apart,
                wrong_flushes_are_refused_whole;
            generations: begin_sets_every_bucket, a_late_partition_is_added_once, generations_share_nothing,
                publishing_compares_first, only_generations_of_the_view_are_published,
                unpublished_generations_are_found, numbers_are_never_given_again, a_dropped_generation_is_gone, a_generation_is_whole_or_not,
                several_are_asked_about_and_dropped, several_are_compared_with_where_they_should_be, many_are_compared,
                several_are_read_at_once, the_live_generation_cannot_be_dropped;
            histories: the_first_history_of_a_source_stays;
            parts: a_busy_state_goes_idle_and_is_read_at_each_step, parts_are_joined_by_ascending_number, a_change_writes_what_it_names, a_whole_state_replaces_all_parts,
                a_deleted_state_leaves_no_part, what_is_kept_must_be_stored, what_is_kept_may_be_of_the_same_call,
                parts_of_several_partitions_are_kept_apart, a_state_has_thousands_of_parts, a_state_in_parts_is_one_state,
                any_changes_leave_what_they_should;
            races: one_of_many_writers_wins, no_read_sees_half_a_flush, no_read_sees_half_of_the_parts,
                one_of_many_backfills_is_published;
        }
    };
}

/// The list of laws unrolled: used by [`conformance!`](crate::conformance!) alone.
#[doc(hidden)]
#[macro_export]
macro_rules! conformance_of {
    ($fresh:expr; $($part:ident: $($law:ident),+;)+) => {
        $($(
            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $law() {
                let (store, _kept) = ($fresh)().await;
                $crate::conformance::$part::$law(store).await;
            }
        )+)+
    };
}

/// Tests that a store that takes a clock forgets what is not needed any more, and nothing else.
///
/// ```ignore
/// tidemark_store::conformance_of_expiry!(async |clock| (Arc::new(MyStore::new(clock)) as Subject, ()));
/// ```
#[macro_export]
macro_rules! conformance_of_expiry {
    ($fresh:expr) => {
        $crate::conformance_of_expiry! { $fresh;
            a_state_is_forgotten_when_it_is_not_needed_anymore, a_write_counts_from_anew,
            a_state_that_is_needed_for_good_stays, a_partition_that_stands_still_forgets_nothing,
            partitions_are_forgotten_apart, a_write_without_renewal_shortens_nothing, a_missing_state_gets_an_expiry,
            parts_of_a_forgotten_state_are_not_kept, steps_are_short
        }
    };
    ($fresh:expr; $($law:ident),+) => {$(
        #[tokio::test]
        async fn $law() {
            let hand = $crate::conformance::expiry::Hand::default();
            let (store, _kept) = ($fresh)(hand.clock()).await;
            $crate::conformance::expiry::$law(store, &hand).await;
        }
    )+};
}

const VIEW: &str = "payments";
const LOG: Partition = Partition(0);

/// A generation of [`VIEW`] with one partition at 0.
async fn begin(store: &Subject) -> Generation {
    let positions = BTreeMap::from([(LOG, Position::START)]);
    store.begin(VIEW, Fingerprint([7; 16]), &positions, None).await.unwrap()
}

/// `count` keys of one bucket, all different.
fn keys_of(bucket: u16, count: usize) -> Vec<EntityKey> {
    let keys = (0_u64..).map(|number| EntityKey::from_bytes(number.to_be_bytes()));
    keys.filter(|key| key.bucket(BUCKETS) == bucket).take(count).collect()
}

fn key(bytes: &[u8]) -> EntityKey {
    EntityKey::from_bytes(bytes)
}

/// A flush of the bucket of `key`, which must be that of every key.
fn step(partition: Partition, from: Offset, to: Offset, writes: &[(&EntityKey, &[u8])]) -> BucketFlush {
    let bucket = writes.first().map_or(0, |(key, _)| key.bucket(BUCKETS));
    let state = |state: &[u8]| Some(NewState::permanent(state.to_vec()));
    let writes = writes.iter().map(|(key, bytes)| ((*key).clone(), state(bytes))).collect();
    BucketFlush { bucket, partition, from: Position(from), to: Position(to), writes }
}

/// Applies one flush and says what became of it.
async fn flush(store: &Subject, generation: &Generation, step: BucketFlush) -> FlushOutcome {
    let outcomes = store.flush(generation, vec![step]).await.unwrap();
    assert_eq!(outcomes.len(), 1, "one outcome for each flush");
    outcomes[0]
}

/// The states of one entity.
async fn states(store: &Subject, generation: &Generation, key: &EntityKey) -> PartitionStates {
    let mut found = store.lookup(generation, std::slice::from_ref(key)).await.unwrap();
    assert_eq!(found.len(), 1, "one answer for each key");
    found.remove(0).unwrap()
}

/// A reproducible source of chance (SplitMix64), so that the suite needs no crate for it.
struct Dice(u64);

impl Dice {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut bits = self.0;
        bits = (bits ^ (bits >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        bits = (bits ^ (bits >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        (bits ^ (bits >> 31)) % bound
    }
}
