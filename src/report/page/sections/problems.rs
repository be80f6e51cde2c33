//! What went wrong or differs: failed products, the slowest and dearest ones, drift.

use indicatif::HumanCount;
use maud::{Markup, html};

use crate::model::sanitize::{LONGEST_ERROR, Sanitized, beginning};
use crate::report::page::data::PageData;
use crate::report::page::items::Ranking;
use crate::report::page::units::{count, duration, fraction, percent};
use crate::report::totals::as_u64;

/// Columns and fields of each kind of drift that are shown.
const NAMES: usize = 30;

pub(crate) fn products(data: &PageData) -> Markup {
    let (items, totals) = (&data.items, &data.totals);
    let incomplete = totals.products.failed + totals.products.cut;
    html! {
        section {
            h2 { "Products" }
            p.note { "At its end, a run writes a row for every product to _pagehaul/products.parquet." }
            @if incomplete == 0 { p { "No product failed." } } @else {
                @if data.reasons.iter().any(|reason| reason.products > 1) { (reasons(data)) }
                (failures(data))
            }
            (ranking("Most expensive products", "Credits", &items.dearest, |credits| count(unsigned(credits))))
            (ranking("Slowest products: from their first page to their last", "Time", &items.slowest, |micros| {
                duration(fraction(unsigned(micros), 1_000_000))
            }))
            (ranking("Lists that moved while they were read", "", &items.moved, |rows| count(unsigned(rows))))
            (ranking("Products with rejected rows", "Rejected", &items.rejected, |rows| count(unsigned(rows))))
            (ranking("Products with duplicate rows", "Duplicates", &items.duplicates, |rows| count(unsigned(rows))))
        }
    }
}

fn unsigned(number: i64) -> u64 {
    u64::try_from(number).unwrap_or_default()
}

fn reasons(data: &PageData) -> Markup {
    html! {
        div.scroll { table {
            caption { "Why products failed or are incomplete, the most frequent reasons first" }
            thead { tr { th.number scope="col" { "Products" } th scope="col" { "Outcome" } th scope="col" { "Reason" } th scope="col" { "First" } } }
            tbody {
                @for reason in &data.reasons {
                    tr {
                        td.number { (count(reason.products)) } td { (reason.stop_reason) }
                        td.long { (message(reason.error.as_deref())) } td.id { (Sanitized(&reason.first)) }
                    }
                }
            }
        } }
    }
}

fn failures(data: &PageData) -> Markup {
    let (failures, products) = (&data.totals.failures, data.totals.products);
    let more = (products.failed + products.cut).saturating_sub(as_u64(failures.len()));
    html! {
        div.scroll { table {
            caption { "Failed and incomplete products" }
            thead { tr { th scope="col" { "Product" } th scope="col" { "Reason" } } }
            tbody {
                @for failure in failures {
                    tr {
                        th.id scope="row" { (Sanitized(&failure.product)) small { (failure.stop_reason) } }
                        td.long { (message(failure.error.as_deref())) }
                    }
                }
            }
        } }
        @if more > 0 { p.note { "And " (count(more)) " more: products.parquet, where complete is false." } }
    }
}

fn message(error: Option<&str>) -> String {
    beginning(error.unwrap_or_default().as_bytes(), LONGEST_ERROR)
}

fn ranking(caption: &str, measure: &str, ranking: &Ranking, shown: impl Fn(i64) -> String) -> Markup {
    let (listed, has_measure) = (as_u64(ranking.products.len()), !measure.is_empty());
    html! {
        @if !ranking.products.is_empty() {
            div.scroll { table {
                caption { (caption) @if ranking.of > listed { " (" (count(listed)) " of " (count(ranking.of)) ")" } }
                thead { tr {
                    th scope="col" { "Product" } @if has_measure { th.number scope="col" { (measure) } } th.number scope="col" { "Pages" }
                    th.number scope="col" { "Rows" }
                } }
                tbody {
                    @for product in &ranking.products {
                        tr {
                            th.id scope="row" { (product.product) }
                            @if has_measure { td.number { (shown(product.measure)) } }
                            td.number { (count(unsigned(product.pages))) } td.number { (count(unsigned(product.rows))) }
                        }
                    }
                }
            } }
        }
    }
}

pub(crate) fn drift(data: &PageData) -> Markup {
    let (drift, rows) = (&data.drift, data.totals.rows.received);
    let is_none =
        drift.misfits.is_empty() && drift.unknown.is_empty() && drift.others == 0 && data.never_came.is_empty();
    html! {
        section {
            h2 { "Drift" }
            p.note { "Drift is where responses differ from the endpoint's description. No value is lost: what fits no column is in _extra." }
            @if is_none { p { "The responses are as described." } }
            (names("Values that did not fit their column", ["Column", "Values"], &drift.misfits, rows))
            (names("Fields without a column", ["Field", "Rows"], &drift.unknown, rows))
            @if drift.others > 0 { p.note { (count(drift.others)) " more values in fields beyond those that are counted by name." } }
            @if !data.never_came.is_empty() {
                p { "Columns whose field never came: " (first(&data.never_came)) "." }
            }
        }
    }
}

fn names(caption: &str, what: [&str; 2], counts: &[(String, u64)], rows: u64) -> Markup {
    let more = counts.len().saturating_sub(NAMES);
    html! {
        @if !counts.is_empty() {
            div.scroll { table {
                caption { (caption) ", of " (count(rows)) " rows" }
                thead { tr { th scope="col" { (what[0]) } th.number scope="col" { (what[1]) } th.number scope="col" { "Share" } } }
                tbody {
                    @for (name, cells) in counts.iter().take(NAMES) {
                        tr { th.id scope="row" { (Sanitized(name)) } td.number { (count(*cells)) } td.number { (percent(*cells, rows)) } }
                    }
                }
            } }
            @if more > 0 { p.note { "And " (more) " more in summary.json." } }
        }
    }
}

/// The first names, and how many more there are.
fn first(names: &[String]) -> String {
    let more = names.len().saturating_sub(NAMES);
    let first = names.iter().take(NAMES).map(String::as_str).collect::<Vec<_>>().join(", ");
    if more == 0 { first } else { format!("{first} and {} more", HumanCount(as_u64(more))) }
}
