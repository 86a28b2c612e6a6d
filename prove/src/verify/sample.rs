//! A sample of a view's entities that is the same for the same seed.

use std::collections::{BTreeSet, BinaryHeap};
use std::hash::{DefaultHasher, Hash, Hasher};

use tidemark_kernel::EntityKey;

use super::{VerifyError, View};

/// Chooses `count` of the stored entities: those whose key hashes lowest.
pub(super) async fn choose(view: &View<'_>, count: usize) -> Result<BTreeSet<EntityKey>, VerifyError> {
    let mut lowest: BinaryHeap<(u64, EntityKey)> = BinaryHeap::new();
    let mut pages = view.request.store.entities(&view.generation).await?;
    loop {
        let page = pages.next_page().await?;
        if page.is_empty() {
            return Ok(lowest.into_iter().map(|(_, key)| key).collect());
        }
        for entity in page {
            lowest.push((hash(view.request.seed, &entity.key), entity.key));
            if lowest.len() > count {
                lowest.pop();
            }
        }
    }
}

fn hash(seed: u64, key: &EntityKey) -> u64 {
    let mut hasher = DefaultHasher::new();
    seed.hash(&mut hasher);
    key.as_bytes().hash(&mut hasher);
    hasher.finish()
}
