use std::time::Instant;

use redis::{Client, Connection, FromRedisValue, RedisResult};

use super::*;
use crate::Redis;

fn connect(proxy: &Proxy) -> RedisResult<Connection> {
    Client::open(proxy.redis_url())?.get_connection()
}

fn ask<T: FromRedisValue>(connection: &mut Connection, words: &[&str]) -> RedisResult<T> {
    words.iter().fold(&mut redis::Cmd::new(), |command, word| command.arg(word)).query(connection)
}

#[test]
fn a_lost_reply_is_one_whose_request_was_carried_out() {
    let redis = Redis::start();
    let proxy = Proxy::in_front_of(redis.port());
    let mut connection = connect(&proxy).expect("connected");
    proxy.lose_replies_to("INCR", 1);
    assert_eq!(ask::<String>(&mut connection, &["SET", "n", "1"]).expect("passes"), "OK");
    assert!(ask::<i64>(&mut connection, &["INCR", "n"]).is_err());
    assert_eq!(proxy.lost(), 1);
    assert_eq!(ask::<i64>(&mut connect(&proxy).expect("connected"), &["INCR", "n"]).expect("passes"), 3);
}

#[test]
fn connections_are_cut_refused_and_accepted() {
    let redis = Redis::start();
    let proxy = Proxy::in_front_of(redis.port());
    let mut connection = connect(&proxy).expect("connected");
    proxy.cut();
    assert!(ask::<String>(&mut connection, &["PING"]).is_err());
    connect(&proxy).expect("accepted");
    proxy.refuse();
    let refused = TcpStream::connect(("127.0.0.1", proxy.port())).expect_err("nothing listens");
    assert_eq!(refused.kind(), ErrorKind::ConnectionRefused);
    proxy.accept();
    connect(&proxy).expect("accepted");
}

#[test]
fn a_reply_can_be_cut_in_its_middle() {
    let redis = Redis::start();
    let proxy = Proxy::in_front_of(redis.port());
    let mut connection = connect(&proxy).expect("connected");
    ask::<String>(&mut connection, &["SET", "long", &"x".repeat(100_000)]).expect("passes");
    proxy.cut_after(50_000);
    assert!(ask::<String>(&mut connection, &["GET", "long"]).is_err());
    let again = ask::<String>(&mut connect(&proxy).expect("connected"), &["GET", "long"]);
    assert_eq!(again.expect("passes").len(), 100_000);
}

#[test]
fn replies_take_as_long_as_told_and_come_from_whom_it_points_at() {
    let (first, second) = (Redis::start(), Redis::start());
    second.command::<()>(&["SET", "who", "second"]).expect("it takes it");
    let proxy = Proxy::in_front_of(first.port());
    let mut connection = connect(&proxy).expect("connected");
    let (delay, began) = (Duration::from_millis(120), Instant::now());
    proxy.delay(delay);
    assert_eq!(ask::<Option<String>>(&mut connection, &["GET", "who"]).expect("passes"), None);
    assert!(began.elapsed() >= delay);
    proxy.point_at(second.port());
    let answer = ask::<String>(&mut connect(&proxy).expect("connected"), &["GET", "who"]);
    assert_eq!(answer.expect("passes"), "second");
}
