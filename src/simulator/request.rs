//! Parses a request to the simulated API, and formats the response to one that gets no page.
//!
//! `Simulator::respond` has the order of the checks.

use std::borrow::Cow;
use std::time::Duration;

use bytes::Bytes;

use crate::endpoint::{Endpoint, SortParams};

/// The parts of a request that the API reads.
#[derive(Clone, Copy, Debug)]
pub struct ApiRequest<'a> {
    /// Path of the URL.
    pub path: &'a str,
    /// Query of the URL, still encoded.
    pub query: &'a str,
    /// The `Authorization` header.
    pub authorization: Option<&'a str>,
}

/// A response, and how long it takes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ApiResponse {
    /// HTTP status.
    pub status: u16,
    /// The envelope.
    pub body: Bytes,
    /// Time until it is sent, after its content was decided.
    pub delay: Duration,
}

/// Why a request gets no page.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Refusal {
    pub(super) status: u16,
    message: String,
}

impl Refusal {
    pub(super) fn new(status: u16, message: impl Into<String>) -> Self {
        Self { status, message: message.into() }
    }

    fn invalid(name: &str) -> Self {
        Self::new(400, format!("Invalid parameter: {name}"))
    }

    pub(super) fn body(&self) -> Bytes {
        let envelope = serde_json::json!({ "code": self.status, "data": null, "message": self.message });
        Bytes::from(envelope.to_string())
    }
}

/// Whether an `Authorization` header has the accepted key, or any key where `only` is none.
pub(super) fn is_authorized(header: Option<&str>, only: Option<&str>) -> bool {
    let Some((scheme, key)) = header.and_then(|header| header.trim().split_once(' ')) else {
        return false;
    };
    let key = key.trim();
    scheme.eq_ignore_ascii_case("bearer") && !key.is_empty() && only.is_none_or(|only| only == key)
}

/// The page that a query requests.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct ParsedRequest<'a> {
    pub(super) item: Cow<'a, str>,
    pub(super) page: u32,
    /// Position of the page's first row.
    pub(super) start: u64,
    pub(super) size: u32,
    /// The value of the sort field parameter, and whether the order is descending.
    pub(super) sort: Option<(Cow<'a, str>, bool)>,
}

impl<'a> ParsedRequest<'a> {
    /// Ignores unknown parameters, and all but the first of several with one name.
    pub(super) fn parse(endpoint: &Endpoint, query: &'a str) -> Result<Self, Refusal> {
        let item = required(query, &endpoint.item.param)?;
        let limits = &endpoint.page;
        let page = number(query, &limits.number_param, limits.first, limits.last)?;
        let size = number(query, &limits.size_param, 1, limits.size_max)?;
        let sort = endpoint.sort.as_ref().map_or(Ok(None), |params| sort(params, query))?;
        let start = u64::from(page.saturating_sub(limits.first)) * u64::from(size);
        Ok(Self { item, page, start, size, sort })
    }
}

fn sort<'a>(params: &SortParams, query: &'a str) -> Result<Option<(Cow<'a, str>, bool)>, Refusal> {
    let direction = parameter(query, &params.direction_param);
    let is_descending = match direction.as_deref() {
        Some(given) if given == params.descending => true,
        Some(given) if given != params.ascending => return Err(Refusal::invalid(&params.direction_param)),
        Some(_) | None => false,
    };
    match parameter(query, &params.field_param) {
        None => Ok(None),
        Some(field) if params.fields.values().any(|known| *known == field) => Ok(Some((field, is_descending))),
        Some(_) => Err(Refusal::invalid(&params.field_param)),
    }
}

/// The value of a parameter; none if it is missing or empty.
fn parameter<'a>(query: &'a str, name: &str) -> Option<Cow<'a, str>> {
    let mut pairs = url::form_urlencoded::parse(query.as_bytes());
    pairs.find(|(key, _)| key == name).map(|(_, value)| value).filter(|value| !value.is_empty())
}

fn required<'a>(query: &'a str, name: &str) -> Result<Cow<'a, str>, Refusal> {
    parameter(query, name).ok_or_else(|| Refusal::new(400, format!("Missing required parameter: {name}")))
}

fn number(query: &str, name: &str, least: u32, most: u32) -> Result<u32, Refusal> {
    let given = required(query, name)?;
    let number = given.parse().ok().filter(|number| (least..=most).contains(number));
    number.ok_or_else(|| Refusal::invalid(name))
}

#[cfg(test)]
mod tests {
    use super::{ParsedRequest, Refusal, is_authorized};
    use crate::endpoint::{BUILT_IN, Endpoint};

    fn parse(query: &str) -> Result<ParsedRequest<'_>, Refusal> {
        ParsedRequest::parse(&Endpoint::parse(BUILT_IN).unwrap(), query)
    }

    #[test]
    fn only_a_bearer_key_is_accepted_and_only_the_right_one_if_one_is_set() {
        let any = ["Bearer sk_live_1", "bearer x", " Bearer  x "];
        assert!(any.into_iter().all(|header| is_authorized(Some(header), None)));
        let none = [None, Some(""), Some("Bearer"), Some("Bearer "), Some("Basic x"), Some("sk_live_1")];
        assert!(none.into_iter().all(|header| !is_authorized(header, None)));
        assert!(
            is_authorized(Some("Bearer right"), Some("right")) && !is_authorized(Some("Bearer wrong"), Some("right"))
        );
    }

    #[test]
    fn a_query_is_parsed_as_a_page_of_a_sorted_list() {
        let parsed =
            parse("page_size=10&page_num=3&product_id=a%2Bb&product_video_sort_field=6&sort_type=1&x=y").unwrap();
        assert_eq!((parsed.item.as_ref(), parsed.page, parsed.start, parsed.size), ("a+b", 3, 20, 10));
        assert_eq!(parsed.sort, Some(("6".into(), true)));
        assert_eq!(parse("product_id=1&page_num=1&page_size=1&sort_type=1").unwrap().sort, None);
    }

    #[test]
    fn a_parameter_that_is_missing_or_outside_its_limits_is_named() {
        let missing = |name: &str| Err(Refusal::new(400, format!("Missing required parameter: {name}")));
        let invalid = |name: &str| Err(Refusal::invalid(name));
        assert_eq!(parse("page_num=1&page_size=10"), missing("product_id"));
        assert_eq!(parse("product_id=&page_num=1&page_size=10"), missing("product_id"));
        assert_eq!(parse("product_id=1&page_size=10"), missing("page_num"));
        assert_eq!(parse("product_id=1&page_num=1"), missing("page_size"));
        for page in ["0", "100001", "-1", "1.0", "x", "99999999999"] {
            assert_eq!(parse(&format!("product_id=1&page_num={page}&page_size=10")), invalid("page_num"));
        }
        for size in ["0", "11", "ten"] {
            assert_eq!(parse(&format!("product_id=1&page_num=1&page_size={size}")), invalid("page_size"));
        }
        let sorted = |rest: &str| format!("product_id=1&page_num=1&page_size=10&{rest}");
        assert_eq!(parse(&sorted("product_video_sort_field=7")), invalid("product_video_sort_field"));
        assert_eq!(parse(&sorted("product_video_sort_field=1&sort_type=2")), invalid("sort_type"));
        assert!(parse(&sorted("product_video_sort_field=1&sort_type=0")).is_ok());
    }
}
