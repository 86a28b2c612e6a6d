//! Answers, refused questions and their errors.

use std::collections::BTreeMap;
use std::sync::Arc;

use tidemark_kernel::aggregate::Function;
use tidemark_kernel::plan::{FeatureSpec, ViewSpec};
use tidemark_kernel::value::Field;
use tidemark_kernel::{ErrorKind, Explain, FeaturePlan, Partition, Status, Time, Token, Type, Value, Window};
use tidemark_online::lookups::Results;
use tidemark_online::{LookupError, Row, RowAnswer, RowError};

use crate::shop::{Event, NOON, Shop, TIME_TRAVEL, at, event, fraud, logins, payments, row};

async fn one(shop: &Shop, row: Row, at: Option<Time>) -> Result<RowAnswer, RowError> {
    let mut results = shop.lookups.lookup("fraud", vec![row], at).await.unwrap();
    assert_eq!(results.len(), 1);
    results.remove(0)
}

async fn refused(shop: &Shop, row: Row) -> String {
    shop.lookups.lookup("fraud", vec![row], None).await.unwrap_err().explained()
}

#[tokio::test]
async fn a_row_is_answered_with_values_statuses_times_and_a_token() {
    let answer = one(&Shop::open().await, row(1, "phone", 10.0), None).await.unwrap();
    assert_eq!(answer.at, NOON.next());
    let counts = [(Value::float(20.0), 2), (Value::float(10.0), 1)];
    let list = [Value::float(20.0), Value::float(20.0)];
    let values = [
        Value::Int64(2),
        Value::float(40.0),
        Value::List(list.into()),
        Value::Counts(counts.into()),
        Value::Int64(1),
        Value::float(0.25),
    ];
    assert_eq!(answer.values, values);
    assert_eq!(answer.statuses, [Status::Present; 6]);
    assert_eq!(answer.newest, [Some(at(-60)), Some(at(-30))]);
    let token: Token = answer.token.to_string().parse().unwrap();
    assert_eq!(token, answer.token);
    assert_eq!(token.at, answer.at);
    assert_eq!(token.views["payments"].fingerprint, payments().fingerprint());
    assert_eq!(token.views["payments"].last.iter().collect::<Vec<_>>(), [(&Partition::FILE, &9)]);
    assert_eq!(token.views["logins"].last.iter().collect::<Vec<_>>(), [(&Partition::PUSH, &3)]);
}

#[tokio::test]
async fn rows_are_answered_in_order_and_repeated_or_unknown_entities_each_get_their_own() {
    let shop = Shop::open().await;
    let rows = (0..200).map(|index| row(index % 3, "phone", 1.0)).collect();
    let results: Results = shop.lookups.lookup("fraud", rows, None).await.unwrap();
    assert_eq!(results.len(), 200);
    for (index, result) in results.iter().enumerate() {
        let answer = result.as_ref().unwrap();
        let known = index % 3 == 1;
        assert_eq!(answer.values[0], Value::Int64(if known { 2 } else { 0 }), "row {index}");
        assert_eq!(answer.statuses[0], if known { Status::Present } else { Status::NotFound });
        assert_eq!(answer.token.views["payments"].last.is_empty(), !known);
    }
}

#[tokio::test]
async fn a_null_key_is_not_found_in_the_views_that_use_it_only() {
    let shop = Shop::open().await;
    let mut asked = row(1, "phone", 10.0);
    asked.insert("device".into(), Value::Null);
    let answer = one(&shop, asked, None).await.unwrap();
    assert_eq!(answer.values[0], Value::Int64(2));
    assert_eq!((&answer.values[4], answer.statuses[4]), (&Value::Int64(0), Status::NotFound));
    let answer = one(&shop, row(None, "phone", 10.0), None).await.unwrap();
    assert_eq!((&answer.values[0], answer.statuses[0]), (&Value::Int64(0), Status::NotFound));
    assert_eq!((&answer.values[5], answer.statuses[5]), (&Value::Null, Status::Null));
    assert_eq!(answer.newest, [None, None]);
    let token = |plan: FeaturePlan| (plan.fingerprint(), BTreeMap::new());
    let seen = |view: &str| (answer.token.views[view].fingerprint, answer.token.views[view].last.clone());
    assert_eq!(
        (seen("payments"), seen("logins")),
        (token(payments()), token(logins())),
        "every view is named"
    );
}

#[tokio::test]
async fn values_decay_with_no_new_event_and_grow_old() {
    let shop = Shop::open().await;
    let answer = one(&shop, row(1, "phone", 1.0), Some(at(3000))).await.unwrap();
    assert_eq!(answer.values[0], Value::Int64(2), "a window's older edge moves by the minute");
    assert_eq!(answer.statuses[0], Status::OutsideMaxAge);
    let answer = one(&shop, row(1, "phone", 1.0), Some(at(9000))).await.unwrap();
    assert_eq!(answer.values[..2], [Value::Int64(0), Value::Null]);
}

#[tokio::test]
async fn without_an_instant_it_is_the_clock_or_the_row_s_own_horizon() {
    let shop = Shop::open().await;
    shop.set_clock(at(-3600));
    let horizon = at(-30).minus(TIME_TRAVEL);
    let answer = one(&shop, row(1, "phone", 1.0), None).await.unwrap();
    assert_eq!(answer.at, horizon, "the later of both views' horizons holds for the whole row");
    let answer = one(&shop, row(2, "phone", 1.0), None).await.unwrap();
    assert_eq!(answer.at, at(-3600).next());
}

/// From 2030 by the clock of one phone.
async fn log_in_from_2030(shop: &Shop) {
    let seconds = 4 * 365 * 86_400;
    let login = Event { partition: Partition::PUSH, ..event(4, seconds, 0.0) };
    let generation = shop.live(&logins()).await;
    shop.apply(&generation, &logins(), &[Value::Int64(1), Value::string("phone")], &[login]).await;
}

#[tokio::test]
async fn a_clock_far_ahead_takes_no_other_view_s_features_away() {
    let shop = Shop::open().await;
    log_in_from_2030(&shop).await;
    for instant in [None, Some(NOON.next())] {
        let answer = one(&shop, row(1, "phone", 10.0), instant).await.unwrap();
        assert_eq!(answer.at, NOON.next());
        assert_eq!(answer.values[..2], [Value::Int64(2), Value::float(40.0)]);
        assert_eq!(answer.statuses[..4], [Status::Present; 4]);
        assert_eq!((&answer.values[4], answer.statuses[4]), (&Value::Null, Status::TooEarly));
        assert_eq!(answer.values[5], Value::float(0.25), "what is derived from the others");
        assert_eq!(answer.newest, [Some(at(-60)), None]);
        let token: Token = answer.token.to_string().parse().unwrap();
        assert_eq!(token, answer.token);
        assert_eq!(["payments", "logins"].map(|view| token.views[view].too_early), [false, true]);
    }
    let answer = one(&shop, row(2, "phone", 1.0), None).await.unwrap();
    assert_eq!((answer.at, answer.statuses[4]), (NOON.next(), Status::NotFound), "another entity");
}

#[tokio::test]
async fn a_clock_a_little_ahead_is_waited_for() {
    let shop = Shop::open().await;
    let generation = shop.live(&logins()).await;
    for (ahead, expected) in [(70, at(60)), (71, NOON.next())] {
        let login = Event { partition: Partition::PUSH, ..event(4, ahead, 0.0) };
        shop.apply(&generation, &logins(), &[Value::Int64(1), Value::string("phone")], &[login]).await;
        let answer = one(&shop, row(1, "phone", 10.0), None).await.unwrap();
        assert_eq!(answer.at, expected, "{ahead} s");
        assert_eq!(answer.statuses[4] == Status::TooEarly, ahead > 70);
    }
}

#[tokio::test]
async fn an_instant_before_all_horizons_is_refused_for_that_row_alone() {
    let shop = Shop::open().await;
    let horizon = at(-60).minus(TIME_TRAVEL);
    let rows = vec![row(1, "phone", 1.0), row(2, "phone", 1.0), row(1, "laptop", 1.0)];
    let early = Time::from_millis(horizon.millis() - 1);
    let results = shop.lookups.lookup("fraud", rows, Some(early)).await.unwrap();
    let RowError::TooEarly { view, early } = results[0].clone().unwrap_err() else { panic!("{results:?}") };
    let latest = at(-30).minus(TIME_TRAVEL);
    assert_eq!((view.as_str(), early.horizon, early.time_travel), ("logins", latest, TIME_TRAVEL));
    let message = results[0].clone().unwrap_err().explained();
    assert!(message.contains(&latest.to_string()) && message.contains("10s"), "{message}");
    assert!(message.ends_with("; ask about a later instant, or use `train` for the past"), "{message}");
    assert!(results[1].is_ok());
    let laptop = results[2].as_ref().expect("the other device has its own horizon");
    assert_eq!([laptop.statuses[0], laptop.statuses[4]], [Status::TooEarly, Status::NotFound]);
    for (instant, logins) in [(horizon, Status::TooEarly), (latest, Status::NotFound)] {
        let answer = one(&shop, row(1, "phone", 1.0), Some(instant)).await.unwrap();
        assert_eq!((answer.at, answer.statuses[0], answer.statuses[4]), (instant, Status::Present, logins));
    }
}

#[tokio::test]
async fn an_instant_that_no_event_can_have_is_refused() {
    let error = Shop::open().await.lookups.lookup("fraud", vec![], Some(Time::MAX.next())).await.unwrap_err();
    assert!(matches!(error, LookupError::InvalidAt { .. }), "{error}");
}

#[tokio::test]
async fn mistakes_in_names_and_types_fail_the_call_and_say_what_to_do() {
    let shop = Shop::open().await;
    let error = shop.lookups.lookup("fruad", vec![], None).await.unwrap_err();
    assert_eq!(error.to_string(), "unknown service `fruad`");
    assert_eq!(error.help().unwrap(), "did you mean `fraud`?");
    assert_eq!(error.kind(), ErrorKind::Unknown);

    let mut mistyped = row(1, "phone", 1.0);
    let user = mistyped.remove("user_id").unwrap();
    let missing = refused(&shop, mistyped.clone()).await;
    let expected = "row 0 lacks the key `user_id` (int64) of service `fraud`; name it in every row, null if \
                    there is no such entity";
    assert_eq!(missing, expected);
    mistyped.insert("usr_id".into(), user);
    let unknown = refused(&shop, mistyped).await;
    assert!(unknown.ends_with("of service `fraud`; did you mean `user_id`?"), "{unknown}");

    let mut lacking = row(1, "phone", 1.0);
    lacking.remove("amount");
    let missing = refused(&shop, lacking).await;
    assert!(missing.starts_with("row 0 lacks the request field `amount` (float64)"), "{missing}");

    let mut text = row(1, "phone", 1.0);
    text.insert("user_id".into(), Value::string("42"));
    let wrong = refused(&shop, text).await;
    let expected = "`user_id` in row 0 is the string `42`, expected int64; values are never converted";
    assert_eq!(wrong, expected);
}

#[tokio::test]
async fn a_view_is_answered_only_from_states_of_its_plan() {
    let shop = Shop::empty();
    let ask = || shop.lookups.lookup("fraud", vec![row(1, "phone", 1.0)], None);
    let error = ask().await.unwrap_err();
    assert_eq!(
        error.explained(),
        "view `payments` is being backfilled and cannot be looked up yet; try again once the view is backfilled"
    );
    assert!(shop.lookups.ready().await.is_err());
    shop.live(&payments()).await;
    shop.live(&logins()).await;
    assert!(ask().await.is_ok());
    assert!(shop.lookups.ready().await.is_ok());

    shop.live(&changed(&payments())).await;
    assert!(ask().await.is_ok(), "what was live goes on answering while it is kept");
    assert!(shop.lookups.ready().await.is_ok());
    for replaced in shop.store.unpublished("payments").await.unwrap() {
        shop.store.drop_generation(&replaced).await.unwrap();
    }
    assert!(shop.lookups.ready().await.is_err());
    let error = ask().await.unwrap_err();
    assert!(matches!(&error, LookupError::Applying { view, .. } if view == "payments"), "{error}");
    assert_eq!(error.kind(), ErrorKind::NotReady);
}

/// The same view with another meaning.
fn changed(plan: &FeaturePlan) -> FeaturePlan {
    let spec = ViewSpec {
        view: plan.view.clone(),
        entity: plan.entity.clone(),
        source: plan.source.clone(),
        source_version: None,
        fields: plan.fields.clone(),
        keys: plan.keys.clone(),
        filter: Some("amount > 0".into()),
        features: vec![FeatureSpec {
            name: "n".into(),
            function: Function::Count,
            input: None,
            filter: None,
            window: Window::Lifetime,
        }],
        time_travel: plan.time_travel,
        max_age: None,
        expression_semantics: tidemark_expr::SEMANTICS,
    };
    FeaturePlan::new(spec).unwrap()
}

#[tokio::test]
async fn a_damaged_state_fails_its_row_and_names_the_entity() {
    let shop = Shop::open().await;
    let generation = shop.live(&logins()).await;
    let key = [Value::Int64(7), Value::string("phone")];
    shop.plant(&generation, Partition::PUSH, &key, vec![1, 2, 3]).await;
    let rows = vec![row(7, "phone", 1.0), row(1, "phone", 1.0)];
    let results = shop.lookups.lookup("fraud", rows, None).await.unwrap();
    let error = results[0].clone().unwrap_err();
    let message = error.to_string();
    assert!(
        message.contains("user_id=7,device=phone in view `logins`, partition push, cannot be read"),
        "{message}"
    );
    assert_eq!(error.kind(), ErrorKind::Damaged);
    assert!(results[1].is_ok());
}

#[tokio::test]
async fn services_are_swapped_while_they_are_asked() {
    let shop = Shop::open().await;
    let mut changed = fraud();
    changed.request.push(Field { name: "country".into(), ty: Type::String });
    changed.name = "fraud_2".into();
    shop.lookups.serve([Arc::new(changed), Arc::new(fraud())]).unwrap();
    let names: Vec<String> =
        shop.lookups.services().iter().map(|served| served.plan().name.clone()).collect();
    assert_eq!(names, ["fraud", "fraud_2"]);

    let mut broken = fraud();
    broken.derived[0].sql = "amount / nothing".into();
    assert!(shop.lookups.serve([Arc::new(broken)]).is_err());
    assert_eq!(shop.lookups.services().len(), 2, "a set that cannot be served changes nothing");
}

#[tokio::test]
async fn a_derived_feature_that_fails_is_null_and_counted() {
    let shop = Shop::open().await;
    let generation = shop.live(&payments()).await;
    shop.apply(&generation, &payments(), &[Value::Int64(3)], &[event(0, -60, 0.0)]).await;
    let answer = one(&shop, row(3, "phone", 1.0), None).await.unwrap();
    assert_eq!(answer.values[1], Value::float(0.0));
    assert_eq!((&answer.values[5], answer.statuses[5]), (&Value::Null, Status::Null));
    let metrics = shop.lookups.metrics().render();
    assert!(metrics.contains("tidemark_lookup_derived_failures_total{service=\"fraud\"} 1\n"), "{metrics}");
    assert!(metrics.contains("tidemark_lookup_rows_total{service=\"fraud\"} 1\n"), "{metrics}");
}
