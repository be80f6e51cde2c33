//! How deep the deepest lists are: the generalised Pareto distribution of what is above a threshold, and what a sample shows of
//! its shape and scale.
//!
//! Above a high threshold nearly every distribution looks like this one (J. Pickands, "Statistical inference using extreme order
//! statistics", The Annals of Statistics 3, 1975; S. Coles, "An Introduction to Statistical Modeling of Extreme Values", 2001,
//! chapter 4). A positive shape is a Pareto tail, 0 an exponential one, a negative shape has an upper end. The posterior is
//! computed on a grid.

use super::random::Random;

/// What is expected of the shape before anything is seen, and how surely: Pareto tails are as likely as exponential ones. Tuned
/// together with `lists::TAIL`, on other lists than those of the test of coverage.
const SHAPE: (f64, f64) = (0.4, 0.45);
const SHAPES: (f64, f64, f64) = (-0.6, 1.65, 0.15);
/// Logarithms of the scale, relative to the mean of what was seen.
const SCALES: (f64, f64, f64) = (-3.0, 2.5, 0.15);
/// The least probability of what was seen, so that no logarithm is infinite.
const LEAST: f64 = 1e-300;

/// Lists by how many pages they have above the threshold: at least, at most, and how many such lists. None: no end was seen.
pub(super) type Seen = (f64, Option<f64>, f64);

#[derive(Clone, Copy, Debug)]
pub(super) struct Tail {
    shape: f64,
    scale: f64,
}

impl Tail {
    /// The probability of more than this.
    pub(super) fn survival(self, above: f64) -> f64 {
        if above <= 0.0 {
            return 1.0;
        }
        if self.shape.abs() < 1e-9 {
            return (-above / self.scale).exp();
        }
        (1.0 + self.shape * above / self.scale).max(0.0).powf(-1.0 / self.shape)
    }

    /// What is exceeded with this probability.
    pub(super) fn quantile(self, survival: f64) -> f64 {
        if self.shape.abs() < 1e-9 {
            return -self.scale * survival.ln();
        }
        self.scale * (survival.powf(-self.shape) - 1.0) / self.shape
    }

    fn log_likelihood(self, seen: &[Seen]) -> f64 {
        let one = |(least, most, lists): &Seen| {
            let above = most.map_or(0.0, |most| self.survival(most));
            lists * (self.survival(least - 1.0) - above).max(LEAST).ln()
        };
        seen.iter().map(one).sum()
    }
}

/// Tails by how likely they are.
#[derive(Debug)]
pub(super) struct TailPosterior {
    /// Cumulative.
    weights: Vec<(f64, Tail)>,
}

impl TailPosterior {
    /// `usual`: the scale that is expected where nothing was seen.
    pub(super) fn new(seen: &[Seen], usual: f64) -> Self {
        let ended: f64 = seen.iter().filter(|(_, most, _)| most.is_some()).map(|(.., lists)| lists).sum();
        let pages: f64 = seen.iter().map(|(least, most, lists)| lists * (least + most.unwrap_or(*least)) / 2.0).sum();
        let mean = if ended > 0.0 { pages / ended } else { usual };
        let mut tails = Vec::new();
        for shape in steps(SHAPES) {
            for scale in steps(SCALES) {
                let tail = Tail { shape, scale: mean * scale.exp() };
                let prior = ((shape - SHAPE.0) / SHAPE.1).powi(2) + if ended > 0.0 { 0.0 } else { scale.powi(2) };
                tails.push((tail.log_likelihood(seen) - prior / 2.0, tail));
            }
        }
        let best = tails.iter().map(|(log, _)| *log).fold(f64::NEG_INFINITY, f64::max);
        let mut sum = 0.0;
        let weights = tails.into_iter().map(|(log, tail)| {
            sum += (log - best).exp();
            (sum, tail)
        });
        Self { weights: weights.collect() }
    }

    pub(super) fn draw(&self, random: &mut Random) -> Tail {
        let total = self.weights.last().map_or(0.0, |(sum, _)| *sum);
        let at = random.share() * total;
        let place = self.weights.partition_point(|(sum, _)| *sum < at);
        self.weights.get(place).map_or(Tail { shape: 0.0, scale: 1.0 }, |(_, tail)| *tail)
    }
}

fn steps((from, to, step): (f64, f64, f64)) -> impl Iterator<Item = f64> {
    std::iter::successors(Some(from), move |at| Some(at + step).filter(|at| *at <= to))
}

#[cfg(test)]
mod tests {
    use super::{Tail, TailPosterior};
    use crate::plan::random::Random;

    #[test]
    fn a_quantile_is_exceeded_with_its_probability() {
        for shape in [-0.3, 0.0, 0.4, 1.2] {
            let tail = Tail { shape, scale: 7.0 };
            for share in [0.9, 0.5, 0.1, 0.001] {
                assert!((tail.survival(tail.quantile(share)) - share).abs() < 1e-9, "{tail:?} at {share}");
            }
        }
        assert_eq!(
            (Tail { shape: -0.5, scale: 1.0 }.survival(2.1), Tail { shape: 1.0, scale: 1.0 }.survival(-3.0)),
            (0.0, 1.0)
        );
    }

    #[test]
    fn a_large_sample_shows_whether_the_tail_is_heavy() {
        let mean_shape = |truth: Tail| {
            let mut random = Random::new(11);
            let seen: Vec<_> = (0..2_000)
                .map(|_| truth.quantile(random.share()).floor() + 1.0)
                .map(|pages| (pages, Some(pages), 1.0))
                .collect();
            let posterior = TailPosterior::new(&seen, 1.0);
            (0..200).map(|_| posterior.draw(&mut random).shape).sum::<f64>() / 200.0
        };
        for shape in [0.0, 0.5, 1.0] {
            let found = mean_shape(Tail { shape, scale: 20.0 });
            assert!((found - shape).abs() < 0.2, "{found}, not {shape}");
        }
    }
}
