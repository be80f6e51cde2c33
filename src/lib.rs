//! Exports a paged, rate-limited, paid-per-request HTTP list API into Parquet files by region.
//!
//! # The folders
//!
//! Each is a stage of a page's way or a role. A folder uses only folders below it in this table (`tests/house.rs` checks it),
//! and its `mod.rs` says what it is for and which type to read first.
//!
//! | folder | what it does |
//! |---|---|
//! | [`cli`] | arguments, one file a command; progress, log lines, signals, process limits |
//! | [`run`] | `export` and `replay`; the engine between them; group commit; recovery |
//! | [`error`] | the one error that carries every other, and its exit code |
//! | [`serve`] | `--serve`: metrics, health and status over HTTP |
//! | [`report`] | totals, summary, `products.parquet`, `status`, `verify` |
//! | [`plan`] | what an export will cost, as ranges: a pure estimate |
//! | [`output`] | the export directory: segments, Parquet files, the store, manifests |
//! | [`crawl`] | walks, ends of lists, look-ahead, which page next, what a failure proves, retries |
//! | [`fetch`] | HTTP, transport errors, classification, the dispatcher, the rate limit |
//! | [`input`] | the list of items, hints of sizes, the API key |
//! | [`state`] | the journal, the ledger, the rate cache; every durable write |
//! | [`decode`] | envelopes, rows, cells, lenient JSON |
//! | [`simulator`] | the API, embedded |
//! | [`settings`] | the table of settings and their layers |
//! | [`endpoint`] | the described list call |
//! | [`model`] | ids, pages, time, events, exit codes, text made safe |
//!
//! # A page's way
//!
//! 1. [`cli`] reads the command line into [`settings`]; [`run::export`] opens the [`output::export_dir`], finishes what earlier
//!    runs left ([`run::recovery`]) and starts the [`run::engine`].
//! 2. The engine asks [`crawl::frontier`] for the most urgent page. Its intent is committed to the [`state::ledger`].
//! 3. [`fetch::dispatcher`] waits for the [`fetch::rate_limit`], sends the request through [`fetch::HttpApi`], reads the
//!    envelope ([`decode::envelope`]) and classifies the response ([`fetch::classify`]).
//! 4. [`run::group_commit`] appends the response to the [`state::journal`] and commits it to the ledger. Only then the engine
//!    decodes the rows ([`decode::Decoder`]).
//! 5. [`run::apply_pages`] takes the rows into their [`crawl::walk`], which says which are new and whether the list has ended.
//! 6. [`output::writer`] hands the rows to the [`output::segment`], which splits them by region into Parquet files.
//!    [`output::publisher`] gives the files their names and writes the manifest.
//! 7. [`report::summary`] and [`report::products`] say what the run came to.
//!
//! # Promises
//!
//! Each is an invariant of the code, with the test that guards it.
//!
//! * **P1** A page whose response was journaled is never requested again, unless its list was seen to move since (within the
//!   evidence budget) or `--repair` asks for it, which says its price. Of a list that has changed since the export that is
//!   continued, the pages that showed it are.
//!   (`tests/crash`: `l1_…`; `tests/simulation`: `every_seed_…` and `a_power_loss_…`)
//! * **P2** A response is classified by its envelope alone before it is journaled; its rows are decoded only afterwards. Other
//!   bodies are journaled as evidence; a 200 without an envelope is requested at most once more in a run.
//!   (`decode/envelope`, `fetch/classify`)
//! * **P3** An intent is committed before each send, so that after a hard kill at most `max_in_flight` requests are in
//!   doubt; they count as spent. (`tests/simulation`: `every_seed_…`, at each send)
//! * **P4** Readers of the manifests see complete files and each row key once. Row key = (requested item, identity); the first
//!   sighting in journal order wins. (`tests/crash`: `l1_…`; `tests/program/replay.rs`: `a_replay_killed_at_any_step_…`)
//! * **P5** No attempt leaves without the rate limiter, retries included, and `max_credits` is never exceeded by what is billed,
//!   in doubt and in flight together. (`tests/simulation`: `every_seed_…`; `tests/runs/export.rs`: `max_credits_…`)
//! * **P6** A run that is not complete says so: exit code, stop reason per item, summary. (`tests/program/cli.rs`)
//! * **P7** The API key is in no file, log, error or argument. (`tests/program/cli.rs`: the canary)
//! * **P8** Memory is bounded by the sum of these budgets, whatever the number of items, pages and regions:
//!
//! | what | bound | where |
//! |---|---|---|
//! | bodies in flight | `max_in_flight` × (64 KiB and a read buffer, 816 KiB at most) + 32 MiB; twice that with `compressed`, or while bodies in ISO-8859-1 are converted to UTF-8 | [`fetch::BODY_POOL`] |
//! | a group being compressed, and decoded | 2 × the bodies, and 3 decoded groups | [`run::group_commit`], [`output::writer::QUEUE`] |
//! | rows before a split by region | 5,000 rows or a quarter of `row_group_memory`, and one group | [`output::segment`] |
//! | rows waiting for a row group | half of `row_group_memory` (16 MiB), twice `row_group_memory` with many regions, then the disk | [`output::segment`] |
//! | the one row group being encoded | `row_group_memory`, where rows shrink to a quarter as usual; at most twice that, and 25 MiB for the encoder | [`output::parquet_file`] |
//! | a commit to a table | 3 KiB for each file of the segment; 60 MiB with 20,000 directories | `output::delta` |
//! | row keys of open walks | 2^20 keys, about 32 MiB, or those of the walks with pages in flight if these have more | [`run::engine`] |
//! | open walks | 2 × `max_in_flight` and 4,096 walks without keys | [`crawl::frontier`] |
//! | lists that continue an earlier export, while they are decided | 16 bytes a list, 150 one of the sample | [`run::export`] |
//! | names of a run's partition directories | 20,000 × 180 bytes, 4 MiB | [`model::partition::MAX_DIRECTORIES`] |
//! | parts of files on their way into a bucket | 4 × 8 MiB, or 4 × a ten-thousandth of a file beyond 80 GiB | [`output::bucket`] |
//! | connections of `--serve` | 16 × 64 KiB, and its last documents | [`serve`] |
//! | the ledger's cache | 2 MiB; 32 MiB while a list is added, before anything else is there | [`state::ledger`] |

pub mod cli;
pub mod crawl;
pub mod decode;
pub mod endpoint;
pub mod error;
pub mod fetch;
pub mod input;
pub mod model;
pub mod output;
pub mod plan;
pub mod report;
pub mod run;
pub mod serve;
pub mod settings;
pub mod simulator;
pub mod state;
