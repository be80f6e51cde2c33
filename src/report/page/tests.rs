//! The page as a reader of HTML sees it: a tokenizer of the standard's, which reports whatever is not well formed.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use html5gum::{Token, Tokenizer};
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};

use super::{PageData, render};
use crate::decode::{Decoder, Response};
use crate::endpoint::{BUILT_IN, Endpoint};
use crate::model::clock::Utc64;
use crate::model::page::{AttemptId, ItemId, ItemIx, PageNum, Request, SegmentId, StopReason};
use crate::model::sanitize::sanitize;
use crate::output::read_only::ExportPath;
use crate::settings::{OutputLocation, StoreOptions};
use crate::state::ledger::{
    AppliedRow, DecisionRow, EndRow, ExportRow, Group, Ledger, LedgerError, PageRow, SeriesRow, Timeline,
};

/// Texts that would become markup, attributes, scripts or addresses, or would change the text around them.
const HOSTILE: [&str; 62] = [
    "<script>alert(1)</script>",
    "</script><script>alert(1)</script>",
    "<img src=x onerror=alert(1)>",
    "<svg onload=alert(1)>",
    "<svg><script>alert(1)</script></svg>",
    "</title><script>alert(1)</script>",
    "</style><script>alert(1)</script>",
    "</td></tr></table><h1>owned</h1>",
    "</main></body></html><h1>behind</h1>",
    "<iframe src=javascript:alert(1)>",
    "<iframe srcdoc='<script>alert(1)</script>'>",
    "<object data=evil.swf>",
    "<embed src=evil.swf>",
    "<link rel=stylesheet href=//evil.invalid/x.css>",
    "<style>*{display:none}</style>",
    "<meta http-equiv=refresh content='0;url=//evil.invalid'>",
    "<base href=//evil.invalid/>",
    "<form action=//evil.invalid><input name=x>",
    "<a href='javascript:alert(1)'>click</a>",
    "<details open ontoggle=alert(1)>",
    "<body onload=alert(1)>",
    "<math><mi xlink:href='data:x,<script>alert(1)</script>'>",
    "<template><script>alert(1)</script></template>",
    "<noscript><p title=\"</noscript><img src=x onerror=alert(1)>\">",
    "<plaintext>",
    "<xmp><script>alert(1)</script>",
    "<textarea>",
    "<!--",
    "-->",
    "<!DOCTYPE html>",
    "<![CDATA[<script>alert(1)</script>]]>",
    "<?xml version='1.0'?>",
    "<%= evil %>",
    "\" onmouseover=\"alert(1)",
    "' onmouseover='alert(1)",
    "\"><script>alert(1)</script>",
    "'><script>alert(1)</script>",
    "` onerror=alert(1) `",
    "x\" style=\"background:url(//evil.invalid)",
    "expression(alert(1))",
    "javascript:alert(1)",
    "data:text/html,<script>alert(1)</script>",
    "https://evil.invalid/?q=<b>",
    "//evil.invalid",
    "&lt;script&gt;alert(1)&lt;/script&gt;",
    "&#60;script&#62;",
    "&#x3C;img src=x&#x3E;",
    "&amp;amp;&nbsp;&quot;&apos;",
    "&notanentity;&",
    "{{7*7}} ${7*7} #{7*7}",
    "\u{202e}<b>lmth\u{202c}",
    "\u{2066}\u{2067}<i>\u{2069}",
    "\u{200b}\u{200d}\u{feff}<u>",
    "\u{e0041}\u{e0042}<s>",
    "a\0<b>\0",
    "\u{1b}[31m<b>\u{9b}",
    "\r\n\r\n<b>\u{2028}\u{2029}",
    "\\ud800<b>\\udc00\u{fffd}\u{fffe}",
    "\u{fdd0}<b>\u{10ffff}",
    "Z\u{351}\u{34b}\u{346}\u{30d}\u{30c}\u{308}<b>",
    "+ADw-script+AD4-alert(1)+ADw-/script+AD4-",
    "\u{ff1c}script\u{ff1e}alert(1)\u{ff1c}/script\u{ff1e}",
];

/// The elements and attributes that a page has: none of them loads or runs anything.
const ELEMENTS: [&str; 34] = [
    "body",
    "caption",
    "dd",
    "div",
    "dl",
    "dt",
    "figcaption",
    "figure",
    "footer",
    "h1",
    "h2",
    "head",
    "header",
    "html",
    "i",
    "li",
    "main",
    "meta",
    "p",
    "path",
    "section",
    "small",
    "span",
    "strong",
    "style",
    "svg",
    "table",
    "tbody",
    "td",
    "th",
    "thead",
    "title",
    "tr",
    "ul",
];
const ATTRIBUTES: [&str; 14] = [
    "aria-hidden",
    "aria-label",
    "charset",
    "class",
    "content",
    "d",
    "http-equiv",
    "lang",
    "name",
    "preserveaspectratio",
    "role",
    "scope",
    "style",
    "viewbox",
];

/// What a page consists of.
#[derive(Debug, Default)]
struct Dom {
    /// Names of elements with the names of their attributes, in order.
    elements: Vec<(String, Vec<String>)>,
    /// Values of attributes by element and name.
    values: Vec<(String, String, String)>,
    text: String,
}

/// Reads a page, which must be well formed: no error of the tokenizer's, and every element is closed where it should be.
fn dom(page: &str) -> Dom {
    let (mut dom, mut open) = (Dom::default(), Vec::new());
    let mut tokens = Tokenizer::new(page);
    while let Some(Ok(token)) = tokens.next() {
        let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
        match token {
            Token::StartTag(tag) => {
                let name = text(&tag.name);
                let attributes: BTreeMap<String, String> =
                    tag.attributes.iter().map(|(name, value)| (text(name), text(value))).collect();
                dom.elements.push((name.clone(), attributes.keys().cloned().collect()));
                dom.values.extend(attributes.into_iter().map(|(attribute, value)| (name.clone(), attribute, value)));
                if !matches!(name.as_str(), "meta") {
                    open.push(name);
                }
            }
            Token::EndTag(tag) => assert_eq!(open.pop(), Some(text(&tag.name)), "closed in another order"),
            Token::String(content) => dom.text += &text(&content),
            Token::Comment(comment) => panic!("a comment: {comment:?}"),
            Token::Error(error) => panic!("not well formed: {error:?}"),
            Token::Doctype(_) => {}
        }
    }
    assert_eq!(open, Vec::<String>::new(), "not closed");
    dom
}

/// What a page counts that has a row with this field.
fn drift(name: &str) -> crate::decode::PageDrift {
    let row = serde_json::json!({"video_id": "1", "product_id": "17", "region": [], name: 1});
    let body = serde_json::json!({"code": 0, "data": [row]}).to_string();
    let request = Request { attempt: AttemptId(1), item: ItemIx(1), id: ItemId::new("17"), page: PageNum(1) };
    let decoder = Decoder::new(&Endpoint::parse(BUILT_IN).unwrap(), |_| true);
    decoder.decode(&[Response { request, at: Utc64(1), body: body.into() }]).unwrap().pages.remove(0).drift
}

fn manifest(text: &str) -> String {
    let directory = |value: &str| format!("r={}", utf8_percent_encode(value, NON_ALPHANUMERIC));
    let file = |value: &str| {
        let path = format!("{}/x-s000001-1-0.parquet", directory(value));
        serde_json::json!({"path": path, "staged": "x", "rows": 5, "bytes": 900, "sha256": text})
    };
    serde_json::json!({
        "format": 1, "export": "x", "segment": 1, "attempt": 1, "decided_at": text, "endpoint": text, "journal": text,
        "columns": [[text, text]], "key": [], "partition": text, "rejects": file("rejects"),
        "files": [file(text), file("ID")],
    })
    .to_string()
}

/// An export with this text in every place where text from outside may be, and so many lists.
fn export(root: &Path, text: &str, lists: i64) -> ExportPath {
    // A directory's name may have neither a separator nor a null, and is not long.
    let name: String = text.replace(['/', '\0'], "_").chars().take(50).collect();
    let out = root.join(name);
    let state = out.join("_pagehaul");
    std::fs::create_dir_all(&state).unwrap();
    let mut ledger = Ledger::open(&state.join("ledger.sqlite")).unwrap();
    let ids = (0..lists).map(|number| Ok::<_, LedgerError>(ItemId::new(&format!("{text}{number}"))));
    ledger.add_items(ids, || Ok(())).unwrap();
    let identity = [("columns", text), ("endpoint", text), (text, text)];
    let identity = identity.map(|(name, value)| (name.to_owned(), value.to_owned())).into();
    let (created_at, out_name) = (Utc64(1_800_000_000_000_000), out.display().to_string());
    let row = ExportRow { id: "x".to_owned(), created_at, completed_at: None, removal: None, out: out_name, identity };
    ledger.create_export(&row).unwrap();
    ledger.start_segment().unwrap();
    for first in (1..=lists).step_by(20_000) {
        ledger.commit(&group(text, first..=lists.min(first + 19_999)), Utc64(9)).unwrap();
    }
    ledger.decide_segment(SegmentId(1), &manifest(text)).unwrap();
    ledger.mark_published(SegmentId(1)).unwrap();
    ExportPath { out: OutputLocation::Directory(out), store: StoreOptions::default(), state }
}

/// Lists of one page, of which each fourth failed.
fn group(text: &str, items: std::ops::RangeInclusive<i64>) -> Group {
    let at = Utc64(1_800_000_000_000_000);
    let decision =
        |kind: &str| DecisionRow { run: 1, at, until: at, kind: kind.to_owned(), text: text.to_owned(), times: 3 };
    let interval =
        SeriesRow { at, millis: 60_000, results: [9, 8, 7, 6, 5, 4, 3, 2], rate: Some(9), ..SeriesRow::default() };
    let page = |number| PageRow { attempt: AttemptId(number), item: ItemIx(number), page: PageNum(1), at };
    let applied = |number| AppliedRow {
        attempt: AttemptId(number),
        item: ItemIx(number),
        received: 3,
        rejected: 1,
        is_list: true,
        keys: vec![[1; 16]],
        again: vec![[1; 16]],
    };
    let ended = |number| match number % 4 {
        0 => EndRow { is_moved: true, ..EndRow::failed(ItemIx(number), text.to_owned()) },
        _ => EndRow::new(ItemIx(number), StopReason::ShortPage),
    };
    Group {
        frame: Some((SegmentId(1), u64::try_from(*items.start()).unwrap(), 1)),
        pages: items.clone().map(page).collect(),
        applied: items.clone().map(applied).collect(),
        drift: drift(text),
        ended: items.clone().map(ended).collect(),
        timeline: Timeline { run: 1, interval: Some(interval), decisions: vec![decision(text), decision("ended")] },
        ..Group::default()
    }
}

async fn page(text: &str) -> String {
    let root = tempfile::tempdir().unwrap();
    render(&PageData::read(&export(root.path(), text, 8)).await.unwrap())
}

#[tokio::test]
async fn hostile_texts_stay_text_wherever_they_are() {
    let harmless = dom(&page("harmless").await);
    for text in HOSTILE {
        let dom = dom(&page(text).await);
        assert_eq!(dom.elements, harmless.elements, "{text}");
        assert!(!dom.text.chars().any(|c| c.is_control() && c != '\n'), "{text}");
        for hidden in ['\u{202e}', '\u{2066}', '\u{200b}', '\u{feff}', '\u{e0041}', '\u{2028}'] {
            assert!(!dom.text.contains(hidden), "{text}");
        }
        let shown = sanitize(text);
        let times = dom.text.matches(shown.trim()).count();
        assert!(times >= 20, "{shown} is {times} times in the text");
        let of_attributes = |dom: &Dom| dom.values.iter().map(|value| value.2.clone()).collect::<Vec<_>>();
        assert_eq!(of_attributes(&dom), of_attributes(&harmless), "{text}");
    }
}

#[tokio::test]
async fn nothing_is_loaded_runs_or_is_sent() {
    let page = page("harmless").await;
    let dom = dom(&page);
    let names: BTreeSet<&str> = dom.elements.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(names.into_iter().filter(|name| !ELEMENTS.contains(name)).collect::<Vec<_>>(), Vec::<&str>::new());
    let attributes: BTreeSet<&str> = dom.values.iter().map(|(_, name, _)| name.as_str()).collect();
    assert_eq!(
        attributes.into_iter().filter(|name| !ATTRIBUTES.contains(name)).collect::<Vec<_>>(),
        Vec::<&str>::new()
    );
    assert!(!page.contains("url(") && !page.contains("@import") && !page.contains("://"), "an address is in it");
    let policy = dom.values.iter().find(|(_, _, value)| value.starts_with("default-src 'none'"));
    assert!(policy.is_some_and(|(element, _, value)| element == "meta" && !value.contains("script")), "{policy:?}");
    assert_eq!(dom.elements[2], ("meta".to_owned(), vec!["charset".to_owned()]), "the first thing in the head");
    let first_style = dom.elements.iter().position(|(name, _)| name == "style").unwrap();
    let policy_at = dom.elements.iter().position(|(_, names)| names.contains(&"http-equiv".to_owned())).unwrap();
    assert!(policy_at < first_style);
}

#[tokio::test]
async fn each_table_has_a_caption_and_each_chart_says_what_it_shows() {
    let dom = dom(&page("harmless").await);
    let count = |wanted: &str| dom.elements.iter().filter(|(name, _)| name == wanted).count();
    assert!(count("table") > 8 && count("svg") == 3);
    assert_eq!((count("table"), count("h1")), (count("caption"), 1));
    let labels =
        dom.values.iter().filter(|(element, name, value)| element == "svg" && name == "aria-label" && value.len() > 20);
    assert_eq!(labels.count(), 3);
    for heading in ["Credits", "Over time", "Rows and files", "Products", "Drift", "Runs", "Decisions", "Settings"] {
        assert!(dom.text.contains(heading), "{heading}");
    }
}

async fn size_with(lists: i64) -> usize {
    let root = tempfile::tempdir().unwrap();
    let export = export(root.path(), &"<&long".repeat(100), lists);
    let start = crate::model::clock::now();
    let page = render(&PageData::read(&export).await.unwrap());
    println!("{lists} products: {} bytes in {:?}", page.len(), crate::model::clock::now() - start);
    dom(&page);
    page.len()
}

#[tokio::test]
async fn a_page_grows_no_further_with_the_number_of_products() {
    let (few, many) = (size_with(100).await, size_with(5_000).await);
    assert!(many < few + 2_000 && many < 200_000, "{few} and {many} bytes");
}

/// A minute: `cargo test --lib -- --ignored --nocapture a_million`.
#[tokio::test]
#[ignore = "takes a minute, and only a machine that is idle says something about time"]
async fn a_million_products_make_a_page_of_two_megabytes_at_most() {
    let size = size_with(1_000_000).await;
    assert!(size <= 2_000_000, "{size} bytes");
}
