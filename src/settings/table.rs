//! The table of settings: flags, variables, file keys and `config show` are all made from it.

/// A setting, as a person meets it.
#[derive(Clone, Copy, Debug)]
pub struct Setting {
    /// Where it stands in the help and in `config/default.toml`.
    pub section: &'static str,
    /// Key in files; the flag has dashes instead, the variable is upper case.
    pub key: &'static str,
    /// What a value looks like; empty for a switch.
    pub value: &'static str,
    /// One line of help.
    pub help: &'static str,
}

const fn setting(section: &'static str, key: &'static str, value: &'static str, help: &'static str) -> Setting {
    Setting { section, key, value, help }
}

const WHAT: &str = "What to export";
const API: &str = "The API";
const FILES: &str = "What to write";
const FAILURES: &str = "Failures";
const SHOWN: &str = "What is shown";
const KEY: &str = "The key";

/// All settings of an export, in the order of the help.
pub const SETTINGS: &[Setting] = &[
    setting(
        WHAT,
        "products",
        "FILE|-",
        "Products to export: one id a line with # comments; or CSV or Parquet with --product-column",
    ),
    setting(
        WHAT,
        "simulate",
        "SPEC",
        "Export from the embedded API, on this machine, without a key; SPEC is for example seed=7,products=2000,latency=80ms",
    ),
    setting(WHAT, "product_column", "NAME", "Column that holds the ids, when the list is CSV or Parquet"),
    setting(
        WHAT,
        "size_hint_column",
        "NAME",
        "Column that says how many rows each list has, where that is known: a hint",
    ),
    setting(
        WHAT,
        "size_hints_from",
        "DIR",
        "Directory of an earlier export, whose sizes of lists are hints for this one",
    ),
    setting(WHAT, "out", "DIR", "Directory of the export; run again with the same one to resume"),
    setting(
        WHAT,
        "state_dir",
        "DIR",
        "Where ledger and journal lie [default: OUT/_pagehaul]; must survive until the export is complete",
    ),
    setting(API, "base_url", "URL", "Scheme and host of the API [default: the endpoint's own]"),
    setting(API, "endpoint", "FILE", "Endpoint description [default: the built-in product-videos]"),
    setting(API, "qps", "N|auto|unlimited", "Requests a second that the key allows; auto finds out"),
    setting(
        API,
        "rate_cache_dir",
        "DIR",
        "Where the limits that auto found are remembered [default: $XDG_STATE_HOME/pagehaul or ~/.local/state/pagehaul]",
    ),
    setting(API, "max_in_flight", "N", "Most requests under way at once; a cap, the quota drives"),
    setting(
        API,
        "lookahead",
        "PERCENT",
        "Credits that may be wasted on looking for the ends of deep lists, so that their pages are asked for at once; 0: off",
    ),
    setting(API, "lookahead_saves", "TIME", "Time that looking for the end of a list must be expected to save"),
    setting(API, "page_size", "N", "Rows a page [default: as many as the endpoint allows]"),
    setting(API, "sort", "FIELD[:asc|desc]", "Order of each product's list"),
    setting(API, "max_pages", "N", "Pages to read of each product; reaching it counts as complete"),
    setting(API, "max_credits", "N", "Most credits of this export, over all its runs"),
    setting(API, "end", "auto|short-page|empty-page", "What ends a product's list"),
    setting(API, "max_evidence", "PERCENT", "Credits that reading on may cost once short pages turn out to be no ends"),
    setting(API, "allow_empty", "", "Accept that no list has a row, or that lists stop having rows"),
    setting(FILES, "columns", "A,B,..", "Columns to write, or all"),
    setting(FILES, "drop_columns", "A,B,..", "Columns not to write"),
    setting(FAILURES, "retry_failed", "", "Also retry products that failed for a lasting cause"),
    setting(
        FAILURES,
        "repair",
        "",
        "Read lists once more, in order, that moved while they were read; and doubtful empty ones",
    ),
    setting(FAILURES, "retry_attempts", "N", "Attempts at one page while others succeed"),
    setting(FAILURES, "retry_base_delay", "TIME", "Wait before the second attempt; doubled each time"),
    setting(FAILURES, "retry_max_delay", "TIME", "Longest wait between two attempts"),
    setting(FAILURES, "max_outage", "TIME", "How long nothing may succeed before the run ends with exit 5"),
    setting(FAILURES, "connect_timeout", "TIME", "Longest time to make a connection"),
    setting(FAILURES, "compressed", "", "Ask for packed answers (zstd, gzip): for links that the answers fill"),
    setting(FAILURES, "request_timeout", "TIME", "Longest time for a whole answer"),
    setting(FAILURES, "drain_timeout", "TIME", "How long a run waits for answers in flight after a signal"),
    setting(
        FAILURES,
        "fail_on_drift",
        "",
        "End with exit 10 where answers differ much from the endpoint's description; the output is still valid",
    ),
    setting(FILES, "segment_size", "SIZE", "Journal size at which files are published"),
    setting(FILES, "file_size", "SIZE", "Most bytes of one file; a region's rows of a segment are split into more"),
    setting(FILES, "bloom_filters", "", "Write bloom filters of the identity columns, for look-ups of single rows"),
    setting(
        FILES,
        "row_group_memory",
        "SIZE",
        "Memory of a row group being encoded, and half as much for waiting rows",
    ),
    setting(
        FILES,
        "min_free_space",
        "SIZE",
        "Free space at which a run stops before the disk is full [default: 256MiB or 5 % of the disk, whichever is less]",
    ),
    setting(SHOWN, "progress", "auto|bar|plain|none", "What is shown while it runs"),
    setting(SHOWN, "heartbeat", "TIME", "Time between two lines of plain progress"),
    setting(SHOWN, "log_format", "text|json", "Form of the lines on standard error"),
    setting(KEY, "token_file", "FILE", "File that holds the key [default: the variable KEYAPI_TOKEN]"),
    setting(KEY, "token_stdin", "", "Read the key from standard input"),
];
