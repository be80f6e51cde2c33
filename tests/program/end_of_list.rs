//! Where a list ends, by the built program: under each rule it reads an API that caps its pages, or that sends pages without a
//! usable row, to the end. `tests/runs/judgement` has the decisions in full.

use std::sync::Arc;

use crate::common::{Answer, Api, Home, assert_rows, expected, ids, numbered, run, simulator};
use pagehaul::simulator::Simulator;

/// An API that gives at most `most` rows a page, whatever is requested.
fn capped(simulator: &Arc<Simulator>, most: u64) -> Api {
    let simulator = Arc::clone(simulator);
    Api::start(move |request| {
        let first = u64::from(request.page - 1) * most;
        let rows = (first..first + most).filter_map(|position| simulator.row(&request.product, None, position));
        Answer::page(&rows.collect::<Vec<_>>())
    })
}

#[test]
fn lists_of_an_api_that_caps_its_pages_are_read_to_their_end_by_evidence_and_by_the_strict_rule() {
    let simulator = simulator("products=200,max_videos=40");
    let ids: Vec<String> = ids(&simulator).into_iter().filter(|id| simulator.videos(id) > 11).take(30).collect();
    for end in ["auto", "empty-page"] {
        let (home, api) = (Home::new(&ids), capped(&simulator, 5));
        run(home.export(&api.base_url(), &["--end", end])).ended(0);
        assert_rows(&home.out(), &expected(&simulator, &ids, 5));
    }
}

#[test]
fn under_the_strict_rule_the_pages_behind_a_short_one_without_a_usable_row_are_read_also_on_resume() {
    let api = Api::start(|request| {
        let rows = |count: u32| {
            let named = (0..count).map(|at| format!("{}-{}-{at}", request.product, request.page));
            named
                .map(|id| format!(r#"{{"video_id":"{id}","product_id":"{}","region":"US"}}"#, request.product))
                .collect()
        };
        let rows: Vec<String> = match request.page {
            2 => vec![r#"{"region":"US"}"#.to_owned(); 2],
            1 | 3 => rows(10),
            4 => rows(5),
            _ => Vec::new(),
        };
        Answer::page(&rows)
    });
    let strict = ["--end", "empty-page"];
    for changed in [false, true] {
        let home = Home::new(&numbered(3));
        if changed {
            let summary = run(home.export(&api.base_url(), &[])).ended(3);
            assert_eq!(summary["rows"]["published"], 30, "{summary}");
        }
        let summary = run(home.export(&api.base_url(), &strict)).ended(0);
        assert_eq!((&summary["rows"]["published"], &summary["rows"]["rejected"]), (&75.into(), &6.into()));
    }
    assert_eq!(api.requests(), 2 * 3 * 5, "no page is requested twice");
}
