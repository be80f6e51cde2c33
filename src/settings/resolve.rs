//! All settings as typed, checked values.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use url::Url;

use super::layers::{Layers, NONE, SettingsError, nearest};
use super::since::Since;
use super::snapshot::ExportPaths;
use super::table::{self, Setting};
use super::{OutputLocation, RateLimit, RetryPolicy, SnapshotLabel, StoreOptions};
use crate::endpoint::{BUILT_IN, Column, EndRule, Endpoint, Role};
use crate::model::clock::Utc64;
use crate::model::sanitize::Sanitized;

/// Identity: where the endpoint's description came from. Older ledgers lack it.
pub const DESCRIPTION: &str = "description";
/// Identity: the codes that the endpoint's description lists. They may change between runs: the journal is classified again.
pub const CODES: &str = "codes";
/// Identity: the columns that are not written.
pub const DROPPED: &str = "dropped";
/// The value of [`DESCRIPTION`] where the endpoint is the built-in one.
const BUILT_IN_ONE: &str = "built-in";
/// The value of [`DESCRIPTION`] where the endpoint is a file.
pub const FROM_FILE: &str = "file";
/// The word for every column.
const ALL: &str = "all";

const NO_OUT: &str = "no export directory; name one with --out DIR (for a daily job, a new one each day)";

/// How progress is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Progress {
    /// A bar on a terminal, lines otherwise.
    Auto,
    /// Always a bar.
    Bar,
    /// A line at each heartbeat.
    Plain,
    /// Nothing.
    None,
}

/// How long the journal's files are kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum JournalRetention {
    Keep,
    /// Until their segments are published and nothing but a replay would read them again.
    UntilPublished,
}

/// The table that an output is, beside files under manifests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TableFormat {
    None,
    Delta,
}

/// Settings, parsed and checked. Everything that must be known before the first request is here. `config/default.toml` explains
/// each setting; here is what it does not say.
#[derive(Clone, Debug)]
#[expect(clippy::struct_excessive_bools, reason = "each is a switch that a user sets")]
pub struct Settings {
    pub endpoint: Endpoint,
    pub is_endpoint_built_in: bool,
    pub out: OutputLocation,
    pub store: StoreOptions,
    pub state_dir: PathBuf,
    /// The earlier export that this one continues, if it does.
    pub since: Option<Since>,
    /// Which snapshot of a dataset the output is, if it is one.
    pub snapshot: Option<SnapshotLabel>,
    /// How many complete snapshots of the dataset keep their files; none: all.
    pub keep: Option<u64>,
    /// The API. With `simulate`, the simulator's address once it has started.
    pub base_url: Url,
    /// The simulator's specification, if the API is the simulator.
    pub simulate: Option<String>,
    /// What the identity says in place of the simulator's address, which changes with every run.
    pub simulated_as: Option<String>,
    /// The rate limit; none if not given.
    pub qps: Option<RateLimit>,
    /// The directory of discovered rate limits; none: the user's own directory for state.
    pub rate_cache_dir: Option<PathBuf>,
    pub max_in_flight: usize,
    /// Credits that looking ahead may waste, percent.
    pub lookahead: f64,
    pub lookahead_saves: Duration,
    pub page_size: u32,
    /// Sort field, and whether the order is descending.
    pub sort: Option<(String, bool)>,
    pub max_pages: Option<u32>,
    pub max_credits: Option<u64>,
    /// How long this run may last.
    pub max_duration: Option<Duration>,
    /// When this run ends.
    pub deadline: Option<Utc64>,
    pub end: EndRule,
    /// Credits that reading past short pages may cost, percent of the pages read.
    pub max_evidence: f64,
    pub allow_empty: bool,
    /// The columns to write, in file order; the partition column if it is in the files, too.
    pub columns: Vec<String>,
    pub retry_failed: bool,
    pub repair: bool,
    pub fail_on_drift: bool,
    pub retry: RetryPolicy,
    pub connect_timeout: Duration,
    pub compressed: bool,
    pub request_timeout: Duration,
    pub drain_timeout: Duration,
    pub table: TableFormat,
    pub evolve: bool,
    pub segment_size: u64,
    pub journal: JournalRetention,
    pub file_size: usize,
    pub bloom_filters: bool,
    /// Bytes of the row group that is being encoded; waiting rows may take half as much.
    pub row_group_memory: usize,
    /// Bytes that stay free on the disks; none: the built-in rule.
    pub min_free_space: Option<u64>,
    pub progress: Progress,
    pub heartbeat: Duration,
    pub json_logs: bool,
    /// Where metrics and status are served.
    pub serve: Option<SocketAddr>,
}

impl Settings {
    /// Parses and checks all values. The first one that is not valid is the error.
    pub fn resolve(layers: &Layers) -> Result<Self, SettingsError> {
        let endpoint = endpoint(layers)?;
        let ExportPaths { out, state: state_dir, snapshot } = ExportPaths::from_layers(layers, NO_OUT)?;
        let (page, as_u32) = (&endpoint.page, |number: u64| u32::try_from(number).unwrap_or(u32::MAX));
        let page_size = in_range(layers, table::PAGE_SIZE, u64::from(page.size_max))?;
        let sort = sort(layers, &endpoint)?;
        let max_pages = in_range(layers, table::MAX_PAGES, u64::from(page.last - page.first) + 1)?;
        let as_usize = |number: u64| usize::try_from(number).unwrap_or(usize::MAX);
        Ok(Self {
            base_url: base_url(layers, &endpoint)?,
            simulate: layers.find(table::SIMULATE)?,
            simulated_as: None,
            qps: layers.find(table::QPS)?,
            rate_cache_dir: layers.find(table::RATE_CACHE_DIR)?,
            max_in_flight: as_usize(layers.get(table::MAX_IN_FLIGHT)?),
            lookahead: layers.get(table::LOOKAHEAD)?,
            lookahead_saves: layers.get(table::LOOKAHEAD_SAVES)?,
            page_size: page_size.map_or(page.size_max, as_u32),
            since: Since::from_layers(layers, &endpoint, sort.as_ref())?,
            sort,
            max_pages: max_pages.map(as_u32),
            max_credits: layers.find(table::MAX_CREDITS)?,
            max_duration: layers.find(table::MAX_DURATION)?,
            deadline: layers.find(table::DEADLINE)?,
            end: layers.find(table::END)?.unwrap_or(endpoint.end),
            max_evidence: layers.get(table::MAX_EVIDENCE)?,
            allow_empty: layers.get(table::ALLOW_EMPTY)?,
            columns: written_columns(layers, &endpoint)?,
            retry_failed: layers.get(table::RETRY_FAILED)?,
            repair: layers.get(table::REPAIR)?,
            fail_on_drift: layers.get(table::FAIL_ON_DRIFT)?,
            retry: RetryPolicy {
                first: layers.get(table::RETRY_BASE_DELAY)?,
                longest: layers.get(table::RETRY_MAX_DELAY)?,
                attempts: as_u32(layers.get(table::RETRY_ATTEMPTS)?),
                max_outage: layers.get(table::MAX_OUTAGE)?,
            },
            connect_timeout: layers.get(table::CONNECT_TIMEOUT)?,
            compressed: layers.get(table::COMPRESSED)?,
            request_timeout: layers.get(table::REQUEST_TIMEOUT)?,
            drain_timeout: layers.get(table::DRAIN_TIMEOUT)?,
            table: table_format(layers)?,
            evolve: layers.get(table::EVOLVE)?,
            segment_size: layers.get(table::SEGMENT_SIZE)?,
            journal: layers.get(table::JOURNAL)?,
            file_size: as_usize(layers.get(table::FILE_SIZE)?),
            bloom_filters: layers.get(table::BLOOM_FILTERS)?,
            row_group_memory: as_usize(layers.get(table::ROW_GROUP_MEMORY)?),
            min_free_space: layers.find(table::MIN_FREE_SPACE)?,
            progress: layers.get(table::PROGRESS)?,
            heartbeat: layers.get(table::HEARTBEAT)?,
            json_logs: layers.get(table::LOG_FORMAT)?,
            serve: layers.find(table::SERVE)?,
            is_endpoint_built_in: layers.given(table::ENDPOINT).is_none(),
            keep: keep(layers)?,
            snapshot,
            state_dir,
            store: StoreOptions::from_layers(layers)?,
            endpoint,
            out,
        })
    }

    /// Whether the API is on this machine. Then plain HTTP is allowed, and the port is not part of the identity.
    pub fn is_loopback(&self) -> bool {
        is_loopback(&self.base_url)
    }

    /// The settings that determine requests and rows. They must be the same in all runs of an export.
    pub fn identity(&self) -> BTreeMap<String, String> {
        let mut base = self.base_url.clone();
        if self.is_loopback() && base.set_port(None).is_err() {
            base = self.base_url.clone();
        }
        let sort = self.sort.as_ref().map_or(NONE.to_owned(), |(field, descending)| {
            format!("{field}:{}", if *descending { "desc" } else { "asc" })
        });
        let end = table::END_RULES.iter().find(|(_, rule)| *rule == self.end).map_or(NONE, |(word, _)| word);
        let is_dropped = |column: &&Column| column.role != Role::Partition && !self.columns.contains(&column.name);
        let dropped: Vec<&str> =
            self.endpoint.columns.iter().filter(is_dropped).map(|column| column.name.as_str()).collect();
        [
            (table::ENDPOINT.info.key, format!("{} {}", self.endpoint.name, self.endpoint.fingerprint())),
            (DESCRIPTION, if self.is_endpoint_built_in { BUILT_IN_ONE } else { FROM_FILE }.to_owned()),
            ("call", format!("{} {}", self.endpoint.name, self.endpoint.call_fingerprint())),
            (table::BASE_URL.info.key, self.simulated_as.clone().unwrap_or_else(|| base.to_string())),
            (table::PAGE_SIZE.info.key, self.page_size.to_string()),
            (table::SORT.info.key, sort),
            (table::MAX_PAGES.info.key, self.max_pages.map_or(NONE.to_owned(), |pages| pages.to_string())),
            (table::COLUMNS.info.key, self.columns.join(",")),
            (DROPPED, if dropped.is_empty() { NONE.to_owned() } else { dropped.join(",") }),
            (table::END.info.key, end.to_owned()),
            (CODES, self.endpoint.codes().words()),
        ]
        .map(|(key, value)| (key.to_owned(), value))
        .into()
    }
}

/// The endpoint that the settings name, or the built-in one.
pub fn endpoint(layers: &Layers) -> Result<Endpoint, SettingsError> {
    let invalid = |reason: String| layers.invalid(table::ENDPOINT, reason);
    let text = match layers.find(table::ENDPOINT)? {
        None => BUILT_IN.to_owned(),
        Some(path) => std::fs::read_to_string(path).map_err(|error| invalid(format!("cannot be read: {error}")))?,
    };
    Endpoint::parse(&text).map_err(|error| {
        let cause = std::error::Error::source(&error).map(|cause| format!(": {cause}")).unwrap_or_default();
        invalid(format!("{error}{cause}"))
    })
}

impl StoreOptions {
    pub(crate) fn from_layers(layers: &Layers) -> Result<Self, SettingsError> {
        let options = layers.find(table::STORE_OPTION)?.unwrap_or_default();
        Ok(Self { options, endpoint_url: layers.find(table::ENDPOINT_URL)?, client: None })
    }
}

fn keep(layers: &Layers) -> Result<Option<u64>, SettingsError> {
    let keep = layers.find(table::KEEP)?;
    if keep.is_some() && layers.given(table::SNAPSHOT).is_none() {
        return Err(layers.invalid(table::KEEP, "is a number of snapshots: give --snapshot, too"));
    }
    Ok(keep)
}

/// The table's format, which this build must have.
fn table_format(layers: &Layers) -> Result<TableFormat, SettingsError> {
    match layers.find(table::TABLE)?.unwrap_or(TableFormat::None) {
        TableFormat::Delta if !cfg!(feature = "delta") => Err(layers.invalid(
            table::TABLE,
            "is not in this build of pagehaul: install it with `cargo install --path . --locked --features delta`",
        )),
        format @ (TableFormat::None | TableFormat::Delta) => Ok(format),
    }
}

/// A number from 1 to what the endpoint allows, if one is set.
fn in_range(layers: &Layers, setting: Setting<u64>, max: u64) -> Result<Option<u64>, SettingsError> {
    let number = layers.find(setting)?;
    match number {
        Some(number) if !(1..=max).contains(&number) => {
            Err(layers.invalid(setting, format!("must be a whole number from 1 to {max}")))
        }
        Some(_) | None => Ok(number),
    }
}

pub(crate) fn is_loopback(url: &Url) -> bool {
    match url.host() {
        Some(url::Host::Domain(name)) => name == "localhost",
        Some(url::Host::Ipv4(address)) => address.is_loopback(),
        Some(url::Host::Ipv6(address)) => address.is_loopback(),
        None => false,
    }
}

fn base_url(layers: &Layers, endpoint: &Endpoint) -> Result<Url, SettingsError> {
    let invalid = |reason: String| layers.invalid(table::BASE_URL, reason);
    let given = layers.find(table::BASE_URL)?;
    if given.is_some() && layers.given(table::SIMULATE).is_some() {
        return Err(invalid("cannot be combined with simulate, which brings its own API".to_owned()));
    }
    let url = Url::parse(given.as_ref().unwrap_or(&endpoint.base_url));
    let url = url.map_err(|error| invalid(format!("is not a URL: {error}")))?;
    let has_extra =
        !url.username().is_empty() || url.password().is_some() || url.query().is_some() || url.fragment().is_some();
    let reason = match url.scheme() {
        "http" if !is_loopback(&url) => {
            "plain http would send the key in clear text: use https, except for loopback addresses"
        }
        "http" | "https" if url.host().is_none() => "must have a host",
        "http" | "https" if has_extra => "must be a scheme and a host, without user, query or fragment",
        "http" | "https" => return Ok(url),
        _ => "must begin with https://",
    };
    Err(invalid(reason.to_owned()))
}

fn sort(layers: &Layers, endpoint: &Endpoint) -> Result<Option<(String, bool)>, SettingsError> {
    let Some(text) = layers.find(table::SORT)? else { return Ok(None) };
    let (field, direction) = text.split_once(':').unwrap_or((&text, "asc"));
    let known = endpoint.sort.as_ref().map(|sort| sort.fields.keys().map(String::as_str).collect::<Vec<_>>());
    let known = known.unwrap_or_default();
    match (known.contains(&field), direction) {
        (true, "asc" | "desc") => Ok(Some((field.to_owned(), direction == "desc"))),
        (true, _) => Err(layers.invalid(table::SORT, "the direction must be asc or desc")),
        (false, _) => Err(layers.invalid(table::SORT, format!("the endpoint sorts by {}", known.join(", ")))),
    }
}

/// The columns to write, in the endpoint's order. Identity columns always are; the partition column is the directory, and in
/// the files only on request.
pub(crate) fn written_columns(layers: &Layers, endpoint: &Endpoint) -> Result<Vec<String>, SettingsError> {
    let mut written = layers.find(table::COLUMNS)?.unwrap_or_default();
    let dropped = layers.find(table::DROP_COLUMNS)?.unwrap_or_default();
    if written == [ALL] {
        written.clear();
    }
    for (setting, names) in [(table::COLUMNS, &written), (table::DROP_COLUMNS, &dropped)] {
        let is_unknown = |name: &&String| !endpoint.columns.iter().any(|column| column.name == **name);
        if let Some(unknown) = names.iter().find(is_unknown) {
            let near = nearest(unknown, endpoint.columns.iter().map(|column| column.name.as_str()));
            let hint = near.map(|name| format!("; did you mean {name}?")).unwrap_or_default();
            return Err(layers.invalid(setting, format!("the endpoint has no column {}{hint}", Sanitized(unknown))));
        }
    }
    let is_required = |column: &&Column| matches!(column.role, Role::Identity | Role::Partition);
    let required = endpoint.columns.iter().filter(is_required).find(|column| dropped.contains(&column.name));
    if let Some(Column { name, role, .. }) = required {
        return Err(layers
            .invalid(table::DROP_COLUMNS, format!("cannot leave out {name}: every row needs its {}", role.as_str())));
    }
    let is_partition_written = layers.get(table::PARTITION_IN_FILES)?;
    let is_written = |column: &&Column| match column.role {
        Role::Identity => true,
        Role::Partition => is_partition_written,
        Role::Attribute | Role::Volatile | Role::Metric => {
            (written.is_empty() || written.contains(&column.name)) && !dropped.contains(&column.name)
        }
    };
    Ok(endpoint.columns.iter().filter(is_written).map(|column| column.name.clone()).collect())
}

#[cfg(test)]
mod tests {
    use super::{EndRule, Layers, Progress, RateLimit, Settings};
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
    fn the_help_of_each_setting_fits_on_a_line_of_80_columns() {
        let built_in = Layers::built_in().unwrap();
        for (setting, (_, value, _)) in SETTINGS.iter().zip(built_in.shown()) {
            let has_default = !setting.value.is_empty() && value != "none";
            let default = if has_default { format!(" [default: {value}]").len() } else { 0 };
            assert!(10 + setting.help.len() + default <= 80, "{}", setting.key);
        }
    }

    #[test]
    fn a_setting_is_in_the_same_section_of_the_help_and_of_default_toml() {
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
        assert_eq!(settings.out.to_string(), "flag");
    }

    #[test]
    fn an_unknown_key_is_an_error_that_names_the_nearest() {
        let mut layers = Layers::built_in().unwrap();
        let error = layers.set("max_credit", "1".to_owned(), &Origin::Environment).unwrap_err().to_string();
        assert_eq!(error, "unknown setting PAGEHAUL_MAX_CREDIT (environment); did you mean PAGEHAUL_MAX_CREDITS?");
        let error = layers.set("zzzzzzzzzzz", "1".to_owned(), &Origin::Flag).unwrap_err().to_string();
        assert_eq!(error, "unknown setting zzzzzzzzzzz (flag)");
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
            ("drop_columns", "video_id", "every row needs"),
            ("drop_columns", "region", "every row needs"),
            ("base_url", "http://example.com", "plain http"),
            ("base_url", "ftp://example.com", "https://"),
            ("base_url", "https://user:pw@example.com", "without user"),
            ("drain_timeout", "10", "500ms, 30s, 5m or 1h"),
            ("row_group_memory", "48", "48MiB"),
            ("file_size", "64KiB", "1MiB or more"),
            ("progress", "loud", "auto, bar, plain, none"),
            ("retry_failed", "perhaps", "true or false"),
            ("endpoint", "/nonexistent.toml", "No such file"),
            ("out", "ftp://bucket/videos", "s3://, gs://, az://"),
            ("state_dir", "file:///tmp/state", "local directory"),
        ];
        for (key, value, reason) in table {
            let error = refused(&[(key, value)]);
            assert!(error.contains(reason) && error.starts_with(key), "{error}");
        }
        let error = refused(&[("out", "s3://bucket/videos")]);
        assert!(
            error.starts_with("state_dir") && error.contains("is required where the output is in a bucket"),
            "{error}"
        );
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
