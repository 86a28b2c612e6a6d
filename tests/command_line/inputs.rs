//! Events as other programs write them: spellings, numbers and files.

use std::fs;

use crate::dev::Dev;
use crate::repo::TestRepo;

/// A repo with one source of orders, which counts and sums them.
fn repo() -> TestRepo {
    let repo = TestRepo::new();
    let definitions = "
entities:
  - {name: user, keys: [{name: user_id, type: int64}]}
sources:
  - name: orders
    push: {}
    fields:
      - {name: user_id, type: int64}
      - {name: price, type: float64}
      - {name: gift, type: bool, optional: true}
      - {name: ts, type: timestamp}
    event_time: ts
    arrival: event_time
views:
  - name: v
    entity: user
    source: orders
    features:
      - {name: spent, aggregate: sum(price), windows: [1d]}
      - {name: gifts, aggregate: count(*) filter (where gift), windows: [1d]}
services:
  - {name: s, features: [v], request: [{name: gift, type: bool}]}
";
    repo.write("shop.yaml", definitions);
    repo
}

fn trained(repo: &TestRepo, labels: &str) -> String {
    repo.write("labels.csv", labels);
    repo.run("train s --labels labels.csv --time t --out out.csv").done();
    fs::read_to_string(repo.file("out.csv")).expect("written")
}

#[test]
fn events_and_labels_read_the_same_spellings() {
    let repo = repo();
    repo.write(
        "orders.csv",
        "user_id,price,gift,ts\n\
         1,1.5,true,2026-01-01 08:00:00 UTC\n\
         1,1.5,True,2026-01-01T08:00:00Z\n\
         1,1.5,TRUE,2026-01-01T08:00:00+0000\n\
         1,1.5,t,2026-01-01 09:00:00+01\n\
         1, 1.5,yes,2026-01-01T08:00:00Z\n",
    );
    repo.run("apply").done();
    let ran = repo.run("ingest --source orders --from orders.csv").done();
    assert!(ran.stdout.contains("5 events") && ran.stderr.is_empty(), "{ran:#?}");
    for gift in ["True", "t", "yes", "1"] {
        let set = trained(&repo, &format!("user_id,gift,t\n1,{gift},2026-01-01 12:00:00 UTC\n"));
        assert!(set.ends_with(",7.5,5\n"), "{set}");
    }
    assert!(repo.run("verify").done().stdout.contains("0 mismatches"));
}

#[test]
fn an_int64_may_be_pushed_as_the_text_of_its_digits() {
    let repo = repo();
    let dev = Dev::start(&repo);
    let at = "2026-01-01T08:00:00Z";
    for user in ["653247040368672769", "\"653247040368672769\""] {
        let answer = dev.push("orders", &format!("{{\"user_id\":{user},\"price\":2,\"ts\":\"{at}\"}}"));
        assert_eq!((&answer["accepted"], &answer["dead_letters"]), (&1.into(), &0.into()), "{answer}");
    }
    let answer = dev.push("orders", &format!("{{\"user_id\":\"1.0\",\"price\":2,\"ts\":\"{at}\"}}"));
    assert_eq!(answer["rejected"][0]["reason"], "field `user_id`: expected an int64 like 42, got \"1.0\"");
    dev.stop();
    let set = trained(&repo, "user_id,gift,t\n653247040368672769,0,2026-01-01T12:00:00Z\n");
    assert!(set.ends_with(",4.0,0\n"), "{set}");
}

#[test]
fn a_time_may_be_seconds_with_a_fraction() {
    let repo = repo();
    let shop = fs::read_to_string(repo.file("shop.yaml")).expect("read");
    let shop = shop
        .replace("{name: ts, type: timestamp}", "{name: ts, type: float64}")
        .replace("event_time: ts", "event_time: {field: ts, unit: s}");
    repo.write("shop.yaml", &shop);
    repo.run("check").done();
    repo.write("orders.jsonl", "{\"user_id\":1,\"price\":1,\"ts\":1767254400.25}\n");
    repo.write("orders.csv", "user_id,price,ts\n1,1,1767254400.123\n");
    repo.run("ingest --source orders --from orders.jsonl").done();
    repo.run("ingest --source orders --from orders.csv").done();
    for (at, spent) in
        [("08:00:00.123", ""), ("08:00:00.124", "1.0"), ("08:00:00.250", "1.0"), ("08:00:00.251", "2.0")]
    {
        let set = trained(&repo, &format!("user_id,gift,t\n1,0,2026-01-01T{at}Z\n"));
        assert!(set.ends_with(&format!(",{spent},0\n")), "{at}: {set}");
    }
}

#[test]
fn a_folder_and_columns_that_do_not_fit_are_told() {
    let repo = repo();
    repo.write("orders.tsv", "user_id\tprice\tts\n1\t1.5\t2026-01-01T08:00:00Z\n");
    repo.run("ingest --source orders --from orders.tsv").done();
    let set = trained(&repo, "user_id,gift,t\n1,0,2026-01-01T12:00:00Z\n");
    assert!(set.ends_with(",1.5,0\n"), "{set}");
    fs::create_dir(repo.file("lake")).expect("created");
    repo.run("ingest --source orders --from lake")
        .refused(&["no file of events in the folder `lake`", "help: a folder selects the files in it"]);
    repo.write("twice.csv", "user_id,ts,ts\n");
    repo.run("ingest --source orders --from twice.csv").refused(&[
        "twice.csv: 2 problems with its columns\n",
        "\n  no column `price`; the file has user_id, ts; give another name with ",
        "\n  column `ts` is there twice; rename one of the two\n",
    ]);
    repo.write("orders.xlsx", "");
    repo.run("ingest --source orders --from orders.xlsx")
        .refused(&["cannot tell the format", ".tsv or .jsonl"]);
}

/// A data set as Spark writes it, text with tabs, and labels in several files.
#[test]
fn files_are_read_as_they_lie_in_lakes() {
    let repo = repo();
    let shop = fs::read_to_string(repo.file("shop.yaml")).expect("read");
    let shop = shop
        .replace(
            "{name: ts, type: timestamp}",
            "{name: country, type: string}\n      - {name: ts, type: timestamp}",
        )
        .replace(
            "{name: spent,",
            "{name: n, aggregate: count(distinct country), windows: [1d]}\n      - {name: spent,",
        );
    repo.write("shop.yaml", &shop);
    let rows = "user_id,price,ts\n1,1.5,2026-01-01T08:00:00Z\n";
    for country in ["country=DE", "country=FR", "country=__HIVE_DEFAULT_PARTITION__"] {
        fs::create_dir_all(repo.file(&format!("lake/{country}"))).expect("created");
        repo.write(&format!("lake/{country}/part-0.csv"), rows);
    }
    repo.write("lake/_SUCCESS", "");
    repo.write("lake/.part-0.csv.crc", "");
    let ran = repo.run("ingest --source orders --from lake").done();
    assert!(ran.stdout.contains("3 events"), "{ran:#?}");
    repo.write("orders.tsv", "user_id\tprice\tcountry\tts\n1\t2\tAT\t2026-01-01T08:00:00Z\n");
    let ran = repo.run("ingest --source orders --from orders.tsv lake/**/*.csv").done();
    assert!(ran.stdout.contains("1 event") && ran.stdout.matches("skipped").count() == 3, "{ran:#?}");
    for user in [1, 2] {
        repo.write(
            &format!("labels-{user}.csv"),
            &format!("user_id,gift,t\n{user},0,2026-01-01T12:00:00Z\n"),
        );
    }
    repo.run("train s --labels labels-*.csv --time t --out out.csv").done();
    let set = fs::read_to_string(repo.file("out.csv")).expect("written");
    assert!(set.ends_with("\n1,0,2026-01-01T12:00:00Z,3,6.5,0\n2,0,2026-01-01T12:00:00Z,0,,0\n"), "{set}");
    fs::create_dir_all(repo.file("bad/ts=yesterday")).expect("created");
    repo.write("bad/ts=yesterday/a.csv", "user_id,price,country\n1,1,DE\n");
    repo.run("ingest --source orders --from bad")
        .refused(&["the folder `ts=yesterday` is no value of field `ts`", "rename the folder"]);
    assert!(repo.run("verify").done().stdout.contains("0 mismatches"));
}

/// The clock of a cash desk in Berlin.
#[test]
fn times_without_a_zone_are_in_the_declared_one() {
    let repo = repo();
    let shop = fs::read_to_string(repo.file("shop.yaml")).expect("read");
    let zoned =
        |zone: &str| shop.replace("ts, type: timestamp}", &format!("ts, type: timestamp, zone: {zone}}}"));
    repo.write("shop.yaml", &zoned("Berlin"));
    let checked = repo.run("check");
    for part in ["unknown time zone `Berlin`", "did you mean `Europe/Berlin`?"] {
        assert!(checked.code == Some(1) && checked.stderr.contains(part), "{checked:#?}");
    }
    repo.write("shop.yaml", &zoned("Europe/Berlin"));
    repo.write(
        "orders.csv",
        "user_id,price,ts\n1,1.5,2026-07-01 09:30:00\n1,1,2026-03-29 02:30:00\n1,1,2025-10-26 02:30:00\n",
    );
    let ran = repo.run("ingest --source orders --from orders.csv");
    assert!(ran.stdout.contains("1 event") && ran.code == Some(0), "{ran:#?}");
    let letters = repo.run("dead-letters").done();
    assert!(letters.stdout.contains("Europe/Berlin"), "{letters:#?}");
    let at = |time: &str| trained(&repo, &format!("user_id,gift,t\n1,0,{time}\n"));
    assert!(at("2026-07-01T07:30:00Z").ends_with(",,0\n"), "an event never sees itself");
    assert!(at("2026-07-01T07:30:00.001Z").ends_with(",1.5,0\n"));

    assert!(!ran.stderr.contains("name no zone"), "{ran:#?}");

    // And of the labels.
    let train = "train s --labels labels.csv --time t --out out.csv";
    repo.write("labels.csv", "user_id,gift,t\n1,0,2026-07-01 09:31:00\n");
    let ran = repo.run(&format!("{train} --zone Europe/Berlin")).done();
    assert!(!ran.stderr.contains("no zone"), "{ran:#?}");
    let set = fs::read_to_string(repo.file("out.csv")).expect("written");
    assert!(set.ends_with("\n1,0,2026-07-01 09:31:00,1.5,0\n"), "{set}");
    repo.write("labels.csv", "user_id,gift,t\n1,0,2025-10-26 02:30:00\n");
    repo.run(&format!("{train} --zone Europe/Berlin")).refused(&[
        "labels.csv:2: the label time `t` is `2025-10-26 02:30:00`",
        "show it twice",
        "write its offset",
    ]);
    assert_eq!(repo.run(&format!("{train} --zone Berlin")).code, Some(2));
    assert!(repo.run("verify").done().stdout.contains("0 mismatches"));
}

#[test]
fn names_of_data_are_in_any_alphabet_and_case() {
    let repo = repo();
    let shop = fs::read_to_string(repo.file("shop.yaml")).expect("read");
    let shop = shop
        .replace("user_id", "KundenNr")
        .replace("{name: price,", "{name: größe,")
        .replace("sum(price)", "sum(\"größe\")")
        .replace("[{name: gift,", "[{name: 赠品,");
    repo.write("shop.yaml", &shop);
    repo.write("orders.csv", "KundenNr,größe,ts\n1,1.5,2026-01-01T08:00:00Z\n");
    repo.run("ingest --source orders --from orders.csv").done();
    let set = trained(&repo, "KundenNr,赠品,t\n1,true,2026-01-01T12:00:00Z\n");
    assert!(set.ends_with("\n1,true,2026-01-01T12:00:00Z,1.5,0\n"), "{set}");
    repo.write("mapped.csv", "Kunde,Gift?,t\n1,true,2026-01-01T12:00:00Z\n");
    repo.run("train s --labels mapped.csv --time t --key KundenNr=Kunde --key 赠品=Gift? --out out.csv")
        .done();
    let set = fs::read_to_string(repo.file("out.csv")).expect("written");
    assert!(set.ends_with("\n1,true,2026-01-01T12:00:00Z,1.5,0\n"), "{set}");
    repo.run("train s --labels mapped.csv --time t --key gift=Gift? --out out.csv")
        .refused(&["no key or request field gift", "help: the service has KundenNr, 赠品"]);
    let answer = repo.run("lookup s KundenNr=1 赠品=true --at 2026-01-01T12:00:00Z").done();
    assert!(answer.stdout.contains("1.5"), "{answer:#?}");
    assert!(repo.run("verify").done().stdout.contains("0 mismatches"));
}

#[test]
fn times_that_are_taken_for_utc_are_said_to_be() {
    let repo = repo();
    let naive = "orders.csv name no zone and were read as UTC";
    for (time, notes) in [("2026-01-01 08:00:00", 1), ("2026-01-01T08:00:00Z", 0)] {
        repo.write("orders.csv", &format!("user_id,price,gift,ts\n1,1,,{time}\n1,1,t,{time}\n"));
        let ran = repo.run("ingest --source orders --from orders.csv --as-new").done();
        assert_eq!(ran.stderr.matches(naive).count(), notes, "{ran:#?}");
    }
}
