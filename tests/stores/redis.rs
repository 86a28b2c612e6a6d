//! What the Redis store guarantees beyond the contract.

use std::time::{Duration, Instant};

use tidemark_kernel::parts::{Rest, StateChange};
use tidemark_store::Sizes;

use super::*;

/// Gives a part another number.
const MOVE: &[u8] =
    b"return redis.call('HSET', KEYS[1], '0.8', redis.call('HGET', KEYS[1], '0.7')) + redis.call('HDEL', KEYS[1], '0.7')";

/// A server of its own, what its keys begin with, a store, and a generation that was begun in it.
async fn begun() -> (Redis, String, RedisStore, Generation) {
    let redis = Redis::start();
    let config = config(redis.url());
    let prefix = config.prefix.clone();
    let store = RedisStore::open(config).await.expect("a store");
    let generation = begin(&store).await;
    (redis, prefix, store, generation)
}

#[tokio::test]
async fn prefixes_share_nothing() {
    let one = config(Redis::shared().url());
    let two = RedisConfig { prefix: format!("{}:two", one.prefix), ..one.clone() };
    let (one, two) =
        (RedisStore::open(one).await.expect("a store"), RedisStore::open(two).await.expect("a store"));
    let generation = begin(&one).await;
    advance(&one, &generation, 0, 5).await.expect("flushed");
    assert_eq!(two.unpublished(VIEW).await.expect("read"), []);
    let lost = two.lookup(&generation, &[key(1)]).await.expect_err("not there");
    assert!(matches!(lost, StoreError::Gone(_)), "{lost}");
    let other = begin(&two).await;
    one.drop_generation(&generation).await.expect("dropped");
    two.positions(&other).await.expect("still there");
}

/// All keys of a generation, and of a view, are gone when they should be: nothing else would ever remove them.
#[tokio::test]
async fn a_dropped_generation_leaves_nothing_behind() {
    let redis = Redis::start();
    let store = RedisStore::open(config(redis.url())).await.expect("a store");
    let keys = || redis.command::<u64>(&["DBSIZE"]).expect("it answers");
    let before = keys();
    let kept = begin(&store).await;
    let with_one = keys();
    let dropped = begin(&store).await;
    advance(&store, &dropped, 0, 3000).await.expect("flushed");
    assert!(keys() > with_one + 3000);
    store.drop_generation(&dropped).await.expect("dropped");
    assert_eq!(keys(), with_one);
    store.drop_generation(&kept).await.expect("dropped");
    assert_eq!(keys(), before + 1, "the view, which remembers the numbers it gave");
}

/// Cut short between its number and its name, a beginning is never named, and is swept up later.
#[tokio::test]
async fn a_beginning_cut_short_is_never_named_and_swept_up() {
    let redis = Redis::start();
    let config = config(redis.url());
    let prefix = config.prefix.clone();
    let store = RedisStore::open(config).await.expect("a store");
    let view = format!("{prefix}:{{{VIEW}}}");
    let fingerprint = "07".repeat(16);
    let (old, recent) = ("1700000000000000", "9000000000000000");
    for number in [old, recent] {
        redis.command::<()>(&["HSET", &view, number, &format!("begun {fingerprint}")]).expect("written");
        let bucket = format!("{prefix}:{{{VIEW}:{number}:3}}");
        redis.command::<()>(&["HSET", &bucket, "fingerprint", &fingerprint, "idle", ""]).expect("written");
    }
    assert_eq!(store.unpublished(VIEW).await.expect("read"), []);
    let begun = begin(&store).await;
    assert_eq!(store.unpublished(VIEW).await.expect("read"), [begun]);
    let kept = |number: &str| {
        let bucket = format!("{prefix}:{{{VIEW}:{number}:3}}");
        redis.command::<u64>(&["EXISTS", &bucket]).expect("read")
            + redis.command::<u64>(&["HEXISTS", &view, number]).expect("read")
    };
    assert_eq!([kept(old), kept(recent)], [0, 2], "one that may still be under way is left alone");
}

/// Even to those who hold generations of a Redis that has lost everything, or fell back.
#[tokio::test]
async fn numbers_are_new_after_all_was_lost() {
    let redis = Redis::start();
    let store = RedisStore::open(config(redis.url())).await.expect("a store");
    let first = begin(&store).await;
    let snapshot = redis.snapshot();
    let second = begin(&store).await;
    redis.restart_from(&snapshot);
    assert_eq!(store.unpublished(VIEW).await.expect("read"), std::slice::from_ref(&first));
    let third = begin(&store).await;
    redis.command::<()>(&["FLUSHALL"]).expect("flushed");
    let fourth = begin(&store).await;
    let numbers = [first.number, second.number, third.number, fourth.number];
    assert!(numbers.is_sorted_by(|one, next| one < next), "{numbers:?}");
    for lost in [&first, &second, &third] {
        let error = store.positions(lost).await.expect_err("lost");
        assert!(matches!(error, StoreError::Gone(_)), "{error}");
    }
    store.positions(&fourth).await.expect("there");
}

/// A generation that one of many servers has lost a bucket of is neither whole nor gone.
#[tokio::test]
async fn a_lost_bucket_is_told() {
    let (redis, prefix, store, generation) = begun().await;
    store.publish(VIEW, None, Some(&generation)).await.expect("published");
    let all = std::slice::from_ref(&generation);
    let start = BTreeMap::from([(LOG, Position::START)]);
    assert_eq!(store.are_live_at(all, &start).await.expect("compared"), [true]);
    let lost = key(1).bucket(BUCKETS);
    let name = format!("{prefix}:{{{VIEW}:{}:{lost}}}", generation.number);
    assert_eq!(redis.command::<u64>(&["DEL", &name]).expect("deleted"), 1);
    assert_eq!(store.are_live_at(all, &start).await.expect("compared"), [false]);
    assert_eq!(store.are_live_at(all, &BTreeMap::new()).await.expect("compared"), [false]);
    let positions = store.positions(&generation).await.expect("some are left");
    assert!(!positions[&LOG].contains_key(&lost) && positions[&LOG].len() == usize::from(BUCKETS) - 1);
    for error in [
        store.load(&generation, lost, LOG, &[]).await.err(),
        store.lookup(&generation, &[key(1)]).await.err(),
        store.flush(&generation, step(0, &key(1), vec![])).await.err(),
        store.entities(&generation).await.err(),
        store.add_partition(&generation, Partition(1), Position(0)).await.err(),
    ] {
        assert!(matches!(&error, Some(StoreError::Gone(_))), "{error:?}");
    }
}

/// Whatever stops a flush in its middle, the bucket has then no position: it can only be backfilled again.
#[tokio::test]
async fn a_bucket_that_was_written_in_part_has_no_position() {
    let (redis, prefix, store, generation) = begun().await;
    // Two entities of a bucket, the second of which cannot be written.
    let first = key(1);
    let bucket = first.bucket(BUCKETS);
    let second = EntityKey::from_bytes(
        (0..)
            .map(|n: u32| format!("k{n}"))
            .find(|text| EntityKey::from_bytes(text.as_bytes()).bucket(BUCKETS) == bucket)
            .expect("one of them")
            .into_bytes(),
    );
    let name = format!(
        "{prefix}:{{{VIEW}:{}:{bucket}}}:{}",
        generation.number,
        String::from_utf8_lossy(second.as_bytes())
    );
    redis.command::<()>(&["SET", &name, "no hash"]).expect("written");
    let state = |text: &[u8]| Some(NewState::permanent(text.to_vec()));
    let writes = vec![(first.clone(), state(b"half")), (second, state(b"never"))];
    let flush = BucketFlush { bucket, partition: LOG, from: Position(0), to: Position(1), writes };
    let error = store.flush(&generation, vec![flush]).await.expect_err("it fails in its middle");
    assert!(matches!(error, StoreError::Corrupt { .. }), "{error}");
    assert!(!store.positions(&generation).await.expect("positions")[&LOG].contains_key(&bucket));
    assert_eq!(
        store.load(&generation, bucket, LOG, std::slice::from_ref(&first)).await.expect("loaded").position,
        None
    );
    for from in [0, 1] {
        let outcome = store.flush(&generation, step(from, &first, vec![])).await.expect("asked");
        assert_eq!(outcome, [FlushOutcome::At(None)]);
    }
}

/// A state is bound to its place by a checksum.
#[tokio::test]
async fn a_changed_state_is_named() {
    let (redis, prefix, store, generation) = begun().await;
    let text = |number: u32| EntityKey::from_bytes(format!("k{number}").into_bytes());
    let (damaged, moved, intact) = (text(1), text(2), text(3));
    let name = |key: &EntityKey| {
        let (bucket, text) = (key.bucket(BUCKETS), String::from_utf8_lossy(key.as_bytes()));
        format!("{prefix}:{{{VIEW}:{}:{bucket}}}:{text}", generation.number)
    };
    let mut at = std::collections::BTreeMap::<u16, i64>::new();
    for key in [&damaged, &moved, &intact] {
        let from = at.entry(key.bucket(BUCKETS)).or_default();
        store.flush(&generation, step(*from, key, b"abcdefgh".to_vec())).await.expect("flushed");
        *from += 1;
    }
    store.check().await.expect("all is well");
    assert_eq!(redis.command::<u64>(&["COPY", &name(&intact), &name(&moved), "REPLACE"]).expect("copied"), 1);
    redis.command::<()>(&["HSET", &name(&damaged), "0", "abcdefghabcd"]).expect("written");
    for wrong in [&damaged, &moved] {
        let loaded = store
            .load(&generation, wrong.bucket(BUCKETS), LOG, std::slice::from_ref(wrong))
            .await
            .expect_err("wrong");
        let mut found = store.lookup(&generation, &[wrong.clone(), intact.clone()]).await.expect("looked up");
        assert_eq!(found.pop().expect("two").expect("whole"), [(LOG, b"abcdefgh".to_vec())]);
        for error in [loaded, found.pop().expect("one").expect_err("wrong")] {
            assert!(matches!(&error, StoreError::CorruptState { key, .. } if key == wrong), "{error}");
        }
    }
    let error = store.check().await.expect_err("wrong");
    assert!(matches!(error, StoreError::CorruptState { .. }), "{error}");
    assert_eq!(states(&store, &generation, &intact).await, [(LOG, b"abcdefgh".to_vec())]);
}

/// Whatever is wrong with one entity: its value, that of another part, one that was moved or has lost its first, the fields of
/// its hash, or that it is no hash at all.
#[tokio::test]
async fn a_damaged_entity_fails_alone() {
    let redis = Redis::start();
    let command = |words: &[&[u8]]| {
        let mut connection = ::redis::Client::open(redis.url())?.get_connection()?;
        words.iter().fold(&mut ::redis::Cmd::new(), |command, word| command.arg(word)).exec(&mut connection)
    };
    for wrong in ["value", "part", "moved", "orphan", "field", "type"] {
        let config = config(redis.url());
        let prefix = config.prefix.clone();
        let store = Arc::new(RedisStore::open(config).await.expect("a store"));
        let damage = async |generation: &Generation, key: &EntityKey| {
            let bucket = key.bucket(BUCKETS);
            let mut name = format!("{prefix}:{{{VIEW}:{}:{bucket}}}:", generation.number).into_bytes();
            name.extend_from_slice(key.as_bytes());
            let damaged = match wrong {
                "value" => command(&[b"HSET", &name, b"0", b"secondabcd"]),
                "part" => command(&[b"HSET", &name, b"0.7", b" stateabcd"]),
                "moved" => command(&[b"EVAL", MOVE, b"1", &name]),
                "orphan" => command(&[b"HDEL", &name, b"0"]),
                "field" => command(&[b"HSET", &name, b"color", b"red"]),
                _ => command(&[b"SET", &name, b"a text"]),
            };
            damaged.expect("damaged");
        };
        tidemark_store::conformance::damage::a_damaged_entity_fails_alone(store as Subject, damage).await;
    }
}

/// What a load gives, which asks for the parts that are listed, is verified like what a lookup gives.
#[tokio::test]
async fn a_damaged_part_is_not_loaded() {
    let (redis, prefix, store, generation) = begun().await;
    let key = EntityKey::from_bytes(*b"user");
    let bucket = key.bucket(BUCKETS);
    let name = format!("{prefix}:{{{VIEW}:{}:{bucket}}}:user", generation.number);
    let damages: [&[&str]; 3] =
        [&["HSET", &name, "0.7", "a partabcd"], &["HDEL", &name, "0.7"], &["HDEL", &name, "0"]];
    for (at, damage) in damages.into_iter().enumerate() {
        let whole = in_parts(at as i64, &key, b"state with ", &[(7, Some(b"a part"))], Rest::Removed);
        assert_eq!(store.flush(&generation, whole).await.expect("flushed"), [FlushOutcome::Applied]);
        let load = || store.load(&generation, bucket, LOG, std::slice::from_ref(&key));
        let loaded = load().await.expect("loaded");
        assert_eq!(loaded.states, [Some(b"state with a part".to_vec())]);
        redis.command::<u64>(damage).expect("damaged");
        let error = load().await.expect_err("damaged");
        assert!(matches!(&error, StoreError::CorruptState { key: of, .. } if *of == key), "{error}");
    }
}

/// The fields of a state in parts are as the layout says, and none is left behind.
#[tokio::test]
async fn a_state_in_parts_is_several_fields() {
    let (redis, prefix, store, generation) = begun().await;
    let key = EntityKey::from_bytes(*b"user");
    let name = format!("{prefix}:{{{VIEW}:{}:{}}}:user", generation.number, key.bucket(BUCKETS));
    let changes: [(&[Named<'_>], Rest, &[&str]); 8] = [
        (&[], Rest::Absent, &["0"]),
        (&[(-5, Some(b"a")), (12, Some(b""))], Rest::Kept, &["0", "0+", "0.-5", "0.12"]),
        (&[(12, Some(b"b"))], Rest::Kept, &["0", "0+", "0.-5", "0.12"]),
        (&[(-5, None), (i64::MAX, Some(b"c"))], Rest::Kept, &["0", "0+", "0.12", "0.9223372036854775807"]),
        (&[(13, Some(b"d"))], Rest::Removed, &["0", "0+", "0.13"]),
        (&[(13, None)], Rest::Kept, &["0"]),
        (&[(1, Some(b"e"))], Rest::Absent, &["0", "0+", "0.1"]),
        (&[], Rest::Removed, &["0"]),
    ];
    for (at, (parts, rest, expected)) in changes.into_iter().enumerate() {
        let flush = in_parts(at as i64, &key, b"first", parts, rest);
        assert_eq!(store.flush(&generation, flush).await.expect("flushed"), [FlushOutcome::Applied]);
        let mut fields: Vec<String> = redis.command(&["HKEYS", &name]).expect("fields");
        fields.sort();
        assert_eq!(fields, expected, "change {at}");
        let listed: Option<String> = redis.command(&["HGET", &name, "0+"]).expect("a list");
        let mut listed: Vec<String> =
            listed.iter().flat_map(|list| list.split(' ')).map(|number| format!("0.{number}")).collect();
        listed.sort();
        fields.retain(|field| field.contains('.'));
        assert_eq!(listed, fields, "change {at}");
    }
    let mut delete = in_parts(8, &key, b"", &[], Rest::Removed);
    delete[0].writes[0].1 = None;
    let parts = in_parts(7, &key, b"first", &[(1, Some(b"e"))], Rest::Kept);
    let parts = parts.into_iter().map(|flush| BucketFlush { from: Position(8), to: Position(8), ..flush });
    let both = parts.chain(delete).collect();
    assert_eq!(store.flush(&generation, both).await.expect("flushed"), [FlushOutcome::Applied; 2]);
    assert_eq!(redis.command::<u64>(&["EXISTS", &name]).expect("read"), 0);
}

/// A part to be written, or removed.
type Named<'a> = (i64, Option<&'a [u8]>);

/// One step of the bucket of `key`, with a change of its state.
fn in_parts(from: i64, key: &EntityKey, first: &[u8], parts: &[Named<'_>], rest: Rest) -> Vec<BucketFlush> {
    let parts = parts.iter().map(|(number, part)| (*number, part.map(<[u8]>::to_vec))).collect();
    let change = StateChange { first: first.to_vec(), parts, rest };
    let mut flushes = step(from, key, Vec::new());
    flushes[0].writes[0].1 = Some(NewState::new(change, None));
    flushes
}

#[tokio::test]
async fn its_functions_may_be_forgotten() {
    let redis = Redis::start();
    let store = RedisStore::open(config(redis.url())).await.expect("a store");
    let generation = begin(&store).await;
    for at in 0..3 {
        redis.command::<()>(&["SCRIPT", "FLUSH"]).expect("forgotten");
        advance(&store, &generation, at, 40).await.expect("flushed");
        redis.command::<()>(&["SCRIPT", "FLUSH"]).expect("forgotten");
        let loaded = store.load(&generation, 3, LOG, &[]).await.expect("loaded");
        assert_eq!(loaded.position, Some(Position(at + 1)));
    }
    assert_whole(&store, &generation, 40).await;
}

/// A flush whose caller has gone away was applied or not, but never in part.
#[tokio::test]
async fn a_dropped_flush_is_whole_or_not_at_all() {
    let store = fresh().await;
    let generation = begin(&store).await;
    let (mut applied, mut missed) = (0, 0);
    for round in 0..200_u64 {
        let before = store.positions(&generation).await.expect("positions");
        let buckets = &before[&LOG];
        let flushes = (0..40).map(key).flat_map(|key| {
            let from = buckets[&key.bucket(BUCKETS)].0;
            step(from, &key, state(Position(from + 1), 2000))
        });
        // One of each bucket.
        let flushes: BTreeMap<u16, BucketFlush> = flushes.map(|flush| (flush.bucket, flush)).collect();
        let flush = store.flush(&generation, flushes.into_values().collect());
        let patience = Duration::from_micros(round * 5);
        match tokio::time::timeout(patience, flush).await {
            Ok(flushed) => drop(flushed.expect("flushed")),
            Err(_) => missed += 1,
        }
        let after = store.positions(&generation).await.expect("positions");
        applied += i32::from(after != before);
    }
    assert!(applied > 0 && missed > 0, "{applied} applied, {missed} missed");
    for key in (0..40).map(key) {
        let bucket = key.bucket(BUCKETS);
        let loaded = store.load(&generation, bucket, LOG, &[key]).await.expect("loaded");
        if let Some(state) = &loaded.states[0] {
            assert!(told(state) <= loaded.position.expect("a position"), "a state ahead of its position");
        }
    }
}

/// What is read of many entities in one call does not depend on how it is cut.
#[tokio::test]
async fn thousands_are_read_in_one_call() {
    let store = fresh().await;
    let generation = begin(&store).await;
    advance(&store, &generation, 0, 2500).await.expect("flushed");
    let keys: Vec<EntityKey> = (0..3000).map(key).collect();
    let found = store.lookup(&generation, &keys).await.expect("looked up");
    let found: Vec<PartitionStates> = found.into_iter().collect::<Result<_, _>>().expect("whole");
    assert!(found[..2500].iter().all(|states| states.len() == 1));
    assert!(found[2500..].iter().all(Vec::is_empty) && found.len() == 3000);
    let sizes = store.sizes(&generation).await.expect("sizes");
    assert_eq!((sizes.entities, sizes.bytes), (2500, 250_000));
    let memory = sizes.memory.expect("Redis says");
    assert!((500_000..2_000_000).contains(&memory), "{memory}");
}

/// Of many keys, some are drawn: what each generation holds is told roughly, and the same server is read exactly for `sizes`.
#[tokio::test]
async fn sizes_among_many_keys_are_estimated() {
    let redis = Redis::start();
    let settings = config(redis.url());
    let store = RedisStore::open(settings.clone()).await.expect("a store");
    let all = [begin(&store).await, begin(&store).await, begin(&store).await];
    for (generation, count) in [(&all[0], 110_000), (&all[1], 7), (&all[2], 10_000)] {
        advance(&store, generation, 0, count).await.expect("flushed");
    }
    let estimates = store.estimate(&all).await.expect("estimated");
    let of_few = store.sizes(&all[1]).await.expect("counted");
    let without_memory = |sizes: Sizes| Sizes { memory: None, ..sizes };
    assert_eq!(without_memory(estimates[1]), without_memory(of_few), "few among many are counted");
    for (of, estimate) in [(&all[0], &estimates[0]), (&all[2], &estimates[2])] {
        let exact = store.sizes(of).await.expect("counted");
        assert!(estimate.estimated && !exact.estimated);
        let is_near = |estimate: u64, exact: u64| estimate.abs_diff(exact) <= exact / 8;
        assert!(is_near(estimate.entities, exact.entities), "{estimate:?} for {exact:?}");
        assert!(is_near(estimate.states, exact.states), "{estimate:?} for {exact:?}");
        assert!(is_near(estimate.bytes, exact.bytes), "{estimate:?} for {exact:?}");
    }
    let samples = store.sample(&all, 100, 1).await.expect("chosen");
    assert_eq!(samples.iter().map(std::collections::BTreeSet::len).collect::<Vec<_>>(), [100, 7, 100]);

    // To a user who may not draw keys, all names are read.
    for denied in [&["-randomkey"][..], &["-randomkey", "-dbsize"]] {
        let user = ["ACL", "SETUSER", "reader", "reset", "on", ">secret", "~*", "+@all"];
        redis.command::<()>(&[&user[..], denied].concat()).expect("a user");
        let url = redis.url().replace("redis://", "redis://reader:secret@");
        let reader = RedisStore::open(RedisConfig { url, ..settings.clone() }).await.expect("a store");
        let estimates = reader.estimate(&all).await.expect("estimated");
        let entities = estimates.iter().map(|sizes| sizes.entities).collect::<Vec<_>>();
        // A name may be read twice.
        let is_near = |at: usize, exact: u64| entities[at].abs_diff(exact) <= exact.div_ceil(100);
        assert!(
            is_near(0, 110_000) && is_near(1, 7) && is_near(2, 10_000),
            "without {denied:?}: {entities:?}"
        );
        let samples = reader.sample(&all, 100, 1).await.expect("chosen");
        assert_eq!(samples.iter().map(std::collections::BTreeSet::len).collect::<Vec<_>>(), [100, 7, 100]);
    }
}

/// More partitions than one call compares, more positions than one write reads, and more buckets than one write compares.
#[tokio::test]
async fn many_partitions_take_several_calls() {
    let store = fresh().await;
    let at_seven: BTreeMap<Partition, Position> =
        (0..=1000).map(|partition| (Partition(partition), Position(7))).collect();
    let mut all = Vec::new();
    for view in 0..26 {
        let view = format!("view{view}");
        let generation = store.begin(&view, Fingerprint([7; 16]), &at_seven, None).await.expect("begun");
        store.publish(&view, None, Some(&generation)).await.expect("published");
        all.push(generation);
    }
    let elsewhere = async |positions: &BTreeMap<Partition, Position>| {
        let found = store.are_live_at(&all, positions).await.expect("compared");
        assert_eq!(found.len(), all.len());
        (0..all.len()).filter(|at| !found[*at]).collect::<Vec<usize>>()
    };
    assert!(elsewhere(&at_seven).await.is_empty());
    let bucket = key(1).bucket(BUCKETS);
    for (view, partition) in [(3, Partition(0)), (25, Partition(1000))] {
        let flush = BucketFlush { bucket, partition, from: Position(7), to: Position(8), writes: vec![] };
        let outcomes = store.flush(&all[view], vec![flush]).await.expect("flushed");
        assert_eq!(outcomes, [FlushOutcome::Applied]);
    }
    assert_eq!(elsewhere(&at_seven).await, [3, 25]);
    assert_eq!(elsewhere(&BTreeMap::from([(Partition(1000), Position(7))])).await, [25], "one of many");
    assert!(elsewhere(&BTreeMap::new()).await.is_empty());

    let partitions: Vec<Partition> = at_seven.keys().copied().collect();
    let found = store.positions_of_each(&all, &partitions).await.expect("read");
    for (view, generation) in [(0, &all[0]), (3, &all[3]), (25, &all[25])] {
        assert_eq!(found[view], Some(store.positions(generation).await.expect("read")), "{generation}");
    }
    assert!(found.len() == all.len() && found.iter().all(Option::is_some));
}

/// More views than are asked about in one write.
#[tokio::test]
async fn many_views_take_several_calls() {
    let config = config(Redis::shared().url());
    let prefix = config.prefix.clone();
    let store = RedisStore::open(config).await.expect("a store");
    let start = BTreeMap::from([(LOG, Position::START)]);
    let names: Vec<String> = (0..=500).map(|view| format!("view{view}")).collect();
    let mut all = Vec::new();
    for view in &names {
        let generation = store.begin(view, Fingerprint([7; 16]), &start, None).await.expect("begun");
        store.publish(view, None, Some(&generation)).await.expect("published");
        all.push(generation);
    }
    let (lost, taken_back) = (&all[499], &all[500]);
    store.publish(&taken_back.view, Some(taken_back), None).await.expect("taken back");
    let name = format!("{prefix}:{{{}:{}:3}}", lost.view, lost.number);
    assert_eq!(Redis::shared().command::<u64>(&["DEL", &name]).expect("deleted"), 1);

    let views: Vec<&str> = names.iter().map(String::as_str).collect();
    let live = store.live_of(&views).await.expect("read");
    let unpublished = store.unpublished_of(&views).await.expect("read");
    let whole = store.are_whole(&all).await.expect("read");
    let there = store.are_live_at(&all, &start).await.expect("compared");
    let positions = store.positions_of_each(&all, &[LOG]).await.expect("read");
    let lengths = [live.len(), unpublished.len(), whole.len(), there.len(), positions.len()];
    assert_eq!(lengths, [all.len(); 5]);
    for (at, generation) in all.iter().enumerate() {
        let (is_lost, is_live) = (at == 499, at != 500);
        assert_eq!(live[at].as_ref(), is_live.then_some(generation));
        let left: &[Generation] = if is_live { &[] } else { std::slice::from_ref(generation) };
        assert_eq!(unpublished[at], left, "{generation}");
        assert_eq!((whole[at], there[at]), (!is_lost, is_live && !is_lost), "{generation}");
        let buckets = positions[at].as_ref().expect("most buckets are there")[&LOG].len();
        assert_eq!(buckets, usize::from(BUCKETS) - usize::from(is_lost), "{generation}");
    }
}

/// More than one write's worth in one call: the order holds across writes.
#[tokio::test]
async fn a_large_call_is_applied_in_order() {
    let store = fresh().await;
    let generation = begin(&store).await;
    let key = key(1);
    let flushes = (0..12).flat_map(|at| step(at, &key, state(Position(at + 1), 300_000))).collect();
    let outcomes = store.flush(&generation, flushes).await.expect("flushed");
    assert_eq!(outcomes, [FlushOutcome::Applied; 12]);
    assert_eq!(told(&states(&store, &generation, &key).await[0].1), Position(12));
    let began = Instant::now();
    store.check().await.expect("all is well");
    assert!(began.elapsed() < Duration::from_secs(20));
}
