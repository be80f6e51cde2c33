//! A histogram of latencies: 322 buckets from a millisecond to 18 minutes, each at most a sixteenth wide.
//!
//! Two histograms are merged by addition. A percentile is the middle of its bucket: at most 3.2 % from the true value between 1 ms
//! and 18 minutes.

use std::time::Duration;

/// The first bucket is below 2^10 microseconds, the last one from 2^30 microseconds on.
const LOWEST: u32 = 10;
const HIGHEST: u32 = 30;
/// Buckets between two powers of two.
const STEPS: u32 = 16;
const BUCKETS: usize = 322;

/// How many latencies are in each bucket.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Latencies {
    buckets: Vec<u64>,
}

impl Default for Latencies {
    fn default() -> Self {
        Self { buckets: vec![0; BUCKETS] }
    }
}

impl Latencies {
    pub fn record(&mut self, latency: Duration) {
        let bucket = bucket(u64::try_from(latency.as_micros()).unwrap_or(u64::MAX));
        if let Some(count) = self.buckets.get_mut(bucket) {
            *count += 1;
        }
    }

    pub fn add(&mut self, other: &Self) {
        for (count, more) in self.buckets.iter_mut().zip(&other.buckets) {
            *count = count.saturating_add(*more);
        }
    }

    pub fn count(&self) -> u64 {
        self.buckets.iter().fold(0, |sum, count| sum.saturating_add(*count))
    }

    /// The latency that so many of a thousand do not exceed, seconds; none of an empty histogram.
    pub fn percentile(&self, permille: u64) -> Option<f64> {
        let wanted = self.count().saturating_mul(permille).div_ceil(1_000).max(1);
        let mut seen = 0_u64;
        let found = self.buckets.iter().position(|count| {
            seen = seen.saturating_add(*count);
            seen >= wanted
        });
        found.map(middle)
    }

    /// As the ledger has it: for each bucket that is not empty, its distance from the one before and its count, as LEB128.
    pub fn to_bytes(&self) -> Vec<u8> {
        let (mut bytes, mut next) = (Vec::new(), 0);
        for (at, count) in (0_u64..).zip(&self.buckets).filter(|(_, count)| **count > 0) {
            write(&mut bytes, at - next);
            write(&mut bytes, *count);
            next = at + 1;
        }
        bytes
    }

    /// What [`to_bytes`](Self::to_bytes) wrote. What is damaged is left out.
    pub fn from_bytes(mut bytes: &[u8]) -> Self {
        let (mut latencies, mut next) = (Self::default(), 0_usize);
        while let (Some(skipped), Some(count)) = (read(&mut bytes), read(&mut bytes)) {
            let at = next.saturating_add(usize::try_from(skipped).unwrap_or(usize::MAX));
            let Some(bucket) = latencies.buckets.get_mut(at) else { break };
            *bucket = count;
            next = at + 1;
        }
        latencies
    }
}

fn bucket(micros: u64) -> usize {
    let octave = micros.checked_ilog2().unwrap_or_default();
    let bucket = if octave < LOWEST {
        0
    } else if octave >= HIGHEST {
        u64::from((HIGHEST - LOWEST) * STEPS) + 1
    } else {
        let step = (micros - (1 << octave)) >> (octave - STEPS.ilog2());
        1 + u64::from((octave - LOWEST) * STEPS) + step
    };
    usize::try_from(bucket).unwrap_or(BUCKETS)
}

/// The middle of a bucket, seconds.
fn middle(bucket: usize) -> f64 {
    let bucket = u32::try_from(bucket).unwrap_or(u32::MAX);
    let Some(step) = bucket.checked_sub(1) else { return 0.000_5 };
    let lowest = f64::from(1_u32 << (LOWEST + step / STEPS).min(HIGHEST));
    lowest * (1.0 + (f64::from(step % STEPS) + 0.5) / f64::from(STEPS)) / 1e6
}

fn write(bytes: &mut Vec<u8>, mut number: u64) {
    loop {
        let low = u8::try_from(number & 0x7f).unwrap_or_default();
        number >>= 7;
        bytes.push(if number > 0 { low | 0x80 } else { low });
        if number == 0 {
            return;
        }
    }
}

fn read(bytes: &mut &[u8]) -> Option<u64> {
    let mut number = 0_u64;
    for at in 0..10_u32 {
        let (byte, rest) = bytes.split_first()?;
        *bytes = rest;
        number |= u64::from(byte & 0x7f).checked_shl(7 * at)?;
        if byte & 0x80 == 0 {
            return Some(number);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::{BUCKETS, Latencies, bucket};
    use proptest::prelude::*;
    use std::time::Duration;

    fn of(micros: impl IntoIterator<Item = u64>) -> Latencies {
        let mut latencies = Latencies::default();
        micros.into_iter().for_each(|micros| latencies.record(Duration::from_micros(micros)));
        latencies
    }

    #[test]
    fn buckets_are_in_order_without_a_gap_and_all_of_them_are_used() {
        let mut last = 0;
        for micros in
            (0..40_u32).flat_map(|octave| (0..64).map(move |part| (1_u64 << octave) + ((part << octave) >> 6)))
        {
            let next = bucket(micros);
            assert!(next == last || next == last + 1, "{micros}: {last} and {next}");
            last = next;
        }
        assert_eq!(last + 1, BUCKETS);
    }

    #[test]
    fn percentiles_of_a_known_distribution_are_within_the_stated_error() {
        let latencies = of((1..=10_000).map(|number| number * 100));
        for (permille, seconds) in [(500, 0.5), (900, 0.9), (990, 0.99), (1_000, 1.0)] {
            let found = latencies.percentile(permille).unwrap();
            assert!((found / seconds - 1.0).abs() <= 0.032, "{permille}: {found}");
        }
        assert_eq!(Latencies::default().percentile(500), None);
        assert_eq!(of([3]).percentile(990), Some(0.000_5));
    }

    proptest! {
        #[test]
        fn a_latency_is_within_a_thirtieth_of_its_percentile(micros in 1_024_u64..1_073_741_824) {
            let found = of([micros]).percentile(500).unwrap();
            let seconds = Duration::from_micros(micros).as_secs_f64();
            prop_assert!((found / seconds - 1.0).abs() <= 0.032, "{} and {}", found, seconds);
        }

        #[test]
        fn a_histogram_is_read_as_it_was_written_and_any_bytes_are_read(
            micros in prop::collection::vec(any::<u64>(), 0..200), garbage in any::<Vec<u8>>()
        ) {
            let latencies = of(micros);
            prop_assert_eq!(&Latencies::from_bytes(&latencies.to_bytes()), &latencies);
            let mut twice = latencies.clone();
            twice.add(&latencies);
            prop_assert_eq!(twice.count(), 2 * latencies.count());
            Latencies::from_bytes(&garbage).percentile(500);
        }
    }
}
