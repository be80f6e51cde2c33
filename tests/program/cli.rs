//! The built program as its users meet it: a command line, an exit code, a JSON object, a directory of Parquet.
//!
//! Every test runs the binary over real sockets in real time. None depends on how long anything takes: where the moment
//! matters, the API of the test keeps its responses back until the test has seen what it waits for.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fmt::Write as _;
use std::io::{BufRead, BufReader, Write};
use std::net::TcpListener;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::PermissionsExt;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, channel};

use crate::common::{
    Answer, Api, DEADLINE, Gate, Home, KEY, Program, Run, Served, assert_no_page_billed_twice, assert_rows, billed,
    endpoint, expected, fewest_requests, files, files_that_hold, ids, manifests, pagehaul, rows, run, run_with,
    simulator,
};
use pagehaul::simulator;

/// Flags that make failing quick.
const IMPATIENT: [&str; 6] = ["--retry-base-delay", "10ms", "--retry-max-delay", "40ms", "--max-outage", "1s"];

/// Fails unless a run was refused as bad input: code 2, the reason with these words on one line, what to do next on
/// another, the same as JSON for a program, and the key nowhere.
fn assert_refused(case: &str, run: &Run, words: &[&str]) {
    let about = format!("{case}: {run}");
    assert!(!run.stderr.contains("panicked"), "{about}");
    assert_eq!(run.code, Some(2), "{about}");
    let lines: Vec<&str> = run.stderr.lines().collect();
    let message = lines.first().and_then(|line| line.strip_prefix("error: ")).unwrap_or_default();
    assert!(!message.is_empty() && lines.len() == 2 && lines[1].starts_with("  next: "), "{about}");
    for word in words {
        assert!(message.contains(word), "the reason lacks {word:?}: {about}");
    }
    let json = run.json();
    assert_eq!((&json["exit_code"], &json["status"]), (&2.into(), &"usage".into()), "{about}");
    assert_eq!(json["cause"], message, "{about}");
    assert!(!format!("{}{}", run.stdout, run.stderr).contains("CANARY"), "{about}");
}

#[test]
fn a_key_that_cannot_be_used_is_refused_and_no_request_is_sent() {
    let Served { simulator, server, home, .. } = Served::start("products=2,max_videos=9");
    let keyless = |more: &[&str]| {
        let mut command = home.export(&server.base_url(), more);
        command.env_remove("KEYAPI_TOKEN");
        command
    };
    let key = |value: &str| {
        let mut command = keyless(&[]);
        command.env("KEYAPI_TOKEN", value);
        run(command)
    };
    let key_file = |mode: u32, content: &str| {
        let path = home.file("key", content.as_bytes());
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
        run(keyless(&["--token-file", &path]))
    };
    let two_lines = "sk_live_CANARY1\nsk_live_CANARY2\n";
    assert_refused("no key", &run(keyless(&[])), &["KEYAPI_TOKEN", "--token-file", "--token-stdin", "--simulate"]);
    assert_refused("line break in the variable", &key("sk_live_CANARY\nX"), &["line break"]);
    assert_refused("empty variable", &key(""), &["empty"]);
    assert_refused("blank variable", &key("  "), &["empty"]);
    assert_refused("file of two lines", &key_file(0o600, two_lines), &["line break"]);
    assert_refused("empty file", &key_file(0o600, ""), &["empty"]);
    assert_refused("file that the group can read", &key_file(0o640, KEY), &["other users can read", "chmod 600"]);
    assert_refused("file that all can read", &key_file(0o604, KEY), &["other users can read", "chmod 600"]);
    let missing = home.argument("none");
    assert_refused("missing file", &run(keyless(&["--token-file", &missing])), &["key", "none", "No such file"]);
    assert_refused("two places", &run(keyless(&["--token-file", &missing, "--token-stdin"])), &["exclude each other"]);
    let from_stdin = |input: &str| run_with(keyless(&["--token-stdin"]), input.as_bytes());
    assert_refused("empty standard input", &from_stdin(""), &["empty"]);
    assert_refused("two lines on standard input", &from_stdin(two_lines), &["line break"]);
    assert_eq!(simulator.account().requests, 0);
}

#[test]
fn a_list_that_cannot_be_used_is_refused_and_no_request_is_sent() {
    let Served { simulator, server, .. } = Served::start("products=2,max_videos=9");
    let home = Home::new(&[]);
    let listed = |name: &str, more: &[&str]| {
        let mut command = home.bare_export(&server.base_url(), more);
        command.args(["--products", &home.argument(name)]);
        run(command)
    };
    let utf16: Vec<u8> = "\u{feff}17\n18\n".encode_utf16().flat_map(u16::to_le_bytes).collect();
    std::fs::create_dir(home.path("directory")).unwrap();
    home.file("empty", b"");
    home.file("comments", b"# one\n\n  # two\n");
    home.file("utf16", &utf16);
    home.file("control", b"17\n# two\n18\x1b[31m\n19\n");
    home.file("latin", b"17\n18\xe9\n");
    home.file("long", &[b'7'; 300]);
    home.file("table", b"name,product_id\na,17\n");
    assert_refused("no list", &run(home.bare_export(&server.base_url(), &[])), &["list", "--products"]);
    assert_refused("missing", &listed("missing", &[]), &["missing", "No such file"]);
    assert_refused("directory", &listed("directory", &[]), &["directory"]);
    assert_refused("empty", &listed("empty", &[]), &["no id"]);
    assert_refused("comments alone", &listed("comments", &[]), &["no id"]);
    assert_refused("UTF-16", &listed("utf16", &[]), &["UTF-16", "UTF-8"]);
    assert_refused("control character", &listed("control", &[]), &["control, line 3:", "U+001B"]);
    assert_refused("no UTF-8", &listed("latin", &[]), &["latin, line 2:", "UTF-8"]);
    assert_refused("long id", &listed("long", &[]), &["long, line 1:", "256"]);
    let other_column = listed("table", &["--product-column", "id"]);
    assert_refused("column missing", &other_column, &["no column id", "name, product_id"]);
    home.file("list.csv", b"product_id\n17\n");
    assert_refused("table without a column", &listed("table", &[]), &["table, line 1:", "--product-column"]);
    assert_refused("CSV without a column", &listed("list.csv", &[]), &["list.csv", "--product-column"]);
    let both = run(home.bare_export(&server.base_url(), &["--products", "-", "--token-stdin"]));
    assert_refused("two readers of standard input", &both, &["stdin"]);
    assert_eq!(simulator.account().requests, 0);
}

#[test]
fn settings_that_do_not_fit_are_refused_and_no_request_is_sent() {
    let Served { simulator, server, home, .. } = Served::start("products=2,max_videos=9");
    let misspelt = home.file("misspelt.toml", b"page_sise = 5\n");
    let broken = home.file("broken.toml", b"page_size = \n");
    let endpoint =
        include_str!("../../config/endpoints/product-videos.toml").replace("role = \"metric\"", "role = \"metrik\"");
    let endpoint = home.file("endpoint.toml", endpoint.as_bytes());
    let table: [(&[&str], &[&str]); 18] = [
        (&["--endpoint", &endpoint], &["line ", "metrik", "one of"]),
        (&["--drop-columns", "_fetched_at"], &["no column _fetched_at"]),
        (&["--page-size", "11"], &["page_size = 11 (flag)", "from 1 to 10"]),
        (&["--page-size", "0"], &["page_size = 0 (flag)", "from 1 to 10"]),
        (&["--qps", "0"], &["qps = 0 (flag)", "above 0"]),
        (&["--qps", "-1"], &["qps = -1 (flag)", "above 0"]),
        (&["--sort", "nonsense"], &["sort = nonsense (flag)", "create_time"]),
        (&["--sort", "create_time:up"], &["asc or desc"]),
        (&["--drop-columns", "video_id"], &["video_id", "every row needs its identity"]),
        (&["--columns", "video_dec"], &["did you mean video_desc?"]),
        (&["--max-credits", "0"], &["max_credits = 0", "1 or more"]),
        (&["--max-duration", "0s"], &["max_duration = 0s (flag)", "longer than 0s"]),
        (&["--deadline", "6am"], &["deadline = 6am (flag)", "06:00 (UTC) or 06:00+01:00"]),
        (&["--deadline", "2026-11-28"], &["deadline = 2026-11-28 (flag)", "2026-11-28T06:00:00Z"]),
        (&["--simulate"], &["base_url", "simulate"]),
        (&["--config", &misspelt], &["misspelt.toml", "page_sise", "did you mean page_size?"]),
        (&["--config", &broken], &["broken.toml", "line 1"]),
        (&["--config", "/nonexistent/c.toml"], &["/nonexistent/c.toml", "No such file"]),
    ];
    for (flags, words) in table {
        assert_refused(&flags.join(" "), &run(home.export(&server.base_url(), flags)), words);
    }
    for (name, words) in [
        ("PAGEHAUL_MAX_CREDIT", ["environment", "PAGEHAUL_MAX_CREDIT", "did you mean PAGEHAUL_MAX_CREDITS?"]),
        ("PAGEHAUL_API_KEY", ["environment", "PAGEHAUL_API_KEY", "KEYAPI_TOKEN"]),
        ("PAGEHAUL_PAGE_SIZE", ["environment", "page_size = 12", "from 1 to 10"]),
    ] {
        let mut command = home.export(&server.base_url(), &[]);
        command.env(name, "12");
        assert_refused(name, &run(command), &words);
    }
    let clear = run(home.export("http://203.0.113.7", &["--qps", "5"]));
    assert_refused("plain http to another host", &clear, &["http://203.0.113.7", "loopback", "https"]);
    let out = home.argument("out");
    let bad_spec = run(pagehaul(["export", "--out", &out, "--simulate=sede=1"]));
    assert_refused("bad simulator", &bad_spec, &["sede", "unknown, did you mean seed?", "seed, products"]);
    let no_out = run(pagehaul(["export", "--simulate"]));
    assert_refused("no directory", &no_out, &["--out"]);
    assert_eq!(simulator.account().requests, 0);
    assert!(!home.out().exists(), "bad settings leave no directory behind");
}

#[test]
fn a_command_line_that_cannot_be_parsed_is_refused_like_any_other_bad_input() {
    let home = Home::new(&["17".to_owned()]);
    let list = home.argument("list.txt");
    let table: [(&[&str], &str); 7] = [
        (&["--simulate", "prodcts=1"], "write --simulate=prodcts=1, without a space"),
        (&["--pagesize", "5"], "--pagesize"),
        (&["--qps"], "--qps"),
        (&["--qps", "5", "--qps", "6"], "--qps"),
        (&["--token", "sk_live_CANARY"], "--token"),
        (&["--token=sk_live_CANARY"], "--token"),
        (&["sk_live_CANARY"], "unexpected argument"),
    ];
    for (flags, word) in table {
        let mut command = home.bare_export("http://127.0.0.1:9", &["--products", &list]);
        command.args(flags);
        assert_refused(&flags.join(" "), &run(command), &[word]);
    }
}

#[test]
fn l9_an_output_that_cannot_be_written_is_refused_and_no_request_is_sent() {
    let Served { simulator, server, home, .. } = Served::start("products=2,max_videos=9");
    let below_a_file = home.file("file", b"") + "/out";
    let list = home.argument("list.txt");
    let export = |out: &str, more: &[&str]| {
        let mut command = pagehaul(["export", "--base-url", &server.base_url(), "--products", &list, "--out", out]);
        command.args(more).env("KEYAPI_TOKEN", KEY);
        run(command)
    };
    assert_refused("output below a file", &export(&below_a_file, &[]), &["file"]);
    let out = home.argument("out");
    assert_refused("state below a file", &export(&out, &["--state-dir", &below_a_file]), &["file"]);
    if cfg!(target_os = "linux") {
        assert_refused("output below /proc", &export("/proc/pagehaul/out", &[]), &["/proc"]);
    }
    assert_eq!(simulator.account().requests, 0);
}

#[test]
fn without_a_limit_a_real_host_is_not_even_connected_to() {
    let trap = TcpListener::bind("127.0.0.1:0").unwrap();
    trap.set_nonblocking(true).unwrap();
    let proxy = format!("http://{}", trap.local_addr().unwrap());
    let home = Home::new(&["17".to_owned()]);
    let (list, out) = (home.argument("list.txt"), home.argument("out"));
    for base_url in [None, Some("https://api.keyapi.ai"), Some("https://203.0.113.7")] {
        let mut command = pagehaul(["export", "--products", &list, "--out", &out]);
        command.args(base_url.map(|url| format!("--base-url={url}")));
        command.envs([("KEYAPI_TOKEN", KEY), ("HTTPS_PROXY", &proxy), ("ALL_PROXY", &proxy)]);
        assert_refused("no limit", &run(command), &["--qps", "plan"]);
    }
    assert!(trap.accept().is_err(), "something was sent");
}

#[test]
fn variables_that_are_not_ours_may_have_any_value() {
    let Served { server, home, .. } = Served::start("products=2,max_videos=9");
    let mut command = home.export(&server.base_url(), &[]);
    command.env("LESS_TERMCAP", OsStr::from_bytes(b"\xff\xfe")).env("PAGEHAUL_SERVICE_HOST", "10.0.0.1");
    run(command).ended(0);
}

#[test]
fn a_list_may_come_in_any_usual_form_and_duplicates_are_folded() {
    let Served { simulator, server, ids, .. } = Served::start("products=3,max_videos=1");
    let [a, b, c] = ids.as_slice() else { panic!("three ids") };
    let expected = expected(&simulator, &ids, 10);
    let forms = [
        ("duplicates", format!("{a}\n{b}\n{a}\n{c}\n{a}\n"), false, false),
        ("comments and blanks on standard input", format!("# head\n\n {a} # why\n\t{b}\n{c}"), false, true),
        ("made on Windows", format!("\u{feff}{a}\r\n{b}\r\n{c}\r\n"), false, false),
        ("CSV", format!("name,product_id\n\"x, y\",{a}\nz,{b}\n,{c}\nw,{a}\n"), true, false),
        (
            "Windows CSV on standard input",
            format!("\u{feff}product_id,name\r\n{a},x\r\n{b},y\r\n{c},z\r\n"),
            true,
            true,
        ),
    ];
    for (name, list, is_table, on_stdin) in forms {
        let home = Home::new(&[]);
        let mut command = home.bare_export(&server.base_url(), &[]);
        command.args(is_table.then_some("--product-column=product_id"));
        let path = home.file("list", list.as_bytes());
        let (path, input) = if on_stdin { ("-", list.as_bytes()) } else { (path.as_str(), &b""[..]) };
        command.args(["--products", path]);
        let run = run_with(command, input);
        let summary = run.ended(0);
        let products = &summary["products"];
        let repeats = list.matches(a).count() - 1;
        let counted = run.stderr.contains(&format!("(duplicates: {repeats})"));
        assert_eq!(counted, repeats > 0, "{name}: {run}");
        assert_eq!((&products["total"], &products["complete"]), (&3.into(), &3.into()), "{name}");
        assert_rows(&home.out(), &expected);
    }
}

#[test]
fn the_key_may_come_on_standard_input_or_from_a_private_file() {
    let Served { simulator, server, .. } = Served::start(&format!("products=1,max_videos=1,key={KEY}"));
    for line_end in ["", "\n", "\r\n"] {
        let content = format!("{KEY}{line_end}");
        for on_stdin in [false, true] {
            let home = Home::new(&ids(&simulator));
            let path = home.file("key", content.as_bytes());
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
            let (flags, input): (&[&str], _) =
                if on_stdin { (&["--token-stdin"], content.as_bytes()) } else { (&["--token-file", &path], &b""[..]) };
            let mut command = home.export(&server.base_url(), flags);
            command.env("KEYAPI_TOKEN", "wrong");
            run_with(command, input).ended(0);
        }
    }
    assert_eq!(simulator.account().unauthorized, 0);
}

#[test]
fn a_complete_export_has_every_row_and_the_same_command_again_sends_nothing() {
    let Served { simulator, server, ids, home } = Served::start("products=12,max_videos=45");
    let first = run(home.export(&server.base_url(), &[]));
    let summary = first.ended(0);
    let expected = expected(&simulator, &ids, 10);
    let (pages, count) = (fewest_requests(&simulator, &ids), expected.len());
    assert_rows(&home.out(), &expected);
    assert_eq!((&summary["status"], &summary["cause"]), (&"complete".into(), &serde_json::Value::Null));
    assert_eq!((&summary["rows"]["published"], &summary["rows"]["waiting"]), (&count.into(), &0.into()));
    assert_eq!((&summary["credits"]["billed"], &summary["run"]["requests"]), (&pages.into(), &pages.into()));
    assert_eq!((simulator.account().requests, simulator.account().pages), (pages, pages));
    let written = std::fs::read_to_string(home.out().join("_pagehaul/summary.json")).unwrap();
    assert_eq!(written, first.stdout, "standard output is the summary, which is also a file");
    assert!(home.out().join("_SUCCESS").exists());

    let names = |home: &Home| files(&home.out()).into_iter().filter(|path| !path.ends_with("lock")).collect::<Vec<_>>();
    let before = names(&home);
    let again = run(home.export(&server.base_url(), &[])).ended(0);
    assert!(again["complete_since"].is_string(), "{again}");
    assert_eq!((&again["run"]["requests"], &again["rows"]), (&0.into(), &summary["rows"]));
    assert_eq!(simulator.account().requests, pages);
    assert_eq!(names(&home), before);
    assert_rows(&home.out(), &expected);
}

#[test]
fn a_longer_list_continues_with_a_complete_export_whose_mark_is_gone_until_it_is_complete_again() {
    let Served { simulator, server, ids, .. } = Served::start("products=6,max_videos=25");
    let home = Home::new(&ids[..3]);
    run(home.export(&server.base_url(), &[])).ended(0);
    home.file("list.txt", ids.join("\n").as_bytes());
    let paid = simulator.account().pages;
    run(home.export(&server.base_url(), &["--max-credits", &(paid + 1).to_string()])).ended(6);
    assert!(!home.out().join("_SUCCESS").exists(), "readers of a glob must not take it for complete");
    run(home.export(&server.base_url(), &[])).ended(0);
    assert!(home.out().join("_SUCCESS").exists());
    assert_rows(&home.out(), &expected(&simulator, &ids, 10));
    assert_no_page_billed_twice(&[&simulator]);
}

#[test]
fn a_run_that_continues_says_what_is_there_and_that_a_shorter_list_takes_nothing_out() {
    let Served { simulator, server, ids, home } = Served::start("products=6,max_videos=25");
    let first = run(home.export(&server.base_url(), &["--max-credits", "2"]));
    let paid = first.ended(6)["pages"]["journaled"].clone();
    assert!(!first.stderr.contains("resuming") && !first.stderr.contains("earlier lists"), "{first}");
    home.file("list.txt", ids[0].as_bytes());
    let second = run(home.export(&server.base_url(), &[]));
    second.ended(0);
    assert!(second.stderr.contains("1 id listed, 0 new, 0 to retry; 5 from earlier lists"), "{second}");
    assert!(
        second.stderr.contains(" of 6 products done, ") && second.stderr.contains(&format!("{paid} pages paid")),
        "{second}"
    );
    assert_rows(&home.out(), &expected(&simulator, &ids, 10));
}

#[test]
fn products_that_fail_are_named_up_to_a_number_and_then_counted() {
    let api = Api::start(|request| {
        if request.product.ends_with('9') { Answer::refusal(400, "no such product") } else { Answer::page(&[]) }
    });
    let ids: Vec<String> = (1_000..1_300).map(|id| id.to_string()).collect();
    let home = Home::new(&ids);
    let run = run(home.export(&api.base_url(), &["--allow-empty"]));
    assert_eq!(run.ended(3)["products"]["failed"], 30);
    let named = run.stderr.lines().filter(|line| line.contains("WARN") && line.contains("no such product"));
    assert_eq!(named.clone().count(), 20, "{run}");
    assert!(named.clone().all(|line| line.contains(" failed: HTTP 400")), "{run}");
    assert_eq!(run.stderr.matches("products.parquet lists them all").count(), 1, "{run}");
}

#[test]
fn the_embedded_api_needs_neither_key_nor_list_nor_limit_and_its_seed_is_part_of_the_export() {
    let simulator = simulator("products=5,max_videos=12,seed=9");
    let home = Home::new(&[]);
    let export = |seed: u8| {
        let spec = format!("--simulate=products=5,max_videos=12,seed={seed},qps=500");
        run(pagehaul(["export", "--out", &home.argument("out"), &spec]))
    };
    export(9).ended(0);
    let again = export(9).ended(0);
    assert!(again["complete_since"].is_string() && again["run"]["requests"] == 0, "{again}");
    let other = export(8).ended(9);
    assert!(other["cause"].as_str().unwrap().contains("seed=9"), "{other}");
    assert_rows(&home.out(), &expected(&simulator, &ids(&simulator), 10));
}

#[test]
fn a_refused_product_is_its_own_failure_and_is_requested_again_only_on_request() {
    let simulator = simulator("products=9,max_videos=35");
    let ids = ids(&simulator);
    let refused = ids[4].clone();
    let healed = Arc::new(AtomicBool::new(false));
    let api = Api::but(&simulator, {
        let (refused, healed) = (refused.clone(), Arc::clone(&healed));
        move |request| {
            let is_refused = request.product == refused && !healed.load(Ordering::Relaxed);
            is_refused.then(|| Answer::refusal(400, "no such product"))
        }
    });
    let home = Home::new(&ids);
    let others: Vec<String> = ids.iter().filter(|id| **id != refused).cloned().collect();
    let summary = run(home.export(&api.base_url(), &[])).ended(3);
    assert_eq!((&summary["products"]["complete"], &summary["products"]["failed"]), (&8.into(), &1.into()));
    let failure = &summary["failures"][0];
    assert_eq!((&failure["product"], &failure["stop_reason"]), (&refused.as_str().into(), &"failed".into()));
    assert!(failure["error"].as_str().unwrap().contains("HTTP 400, code 400: no such product"), "{failure}");
    assert_rows(&home.out(), &expected(&simulator, &others, 10));
    assert!(!home.out().join("_SUCCESS").exists());

    let sent = api.requests();
    let summary = run(home.export(&api.base_url(), &[])).ended(3);
    assert_eq!((&summary["run"]["requests"], api.requests()), (&0.into(), sent));

    let summary = run(home.export(&api.base_url(), &["--retry-failed"])).ended(3);
    assert_eq!((&summary["run"]["requests"], api.requests()), (&1.into(), sent + 1));

    healed.store(true, Ordering::Relaxed);
    run(home.export(&api.base_url(), &["--retry-failed"])).ended(0);
    assert_rows(&home.out(), &expected(&simulator, &ids, 10));
    assert!(home.out().join("_SUCCESS").exists());
    assert_no_page_billed_twice(&[&simulator]);
}

#[test]
fn a_run_that_sends_nothing_publishes_no_segment() {
    let api = Api::start(|_| Answer::refusal(400, "no such product"));
    let home = Home::new(&["17".to_owned()]);
    let mut published = Vec::new();
    for _ in 0..2 {
        run(home.export(&api.base_url(), &[])).ended(3);
        published.push(manifests(&home.out()).len());
    }
    assert_eq!((api.requests(), published[1]), (1, published[0]));
}

#[test]
fn a_key_that_is_not_accepted_ends_with_7_and_nothing_is_lost_or_billed() {
    let Served { simulator, server, ids, home } = Served::start(&format!("products=4,max_videos=25,key={KEY}"));
    let mut wrong = home.export(&server.base_url(), &[]);
    wrong.env("KEYAPI_TOKEN", "sk_live_WRONG");
    let summary = run(wrong).ended(7);
    assert!(summary["cause"].as_str().unwrap().contains("apiKey is null"), "{summary}");
    assert_eq!((&summary["credits"]["billed"], &summary["credits"]["in_doubt"]), (&0.into(), &0.into()));
    run(home.export(&server.base_url(), &[])).ended(0);
    assert_rows(&home.out(), &expected(&simulator, &ids, 10));
    assert_no_page_billed_twice(&[&simulator]);
}

#[test]
fn a_key_that_is_revoked_half_way_keeps_what_was_paid_and_another_one_continues() {
    let simulator = simulator("products=10,max_videos=60");
    let ids = ids(&simulator);
    let accepted = AtomicUsize::new(15);
    let api = Api::but(&simulator, move |request| {
        let is_old = request.authorization == "Bearer sk_live_OLD";
        let one_less = |left: usize| left.checked_sub(1);
        let is_revoked = is_old && accepted.fetch_update(Ordering::Relaxed, Ordering::Relaxed, one_less).is_err();
        is_revoked.then(|| Answer::refusal(401, "apiKey is null"))
    });
    let home = Home::new(&ids);
    let mut old = home.export(&api.base_url(), &[]);
    old.env("KEYAPI_TOKEN", "sk_live_OLD");
    let summary = run(old).ended(7);
    assert_eq!((&summary["pages"]["journaled"], &summary["rows"]["waiting"]), (&15.into(), &0.into()));
    assert_eq!(summary["rows"]["published"], rows(&home.out()).len());
    assert!(!rows(&home.out()).is_empty());
    run(home.export(&api.base_url(), &[])).ended(0);
    assert_rows(&home.out(), &expected(&simulator, &ids, 10));
    assert_no_page_billed_twice(&[&simulator]);
}

#[test]
fn credits_that_are_used_up_end_with_7_and_after_a_top_up_the_rest_is_read() {
    let poor = simulator("products=10,max_videos=60,credits=17");
    let rich = simulator("products=10,max_videos=60");
    let ids = ids(&poor);
    let home = Home::new(&ids);
    let server = simulator::start(Arc::clone(&poor)).unwrap();
    let summary = run(home.export(&server.base_url(), &[])).ended(7);
    assert!(summary["cause"].as_str().unwrap().contains("quota is not enough"), "{summary}");
    assert_eq!((&summary["credits"]["billed"], &summary["rows"]["waiting"]), (&17.into(), &0.into()));
    assert_eq!(summary["rows"]["published"], rows(&home.out()).len());
    assert!(!rows(&home.out()).is_empty());
    drop(server);
    let server = simulator::start(Arc::clone(&rich)).unwrap();
    run(home.export(&server.base_url(), &[])).ended(0);
    assert_rows(&home.out(), &expected(&rich, &ids, 10));
    assert_no_page_billed_twice(&[&poor, &rich]);
}

#[test]
fn a_credit_limit_is_kept_to_the_credit_and_raising_it_continues() {
    let Served { simulator, server, ids, home } = Served::start("products=10,max_videos=60");
    let all = fewest_requests(&simulator, &ids);
    for limit in [11, all - 1] {
        let summary = run(home.export(&server.base_url(), &["--max-credits", &limit.to_string()])).ended(6);
        assert_eq!((&summary["credits"]["billed"], &summary["credits"]["max"]), (&limit.into(), &limit.into()));
        assert_eq!(simulator.account().requests, limit, "the limit counts all runs together");
        assert_eq!(summary["rows"]["published"], rows(&home.out()).len());
    }
    run(home.export(&server.base_url(), &["--max-credits", &all.to_string()])).ended(0);
    assert_eq!(simulator.account().requests, all);
    assert_rows(&home.out(), &expected(&simulator, &ids, 10));
    assert_no_page_billed_twice(&[&simulator]);
}

#[test]
fn an_api_that_fails_for_too_long_ends_with_5_and_the_same_command_resumes() {
    let (broken, sound) = (simulator("products=5,max_videos=25,errors=1"), simulator("products=5,max_videos=25"));
    let ids = ids(&broken);
    let home = Home::new(&ids);
    let server = simulator::start(Arc::clone(&broken)).unwrap();
    let summary = run(home.export(&server.base_url(), &IMPATIENT)).ended(5);
    assert!(summary["cause"].as_str().unwrap().contains("Internal server error"), "{summary}");
    assert!(broken.account().requests > 5, "every product was tried again");
    assert_eq!((&summary["credits"]["billed"], &summary["products"]["open"]), (&0.into(), &5.into()));
    assert_eq!(summary["credits"]["in_doubt"], 0, "{summary}");
    drop(server);
    // Bound and never listening: nobody answers, no other test is given the port, and, unlike the port of a connected
    // client, it is never picked as the source of a connection to itself.
    let unused_port = tokio::net::TcpSocket::new_v4().unwrap();
    unused_port.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let nobody = format!("http://{}", unused_port.local_addr().unwrap());
    let summary = run(home.export(&nobody, &IMPATIENT)).ended(5);
    assert!(summary["cause"].as_str().unwrap().contains("cannot connect to the API"), "{summary}");
    assert_eq!(summary["credits"]["in_doubt"], 0, "{summary}");
    let server = simulator::start(Arc::clone(&sound)).unwrap();
    run(home.export(&server.base_url(), &IMPATIENT)).ended(0);
    assert_rows(&home.out(), &expected(&sound, &ids, 10));
}

#[test]
fn other_settings_than_the_export_s_end_with_9_and_are_listed() {
    let Served { simulator, server, ids, home } = Served::start("products=3,max_videos=25");
    run(home.export(&server.base_url(), &[])).ended(0);
    let sent = simulator.account().requests;
    let other = run(home.export(&server.base_url(), &["--page-size", "5", "--sort", "create_time:desc"]));
    let json = other.ended(9);
    for difference in ["page_size was 10, now 5", "sort was none, now create_time:desc"] {
        assert!(json["cause"].as_str().unwrap().contains(difference), "{other}");
        assert!(other.stderr.starts_with("error: ") && other.stderr.contains(difference), "{other}");
    }
    run(home.export(&server.base_url(), &[])).ended(0);
    assert_eq!(simulator.account().requests, sent);
    assert_rows(&home.out(), &expected(&simulator, &ids, 10));
}

#[test]
fn l14_an_output_whose_ledger_is_gone_ends_with_9_and_stays_as_it_is() {
    let Served { simulator, server, ids, home } = Served::start("products=3,max_videos=25");
    run(home.export(&server.base_url(), &[])).ended(0);
    let sent = simulator.account().requests;
    let ledger = files(&home.out()).into_iter().filter(|path| path.to_string_lossy().contains("ledger.sqlite"));
    ledger.for_each(|path| std::fs::remove_file(path).unwrap());
    for _ in 0..2 {
        let gone = run(home.export(&server.base_url(), &[]));
        let json = gone.ended(9);
        assert!(json["cause"].as_str().unwrap().contains("its ledger is not in"), "{gone}");
    }
    assert_eq!(simulator.account().requests, sent);
    assert!(home.out().join("_SUCCESS").exists());
    assert_rows(&home.out(), &expected(&simulator, &ids, 10));
}

#[test]
fn answers_that_are_no_envelopes_end_with_10_and_cost_twenty_requests_however_long_the_list_is() {
    let api = Api::start(|_| Answer::new(200, "<html><body>Our service is being improved.</body></html>"));
    let ids: Vec<String> = (100..125).map(|id| id.to_string()).collect();
    let home = Home::new(&ids);
    let summary = run(home.export(&api.base_url(), &["--retry-base-delay", "10ms"])).ended(10);
    let requested = api.requested();
    assert!(api.requests() <= 21 && requested.values().all(|times| *times <= 2), "{requested:?}");
    assert_eq!((&summary["credits"]["in_doubt"], &summary["credits"]["billed"]), (&api.requests().into(), &0.into()));
    assert_eq!((&summary["products"]["failed"], &summary["products"]["open"]), (&0.into(), &25.into()));
}

#[test]
fn pages_capped_below_the_size_that_was_requested_are_found_out_and_read_on_with_one_warning() {
    let simulator = simulator("products=60,max_videos=14");
    let ids: Vec<String> = ids(&simulator).into_iter().filter(|id| simulator.videos(id) > 3).take(25).collect();
    assert_eq!(ids.len(), 25);
    let api = Api::start({
        let simulator = Arc::clone(&simulator);
        move |request| {
            let first = u64::from(request.page - 1) * 3;
            let rows = (first..first + 3).filter_map(|position| simulator.row(&request.product, None, position));
            Answer::page(&rows.collect::<Vec<_>>())
        }
    });
    let home = Home::new(&ids);
    let run = run(home.export(&api.base_url(), &["--end", "auto"]));
    run.ended(0);
    assert_eq!(run.stderr.matches("the API returns at most 3 rows a page").count(), 1, "{run}");
    assert_rows(&home.out(), &expected(&simulator, &ids, 3));
    assert!(api.requested().values().all(|times| *times == 1), "{:?}", api.requested());
}

#[test]
fn l10_a_second_process_on_the_same_directory_ends_with_4_and_the_first_continues() {
    let simulator = simulator("products=3,max_videos=25");
    let ids = ids(&simulator);
    let (api, gate, waiting) = Api::gated(&simulator, 0);
    let home = Home::new(&ids);
    let first = Program::start(home.export(&api.base_url(), &[]));
    waiting.recv_timeout(DEADLINE).unwrap();
    for command in [home.export(&api.base_url(), &[]), pagehaul(["replay", "--out", &home.argument("out")])] {
        let second = run(command);
        let json = second.ended(4);
        assert!(json["cause"].as_str().unwrap().contains("another process works on this export"), "{second}");
    }
    assert!(api.requests() <= ids.len(), "only the first process sent requests, one for each product");
    gate.open();
    first.end().ended(0);
    assert_rows(&home.out(), &expected(&simulator, &ids, 10));
    assert_no_page_billed_twice(&[&simulator]);
}

/// An API whose answers stop at a gate after the first ones, an export of it that has run into the gate, and its directory.
struct HalfWay {
    simulator: Arc<simulator::Simulator>,
    ids: Vec<String>,
    api: Api,
    gate: Arc<Gate>,
    waiting: Receiver<()>,
    home: Home,
}

impl HalfWay {
    /// `billed_first`: what waits at the gate was billed before, so that a client that dies has lost it.
    fn made(billed_first: bool) -> Self {
        let simulator = simulator("products=40,max_videos=90,seed=3");
        let ids = ids(&simulator);
        let (gate, waiting) = Gate::new(30);
        let api = Api::start({
            let (simulator, gate) = (Arc::clone(&simulator), Arc::clone(&gate));
            move |request| {
                let billed = billed_first.then(|| Answer::from_simulator(&simulator, request));
                gate.pass();
                billed.unwrap_or_else(|| Answer::from_simulator(&simulator, request))
            }
        });
        assert!(fewest_requests(&simulator, &ids) > 60, "there is something left to do behind the gate");
        let home = Home::new(&ids);
        Self { simulator, ids, api, gate, waiting, home }
    }

    fn start(billed_first: bool) -> (Self, Program) {
        let half_way = Self::made(billed_first);
        let program = half_way.run_into_the_gate(half_way.export());
        (half_way, program)
    }

    fn export(&self) -> Command {
        self.home.export(&self.api.base_url(), &["--max-in-flight", "6"])
    }

    fn run_into_the_gate(&self, command: Command) -> Program {
        let program = Program::start(command);
        assert!(self.waiting.recv_timeout(DEADLINE).is_ok(), "the export runs into the gate");
        program
    }

    /// Sends a signal, lets the answers in flight come, and gives the summary.
    fn interrupt(&self, mut program: Program, signal: &str, code: i32) -> serde_json::Value {
        program.signal(signal);
        program.wait_for_line("stopping");
        self.gate.open();
        program.end().ended(code)
    }

    /// The same command again completes with exactly the rows of an uninterrupted run.
    fn resume(&self) -> serde_json::Value {
        let summary = run(self.export()).ended(0);
        assert_rows(&self.home.out(), &expected(&self.simulator, &self.ids, 10));
        assert_eq!(summary["rows"]["waiting"], 0);
        summary
    }
}

#[test]
fn sigint_stops_cleanly_and_the_same_command_continues_without_paying_twice() {
    stop_and_resume("INT", 130);
}

#[test]
fn sigterm_stops_cleanly_and_the_same_command_continues_without_paying_twice() {
    stop_and_resume("TERM", 143);
}

fn stop_and_resume(signal: &str, code: i32) {
    let (half_way, program) = HalfWay::start(false);
    let summary = half_way.interrupt(program, signal, code);
    let (waiting, published) = (&summary["rows"]["waiting"], &summary["rows"]["published"]);
    assert!(waiting.as_u64().unwrap() > 0 && *published == 0, "{summary}");
    assert_eq!((&summary["credits"]["in_doubt"], &summary["rows"]["received"]), (&0.into(), waiting));
    assert!(!half_way.home.out().join("_SUCCESS").exists());
    half_way.resume();
    assert_no_page_billed_twice(&[&half_way.simulator]);
}

#[test]
fn replay_publishes_what_a_signal_left_in_the_journal_without_a_request() {
    let (half_way, program) = HalfWay::start(false);
    let waiting = half_way.interrupt(program, "TERM", 143)["rows"]["waiting"].clone();
    let sent = half_way.api.requests();
    let out = half_way.home.argument("out");
    for _ in 0..2 {
        let summary = run(pagehaul(["replay", "--out", &out])).ended(3);
        assert_eq!((&summary["rows"]["published"], &summary["rows"]["waiting"]), (&waiting, &0.into()));
        assert_eq!(rows(&half_way.home.out()).len(), waiting);
    }
    assert_eq!(half_way.api.requests(), sent);
    half_way.resume();
    assert_no_page_billed_twice(&[&half_way.simulator]);
}

#[test]
fn replay_of_a_directory_without_an_export_is_refused_and_leaves_it_alone() {
    let home = Home::new(&[]);
    std::fs::create_dir(home.out()).unwrap();
    assert_refused("no export", &run(pagehaul(["replay", "--out", &home.argument("out")])), &["no export"]);
    assert_refused("no directory", &run(pagehaul(["replay"])), &["--out"]);
    assert_eq!(files(&home.out()).len(), 0);
}

#[test]
fn l3_a_second_signal_ends_at_once_and_costs_at_most_what_was_in_flight() {
    let (half_way, mut program) = HalfWay::start(true);
    program.signal("INT");
    program.wait_for_line("stopping");
    // Another signal: the same one right after the first may have been sent to the process and to its group.
    program.signal("TERM");
    let run = program.end();
    run.ended(143);
    assert!(run.stderr.contains("kept: 30 pages in the journal; 30 credits known to be spent"), "{run}");
    half_way.gate.open();
    half_way.resume();
    assert_paid_twice_at_most(&half_way, 6);
}

/// Another command with the variables of this one.
fn like(mut other: Command, command: &Command) -> Command {
    for (name, value) in command.get_envs() {
        match value {
            Some(value) => other.env(name, value),
            None => other.env_remove(name),
        };
    }
    other
}

/// The same command, behind what a shell does first.
fn behind(first: &str, command: &Command) -> Command {
    let mut shell = Command::new("sh");
    shell.args(["-c", &format!("{first}; exec \"$0\" \"$@\"")]).arg(command.get_program()).args(command.get_args());
    like(shell, command)
}

/// The same command, started with a signal ignored, as `nohup` and a shell's `&` in a script do.
fn ignoring(signal: &str, command: &Command) -> Command {
    behind(&format!("trap '' {signal}"), command)
}

#[cfg(target_os = "linux")]
#[test]
fn under_nohup_a_hangup_does_not_end_a_run() {
    let half_way = HalfWay::made(false);
    let program = half_way.run_into_the_gate(ignoring("HUP", &half_way.export()));
    program.signal("HUP");
    half_way.gate.open();
    program.end().ended(0);
    half_way.resume();
}

#[cfg(target_os = "linux")]
#[test]
fn a_script_s_background_run_is_stopped_by_sigint_though_its_shell_ignored_it() {
    let half_way = HalfWay::made(false);
    let program = half_way.run_into_the_gate(ignoring("INT", &half_way.export()));
    half_way.interrupt(program, "INT", 130);
    half_way.resume();
}

/// A pipe with a name, and a thread that waits until somebody opens it to read.
fn pipe_at(path: &std::path::Path) -> Receiver<std::fs::File> {
    assert!(Command::new("mkfifo").args(["-m", "600"]).arg(path).status().unwrap().success());
    let (sender, opened) = channel();
    let path = path.to_owned();
    std::thread::spawn(move || sender.send(std::fs::OpenOptions::new().write(true).open(path).unwrap()).ok());
    opened
}

#[test]
fn a_run_that_waits_for_its_key_is_ended_by_a_signal_also_where_its_shell_ignored_it() {
    let home = Home::new(&["17".to_owned()]);
    for (signal, is_ignored, code) in
        [("INT", false, 130), ("INT", true, 130), ("TERM", false, 143), ("TERM", true, 143)]
    {
        let path = home.path(signal);
        let opened = pipe_at(&path);
        let mut command = home.export("http://127.0.0.1:9", &["--token-file", path.to_str().unwrap()]);
        command.env_remove("KEYAPI_TOKEN");
        let program = Program::start(if is_ignored { ignoring(signal, &command) } else { command });
        let _writing = opened.recv_timeout(DEADLINE).unwrap();
        program.signal(signal);
        program.end().ended(code);
        std::fs::remove_file(&path).unwrap(); // a pipe has no end to read to
    }
}

#[cfg(target_os = "linux")]
#[test]
fn a_run_that_waits_for_its_key_on_standard_input_is_ended_by_a_sigint_that_its_shell_ignored() {
    let home = Home::new(&["17".to_owned()]);
    let mut command = ignoring("INT", &home.export("http://127.0.0.1:9", &["--token-stdin"]));
    command.env_remove("KEYAPI_TOKEN").stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
    let mut child = command.spawn().unwrap();
    let _open = child.stdin.take();
    let (id, (sender, ended)) = (child.id().to_string(), channel());
    std::thread::spawn(move || sender.send(child.wait_with_output().unwrap()));
    // A shell that has not come to its trap would end by it.
    while !std::fs::read_link(format!("/proc/{id}/exe")).is_ok_and(|program| program.ends_with("pagehaul")) {}
    // It may not listen yet: an ignored signal is gone, so it is sent until it is heard.
    let output = std::iter::repeat_with(|| {
        Command::new("sh").args(["-c", "kill -s INT \"$0\"", &id]).stderr(Stdio::null()).status().unwrap();
        ended.recv_timeout(std::time::Duration::from_millis(20)).ok()
    });
    let output = output.take(3_000).flatten().next().expect("the signal ends it");
    assert_eq!(output.status.code(), Some(130), "{output:?}");
}

/// Modes of the files and directories of an output, by their path in it.
fn modes(out: &std::path::Path) -> BTreeMap<String, u32> {
    let (mut directories, mut modes) = (vec![out.to_owned()], BTreeMap::new());
    while let Some(path) = directories.pop() {
        let mode = std::fs::metadata(&path).unwrap().permissions().mode() & 0o777;
        modes.insert(path.strip_prefix(out).unwrap().to_str().unwrap().to_owned(), mode);
        if path.is_dir() {
            directories.extend(std::fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path()));
        }
    }
    modes
}

#[test]
fn output_follows_the_umask_and_state_and_rejects_are_their_owner_s_alone() {
    let row = |id: &str, rest: &str| format!(r#"{{"video_id":{id},"product_id":"17"{rest}}}"#);
    let api = Api::start(move |_| Answer::page(&[row("\"1\"", r#","region":"ID""#), row("null", "")]));
    for (umask, file, directory) in [("022", 0o644, 0o755), ("077", 0o600, 0o700), ("027", 0o640, 0o750)] {
        let home = Home::new(&["17".to_owned()]);
        run(behind(&format!("umask {umask}"), &home.export(&api.base_url(), &[]))).ended(0);
        let modes = modes(&home.out());
        for (path, mode) in &modes {
            let is_directory = home.out().join(path).is_dir();
            let is_private =
                ["_pagehaul/journal", "_pagehaul/staging", "_pagehaul/ledger", "_pagehaul/lock", "_rejects"]
                    .iter()
                    .any(|private| path.starts_with(private));
            let wanted = match (is_private, is_directory) {
                (true, true) => 0o700,
                (true, false) => 0o600,
                (false, true) => directory,
                (false, false) => file,
            };
            assert_eq!(*mode, wanted, "umask {umask}: {path} is {mode:o}");
        }
        for path in ["region=ID", "_SUCCESS", "_pagehaul/segments/000001.json", "_pagehaul/products.parquet"] {
            assert!(modes.contains_key(path), "{path} is not there: {modes:?}");
        }
        for path in ["_pagehaul/summary.json", "_pagehaul/ledger.sqlite", "_pagehaul/journal/000001.zst", "_rejects"] {
            assert!(modes.contains_key(path), "{path} is not there: {modes:?}");
        }
    }
}

#[test]
fn what_sqlite_keeps_beside_the_ledger_is_private_too() {
    let half_way = HalfWay::made(true);
    let program = half_way.run_into_the_gate(behind("umask 000", &half_way.export()));
    program.kill();
    let modes = modes(&half_way.home.out());
    for file in ["ledger.sqlite", "ledger.sqlite-wal", "ledger.sqlite-shm"] {
        assert_eq!(modes[&format!("_pagehaul/{file}")], 0o600, "{file}");
    }
    half_way.gate.open();
}

/// What a command shows on a terminal, standard output and standard error together; none where none can be made.
#[cfg(target_os = "linux")]
fn on_a_terminal(command: &Command) -> Option<String> {
    let quoted = |text: &OsStr| format!("'{}'", text.to_str().unwrap());
    let line: Vec<String> = std::iter::once(command.get_program()).chain(command.get_args()).map(quoted).collect();
    let mut script = Command::new("script");
    script.args(["-qec", &line.join(" "), "/dev/null"]).stdin(Stdio::null());
    let shown = like(script, command).output().ok();
    shown.map(|output| String::from_utf8_lossy(&output.stdout).into_owned())
}

#[cfg(target_os = "linux")]
#[test]
fn the_result_is_printed_as_json_into_a_pipe_always_and_on_a_terminal_where_it_is_requested() {
    let Served { server, home, .. } = Served::start("products=2,max_videos=5");
    let out = home.argument("out");
    let command = |name: &str, more: &[&str]| match name {
        "export" => home.export(&server.base_url(), more),
        "an export that is refused" => home.export(&server.base_url(), &[&["--page-size", "0"], more].concat()),
        name => pagehaul([&[name, "--out", &out], more].concat()),
    };
    let commands = [
        ("export", "complete"),
        ("replay", "complete"),
        ("verify", "verified"),
        ("an export that is refused", "error: "),
    ];
    for (name, word) in commands {
        let command = |more: &[&str]| command(name, more);
        let is_object = |text: &str| text.lines().any(|line| line.trim_start().starts_with("{\""));
        assert!(is_object(&run(command(&[])).stdout), "{word}: a pipe gets it");
        assert!(is_object(&run(command(&["--json"])).stdout), "{word}: a pipe gets it");
        let Some(shown) = on_a_terminal(&command(&[])) else { return };
        assert!(!is_object(&shown) && shown.contains(word), "{word}: {shown}");
        let shown = on_a_terminal(&command(&["--json"])).unwrap_or_default();
        assert!(is_object(&shown) && shown.contains(word), "{word}: {shown}");
    }
}

#[test]
fn a_signal_while_earlier_work_is_taken_up_ends_an_export_and_a_replay_at_once_and_nothing_is_lost() {
    let (half_way, program) = HalfWay::start(false);
    half_way.interrupt(program, "TERM", 143);
    let out = half_way.home.argument("out");
    let journal = files(&half_way.home.out().join("_pagehaul/journal")).remove(0);
    let suspended = half_way.home.path("aside");
    std::fs::rename(&journal, &suspended).unwrap();
    let commands = [
        (half_way.export(), "INT", 130),
        (pagehaul(["replay", "--out", &out]), "INT", 130),
        (half_way.export(), "TERM", 143),
    ];
    for (command, signal, code) in commands {
        let opened = pipe_at(&journal);
        let program = Program::start(command);
        let _writing = opened.recv_timeout(DEADLINE).unwrap();
        program.signal(signal);
        let json = program.end().ended(code);
        assert_eq!(json["cause"], "stopped at once by a signal");
        assert!(json["next"].as_str().unwrap().starts_with("run the same command again"), "{json}");
        std::fs::remove_file(&journal).unwrap();
    }
    std::fs::rename(&suspended, &journal).unwrap();
    half_way.resume();
    assert_no_page_billed_twice(&[&half_way.simulator]);
}

#[test]
fn a_kill_costs_at_most_what_was_in_flight_and_no_row_is_lost_or_doubled() {
    let (half_way, program) = HalfWay::start(true);
    program.kill();
    assert!(rows(&half_way.home.out()).is_empty() && !half_way.home.out().join("_SUCCESS").exists());
    half_way.gate.open();
    let summary = half_way.resume();
    let twice = assert_paid_twice_at_most(&half_way, 6);
    assert!(twice > 0, "the responses at the gate are lost");
    let in_doubt = summary["credits"]["in_doubt"].as_u64().unwrap();
    assert!((u64::from(twice)..=6).contains(&in_doubt), "{twice} pages were billed twice: {summary}");
}

/// Fails if more than so many credits were spent on pages that had been billed before; gives how many.
fn assert_paid_twice_at_most(half_way: &HalfWay, most: u32) -> u32 {
    let twice = billed(&[&half_way.simulator]).values().map(|times| times - 1).sum();
    assert!(twice <= most, "{twice} credits were spent twice");
    twice
}

#[test]
fn config_show_says_where_each_value_came_from() {
    let home = Home::new(&[]);
    let config = home.file("c.toml", b"page_size = 7\nqps = 3\nout = \"of the file\"\n");
    let mut command = pagehaul(["config", "show", "--config", &config, "--out", "of the flag"]);
    command.env("PAGEHAUL_QPS", "4").env("PAGEHAUL_OUT", "of the environment").env("KEYAPI_TOKEN", KEY);
    let shown = run(command);
    assert_eq!((shown.code, shown.stderr.as_str()), (Some(0), ""));
    let lines: BTreeMap<&str, (&str, &str)> = shown
        .stdout
        .lines()
        .map(|line| {
            let (key, rest) = line.split_once(" = ").unwrap();
            let (value, origin) = rest.rsplit_once(" # ").unwrap();
            (key, (value.trim(), origin))
        })
        .collect();
    assert_eq!(lines["out"], ("\"of the flag\"", "flag"));
    assert_eq!(lines["qps"], ("\"4\"", "environment"));
    assert_eq!(lines["page_size"], ("\"7\"", config.as_str()));
    assert_eq!(lines["retry_attempts"], ("\"8\"", "built-in"));
    let known: Vec<&str> = pagehaul::settings::SETTINGS.iter().map(|setting| setting.key).collect();
    assert!(known.iter().all(|key| lines.contains_key(key)) && lines.len() == known.len());
    assert!(!shown.stdout.contains("CANARY"));
}

#[test]
fn config_show_shows_a_value_that_is_not_valid_and_ends_with_2() {
    let show = |flags: &[&str]| run(pagehaul(["config", "show"].iter().chain(flags)));
    assert_eq!(show(&["--qps", "3"]).code, Some(0), "what is only missing is no error");
    for (flags, words) in [
        (&["--page-size", "11"][..], "page_size = 11 (flag)"),
        (&["--out", "x", "--sort", "nonsense"], "sort = nonsense (flag)"),
        (&["--simulate=sede=1"], "did you mean seed?"),
    ] {
        let shown = show(flags);
        assert_eq!((shown.code, shown.stderr.lines().count()), (Some(2), 2), "{shown}");
        assert!(shown.stderr.starts_with("error: ") && shown.stderr.contains(words), "{shown}");
        assert_eq!(shown.stdout.lines().count(), pagehaul::settings::SETTINGS.len(), "{shown}");
    }
}

#[test]
fn with_json_lines_everything_on_standard_error_is_json() {
    let Served { server, home, .. } = Served::start(&format!("products=4,max_videos=25,key={KEY}"));
    let config = home.file("c.toml", b"log_format = \"json\"\npage_size = 11\n");
    let json = ["--log-format", "json"];
    let mut unaccepted = home.export(&server.base_url(), &json);
    unaccepted.env("KEYAPI_TOKEN", "sk_live_another");
    let mut by_variable = home.export(&server.base_url(), &["--nonsense"]);
    by_variable.env("PAGEHAUL_LOG_FORMAT", "json");
    let out = home.argument("out");
    let commands = [
        (unaccepted, 7),
        (home.export(&server.base_url(), &json), 0),
        (pagehaul(["replay", "--out", &out, "--log-format=json"]), 0),
        (home.export(&server.base_url(), &["--log-format=json", "--qps", "0"]), 2),
        (home.export(&server.base_url(), &["--config", &config]), 2),
        (by_variable, 2),
    ];
    for (command, code) in commands {
        let run = run(command);
        run.ended(code);
        for line in run.stderr.lines() {
            let line: serde_json::Value = serde_json::from_str(line).unwrap_or_else(|_| panic!("no JSON: {run}"));
            assert!(line["fields"]["message"].is_string() && line["timestamp"].is_string(), "{run}");
        }
        assert!(code == 0 || run.stderr.contains("\"ERROR\"") || run.stderr.contains("stopping"), "{run}");
    }
}

#[test]
fn a_json_line_of_progress_has_its_counters_as_fields() {
    let home = Home::new(&[]);
    let out = home.argument("out");
    let flags = ["--out", &out, "--log-format=json", "--heartbeat=20ms"];
    let run = run(pagehaul(["export", "--simulate=products=10,max_videos=20,qps=20"].iter().chain(&flags)));
    run.ended(0);
    let lines = run.stderr.lines().map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap());
    let lines: Vec<serde_json::Value> = lines.map(|mut line| line["fields"].take()).collect();
    let last = lines.iter().rfind(|fields| fields["products_done"].is_u64()).expect("a line of progress");
    let totals: serde_json::Value = serde_json::from_str(&run.stdout).unwrap();
    assert_eq!(last["products"], 10, "{run}");
    for (counter, total) in [("pages", "/pages/journaled"), ("rows", "/rows/received"), ("credits", "/credits/billed")]
    {
        let (counted, total) = (last[counter].as_u64().unwrap(), totals.pointer(total).unwrap().as_u64().unwrap());
        assert!(0 < counted && counted <= total, "{counter}: {run}");
    }
    assert!(
        last["seconds"].as_f64().unwrap() > 0.0 && last["message"].as_str().unwrap().contains("/10 products"),
        "{run}"
    );
}

#[test]
fn an_unknown_level_of_log_lines_is_named_and_info_is_used() {
    let home = Home::new(&[]);
    let level = |level: &str| {
        let mut command = pagehaul(["export", "--simulate=products=2,max_videos=5", "--out", &home.argument(level)]);
        command.env("RUST_LOG", level);
        let run = run(command);
        run.ended(0);
        ["ids listed", "RUST_LOG must be"].map(|words| run.stderr.contains(words))
    };
    assert_eq!([level("warn"), level("INFO"), level("pagehaul=debug")], [[false, false], [true, false], [true, true]]);
}

#[test]
fn schema_and_help_and_version_print_and_end_with_0() {
    let print = |arguments: &[&str]| {
        let run = run(pagehaul(arguments));
        assert_eq!((run.code, run.stderr.as_str()), (Some(0), ""), "{arguments:?}");
        run.stdout
    };
    let (schema, sql) = (print(&["schema"]), print(&["schema", "--sql"]));
    assert!(sql.starts_with("CREATE TABLE \"product-videos\" (\n") && sql.ends_with("\n);\n"), "{sql}");
    for column in &endpoint().columns {
        assert!(schema.lines().any(|line| line.split(' ').next() == Some(&column.name)), "{}", column.name);
        assert!(sql.contains(&format!("  \"{}\" {}", column.name, column.kind.sql_type())), "{}", column.name);
    }
    for own in ["_fetched_at", "_page_num", "_extra"] {
        assert!(schema.contains(own) && sql.contains(own), "{own}");
    }
    assert_eq!(print(&["--version"]), format!("pagehaul {}\n", env!("CARGO_PKG_VERSION")));
    let (help, help_of_export) = (print(&["--help"]), print(&["export", "--help"]));
    assert!(["export", "replay", "simulate", "schema", "config"].iter().all(|command| help.contains(command)));
    assert_eq!(print(&[]), help, "without a command there is help");
    for command in ["export", "replay", "simulate", "verify", "status", "schema"] {
        let help = print(&[command, "--help"]);
        assert!(help.lines().all(|line| line.len() <= 80), "{help}");
    }
    for words in ["[default: 256]", "[default: 2GiB]", "Example:", "130 interrupted", "RUST_LOG"] {
        let unwrapped = help_of_export.split_whitespace().collect::<Vec<_>>().join(" ");
        assert!(unwrapped.contains(words), "{words}: {help_of_export}");
    }
    for setting in pagehaul::settings::SETTINGS {
        assert!(help_of_export.contains(&format!("\n{}:\n", setting.section)), "{}", setting.section);
        assert!(help_of_export.contains(&format!("--{}", setting.key.replace('_', "-"))), "{}", setting.key);
    }
}

#[test]
fn simulate_prints_as_many_ids_as_requested_always_the_same() {
    let ids = run(pagehaul(["simulate", "--products", "3"]));
    let expected: Vec<String> = simulator::SimulatorSettings { products: 3, ..Default::default() }.ids().collect();
    assert_eq!((ids.code, ids.stderr.as_str()), (Some(0), ""));
    assert_eq!(ids.stdout.lines().collect::<Vec<_>>(), expected);
    assert_refused_without_json(&run(pagehaul(["simulate", "--products", "three"])), "--products");
    assert_refused_without_json(&run(pagehaul(["simulate", "--listen", "0.0.0.0:0"])), "loopback");
    assert_refused_without_json(&run(pagehaul(["simulate", "--listen", "localhost:8080"])), "127.0.0.1:8080");
    assert_refused_without_json(&run(pagehaul(["simulate", "--products", "3x"])), "whole number");
    let misspelled = run(pagehaul(["simulate", "kye=canary"]));
    assert_refused_without_json(&misspelled, "did you mean key?");
    assert!(!misspelled.stderr.contains("canary"), "{misspelled}");
}

#[test]
fn the_served_simulator_ends_with_its_account_as_json_and_names_an_address_that_is_taken() {
    let mut program = Program::start(pagehaul(["simulate", "--listen", "127.0.0.1:0"]));
    program.wait_for_line("serving http://127.0.0.1:");
    program.signal("TERM");
    let ended = program.end();
    assert_eq!((ended.code, &ended.json()["requests"], &ended.json()["pages"]), (Some(0), &0.into(), &0.into()));
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    assert_refused_without_json(&run(pagehaul(["simulate", "--listen", &address])), &address);
}

/// Commands whose standard output is text have no JSON to put there.
fn assert_refused_without_json(run: &Run, word: &str) {
    assert_eq!((run.code, run.stdout.as_str()), (Some(2), ""), "{run}");
    assert!(run.stderr.starts_with("error: ") && run.stderr.contains(word), "{run}");
}

#[test]
fn a_reader_that_leaves_early_is_no_error() {
    let Served { simulator, server, ids, home } = Served::start("products=4,max_videos=25");
    let commands: [(&str, Command); 6] = [
        ("export", home.export(&server.base_url(), &[])),
        ("export that is refused", home.export(&server.base_url(), &["--page-size", "0"])),
        ("simulate", pagehaul(["simulate", "--products", "50000"])),
        ("schema", pagehaul(["schema"])),
        ("help", pagehaul(["--help"])),
        ("config show", pagehaul(["config", "show"])),
    ];
    for (name, mut command) in commands {
        let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        if name == "simulate" {
            let mut line = String::new();
            BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
            assert_eq!(line.len(), 20);
        }
        drop((child.stdout.take(), child.stderr.take()));
        let wanted = if name == "export that is refused" { 2 } else { 0 };
        assert_eq!(child.wait().unwrap().code(), Some(wanted), "{name}");
    }
    assert_rows(&home.out(), &expected(&simulator, &ids, 10));
}

/// Fails if the key is in what a run printed or left behind, except in the paths that `but` names.
fn assert_no_key(run: &Run, home: &Home, but: impl Fn(&str) -> bool) {
    assert!(!run.stdout.contains("CANARY") && !run.stderr.contains("CANARY"), "{run}");
    for directory in [home.out(), home.path("state")] {
        let mut found = files_that_hold(&directory, "CANARY");
        found.retain(|path| !but(path.to_str().unwrap()));
        assert!(found.is_empty(), "the key is in {found:?}");
    }
    assert!(home.path("state/ledger.sqlite").exists());
}

#[test]
fn the_key_is_in_no_file_and_no_line_however_a_run_ends() {
    let simulator = simulator("products=4,max_videos=5");
    let ids = ids(&simulator);
    let refused = ids[1].clone();
    for (code, log_format) in [(0, "text"), (3, "text"), (7, "json")] {
        let refused = refused.clone();
        let api = Api::but(&simulator, move |request| match code {
            3 if request.product == refused => Some(Answer::refusal(400, "no such product")),
            7 if request.number > 2 => {
                Some(Answer::refusal(401, &format!("{} is not accepted", request.authorization)))
            }
            _ => None,
        });
        let home = Home::new(&ids);
        let state = home.argument("state");
        let mut command = home.export(&api.base_url(), &["--state-dir", &state, "--log-format", log_format]);
        command.env("RUST_LOG", "trace");
        let run = run(command);
        let summary = run.ended(code);
        // What a server says is kept as evidence to the byte, and this one says the key.
        let is_evidence = |path: &str| code == 7 && path.contains("/journal/");
        assert_no_key(&run, &home, is_evidence);
        assert_eq!(code == 7, summary.to_string().contains("is not accepted"), "{summary}");
    }
}

#[test]
fn a_key_of_another_form_is_hidden_as_well_when_a_server_repeats_it() {
    let api = Api::start(|request| Answer::refusal(401, &format!("{} is not accepted", request.authorization)));
    for key in ["token-CANARY", "sk_live_a.b/CANARY"] {
        let home = Home::new(&["17".to_owned()]);
        let state = home.argument("state");
        let mut command = home.export(&api.base_url(), &["--state-dir", &state]);
        command.env("KEYAPI_TOKEN", key);
        let run = run(command);
        run.ended(7);
        assert_no_key(&run, &home, |path| path.contains("/journal/"));
    }
}

#[test]
fn a_key_that_is_also_a_letter_or_a_digit_of_the_data_changes_no_row() {
    let Served { simulator, server, ids, .. } = Served::start("products=3,max_videos=40");
    for key in ["x", "0"] {
        let home = Home::new(&ids);
        let mut command = home.export(&server.base_url(), &[]);
        command.env("KEYAPI_TOKEN", key);
        run(command).ended(0);
        assert_rows(&home.out(), &expected(&simulator, &ids, 10));
    }
}

#[test]
fn the_search_for_the_key_that_every_test_ends_with_finds_it_in_each_form() {
    let tells = crate::common::tells_key;
    assert!(tells(format!("x{KEY}y").as_bytes()) && !tells(b"sk_live_another"));
    // "Bearer KEY" and "KEY" in base64, and the key percent-encoded byte by byte.
    assert!(tells(b"QmVhcmVyIHNrX2xpdmVfQ0FOQVJZMDEyMw==") && tells(b"c2tfbGl2ZV9DQU5BUlkwMTIz"));
    assert!(tells(b"%73%6B%5F%6C%69%76%65%5F%43%41%4E%41%52%59%30%31%32%33"));
}

#[test]
fn a_limit_that_auto_found_is_known_to_the_next_run_and_the_key_is_not_in_its_file() {
    let Served { simulator, server, .. } = Served::start("products=170,max_videos=60,qps=60,limit=window");
    let limits = tempfile::tempdir().unwrap();
    let directory = limits.path().join("state");
    let export = |more: &[&str]| {
        let home = Home::new(&ids(&simulator));
        let mut command = home.export(&server.base_url(), &["--qps", "auto", "--max-pages", "2"]);
        command.args(more).env("XDG_STATE_HOME", &directory);
        run(command)
    };
    let first = export(&[]);
    first.ended(0);
    assert!(first.json()["run"]["found"].is_number(), "{first}");
    let path = directory.join("pagehaul/limits.json");
    let text = std::fs::read_to_string(&path).unwrap();
    assert!(!text.contains(KEY) && !text.contains("127.0.0.1"), "{text}");
    let second = export(&[]);
    second.ended(0);
    let is_announced = |run: &Run| run.stderr.contains("found by an earlier run");
    assert_eq!((is_announced(&first), is_announced(&second)), (false, true), "{first}{second}");
}

#[test]
fn a_list_that_stalls_on_a_pipe_can_be_interrupted_and_no_request_was_sent() {
    let api = Api::start(|_| Answer::page(&[]));
    let home = Home::new(&[]);
    let mut command = home.bare_export(&api.base_url(), &["--products", "-"]);
    let piped = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = piped.spawn().unwrap();
    let (id, mut stdin) = (child.id().to_string(), child.stdin.take().unwrap());
    // More than fits into a pipe and a buffer: when all of it is written, the program is in the middle of reading its list.
    let list = (0..40_000).fold(String::new(), |mut list, id| {
        writeln!(list, "{}", 1_000_000 + id).unwrap();
        list
    });
    stdin.write_all(list.as_bytes()).unwrap();
    let (sender, ended) = channel();
    std::thread::spawn(move || sender.send(child.wait_with_output().unwrap()));
    assert!(Command::new("sh").args(["-c", "kill -s INT \"$0\"", &id]).status().unwrap().success());
    let Ok(output) = ended.recv_timeout(DEADLINE) else {
        drop(stdin); // lets it end
        panic!("a signal does not end a program that waits for its list");
    };
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    Run { code: output.status.code(), stdout: text(output.stdout), stderr: text(output.stderr) }.ended(130);
    assert_eq!(api.requests(), 0);
    drop(stdin); // it was open all the time
}
