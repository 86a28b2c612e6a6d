//! A shop: three views of one topic of payments, each keyed by another field, with four windowed features each.

use std::fmt::{self, Write};

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use tidemark_kernel::{Span, Time};
use tidemark_registry::{Repo, parse};

use crate::now;

/// The topic that the source reads.
pub const TOPIC: &str = "payments";

/// How many partitions it has.
pub const PARTITIONS: i32 = 12;

/// How many entities each view has, unless a benchmark makes others.
pub const ENTITIES: usize = 10_000;

/// Over how long a backlog is spread.
const DAY: Span = Span::from_secs(24 * 60 * 60);

/// Zipf's law for the entities: the most frequent of 10,000 has a seventh of all events.
const EXPONENT: f64 = 1.1;

const DEFINITIONS: &str = "
entities:
  - {name: user, keys: [{name: user_id, type: int64}]}
  - {name: merchant, keys: [{name: merchant_id, type: int64}]}
  - {name: card, keys: [{name: card_id, type: string}]}
sources:
  - name: payments
    kafka: {topic: payments, format: json}
    fields:
      - {name: payment_id, type: int64}
      - {name: user_id, type: int64}
      - {name: merchant_id, type: int64}
      - {name: card_id, type: string}
      - {name: amount, type: float64}
      - {name: currency, type: string}
      - {name: country, type: string}
      - {name: created_at, type: timestamp}
    event_time: created_at
views:
  - name: user_payments
    entity: user
    source: payments
    features:
      - {name: payments, aggregate: count(*), windows: [10m]}
      - {name: amount_sum, aggregate: sum(amount), windows: [1h]}
      - {name: amount_avg, aggregate: avg(amount), windows: [1d]}
      - {name: merchants, aggregate: count(distinct merchant_id), windows: [7d]}
  - name: merchant_payments
    entity: merchant
    source: payments
    features:
      - {name: payments, aggregate: count(*), windows: [1h]}
      - {name: amount_sum, aggregate: sum(amount), windows: [1d]}
      - {name: amount_max, aggregate: max(amount), windows: [7d]}
      - {name: last_amount, aggregate: last(amount), windows: [10m]}
  - name: card_payments
    entity: card
    source: payments
    features:
      - {name: payments, aggregate: count(*), windows: [10m]}
      - {name: countries, aggregate: count(distinct country), windows: [1h]}
      - {name: amount_max, aggregate: max(amount), windows: [1d]}
      - {name: amount_sum, aggregate: sum(amount), windows: [7d]}
services:
  - {name: fraud, features: [user_payments, merchant_payments, card_payments]}
  - {name: user, features: [user_payments]}
";

const COUNTRIES: [&str; 8] = ["DE", "FR", "IT", "ES", "NL", "PL", "SE", "AT"];

/// The definitions.
///
/// # Panics
/// Where they are not right.
pub fn repo() -> Repo {
    parse([("shop.yaml", DEFINITIONS)]).expect("definitions without a problem")
}

/// The definitions, with so many views more that see every payment and keep none.
///
/// # Panics
/// Where they are not right.
pub fn repo_with_idle_views(count: usize) -> Repo {
    let mut idle = String::from("views:\n");
    for view in 0..count {
        let _ = writeln!(
            idle,
            "  - {{name: idle_{view}, entity: user, source: payments, where: amount < 0, features: \
             [{{name: payments, aggregate: count(*), windows: [1h]}}]}}"
        );
    }
    parse([("idle.yaml", idle.as_str()), ("shop.yaml", DEFINITIONS)]).expect("definitions without a problem")
}

/// One payment. Users, merchants and cards are numbered from 0.
#[derive(Clone, Debug)]
pub struct Payment {
    /// Its own number.
    pub id: u64,
    /// Who pays.
    pub user: usize,
    /// Who is paid.
    pub merchant: usize,
    /// With what.
    pub card: usize,
    /// How much.
    pub cents: u32,
    /// Where.
    pub country: &'static str,
    /// When.
    pub at: Time,
}

impl Payment {
    /// The id of a card.
    pub fn card_id(card: usize) -> String {
        format!("c{card:07}")
    }
}

/// As JSON of about 200 bytes, with one field that no source declares.
impl fmt::Display for Payment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { id, user, merchant, card, cents, country, at } = self;
        let (card, whole, cents) = (Self::card_id(*card), cents / 100, cents % 100);
        write!(
            f,
            r#"{{"payment_id":{id},"user_id":{user},"merchant_id":{merchant},"card_id":"{card}","amount":{whole}.{cents:02},"currency":"EUR","country":"{country}","channel":"app","device":"a4f1","created_at":"{at}"}}"#
        )
    }
}

/// Payments one after the other, the same in every run.
#[derive(Debug)]
pub struct Payments {
    random: ChaCha8Rng,
    /// The sum of the weights up to and with each entity.
    weights: Vec<f64>,
    next: u64,
}

impl Default for Payments {
    fn default() -> Self {
        let mut sum = 0.0;
        let weights = (1..=ENTITIES).map(|rank| {
            sum += (rank as f64).powf(-EXPONENT);
            sum
        });
        Self { random: ChaCha8Rng::seed_from_u64(7), weights: weights.collect(), next: 0 }
    }
}

/// A backlog of payments, spread over the day before now.
pub fn backlog(events: u64) -> impl Iterator<Item = Payment> {
    let (end, mut payments) = (now(), Payments::default());
    (0..events).map(move |event| {
        let ago = DAY.millis() as f64 * (events - event) as f64 / events as f64;
        payments.next(Time::from_millis(end.millis() - ago as i64))
    })
}

impl Payments {
    /// The next one, which happens at this instant.
    pub fn next(&mut self, at: Time) -> Payment {
        self.next += 1;
        Payment {
            id: self.next,
            user: self.entity(),
            merchant: self.entity(),
            card: self.entity(),
            cents: self.random.random_range(100..100_000),
            country: COUNTRIES[self.random.random_range(0..COUNTRIES.len())],
            at,
        }
    }

    fn entity(&mut self) -> usize {
        let all = self.weights.last().copied().unwrap_or_default();
        let at = self.random.random::<f64>() * all;
        self.weights.partition_point(|weight| *weight <= at).min(ENTITIES - 1)
    }
}
