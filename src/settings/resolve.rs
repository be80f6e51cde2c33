//! Every setting: its name, where its value came from, and what it means once it is checked.
//!
//! One table, [`SETTINGS`], makes the flags, the `PAGEHAUL_*` variables, the keys of a config file and `config show`. The
//! built-in values are `config/default.toml` itself, so the documented defaults cannot differ from the real ones. Values
//! are text until [`Settings::resolve`] turns them all into types, once.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use url::Url;

use crate::endpoint::{BUILT_IN, Column, EndRule, Endpoint, Role};

use super::layers::{Layers, NONE, SettingsError, nearest};
use super::{RateLimit, RetryPolicy};

/// What an identity says of where the endpoint's description came from. Ledgers that were begun before it did lack it.
pub const DESCRIPTION: &str = "description";
/// What an identity says of the codes that the endpoint's description lists. Others move no cursor: what is in the journal
/// is judged again by them.
pub const CODES: &str = "codes";
/// It came with the program.
const BUILT_IN_ONE: &str = "built-in";
/// It was given as a file.
pub const FROM_FILE: &str = "file";
/// The word for every column.
const ALL: &str = "all";
/// The smallest file that is worth its footer.
const SMALLEST_FILE: u64 = 1 << 20;

/// What is shown while it runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Progress {
    /// A bar on a terminal, lines otherwise.
    Auto,
    /// A bar.
    Bar,
    /// A line from time to time.
    Plain,
    /// Nothing.
    None,
}

/// Settings, checked. Nothing here is optional that must be known before the first request.
#[derive(Clone, Debug)]
#[expect(clippy::struct_excessive_bools, reason = "each is a switch that a person turns")]
pub struct Settings {
    /// The list call.
    pub endpoint: Endpoint,
    /// Whether that is the built-in one, and not a file's.
    pub is_endpoint_built_in: bool,
    /// The directory of the export.
    pub out: PathBuf,
    /// Where ledger and journal lie.
    pub state_dir: PathBuf,
    /// The API.
    pub base_url: Url,
    /// What the embedded API is asked to be, where it is the API; then [`base_url`](Self::base_url) is set to it later.
    pub simulate: Option<String>,
    /// What tells the embedded API from another one: its address changes with every run.
    pub simulated_as: Option<String>,
    /// The key's limit; none where the caller must bring one.
    pub qps: Option<RateLimit>,
    /// Where found limits are remembered; none: the user's own directory for state.
    pub rate_cache_dir: Option<PathBuf>,
    /// Most requests under way.
    pub max_in_flight: usize,
    /// Credits that may be wasted on looking ahead, of a hundred.
    pub lookahead: f64,
    /// What looking for the end of a list must save.
    pub lookahead_saves: Duration,
    /// Rows a page.
    pub page_size: u32,
    /// Sort column and whether descending.
    pub sort: Option<(String, bool)>,
    /// Pages of each item.
    pub max_pages: Option<u32>,
    /// Most credits over all runs.
    pub max_credits: Option<u64>,
    /// What ends a walk.
    pub end: EndRule,
    /// Credits that reading on behind short pages may cost, of a hundred pages.
    pub max_evidence: f64,
    /// Whether lists without a row are as they should be, however many.
    pub allow_empty: bool,
    /// Names of the columns to write, in file order.
    pub columns: Vec<String>,
    /// Whether to retry lasting failures too.
    pub retry_failed: bool,
    /// Whether to read lists once more that moved, and empty ones that are in doubt.
    pub repair: bool,
    /// Whether answers that differ from the description end the run with 10.
    pub fail_on_drift: bool,
    /// How patient to be.
    pub retry: RetryPolicy,
    /// Longest time to make a connection.
    pub connect_timeout: Duration,
    /// Whether answers may come packed.
    pub compressed: bool,
    /// Longest time for a whole answer.
    pub request_timeout: Duration,
    /// How long a stopping run waits.
    pub drain_timeout: Duration,
    /// Journal bytes of a segment.
    pub segment_size: u64,
    /// Most bytes of one file.
    pub file_size: usize,
    /// Whether the files hold bloom filters of the identity columns.
    pub bloom_filters: bool,
    /// Bytes of the row group that is being encoded; half of it for rows that wait.
    pub row_group_memory: usize,
    /// Bytes that stay free on the disks; none: the built-in rule.
    pub min_free_space: Option<u64>,
    /// What is shown.
    pub progress: Progress,
    /// Time between two lines.
    pub heartbeat: Duration,
    /// Whether lines are JSON.
    pub json_logs: bool,
}

impl Settings {
    /// Checks all values at once; the first that does not fit is the error.
    #[expect(clippy::too_many_lines, reason = "one line for each setting")]
    pub fn resolve(layers: &Layers) -> Result<Self, SettingsError> {
        let endpoint = endpoint(layers)?;
        let out = directory(layers, "out")?.ok_or(SettingsError::Missing {
            what: "no directory for the export",
            next: "name one with --out DIR (for a daily job, a new one each day)",
        })?;
        let state_dir = directory(layers, "state_dir")?.unwrap_or_else(|| out.join("_pagehaul"));
        let last = endpoint.page.last;
        let max_pages = layers.optional("max_pages", 1, u64::from(last - endpoint.page.first) + 1)?;
        let as_u32 = |number: u64| u32::try_from(number).unwrap_or(u32::MAX);
        let largest = u64::from(endpoint.page.size_max);
        let as_usize = |number: u64| usize::try_from(number).unwrap_or(usize::MAX);
        Ok(Self {
            base_url: base_url(layers, &endpoint)?,
            simulate: layers.given("simulate").map(str::to_owned),
            simulated_as: None,
            qps: qps(layers)?,
            rate_cache_dir: layers.given("rate_cache_dir").map(PathBuf::from),
            max_in_flight: as_usize(layers.number("max_in_flight", 1, 4096)?),
            lookahead: layers.percent("lookahead")?,
            lookahead_saves: layers.time_or_none("lookahead_saves")?,
            page_size: layers.optional("page_size", 1, largest)?.map_or(endpoint.page.size_max, as_u32),
            sort: sort(layers, &endpoint)?,
            max_pages: max_pages.map(as_u32),
            max_credits: layers.optional("max_credits", 1, u64::MAX)?,
            end: end_rule(layers, &endpoint)?,
            max_evidence: layers.percent("max_evidence")?,
            allow_empty: layers.switch("allow_empty")?,
            columns: columns(layers, &endpoint)?,
            retry_failed: layers.switch("retry_failed")?,
            repair: layers.switch("repair")?,
            fail_on_drift: layers.switch("fail_on_drift")?,
            retry: RetryPolicy {
                first: layers.time("retry_base_delay")?,
                longest: layers.time("retry_max_delay")?,
                attempts: as_u32(layers.number("retry_attempts", 1, 100)?),
                max_outage: layers.time("max_outage")?,
            },
            connect_timeout: layers.time("connect_timeout")?,
            compressed: layers.switch("compressed")?,
            request_timeout: layers.time("request_timeout")?,
            drain_timeout: layers.time("drain_timeout")?,
            segment_size: layers.size("segment_size")?,
            file_size: file_size(layers)?,
            bloom_filters: layers.switch("bloom_filters")?,
            row_group_memory: as_usize(layers.size_up_to("row_group_memory", 1 << 30)?),
            min_free_space: layers.given("min_free_space").map(|_| layers.size("min_free_space")).transpose()?,
            progress: one_of(
                layers,
                "progress",
                &[
                    ("auto", Progress::Auto),
                    ("bar", Progress::Bar),
                    ("plain", Progress::Plain),
                    ("none", Progress::None),
                ],
            )?,
            heartbeat: layers.time("heartbeat")?,
            json_logs: one_of(layers, "log_format", &[("text", false), ("json", true)])?,
            is_endpoint_built_in: layers.given("endpoint").is_none(),
            endpoint,
            out,
            state_dir,
        })
    }

    /// Whether the API is on this machine: plain HTTP is allowed, and its port says nothing about who it is.
    pub fn is_loopback(&self) -> bool {
        is_loopback(&self.base_url)
    }

    /// The settings that shape requests and rows: they must stay the same through all runs of an export.
    pub fn identity(&self) -> BTreeMap<String, String> {
        let mut base = self.base_url.clone();
        if self.is_loopback() && base.set_port(None).is_err() {
            base = self.base_url.clone();
        }
        let sort = self.sort.as_ref().map_or(NONE.to_owned(), |(field, descending)| {
            format!("{field}:{}", if *descending { "desc" } else { "asc" })
        });
        let end = match self.end {
            EndRule::Auto => "auto",
            EndRule::ShortPage => "short-page",
            EndRule::EmptyPage => "empty-page",
        };
        let is_dropped = |column: &&Column| column.role != Role::Partition && !self.columns.contains(&column.name);
        let dropped: Vec<&str> =
            self.endpoint.columns.iter().filter(is_dropped).map(|column| column.name.as_str()).collect();
        [
            ("endpoint", format!("{} {}", self.endpoint.name, self.endpoint.fingerprint())),
            (DESCRIPTION, if self.is_endpoint_built_in { BUILT_IN_ONE } else { FROM_FILE }.to_owned()),
            ("call", format!("{} {}", self.endpoint.name, self.endpoint.call_fingerprint())),
            ("base_url", self.simulated_as.clone().unwrap_or_else(|| base.to_string())),
            ("page_size", self.page_size.to_string()),
            ("sort", sort),
            ("max_pages", self.max_pages.map_or(NONE.to_owned(), |pages| pages.to_string())),
            ("columns", self.columns.join(",")),
            ("dropped", if dropped.is_empty() { NONE.to_owned() } else { dropped.join(",") }),
            ("end", end.to_owned()),
            (CODES, self.endpoint.codes().words()),
        ]
        .map(|(key, value)| (key.to_owned(), value))
        .into()
    }
}

/// The endpoint that is asked for.
pub fn endpoint(layers: &Layers) -> Result<Endpoint, SettingsError> {
    let text = match layers.given("endpoint") {
        None => BUILT_IN.to_owned(),
        Some(path) => std::fs::read_to_string(path).map_err(|error| layers.invalid("endpoint", error.to_string()))?,
    };
    Endpoint::parse(&text).map_err(|error| {
        let cause = std::error::Error::source(&error).map(|cause| format!(": {cause}")).unwrap_or_default();
        layers.invalid("endpoint", format!("{error}{cause}"))
    })
}

/// A directory that is named, if one is.
fn directory(layers: &Layers, key: &'static str) -> Result<Option<PathBuf>, SettingsError> {
    let named = layers.given(key);
    if named.is_some_and(|named| named.contains("://")) {
        return Err(layers.invalid(key, "is an address, and only a directory will do: object stores are not there yet"));
    }
    Ok(named.map(PathBuf::from))
}

fn is_loopback(url: &Url) -> bool {
    match url.host() {
        Some(url::Host::Domain(name)) => name == "localhost",
        Some(url::Host::Ipv4(address)) => address.is_loopback(),
        Some(url::Host::Ipv6(address)) => address.is_loopback(),
        None => false,
    }
}

fn base_url(layers: &Layers, endpoint: &Endpoint) -> Result<Url, SettingsError> {
    let text = layers.given("base_url").unwrap_or(&endpoint.base_url);
    let url = Url::parse(text).map_err(|error| layers.invalid("base_url", format!("is no URL: {error}")))?;
    let reason = match url.scheme() {
        "https" if url.host().is_some() => None,
        "http" if is_loopback(&url) => None,
        "http" => Some("plain http is for loopback addresses only: the key would travel in clear; use https"),
        _ => Some("must begin with https://"),
    };
    let extra =
        !url.username().is_empty() || url.password().is_some() || url.query().is_some() || url.fragment().is_some();
    if layers.given("simulate").is_some() && layers.given("base_url").is_some() {
        return Err(layers.invalid("base_url", "cannot be given together with simulate, which is an API of its own"));
    }
    match reason.or(extra.then_some("must be a scheme and a host, without user, query or fragment")) {
        None => Ok(url),
        Some(reason) => Err(layers.invalid("base_url", reason)),
    }
}

fn qps(layers: &Layers) -> Result<Option<RateLimit>, SettingsError> {
    match layers.given("qps") {
        None => Ok(None),
        Some("auto") => Ok(Some(RateLimit::Auto(None))),
        Some("unlimited") => Ok(Some(RateLimit::Unlimited)),
        Some(text) => {
            let rate = text.parse().ok().filter(|rate: &f64| (0.01..=1e6).contains(rate));
            let wrong = || layers.invalid("qps", "must be a number of requests a second above 0, auto or unlimited");
            rate.map(|rate| Some(RateLimit::PerSecond(rate))).ok_or_else(wrong)
        }
    }
}

fn sort(layers: &Layers, endpoint: &Endpoint) -> Result<Option<(String, bool)>, SettingsError> {
    let Some(text) = layers.given("sort") else { return Ok(None) };
    let (field, direction) = text.split_once(':').unwrap_or((text, "asc"));
    let known = endpoint.sort.as_ref().map(|sort| sort.fields.keys().map(String::as_str).collect::<Vec<_>>());
    let known = known.unwrap_or_default();
    match (known.contains(&field), direction) {
        (true, "asc" | "desc") => Ok(Some((field.to_owned(), direction == "desc"))),
        (true, _) => Err(layers.invalid("sort", "the direction must be asc or desc")),
        (false, _) => Err(layers.invalid("sort", format!("the endpoint sorts by {}", known.join(", ")))),
    }
}

fn end_rule(layers: &Layers, endpoint: &Endpoint) -> Result<EndRule, SettingsError> {
    if layers.given("end").is_none() {
        return Ok(endpoint.end);
    }
    let words = [("auto", EndRule::Auto), ("short-page", EndRule::ShortPage), ("empty-page", EndRule::EmptyPage)];
    one_of(layers, "end", &words)
}

fn file_size(layers: &Layers) -> Result<usize, SettingsError> {
    let size = Some(layers.size("file_size")?).filter(|size| *size >= SMALLEST_FILE);
    let too_small = || layers.invalid("file_size", "must be 1MiB or more");
    size.map(|size| usize::try_from(size).unwrap_or(usize::MAX)).ok_or_else(too_small)
}

fn one_of<T: Copy>(layers: &Layers, key: &'static str, values: &[(&str, T)]) -> Result<T, SettingsError> {
    let found = values.iter().find(|(word, _)| *word == layers.text(key).trim());
    found.map(|(_, value)| *value).ok_or_else(|| {
        let words: Vec<_> = values.iter().map(|(word, _)| *word).collect();
        layers.invalid(key, format!("must be one of {}", words.join(", ")))
    })
}

/// Names of the columns to write, in the endpoint's order. Identity always is; the partition is the directory.
fn columns(layers: &Layers, endpoint: &Endpoint) -> Result<Vec<String>, SettingsError> {
    let (mut wanted, dropped) = (layers.list("columns"), layers.list("drop_columns"));
    if wanted == [ALL] {
        wanted.clear();
    }
    for (key, names) in [("columns", &wanted), ("drop_columns", &dropped)] {
        let Some(unknown) = names.iter().find(|name| !endpoint.columns.iter().any(|column| column.name == **name))
        else {
            continue;
        };
        let near = nearest(unknown, endpoint.columns.iter().map(|column| column.name.as_str()));
        let hint = near.map(|name| format!("; did you mean {name}?")).unwrap_or_default();
        return Err(layers
            .invalid(key, format!("the endpoint has no column {}{hint}", crate::model::sanitize::Sanitized(unknown))));
    }
    let of = |role: Role| endpoint.columns.iter().filter(move |column| column.role == role);
    if let Some(needed) =
        of(Role::Identity).chain(of(Role::Partition)).find(|column| dropped.contains(&column.name.as_str()))
    {
        return Err(
            layers.invalid("drop_columns", format!("{} is {}: rows need it", needed.name, needed.role.as_str()))
        );
    }
    let is_written = |column: &&Column| match column.role {
        Role::Identity => true,
        Role::Partition => false,
        Role::Attribute | Role::Volatile | Role::Metric => {
            let name = column.name.as_str();
            (wanted.is_empty() || wanted.contains(&name)) && !dropped.contains(&name)
        }
    };
    Ok(endpoint.columns.iter().filter(is_written).map(|column| column.name.clone()).collect())
}

#[cfg(test)]
mod tests {
    use super::{EndRule, Layers, Progress, RateLimit, Settings};
    use crate::settings::layers::parse_duration;
    use crate::settings::{DEFAULTS, Origin, SETTINGS};
    use std::time::Duration;

    fn layers(values: &[(&str, &str)]) -> Layers {
        let mut layers = Layers::built_in().unwrap();
        for (key, value) in [("out", "x")].iter().chain(values) {
            layers.set(key, (*value).to_owned(), &Origin::Flag).unwrap();
        }
        layers
    }

    fn refused(values: &[(&str, &str)]) -> String {
        Settings::resolve(&layers(values)).unwrap_err().to_string()
    }

    #[test]
    fn default_toml_documents_every_key_and_no_other() {
        let built_in = Layers::built_in().unwrap();
        let shown: Vec<_> = built_in.shown().map(|(key, _, _)| key).collect();
        assert_eq!(shown, SETTINGS.iter().map(|setting| setting.key).collect::<Vec<_>>());
        let documented = DEFAULTS.lines().filter(|line| line.starts_with('#')).count();
        assert!(documented >= SETTINGS.len(), "each key has at least a line of comment");
    }

    #[test]
    fn a_setting_stands_in_the_section_of_the_help_that_default_toml_has_it_in() {
        let mut section = String::new();
        for line in DEFAULTS.lines() {
            if let Some(title) = line.strip_prefix("# --- ") {
                section = title.split(':').next().unwrap().to_lowercase();
            } else if let Some((key, _)) = line.split_once(" = ").filter(|_| !line.starts_with('#')) {
                let setting = SETTINGS.iter().find(|setting| setting.key == key).unwrap();
                assert_eq!(setting.section.to_lowercase(), section, "{key}");
            }
        }
    }

    #[test]
    fn all_columns_are_what_none_and_all_and_their_names_say() {
        let of = |columns: &str| Settings::resolve(&layers(&[("columns", columns)])).unwrap().columns;
        let every = of("none");
        assert_eq!((of("all"), of(&every.join(","))), (every.clone(), every));
        assert!(refused(&[("columns", "all,video_id")]).contains("no column all"));
    }

    #[test]
    fn the_built_in_values_are_the_ones_that_the_documentation_states() {
        let settings = Settings::resolve(&layers(&[])).unwrap();
        assert_eq!((settings.page_size, settings.max_in_flight, settings.qps), (10, 256, None));
        assert_eq!((settings.max_pages, settings.max_credits, settings.sort), (None, None, None));
        assert_eq!(settings.request_timeout, Duration::from_secs(30));
        assert_eq!((settings.segment_size, settings.row_group_memory), (2 << 30, 16 << 20));
        assert_eq!((settings.file_size, settings.bloom_filters), (512 << 20, false));
        assert_eq!(settings.columns.len(), 20);
        assert_eq!(settings.base_url.as_str(), "https://api.keyapi.ai/");
        assert_eq!(settings.state_dir, std::path::Path::new("x/_pagehaul"));
        assert_eq!((settings.end, settings.max_evidence, settings.allow_empty), (EndRule::Auto, 10.0, false));
    }

    #[test]
    fn a_flag_beats_the_environment_which_beats_a_file_which_beats_the_built_in() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("c.toml");
        std::io::Write::write_all(&mut std::fs::File::create(&path).unwrap(), b"page_size = 2\nqps = 3\nout = \"f\"\n")
            .unwrap();
        let mut layers = Layers::built_in().unwrap();
        layers.add_file(&path).unwrap();
        let variables =
            [("PAGEHAUL_QPS", "4"), ("PAGEHAUL_OUT", "e"), ("PAGEHAUL_SERVICE_HOST", "10.0.0.1"), ("HOME", "/")];
        layers.add_environment(variables.into_iter().map(|(name, value)| (name.to_owned(), value.to_owned()))).unwrap();
        layers.set("out", "flag".to_owned(), &Origin::Flag).unwrap();
        let origin = |key| layers.shown().find(|(name, _, _)| *name == key).unwrap().2.clone();
        assert_eq!((origin("out"), origin("qps"), origin("end")), (Origin::Flag, Origin::Environment, Origin::BuiltIn));
        assert_eq!(origin("page_size"), Origin::File(path));
        let settings = Settings::resolve(&layers).unwrap();
        assert_eq!((settings.page_size, settings.qps), (2, Some(RateLimit::PerSecond(4.0))));
        assert_eq!(settings.out, std::path::Path::new("flag"));
    }

    #[test]
    fn an_unknown_key_is_an_error_that_names_the_nearest() {
        let mut layers = Layers::built_in().unwrap();
        let error = layers.set("max_credit", "1".to_owned(), &Origin::Environment).unwrap_err().to_string();
        assert_eq!(error, "environment: unknown setting PAGEHAUL_MAX_CREDIT; did you mean PAGEHAUL_MAX_CREDITS?");
        let error = layers.set("zzzzzzzzzzz", "1".to_owned(), &Origin::Flag).unwrap_err().to_string();
        assert_eq!(error, "flag: unknown setting zzzzzzzzzzz");
    }

    #[test]
    fn values_that_do_not_fit_are_refused_with_the_reason() {
        let table = [
            ("page_size", "11", "from 1 to 10"),
            ("page_size", "0", "from 1 to 10"),
            ("qps", "0", "above 0"),
            ("qps", "-1", "above 0"),
            ("qps", "NaN", "above 0"),
            ("max_pages", "100001", "from 1 to 100000"),
            ("max_credits", "0", "1 or more"),
            ("max_in_flight", "0", "from 1 to 4096"),
            ("sort", "video_desc", "the endpoint sorts by create_time"),
            ("sort", "create_time:up", "asc or desc"),
            ("end", "never", "auto, short-page, empty-page"),
            ("columns", "video_dec", "did you mean video_desc?"),
            ("drop_columns", "video_id", "rows need it"),
            ("drop_columns", "region", "rows need it"),
            ("base_url", "http://example.com", "plain http"),
            ("base_url", "ftp://example.com", "https://"),
            ("base_url", "https://user:pw@example.com", "without user"),
            ("drain_timeout", "10", "500ms, 30s, 5m or 1h"),
            ("row_group_memory", "48", "48MiB"),
            ("file_size", "64KiB", "1MiB or more"),
            ("progress", "loud", "auto, bar, plain, none"),
            ("retry_failed", "perhaps", "true or false"),
            ("endpoint", "/nonexistent.toml", "No such file"),
            ("out", "s3://bucket/videos", "only a directory"),
            ("state_dir", "file:///tmp/state", "only a directory"),
        ];
        for (key, value, reason) in table {
            let error = refused(&[(key, value)]);
            assert!(error.contains(reason) && error.starts_with(key), "{error}");
        }
    }

    #[test]
    fn a_value_that_echoes_a_key_does_not_show_it() {
        assert!(!refused(&[("qps", "sk_live_secret")]).contains("secret"));
    }

    #[test]
    fn a_loopback_server_s_port_is_no_part_of_the_identity_and_everything_that_moves_cursors_is() {
        let identity = |values: &[(&str, &str)]| Settings::resolve(&layers(values)).unwrap().identity();
        let one = identity(&[("base_url", "http://127.0.0.1:1111")]);
        assert_eq!(one, identity(&[("base_url", "http://127.0.0.1:2222"), ("qps", "7"), ("max_credits", "9")]));
        for (key, value) in [
            ("page_size", "5"),
            ("sort", "create_time:desc"),
            ("max_pages", "3"),
            ("drop_columns", "play_addr"),
            ("end", "empty-page"),
        ] {
            assert_ne!(identity(&[]), identity(&[(key, value)]), "{key}");
        }
    }

    #[test]
    fn times_have_a_unit() {
        assert_eq!(parse_duration("90ms"), Some(Duration::from_millis(90)));
        assert_eq!(parse_duration("2h"), Some(Duration::from_secs(7_200)));
        for wrong in ["", "s", "10", "1.5s", "-1s", "1d", "99999999999999999999s"] {
            assert_eq!(parse_duration(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn what_an_export_is_known_by_is_written_in_these_words() {
        let identity = |values: &[(&str, &str)]| Settings::resolve(&layers(values)).unwrap().identity();
        let columns = "video_id,product_id,user_id,create_time,video_desc,hash_tag,duration,height,width,ratio,\
                       data_size,total_views_cnt,total_digg_cnt,total_comments_cnt,total_favorites_cnt,\
                       total_shares_cnt,total_video_sale_cnt,total_video_sale_gmv_amt,reflow_cover,play_addr";
        let expected = [
            ("base_url", "https://api.keyapi.ai/"),
            ("call", "product-videos 4cc9231033b1e231"),
            ("codes", "success=0 retry= throttle= stop= end_of_list="),
            ("columns", columns),
            ("description", "built-in"),
            ("dropped", "none"),
            ("end", "auto"),
            ("endpoint", "product-videos 95a53aa5494fff22"),
            ("max_pages", "none"),
            ("page_size", "10"),
            ("sort", "none"),
        ];
        assert_eq!(identity(&[]), expected.map(|(key, value)| (key.to_owned(), value.to_owned())).into());
        let kept = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/endpoint.toml");
        let other = identity(&[
            ("endpoint", kept),
            ("base_url", "http://localhost:1234"),
            ("drop_columns", "video_desc"),
            ("page_size", "5"),
            ("max_pages", "7"),
        ]);
        let expected = [
            ("base_url", "http://localhost/"),
            ("call", "kept a918019f65c88d7f"),
            ("codes", "success=0 retry= throttle= stop= end_of_list="),
            ("columns", "video_id,product_id"),
            ("description", "file"),
            ("dropped", "video_desc"),
            ("end", "short-page"),
            ("endpoint", "kept f17e25e1e175718f"),
            ("max_pages", "7"),
            ("page_size", "5"),
            ("sort", "none"),
        ];
        assert_eq!(other, expected.map(|(key, value)| (key.to_owned(), value.to_owned())).into());
    }

    #[test]
    fn each_word_of_a_choice_is_that_choice_and_the_identity_repeats_it() {
        let of = |key: &str, word: &str| Settings::resolve(&layers(&[(key, word)])).unwrap();
        let ends = [("auto", EndRule::Auto), ("short-page", EndRule::ShortPage), ("empty-page", EndRule::EmptyPage)];
        for (word, end) in ends {
            assert_eq!((of("end", word).end, &*of("end", word).identity()["end"]), (end, word));
        }
        for word in ["create_time:asc", "create_time:desc"] {
            assert_eq!(of("sort", word).identity()["sort"], word);
        }
        let shown =
            [("auto", Progress::Auto), ("bar", Progress::Bar), ("plain", Progress::Plain), ("none", Progress::None)];
        assert!(shown.into_iter().all(|(word, progress)| of("progress", word).progress == progress));
        let rates =
            [("auto", RateLimit::Auto(None)), ("unlimited", RateLimit::Unlimited), ("0.5", RateLimit::PerSecond(0.5))];
        assert!(rates.into_iter().all(|(word, rate)| of("qps", word).qps == Some(rate)));
        assert!(
            [("text", false), ("json", true)].into_iter().all(|(word, json)| of("log_format", word).json_logs == json)
        );
    }
}
