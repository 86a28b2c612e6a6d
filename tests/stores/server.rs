//! Which servers a Redis store accepts, and its errors for others.

use std::time::Duration;

use super::*;

async fn refused(config: RedisConfig) -> StoreError {
    RedisStore::open(config).await.expect_err("refused")
}

#[tokio::test]
async fn one_that_evicts_is_refused() {
    let redis = Redis::with(&[("maxmemory-policy", "allkeys-lru")]);
    let error = refused(config(redis.url())).await;
    assert!(matches!(&error, StoreError::Evicts { policy, .. } if policy == "allkeys-lru"), "{error:?}");
    assert_eq!(error.kind(), ErrorKind::Environment);
    assert!(error.explained().contains("noeviction"), "{error}");
    assert_eq!(redis.command::<u64>(&["DBSIZE"]).expect("it answers"), 0, "nothing was written");
    redis.command::<()>(&["CONFIG", "SET", "maxmemory-policy", "noeviction"]).expect("set");
    RedisStore::open(config(redis.url())).await.expect("now it will do");
}

/// Being told to evict later is noticed within seconds, and what was evicted meanwhile is never forgiven.
#[tokio::test]
async fn one_that_begins_to_evict_is_noticed() {
    let redis = Redis::start();
    let config = config(redis.url());
    let store = RedisStore::open(config.clone()).await.expect("a store");
    let generation = begin(&store).await;
    let set = |name, value| redis.command::<()>(&["CONFIG", "SET", name, value]).expect("set");
    set("maxmemory-policy", "allkeys-random");
    let error = first_error(&store, &generation).await;
    assert!(matches!(&error, StoreError::Evicts { policy, .. } if policy == "allkeys-random"), "{error:?}");

    advance(&store, &generation, 0, 500).await.expect("between two looks");
    set("maxmemory", "1");
    let evicted = redis.command::<String>(&["SET", "x", "y"]);
    assert!(evicted.is_err() || redis.command::<u64>(&["DBSIZE"]).expect("it answers") < 500);
    set("maxmemory", "0");
    set("maxmemory-policy", "noeviction");
    let error = first_error(&store, &generation).await;
    assert!(matches!(&error, StoreError::Corrupt { what, .. } if what.contains("evicted")), "{error:?}");
    assert_eq!(error.kind(), ErrorKind::Damaged);
    store.lookup(&generation, &[key(1)]).await.expect_err("nor is it forgotten");
    let again = refused(config).await;
    assert!(matches!(&again, StoreError::Corrupt { what, .. } if what.contains("evicted")), "{again:?}");
}

/// The error that looking up ends with, at once or after some time.
async fn first_error(store: &RedisStore, generation: &Generation) -> StoreError {
    loop {
        match store.lookup(generation, &[key(1)]).await {
            Err(error) if !matches!(error, StoreError::Gone(_)) => return error,
            _ => tokio::time::sleep(Duration::from_millis(50)).await,
        }
    }
}

/// Those who may not ask for a server's settings are warned, not refused.
#[tokio::test]
async fn one_that_tells_nothing_is_taken() {
    let redis = Redis::start();
    let user = ["ACL", "SETUSER", "worker", "on", ">secret", "~*", "+@all"];
    for denied in [&["-config"][..], &["-config", "-info", "-memory"]] {
        redis.command::<()>(&[&user[..], denied].concat()).expect("a user");
        let url = redis.url().replace("redis://", "redis://worker:secret@");
        let store = RedisStore::open(config(&url)).await.expect("a store");
        let generation = begin(&store).await;
        advance(&store, &generation, 0, 10).await.expect("flushed");
        let sizes = store.sizes(&generation).await.expect("sizes");
        assert_eq!((sizes.entities, sizes.memory.is_some()), (10, denied.len() == 1));
    }
}

#[tokio::test]
async fn a_wrong_password_is_told_but_not_repeated() {
    let redis = Redis::start();
    redis.command::<()>(&["ACL", "SETUSER", "worker", "on", ">hunter2", "~*", "+@all"]).expect("a user");
    let with = |login: &str| redis.url().replace("redis://", &format!("redis://{login}@"));
    RedisStore::open(config(&with("worker:hunter2"))).await.expect("the right one");
    let error = refused(config(&with("worker:hunter3"))).await;
    assert!(
        matches!(error, StoreError::Refused { .. }) && error.kind() == ErrorKind::Environment,
        "{error:?}"
    );
    redis.command::<()>(&["ACL", "SETUSER", "default", "resetpass", ">hunter2"]).expect("a password");
    let missing = refused(config(redis.url())).await;
    assert!(missing.explained().contains("password"), "{missing}");
    let port = redis.port();
    let down = refused(config(&format!("redis://worker:hunter3@127.0.0.1:1/?{port}"))).await;
    let misspelt = refused(config("redis://worker:hunter3@127.0.0.1:port/")).await;
    assert!(matches!(misspelt, StoreError::Refused { .. }), "{misspelt:?}");
    for error in [error, missing, down, misspelt] {
        let said = format!("{error} {error:?}");
        assert!(!said.contains("hunter"), "{said}");
    }
    let store = RedisStore::open(config(&with("worker:hunter2"))).await.expect("the right one");
    assert!(!format!("{store:?} {:?}", config(&with("worker:hunter2"))).contains("hunter"));
}

#[tokio::test]
async fn a_user_without_a_right_is_told_which() {
    let redis = Redis::start();
    redis
        .command::<()>(&["ACL", "SETUSER", "worker", "on", ">secret", "~*", "+@all", "-hgetall"])
        .expect("a user");
    let url = redis.url().replace("redis://", "redis://worker:secret@");
    let error = RedisStore::open(config(&url))
        .await
        .expect("a store")
        .unpublished(VIEW)
        .await
        .expect_err("not allowed");
    assert!(matches!(error, StoreError::Refused { .. }) && error.to_string().contains("hgetall"), "{error}");
}

#[tokio::test]
async fn a_newer_format_is_refused() {
    let config = config(Redis::shared().url());
    drop(RedisStore::open(config.clone()).await.expect("a store"));
    let format = format!("{}:format", config.prefix);
    let set = |value| Redis::shared().command::<()>(&["SET", &format, value]).expect("set");
    set("7");
    let error = refused(config.clone()).await;
    assert!(matches!(error, StoreError::Newer { found: 7, supported: 1, .. }), "{error:?}");
    set("first");
    let error = refused(config).await;
    assert!(matches!(error, StoreError::Corrupt { .. }), "{error:?}");
}

/// A newer version has changed it: an older process that still runs must not write any more.
#[tokio::test]
async fn a_newer_format_is_noticed_by_an_open_store() {
    let config = config(Redis::shared().url());
    let store = RedisStore::open(config.clone()).await.expect("a store");
    let generation = begin(&store).await;
    let format = format!("{}:format", config.prefix);
    Redis::shared().command::<()>(&["SET", &format, "7"]).expect("set");
    let error = first_error(&store, &generation).await;
    assert!(matches!(error, StoreError::Newer { found: 7, supported: 1, .. }), "{error:?}");
    assert_eq!(error.kind(), ErrorKind::Environment);
    store.lookup(&generation, &[key(1)]).await.expect_err("nor is it forgotten");
}

#[tokio::test]
async fn a_cluster_is_refused() {
    let redis = Redis::with(&[("cluster-enabled", "yes")]);
    let error = refused(config(redis.url())).await;
    assert!(
        matches!(&error, StoreError::Refused { .. }) && error.to_string().contains("Cluster"),
        "{error:?}"
    );
}
