//! `pagehaul plan`: what it prints, what it pays, and what it leaves.

use std::process::Command;

use crate::common::{Home, KEY, Run, Served, assert_no_page_billed_twice, fewest_requests, pagehaul, run};
use serde_json::Value;

/// A plan with the flags of an export.
fn command(home: &Home, base_url: &str, more: &[&str]) -> Command {
    let (list, out) = (home.argument("list.txt"), home.argument("out"));
    let own = ["plan", "--base-url", base_url, "--products", &list, "--out", &out, "--progress", "none"];
    let mut command = pagehaul([&own[..], more].concat());
    command.env("PAGEHAUL_END", "short-page");
    command
}

/// The same without a key, run to its end.
fn plan(home: &Home, base_url: &str, more: &[&str]) -> Run {
    run(command(home, base_url, more))
}

/// A plan of the products of a table with their sizes: lines of an id and a number.
fn plan_sizes(home: &Home, lines: &str, more: &[&str]) -> Run {
    let table = home.file("sized.csv", format!("product_id,rows\n{lines}").as_bytes());
    let out = home.argument("out");
    let own = ["plan", "--products", &table, "--product-column", "product_id", "--size-hint-column", "rows"];
    run(pagehaul([&own[..], &["--qps", "2", "--out", &out], more].concat()))
}

fn range(plan: &Value, key: &str) -> [u64; 3] {
    ["low", "estimate", "high"].map(|name| plan[key][name].as_u64().unwrap())
}

#[test]
fn a_plan_needs_no_key_and_no_rate_sends_nothing_and_writes_nothing() {
    let Served { simulator, server, home, .. } = Served::start("products=40,max_videos=90");
    let first = plan(&home, &server.base_url(), &[]);
    let json = first.ended(0);
    assert_eq!((&json["source"], &json["lists"]["total"]), (&"assumption".into(), &40.into()));
    assert!(first.stderr.contains("ASSUMED: 5 pages a list"), "{first}");
    assert!(first.stderr.contains("NO RATE LIMIT WAS GIVEN"), "{first}");
    assert_eq!(json["is_rate_known"], false);
    let limited = plan(&home, &server.base_url(), &["--qps", "5"]);
    assert_eq!(limited.ended(0)["is_rate_known"], true);
    assert!(!limited.stderr.contains("NO RATE LIMIT"), "{limited}");
    let [low, estimate, high] = range(&json, "pages");
    assert!(low <= 60 && (100..400).contains(&estimate) && high > 1_000, "{json}");
    assert_eq!((simulator.account().requests, home.out().exists()), (0, false));
}

#[test]
fn known_sizes_give_a_narrow_range_with_the_page_behind_a_full_last_one() {
    let home = Home::new(&[]);
    let json = plan_sizes(&home, "1,0\n2,9\n3,10\n4,95\n", &[]).ended(0);
    let [low, estimate, high] = range(&json, "pages");
    assert_eq!((&json["source"], estimate), (&"sizes".into(), 14), "1 + 1 + 2 + 10");
    assert!(low >= 12 && high <= 16, "{json}");
    assert_eq!(json["bound"], "rate");
    assert!(!home.out().exists());
}

#[test]
fn a_probe_is_announced_and_its_pages_are_the_export_s() {
    let Served { simulator, server, ids, home } = Served::start("products=60,max_videos=300,record=true");
    let flags = ["--probe", "50", "--qps", "1000"];
    let refused = plan(&home, &server.base_url(), &flags);
    assert!(refused.ended(2)["cause"].as_str().unwrap().contains("KEYAPI_TOKEN"), "{refused}");
    let probe = |pages: &str| {
        let mut command = command(&home, &server.base_url(), &["--qps", "1000", "--probe", pages]);
        command.env("KEYAPI_TOKEN", KEY);
        run(command)
    };
    let first = probe("50");
    let json = first.ended(0);
    assert!(first.stderr.contains("until this export has spent 50 credits"), "{first}");
    assert_eq!((&json["probe"]["credits"], &json["source"]), (&50.into(), &"pages".into()), "{first}");
    assert_eq!(simulator.account().pages, 50);
    assert_eq!(probe("50").ended(0)["probe"]["credits"], 0);
    let again = plan(&home, &server.base_url(), &[]).ended(0);
    assert_eq!((&again["spent"], &again["source"]), (&50.into(), &"pages".into()));
    let done = run(home.export(&server.base_url(), &["--qps", "1000"]));
    let summary = done.ended(0);
    assert_eq!(
        (&summary["plan"]["source"], &summary["plan"]["actual"]),
        (&"pages".into(), &summary["credits"]["billed"])
    );
    assert!(done.stderr.contains("credits were expected, from lists that were read"), "{done}");
    assert_no_page_billed_twice(&[&simulator]);
    let all = fewest_requests(&simulator, &ids);
    assert!(simulator.account().pages < all + 40, "{all}");
    let rest = plan(&home, &server.base_url(), &[]).ended(0);
    assert_eq!(range(&rest, "pages"), [0, 0, 0]);
}

#[test]
fn an_export_without_anything_known_says_so_only_in_json() {
    let Served { server, home, .. } = Served::start("products=3,max_videos=9");
    let done = run(home.export(&server.base_url(), &[]));
    assert_eq!(done.ended(0)["plan"]["source"], "assumption");
    assert!(!done.stderr.contains("were expected"), "{done}");
}

#[test]
fn what_an_export_refuses_a_plan_refuses() {
    let Served { simulator, server, home, .. } = Served::start("products=3,max_videos=90");
    for (flags, code) in [
        (&["--page-size", "99"][..], 2),
        (&["--probe", "0"], 2),
        (&["--products", "/nonexistent/list"], 2),
        (&["--since", "nowhere", "--sort", "create_time:asc"], 9),
    ] {
        let refused = plan(&home, &server.base_url(), flags);
        assert_eq!(refused.code, Some(code), "{flags:?}: {refused}");
    }
    run(home.export(&server.base_url(), &["--max-credits", "1"])).ended(6);
    let other = plan(&home, &server.base_url(), &["--page-size", "5"]);
    assert!(other.ended(9)["cause"].as_str().unwrap().contains("page_size was 10, now 5"), "{other}");
    assert_eq!(simulator.account().requests, 1);
}

#[test]
fn limits_are_set_beside_what_the_export_will_cost() {
    let home = Home::new(&[]);
    let planned = |limits: &[&str]| plan_sizes(&home, "1,0\n2,9\n3,10\n4,950\n", limits);
    let enough = |plan: &Run| {
        let limits = plan.ended(0)["limits"].clone();
        let of = |limit: &Value| ["name", "allows", "is_enough"].map(|key| limit[key].to_string().replace('"', ""));
        limits.as_array().into_iter().flatten().map(|limit| of(limit).join(" ")).collect::<Vec<_>>()
    };
    assert_eq!(enough(&planned(&[])), [""; 0]);
    let low = planned(&["--max-credits", "20", "--max-duration", "1h"]);
    let [credits, time] = &enough(&low)[..] else { panic!("{low}") };
    assert_eq!(credits, "max_credits 20 no");
    assert!(time.starts_with("max_duration 35") && time.ends_with(" yes"), "{time}");
    assert!(low.stderr.contains("limits    max_credits of 20 credits: NOT ENOUGH; the export ends there"), "{low}");
    assert!(low.stderr.contains("\n            max_duration in 59m"), "{low}");
    assert_eq!(enough(&planned(&["--max-credits", "99"])), ["max_credits 99 perhaps"]);
    assert!(enough(&planned(&["--deadline", "2026-01-01T00:00:00Z"]))[0].ends_with(" 0 no"));
}

#[test]
fn sizes_that_are_no_numbers_are_counted_in_a_warning() {
    let home = Home::new(&[]);
    let planned = plan_sizes(&home, "1,20\n2,many\n3,-1\n4,\n", &[]);
    assert_eq!(planned.ended(0)["lists"]["sized"], 1, "{planned}");
    assert!(planned.stderr.contains("2 values of the size hint column are not whole numbers"), "{planned}");
}

#[test]
fn a_ledger_that_is_lost_or_damaged_is_not_taken_for_an_export_that_has_not_begun() {
    let Served { simulator, server, home, .. } = Served::start("products=3,max_videos=90");
    run(home.export(&server.base_url(), &["--max-credits", "2"])).ended(6);
    let ledger = home.out().join("_pagehaul/ledger.sqlite");
    let content = std::fs::read(&ledger).unwrap();
    for damaged in [None, Some(vec![7; 8_192])] {
        std::fs::remove_file(&ledger).unwrap();
        if let Some(damaged) = &damaged {
            std::fs::write(&ledger, damaged).unwrap();
        }
        let planned = plan(&home, &server.base_url(), &[]);
        assert_eq!(planned.code, Some(9), "{planned}");
        std::fs::write(&ledger, &content).unwrap();
    }
    assert_eq!(plan(&home, &server.base_url(), &[]).ended(0)["spent"], 2);
    assert_eq!(simulator.account().requests, 2);
}

#[test]
fn a_probe_of_a_complete_export_opens_nothing_again() {
    let Served { simulator, server, home, .. } = Served::start("products=5,max_videos=30");
    run(home.export(&server.base_url(), &[])).ended(0);
    let requests = simulator.account().requests;
    for more in [&["--retry-failed"][..], &["--repair"], &["--end", "empty-page"]] {
        let mut command = command(&home, &server.base_url(), &[&["--qps", "9", "--probe", "99"], more].concat());
        command.env("KEYAPI_TOKEN", KEY);
        let probed = run(command);
        assert_eq!(range(&probed.ended(0), "pages"), [0, 0, 0], "{more:?}: {probed}");
        assert!(home.out().join("_SUCCESS").exists(), "{more:?}: {probed}");
    }
    assert_eq!(simulator.account().requests, requests);
}

#[test]
fn the_outcome_says_so_where_products_were_added_to_those_that_were_planned() {
    let Served { server, ids, home, .. } = Served::start("products=20,max_videos=30");
    home.file("list.txt", ids[..15].join("\n").as_bytes());
    let mut probe = command(&home, &server.base_url(), &["--qps", "1000", "--probe", "10"]);
    probe.env("KEYAPI_TOKEN", KEY);
    run(probe).ended(0);
    let first = run(home.export(&server.base_url(), &[]));
    assert!(first.ended(0)["plan"]["products"] == 15 && !first.stderr.contains("alone"), "{first}");
    home.file("list.txt", ids.join("\n").as_bytes());
    let second = run(home.export(&server.base_url(), &[]));
    assert_eq!(second.ended(0)["plan"]["products"], 15);
    assert!(second.stderr.contains("from lists that were read, for the first 15 products alone"), "{second}");
}

#[test]
fn a_limit_that_a_probe_found_is_in_its_plan_and_known_to_the_export() {
    let Served { server, home, .. } = Served::start("products=170,max_videos=60,qps=20,limit=window");
    let limits = tempfile::tempdir().unwrap();
    let auto = |mut command: Command| {
        command.args(["--qps", "auto"]).env("KEYAPI_TOKEN", KEY).env("XDG_STATE_HOME", limits.path());
        run(command)
    };
    let plan = |more: &[&str]| auto(command(&home, &server.base_url(), more)).ended(0);
    assert_eq!(plan(&[])["is_rate_known"], false);
    let probed = plan(&["--probe", "170"]);
    assert_eq!((&probed["is_rate_known"], &probed["bound"]), (&true.into(), &"rate".into()), "{probed}");
    let exported = auto(home.export(&server.base_url(), &["--max-credits", "170"]));
    exported.ended(6);
    assert!(exported.stderr.contains("found by an earlier run"), "{exported}");
}
