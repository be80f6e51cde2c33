//! What must cost nothing: lists, keys and descriptions that cannot be meant are refused before the first request, with the
//! place, the text and the likely cause.

use std::os::unix::fs::PermissionsExt;

use crate::common::{Answer, Api, Home, KEY, Run, Served, ids, run, run_with};
use pagehaul::endpoint::BUILT_IN;

/// An API that takes anything, and counts it.
fn api() -> Api {
    Api::start(|_| Answer::page(&[]))
}

/// Entries that are no ids, and what their refusal says of the likely cause.
const JUNK: [(&str, &str); 10] = [
    ("1.7295E+18", "a spreadsheet rounded it"),
    ("1729382310407603101.0", "a column of floats"),
    ("'1729382310407603945", "an apostrophe"),
    ("1,729,382,310,407,603,945", "thousands separators"),
    ("https://shop.example/product/1729382310407603945", "a link"),
    ("{\"product_id\":\"1729382310407603945\"}", "JSON"),
    ("nan", "a missing value"),
    ("1729382310407603945 1729382310407603946", "several values"),
    ("17293823104076039451729382310407603946", "too many digits"),
    ("-1729382310407603945", "a sign"),
];

#[test]
fn an_entry_that_is_no_id_is_refused_with_its_line_its_text_and_the_likely_cause_and_nothing_is_sent() {
    let api = api();
    for (entry, cause) in JUNK {
        let home = Home::new(&["17".to_owned(), entry.to_owned()]);
        let quoted = entry.replace('"', "\"\"");
        let table = home.file("table.csv", format!("name,id\nx,17\ny,\"{quoted}\"\n").as_bytes());
        let url = api.base_url();
        for (list, line, command) in [
            ("list.txt", "line 2", home.export(&url, &[])),
            ("table.csv", "line 3", home.bare_export(&url, &["--products", &table, "--product-column", "id"])),
        ] {
            let summary = run(command).ended(2);
            let message = summary["cause"].as_str().unwrap();
            for word in [list, line, &format!("`{entry}`"), cause] {
                assert!(message.contains(word), "{entry}: the reason lacks {word:?}: {message}");
            }
        }
    }
    assert_eq!(api.requests(), 0);
}

#[test]
fn a_header_in_a_plain_list_is_refused_as_one_and_nothing_is_sent() {
    let api = api();
    for header in ["product_id", "Product ID", "\u{feff}id"] {
        let home = Home::new(&[header.to_owned(), "17".to_owned()]);
        let summary = run(home.export(&api.base_url(), &[])).ended(2);
        let message = summary["cause"].as_str().unwrap();
        assert!(
            message.contains("line 1: ") && message.contains("a header") && message.contains("--product-column"),
            "{message}"
        );
    }
    assert_eq!(api.requests(), 0);
}

#[test]
fn an_export_that_was_started_continues_whatever_form_its_ids_are_to_have_now() {
    let api = api();
    let home = Home::new(&["17".to_owned(), "18".to_owned()]);
    run(home.export(&api.base_url(), &["--max-credits", "1"])).ended(6);
    let line = BUILT_IN.lines().find(|line| line.starts_with("form = ")).unwrap();
    let other = home.file("other.toml", BUILT_IN.replace(line, "form = \"1[78]\"").as_bytes());
    run(home.export(&api.base_url(), &["--endpoint", &other])).ended(0);
    assert_eq!(api.requests(), 2);
    run(home.export(&api.base_url(), &[&home.any_id()])).ended(0);
    assert_eq!(api.requests(), 2);
    let narrower = home.file("narrower.toml", BUILT_IN.replace(line, "form = \"x+\"").as_bytes());
    let refused = run(home.export(&api.base_url(), &["--endpoint", &narrower])).ended(2);
    assert!(refused["cause"].as_str().unwrap().contains("`17`"), "the list is what does not fit: {refused}");
}

#[test]
fn a_form_that_is_no_expression_is_refused_with_its_line() {
    let home = Home::new(&["17".to_owned()]);
    let line = BUILT_IN.lines().find(|line| line.starts_with("form = ")).unwrap();
    let broken = home.file("broken.toml", BUILT_IN.replace(line, "form = \"[0-9\"").as_bytes());
    let api = api();
    let refused = run(home.export(&api.base_url(), &["--endpoint", &broken])).ended(2);
    let message = refused["cause"].as_str().unwrap();
    let at = BUILT_IN.lines().position(|other| other == line).unwrap() + 1;
    assert!(message.contains(&format!("line {at}: form is not a regular expression: unclosed")), "{message}");
    assert_eq!(api.requests(), 0);
}

// --- the key --------------------------------------------------------------------------------------------------------

/// Runs an export whose key comes from the variable, from a file and from standard input.
fn with_key(home: &Home, base_url: &str, key: &[u8]) -> [Run; 3] {
    use std::os::unix::ffi::OsStrExt;
    let keyless = |more: &[&str]| {
        let mut command = home.export(base_url, more);
        command.env_remove("KEYAPI_TOKEN");
        command
    };
    let mut by_variable = keyless(&[]);
    by_variable.env("KEYAPI_TOKEN", std::ffi::OsStr::from_bytes(key));
    let path = home.file("key", key);
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
    [run(by_variable), run(keyless(&["--token-file", &path])), run_with(keyless(&["--token-stdin"]), key)]
}

#[test]
fn white_space_behind_a_key_is_no_part_of_it_wherever_it_comes_from() {
    let Served { simulator, server, .. } = Served::start(&format!("products=1,max_videos=1,key={KEY}"));
    for behind in ["", "\n", "\r\n", " \n", "\t", "\n\n"] {
        let home = Home::new(&ids(&simulator));
        for ended in with_key(&home, &server.base_url(), format!("{KEY}{behind}").as_bytes()) {
            ended.ended(0);
        }
    }
}

#[test]
fn a_byte_order_mark_or_quotes_around_a_key_are_named_and_nothing_is_sent() {
    let api = api();
    let home = Home::new(&["17".to_owned()]);
    for (key, named) in [
        (format!("\u{feff}{KEY}\n"), "byte order mark"),
        (format!("\"{KEY}\""), "quotes"),
        (format!("'{KEY}'\n"), "quotes"),
        (format!("\u{201c}{KEY}\u{201d}"), "quotes"),
        (format!("{KEY} x"), "a space"),
    ] {
        for ended in with_key(&home, &api.base_url(), key.as_bytes()) {
            let summary = ended.ended(2);
            assert!(summary["cause"].as_str().unwrap().contains(named), "{named}: {summary}");
            assert!(!format!("{}{}", ended.stdout, ended.stderr).contains("CANARY"), "{ended}");
        }
    }
    for ended in with_key(&home, &api.base_url(), &[KEY.as_bytes(), b"\xe9"].concat()) {
        assert!(ended.ended(2)["cause"].as_str().unwrap().contains("not ASCII"));
    }
    assert_eq!(api.requests(), 0);
}

// --- the description ------------------------------------------------------------------------------------------------

#[test]
fn column_names_that_readers_take_for_one_and_partitions_that_they_cannot_name_are_refused_with_the_description() {
    let api = api();
    let home = Home::new(&["17".to_owned()]);
    for (from, to, reason) in [
        ("name = \"user_id\"", "name = \"Video_ID\"", "columns video_id and Video_ID differ only by case"),
        ("name = \"region\"", "name = \"region-code\"", "the partition column region-code"),
        ("name = \"region\"", "name = \"2nd\"", "the partition column 2nd"),
        ("name = \"region\"", "name = \"r\u{e9}gion\"", "the partition column r\u{e9}gion"),
    ] {
        let described = home.file("other.toml", BUILT_IN.replace(from, to).as_bytes());
        let refused = run(home.export(&api.base_url(), &["--endpoint", &described])).ended(2);
        assert!(refused["cause"].as_str().unwrap().contains(reason), "{refused}");
    }
    assert_eq!(api.requests(), 0);
}
