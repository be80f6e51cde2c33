//! What must cost nothing: lists, keys and descriptions that cannot be meant are refused before the first request, with the
//! place, the text and the likely cause.

#![cfg(unix)]
#![expect(
    clippy::disallowed_methods,
    clippy::unwrap_used,
    reason = "what helps a test fails by panicking, and its files need not survive a crash"
)]

mod common;

use common::{Answer, Api, Home, KEY, run, run_with};
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
            let said = summary["cause"].as_str().unwrap();
            for word in [list, line, &format!("`{entry}`"), cause] {
                assert!(said.contains(word), "{entry}: the reason lacks {word:?}: {said}");
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
        let said = summary["cause"].as_str().unwrap();
        assert!(said.contains("line 1: ") && said.contains("a header") && said.contains("--product-column"), "{said}");
    }
    assert_eq!(api.requests(), 0);
}

#[test]
fn an_export_that_has_begun_goes_on_whatever_form_its_ids_are_to_have_now() {
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
    let said = refused["cause"].as_str().unwrap();
    assert!(said.contains("line 2") && said.contains("form is not a regular expression: unclosed"), "{said}");
    assert_eq!(api.requests(), 0);
}
