//! The input of a run: definitions and their changes, records, and the expected result of each.

use std::sync::{Arc, OnceLock};

use tidemark_engine::sources;
use tidemark_ingest::SourceFeed;
use tidemark_kernel::{FeaturePlan, ServicePlan, SourcePlan, Time};
use tidemark_registry::Repo;

use crate::world::World;

/// How many ways of defining the project there are: each of three things is there, or another way, or not.
pub(crate) const VERSIONS: usize = 16;

/// One way of defining the project.
#[derive(Debug)]
pub(crate) struct Definitions {
    pub(crate) sources: Vec<SourceFeed>,
    pub(crate) views: Vec<Arc<FeaturePlan>>,
    pub(crate) service: Arc<ServicePlan>,
}

impl Definitions {
    /// The source of a name.
    pub(crate) fn source(&self, name: &str) -> &Arc<SourcePlan> {
        let named = self.sources.iter().map(|feed| &feed.source).find(|source| source.name == name);
        named.expect("both sources are always there")
    }
}

/// Every way of defining the project, by number; once more with records that are left out as repetitions.
pub(crate) fn definitions(version: usize, is_unique: bool) -> &'static Definitions {
    static ALL: OnceLock<[Vec<Definitions>; 2]> = OnceLock::new();
    let all = |is_unique| (0..VERSIONS).map(|version| parse(version, is_unique)).collect();
    &ALL.get_or_init(|| [false, true].map(all))[usize::from(is_unique)][version]
}

fn parse(version: usize, is_unique: bool) -> Definitions {
    let is = |bit: usize| version & (1 << bit) != 0;
    let unique = if is_unique { ", unique: id within 1h" } else { "" };
    let filter = if is(0) { ", where: amount > 30" } else { "" };
    let max_ahead = if is(1) { "2m" } else { "1m" };
    let (more, also) = if is(2) { (MORE, ", more") } else { ("", "") };
    let (shop, shops) = if is(3) { ("", "") } else { (BY_SHOP, ", by_shop") };
    let text = format!(
        "entities:
  - {{name: user, keys: [{{name: user_id, type: int64}}]}}
  - {{name: shop, keys: [{{name: shop_id, type: string}}]}}
sources:
  - {{name: payments, kafka: {{topic: payments}}, fields: {FIELDS}, event_time: ts, max_ahead: {max_ahead}{unique}}}
  - {{name: clicks, fields: {FIELDS}, event_time: ts, arrival: record}}
views:
  - {{name: by_user, entity: user, source: payments{filter}, time_travel: 2s, features: [
       {{name: n, aggregate: count(*), windows: [10s, lifetime]}}, {{name: total, aggregate: sum(amount), windows: [1m]}}]}}
  - {{name: clicks_by_user, entity: user, source: clicks, time_travel: 2s, features: [
       {{name: n, aggregate: count(*), windows: [10s, 1m]}}, {{name: last, aggregate: last(amount), windows: [lifetime]}}]}}
{shop}{more}services:
  - {{name: all, features: [by_user, clicks_by_user{shops}{also}]}}
"
    );
    let repo: Repo = tidemark_registry::parse([("definitions.yaml", text)])
        .map_err(|problems| problems.to_string())
        .expect("definitions");
    Definitions {
        sources: sources(&repo),
        views: repo.views.values().cloned().collect(),
        service: Arc::clone(&repo.services["all"]),
    }
}

const FIELDS: &str = "[{name: id, type: int64}, {name: user_id, type: int64}, {name: shop_id, type: string}, \
                      {name: amount, type: float64}, {name: ts, type: timestamp}]";

/// Its `time_travel` is so long that states of the first shop are in parts.
const BY_SHOP: &str = "  - {name: by_shop, entity: shop, source: payments, where: amount > 10, time_travel: 2m, features: [
       {name: n, aggregate: count(*), windows: [1m]}, {name: users, aggregate: count(distinct user_id), windows: [lifetime]}]}
";

const MORE: &str = "  - {name: more, entity: user, source: payments, time_travel: 2s, features: [
       {name: largest, aggregate: max(amount), windows: [1m, lifetime]}]}
";

/// How many users there are: some of them share a bucket.
pub(crate) const USERS: u64 = 30;
/// How many shops there are.
pub(crate) const SHOPS: u64 = 5;

/// What a record is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// An event, whenever it is read.
    Event,
    /// Ahead of the clock by so much that the definitions in force decide whether it is an event.
    Ahead,
    /// No JSON.
    Broken,
}

/// A record in JSON, with an id that no other has.
pub(crate) fn record(world: &World, id: i64, now: Time) -> (Kind, Vec<u8>) {
    if world.chance(4) {
        return (Kind::Broken, format!("{{\"id\": {id}, ").into_bytes());
    }
    let user = if world.chance(4) { "null".to_owned() } else { world.draw(0..USERS).to_string() };
    // Most payments are in the first shop.
    let shop = world.draw(0..2 * SHOPS);
    let shop = if shop < SHOPS { shop } else { 0 };
    let amount = world.draw(0..100);
    // Mostly a little late, now and then very late, or ahead of the clock that a record is received by.
    let (kind, off) = match world.draw(0..20) {
        0 => (Kind::Ahead, 90_000),
        1 => (Kind::Event, -(world.draw(0..200_000) as i64)),
        _ => (Kind::Event, -(world.draw(0..3000) as i64)),
    };
    let ts = Time::from_millis(now.millis() + off);
    let json = format!(
        "{{\"id\": {id}, \"user_id\": {user}, \"shop_id\": \"s{shop}\", \"amount\": {amount}.5, \"ts\": \"{ts}\"}}"
    );
    (kind, json.into_bytes())
}
