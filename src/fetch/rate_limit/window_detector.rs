//! Whether the server counts requests by the second, and when its seconds end.
//!
//! A server with such windows refuses requests near the end of a window: too many came into it, because some took a shorter
//! or longer time to arrive than others. So each 429 is a point on a clock face of one second: the moment when its request was
//! sent. If the points are close together, their mean direction is the end of a window as the sender sees it, including the mean
//! time of the way there. If they are all around the clock, there are no windows of a second.

use std::f64::consts::TAU;
use std::time::Duration;

/// Factor for the weight of older 429s when a new one comes: clocks drift.
const DECAY: f64 = 0.85;
/// Weight of the 429s that are needed for a decision: that of seven.
const MIN_WEIGHT: f64 = 4.5;
/// Length of the mean direction, 0 to 1, from which windows are assumed, and the length below which they are no longer. Seven
/// random points reach the first one in less than one of a hundred cases.
const MIN_LENGTH: f64 = 0.85;
const MIN_LENGTH_AFTER: f64 = 0.6;

#[derive(Debug, Default)]
pub(super) struct WindowDetector {
    /// Sum of the directions, and of their weights.
    x: f64,
    y: f64,
    weight: f64,
    is_found: bool,
}

impl WindowDetector {
    /// Adds a 429, the first of its burst, to a request that was sent at this time.
    pub(super) fn record_throttle(&mut self, sent: Duration) {
        let (sin, cos) = (f64::from(sent.subsec_nanos()) / 1e9 * TAU).sin_cos();
        (self.x, self.y, self.weight) = (self.x * DECAY + cos, self.y * DECAY + sin, self.weight * DECAY + 1.0);
        let length = self.x.hypot(self.y) / self.weight;
        self.is_found =
            self.weight >= MIN_WEIGHT && length >= if self.is_found { MIN_LENGTH_AFTER } else { MIN_LENGTH };
    }

    /// Where in a second windows end, as a share of it. None: no windows are known.
    pub(super) fn end(&self) -> Option<f64> {
        self.is_found.then(|| (self.y.atan2(self.x) / TAU).rem_euclid(1.0))
    }
}

#[cfg(test)]
mod tests {
    use super::WindowDetector;
    use std::time::Duration;

    fn with_throttles_at(millis: impl IntoIterator<Item = u64>) -> WindowDetector {
        let mut windows = WindowDetector::default();
        millis.into_iter().for_each(|millis| windows.record_throttle(Duration::from_millis(millis)));
        windows
    }

    #[test]
    fn refusals_that_lie_together_are_a_window_s_end_also_across_the_top_of_the_clock() {
        let end = with_throttles_at([5_980, 7_010, 9_040, 9_960, 12_030, 20_000, 31_990]).end().unwrap();
        assert!(!(0.02..=0.98).contains(&end), "{end}");
        let end = with_throttles_at([380, 1_420, 2_400, 3_395, 4_410, 5_400, 6_402]).end().unwrap();
        assert!((end - 0.4).abs() < 0.01, "{end}");
    }

    #[test]
    fn a_few_refusals_say_nothing_and_refusals_around_the_clock_say_that_there_are_no_windows() {
        assert_eq!(with_throttles_at([0; 6]).end(), None);
        assert_eq!(with_throttles_at((0..50).map(|number| number * 1_137)).end(), None);
        assert_eq!(with_throttles_at([0; 30].into_iter().chain([100, 400, 700, 1_000, 300, 600, 900])).end(), None);
    }

    #[test]
    fn a_window_s_end_that_wanders_is_followed() {
        let end = with_throttles_at((0..60).map(|number| number * 1_000 + number * 5)).end().unwrap();
        assert!((0.23..0.3).contains(&end), "{end}");
    }
}
