//! Random numbers of the distributions that the estimate draws from. The same seed gives the same numbers.

use rand_core::{Rng, SeedableRng};
use rand_xoshiro::SplitMix64;

/// Expected events up to which a binomial number is counted one by one, and not rounded from a normal one.
const COUNTED: f64 = 30.0;

#[derive(Debug)]
pub(super) struct Random(SplitMix64);

impl Random {
    pub(super) fn new(seed: u64) -> Self {
        Self(SplitMix64::seed_from_u64(seed))
    }

    /// Between 0 and 1, and neither.
    pub(super) fn share(&mut self) -> f64 {
        let bits = u32::try_from(self.0.next_u64() >> 32).unwrap_or_default();
        (f64::from(bits) + 0.5) / (f64::from(u32::MAX) + 1.0)
    }

    pub(super) fn normal(&mut self) -> f64 {
        (-2.0 * self.share().ln()).sqrt() * (std::f64::consts::TAU * self.share()).cos()
    }

    /// G. Marsaglia, W. W. Tsang, "A simple method for generating gamma variables", ACM Transactions on Mathematical Software 26
    /// (2000).
    pub(super) fn gamma(&mut self, shape: f64) -> f64 {
        if shape < 1.0 {
            return self.gamma(shape + 1.0) * self.share().powf(1.0 / shape);
        }
        let large = shape - 1.0 / 3.0;
        let scale = 1.0 / (9.0 * large).sqrt();
        loop {
            let normal = self.normal();
            let cube = (1.0 + scale * normal).powi(3);
            if cube > 0.0 && self.share().ln() < normal * normal / 2.0 + large * (1.0 - cube + cube.ln()) {
                return large * cube;
            }
        }
    }

    pub(super) fn beta(&mut self, yes: f64, no: f64) -> f64 {
        let yes = self.gamma(yes);
        yes / (yes + self.gamma(no))
    }

    /// How many of `count` cases happen, each with this probability.
    pub(super) fn binomial(&mut self, count: f64, probability: f64) -> f64 {
        if probability > 0.5 {
            return count - self.binomial(count, 1.0 - probability);
        }
        let mean = count * probability;
        if mean > COUNTED {
            let spread = (mean * (1.0 - probability)).sqrt();
            return (mean + self.normal() * spread).round().clamp(0.0, count);
        }
        let (mut at, mut happened) = (0.0, 0.0);
        loop {
            // How many cases pass until the next one that happens.
            at += (self.share().ln() / (-probability).ln_1p()).floor() + 1.0;
            if probability <= 0.0 || at > count {
                return happened;
            }
            happened += 1.0;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Random;

    #[test]
    fn the_numbers_have_the_means_and_variances_of_their_distributions() {
        let mut random = Random::new(7);
        let mut check = |name: &str, mean: f64, variance: f64, next: &mut dyn FnMut(&mut Random) -> f64| {
            let all: Vec<f64> = (0..20_000).map(|_| next(&mut random)).collect();
            let found = all.iter().sum::<f64>() / 20_000.0;
            let spread = all.iter().map(|number| (number - found).powi(2)).sum::<f64>() / 20_000.0;
            assert!((found - mean).abs() < 5.0 * (variance / 20_000.0).sqrt(), "{name}: mean {found}, not {mean}");
            assert!((spread / variance - 1.0).abs() < 0.1, "{name}: variance {spread}, not {variance}");
        };
        check("share", 0.5, 1.0 / 12.0, &mut Random::share);
        check("normal", 0.0, 1.0, &mut Random::normal);
        check("gamma", 3.0, 3.0, &mut |random| random.gamma(3.0));
        check("gamma below 1", 0.5, 0.5, &mut |random| random.gamma(0.5));
        check("beta", 0.4, 0.04, &mut |random| random.beta(2.0, 3.0));
        check("rare", 2.0, 1.998, &mut |random| random.binomial(2_000.0, 0.001));
        check("frequent", 1_998.0, 1.998, &mut |random| random.binomial(2_000.0, 0.999));
        check("many", 600.0, 420.0, &mut |random| random.binomial(2_000.0, 0.3));
        assert_eq!((random.binomial(9.0, 0.0), random.binomial(9.0, 1.0), random.binomial(0.0, 0.3)), (0.0, 9.0, 0.0));
    }
}
