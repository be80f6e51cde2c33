//! A survey: which pages show how deep a list is for few credits, without reading it.
//!
//! The first pages are read one by one, because most lists end there. Then each page is twice as far as the last (galloping, as in
//! `lookahead`), and from the first one behind the end on half-way between what exists and what does not. It stops when the
//! depth is known to an eighth. A list of 1,000 pages takes about 15.

/// Pages that are read one by one.
const IN_ORDER: u32 = 4;
/// The part of its depth to which a list's end is sought.
const PRECISION: u32 = 8;

/// What is known of a list, in pages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Depth {
    /// The farthest page that exists and is followed by another, counted from 1; 0: none.
    pub exists: u32,
    /// The most pages that reading it to the end takes, unless the last one is full. None: no page behind its end came.
    pub at_most: Option<u32>,
    /// The most pages that any list has.
    pub limit: u32,
}

impl Depth {
    /// The pages of a list of which this one, counted from 1, is empty: mostly it is behind one that is short.
    pub(crate) fn before_empty(exists: u32, empty: u32) -> u32 {
        empty.saturating_sub(1).max(exists.saturating_add(1))
    }

    /// The next page to request, counted from 1. None: its depth is known well enough.
    pub(crate) fn next_page(self) -> Option<u32> {
        let Self { exists, at_most, limit } = self;
        let Some(most) = at_most else {
            let page = if exists < IN_ORDER { exists + 1 } else { exists.saturating_mul(2).min(limit) };
            return Some(page).filter(|page| *page > exists && *page <= limit);
        };
        let unknown = most.saturating_sub(exists);
        let page = exists + unknown / 2;
        (unknown > 1 + exists / PRECISION && page > exists).then_some(page)
    }
}

#[cfg(test)]
mod tests {
    use super::Depth;
    use proptest::prelude::proptest;

    /// Surveys a list of so many pages, of which the last is short or else empty. Returns what is known, and the credits.
    fn survey(pages: u32, is_empty: bool, limit: u32) -> (Depth, u32) {
        let mut depth = Depth { exists: 0, at_most: None, limit };
        for credits in 0.. {
            let Some(page) = depth.next_page() else { return (depth, credits) };
            if page < pages || page == limit {
                depth.exists = page;
            } else {
                let is_last = page == pages && !is_empty;
                depth.exists = if is_last { page - 1 } else { depth.exists };
                depth.at_most = Some(if is_last { page } else { Depth::before_empty(depth.exists, page) });
            }
        }
        unreachable!()
    }

    proptest! {
        #[test]
        fn the_depth_of_any_list_is_known_to_an_eighth_for_few_credits(pages in 1_u32..50_000, is_empty in proptest::bool::ANY) {
            let (depth, credits) = survey(pages, is_empty, 100_000);
            let most = depth.at_most.unwrap();
            assert!((depth.exists + 1..=most + u32::from(is_empty)).contains(&pages), "{depth:?} of {pages}");
            assert!(most - depth.exists <= 1 + depth.exists / 8, "{depth:?} of {pages}");
            assert!(credits <= 9 + pages.ilog2(), "{credits} for {pages}");
            assert!(pages > 4 || credits == pages, "{credits} for {pages}");
        }
    }

    #[test]
    fn a_list_that_reaches_the_limit_has_no_page_behind_it() {
        let (depth, credits) = survey(u32::MAX, false, 1_000);
        assert_eq!((depth.exists, depth.at_most, credits), (1_000, None, 12));
        assert_eq!(survey(u32::MAX, false, 3).0.exists, 3);
    }
}
