//! `--since` on the command line: what is refused and in which words, and what an earlier export without a journal means.

use crate::common::{Api, Home, ids, run, simulator};

const SORTED: [&str; 2] = ["--sort", "create_time:asc"];

fn snapshot<'a>(label: &'a str, more: &[&'a str]) -> Vec<&'a str> {
    [&["--snapshot", label][..], &SORTED, more].concat()
}

#[test]
fn what_cannot_be_continued_is_refused_in_one_line_that_says_what_to_do_and_nothing_is_sent() {
    let simulator = simulator("products=4,max_videos=60");
    let (home, api) = (Home::new(&ids(&simulator)), Api::from_simulator(&simulator));
    run(home.export(&api.base_url(), &snapshot("a", &[]))).ended(0);
    let paid = api.requests();
    let table: [(Vec<&str>, i32, &str); 7] = [
        (vec!["--snapshot", "b", "--since", "a"], 2, "needs lists whose new rows come last: --sort create_time:asc"),
        (
            vec!["--snapshot", "b", "--since", "a", "--sort", "total_digg_cnt:asc"],
            2,
            "needs lists whose new rows come last: --sort create_time:asc",
        ),
        (snapshot("b", &["--since", "b"]), 2, "name an earlier one"),
        (snapshot("b", &["--since", "x"]), 9, "--since x names no export"),
        (
            snapshot("b", &["--since", "a", "--page-size", "5"]),
            9,
            "--since a has other settings: page_size was 10, now 5",
        ),
        (snapshot("b", &["--since", "a", "--since-check", "101"]), 2, "must be a number from 0 to 100"),
        (vec!["--sort", "create_time:asc", "--since", "latest"], 2, "needs --snapshot"),
    ];
    for (flags, code, words) in table {
        let ended = run(home.export(&api.base_url(), &flags));
        let cause = ended.ended(code)["cause"].as_str().unwrap().to_owned();
        assert!(cause.contains(words) && !cause.contains('\n'), "{flags:?}: {cause}");
        assert_eq!(api.requests(), paid, "{flags:?}");
    }
}

#[test]
fn an_earlier_export_without_its_journal_is_refused_before_every_list_is_paid_for_again() {
    let simulator = simulator("products=4,max_videos=60");
    let (home, api) = (Home::new(&ids(&simulator)), Api::from_simulator(&simulator));
    run(home.export(&api.base_url(), &snapshot("a", &["--journal", "until-published"]))).ended(0);
    let paid = api.requests();
    let ended = run(home.export(&api.base_url(), &snapshot("b", &["--since", "a"])));
    let cause = ended.ended(9)["cause"].as_str().unwrap().to_owned();
    assert!(cause.contains("has no journal any more"), "{cause}");
    assert_eq!(api.requests(), paid);
    // The same snapshot can still be read whole.
    run(home.export(&api.base_url(), &snapshot("b", &[]))).ended(0);
}

#[test]
fn the_first_of_a_series_reads_every_list_and_the_next_one_says_what_it_took_over() {
    let simulator = simulator("products=8,max_videos=90");
    let (home, api) = (Home::new(&ids(&simulator)), Api::from_simulator(&simulator));
    let first = run(home.export(&api.base_url(), &snapshot("a", &["--since", "latest"])));
    assert!(first.stderr.contains("there is no complete snapshot yet"), "{first}");
    assert!(first.ended(0).get("continued").is_none());
    let paid = api.requests();
    let second = run(home.export(&api.base_url(), &snapshot("b", &["--since", "latest"])));
    let summary = second.ended(0);
    let continued = &summary["continued"];
    assert_eq!(continued["since"], "a");
    let kept = continued["kept"].as_u64().unwrap();
    assert!(kept > 0 && second.stderr.contains(&format!("since a: {kept} products continue")), "{second}");
    assert!(api.requests() - paid < paid, "{} after {paid}", api.requests());
    let out = home.argument("out");
    let status = run(crate::common::pagehaul(["status", "--out", &out, "--snapshot", "b", "--json"]));
    assert_eq!(&status.ended(0)["continued"], continued);
    let verified = run(crate::common::pagehaul(["verify", "--out", &out, "--snapshot", "b"]));
    assert_eq!(verified.ended(0)["differences"], 0);
    // Its files can be rebuilt without the earlier export.
    std::fs::remove_dir_all(home.path("out/snapshot=a")).unwrap();
    let replayed = run(crate::common::pagehaul(["replay", "--out", &out, "--snapshot", "b", "--all"]));
    assert_eq!(replayed.ended(0)["rows"], summary["rows"]);
}
