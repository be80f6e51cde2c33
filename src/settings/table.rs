//! The table of settings: the only place where a setting's name, type and parser are written.
//!
//! Flags, variables, config keys, `config show` and [`Settings::resolve`](super::Settings::resolve) all use it. A
//! setting's built-in value is in `config/default.toml`.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use url::Url;

use super::deadline::deadline;
use super::parse::{
    any, count, directory, duration, duration_or_zero, file_size, list, listen_address, location, memory, one_of,
    options, percent, rate_limit, size, snapshot, store_address, switch, whole,
};
use super::{JournalRetention, OutputLocation, Progress, RateLimit, SnapshotLabel, TableFormat};
use crate::endpoint::EndRule;
use crate::model::clock::Utc64;

/// What ends a list, as the settings and an export's identity say it.
pub(super) const END_RULES: [(&str, EndRule); 3] =
    [("auto", EndRule::Auto), ("short-page", EndRule::ShortPage), ("empty-page", EndRule::EmptyPage)];

const JOURNALS: [(&str, JournalRetention); 2] =
    [("keep", JournalRetention::Keep), ("until-published", JournalRetention::UntilPublished)];

/// What an output can be beside files under manifests.
const TABLE_FORMATS: [(&str, TableFormat); 2] = [("none", TableFormat::None), ("delta", TableFormat::Delta)];

/// What the help and the layers need to know about a setting.
#[derive(Clone, Copy, Debug)]
pub struct SettingInfo {
    /// Its section in the help and in `config/default.toml`.
    pub section: &'static str,
    /// Key in config files. The flag has dashes for underscores; the variable is upper case, with a prefix.
    pub key: &'static str,
    /// Placeholder for the value in the help; empty for a switch.
    pub value: &'static str,
    /// One line of help.
    pub help: &'static str,
}

/// A setting whose value is a `T`.
#[derive(Debug)]
pub struct Setting<T> {
    /// Its name and help.
    pub info: SettingInfo,
    /// Reads a value. The error says what the value must be.
    pub(super) parse: fn(&str) -> Result<T, String>,
}

impl<T> Clone for Setting<T> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T> Copy for Setting<T> {}

macro_rules! settings {
    ($($section:literal { $($name:ident: $type:ty = $key:literal, $value:literal, $parse:expr, $help:literal;)* })*) => {
        $($(
            #[doc = $help]
            pub const $name: Setting<$type> =
                Setting { info: SettingInfo { section: $section, key: $key, value: $value, help: $help }, parse: $parse };
        )*)*

        /// All settings of an export, in the order of the help.
        pub const SETTINGS: &[SettingInfo] = &[$($($name.info),*),*];
    };
}

settings! {
    "What to export" {
        PRODUCTS: String = "products", "FILE|-", any,
            "List of ids: text, CSV or Parquet; - is stdin";
        SIMULATE: String = "simulate", "SPEC", any,
            "Export from a simulated API, without a key";
        PRODUCT_COLUMN: String = "product_column", "NAME", any,
            "Column with the ids in a CSV or Parquet list";
        SIZE_HINT_COLUMN: String = "size_hint_column", "NAME", any,
            "Column with the expected number of rows per product (a hint)";
        SIZE_HINTS_FROM: PathBuf = "size_hints_from", "DIR", any,
            "Earlier export with the expected number of rows (a hint)";
        OUT: OutputLocation = "out", "DIR|URL", location,
            "Output directory, s3://, gs:// or az:// prefix";
        STATE_DIR: PathBuf = "state_dir", "DIR", directory,
            "Ledger and journal directory [default: OUT/_pagehaul]";
        SNAPSHOT: SnapshotLabel = "snapshot", "LABEL|today", snapshot,
            "Export into OUT/snapshot=LABEL";
        SINCE: String = "since", "SNAPSHOT|DIR", any,
            "Continue an earlier export: request what is new";
        SINCE_CHECK: f64 = "since_check", "PERCENT", percent,
            "Products read whole to see what the earlier export lacks";
        KEEP: u64 = "keep", "N", count::<1, 1_000_000>,
            "Then remove the files of all but N complete snapshots";
        STORE_OPTION: Vec<(String, String)> = "store_option", "NAME=VALUE,..", options,
            "Options of a bucket's client, such as aws_region=eu-west-1";
        ENDPOINT_URL: Url = "endpoint_url", "URL", store_address,
            "Address of an S3-compatible store or an emulator";
    }
    "API" {
        BASE_URL: String = "base_url", "URL", any,
            "Scheme and host of the API [default: from the endpoint]";
        ENDPOINT: PathBuf = "endpoint", "FILE", any,
            "Endpoint description [default: built-in product-videos]";
        QPS: RateLimit = "qps", "N|auto|unlimited", rate_limit,
            "Rate limit per second, or `auto` to discover it";
        RATE_CACHE_DIR: PathBuf = "rate_cache_dir", "DIR", any,
            "Cache of discovered rate limits [default: ~/.local/state/pagehaul]";
        MAX_IN_FLIGHT: u64 = "max_in_flight", "N", count::<1, 4096>,
            "Maximum concurrent requests";
        LOOKAHEAD: f64 = "lookahead", "PERCENT", percent,
            "Maximum credits wasted by reading ahead; 0 disables it";
        LOOKAHEAD_SAVES: Duration = "lookahead_saves", "TIME", duration_or_zero,
            "Minimum time that reading ahead must save";
        PAGE_SIZE: u64 = "page_size", "N", whole,
            "Rows per page [default: the endpoint's maximum]";
        SORT: String = "sort", "FIELD[:asc|desc]", any,
            "Sort order of each list";
        MAX_PAGES: u64 = "max_pages", "N", whole,
            "Maximum pages per product";
        MAX_CREDITS: u64 = "max_credits", "N", count::<1, { u64::MAX }>,
            "Maximum credits of the export, over all runs";
        MAX_DURATION: Duration = "max_duration", "TIME", duration,
            "Maximum time of this run; the next one resumes";
        DEADLINE: Utc64 = "deadline", "HH:MM|TIME", deadline,
            "Time of day (UTC) or RFC 3339 time at which this run ends";
        END: EndRule = "end", "auto|short-page|empty-page", |text| one_of(text, &END_RULES),
            "What ends a list [default: from the endpoint]";
        MAX_EVIDENCE: f64 = "max_evidence", "PERCENT", percent,
            "Maximum credits spent on reading past short pages";
        ALLOW_EMPTY: bool = "allow_empty", "", switch,
            "Accept many empty lists instead of ending with exit code 10";
    }
    "Output files" {
        COLUMNS: Vec<String> = "columns", "A,B,..", list,
            "Columns to write, or `all`";
        DROP_COLUMNS: Vec<String> = "drop_columns", "A,B,..", list,
            "Columns to leave out";
        PARTITION_IN_FILES: bool = "partition_in_files", "", switch,
            "Write the partition column into the files, too";
        TABLE: TableFormat = "table", "none|delta", |text| one_of(text, &TABLE_FORMATS),
            "Also commit each segment to a Delta table at the output";
        EVOLVE: bool = "evolve", "", switch,
            "Add the export's new columns to the table; those it lacks are null";
        SEGMENT_SIZE: u64 = "segment_size", "SIZE", size,
            "Journal size at which files are published";
        JOURNAL: JournalRetention = "journal", "keep|until-published", |text| one_of(text, &JOURNALS),
            "How long the journal's files are kept";
        FILE_SIZE: u64 = "file_size", "SIZE", file_size,
            "Maximum size of one file";
        BLOOM_FILTERS: bool = "bloom_filters", "", switch,
            "Write bloom filters for the identity columns";
        ROW_GROUP_MEMORY: u64 = "row_group_memory", "SIZE", memory,
            "Memory for the row group being encoded";
        MIN_FREE_SPACE: u64 = "min_free_space", "SIZE", size,
            "Free disk space at which a run stops [default: 256MiB or 5 %]";
    }
    "Failures" {
        RETRY_FAILED: bool = "retry_failed", "", switch,
            "Also retry products that failed permanently";
        REPAIR: bool = "repair", "", switch,
            "Read lists again that changed while they were read";
        RETRY_ATTEMPTS: u64 = "retry_attempts", "N", count::<1, 100>,
            "Maximum attempts per page while other pages succeed";
        RETRY_BASE_DELAY: Duration = "retry_base_delay", "TIME", duration,
            "Delay before the second attempt, doubled each time";
        RETRY_MAX_DELAY: Duration = "retry_max_delay", "TIME", duration,
            "Maximum delay between two attempts";
        MAX_OUTAGE: Duration = "max_outage", "TIME", duration,
            "Maximum time without a success before exit code 5";
        CONNECT_TIMEOUT: Duration = "connect_timeout", "TIME", duration,
            "Maximum time to connect";
        REQUEST_TIMEOUT: Duration = "request_timeout", "TIME", duration,
            "Maximum time for a whole response";
        COMPRESSED: bool = "compressed", "", switch,
            "Accept compressed responses (zstd, gzip)";
        DRAIN_TIMEOUT: Duration = "drain_timeout", "TIME", duration,
            "Maximum wait for requests in flight after a signal";
        FAIL_ON_DRIFT: bool = "fail_on_drift", "", switch,
            "Exit with code 10 if responses differ from the description";
    }
    "Display" {
        PROGRESS: Progress = "progress", "auto|bar|plain|none",
            |text| one_of(text, &[("auto", Progress::Auto), ("bar", Progress::Bar), ("plain", Progress::Plain), ("none", Progress::None)]),
            "Progress display";
        HEARTBEAT: Duration = "heartbeat", "TIME", duration,
            "Interval between two lines of plain progress";
        LOG_FORMAT: bool = "log_format", "text|json", |text| one_of(text, &[("text", false), ("json", true)]),
            "Format of log lines on stderr";
        SERVE: SocketAddr = "serve", "ADDRESS", listen_address,
            "Serve metrics and status over HTTP, such as 127.0.0.1:9464";
    }
    "API key" {
        TOKEN_FILE: PathBuf = "token_file", "FILE", any,
            "File with the API key [default: `KEYAPI_TOKEN`]";
        TOKEN_STDIN: bool = "token_stdin", "", switch,
            "Read the API key from stdin";
    }
}
