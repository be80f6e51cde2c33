//! Time with pauses: a second of it is a second of ours without a guard around the moment when the server's windows end.
//!
//! A schedule that is even in lap time sends as many requests in each of the server's windows as in a second, and none so near
//! its end that the way there decides in which window it counts.

use std::time::Duration;

const SECOND: u64 = 1_000_000_000;

/// A window's end, and how far requests keep away from it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct WindowGuard {
    /// Nanoseconds into a second.
    end: u64,
    guard: u64,
}

impl WindowGuard {
    /// Windows that end so far into each second, as a share of it, with this guard on both sides.
    pub(super) fn new(end: f64, guard: Duration) -> Self {
        let end = Duration::from_secs_f64(end.rem_euclid(1.0)).subsec_nanos();
        Self { end: end.into(), guard: u64::from(guard.subsec_nanos()).min(SECOND / 4) }
    }

    /// The lap time of a moment, both in nanoseconds. It stands still within a guard.
    pub(super) fn of(self, moment: u64) -> u64 {
        let since = moment.saturating_sub(self.end);
        let beyond = (since % SECOND).saturating_sub(self.guard).min(self.open());
        self.end + since - since % SECOND + beyond * SECOND / self.open()
    }

    /// The first moment that has this lap time and lies in no guard.
    pub(super) fn moment(self, time: u64) -> u64 {
        let since = time.saturating_sub(self.end);
        let beyond = (since % SECOND * self.open()).div_ceil(SECOND);
        self.end + since - since % SECOND + self.guard + beyond
    }

    /// What the guards leave of a second.
    fn open(self) -> u64 {
        SECOND - 2 * self.guard
    }
}

#[cfg(test)]
mod tests {
    use super::{SECOND, WindowGuard};
    use std::time::Duration;

    #[test]
    fn a_lap_stands_still_around_a_window_s_end_and_makes_up_for_it_in_between() {
        let lap = WindowGuard::new(0.3, Duration::from_millis(50));
        let of = |millis: u64| lap.of(millis * 1_000_000) / 1_000_000;
        assert_eq!(
            [5_300, 5_350, 5_800, 6_250, 6_299, 6_300, 6_349].map(of),
            [5_300, 5_300, 5_800, 6_300, 6_300, 6_300, 6_300]
        );
    }

    proptest::proptest! {
        #[test]
        fn every_lap_time_has_a_moment_outside_of_all_guards(
            end in 0.0_f64..1.0, guard in 0_u64..250, time in 2 * SECOND..1_000_000 * SECOND,
        ) {
            let lap = WindowGuard::new(end, Duration::from_millis(guard));
            let moment = lap.moment(time);
            assert!(lap.of(moment) >= time && lap.of(moment) - time <= 2, "{time} {moment}");
            assert!(lap.of(moment - 3) <= time);
            let phase = (moment + SECOND - lap.end) % SECOND;
            assert!((lap.guard..=SECOND - lap.guard).contains(&phase), "{phase}");
        }
    }
}
