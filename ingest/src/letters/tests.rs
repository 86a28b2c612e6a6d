use std::collections::BTreeSet;

use tidemark_kernel::Span;
use tidemark_kernel::source::{Arrival, Origin, TimeField};
use tidemark_kernel::value::{Field, Type, Value, json};

use super::*;

/// Orders: who, how much, when. The arrival is the record's own timestamp.
fn orders(origins: &[(&str, Origin)]) -> SourcePlan {
    let field = |(name, ty): (&str, Type)| Field { name: name.to_owned(), ty };
    let fields = [("user", Type::Int64), ("qty", Type::Float64), ("ts", Type::Timestamp)];
    SourcePlan {
        name: "orders".into(),
        fields: fields.map(field).to_vec(),
        origins: origins.iter().map(|(field, origin)| ((*field).to_owned(), origin.clone())).collect(),
        optional: BTreeSet::new(),
        zones: std::collections::BTreeMap::new(),
        event_time: TimeField { field: "ts".into(), unit: None },
        arrival: Arrival::Record,
        max_ahead: Span::from_secs(60),
        max_arrival_ahead: None,
        unique: None,
        keep_raw: false,
    }
}

const TS: &str = "2026-01-01T08:00:00Z";

fn letter(partition: Partition, form: Form, raw: impl AsRef<[u8]>) -> Letter {
    let time = (partition != Partition::FILE).then(|| Time::parse("2026-01-01T09:00:00Z").expect("a time"));
    let raw = raw.as_ref().to_vec();
    Letter { partition, offset: 7, place: format!("place {partition}"), time, form, raw }
}

/// The values and the arrival of the one event that a letter is; else why it is none.
fn decided(source: &SourcePlan, letter: Letter) -> Result<String, String> {
    let batch =
        decide(source, std::slice::from_ref(&letter), Position(40), None).expect("columns of the source");
    assert_eq!((batch.partition, batch.from, batch.to), (Partition::FILE, Position(40), Position(41)));
    if let [dead] = batch.dead.as_slice() {
        assert_eq!((&dead.place, &dead.raw, &dead.form), (&letter.place, &letter.raw, &Some(letter.form)));
        assert_eq!((dead.offset, dead.record_time), (40, letter.time));
        return Err(dead.reason.clone());
    }
    let value = |name: &str| {
        let column = batch.events.column_by_name(name).expect("a column");
        tidemark_kernel::value::arrow::value_at(column, 0).to_string()
    };
    Ok(["user", "qty", "ts", layout::ARRIVAL_TIME].map(value).join(" "))
}

#[test]
fn each_form_is_read_as_it_was_received() {
    let json = format!("{{\"user\":1,\"qty\":2.5,\"ts\":\"{TS}\"}}");
    let (at, received) = ("2026-01-01T08:00:00.000Z", "2026-01-01T09:00:00.000Z");
    let (of_file, of_record) = (format!("1 2.5 {at} {at}"), format!("1 2.5 {at} {received}"));
    let source = orders(&[]);
    assert_eq!(decided(&source, letter(Partition::FILE, Form::Json, &json)).as_ref(), Ok(&of_file));
    assert_eq!(
        decided(&source, letter(Partition::PUSH, Form::Json, &json)).as_ref(),
        Ok(&of_record),
        "it arrived when it was received, although it is a row of the file partition now"
    );
    let csv = |header: &str| Form::Csv { header: header.into() };
    let record = format!("\"2\n,5\",{TS},1,2.5");
    assert_eq!(
        decided(&source, letter(Partition::FILE, csv("\"no\nte\",ts,user, qty"), &record)).as_ref(),
        Ok(&of_file)
    );
    assert_eq!(decided(&source, letter(Partition(3), Form::Kafka(None), &json)).as_ref(), Ok(&of_record));

    let origins = [("user", Origin::Key), ("qty", Origin::Header("q".into()))];
    let source = orders(&origins);
    let headers = vec![("q".to_owned(), Some(b"1.5".to_vec())), ("q".to_owned(), Some(b"2.5".to_vec()))];
    let beside = Beside { key: Some(b"1".to_vec()), headers };
    let value = format!("{{\"ts\":\"{TS}\"}}");
    assert_eq!(
        decided(&source, letter(Partition(3), Form::Kafka(Some(beside)), &value)).as_ref(),
        Ok(&of_record)
    );
    assert_eq!(
        decided(&source, letter(Partition(3), Form::Kafka(None), &value)),
        Err("field `qty` comes from the key or a header, which were not kept with this record".into())
    );
}

#[test]
fn rows_without_bytes_of_their_own_keep_their_values() {
    let source = orders(&[]);
    let time = Time::parse(TS).expect("a time");
    for (number, spelled) in [(f64::NAN, "NaN"), (f64::NEG_INFINITY, "-inf"), (2.5, "2.5")] {
        let row = [Value::Int64(1), Value::float(number), Value::Timestamp(time)];
        let row = row.map(|value| json::write(&value).to_string());
        let raw = crate::decode::spelled::spell(&crate::decode::members(&source), &row);
        let decided = decided(&source, letter(Partition::FILE, Form::Columns, &raw)).expect(&raw);
        assert!(decided.starts_with(&format!("1 {spelled} ")), "{decided}");
    }
    let raw = format!("{{\"user\":1,\"ts\":\"{TS}\"}}");
    let reason =
        decided(&source, letter(Partition::FILE, Form::Columns, raw)).expect_err("no null in its place");
    assert!(
        reason.starts_with("no column `qty` was kept of this row, since no field took it then"),
        "{reason}"
    );
}

#[test]
fn what_is_still_no_event_says_why_with_its_place() {
    let source = orders(&[]);
    let csv = |header: &str| Form::Csv { header: header.into() };
    let record = format!("1,2.5,{TS}");
    let reason =
        decided(&source, letter(Partition::FILE, csv("user,amount,ts"), &record)).expect_err("no column");
    assert!(reason.starts_with("no column `qty`; the file has user, amount, ts"), "{reason}");
    let reason = decided(&source, letter(Partition::FILE, csv("user,qty,ts"), format!("1,\"2.5,{TS}")));
    assert_eq!(reason, Err("the record has a quote that is not closed; close it".into()));
    let reason = decided(&source, letter(Partition::FILE, csv("user,qty,ts"), format!("1,{TS}")));
    assert_eq!(reason, Err("the record has 2 fields, the header has 3".into()));
    let ahead = "{\"user\":1,\"qty\":1,\"ts\":\"2026-01-01T09:01:01Z\"}";
    let reason = decided(&source, letter(Partition::PUSH, Form::Json, ahead)).expect_err("too far ahead");
    assert!(reason.contains("is more than 1m ahead of its arrival 2026-01-01T09:00:00.000Z"), "{reason}");
    decided(&source, letter(Partition::FILE, Form::Json, ahead))
        .expect("rows of files arrive at their event time");
}

#[test]
fn rows_of_earlier_versions_are_read_where_they_tell_how() {
    let row = |partition, place, raw| Row {
        partition,
        offset: 1,
        code: "undecodable",
        detail: "",
        place,
        raw,
        time: None,
        form: None,
    };
    let form = |row: Row<'_>| row.letter().map(|letter| letter.form);
    assert_eq!(form(row(Partition::PUSH, "push 1", b"{}")), Ok(Form::Json));
    assert_eq!(form(row(Partition::FILE, "a:b.jsonl:17", b"{}")), Ok(Form::Json));
    assert_eq!(form(row(Partition::FILE, "a.parquet row 2", b"{}")), Ok(Form::Columns));
    assert_eq!(form(row(Partition(4), "t/4@17", b"{}")), Ok(Form::Kafka(None)));
    let no_header = form(row(Partition::FILE, "a.csv:2", b"1,2")).expect_err("no header");
    assert!(no_header.contains("without the header"), "{no_header}");
    assert!(form(row(Partition::PUSH, "push 1", b"")).is_err());
    for code in [GIVEN_UP, LOST] {
        let never =
            form(Row { code, ..row(Partition::FILE, "a.jsonl row 3", b"") }).expect_err("nothing was read");
        assert!(never.contains("never read"), "{never}");
    }
    let long = vec![b'x'; LONGEST];
    assert!(form(row(Partition::FILE, "a.jsonl:2", &long)).is_err(), "cut off");
    assert!(form(row(Partition::PUSH, "push 2", &long)).is_ok(), "kept as a whole");
    let newer = Row { form: Some("{\"format\":\"avro\"}"), ..row(Partition::FILE, "a.avro:2", b"x") };
    assert!(form(newer).is_err());
}
