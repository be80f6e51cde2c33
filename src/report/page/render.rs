//! The page from its data: the frame, the head, and the order of the sections.

use maud::{DOCTYPE, Markup, PreEscaped, html};

use crate::model::sanitize::{Sanitized, sanitize};
use crate::report::page::data::PageData;
use crate::report::page::sections::{course, outcome, problems};
use crate::report::page::units;

const STYLE: &str = include_str!("page.css");
/// Nothing is loaded, nothing runs, nothing is sent; the styles are the page's own.
const POLICY: &str =
    "default-src 'none'; style-src 'unsafe-inline'; img-src data:; base-uri 'none'; form-action 'none'";

/// The page. Reads nothing.
pub(crate) fn render(data: &PageData) -> String {
    let head = &data.head;
    let page = html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta http-equiv="Content-Security-Policy" content=(POLICY);
                meta name="viewport" content="width=device-width, initial-scale=1";
                meta name="color-scheme" content="light dark";
                meta name="referrer" content="no-referrer";
                title { (head.status) ": " (head.out) " – pagehaul" }
                style { (PreEscaped(STYLE)) }
            }
            body {
                main {
                    (top(data))
                    (outcome::credits(data))
                    (course::over_time(data))
                    (outcome::rows_and_files(data))
                    (problems::products(data))
                    (problems::drift(data))
                    (course::runs(data))
                    (course::decisions(data))
                    (settings(data))
                }
                footer { "pagehaul " (env!("CARGO_PKG_VERSION")) ", as of " (units::moment(data.as_of)) ". All times are UTC." }
            }
        }
    };
    page.into_string()
}

fn top(data: &PageData) -> Markup {
    let (head, totals) = (&data.head, &data.totals);
    let class = match head.status.as_str() {
        "complete" => "good",
        "running" => "busy",
        _ => "bad",
    };
    let figures = [
        (
            units::count(totals.products.complete),
            format!("of {} products complete", units::count(totals.products.total)),
        ),
        (units::count(totals.rows.published), "rows published".to_owned()),
        (units::count(totals.credits.billed), "credits billed".to_owned()),
        (units::count(totals.files), format!("files, {}", units::bytes(totals.bytes))),
    ];
    html! {
        header {
            h1 { span class={ "status " (class) } { (head.status) } " " span.out { (head.out) } }
            @if let Some(cause) = &head.cause { p.cause { (cause) } }
            @if let Some(since) = &head.complete_since { p { "Complete since " (since) "." } }
            @if let Some(holder) = &head.holder { p { "Running: " (holder) ". " (units::count(head.in_flight)) " requests in flight." } }
            @if let Some(next) = &head.next { p.next { strong { "Next: " } (next) } }
            dl.figures {
                @for (number, what) in &figures { div { dt { (what) } dd { (number) } } }
            }
            div.scroll { table {
                caption { "The export" }
                tbody {
                    tr { th scope="row" { "Export" } td { (sanitize(&head.export)) ", started " (units::moment(data.created_at)) } }
                    tr { th scope="row" { "Products" } td { (totals.products) } }
                    tr { th scope="row" { "Pages" } td {
                        (units::count(totals.pages.journaled)) " in the journal, " (units::count(totals.pages.waiting))
                        " not published yet, " (units::count(totals.pages.outdated)) " requested again since"
                    } }
                    tr { th scope="row" { "Rows" } td { (totals.rows) } }
                    @if let Some(plan) = &data.plan { tr { th scope="row" { "Plan" } td { (plan) } } }
                    @if let Some(continued) = &head.continued { tr { th scope="row" { "Continues" } td { (continued) } } }
                }
            } }
        }
    }
}

fn settings(data: &PageData) -> Markup {
    html! {
        section {
            h2 { "Settings" }
            p.note { "What shapes the requests and the rows. All runs of an export have the same." }
            div.scroll { table {
                caption { "Settings of the export" }
                tbody {
                    @for (name, value) in &data.identity {
                        tr { th scope="row" { (Sanitized(name)) } td.long { (sanitized_whole(value)) } }
                    }
                }
            } }
        }
    }
}

/// Lists of columns are longer than other texts.
fn sanitized_whole(value: &str) -> String {
    crate::model::sanitize::beginning(value.as_bytes(), 4_000)
}
