//! Generates a month of payments from a seed.

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use tidemark_kernel::{Span, Time};

use super::Shape;
use super::skew::Skew;

/// One payment, as the source `payments` of the example repo declares it.
#[derive(Clone, Debug, PartialEq)]
pub struct Payment {
    /// Its number, in order of creation.
    pub payment_id: i64,
    /// Who pays; sometimes unknown.
    pub user_id: Option<i64>,
    /// Who is paid.
    pub merchant_id: Option<i64>,
    /// What is paid with: `c-USER-NUMBER`; none for a bank transfer.
    pub card_id: Option<String>,
    /// How much.
    pub amount: Option<f64>,
    /// In which currency.
    pub currency: &'static str,
    /// `settled` or `declined`.
    pub status: &'static str,
    /// Where the card was used.
    pub country: Option<&'static str>,
    /// When it happened.
    pub created_at: Time,
    /// When it was received.
    pub received_at: Time,
    /// What a label says: whether it is part of a burst of fraud. No field of the event.
    pub is_fraud: bool,
}

/// The first day: 2026-10-01.
const START: Time = Time::from_millis(1_790_812_800_000);
const HOUR: i64 = 3_600_000;
const DAY: i64 = 24 * HOUR;

/// How busy each hour of a day is.
const HOURS: [f64; 24] = [
    6., 4., 3., 2., 2., 3., 8., 18., 30., 36., 40., 46., 54., 48., 42., 42., 46., 56., 64., 60., 48., 34.,
    22., 12.,
];
/// How busy each day of a week is, from Thursday on, since 2026-10-01 is a Thursday.
const WEEK: [f64; 7] = [1.0, 1.25, 1.35, 0.9, 0.85, 0.9, 0.95];
const COUNTRIES: [&str; 12] = ["DE", "FR", "NL", "US", "GB", "PL", "IT", "ES", "CH", "SE", "BR", "JP"];

/// All payments in the order in which they are received.
#[must_use]
pub fn generate(shape: &Shape) -> Vec<Payment> {
    let mut month = Month::new(shape);
    for day in 0..shape.days {
        month.ordinary_day(day);
    }
    for _ in 0..shape.bursts {
        month.burst();
    }
    month.received()
}

struct Month {
    shape: Shape,
    random: ChaCha8Rng,
    users: Skew,
    merchants: Skew,
    hours: Skew,
    countries: Skew,
    payments: Vec<Payment>,
}

impl Month {
    fn new(shape: &Shape) -> Self {
        Self {
            shape: *shape,
            random: ChaCha8Rng::seed_from_u64(shape.seed),
            users: Skew::zipf(shape.users),
            merchants: Skew::zipf(shape.merchants),
            hours: Skew::new(HOURS),
            countries: Skew::zipf(COUNTRIES.len() as u32),
            payments: Vec::new(),
        }
    }

    fn ordinary_day(&mut self, day: u32) {
        let busy = WEEK[day as usize % WEEK.len()];
        let count = (f64::from(self.shape.payments_per_day) * busy) as u32;
        for _ in 0..count {
            let hour = i64::from(self.hours.pick(&mut self.random));
            let within = self.random.random_range(0..HOUR);
            let payment = self.ordinary(millis_after_start(i64::from(day) * DAY + hour * HOUR + within));
            self.add(payment);
        }
    }

    /// A payment as most are.
    fn ordinary(&mut self, created_at: Time) -> Payment {
        let user = i64::from(self.users.pick(&mut self.random)) + 1;
        let card = self.random.random_range(1..=1 + user % 3);
        let at_home = self.random.random_bool(0.94);
        let home = COUNTRIES[(user % 5) as usize];
        let country = if at_home { home } else { COUNTRIES[self.countries.pick(&mut self.random) as usize] };
        let declined = self.random.random_bool(0.06);
        Payment {
            payment_id: 0,
            user_id: Some(user),
            merchant_id: Some(i64::from(self.merchants.pick(&mut self.random)) + 1),
            card_id: Some(format!("c-{user}-{card}")),
            amount: Some(self.amount()),
            currency: currency(country),
            status: if declined { "declined" } else { "settled" },
            country: Some(country),
            created_at,
            received_at: created_at,
            is_fraud: false,
        }
    }

    /// Mostly small, seldom large, in cents.
    fn amount(&mut self) -> f64 {
        let skewed: f64 =
            self.random.random::<f64>() * self.random.random::<f64>() * self.random.random::<f64>();
        (50.0 + skewed * 60_000.0).round() / 100.0
    }

    /// Someone tries out a stolen card: many small payments at many merchants, abroad, within minutes.
    fn burst(&mut self) {
        let mut created_at =
            millis_after_start(self.random.random_range(0..i64::from(self.shape.days) * DAY));
        let card = self.ordinary(created_at).card_id;
        let user = self.random.random_range(1..=i64::from(self.shape.users));
        for _ in 0..self.random.random_range(12..60) {
            let mut payment = self.ordinary(created_at);
            let abroad = COUNTRIES[self.random.random_range(5..COUNTRIES.len())];
            payment.user_id = Some(user);
            payment.card_id.clone_from(&card);
            payment.amount = Some(f64::from(self.random.random_range(10..300u32)) / 100.0);
            payment.status = if self.random.random_bool(0.4) { "declined" } else { "settled" };
            (payment.country, payment.currency) = (Some(abroad), currency(abroad));
            payment.is_fraud = true;
            self.add(payment);
            created_at = created_at.plus(Span::from_millis(self.random.random_range(0..12_000)));
        }
    }

    fn add(&mut self, mut payment: Payment) {
        payment.received_at = payment.created_at.plus(self.delay());
        self.damage(&mut payment);
        let twice = self.random.random_bool(0.01).then(|| payment.clone());
        self.payments.push(payment);
        // A second payment of the same instant: the two are a tie, in event time and often in arrival.
        if let Some(mut tie) = twice {
            tie.amount = Some(self.amount());
            tie.received_at =
                tie.received_at.plus(Span::from_millis(i64::from(self.random.random_bool(0.5))));
            self.payments.push(tie);
        }
    }

    /// From creation to receipt: seconds, sometimes minutes, seldom hours.
    fn delay(&mut self) -> Span {
        let longest = match self.random.random::<f64>() {
            share if share < 0.92 => 2_500,
            share if share < 0.98 => 10 * 60_000,
            _ => 6 * HOUR,
        };
        Span::from_millis(self.random.random_range(20..longest))
    }

    /// What goes missing on the way, and a clock that is wrong: such a payment is ahead of its receipt.
    fn damage(&mut self, payment: &mut Payment) {
        let mut lost = |share| self.random.random_bool(share);
        payment.user_id = payment.user_id.filter(|_| !lost(0.004));
        payment.merchant_id = payment.merchant_id.filter(|_| !lost(0.002));
        payment.card_id = payment.card_id.take().filter(|_| !lost(0.03));
        payment.amount = payment.amount.filter(|_| !lost(0.003));
        payment.country = payment.country.filter(|_| !lost(0.01));
        if lost(0.000_1) {
            payment.created_at = payment.created_at.plus(Span::from_millis(2 * HOUR + 6 * HOUR));
        } else if lost(0.2) {
            payment.created_at = payment.created_at.floor(Span::from_secs(1));
        }
    }

    fn received(mut self) -> Vec<Payment> {
        self.payments.sort_by_key(|payment| payment.created_at);
        let numbered = self.payments.iter_mut().zip(1..);
        numbered.for_each(|(payment, number)| payment.payment_id = number);
        self.payments.sort_by_key(|payment| payment.received_at);
        self.payments
    }
}

const fn millis_after_start(millis: i64) -> Time {
    START.plus(Span::from_millis(millis))
}

fn currency(country: &str) -> &'static str {
    match country {
        "US" => "USD",
        "GB" => "GBP",
        "PL" => "PLN",
        "CH" => "CHF",
        "SE" => "SEK",
        "BR" => "BRL",
        "JP" => "JPY",
        _ => "EUR",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn small() -> Vec<Payment> {
        generate(&Shape { days: 7, payments_per_day: 2_000, bursts: 5, ..Shape::default() })
    }

    #[test]
    fn the_same_seed_gives_the_same_payments() {
        assert_eq!(small(), small());
        assert_ne!(
            small(),
            generate(&Shape { seed: 2, days: 7, payments_per_day: 2_000, bursts: 5, ..Shape::default() })
        );
    }

    #[test]
    fn the_shapes_are_there() {
        assert_eq!(START.to_string(), "2026-10-01T00:00:00.000Z");
        let payments = small();
        let share = |fits: fn(&Payment) -> bool| {
            payments.iter().filter(|payment| fits(payment)).count() as f64 / payments.len() as f64
        };
        assert!(payments.is_sorted_by_key(|payment| payment.received_at));
        assert!((0.05..0.15).contains(&share(|payment| payment.user_id == Some(1))));
        assert!(share(|payment| payment.received_at.millis() - payment.created_at.millis() > HOUR) > 0.01);
        assert!(share(|payment| payment.card_id.is_none()) > 0.02);
        assert!(share(|payment| payment.is_fraud) > 0.005);
        let night = |payment: &Payment| (payment.created_at.millis() - START.millis()) % DAY < 5 * HOUR;
        assert!(share(night) < 0.05);
        let mut times: Vec<_> =
            payments.iter().map(|payment| (payment.user_id, payment.created_at)).collect();
        times.sort();
        assert!(times.windows(2).filter(|pair| pair[0] == pair[1]).count() > 100, "ties");
    }
}
