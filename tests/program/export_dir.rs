//! The export directory: whose it is, where its state is, and whether its `_SUCCESS` is true.

use crate::common::{
    Api, DEADLINE, Home, Program, assert_no_page_billed_twice, assert_rows, copy, expected, ids, pagehaul, run,
    simulator,
};
use pagehaul::model::page::ItemId;
use pagehaul::state::ledger::{Ledger, LedgerError};

#[test]
fn an_export_is_not_begun_where_the_output_of_another_one_lies() {
    let simulator = simulator("products=3,max_videos=25");
    let ids = ids(&simulator);
    let (home, api) = (Home::new(&ids), Api::from_simulator(&simulator));
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
fn an_output_whose_state_is_elsewhere_is_never_started_again() {
    let simulator = simulator("products=3,max_videos=25");
    let ids = ids(&simulator);
    let (home, api) = (Home::new(&ids), Api::from_simulator(&simulator));
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
    let (home, api) = (Home::new(&all[..4]), Api::from_simulator(&simulator));
    run(home.export(&api.base_url(), &[])).ended(0);
    let mut ledger = Ledger::open(&home.path("out/_pagehaul/ledger.sqlite")).unwrap();
    ledger.add_items(all.iter().map(|id| Ok::<_, LedgerError>(ItemId::new(id))), || Ok(())).unwrap();
    drop(ledger);
    home.file("list.txt", all.join("\n").as_bytes());
    run(home.export(&api.base_url(), &[])).ended(0);
    assert_rows(&home.out(), &expected(&simulator, &all, 10));
}

#[test]
fn a_mark_of_success_that_a_crash_kept_from_being_written_is_written_by_the_next_run() {
    let simulator = simulator("products=3,max_videos=25");
    let ids = ids(&simulator);
    let (home, api) = (Home::new(&ids), Api::from_simulator(&simulator));
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
    let (whole, api) = (Home::new(&all[..4]), Api::from_simulator(&simulator));
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
