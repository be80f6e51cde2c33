//! The simulated API without its socket.
//!
//! `pagehaul simulate` serves it, `export --simulate` runs against it without a key, and tests compare with it: a row is a pure
//! function of the seed, the item and the row's position.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use rand_core::Rng;
use rand_xoshiro::SplitMix64;

use super::account::ApiState;
use super::fake::Template;
use super::list::{List, random_below, random_bits};
use super::request::{ParsedRequest, Refusal, is_authorized};
use super::{Account, ApiRequest, ApiResponse, Billed, Limit, SimulatorError, SimulatorSettings, list, row};
use crate::endpoint::Endpoint;
use crate::model::clock;

/// Expected bytes of a row and of an envelope, to allocate a body once.
const ROW_SIZE: usize = 1300;
const ENVELOPE_SIZE: usize = 128;

/// The simulated API, without a socket.
#[derive(Debug)]
pub struct Simulator {
    endpoint: Endpoint,
    settings: SimulatorSettings,
    template: Template,
    envelope_start: Vec<u8>,
    limit: Option<Limit>,
    state: Mutex<ApiState>,
}

impl Simulator {
    /// Simulates the API that an endpoint describes.
    pub fn new(endpoint: &Endpoint, settings: SimulatorSettings) -> Result<Self, SimulatorError> {
        let template = Template::compile(endpoint)?;
        let code = endpoint.success_codes.first().copied().unwrap_or_default();
        Ok(Self {
            endpoint: endpoint.clone(),
            template,
            envelope_start: format!("{{\"code\":{code},\"message\":\"success\",\"data\":[").into_bytes(),
            limit: settings.limit_spec().map(Limit::new),
            state: Mutex::new(ApiState {
                credits: settings.credits,
                billed: settings.record.then(Billed::new),
                ..ApiState::default()
            }),
            settings,
        })
    }

    /// The settings that it was created with.
    pub fn settings(&self) -> &SimulatorSettings {
        &self.settings
    }

    /// The number of rows of a product. Every id has a list, maybe an empty one.
    pub fn videos(&self, product: &str) -> u64 {
        list::rows(self.settings.seed, product, self.settings.max_videos)
    }

    /// The JSON text of one row, as in a response. `position` counts from 0; `sort` is the value of the sort field parameter,
    /// and whether the order is descending. `None`: no such row or order.
    pub fn row(&self, product: &str, sort: Option<(&str, bool)>, position: u64) -> Option<String> {
        let order = match sort {
            None => None,
            Some((field, is_descending)) => Some((self.template.field(field)?, is_descending)),
        };
        let list = self.list(product);
        let mut row = Vec::new();
        self.push_rows(&list, order, position..position.checked_add(1)?, &mut row);
        if row.is_empty() { None } else { String::from_utf8(row).ok() }
    }

    /// Time from the moment the next request is sent until it is counted.
    pub fn request_delay(&self) -> Duration {
        if self.settings.request_jitter.is_zero() {
            return self.settings.request_latency;
        }
        let number = counted(&mut self.state().sent);
        let mut rng = random_bits(!self.settings.seed, number);
        self.settings.request_latency.saturating_add(random_duration(self.settings.request_jitter, rng.next_u64()))
    }

    /// Responds to a request and bills it, without waiting.
    pub fn respond(&self, request: &ApiRequest<'_>) -> ApiResponse {
        let number = counted(&mut self.state().account.requests);
        let mut rng = random_bits(self.settings.seed, number);
        let delay = self.settings.latency.saturating_add(random_duration(self.settings.jitter, rng.next_u64()));
        match self.page(request, &mut rng) {
            Ok(body) => ApiResponse { status: 200, body, delay },
            Err(refusal) => {
                self.state().account.count_refusal(refusal.status);
                ApiResponse { status: refusal.status, body: refusal.body(), delay }
            }
        }
    }

    /// Time until a body of so many bytes is sent. All bodies share the bandwidth.
    pub fn transfer_time(&self, bytes: usize) -> Duration {
        let Some(bandwidth) = self.settings.bandwidth else { return Duration::ZERO };
        let nanos = u64::try_from(bytes).unwrap_or(u64::MAX).saturating_mul(1_000_000_000) / u64::from(bandwidth.get());
        let now = clock::now();
        let free_at = &mut self.state().bandwidth_free_at;
        let ends = free_at.filter(|at| *at > now).unwrap_or(now) + Duration::from_nanos(nanos);
        *free_at = Some(ends);
        ends - now
    }

    /// The counts so far.
    pub fn account(&self) -> Account {
        self.state().account
    }

    /// How many times each page of each product was billed; empty unless the settings say `record`.
    pub fn billed(&self) -> Billed {
        self.state().billed.clone().unwrap_or_default()
    }

    /// Checks in the order of a gateway: path, key, limit and parameters before a request can fail or cost.
    fn page(&self, request: &ApiRequest<'_>, rng: &mut SplitMix64) -> Result<Bytes, Refusal> {
        if request.path != self.endpoint.path {
            return Err(Refusal::new(404, "Not found"));
        }
        if !is_authorized(request.authorization, self.settings.key.as_deref()) {
            return Err(Refusal::new(401, "apiKey is null"));
        }
        if self.limit.as_ref().is_some_and(|limit| !limit.admits()) {
            return Err(Refusal::new(429, "qps limit exceeded"));
        }
        let parsed = ParsedRequest::parse(&self.endpoint, request.query)?;
        if list::share(rng.next_u64()) <= self.settings.errors {
            return Err(Refusal::new(500, "Internal server error"));
        }
        self.bill(&parsed)?;
        Ok(self.body(&parsed, rng))
    }

    fn bill(&self, parsed: &ParsedRequest<'_>) -> Result<(), Refusal> {
        let mut state = self.state();
        if state.credits == Some(0) {
            return Err(Refusal::new(402, "apiKey quota is not enough"));
        }
        state.credits = state.credits.map(|left| left - 1);
        state.account.pages += 1;
        if let Some(billed) = &mut state.billed {
            *billed.entry((parsed.item.to_string(), parsed.page)).or_default() += 1;
        }
        Ok(())
    }

    fn body(&self, parsed: &ParsedRequest<'_>, rng: &mut SplitMix64) -> Bytes {
        let list = self.list(&parsed.item);
        let rows = parsed.start.min(list.rows())..parsed.start.saturating_add(u64::from(parsed.size)).min(list.rows());
        let capacity = usize::try_from(rows.end - rows.start).unwrap_or_default() * ROW_SIZE;
        let mut body = Vec::with_capacity(capacity + ENVELOPE_SIZE);
        body.extend_from_slice(&self.envelope_start);
        let sort = parsed.sort.as_ref();
        let order = sort.and_then(|(field, is_descending)| Some((self.template.field(field)?, *is_descending)));
        self.push_rows(&list, order, rows, &mut body);
        body.extend_from_slice(b"],\"requestId\":\"");
        row::push_uuid(&mut body, rng);
        body.extend_from_slice(b"\"}");
        Bytes::from(body)
    }

    fn state(&self) -> MutexGuard<'_, ApiState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn list(&self, product: &str) -> List {
        List::new(self.settings.seed, product, self.settings.max_videos, self.template.fields())
    }

    /// Appends the rows at these positions of an order, separated by commas.
    fn push_rows(&self, list: &List, order: Option<(usize, bool)>, positions: std::ops::Range<u64>, out: &mut Vec<u8>) {
        let sorted = order.map(|(field, is_descending)| (list.sorted(field), is_descending));
        let rows = list.rows();
        for (index, position) in positions.take_while(|position| *position < rows).enumerate() {
            if index > 0 {
                out.push(b',');
            }
            let row = match sorted {
                None => position,
                Some((sorted, true)) => sorted.apply(position, rows),
                Some((sorted, false)) => sorted.apply(rows - 1 - position, rows),
            };
            self.template.push(list, row, out);
        }
    }
}

/// Adds one to a counter, and returns what it was.
fn counted(counter: &mut u64) -> u64 {
    std::mem::replace(counter, *counter + 1)
}

/// A duration from 0 up to a limit.
fn random_duration(limit: Duration, bits: u64) -> Duration {
    let nanos = u64::try_from(limit.as_nanos()).unwrap_or(u64::MAX);
    Duration::from_nanos(random_below(bits, nanos))
}

#[cfg(test)]
mod tests {
    use super::{Account, ApiRequest, Simulator, SimulatorSettings};
    use crate::decode::envelope::{self, Payload};
    use crate::decode::{Decoder, Response};
    use crate::endpoint::{BUILT_IN, EXTRA, Endpoint};
    use crate::model::clock::Utc64;
    use crate::model::page::{AttemptId, ItemId, ItemIx, PageNum, Request};
    use arrow::array::Array;
    use serde_json::Value;
    use std::collections::{BTreeMap, BTreeSet};
    use std::time::Duration;

    fn simulator(settings: &str) -> Simulator {
        Simulator::new(&Endpoint::parse(BUILT_IN).unwrap(), settings.parse().unwrap()).unwrap()
    }

    fn ask(simulator: &Simulator, query: &str) -> (u16, Value) {
        let path = simulator.endpoint.path.as_str();
        let response = simulator.respond(&ApiRequest { path, query, authorization: Some("Bearer k") });
        (response.status, serde_json::from_slice(&response.body).unwrap())
    }

    fn page(simulator: &Simulator, product: &str, page: u64, sort: &str) -> Vec<Value> {
        let (status, mut body) = ask(simulator, &format!("product_id={product}&page_num={page}&page_size=10{sort}"));
        assert_eq!(status, 200);
        serde_json::from_value(body["data"].take()).unwrap()
    }

    fn walk(simulator: &Simulator, product: &str, sort: &str) -> Vec<Value> {
        let pages = simulator.videos(product).div_ceil(10);
        (1..=pages).flat_map(|number| page(simulator, product, number, sort)).collect()
    }

    /// A product with some pages.
    fn product(simulator: &Simulator) -> String {
        simulator.settings().ids().find(|id| (42..90).contains(&simulator.videos(id))).unwrap()
    }

    fn text(row: &Value, name: &str) -> String {
        row[name].as_str().unwrap().to_owned()
    }

    /// A column's value as a number, from a JSON number or a string.
    fn number(row: &Value, name: &str) -> u64 {
        row[name].as_u64().unwrap_or_else(|| text(row, name).parse().unwrap())
    }

    fn keys(rows: &[Value]) -> BTreeSet<String> {
        rows.iter().map(|row| row["video_id"].to_string()).collect()
    }

    #[tokio::test(start_paused = true)]
    async fn bodies_share_the_bandwidth_one_after_the_other() {
        let simulator = simulator("bandwidth=1000");
        assert_eq!([500, 250].map(|bytes| simulator.transfer_time(bytes)), [500, 750].map(Duration::from_millis));
        tokio::time::advance(Duration::from_secs(2)).await;
        assert_eq!(simulator.transfer_time(10), Duration::from_millis(10));
    }

    #[test]
    fn the_same_seed_gives_the_same_rows_and_another_seed_gives_others() {
        let (one, again, other) = (simulator(""), simulator(""), simulator("seed=2"));
        let product = product(&one);
        assert_eq!(walk(&one, &product, ""), walk(&again, &product, ""));
        assert_ne!(one.row(&product, None, 0), other.row(&product, None, 0));
        assert!(one.settings().ids().any(|id| one.videos(&id) != other.videos(&id)));
    }

    #[test]
    fn the_pages_together_are_every_row_once_and_a_page_past_the_end_is_empty() {
        let simulator = simulator("");
        let product = product(&simulator);
        let rows = walk(&simulator, &product, "");
        let count = simulator.videos(&product);
        let expected: Vec<Value> = (0..count)
            .map(|position| serde_json::from_str(&simulator.row(&product, None, position).unwrap()).unwrap())
            .collect();
        assert_eq!(rows, expected);
        assert_eq!(u64::try_from(keys(&rows).len()).unwrap(), count);
        assert!(rows.iter().all(|row| text(row, "product_id") == product));
        assert_eq!(simulator.row(&product, None, count), None);
        assert_eq!(page(&simulator, &product, count.div_ceil(10) + 1, "").len(), 0);
        assert_eq!(page(&simulator, &product, 100_000, "").len(), 0);
    }

    #[test]
    fn every_sort_field_and_direction_gives_the_same_rows_exactly_sorted() {
        let simulator = simulator("");
        let product = product(&simulator);
        let all = keys(&walk(&simulator, &product, ""));
        let fields = simulator.endpoint.sort.clone().unwrap().fields;
        assert_eq!(fields.len(), 6);
        for (column, value) in fields {
            let up = walk(&simulator, &product, &format!("&product_video_sort_field={value}&sort_type=0"));
            let down = walk(&simulator, &product, &format!("&product_video_sort_field={value}&sort_type=1"));
            assert!(up.is_sorted_by_key(|row| number(row, &column)), "{column}");
            assert!(down.iter().rev().eq(up.iter()), "{column}");
            assert_eq!(keys(&up), all);
            assert!(number(&up[0], &column) < number(&down[0], &column), "{column}");
            let alone = simulator.row(&product, Some((value.as_str(), true)), 17).unwrap();
            assert_eq!(serde_json::from_str::<Value>(&alone).unwrap(), down[17]);
        }
        assert_eq!(simulator.row(&product, Some(("7", true)), 0), None);
    }

    #[test]
    fn an_id_begins_with_the_second_of_its_row() {
        let simulator = simulator("");
        for row in walk(&simulator, &product(&simulator), "") {
            assert_eq!(number(&row, "video_id") >> 32, number(&row, "create_time"));
            assert_eq!(text(&row, "video_id").len(), 19);
        }
    }

    #[test]
    fn every_row_has_every_column_with_its_json_type() {
        let simulator = simulator("");
        let row = serde_json::from_str::<Value>(&simulator.row(&product(&simulator), None, 0).unwrap()).unwrap();
        for column in &simulator.endpoint.columns {
            assert_eq!(row[&column.name].is_string(), column.json == crate::endpoint::JsonType::String);
            assert!(!row[&column.name].is_null(), "{}", column.name);
        }
        assert_eq!(row.as_object().unwrap().len(), simulator.endpoint.columns.len());
    }

    #[test]
    fn an_endpoint_without_fake_patterns_gets_rows_that_fit_its_columns_keys_and_sort_fields() {
        let lines: Vec<&str> = BUILT_IN.lines().take_while(|line| *line != "[fake]").collect();
        let kept: Vec<&str> = lines.into_iter().filter(|line| !line.starts_with("fake = ")).collect();
        let plain = kept.join("\n");
        for (from, to) in [("", ""), ("unit = \"s\"", "unit = \"ms\""), ("json = \"string\"", "json = \"integer\"")] {
            let endpoint = Endpoint::parse(&plain.replace(from, to)).unwrap();
            let simulator = Simulator::new(&endpoint, SimulatorSettings::default()).unwrap();
            let product = product(&simulator);
            let rows = walk(&simulator, &product, "");
            assert_eq!(rows, walk(&Simulator::new(&endpoint, SimulatorSettings::default()).unwrap(), &product, ""));
            let page = Response {
                request: Request {
                    attempt: AttemptId(1),
                    item: ItemIx(1),
                    id: ItemId::new(&product),
                    page: PageNum(1),
                },
                at: Utc64(1),
                body: serde_json::json!({ "code": 0, "data": rows }).to_string().into(),
            };
            let decoded = Decoder::new(&endpoint, |_| true).decode(&[page]).unwrap();
            assert_eq!(decoded.pages[0].keys.iter().collect::<BTreeSet<_>>().len(), rows.len(), "{to}");
            let extra = decoded.rows.column_by_name(EXTRA).unwrap();
            assert_eq!(extra.null_count(), rows.len(), "{to}: {extra:?}");
            assert_eq!(
                decoded.partitions.iter().flatten().map(|value| &**value).collect::<BTreeSet<_>>(),
                ["A", "B", "C"].into()
            );
            for (column, value) in &endpoint.sort.as_ref().unwrap().fields {
                let sorted = walk(&simulator, &product, &format!("&product_video_sort_field={value}&sort_type=0"));
                assert!(sorted.is_sorted_by_key(|row| number(row, column)) && keys(&sorted) == keys(&rows), "{column}");
            }
        }
    }

    #[test]
    fn products_have_a_heavy_tail_and_regions_are_skewed() {
        let simulator = simulator("products=2000");
        let sizes: Vec<u64> = simulator.settings().ids().map(|id| simulator.videos(&id)).collect();
        let rows: u64 = sizes.iter().sum();
        assert!((100_000..170_000).contains(&rows), "{rows}");
        let zero = sizes.iter().filter(|size| **size == 0).count();
        assert!((20..300).contains(&zero), "{zero}");
        assert_eq!(sizes.iter().max(), Some(&2000));
        let mut regions: BTreeMap<String, u64> = BTreeMap::new();
        for id in simulator.settings().ids().take(150) {
            for row in walk(&simulator, &id, "") {
                *regions.entry(text(&row, "region")).or_default() += 1;
            }
        }
        let known = &simulator.endpoint.fake.partitions;
        assert!(known.iter().all(|region| regions.contains_key(region)) && regions.len() == known.len());
        assert!(regions[&known[0]] > 10 * regions[&known[20]], "{regions:?}");
    }

    #[test]
    fn a_small_cap_holds_for_every_product() {
        let simulator = simulator("max_videos=25");
        assert_eq!(simulator.settings().ids().map(|id| simulator.videos(&id)).max(), Some(25));
    }

    #[test]
    fn answers_are_envelopes_and_differ_in_their_request_id_alone() {
        let simulator = simulator("");
        let query = format!("product_id={}&page_num=1&page_size=10", product(&simulator));
        let request = ApiRequest { path: &simulator.endpoint.path, query: &query, authorization: Some("Bearer k") };
        let envelope = envelope::read(&simulator.respond(&request).body).unwrap();
        assert_eq!((envelope.code, envelope.message.as_str(), envelope.data), (Some(0), "success", Payload::Rows));
        let ((_, first), (_, second)) = (ask(&simulator, &query), ask(&simulator, &query));
        assert_eq!(first["data"], second["data"]);
        assert_ne!(first["requestId"], second["requestId"]);
        assert_eq!(first["requestId"].as_str().unwrap().len(), 36);
    }

    #[test]
    fn refusals_come_as_documented_and_are_counted() {
        let simulator = simulator("key=right,credits=1,record=true");
        let path = simulator.endpoint.path.as_str();
        let respond = |path: &str, query: &str, key: &str| {
            let response = simulator.respond(&ApiRequest { path, query, authorization: Some(key) });
            let envelope = envelope::read(&response.body).unwrap();
            assert!(envelope.data == Payload::None || response.status == 200);
            (response.status, envelope.code.unwrap(), envelope.message)
        };
        let good = "product_id=5&page_num=2&page_size=10";
        assert_eq!(respond("/v1", good, "Bearer right").0, 404);
        assert_eq!(respond(path, good, "Bearer wrong"), (401, 401, "apiKey is null".to_owned()));
        assert_eq!(respond(path, "", "Bearer right"), (400, 400, "Missing required parameter: product_id".to_owned()));
        assert_eq!(respond(path, good, "Bearer right"), (200, 0, "success".to_owned()));
        assert_eq!(respond(path, good, "Bearer right"), (402, 402, "apiKey quota is not enough".to_owned()));
        assert_eq!(simulator.billed(), BTreeMap::from([(("5".to_owned(), 2), 1)]));
        let once = Account {
            requests: 5,
            pages: 1,
            unauthorized: 1,
            invalid: 1,
            unpaid: 1,
            not_found: 1,
            ..Account::default()
        };
        assert_eq!(simulator.account(), once);
    }

    #[tokio::test(start_paused = true)]
    async fn requests_above_the_limit_are_throttled_however_it_counts() {
        for window in ["bucket", "window"] {
            let simulator = simulator(&format!("qps=3,limit={window}"));
            let query = "product_id=5&page_num=1&page_size=10";
            let statuses: Vec<u16> = (0..5).map(|_| ask(&simulator, query).0).collect();
            assert_eq!(statuses, [200, 200, 200, 429, 429]);
            assert_eq!(ask(&simulator, query).1["message"], "qps limit exceeded");
            tokio::time::advance(Duration::from_secs(1)).await;
            assert_eq!(ask(&simulator, query).0, 200);
            assert_eq!((simulator.account().throttled, simulator.account().pages), (3, 4));
        }
    }

    #[test]
    fn injected_errors_have_their_share_and_a_retry_can_succeed() {
        let simulator = simulator("errors=0.2");
        let query = "product_id=5&page_num=1&page_size=10";
        let statuses: Vec<u16> = (0..1000).map(|_| ask(&simulator, query).0).collect();
        let errors = statuses.iter().filter(|status| **status == 500).count();
        assert!((150..250).contains(&errors), "{errors}");
        assert_eq!(simulator.account().errors, u64::try_from(errors).unwrap());
        assert_eq!(simulator.account().pages, 1000 - simulator.account().errors);
        assert!(statuses.windows(2).any(|pair| pair == [500, 200]));
        let always = super::tests::simulator("errors=1");
        assert_eq!(
            ask(&always, query).1,
            serde_json::json!({"code": 500, "data": null, "message": "Internal server error"})
        );
    }

    #[test]
    fn the_delay_is_between_the_latency_and_the_latency_with_its_jitter() {
        let simulator = simulator("latency=80ms,jitter=20ms");
        let delays: BTreeSet<Duration> = (0..100)
            .map(|_| simulator.respond(&ApiRequest { path: "/", query: "", authorization: None }).delay)
            .collect();
        assert!(delays.len() > 50);
        assert!(delays.iter().all(|delay| (80..100).contains(&delay.as_millis())));
    }

    #[test]
    fn an_invalid_pattern_is_reported_with_its_column() {
        let endpoint = Endpoint::parse(&BUILT_IN.replace("{words:13}", "{wrods:13}")).unwrap();
        let error = Simulator::new(&endpoint, SimulatorSettings::default()).unwrap_err();
        assert_eq!(error.to_string(), "fake pattern of column video_desc: {wrods:13} is not a placeholder");
    }
}
