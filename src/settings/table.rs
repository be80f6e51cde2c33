//! The table of settings: flags, variables, file keys and `config show` are all made from it.

/// A setting, as a person meets it.
#[derive(Clone, Copy, Debug)]
pub struct Setting {
    /// Key in files; the flag has dashes instead, the variable is upper case.
    pub key: &'static str,
    /// What a value looks like; empty for a switch.
    pub value: &'static str,
    /// One line of help.
    pub help: &'static str,
}

const fn setting(key: &'static str, value: &'static str, help: &'static str) -> Setting {
    Setting { key, value, help }
}

/// All settings of an export, in the order of the help.
pub const SETTINGS: &[Setting] = &[
    setting(
        "products",
        "FILE|-",
        "Products to export: one id a line with # comments; or CSV or Parquet with --product-column",
    ),
    setting(
        "simulate",
        "SPEC",
        "Export from the embedded API, on this machine, without a key; SPEC is for example seed=7,products=2000,latency=80ms",
    ),
    setting("product_column", "NAME", "Column that holds the ids, when the list is CSV or Parquet"),
    setting("size_column", "NAME", "Column that says how many rows each list has, where that is known: a hint"),
    setting("sizes_from", "DIR", "Folder of an earlier export, whose sizes of lists are hints for this one"),
    setting("out", "DIR", "Folder of the export; run again with the same one to resume"),
    setting(
        "state_dir",
        "DIR",
        "Where ledger and journal lie [default: OUT/_pagehaul]; must survive until the export is complete",
    ),
    setting("base_url", "URL", "Scheme and host of the API [default: the endpoint's own]"),
    setting("endpoint", "FILE", "Endpoint description [default: the built-in product-videos]"),
    setting("qps", "N|auto|unlimited", "Requests a second that the key allows; auto finds out"),
    setting(
        "limits_dir",
        "DIR",
        "Where the limits that auto found are remembered [default: $XDG_STATE_HOME/pagehaul or ~/.local/state/pagehaul]",
    ),
    setting("max_in_flight", "N", "Most requests under way at once; a cap, the quota drives"),
    setting(
        "lookahead",
        "PERCENT",
        "Credits that may be wasted on looking for the ends of deep lists, so that their pages are asked for at once; 0: off",
    ),
    setting("page_size", "N", "Rows a page [default: as many as the endpoint allows]"),
    setting("sort", "FIELD[:asc|desc]", "Order of each product's list"),
    setting("max_pages", "N", "Pages to read of each product; reaching it counts as complete"),
    setting("max_credits", "N", "Most credits of this export, over all its runs"),
    setting("end", "short-page|empty-page", "What ends a product's list"),
    setting("columns", "A,B,..", "Columns to write [default: all]"),
    setting("drop_columns", "A,B,..", "Columns not to write"),
    setting("retry_failed", "", "Also retry products that failed for a lasting cause"),
    setting("retry_attempts", "N", "Attempts at one page while others succeed"),
    setting("retry_first", "TIME", "Wait before the second attempt; doubled each time"),
    setting("retry_longest", "TIME", "Longest wait between two attempts"),
    setting("patience", "TIME", "How long nothing may succeed before the run ends with exit 5"),
    setting("connect_timeout", "TIME", "Longest time to make a connection"),
    setting("compressed", "", "Ask for packed answers (zstd, gzip): for links that the answers fill"),
    setting("request_timeout", "TIME", "Longest time for a whole answer"),
    setting("grace", "TIME", "How long a stopping run waits for answers under way"),
    setting("segment_size", "SIZE", "Journal size at which files are published"),
    setting("file_size", "SIZE", "Most bytes of one file; a region's rows of a segment are split into more"),
    setting("bloom_filters", "", "Write bloom filters of the identity columns, for look-ups of single rows"),
    setting("memory", "SIZE", "Memory of a row group being encoded, and half as much for waiting rows"),
    setting(
        "min_free",
        "SIZE",
        "Free space at which a run stops before the disk is full [default: 256MiB or 5 % of the disk, whichever is less]",
    ),
    setting("progress", "auto|bar|plain|none", "What is shown while it runs"),
    setting("heartbeat", "TIME", "Time between two lines of plain progress"),
    setting("log_format", "text|json", "Form of the lines on standard error"),
    setting("token_file", "FILE", "File that holds the key [default: the variable KEYAPI_TOKEN]"),
    setting("token_stdin", "", "Read the key from standard input"),
];
