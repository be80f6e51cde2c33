//! Guarded time: it stops around the end of each of the server's windows, and runs faster in between.
//!
//! A schedule that is even in guarded time sends a second's worth of requests in each window of the server, and none so near the
//! window's end that its latency decides in which window it counts.

use std::time::Duration;

const SECOND: u64 = 1_000_000_000;

/// Where windows of a second end, and the margin before and after. Times are nanoseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct WindowGuard {
    /// Into a second.
    end: u64,
    margin: u64,
}

impl WindowGuard {
    /// `end` is a share of a second.
    pub(super) fn new(end: f64, margin: Duration) -> Self {
        let end = Duration::from_secs_f64(end.rem_euclid(1.0)).subsec_nanos();
        Self { end: end.into(), margin: u64::from(margin.subsec_nanos()).min(SECOND / 4) }
    }

    /// The guarded time at a moment.
    pub(super) fn to_guarded(self, moment: u64) -> u64 {
        let since = moment.saturating_sub(self.end);
        let beyond = (since % SECOND).saturating_sub(self.margin).min(self.usable());
        self.end + since - since % SECOND + beyond * SECOND / self.usable()
    }

    /// The first moment outside of all margins that has this guarded time.
    pub(super) fn to_real(self, time: u64) -> u64 {
        let since = time.saturating_sub(self.end);
        let beyond = (since % SECOND * self.usable()).div_ceil(SECOND);
        self.end + since - since % SECOND + self.margin + beyond
    }

    /// A second without its margins.
    fn usable(self) -> u64 {
        SECOND - 2 * self.margin
    }
}

#[cfg(test)]
mod tests {
    use super::{SECOND, WindowGuard};
    use std::time::Duration;

    #[test]
    fn guarded_time_stops_around_a_window_s_end_and_runs_faster_in_between() {
        let windows = WindowGuard::new(0.3, Duration::from_millis(50));
        let guarded = |millis: u64| windows.to_guarded(millis * 1_000_000) / 1_000_000;
        assert_eq!(
            [5_300, 5_350, 5_800, 6_250, 6_299, 6_300, 6_349].map(guarded),
            [5_300, 5_300, 5_800, 6_300, 6_300, 6_300, 6_300]
        );
    }

    proptest::proptest! {
        #[test]
        fn every_guarded_time_has_a_moment_outside_of_all_margins(
            end in 0.0_f64..1.0, margin in 0_u64..250, time in 2 * SECOND..1_000_000 * SECOND,
        ) {
            let windows = WindowGuard::new(end, Duration::from_millis(margin));
            let moment = windows.to_real(time);
            assert!(windows.to_guarded(moment) >= time && windows.to_guarded(moment) - time <= 2, "{time} {moment}");
            assert!(windows.to_guarded(moment - 3) <= time);
            let phase = (moment + SECOND - windows.end) % SECOND;
            assert!((windows.margin..=SECOND - windows.margin).contains(&phase), "{phase}");
        }
    }
}
