//! A Redis that has lost a part of what it held.

use tidemark_services::Redis;

use crate::http::get;
use crate::repo::TestRepo;
use crate::running::Running;

#[test]
fn a_view_whose_keys_are_gone_is_told_and_backfilled() {
    let redis = Redis::start();
    let repo = TestRepo::new();
    let settings = format!("project: shop\nonline: {{store: redis, url: '{}'}}\n", redis.url());
    repo.write("tidemark.yaml", &settings);
    repo.run("ingest --from payments.csv --source payments").done();
    let serve = Running::start(&repo, "serve --http 127.0.0.1:0 --grpc 127.0.0.1:0");
    assert_eq!(get(&serve.http, "/readyz"), (200, "ok\n".to_owned()));

    let delete = "local found = redis.call('KEYS', ARGV[1]) \
                  for _, name in ipairs(found) do redis.call('DEL', name) end return #found";
    let deleted: usize = redis.command(&["EVAL", delete, "0", "tm:shop:{user_payments:*"]).expect("deleted");
    assert!(deleted > 16, "{deleted}");

    let (status, reason) = get(&serve.http, "/readyz");
    assert_eq!(status, 503, "{reason}");
    assert!(reason.contains("the state of view `user_payments` is lost"), "{reason}");
    let ran = repo.run("status").done();
    assert!(ran.stdout.contains("lost; a worker or the next `tidemark apply` backfills it"), "{ran:#?}");
    assert_eq!(repo.run("status --format json").done().json()["views"][0]["lost"], true);
    for command in ["verify", "lookup fraud user_id=3 amount=10.5"] {
        repo.run(command).refused(&["user_payments", "is lost from the online store", "`tidemark apply`"]);
    }

    repo.run("apply").done();
    assert_eq!(get(&serve.http, "/readyz"), (200, "ok\n".to_owned()));
    let ran = repo.run("lookup fraud user_id=3 amount=10.5 --at 2026-11-20T09:00:00Z --format json").done();
    assert_eq!(ran.json()["rows"][0]["values"]["user_payments.total"], 121.25);
    let view = &repo.run("status --format json").done().json()["views"][0];
    assert_eq!((&view["lost"], &view["current"]), (&false.into(), &true.into()));
    repo.run("verify").done();
    serve.stop();
}
