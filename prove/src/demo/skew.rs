//! A skewed random choice: few items are chosen often, many seldom.

use rand::RngExt;
use rand_chacha::ChaCha8Rng;

/// A choice among numbers from 0, each with a weight.
#[derive(Clone, Debug)]
pub(super) struct Skew {
    /// The sum of the weights up to and with each number.
    sums: Vec<f64>,
}

impl Skew {
    /// Weights of Zipf's law: the n-th is chosen as often as the first, over n.
    pub(super) fn zipf(count: u32) -> Self {
        Self::new((1..=count.max(1)).map(|rank| 1.0 / f64::from(rank)))
    }

    /// The given weights.
    pub(super) fn new(weights: impl IntoIterator<Item = f64>) -> Self {
        let mut sum = 0.0;
        let sums = weights.into_iter().map(|weight| {
            sum += weight;
            sum
        });
        Self { sums: sums.collect() }
    }

    /// One of the numbers.
    pub(super) fn pick(&self, random: &mut ChaCha8Rng) -> u32 {
        let at = random.random::<f64>() * self.sums.last().copied().unwrap_or_default();
        self.sums.partition_point(|sum| *sum <= at).min(self.sums.len() - 1) as u32
    }
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng;

    use super::*;

    #[test]
    fn the_first_is_chosen_most() {
        let (skew, mut random) = (Skew::zipf(10), ChaCha8Rng::seed_from_u64(7));
        let mut counts = [0; 10];
        (0..10_000).for_each(|_| counts[skew.pick(&mut random) as usize] += 1);
        assert!(counts[0] > 3_000 && counts[9] > 200 && counts[0] > 5 * counts[9], "{counts:?}");
    }
}
