//! An endless stream of generated payments, with their times shifted so that each is received now.

use std::vec::IntoIter;

use tidemark_kernel::Time;

use super::{Payment, Shape, generate};

/// Payments to be received one after the other. Users, amounts, delays and bursts of fraud are those of the demo's
/// month; how busy an hour is, the caller decides.
#[derive(Clone, Debug)]
pub struct Live {
    /// The seed of the next day to generate.
    seed: u64,
    /// What is left of a generated day, in the order of receipt.
    day: IntoIter<Payment>,
    /// The number of the latest payment.
    latest: i64,
}

impl Live {
    /// Equal seeds give equal payments, up to their times and numbers.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self { seed, day: Vec::new().into_iter(), latest: 0 }
    }

    /// The next payment, received at `now` and created as long before as its generated delay says. Its number is the
    /// time of receipt in milliseconds, or the next one that is free: one that starts later begins with greater numbers.
    pub fn receive(&mut self, now: Time) -> Payment {
        let generated = self.generated();
        self.latest = now.millis().max(self.latest + 1);
        let delay = generated.received_at.millis() - generated.created_at.millis();
        let created_at = Time::from_millis(now.millis() - delay);
        Payment { payment_id: self.latest, created_at, received_at: now, ..generated }
    }

    fn generated(&mut self) -> Payment {
        loop {
            if let Some(payment) = self.day.next() {
                return payment;
            }
            let shape = Shape { seed: self.seed, days: 1, bursts: 4, ..Shape::default() };
            self.day = generate(&shape).into_iter();
            self.seed = self.seed.wrapping_add(1);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: i64 = 1_800_000_000_000;

    /// Ten payments a second, for longer than a generated day has payments.
    fn received(seed: u64) -> Vec<Payment> {
        let mut live = Live::new(seed);
        (0..30_000).map(|number| live.receive(Time::from_millis(NOW + number * 100))).collect()
    }

    #[test]
    fn every_payment_is_received_now_and_some_were_made_long_before() {
        let payments = received(1);
        assert!(payments.iter().zip(0..).all(|(payment, n)| payment.received_at.millis() == NOW + n * 100));
        let delays = payments.iter().map(|it| it.received_at.millis() - it.created_at.millis());
        let (late, ahead): (Vec<i64>, Vec<i64>) = delays.partition(|delay| *delay >= 0);
        assert!(ahead.len() < 30, "a wrong clock is rare: {ahead:?}");
        let hours_late = late.iter().filter(|delay| **delay > 3_600_000).count();
        assert!((100..3_000).contains(&hours_late), "{hours_late}");
        assert!(payments.iter().filter(|payment| payment.is_fraud).count() > 50);
        assert_eq!(payments, received(1));
        assert_ne!(payments, received(2));
    }

    #[test]
    fn numbers_grow_also_where_many_payments_come_in_a_millisecond() {
        let mut live = Live::new(1);
        let number = |live: &mut Live, at| live.receive(Time::from_millis(at)).payment_id;
        let numbers = [NOW, NOW, NOW, NOW + 1, NOW + 9].map(|at| number(&mut live, at));
        assert_eq!(numbers, [NOW, NOW + 1, NOW + 2, NOW + 3, NOW + 9]);
    }
}
