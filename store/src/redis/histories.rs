//! Which event tables the states of each source's views were made from.

use redis::Cmd;

use super::layout;
use super::link::Link;
use crate::contract::compare_history;
use crate::error::StoreError;

/// The id recorded for a source.
pub(super) async fn recorded(link: &Link, source: &str) -> Result<Option<String>, StoreError> {
    link.ask(&Cmd::hget(layout::histories_key(link.prefix()), source)).await
}

/// Asks first: that needs no memory, of which there may be none left.
pub(super) async fn claim(link: &Link, source: &str, history: &str) -> Result<(), StoreError> {
    let recorded = match recorded(link, source).await? {
        Some(recorded) => Some(recorded),
        None => {
            let key = layout::histories_key(link.prefix());
            link.ask::<()>(&Cmd::hset_nx(key, source, history)).await?;
            self::recorded(link, source).await?
        }
    };
    compare_history(link.place(), source, recorded.as_deref(), history)
}
