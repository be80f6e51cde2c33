//! How many pages are left: of lists that are read in part, of lists whose size is known, and of lists of which nothing is known,
//! by a sample.
//!
//! The lists that were read are taken for a random sample of all. Each case draws a population that such a sample may be of. Below
//! a threshold that is the Bayesian bootstrap: the lists seen, with random weights (D. B. Rubin, "The Bayesian bootstrap", The
//! Annals of Statistics 9, 1981; for finite populations: G. Meeden, M. Ghosh, "Bayesian Methods for Finite Population Sampling",
//! 1997). A bootstrap alone never draws a list deeper than all that were seen, so its ranges are too narrow where a few lists have
//! most of the pages. Above the threshold depths come from [`tail`](super::tail). A list whose end was not seen counts as one of
//! the deeper ones (B. Efron, "The two sample problem with censored data", 1967: its weight goes to those on its right).

use std::collections::BTreeMap;

use super::random::Random;
use super::range::real;
use super::tail::{Seen, Tail, TailPosterior};

/// The share of the lists that are above the threshold, and the least number of them.
const TAIL: (f64, f64) = (0.25, 10.0);
/// Populations that are drawn.
const CASES: usize = 400;
/// Lists of a tail that are drawn one by one.
const DRAWN: f64 = 1_000.0;
/// More than 1: the ends of the intervals are as likely as what is between, and no range ends before them.
const PLACES: f64 = 1.5;
/// The same of lists that are alike and whose end was not seen.
const DRAWN_OPEN: f64 = 16.0;
/// Before anything is read: the median of what lists have on average, pages, and the spread of its logarithm. Nine of ten cases
/// are between a tenth and ten times as much.
const ASSUMED: (f64, f64) = (5.0, 1.4);
/// How much deeper than the average the deepest list is then.
const ASSUMED_DEEPEST: f64 = 20.0;
/// Known sizes are of another moment: the spread of the logarithm of their sum, 7 % in nine of ten cases.
const SIZES: f64 = 0.04;
/// Pages beside the last one that lists which continue an earlier export have on average, at most.
const NEW_PAGES: f64 = 0.25;

/// A list of which pages came.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ReadList {
    /// Pages that reading it to its end takes: at least.
    pub at_least: u32,
    /// At most. None: no end was seen.
    pub at_most: Option<u32>,
    /// Those of them that came.
    pub came: u32,
}

impl ReadList {
    /// Its pages: the middle of the interval that they are in, and half of its length.
    fn pages(self) -> Option<(f64, f64)> {
        let (least, most) = (f64::from(self.at_least), f64::from(self.at_most?));
        Some((least.midpoint(most), (most - least).max(0.0) / 2.0))
    }

    fn is_complete(self) -> bool {
        self.at_most == Some(self.at_least) && self.came >= self.at_least
    }
}

/// What is known of the lists of an export.
#[derive(Clone, Debug, Default)]
pub struct Lists {
    /// The most pages that a list can have.
    pub most_pages: u32,
    /// Lists that were read, in part or to the end: how many of each.
    pub read: BTreeMap<ReadList, u64>,
    /// Lists of which only the size is known, by their pages.
    pub sized: BTreeMap<u32, u64>,
    /// Lists of an earlier export that are continued.
    pub continued: u64,
    /// Lists of which nothing is known.
    pub unknown: u64,
    /// Rows of the largest page, where the API may return no more a page than that: then the ends that were seen are no sample.
    pub doubted_page_size: Option<u32>,
}

/// What may be left.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Case {
    pub(super) pages: f64,
    /// Pages that are left of the deepest list.
    pub(super) deepest: f64,
}

impl Case {
    fn add(&mut self, pages: f64, deepest: f64) {
        self.pages += pages;
        self.deepest = self.deepest.max(deepest);
    }
}

impl Lists {
    /// Equally likely cases.
    pub(super) fn cases(&self, seed: u64) -> Vec<Case> {
        let mut random = Random::new(seed);
        let sample = if self.doubted_page_size.is_some() { None } else { Sample::new(self) };
        (0..CASES).map(|_| self.case(sample.as_ref(), &mut random)).collect()
    }

    fn case(&self, sample: Option<&Sample>, random: &mut Random) -> Case {
        let mut case = Case::default();
        // Where lists are alike, all are at the same place of their intervals.
        let place = ((random.share() * 2.0 - 1.0) * PLACES).clamp(-1.0, 1.0);
        for (list, lists) in self.read.iter().filter(|(list, _)| !list.is_complete()) {
            if let Some((pages, half)) = list.pages() {
                let left = (pages + place * half - f64::from(list.came)).max(0.0);
                case.add(left * real(*lists), left);
            }
        }
        let sizes: f64 = self.sized.iter().map(|(pages, lists)| f64::from(*pages) * real(*lists)).sum();
        let deepest = self.sized.last_key_value().map_or(0.0, |(pages, _)| f64::from(*pages));
        case.add(sizes * (SIZES * random.normal()).exp(), deepest);
        let continued = real(self.continued);
        case.add(continued * (1.0 + NEW_PAGES * random.share()), continued.min(1.0));
        let most = f64::from(self.most_pages);
        match sample {
            Some(sample) => sample.draw(self, place, random, &mut case),
            None if self.unknown + self.open() > 0 => {
                let pages = (ASSUMED.0.ln() + ASSUMED.1 * random.normal()).exp().clamp(1.0, most);
                case.add(pages * real(self.unknown + self.open()), (pages * ASSUMED_DEEPEST).min(most));
            }
            None => {}
        }
        self.possible(case)
    }

    /// The same within what is possible: each list of which no page came has one, and none has more than `most_pages`.
    fn possible(&self, case: Case) -> Case {
        let most = f64::from(self.most_pages);
        let unread = real(self.sized.values().sum::<u64>()) + real(self.continued) + real(self.unknown);
        let left = |(list, lists): (&ReadList, &u64)| {
            f64::from(list.at_most.unwrap_or(self.most_pages).saturating_sub(list.came)) * real(*lists)
        };
        let highest = unread * most + self.read.iter().map(left).sum::<f64>();
        Case { pages: case.pages.clamp(unread, highest.max(unread)), deepest: case.deepest.min(most) }
    }

    /// Lists of which pages came, but not their end.
    pub(super) fn open(&self) -> u64 {
        self.read.iter().filter(|(list, _)| list.at_most.is_none()).map(|(_, lists)| lists).sum()
    }

    /// Whether anything shows how deep lists of which nothing is known are.
    pub(super) fn has_sample(&self) -> bool {
        self.doubted_page_size.is_none() && (self.has_read_sample() || !self.sized.is_empty())
    }

    /// Whether lists that were read show that.
    pub(super) fn has_read_sample(&self) -> bool {
        self.doubted_page_size.is_none() && self.read.keys().any(|list| list.at_most.is_some())
    }
}

/// The lists that were read, as a sample of those that were not; where none were, those of known size.
#[derive(Debug)]
struct Sample {
    /// Lists up to the threshold.
    body: Vec<Ended>,
    threshold: f64,
    /// How many lists are above it.
    above: f64,
    /// Lists whose end was not seen, and that are not above it yet.
    cut: Vec<(f64, f64)>,
    posterior: TailPosterior,
}

/// Lists whose end was seen.
#[derive(Clone, Copy, Debug)]
struct Ended {
    pages: f64,
    /// They may have so many more, or fewer.
    half: f64,
    lists: f64,
}

type EndedLists = Vec<(Ended, ReadList)>;

/// The lists below the threshold, and the deepest ones. They are sorted.
fn split(mut ended: EndedLists) -> (EndedLists, EndedLists) {
    let all: f64 = ended.iter().map(|(ended, _)| ended.lists).sum();
    let wanted = (all * TAIL.0).max(TAIL.1);
    let mut above = 0.0;
    let body = ended.iter().rposition(|(ended, _)| {
        above += ended.lists;
        above > wanted
    });
    let tail = ended.split_off(body.map_or(0, |last| last + 1));
    (ended, tail)
}

/// The depth that the tail begins at: below its shallowest list by the usual distance between two of them, so that a gap below is
/// no part of it. None: there is no tail.
fn threshold(body: &[(Ended, ReadList)], tail: &[(Ended, ReadList)]) -> Option<f64> {
    let lists: f64 = tail.iter().map(|(ended, _)| ended.lists).sum();
    let first = f64::from(tail.first()?.1.at_least);
    let excess: f64 = tail.iter().map(|(ended, _)| (ended.pages - first) * ended.lists).sum();
    let distance = (excess / (lists * lists)).max(1.0);
    let highest = body.last().map_or(0.0, |(ended, _)| ended.pages.floor());
    Some((first - distance).max(highest).floor().min(first - 1.0).max(0.0))
}

impl Sample {
    fn new(lists: &Lists) -> Option<Self> {
        let sized = lists
            .sized
            .iter()
            .map(|(pages, count)| (ReadList { at_least: *pages, at_most: Some(*pages), came: 0 }, *count));
        let mut seen: Vec<(ReadList, u64)> = lists.read.iter().map(|(list, count)| (*list, *count)).collect();
        if !seen.iter().any(|(list, _)| list.at_most.is_some()) {
            seen.extend(sized);
        }
        let (mut ended, mut open) = (Vec::new(), Vec::new());
        for (list, count) in seen {
            match list.pages() {
                Some((pages, half)) => ended.push((Ended { pages, half, lists: real(count) }, list)),
                None => open.push((f64::from(list.at_least), real(count))),
            }
        }
        ended.sort_by(|(one, _), (other, _)| one.pages.total_cmp(&other.pages));
        let deepest = ended.last()?.0.pages;
        let (body, tail) = split(ended);
        let threshold = threshold(&body, &tail).unwrap_or(deepest);
        let (far, cut): (Vec<_>, Vec<_>) = open.into_iter().partition(|(pages, _)| *pages > threshold);
        let mut seen: Vec<Seen> = tail
            .iter()
            .map(|(ended, list)| {
                let least = (f64::from(list.at_least) - threshold).max(1.0);
                let is_most = list.at_most.is_some_and(|most| most >= lists.most_pages);
                (least, list.at_most.filter(|_| !is_most).map(|most| f64::from(most) - threshold), ended.lists)
            })
            .collect();
        seen.extend(far.iter().map(|(pages, count)| (pages - threshold, None, *count)));
        Some(Self {
            body: body.into_iter().map(|(ended, _)| ended).collect(),
            threshold,
            above: seen.iter().map(|(.., count)| count).sum(),
            cut,
            posterior: TailPosterior::new(&seen, deepest.max(1.0)),
        })
    }

    /// Adds what lists of which nothing is known have, and what is left of those whose end was not seen.
    fn draw(&self, lists: &Lists, place: f64, random: &mut Random, case: &mut Case) {
        let tail = self.posterior.draw(random);
        let mut weights: Vec<f64> = self.body.iter().map(|ended| random.gamma(ended.lists)).collect();
        let deeper = self.deal_out_cut(&mut weights, random);
        let cut: f64 = self.cut.iter().map(|(_, count)| count).sum();
        let below = self.body.iter().map(|ended| ended.lists).sum::<f64>() + cut;
        let share = self.share_above(deeper, below, random);
        let unknown = real(lists.unknown);
        let in_tail = random.binomial(unknown, share);
        self.add_body(unknown - in_tail, (&weights, place), random, case);
        let most = f64::from(lists.most_pages);
        let pages = |survival: f64| (self.threshold + tail.quantile(survival).floor() + 1.0).min(most);
        add_tail(in_tail, pages, random, case);
        for (list, count) in lists.read.iter().filter(|(list, _)| list.at_most.is_none()) {
            let (count, drawn) = (real(*count), real(*count).min(DRAWN_OPEN));
            let mut at = 0.0;
            while at < drawn {
                let left = self.left_of(*list, (tail, &weights, place), most, random);
                case.add(left * count / drawn, left);
                at += 1.0;
            }
        }
    }

    /// The share of the lists that are above the threshold. Where none was seen there, as likely as not none is.
    fn share_above(&self, deeper: f64, below: f64, random: &mut Random) -> f64 {
        let above = self.above + deeper;
        if self.body.is_empty() {
            return 1.0;
        }
        if above <= 0.0 && random.share() < 0.5 {
            return 0.0;
        }
        random.beta(above + 0.5, (below - deeper).max(0.5))
    }

    /// Gives the weight of each list whose end was not seen to one that is deeper. Returns how many of those are in the tail.
    fn deal_out_cut(&self, weights: &mut [f64], random: &mut Random) -> f64 {
        let mut in_tail = 0.0;
        for (pages, count) in &self.cut {
            let from = self.body.partition_point(|ended| ended.pages < *pages);
            let deeper: f64 = self.body.iter().skip(from).map(|ended| ended.lists).sum();
            let all = self.above + deeper;
            let to_tail = if all > 0.0 { random.binomial(*count, self.above / all) } else { *count };
            in_tail += to_tail;
            let rest = *count - to_tail;
            for (weight, ended) in weights.iter_mut().zip(&self.body).skip(from).filter(|_| rest > 0.0) {
                *weight += random.gamma(rest * ended.lists / deeper);
            }
        }
        in_tail
    }

    fn add_body(&self, lists: f64, (weights, place): (&[f64], f64), random: &mut Random, case: &mut Case) {
        let sum: f64 = weights.iter().sum();
        if lists <= 0.0 || sum <= 0.0 {
            return;
        }
        let pages = || self.body.iter().map(|ended| ended.pages + place * ended.half).zip(weights);
        let mean = pages().map(|(pages, weight)| pages * weight).sum::<f64>() / sum;
        let spread = pages().map(|(pages, weight)| (pages - mean).powi(2) * weight).sum::<f64>() / sum;
        let deepest = self.body.last().map_or(0.0, |ended| ended.pages);
        case.add((lists * mean + random.normal() * (lists * spread).sqrt()).max(lists), deepest);
    }

    /// What is left of a list whose end was not seen: it is one of those that are as deep or deeper.
    fn left_of(
        &self,
        list: ReadList,
        (tail, weights, place): (Tail, &[f64], f64),
        most: f64,
        random: &mut Random,
    ) -> f64 {
        let least = f64::from(list.at_least);
        let from = self.body.partition_point(|ended| ended.pages < least);
        let deeper = || self.body.iter().zip(weights).skip(from);
        let mut at =
            random.share() * (deeper().map(|(_, weight)| weight).sum::<f64>() + self.above.max(f64::MIN_POSITIVE));
        let found = deeper().find(|(_, weight)| {
            at -= **weight;
            at < 0.0
        });
        let pages = found.map_or_else(
            || {
                let reached = tail.survival(least - self.threshold - 1.0);
                self.threshold + tail.quantile(random.share() * reached).floor() + 1.0
            },
            |(ended, _)| ended.pages + place * ended.half,
        );
        pages.clamp(least, most.max(least)) - f64::from(list.came)
    }
}

/// Adds lists of the tail: each drawn, or where they are many, one of each share of them.
fn add_tail(lists: f64, pages: impl Fn(f64) -> f64, random: &mut Random, case: &mut Case) {
    if lists <= 0.0 {
        return;
    }
    let drawn = lists.min(DRAWN);
    let (mut at, mut sum) = (0.0, 0.0);
    while at < drawn {
        sum += pages(if lists <= DRAWN { random.share() } else { (at + random.share()) / drawn });
        at += 1.0;
    }
    // The deepest of them is below this share with the probability of that share, for all of them together.
    let deepest = pages(-(random.share().ln() / lists).exp_m1());
    case.add(sum * lists / drawn, deepest);
}
