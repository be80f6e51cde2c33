//! Whether the server counts by the second, and when its seconds end.
//!
//! Of a server with windows, a pace at the limit is refused near the end of a window: too many came into it, because the way
//! of some was shorter or longer than that of others. So each 429 is a point on a clock face of one second, the moment when
//! its request left. If they lie together, their mean direction is a window's end as a sender sees it, the mean way there
//! included; if they lie around the clock, there are no windows of a second.

use std::f64::consts::TAU;
use std::time::Duration;

/// What an older 429 still counts when a new one comes: clocks drift.
const FADE: f64 = 0.85;
/// 429s, with their fading, that a judgement needs: seven.
const ENOUGH: f64 = 4.5;
/// Length of the mean direction, 0 to 1, from which windows are believed, and below which they are no longer. Seven points at
/// random reach the first in less than one of a hundred cases.
const SURE: f64 = 0.85;
const UNSURE: f64 = 0.6;

/// The clock face.
#[derive(Debug, Default)]
pub(super) struct WindowDetector {
    /// Sum of the directions, and how many they are.
    x: f64,
    y: f64,
    weight: f64,
    is_sure: bool,
}

impl WindowDetector {
    /// Takes note of a 429, the first of its burst, to a request that left at this time.
    pub(super) fn refused(&mut self, left: Duration) {
        let (sin, cos) = (f64::from(left.subsec_nanos()) / 1e9 * TAU).sin_cos();
        (self.x, self.y, self.weight) = (self.x * FADE + cos, self.y * FADE + sin, self.weight * FADE + 1.0);
        let length = self.x.hypot(self.y) / self.weight;
        self.is_sure = self.weight >= ENOUGH && length >= if self.is_sure { UNSURE } else { SURE };
    }

    /// How far into a second windows end, as a share of it; none if there seem to be none.
    pub(super) fn end(&self) -> Option<f64> {
        self.is_sure.then(|| (self.y.atan2(self.x) / TAU).rem_euclid(1.0))
    }
}

#[cfg(test)]
mod tests {
    use super::WindowDetector;
    use std::time::Duration;

    fn told(millis: impl IntoIterator<Item = u64>) -> WindowDetector {
        let mut windows = WindowDetector::default();
        millis.into_iter().for_each(|millis| windows.refused(Duration::from_millis(millis)));
        windows
    }

    #[test]
    fn refusals_that_lie_together_are_a_window_s_end_also_across_the_top_of_the_clock() {
        let end = told([5_980, 7_010, 9_040, 9_960, 12_030, 20_000, 31_990]).end().unwrap();
        assert!(!(0.02..=0.98).contains(&end), "{end}");
        let end = told([380, 1_420, 2_400, 3_395, 4_410, 5_400, 6_402]).end().unwrap();
        assert!((end - 0.4).abs() < 0.01, "{end}");
    }

    #[test]
    fn a_few_refusals_say_nothing_and_refusals_around_the_clock_say_that_there_are_no_windows() {
        assert_eq!(told([0; 6]).end(), None);
        assert_eq!(told((0..50).map(|number| number * 1_137)).end(), None);
        assert_eq!(told([0; 30].into_iter().chain([100, 400, 700, 1_000, 300, 600, 900])).end(), None);
    }

    #[test]
    fn a_window_s_end_that_wanders_is_followed() {
        let end = told((0..60).map(|number| number * 1_000 + number * 5)).end().unwrap();
        assert!((0.23..0.3).contains(&end), "{end}");
    }
}
