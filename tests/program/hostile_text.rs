//! Text from outside on a terminal, in a log, in a report: no payload acts on any of them.
//!
//! The forbidden characters are listed here again, by code point, and not taken from the program.

use std::collections::BTreeSet;

use crate::common::{Answer, Api, Home, KEY, Run, pagehaul, run, run_with};
use pagehaul::model::sanitize::{LIMIT, json, sanitize};
use pagehaul::state::ledger::Ledger;

/// Texts that affect the terminal that shows them. "evil" and "FORGED" mark what must stay harmless.
const PAYLOADS: [&str; 78] = [
    // Escape sequences: links, clipboard, titles, reports that the terminal types back, modes, palettes, files.
    "\x1b]8;;https://evil.invalid\x1b\\click\x1b]8;;\x1b\\",
    "\x1b]8;;file:///etc/passwd\x07evil\x1b]8;;\x07",
    "\x1b]52;c;ZXZpbA==\x07",
    "\x1b]52;c;?\x1b\\",
    "\x1b]0;evil\x07",
    "\x1b]2;evil\x1b\\",
    "\x1bkevil\x1b\\",
    "\x1bP$q\"p\x1b\\",
    "\x1bP+q544e\x1b\\",
    "\x1bPtmux;\x1b\x1b]52;c;ZXZpbA==\x07\x1b\\",
    "\x1b[2J\x1b[H",
    "\x1b[3J",
    "\x1b[1A\x1b[2KFORGED",
    "\x1b[31mevil\x1b[0m",
    "\x1b[8mevil",
    "\x1b[6n",
    "\x1b[c",
    "\x1b[>q",
    "\x1b[21t",
    "\x1b[?1049h",
    "\x1b[?2004h",
    "\x1b[?25l",
    "\x1b[5i",
    "\x1b[4i",
    "\x1b[20h",
    "\x1b[200~evil\x1b[201~",
    "\x1b[1000000b",
    "\x1b[;;;;;;;;;;;;;;;m",
    "\x1b]4;1;?\x07",
    "\x1b]10;?\x07",
    "\x1b]50;?\x07",
    "\x1b]9;evil\x07",
    "\x1b]777;notify;evil;evil\x07",
    "\x1b]1337;File=inline=1:ZXZpbA==\x07",
    "\x1b_Gf=24;ZXZpbA==\x1b\\",
    "\x1b^evil\x1b\\",
    "\x1bXevil\x1b\\",
    "\x1bc",
    "\x1b#8",
    "\x1b(0evil\x1b(B",
    "\x1b%G\x1b%@",
    "\x1b",
    "\x1b[",
    // The same in eight bits.
    "\u{9b}31mevil",
    "\u{9d}52;c;ZXZpbA==\u{9c}",
    "\u{90}$q\"p\u{9c}",
    "\u{9f}evil\u{9c}",
    "\u{85}FORGED",
    // Forged log lines.
    "a\r\n2026-11-22T00:00:00.000Z  INFO FORGED",
    "a\nFORGED",
    "a\rFORGED",
    "a\x0bFORGED\x0cFORGED",
    "a\u{2028}FORGED",
    "a\u{2029}FORGED",
    "\n{\"status\":\"complete\",\"exit_code\":0,\"FORGED\":1}",
    "a\x08\x08\x08\x08evil",
    "\x07\x07\x07",
    "a\0evil",
    "\x7f\x7fevil",
    "\x0eevil\x0f",
    "\x11\x13evil",
    "\tevil\tevil",
    // Text directions (CVE-2021-42574), and invisible characters.
    "\u{202e}gpj.evil\u{202c}",
    "\u{202a}\u{202b}\u{202d}evil",
    "\u{2066}evil\u{2067}evil\u{2068}evil\u{2069}",
    "\u{200e}evil\u{200f}\u{61c}",
    "e\u{200b}v\u{200c}i\u{200d}l\u{2060}\u{2061}",
    "\u{feff}evil",
    "e\u{ad}vil",
    "\u{e0001}\u{e0065}\u{e0076}\u{e0069}\u{e006c}\u{e007f}",
    "\u{fff9}evil\u{fffa}evil\u{fffb}",
    "\u{180e}evil\u{206a}\u{206f}",
    "\u{f8ff}\u{10fffd}evil",
    "\u{1d173}\u{1bca0}evil",
    // Too much of something. `FLOOD` and `LONG` are replaced below: a constant cannot repeat.
    "FLOOD",
    "LONG",
    "KEYS",
    "sk_live_evil0123 sk_live_\u{200b}evil",
];

/// The payloads, including the long ones.
fn payloads() -> Vec<String> {
    let real = |payload: &str| match payload {
        "FLOOD" => format!("e{}", "\u{301}\u{489}\u{e47}\u{20dd}".repeat(5_000)),
        "LONG" => "evil ".repeat(100_000),
        "KEYS" => "sk_live_".repeat(50_000),
        other => other.to_owned(),
    };
    PAYLOADS.iter().map(|payload| real(payload)).collect()
}

/// Whether a character has an effect. Combining marks have one if there are many.
fn acts(c: char) -> bool {
    matches!(u32::from(c),
        0..0x20 | 0x7f..0xa0 | 0xad | 0x61c | 0x180e | 0x200b..=0x200f | 0x2028..=0x202e | 0x2060..=0x206f | 0xfeff
        | 0xe000..=0xf8ff | 0xfff9..=0xfffb | 0x1bca0..=0x1bca3 | 0x1d173..=0x1d17a | 0xe0000..=0xe007f | 0xf0000..)
}

fn is_mark(c: char) -> bool {
    matches!(u32::from(c), 0x300..=0x36f | 0x483..=0x489 | 0xe47..=0xe4e | 0x20d0..=0x20f0 | 0xfe00..=0xfe0f)
}

/// Fails if a text, some lines of the program's, contains a character with an effect.
fn assert_harmless(name: &str, text: &str) {
    for line in text.lines() {
        let found = line.chars().find(|c| acts(*c));
        assert!(found.is_none(), "{name} holds {found:?}: {line:?}");
        assert!(!line.starts_with("FORGED") && !line.starts_with("2026-11-22T00:00:00.000Z"), "{name}: {line:?}");
        let stacked = line.chars().collect::<Vec<_>>().windows(4).any(|four| four.iter().all(|c| is_mark(*c)));
        assert!(!stacked, "{name} holds a pile of marks: {line:?}");
        assert!(!line.contains("sk_live_evil"), "{name} holds what looks like a key: {line:?}");
    }
}

fn assert_run_harmless(name: &str, run: &Run) {
    assert_harmless(&format!("{name}, standard error"), &run.stderr);
    assert_harmless(&format!("{name}, standard output"), &run.stdout);
    assert!(run.stderr.lines().all(|line| line.chars().count() <= 1_500), "{name}: a line without an end");
}

#[test]
fn no_payload_acts_once_it_is_sanitised() {
    for payload in payloads() {
        let shown = sanitize(&payload);
        assert_harmless("the shown text", &shown);
        assert!(!shown.contains('\n') && shown.chars().count() <= LIMIT + 1, "{shown:?}");
        let exact = json(&payload);
        assert!(!exact.chars().any(|c| acts(c) || is_mark(c)), "{exact:?}");
        assert_eq!(serde_json::from_str::<String>(&exact).unwrap(), payload);
    }
    let everything: String = ('\0'..=char::MAX).collect();
    for text in everything.chars().collect::<Vec<_>>().chunks(LIMIT / 2) {
        let text: String = text.iter().flat_map(|c| ['e', *c]).collect();
        assert!(!sanitize(&text).chars().any(acts));
    }
}

/// An id for each payload that is a valid id: the list's reader refuses control characters.
fn ids() -> Vec<String> {
    let is_id = |text: &String| text.len() <= 256 && !text.chars().any(char::is_control) && !text.contains("sk_live");
    payloads().into_iter().filter(is_id).map(|payload| format!("7{payload}")).collect()
}

#[test]
fn a_server_and_a_list_full_of_payloads_leave_no_trace_of_them_on_screen_in_logs_or_reports() {
    let payloads = payloads();
    let ids: Vec<String> = ids().into_iter().chain((0..payloads.len()).map(|at| at.to_string())).collect();
    // Items that succeed in between, as evidence that the failures are the items' own.
    let sound = |at: usize| (at % 8 == 7).then(|| format!("sound{at}"));
    let listed: Vec<String> =
        ids.iter().enumerate().flat_map(|(at, id)| std::iter::once(id.clone()).chain(sound(at))).collect();
    let api = Api::start({
        let payloads = payloads.clone();
        move |request| match request.product.parse::<usize>() {
            // As a message, as the item of a row, and as a body that is not an envelope.
            Ok(at) if at % 3 == 0 => Answer::refusal(400, &payloads[at]),
            Ok(at) if at % 3 == 1 => {
                Answer::page(&[serde_json::json!({"video_id": "1", "product_id": payloads[at]}).to_string()])
            }
            Ok(at) => Answer::new(400, payloads[at].as_bytes()),
            Err(_) if request.product.starts_with("sound") => Answer::page(&[]),
            Err(_) => Answer::refusal(400, &request.product),
        }
    });
    for format in ["text", "json"] {
        let home = Home::new(&listed);
        let mut command = home.export(&api.base_url(), &["--log-format", format, &home.any_id()]);
        command.env("RUST_LOG", "trace");
        let ended = run(command);
        let summary = ended.ended(3);
        assert_run_harmless(format, &ended);
        assert_eq!(summary["products"]["failed"], ids.len());
        let is_named = |line: &&str| line.contains(" failed: ") || line.contains(" was rejected: ");
        let warnings = ended.stderr.lines().filter(|line| line.contains("WARN")).filter(is_named).count();
        assert_eq!(warnings, ids.len().min(20), "a line for each of the first failed products, and no other");
        assert_harmless("summary.json", &std::fs::read_to_string(home.path("out/_pagehaul/summary.json")).unwrap());
        let listed: BTreeSet<&str> = summary["failures"]
            .as_array()
            .unwrap()
            .iter()
            .map(|failure| failure["product"].as_str().unwrap())
            .collect();
        assert!(listed.iter().all(|id| ids.iter().any(|known| known == id)), "programs get ids exactly: {listed:?}");
        let out = home.argument("out");
        for command in
            [vec!["status", "--out", &out], vec!["status", "--json", "--out", &out], vec!["verify", "--out", &out]]
        {
            let message = run(pagehaul(command));
            assert_eq!(message.code, Some(0), "{message}");
            assert_run_harmless("a look at the export", &message);
        }
        let ledger = Ledger::open(&home.path("out/_pagehaul/ledger.sqlite")).unwrap();
        for (_, _, message) in ledger.failed_items(1_000).unwrap() {
            assert_harmless("the ledger", &message.unwrap());
        }
    }
}

#[test]
fn file_names_settings_and_lists_full_of_payloads_are_named_without_acting() {
    let api = Api::start(|_| Answer::refusal(400, "no")); // some payloads are fine as ids, where any text is one
    for payload in payloads().into_iter().filter(|payload| payload.len() <= 200 && !payload.contains('\0')) {
        let home = Home::new(&["7".to_owned()]);
        let name = payload.replace('/', "_");
        let endpoint = pagehaul::endpoint::BUILT_IN.replace("name = \"ratio\"", &format!("name = {}", json(&payload)));
        let endpoint = home.file(&format!("{name}.toml"), endpoint.as_bytes());
        let meaning =
            pagehaul::endpoint::BUILT_IN.replace("Name of the picture format.", json(&payload).trim_matches('"'));
        let meaning = home.file("meaning.toml", meaning.as_bytes());
        let config = home.file(&format!("config {name}"), format!("{} = 1\n", json(&payload)).as_bytes());
        let broken = home.file(&format!("broken {name}"), format!("page_size = {payload}\n").as_bytes());
        let value = home.file(&format!("value {name}"), format!("sort = {}\n", json(&payload)).as_bytes());
        let list = home.file(&format!("list {name}"), format!("7\n{payload}\n").as_bytes());
        let table = home.file(&format!("table {name}"), format!("{payload},x\n7,8\n").as_bytes());
        let url = api.base_url();
        let commands = [
            home.export(&url, &["--endpoint", &endpoint]),
            home.export(&url, &["--config", &config]),
            home.export(&url, &["--config", &broken]),
            home.export(&url, &["--config", &value]),
            home.export(&url, &["--columns", &payload]),
            home.export(&url, &[&payload]),
            home.export(&payload, &[]),
            home.bare_export(&url, &["--products", &list]),
            home.bare_export(&url, &["--products", &list, &home.any_id()]),
            home.bare_export(&url, &["--products", &table, "--product-column", &payload]),
            home.bare_export(&url, &["--products", &table, "--product-column", "none"]),
            home.bare_export(&url, &["--products", &home.argument(&format!("no {name}"))]),
            home.export(&url, &["--state-dir", &home.argument(&format!("list {name}"))]),
            home.export(&url, &["--token-file", &home.argument(&format!("no {name}"))]),
            pagehaul(["config", "show", "--config", &value]),
            pagehaul(["config", "show", "--sort", &payload, "--out", &name]),
            pagehaul(["schema", "--endpoint", &meaning]),
            pagehaul(["schema", "--sql", "--endpoint", &endpoint]),
            pagehaul(["replay", "--out", &home.argument(&name)]),
            pagehaul(["status", "--out", &home.argument(&name)]),
            pagehaul(["verify", "--out", &home.argument(&name)]),
            pagehaul(["simulate", &payload]),
            pagehaul([&payload]),
        ];
        for (at, command) in commands.into_iter().enumerate() {
            let ended = run_with(command, b"");
            assert_run_harmless(&format!("command {at}"), &ended);
            assert!(!ended.stderr.contains("panicked"), "{ended}");
            assert!(!format!("{}{}", ended.stdout, ended.stderr).contains(KEY), "{ended}");
        }
    }
}
