//! Exports a paged, rate-limited, paid-per-request HTTP list API into Parquet files by region.
//!
//! # A page's way
//!
//! [`cli`] reads the command line into [`settings`]; [`export`] opens the [`site`], finishes what earlier runs left
//! ([`recover`]) and runs the [`rounds`]. In a round the [`scheduler`] names the most urgent page of all walks, its intent
//! goes into the [`ledger`], [`dispatch`] waits for the [`quota`] and sends it through [`api`]; the answer's frame is read
//! ([`envelope`]) and judged ([`verdict`]); [`record`] makes it durable in the [`journal`] and known in the ledger, and only
//! then lets [`decode`] look at its rows; [`read`] takes them into their [`walk`]; [`publish`] hands them to the
//! [`segment`], which splits them by [`partition`] into staged [`parquet`] files; [`commit`] publishes those in the
//! [`store`] under a manifest. [`summary`] and [`products`] say what it came to.
//!
//! # Layers
//!
//! Files use names from lower layers only (`tests/house.rs` checks it):
//!
//! | layer | files |
//! |---|---|
//! | 5 face | `main` [`cli`] [`log`] [`progress`] [`rate_news`] [`signals`] |
//! | 4 conduct | [`export`] [`job`] [`rounds`] [`stop`] [`recover`] [`rejudge`] [`rebuild`] [`publish`] [`site`] [`look`] [`verify`] [`status`] [`figures`] [`drift`] [`summary`] [`products`] [`token`] [`limits`] [`error`] |
//! | 3 flow | [`plan`] [`sizes`] [`judgement`] [`scheduler`] [`backlog`] [`walk`] [`depth`] [`rules`] [`waste`] [`read`] [`cause`] [`dispatch`] [`record`] [`segment`] [`commit`] |
//! | 2 ports | [`api`] [`disk`] [`held`] [`store`] [`ledger`] [`journal`] [`room`] [`learned`] [`simulator`] |
//! | 1 leaves | [`endpoint`] [`form`] [`lenient`] [`number`] [`envelope`] [`decode`] [`partition`] [`parquet`] [`quota`] [`retry`] [`verdict`] [`settings`] [`worker`] |
//! | 0 words | [`page`] [`clock`] [`event`] [`sanitize`] [`step`] |
//!
//! # Promises
//!
//! Each is an invariant of the code, with the test that guards it.
//!
//! * **P1** A page whose answer was journaled is never requested again, unless its list was seen to move since (within the
//!   evidence budget) or `--repair` asks for it, which says its price.
//!   (`tests/crash.rs`: `l1_…`; `tests/simulation`: `every_seed_…` and `a_power_loss_…`)
//! * **P2** An answer is judged by its frame alone before it is journaled; its rows are looked at only afterwards. Other
//!   bodies are journaled as evidence; a 200 without an envelope is asked for once more at most in a run. (`envelope`, `verdict`)
//! * **P3** An intent is committed before each send, so that after a hard kill at most `max_in_flight` requests are in
//!   doubt; they count as spent. (`tests/simulation`: `every_seed_…`, at each send)
//! * **P4** Readers of the manifests see whole files and each key once. Key = (asked item, identity); the first sighting
//!   in journal order wins. (`tests/crash.rs`: `l1_…`; `tests/replay.rs`: `a_replay_killed_at_any_step_…`)
//! * **P5** No attempt leaves without the quota, retries included, and `max_credits` is never passed: billed, in doubt
//!   and under way together. (`tests/simulation`: `every_seed_…`; `tests/export.rs`: `max_credits_…`)
//! * **P6** A run that is not complete says so: exit code, stop reason per item, summary. (`tests/cli.rs`)
//! * **P7** The key is in no file, log, error or argument. (`tests/cli.rs`: the canary)
//! * **P8** Memory is bounded, whatever the number of items, pages and regions, by the sum of these budgets:
//!
//! | what | bound | where |
//! |---|---|---|
//! | bodies in flight | `max_in_flight` × (64 KiB and a read buffer, 816 KiB at most) + 32 MiB; twice that with `compressed`, or while bodies in ISO-8859-1 are brought to UTF-8 | [`api::BODY_POOL`] |
//! | a group being packed, and decoded | 2 × the bodies, and 3 decoded groups | [`record`], [`publish::QUEUE`] |
//! | rows before a split by region | 5,000 rows or a quarter of `memory`, and one group | [`segment`] |
//! | rows waiting for a row group | half of `memory` (16 MiB), twice `memory` with many regions, then the disk | [`segment`] |
//! | the one row group being encoded | `memory`, where rows shrink to a quarter as usual; at most twice that, and 25 MiB for the encoder | [`parquet`] |
//! | keys of open walks | 2^20 keys, about 32 MiB, or those of the walks under way if these have more | [`rounds`] |
//! | open walks | 2 × `max_in_flight` and 4,096 walks without keys | [`scheduler`] |
//! | names of a run's folders | 20,000 × 180 bytes, 4 MiB | [`partition::MOST_FOLDERS`] |
//! | the ledger's cache | 2 MiB; 32 MiB while it is opened and a list is added, before anything else is there | [`ledger`] |

pub mod api;
pub mod backlog;
pub mod cause;
pub mod cli;
pub mod clock;
pub mod commit;
pub mod decode;
pub mod depth;
pub mod disk;
pub mod dispatch;
pub mod drift;
pub mod endpoint;
pub mod envelope;
pub mod error;
pub mod event;
pub mod export;
pub mod figures;
pub mod form;
pub mod held;
pub mod job;
pub mod journal;
pub mod judgement;
pub mod learned;
pub mod ledger;
pub mod lenient;
pub mod limits;
pub mod log;
pub mod look;
pub mod number;
pub mod page;
pub mod parquet;
pub mod partition;
pub mod plan;
pub mod products;
pub mod progress;
pub mod publish;
pub mod quota;
pub mod rate_news;
pub mod read;
pub mod rebuild;
pub mod record;
pub mod recover;
pub mod rejudge;
pub mod retry;
pub mod room;
pub mod rounds;
pub mod rules;
pub mod sanitize;
pub mod scheduler;
pub mod segment;
pub mod settings;
pub mod signals;
pub mod simulator;
pub mod site;
pub mod sizes;
pub mod status;
pub mod step;
pub mod stop;
pub mod store;
pub mod summary;
pub mod token;
pub mod verdict;
pub mod verify;
pub mod walk;
pub mod waste;
pub mod worker;
