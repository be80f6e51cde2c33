//! What came of an export, and what it cost: credits, rows a region, files, depth of lists.

use maud::{Markup, html};

use crate::report::page::charts::{bar, bars};
use crate::report::page::data::PageData;
use crate::report::page::files::{FileSums, SIZES};
use crate::report::page::items::DEPTHS;
use crate::report::page::units::{bytes, count, percent};
use crate::report::totals::Count;

pub(crate) fn credits(data: &PageData) -> Markup {
    let (credits, sums) = (data.totals.credits, &data.course.sums);
    let all = credits.billed + credits.in_doubt;
    let positive = |credits: i64| u64::try_from(credits).unwrap_or_default();
    let missing = credits.billed.saturating_sub(sums.billed);
    let rows = [
        ("Billed", credits.billed, "Responses that are pages: one credit each."),
        (
            "  on evidence",
            positive(sums.evidence),
            "Of those billed: pages behind the ends of lists, to see whether they end there.",
        ),
        ("  ahead", positive(sums.ahead), "Of those billed: pages requested ahead that no list has."),
        ("In doubt", credits.in_doubt, "Requests without a response: the API may have billed them. An upper bound."),
        ("Free", credits.free, "Attempts that the API does not bill, such as 429."),
    ];
    html! {
        section {
            h2 { "Credits" }
            div.scroll { table {
                caption { "Attempts by what they cost, over all runs. Spent is billed and in doubt." }
                thead { tr { th scope="col" { "Credits" } th.number scope="col" { "Number" } th.number scope="col" { "Share of spent" } } }
                tbody {
                    @for (name, number, what) in rows {
                        tr {
                            th scope="row" class=[name.starts_with(' ').then_some("part")] { (name.trim_start()) small { (what) } }
                            td.number { (count(number)) }
                            td.number { @if name == "Free" { "–" } @else { (percent(number, all)) } }
                        }
                    }
                }
            } }
            @if let Some(max) = credits.max { p.note { "The limit is " (count(max)) " credits (max_credits)." } }
            @if missing > 0 {
                p.note {
                    (count(missing)) " of the billed credits are missing in everything over time below: "
                    @if data.head.holder.is_some() { "the run has not written its last interval yet." }
                    @else { "a run was killed before it wrote its last interval." }
                }
            }
        }
    }
}

pub(crate) fn rows_and_files(data: &PageData) -> Markup {
    let (files, rows) = (&data.files, data.totals.rows);
    let most = files.regions.first().map_or(0, |(_, sums)| sums.rows);
    let rest = (
        if files.rest.0 == 1 { "1 other".to_owned() } else { format!("{} others", count(files.rest.0)) },
        &files.rest.1,
    );
    html! {
        section {
            h2 { "Rows and files" }
            p { (rows) "." }
            @if files.all.files == 0 {
                p.note { @if data.head.status == "removed" { "The files were removed." } @else { "No file is published yet." } }
            } @else {
                div.scroll { table.bars {
                    caption { "Rows by " (files.partition) ", the largest first" }
                    thead { tr {
                        th scope="col" { (files.partition) } th.number scope="col" { "Rows" } th.number scope="col" { "Share" }
                        th.number scope="col" { "Files" } th.number scope="col" { "Size" } th.wide { span.hidden { "share" } }
                    } }
                    tbody {
                        @for (region, sums) in &files.regions { (region_row(region, sums, files.all.rows, most)) }
                        @if files.rest.0 > 0 { (region_row(&rest.0, rest.1, files.all.rows, most)) }
                    }
                } }
                p { (Count(files.all.files, "file")) ", " (bytes(files.all.bytes)) " in all; the largest has " (bytes(files.largest)) "." }
                (bars("Files by size", ["Size", "Files"], &size_classes(&files.sizes)))
            }
            @if rows.rejected > 0 {
                p {
                    (Count(rows.rejected, "row")) " could not be used: they have no valid id or are not objects. They are in "
                    (Count(files.rejects.files, "file")) " in _rejects (" (bytes(files.rejects.bytes)) "), each with its reason."
                }
            }
            (bars("Depth of lists: products by pages in the journal", ["Pages", "Products"], &depth_classes(&data.items.depths)))
        }
    }
}

fn region_row(region: &str, sums: &FileSums, all: u64, most: u64) -> Markup {
    html! {
        tr {
            th.id scope="row" { (region) }
            td.number { (count(sums.rows)) } td.number { (percent(sums.rows, all)) }
            td.number { (count(sums.files)) } td.number { (bytes(sums.bytes)) } td.wide { (bar(sums.rows, most)) }
        }
    }
}

fn size_classes(counts: &[u64]) -> Vec<(String, u64)> {
    let names = SIZES.iter().map(|size| format!("up to {}", bytes(*size)));
    let names = names.chain(SIZES.last().map(|size| format!("above {}", bytes(*size))));
    filled(names.zip(counts.iter().copied()).collect())
}

fn depth_classes(counts: &[u64]) -> Vec<(String, u64)> {
    let name = |at: usize| match (at.checked_sub(1).and_then(|before| DEPTHS.get(before)), DEPTHS.get(at)) {
        (Some(before), Some(depth)) if before + 1 < *depth => format!("{} to {depth}", before + 1),
        (_, Some(depth)) => depth.to_string(),
        (before, None) => format!("above {}", before.copied().unwrap_or_default()),
    };
    filled(counts.iter().copied().enumerate().map(|(at, number)| (name(at), number)).collect())
}

/// The classes from the first to the last that has any.
fn filled(mut classes: Vec<(String, u64)>) -> Vec<(String, u64)> {
    let used = classes.iter().rposition(|(_, number)| *number > 0).map_or(0, |at| at + 1);
    classes.truncate(used);
    let empty = classes.iter().position(|(_, number)| *number > 0).unwrap_or_default();
    classes.split_off(empty)
}
