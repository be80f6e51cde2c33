//! One test for each defect that a review found, so that none of them comes back.

mod common;

use std::sync::Arc;

use common::{
    Answer, Api, DEADLINE, Home, Program, assert_no_page_billed_twice, assert_rows, copy, expected, ids, pagehaul, run,
    simulator,
};
use pagehaul::model::page::ItemId;
use pagehaul::simulator::Simulator;
use pagehaul::state::ledger::{Ledger, LedgerError};

/// Waits that make a failing page fail soon.
const HASTY: [&str; 8] =
    ["--retry-base-delay", "5ms", "--retry-max-delay", "10ms", "--retry-attempts", "3", "--max-outage", "300ms"];

fn numbered(count: u32) -> Vec<String> {
    (100..100 + count).map(|id| id.to_string()).collect()
}

/// An API that gives at most `most` rows a page, whatever is asked for.
fn capped(simulator: &Arc<Simulator>, most: u64) -> Api {
    let simulator = Arc::clone(simulator);
    Api::start(move |asked| {
        let first = u64::from(asked.page - 1) * most;
        let rows = (first..first + most).filter_map(|position| simulator.row(&asked.product, None, position));
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
    let api = Api::start(|asked| {
        let rows = |count: u32| {
            let named = (0..count).map(|at| format!("{}-{}-{at}", asked.product, asked.page));
            named.map(|id| format!(r#"{{"video_id":"{id}","product_id":"{}","region":"US"}}"#, asked.product)).collect()
        };
        let rows: Vec<String> = match asked.page {
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
    assert_eq!(api.requests(), 2 * 3 * 5, "no page is asked for twice");
}

#[test]
fn an_export_is_not_begun_where_the_output_of_another_one_lies() {
    let simulator = simulator("products=3,max_videos=25");
    let ids = ids(&simulator);
    let (home, api) = (Home::new(&ids), capped(&simulator, 10));
    run(home.export(&api.base_url(), &[])).ended(0);
    let paid = api.requests();
    std::fs::remove_dir_all(home.path("out/_pagehaul")).unwrap();
    for _ in 0..2 {
        let refused = run(home.export(&api.base_url(), &[]));
        refused.ended(9);
        assert!(refused.stderr.contains("another --out"), "{refused}");
    }
    assert_eq!(api.requests(), paid);
}

#[test]
fn an_output_whose_state_lies_elsewhere_is_never_begun_anew() {
    let simulator = simulator("products=3,max_videos=25");
    let ids = ids(&simulator);
    let (home, api) = (Home::new(&ids), capped(&simulator, 10));
    let state = home.argument("state");
    run(home.export(&api.base_url(), &["--state-dir", &state, "--max-credits", "2"])).ended(6);
    let paid = api.requests();
    run(home.export(&api.base_url(), &[])).ended(9);
    assert_eq!(api.requests(), paid);
    run(home.export(&api.base_url(), &["--state-dir", &state])).ended(0);
    assert_rows(&home.out(), &expected(&simulator, &ids, 10));
}

#[test]
fn two_state_directories_cannot_share_an_output_at_the_same_time() {
    let simulator = simulator("products=3,max_videos=25");
    let ids = ids(&simulator);
    let (api, gate, held) = Api::gated(&simulator, 0);
    let home = Home::new(&ids);
    let (one, two) = (home.argument("one"), home.argument("two"));
    let first = Program::start(home.export(&api.base_url(), &["--state-dir", &one]));
    held.recv_timeout(DEADLINE).unwrap();
    run(home.export(&api.base_url(), &["--state-dir", &two])).ended(4);
    gate.open();
    first.end().ended(0);
    run(home.export(&api.base_url(), &["--state-dir", &two])).ended(9);
    assert_rows(&home.out(), &expected(&simulator, &ids, 10));
    assert_no_page_billed_twice(&[&simulator]);
}

#[test]
fn ids_that_a_crash_left_in_the_ledger_of_a_complete_export_are_walked() {
    let simulator = simulator("products=6,max_videos=25");
    let all = ids(&simulator);
    let (home, api) = (Home::new(&all[..4]), capped(&simulator, 10));
    run(home.export(&api.base_url(), &[])).ended(0);
    let mut ledger = Ledger::open(&home.path("out/_pagehaul/ledger.sqlite")).unwrap();
    ledger.add_items(all.iter().map(|id| Ok::<_, LedgerError>(ItemId::new(id)))).unwrap();
    drop(ledger);
    home.file("list.txt", all.join("\n").as_bytes());
    run(home.export(&api.base_url(), &[])).ended(0);
    assert_rows(&home.out(), &expected(&simulator, &all, 10));
}

#[test]
fn a_mark_of_success_that_a_crash_kept_from_being_written_is_written_by_the_next_run() {
    let simulator = simulator("products=3,max_videos=25");
    let ids = ids(&simulator);
    let (home, api) = (Home::new(&ids), capped(&simulator, 10));
    run(home.export(&api.base_url(), &[])).ended(0);
    let paid = api.requests();
    pagehaul::state::disk::Disk.remove(&home.path("out/_SUCCESS")).unwrap();
    run(home.export(&api.base_url(), &[])).ended(0);
    assert!(home.path("out/_SUCCESS").exists());
    assert_eq!(api.requests(), paid);
}

#[test]
fn a_mark_of_success_goes_before_the_list_has_an_id_more_whatever_becomes_of_that_run() {
    let simulator = simulator("products=6,max_videos=25");
    let all = ids(&simulator);
    let (whole, api) = (Home::new(&all[..4]), capped(&simulator, 10));
    run(whole.export(&api.base_url(), &[])).ended(0);
    for step in 1.. {
        let home = Home::new(&all);
        copy(&whole.out(), &home.out());
        let mut export = home.export(&api.base_url(), &["--min-free-space", "999999GiB"]);
        export.env("TEST_STEP", format!("{step}:kill"));
        let ended = run(export);
        // A mark that is not true is a difference.
        run(pagehaul(["verify", "--out", &home.argument("out")])).ended(0);
        if ended.code.is_some() {
            assert!(ended.ended(8)["cause"].as_str().unwrap().contains("min_free_space"), "{ended}");
            assert!(!home.path("out/_SUCCESS").exists());
            break;
        }
    }
}

#[test]
fn rows_without_their_identity_are_neither_complete_nor_silent() {
    for (products, code) in [(3, 3), (40, 10)] {
        let api = Api::start(|_| Answer::page(&[r#"{"id":"1","region":"US"}"#.to_owned(), r#"{"id":"2"}"#.to_owned()]));
        let home = Home::new(&numbered(products));
        let summary = run(home.export(&api.base_url(), &["--max-in-flight", "2"])).ended(code);
        assert_eq!((&summary["products"]["complete"], &summary["rows"]["published"]), (&0.into(), &0.into()));
        assert_eq!(summary["rows"]["rejected"], summary["rows"]["received"]);
        assert!(home.path("out/_rejects").exists() && !home.path("out/_SUCCESS").exists());
        assert!(api.requests() <= 25, "it stops before it has paid for the whole list");
    }
}

#[test]
fn one_product_that_always_fails_does_not_end_every_run_as_a_temporary_failure() {
    let simulator = simulator("products=6,max_videos=25");
    let ids = ids(&simulator);
    let api = Api::start({
        let (simulator, bad) = (Arc::clone(&simulator), ids[0].clone());
        move |asked| {
            if asked.product == bad {
                Answer::refusal(500, "Internal server error")
            } else {
                Answer::of(&simulator, asked)
            }
        }
    });
    let home = Home::new(&ids);
    for _ in 0..3 {
        let summary = run(home.export(&api.base_url(), &HASTY)).ended(3);
        assert_eq!((&summary["products"]["failed"], &summary["products"]["complete"]), (&1.into(), &5.into()));
    }
}

#[test]
fn a_wrong_path_stops_the_run_before_it_has_tried_the_whole_list() {
    let api = Api::start(|_| Answer::new(404, "page not found"));
    let home = Home::new(&numbered(300));
    run(home.export(&api.base_url(), &["--max-in-flight", "4", "--retry-base-delay", "5ms"])).ended(10);
    assert!(api.requests() <= 21, "{} requests", api.requests());
}

#[test]
fn a_200_that_breaks_off_is_asked_for_at_most_twice() {
    let api = Api::start(|_| Answer::new(200, r#"{"code":0,"message":"success","data":["#));
    let home = Home::new(&numbered(2));
    let summary = run(home.export(&api.base_url(), &["--retry-base-delay", "5ms"])).ended(10);
    assert!(api.asked().values().all(|times| *times == 2), "{:?}", api.asked());
    assert_eq!(summary["products"]["open"], 2, "of an API that gave no page at all no product is blamed: {summary}");
}

#[test]
fn a_success_without_a_list_is_said_to_have_none() {
    let simulator = simulator("products=6,max_videos=25");
    let ids = ids(&simulator);
    for (data, is) in [(r#"{"more":{}}"#, "an object"), ("\"rows\"", "a text")] {
        let api = Api::start({
            let (simulator, bad) = (Arc::clone(&simulator), ids[0].clone());
            move |asked| {
                if asked.product == bad {
                    Answer::new(200, format!(r#"{{"code":0,"message":"success","data":{data}}}"#))
                } else {
                    Answer::of(&simulator, asked)
                }
            }
        });
        let summary = run(Home::new(&ids).export(&api.base_url(), &HASTY)).ended(3);
        let message = format!("HTTP 200, code 0: data is {is}, not a list of rows; page 1");
        assert_eq!(summary["failures"][0]["error"], message, "{summary}");
    }
}

#[test]
fn other_columns_on_resume_are_refused_by_name() {
    let simulator = simulator("products=2,max_videos=25");
    let (home, api) = (Home::new(&ids(&simulator)), capped(&simulator, 10));
    run(home.export(&api.base_url(), &["--max-credits", "1"])).ended(6);
    let summary = run(home.export(&api.base_url(), &["--drop-columns", "play_addr"])).ended(9);
    assert!(summary["cause"].as_str().unwrap().contains("columns was"), "{summary}");
}
