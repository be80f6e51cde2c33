//! What the pages cost: credits, time and disk, and what bounds the time.

use serde::Serialize;

use super::lists::Case;
use super::random::Random;
use super::range::{Range, real};
use crate::crawl::lookahead::MIN_PAGES;

/// What evidence of ends may always cost, and which part of the pages (`crawl::judgement::end_evidence`).
const EVIDENCE: (f64, f64) = (6.0, 0.003);
/// Requests that may have been billed without a response, in a bad hour, as a part of all.
const IN_DOUBT: f64 = 0.002;
/// Seconds of a response where none was measured: the median, and the spread of the logarithm.
const LATENCY: (f64, f64) = (0.3, 0.75);
/// The same of a measured one: the server may be slower at night.
const MEASURED: f64 = 0.15;
/// Pages per second that one process decodes and writes: measured, docs/performance.md.
const CPU: (f64, f64) = (6_000.0, 0.2);
/// Requests one after another that the search for the end of a list takes for each doubling of its depth.
const SEARCH: f64 = 4.0;
/// Rows of the pages of lists, as a part of full ones, where none were seen.
const FILLED: (f64, f64) = (0.5, 1.0);
/// Bytes of a row where none were seen, docs/performance.md: in files, in the journal. And the spread of either.
const ROW_BYTES: (f64, f64, f64) = (225.0, 240.0, 0.15);
/// Bytes that the ledger keeps of a page, and of each of its rows.
const LEDGER: (f64, f64) = (120.0, 17.0);

/// What the time of a run depends on, and what was measured so far.
#[derive(Clone, Copy, Debug)]
pub struct Conditions {
    /// Requests a second; none: not limited, or not known.
    pub rate: Option<f64>,
    /// Whether there is none on purpose.
    pub is_rate_chosen: bool,
    pub max_in_flight: usize,
    /// Seconds of a response; none: not measured.
    pub latency: Option<f64>,
    /// Credits that looking ahead may waste, percent.
    pub lookahead: f64,
    /// Whether credits are spent on evidence of where lists end.
    pub has_evidence: bool,
    pub page_size: u32,
    /// Pages and rows that came so far, and their bytes in the journal.
    pub came: (u64, u64, u64),
    /// Published rows, and the bytes of their files.
    pub published: (u64, u64),
    /// Bytes of the journal that stay until they are published; none: all of it stays.
    pub journal_stays: Option<u64>,
}

/// What keeps a run from being shorter.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Bound {
    /// The rate limit.
    Rate,
    /// Responses take so long that all slots are in use.
    Latency,
    /// The deepest list, of which each page waits for the one before.
    Depth,
    /// This machine.
    Cpu,
}

impl Bound {
    pub(super) fn text(self) -> &'static str {
        match self {
            Self::Rate => "the rate limit",
            Self::Latency => "the latency: all of max_in_flight is used",
            Self::Depth => "the deepest list, which is read page by page",
            Self::Cpu => "this machine's CPU",
        }
    }
}

/// Credits, time and disk in equally likely cases.
#[derive(Clone, Copy, Debug)]
pub(super) struct Work {
    pub(super) pages: Range,
    pub(super) credits: Range,
    pub(super) seconds: Range,
    pub(super) bound: Bound,
    pub(super) disk: DiskPlan,
}

/// Bytes of the whole export.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct DiskPlan {
    pub parquet: Range,
    pub journal: Range,
    /// Both and the ledger.
    pub peak: Range,
}

impl Work {
    pub(super) fn new(cases: &[Case], conditions: &Conditions, seed: u64) -> Self {
        let mut random = Random::new(seed ^ 1);
        let mut credits = Vec::new();
        let (mut seconds, mut bounds) =
            (Vec::new(), [(Bound::Rate, 0_u32), (Bound::Latency, 0), (Bound::Depth, 0), (Bound::Cpu, 0)]);
        let (mut parquet, mut journal, mut peak) = (Vec::new(), Vec::new(), Vec::new());
        for case in cases {
            let billed = conditions.credits(*case, &mut random);
            let (time, bound) = conditions.time(billed, case.deepest, &mut random);
            let disk = conditions.disk(case.pages, &mut random);
            credits.push(billed);
            seconds.push(time);
            bounds.iter_mut().filter(|(kind, _)| *kind == bound).for_each(|(_, cases)| *cases += 1);
            parquet.push(disk[0]);
            journal.push(disk[1]);
            peak.push(disk[2]);
        }
        let bound = bounds.into_iter().max_by_key(|(_, cases)| *cases).map_or(Bound::Rate, |(bound, _)| bound);
        let [parquet, journal, peak] = [parquet, journal, peak].map(Range::from_cases);
        Self {
            pages: Range::from_cases(cases.iter().map(|case| case.pages).collect()),
            credits: Range::from_cases(credits),
            seconds: Range::from_cases(seconds),
            bound,
            disk: DiskPlan { parquet, journal, peak },
        }
    }
}

impl Conditions {
    fn credits(&self, case: Case, random: &mut Random) -> f64 {
        if case.pages < 1.0 {
            return 0.0;
        }
        let evidence = if self.has_evidence { EVIDENCE.0.max(case.pages * EVIDENCE.1) } else { 0.0 };
        let is_deep = self.lookahead > 0.0 && case.deepest > f64::from(MIN_PAGES);
        let ahead = if is_deep { (case.pages * self.lookahead / 100.0).max(1.0) } else { 0.0 };
        let in_doubt = case.pages * IN_DOUBT * random.share().powi(4);
        case.pages + (evidence * random.share() + ahead * random.share() + in_doubt).floor()
    }

    fn time(&self, credits: f64, deepest: f64, random: &mut Random) -> (f64, Bound) {
        let latency = match self.latency {
            Some(latency) => latency * (MEASURED * random.normal()).exp(),
            None => LATENCY.0 * (LATENCY.1 * random.normal()).exp(),
        };
        let first = f64::from(MIN_PAGES);
        let in_turn = if self.lookahead > 0.0 { first + SEARCH * (deepest / first).log2().max(0.0) } else { deepest };
        let cpu = CPU.0 * (CPU.1 * random.normal()).exp();
        let limits = [
            (self.rate.map_or(0.0, |rate| credits / rate), Bound::Rate),
            (credits * latency / real(self.max_in_flight), Bound::Latency),
            (deepest.min(in_turn) * latency, Bound::Depth),
            (credits / cpu, Bound::Cpu),
        ];
        let longest = limits.into_iter().max_by(|one, other| one.0.total_cmp(&other.0));
        longest.map_or((0.0, Bound::Rate), |(time, bound)| (time + latency, bound))
    }

    /// Bytes of files, of the journal, and of all there is at most at a time.
    fn disk(&self, pages: f64, random: &mut Random) -> [f64; 3] {
        let (came, rows, bytes) = self.came;
        let per_page = if came > 0 {
            real(rows) / real(came)
        } else {
            f64::from(self.page_size) * (FILLED.0 + (FILLED.1 - FILLED.0) * random.share())
        };
        let spread = (ROW_BYTES.2 * random.normal()).exp();
        let per_row = |(rows, bytes): (u64, u64), usual: f64| {
            if rows > 0 { real(bytes) / real(rows) } else { usual * spread }
        };
        let all_rows = pages * per_page + real(rows);
        let parquet = all_rows * per_row(self.published, ROW_BYTES.0);
        let journal = all_rows * per_row((rows, bytes), ROW_BYTES.1);
        let stays = self.journal_stays.map_or(journal, |most| journal.min(real(most)));
        let ledger = (pages + real(came)) * LEDGER.0 + all_rows * LEDGER.1;
        [parquet, stays, parquet + stays + ledger]
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::{Bound, Conditions, Work};
    use crate::plan::lists::Case;

    pub(in crate::plan) const CONDITIONS: Conditions = Conditions {
        rate: Some(10.0),
        is_rate_chosen: false,
        max_in_flight: 256,
        latency: Some(0.1),
        lookahead: 1.0,
        has_evidence: true,
        page_size: 10,
        came: (0, 0, 0),
        published: (0, 0),
        journal_stays: None,
    };

    fn work(conditions: Conditions, pages: f64, deepest: f64) -> Work {
        Work::new(&[Case { pages, deepest }; 400], &conditions, 7)
    }

    #[test]
    fn what_bounds_a_run_is_named_and_its_time_follows_from_it() {
        let unlimited = Conditions { rate: None, ..CONDITIONS };
        let table = [
            (CONDITIONS, 10_000.0, 9.0, Bound::Rate, 1_006),
            (Conditions { max_in_flight: 2, ..unlimited }, 10_000.0, 9.0, Bound::Latency, 500),
            (Conditions { lookahead: 0.0, ..unlimited }, 10_000.0, 9_000.0, Bound::Depth, 900),
            (Conditions { latency: Some(0.001), ..unlimited }, 600_000.0, 9.0, Bound::Cpu, 100),
        ];
        for (conditions, pages, deepest, bound, seconds) in table {
            let work = work(conditions, pages, deepest);
            assert_eq!(work.bound, bound);
            assert!(work.seconds.contains(seconds), "{:?} for {bound:?}", work.seconds);
        }
        assert!(work(unlimited, 10_000.0, 9_000.0).seconds.high < 30, "looking ahead finds the end");
    }

    #[test]
    fn credits_are_the_pages_and_a_small_share_for_evidence_looking_ahead_and_doubt() {
        let deep = work(CONDITIONS, 100_000.0, 900.0).credits;
        assert!(deep.low > 100_000 && deep.high < 101_500, "{deep}");
        let exact = work(Conditions { has_evidence: false, lookahead: 0.0, ..CONDITIONS }, 100.0, 3.0).credits;
        assert_eq!((exact.low, exact.high), (100, 100));
        assert_eq!(work(CONDITIONS, 0.0, 0.0).credits.high, 0);
    }

    #[test]
    fn the_disk_follows_from_what_came_where_anything_did() {
        let seen = Conditions { came: (100, 500, 100_000), published: (500, 50_000), ..CONDITIONS };
        let disk = work(seen, 900.0, 9.0).disk;
        assert_eq!((disk.parquet.estimate, disk.journal.estimate), (500_000, 1_000_000));
        let short = work(Conditions { journal_stays: Some(300_000), ..seen }, 900.0, 9.0).disk;
        assert_eq!(short.journal.estimate, 300_000);
        assert!(short.peak.high < disk.peak.low);
    }
}
