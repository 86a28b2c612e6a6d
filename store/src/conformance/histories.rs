//! The store remembers from which event tables its states were made.
#![allow(missing_docs, reason = "a law is its name and its body")]

use tidemark_kernel::{ErrorKind, Explain};

use super::{Subject, begin};
use crate::error::StoreError;

pub async fn the_first_history_of_a_source_stays(store: Subject) {
    store.check_history("payments", "two").await.unwrap();
    store.claim_history("payments", "one").await.unwrap();
    store.claim_history("payments", "one").await.unwrap();
    store.check_history("payments", "one").await.unwrap();
    for refused in
        [store.claim_history("payments", "two").await, store.check_history("payments", "two").await]
    {
        let error = refused.unwrap_err();
        assert!(
            matches!(&error, StoreError::OtherHistory { source_name, recorded, given, .. }
                if [source_name.as_str(), recorded, given] == ["payments", "one", "two"]),
            "{error:?}"
        );
        assert_eq!(error.kind(), ErrorKind::Environment);
    }
    store.claim_history("logins", "two").await.unwrap();
    let generation = begin(&store).await;
    store.drop_generation(&generation).await.unwrap();
    store.check_history("payments", "two").await.unwrap_err();
    store.check().await.unwrap();
}
