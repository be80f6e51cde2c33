//! What worlds send: rows, pages, refusals.

use std::sync::LazyLock;
use std::time::Duration;

use pagehaul::endpoint::ColumnKind;
use serde_json::json;

use super::{LATENCY, id};
use crate::common::scripted::Reply;
use crate::common::{Answer, endpoint};

/// What every row has beside its identity and its region: a value for each column that the endpoint describes.
static REST: LazyLock<String> = LazyLock::new(|| {
    let columns = endpoint().columns.into_iter();
    let others = columns.filter(|column| !["video_id", "product_id", "region"].contains(&column.name.as_str()));
    let cells = others.map(|column| match column.kind {
        ColumnKind::Utf8 => format!(",\"{}\":\"x\"", column.name),
        ColumnKind::Int64 | ColumnKind::Float64 => format!(",\"{}\":7", column.name),
        ColumnKind::Timestamp => format!(",\"{}\":\"1700000000\"", column.name),
    });
    cells.collect()
});

/// A row as JSON text.
pub(crate) fn text_of(item: usize, row: u64) -> String {
    let (product, region, rest) = (id(item), ["ID", "TH", "VN"][(row % 3) as usize], REST.as_str());
    format!("{{\"video_id\":\"v{row}\",\"product_id\":\"{product}\",\"region\":\"{region}\"{rest}}}")
}

/// A success with something under `data`.
pub(crate) fn success(data: &str) -> Reply {
    success_with(0, data).after(LATENCY)
}

pub(super) fn success_with(code: i64, data: &str) -> Reply {
    Answer::new(200, format!("{{\"code\":{code},\"message\":\"success\",\"data\":{data}}}")).into()
}

/// A body under a status, after the usual time.
pub(crate) fn body(status: u16, body: impl Into<Vec<u8>>) -> Reply {
    Reply::from(Answer::new(status, body)).after(LATENCY)
}

/// A page of HTML, as gateways send it.
pub(crate) fn html(status: u16) -> Reply {
    body(status, format!("<html><head><title>{status}</title></head><body>gateway</body></html>"))
}

/// A refusal in the API's envelope, under the same HTTP status.
pub(crate) fn refusal(status: u16, message: &str) -> Reply {
    Reply::refusal(status, message).after(LATENCY)
}

/// A refusal in the API's envelope, under HTTP 200.
pub(crate) fn inside(code: i64, message: &str) -> Reply {
    body(200, json!({ "code": code, "message": message, "data": null }).to_string())
}

/// A 429 in the API's envelope, which requests this many seconds; 0: for none.
pub(crate) fn throttled(retry_after: u64) -> Reply {
    let reply = refusal(429, "qps limit exceeded");
    if retry_after > 0 { reply.with_retry_after(Duration::from_secs(retry_after)) } else { reply }
}

/// An internal error in the API's envelope.
pub(crate) fn internal_error() -> Reply {
    refusal(500, "Internal server error")
}
