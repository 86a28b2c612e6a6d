//! A damaged entity fails its own rows, not the other rows of the same call.

use std::fs;
use std::sync::Arc;

use tempfile::TempDir;
use tidemark_kernel::{EntityKey, ErrorKind, Explain, Partition, Value};
use tidemark_online::LookupError;
use tidemark_proto::serving::v1::serving_client::ServingClient;
use tidemark_proto::serving::v1::value::Kind;
use tidemark_proto::serving::v1::{RowErrorKind, row_result};
use tidemark_store::{EmbeddedStore, MemoryStore};

use crate::shop::{Shop, event, payments, row};
use crate::{grpc, http};

const DAMAGED: i64 = 7;

/// A shop over a file in which a byte of the state of user 7 has changed, and which therefore fails its checksum.
async fn damaged() -> (Shop, TempDir) {
    let directory = tempfile::tempdir().unwrap();
    let open = || Shop::over(|clock| Arc::new(EmbeddedStore::open(directory.path(), clock).unwrap()));
    let shop = open().filled().await;
    let generation = shop.store.live("payments").await.unwrap().unwrap();
    let events = [event(20, -50, 7777.25), event(21, -40, 7777.5)];
    shop.apply(&generation, &payments(), &[Value::Int64(DAMAGED)], &events).await;
    let key = EntityKey::encode(&[Value::Int64(DAMAGED)]).unwrap();
    let state = shop.store.lookup(&generation, &[key]).await.unwrap().remove(0).unwrap().remove(0).1;
    drop(shop);

    let path = EmbeddedStore::path(directory.path());
    let mut bytes = fs::read(&path).unwrap();
    let places: Vec<usize> =
        (0..bytes.len() - state.len()).filter(|at| bytes[*at..].starts_with(&state)).collect();
    assert!(!places.is_empty(), "the state is in the file");
    places.iter().for_each(|at| bytes[at + state.len() / 2] ^= 1);
    fs::write(&path, bytes).unwrap();
    (open(), directory)
}

#[tokio::test]
async fn its_row_alone_is_an_error_that_names_it() {
    let (shop, _directory) = damaged().await;
    let rows = || vec![row(1, "phone", 1.0), row(DAMAGED, "phone", 1.0), row(3, "phone", 1.0)];
    let results = shop.lookups.lookup("fraud", rows(), None).await.unwrap();
    assert_eq!(results[0].as_ref().unwrap().values[0], Value::Int64(2));
    assert_eq!(results[2].as_ref().unwrap().values[0], Value::Int64(0));
    let error = results[1].as_ref().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Damaged);
    let said = "the stored state of user_id=7 in view `payments`, partition file, cannot be read (it does not match its \
                checksum)";
    assert_eq!(error.to_string(), said);
    assert!(
        error.help().unwrap().starts_with("run `tidemark verify` to find all such states"),
        "{:?}",
        error.help()
    );
    let metrics = shop.lookups.metrics().render();
    assert!(metrics.contains("tidemark_lookup_row_errors_total{kind=\"damaged\"} 1\n"), "{metrics}");
    assert!(!metrics.contains("tidemark_lookup_errors_total{kind=\"damaged\"} 1\n"), "{metrics}");
    assert!(shop.lookups.ready().await.is_ok());
}

#[tokio::test]
async fn http_answers_the_other_rows() {
    let (shop, _directory) = damaged().await;
    let address = http::start(&shop).await;
    let of = |user: i64| format!(r#"{{"user_id": {user}, "device": "phone", "amount": 10}}"#);
    let body = format!(r#"{{"rows": [{}, {}, {}]}}"#, of(DAMAGED), of(1), of(2));
    let (status, answer) = http::lookup(address, &body).await;
    assert_eq!(status, 200, "{answer}");
    let error = &answer["rows"][0]["error"];
    assert_eq!(
        (error["kind"].as_str(), error["view"].as_str()),
        (Some("damaged"), Some("payments")),
        "{answer}"
    );
    let message = error["message"].as_str().unwrap();
    assert!(
        message.contains(" cannot be read ") && message.contains("; run `tidemark verify` to find "),
        "{message}"
    );
    assert_eq!(answer["rows"][1]["values"]["payments.payments_1h"], 2);
    assert_eq!(answer["rows"][2]["statuses"]["payments.payments_1h"], "not_found");
}

#[tokio::test]
async fn grpc_answers_the_other_rows() {
    let (shop, _directory) = damaged().await;
    let server = grpc::start(&shop).await;
    let rows = vec![grpc::row(Kind::Int64(1)), grpc::row(Kind::Int64(DAMAGED))];
    let response =
        ServingClient::new(server.channel.clone()).lookup(grpc::request(rows)).await.unwrap().into_inner();
    let Some(row_result::Result::Answer(answer)) = &response.results[0].result else {
        panic!("{response:?}")
    };
    assert_eq!(answer.values[0].kind, Some(Kind::Int64(2)));
    let Some(row_result::Result::Error(error)) = &response.results[1].result else { panic!("{response:?}") };
    assert_eq!((error.kind(), error.view.as_str()), (RowErrorKind::CorruptState, "payments"));
    assert!(error.message.contains("; run `tidemark verify` to find "), "{}", error.message);
}

/// A live pointer to states that are gone makes a view neither ready nor damaged, but lost until it is backfilled.
#[tokio::test]
async fn a_view_whose_states_are_gone_is_lost() {
    let mut held = None;
    let shop = Shop::over(|clock| {
        let store = Arc::new(MemoryStore::new(clock));
        held = Some(Arc::clone(&store));
        store as _
    });
    let shop = shop.filled().await;
    shop.lookups.ready().await.unwrap();
    held.unwrap().lose_generations();
    let looked_up = shop.lookups.lookup("fraud", vec![row(1, "phone", 1.0)], None).await.map(drop);
    for error in [shop.lookups.ready().await.unwrap_err(), looked_up.unwrap_err()] {
        assert!(matches!(error, LookupError::Lost { .. }), "{error}");
        assert_eq!(error.kind(), ErrorKind::NotReady);
    }
}

/// What is wrong with more than one entity fails the call: here a generation that is gone.
#[tokio::test]
async fn what_concerns_all_rows_fails_the_call() {
    let shop = Shop::open().await;
    let live = shop.store.live("payments").await.unwrap();
    shop.store.publish("payments", live.as_ref(), None).await.unwrap();
    let error = shop.lookups.lookup("fraud", vec![row(1, "phone", 1.0)], None).await.unwrap_err();
    assert!(matches!(error, LookupError::Backfilling { .. }), "{error}");
    // And bytes that a store takes for whole, but that are no state.
    let shop = Shop::open().await;
    let generation = shop.live(&payments()).await;
    shop.plant(&generation, Partition::FILE, &[Value::Int64(1)], vec![0; 40]).await;
    let rows = vec![row(1, "phone", 1.0), row(2, "phone", 1.0)];
    let results = shop.lookups.lookup("fraud", rows, None).await.unwrap();
    assert_eq!(results[0].as_ref().unwrap_err().kind(), ErrorKind::Damaged);
    assert!(results[1].is_ok());
}

/// A newer version has written it: nothing is damaged, and metrics and HTTP say so. On the wire of gRPC both are one kind.
#[tokio::test]
async fn a_state_of_a_newer_version_is_told_from_a_damaged_one() {
    let shop = Shop::open().await;
    let generation = shop.live(&payments()).await;
    shop.plant(&generation, Partition::FILE, &[Value::Int64(1)], vec![9; 40]).await;
    let advice = "; use the version of Tidemark that wrote it, or a newer one";
    let address = http::start(&shop).await;
    let body = r#"{"rows": [{"user_id": 1, "device": "phone", "amount": 10}]}"#;
    let (status, answer) = http::lookup(address, body).await;
    let error = &answer["rows"][0]["error"];
    assert_eq!((status, error["kind"].as_str()), (200, Some("environment")), "{answer}");
    assert!(error["message"].as_str().unwrap().ends_with(advice), "{answer}");

    let server = grpc::start(&shop).await;
    let request = grpc::request(vec![grpc::row(Kind::Int64(1))]);
    let response = ServingClient::new(server.channel.clone()).lookup(request).await.unwrap().into_inner();
    let Some(row_result::Result::Error(error)) = &response.results[0].result else { panic!("{response:?}") };
    assert_eq!(error.kind(), RowErrorKind::CorruptState);
    assert!(error.message.ends_with(advice), "{}", error.message);
    let metrics = shop.lookups.metrics().render();
    assert!(metrics.contains("tidemark_lookup_row_errors_total{kind=\"environment\"} 2\n"), "{metrics}");
}
