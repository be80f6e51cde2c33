//! Faults of the ledger, rows L13, L17 and L18 of the catalogue: damaged, older than its output, of other settings, of
//! another format. Whatever is wrong with it is found before a request is sent, and nothing is created in its place.
//!
//! `PAGEHAUL_CASES=20` damages twenty times as many bits.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;

use crate::common::{
    Api, Home, assert_rows, cases, copy, expected, fewest_requests, ids, manifests, run, scratch, simulator, small,
};
use pagehaul::error::ExitCode;
use pagehaul::model::sanitize::chain;
use pagehaul::simulator::Simulator;
use pagehaul::state::ledger::Ledger;
use rand_core::{Rng, SeedableRng};
use rand_xoshiro::SplitMix64;
use rusqlite::Connection;
use rusqlite::config::DbConfig;
use rusqlite::functions::FunctionFlags;

/// What is done to the bytes of a file.
type Change = Box<dyn Fn(&mut Vec<u8>)>;

// --- L18: other formats --------------------------------------------------------------------------------------------

#[test]
fn l18_a_ledger_of_another_format_or_of_another_program_is_refused_and_left_as_it_is() {
    let started = small::half_way();
    for (pragma, says) in [
        ("user_version = 1", "has format 1, this program reads format 8 only: start a new --out"),
        ("user_version = 4", "has format 4, this program reads format 8 only: start a new --out"),
        ("user_version = 99", "has format 99, this program reads format 8 only"),
        ("user_version = 0", "has format 0, this program reads"),
        ("user_version = -1", "has format -1, this program reads"),
        ("application_id = 7", "is a database of another program"),
    ] {
        let home = small::home();
        copy(&started.out(), &home.out());
        let path = home.path("out/_pagehaul/ledger.sqlite");
        Connection::open(&path).unwrap().execute_batch(&format!("PRAGMA {pragma}")).unwrap();
        let before = std::fs::read(&path).unwrap();
        let (api, out) = (small::api(None), home.argument("out"));
        let refused = run(small::command(&home, &api, &[]));
        let cause = refused.ended(9)["cause"].as_str().unwrap().to_owned();
        assert!(cause.contains(says) && cause.contains("ledger.sqlite"), "{refused}");
        for command in ["replay", "status", "verify"] {
            let endpoint = small::endpoint();
            let more: &[&str] = if command == "replay" { &[&endpoint] } else { &[] };
            let refused = run(crate::common::pagehaul([&[command, "--out", &out], more].concat()));
            assert!(refused.code == Some(9) && refused.stderr.contains(says), "{pragma}: {refused}");
        }
        assert_eq!((std::fs::read(&path).unwrap(), api.requests()), (before, 0), "{pragma}");
    }
}

// --- L13: a damaged ledger ------------------------------------------------------------------------------------------

/// The directory of a process that is killed when [`KILLED_AT`] pages were billed and the next is in flight, with the ledger's
/// write-ahead log. And the ledger as it was five pages before, in a directory beside it.
async fn killed() -> tempfile::TempDir {
    let (running, killed) = (scratch(), scratch());
    let (from, to) = (running.path().join("out"), killed.path().to_owned());
    let snapshot = move |billed| {
        if billed == KILLED_AT && !to.join("out").exists() {
            copy(&from, &to.join("out"));
        } else if billed == KILLED_AT - 5 && !to.join("before").exists() {
            copy(&from.join("_pagehaul"), &to.join("before"));
        }
    };
    let (ended, billed) = small::resume(&running.path().join("out"), snapshot).await;
    assert_eq!((ended.unwrap(), billed), (ExitCode::Partial, small::PAGES), "one product is refused");
    killed
}

/// The files of a ledger.
const FILES: [&str; 3] = ["ledger.sqlite", "ledger.sqlite-wal", "ledger.sqlite-shm"];

/// Resumes a copy of a directory whose ledger `damage` has changed. Either the damage is found before anything is sent
/// and the ledger stays as it is, or the run ends with exactly the right rows and pays for at most one page again.
async fn damaged(about: &str, killed: &Path, damage: impl FnOnce(&Path)) -> bool {
    let directory = scratch();
    let out = directory.path().join("out");
    copy(&killed.join("out"), &out);
    let state = out.join("_pagehaul");
    damage(&state);
    let ledger = || (std::fs::read(state.join(FILES[0])).ok(), std::fs::read(state.join(FILES[1])).unwrap_or_default());
    let before = ledger();
    let (ended, billed) = small::resume(&out, |_| {}).await;
    match ended {
        Ok(exit) => {
            assert_eq!((exit, small::found(&out)), (ExitCode::Partial, small::expected()), "{about}");
            assert_eq!(billed, small::PAGES - KILLED_AT, "{about}");
            false
        }
        Err(error) => {
            assert_eq!((error.exit_code(), billed), (ExitCode::Integrity, 0), "{about}: {}", chain(&error));
            // A ledger that only lacks its newest transactions is like one from a backup; a damaged one stays as it is.
            let is_damaged = !chain(&error).contains("is older than");
            assert!(!is_damaged || before == ledger(), "{about}: {}", chain(&error));
            true
        }
    }
}

/// Pages billed when the process is killed: a segment is published, and another one has pages.
const KILLED_AT: usize = 7;

#[tokio::test(start_paused = true)]
async fn l13_a_damaged_bit_in_a_ledger_is_found_or_changes_nothing() {
    let killed = killed().await;
    assert!(!manifests(&killed.path().join("out")).is_empty());
    assert!(killed.path().join("out/_pagehaul/ledger.sqlite-wal").exists());
    // The same with the log moved into the file: every page of the database is in its final place.
    let checkpointed = scratch();
    copy(killed.path(), checkpointed.path());
    let ledger = Ledger::open(&checkpointed.path().join("out/_pagehaul/ledger.sqlite")).unwrap();
    assert!(ledger.open_segment().unwrap().unwrap().journaled > 0);
    drop(ledger);
    let mut random = SplitMix64::seed_from_u64(13);
    let mut found = BTreeMap::<&str, usize>::new();
    for (directory, file, header, usual) in [
        (&checkpointed, "ledger.sqlite", 100, 350),
        (&killed, "ledger.sqlite-wal", 32, 100),
        (&killed, "ledger.sqlite", 100, 50),
    ] {
        let length = std::fs::metadata(directory.path().join("out/_pagehaul").join(file)).unwrap().len();
        for case in 0..cases(usual) {
            // A quarter of them in the header, where every bit matters.
            let within = if case % 4 == 0 { header } else { length };
            let (at, bit) = (usize::try_from(random.next_u64() % within).unwrap(), random.next_u64() % 8);
            let flip = |state: &Path| {
                let path = state.join(file);
                let mut bytes = std::fs::read(&path).unwrap();
                bytes[at] ^= 1 << bit;
                std::fs::write(&path, bytes).unwrap();
            };
            let is_found = damaged(&format!("bit {bit} of byte {at} of {file}"), directory.path(), flip).await;
            *found.entry(file).or_default() += usize::from(is_found);
        }
    }
    assert!(found.values().all(|count| *count > 20), "{found:?}");
}

/// What happens to a state directory as a whole.
type Damage = Box<dyn Fn(&Path)>;

#[tokio::test(start_paused = true)]
#[expect(clippy::too_many_lines, reason = "one table of cases")]
async fn l13_a_ledger_that_lost_a_part_or_is_something_else_is_found_or_changes_nothing() {
    let killed = killed().await;
    let checkpointed = scratch();
    copy(killed.path(), checkpointed.path());
    drop(Ledger::open(&checkpointed.path().join("out/_pagehaul/ledger.sqlite")).unwrap());
    let length = |directory: &Path, file: &str| {
        usize::try_from(std::fs::metadata(directory.join("out/_pagehaul").join(file)).unwrap().len()).unwrap()
    };
    let write = |file: &'static str, content: Vec<u8>| -> Damage {
        Box::new(move |state| std::fs::write(state.join(file), &content).unwrap())
    };
    let change = |file: &'static str, change: Change| -> Damage {
        Box::new(move |state| {
            let mut bytes = std::fs::read(state.join(file)).unwrap();
            change(&mut bytes);
            std::fs::write(state.join(file), bytes).unwrap();
        })
    };
    let (ledger, log, memory) = (FILES[0], FILES[1], FILES[2]);
    let of_before = killed.path().join("before");
    let older: Damage = Box::new(move |state| {
        for file in FILES {
            std::fs::copy(of_before.join(file), state.join(file)).unwrap();
        }
    });
    let gone: Damage = Box::new(|state| FILES.iter().for_each(|file| std::fs::remove_file(state.join(file)).unwrap()));
    // Damage that must be found.
    let must: Vec<(&str, &Path, Damage)> = vec![
        ("no SQLite", checkpointed.path(), write(ledger, b"[package]\nname = 1\n".repeat(900))),
        ("zeros", checkpointed.path(), write(ledger, vec![0; 8_192])),
        ("an empty file", checkpointed.path(), write(ledger, Vec::new())),
        ("an empty file and a log", killed.path(), write(ledger, Vec::new())),
        ("of five pages ago", killed.path(), older),
        ("gone", killed.path(), gone),
        ("its log is gone", killed.path(), Box::new(move |state| std::fs::remove_file(state.join(log)).unwrap())),
        ("its log is empty", killed.path(), write(log, Vec::new())),
        ("its log is something else", killed.path(), write(log, b"no log".repeat(3_000))),
    ];
    for (about, directory, damage) in must {
        assert!(damaged(about, directory, damage).await, "{about}: nobody noticed");
    }
    // Damage that must be found or change nothing.
    let mut may: Vec<(String, &Path, Damage)> = vec![
        ("its shared memory is outdated".to_owned(), killed.path(), write(memory, vec![0xa5; 32_768])),
        (
            "its shared memory is gone".to_owned(),
            killed.path(),
            Box::new(move |state| std::fs::remove_file(state.join(memory)).unwrap()),
        ),
    ];
    for page in 0..length(checkpointed.path(), ledger) / 4_096 {
        let zero = move |bytes: &mut Vec<u8>| bytes[page * 4_096..(page + 1) * 4_096].fill(0);
        may.push((format!("page {page} is zero"), checkpointed.path(), change(ledger, Box::new(zero))));
        may.push((
            format!("cut at page {page}"),
            checkpointed.path(),
            change(ledger, Box::new(move |bytes| bytes.truncate(page * 4_096 + page % 2))),
        ));
    }
    for part in 0..24 {
        let at = length(killed.path(), log) * part / 24;
        may.push((
            format!("its log is cut at byte {at}"),
            killed.path(),
            change(log, Box::new(move |bytes| bytes.truncate(at))),
        ));
    }
    for (about, directory, damage) in may {
        damaged(&about, directory, damage).await;
    }
}

#[tokio::test(start_paused = true)]
async fn l13_the_ledger_of_another_export_is_refused() {
    let (killed, other) = (killed().await, killed().await);
    let state = other.path().join("out/_pagehaul");
    let swap = |target: &Path| {
        for file in FILES {
            std::fs::copy(state.join(file), target.join(file)).unwrap();
        }
    };
    assert!(damaged("of another export", killed.path(), swap).await);
}

#[test]
fn l13_a_damaged_row_and_a_damaged_index_are_named_by_verify_and_refused_by_export() {
    let started = small::half_way();
    let wrong_checksum: fn(&Connection) = |db| {
        let pure = FunctionFlags::SQLITE_DETERMINISTIC | FunctionFlags::SQLITE_INNOCUOUS | FunctionFlags::SQLITE_UTF8;
        db.create_scalar_function("row_crc", -1, pure, |_| Ok(0)).unwrap();
        db.execute("UPDATE items SET tries = 7 WHERE ix = 1", []).unwrap();
    };
    // An index with other values, in place of the real one: SQLite's quick check counts its entries and does not notice.
    let other_index: fn(&Connection) = |db| {
        db.set_db_config(DbConfig::SQLITE_DBCONFIG_DEFENSIVE, false).unwrap();
        db.execute_batch(
            "CREATE INDEX other ON items (id || '0'); PRAGMA writable_schema = 1;
             WITH two (name, root) AS (
               SELECT name, rootpage FROM sqlite_schema WHERE name IN ('other', 'sqlite_autoindex_items_1'))
             UPDATE sqlite_schema SET rootpage = (SELECT sum(root) FROM two) - rootpage
               WHERE name IN (SELECT name FROM two);
             PRAGMA writable_schema = RESET; DROP INDEX other",
        )
        .unwrap();
    };
    for (damage, says) in [
        (wrong_checksum, "1 rows of items are not as they were written"),
        (other_index, "the index sqlite_autoindex_items_1 is not that of its table"),
    ] {
        let home = small::home();
        copy(&started.out(), &home.out());
        let db = Connection::open(home.path("out/_pagehaul/ledger.sqlite")).unwrap();
        damage(&pagehaul::state::ledger::configure(db).unwrap());
        let verified = run(crate::common::pagehaul(["verify", "--out", &home.argument("out")]));
        let found = verified.ended(9)["found"].to_string();
        assert!(found.contains(&format!("ledger: {says}")), "{verified}");
        let (api, path) = (small::api(None), home.path("out/_pagehaul/ledger.sqlite"));
        let before = std::fs::read(&path).unwrap();
        let refused = run(small::command(&home, &api, &[]));
        assert!(refused.ended(9)["cause"].as_str().unwrap().contains(says), "{refused}");
        assert_eq!((std::fs::read(&path).unwrap(), api.requests()), (before, 0), "{says}");
    }
}

// --- L17: other settings -------------------------------------------------------------------------------------------

/// An export of a few products that stopped half way, and the API that it is exported from.
fn half_way() -> (Home, Api, Arc<Simulator>) {
    let simulator = simulator("products=3,max_videos=25");
    let home = Home::new(&ids(&simulator)[..2]);
    let api = Api::from_simulator(&simulator);
    run(home.export(&api.base_url(), &["--max-credits", "2"])).ended(6);
    (home, api, simulator)
}

#[test]
#[expect(clippy::too_many_lines, reason = "one table of cases")]
fn l17_settings_that_move_cursors_or_change_rows_are_refused_by_name_and_all_others_may_change() {
    let (home, api, simulator) = half_way();
    let (out, known, paid) = (home.out(), ids(&simulator)[..2].to_vec(), api.requests());
    let built_in = pagehaul::endpoint::BUILT_IN;
    let other_endpoint = home.file("other.toml", built_in.replacen("unit = \"px\"", "unit = \"dots\"", 1).as_bytes());
    let same_endpoint = home.file("same.toml", format!("# The same.\n{built_in}").as_bytes());
    let table_of_ids = home.file("table.csv", format!("product_id\n{}\n", known.join("\n")).as_bytes());
    let sized = home.file("sized.csv", format!("product_id,rows\n{}\n", known.join(",900\n")).as_bytes());
    let earlier = home.out().to_str().unwrap().to_owned();
    let key_file = home.file("key", crate::common::KEY.as_bytes());
    std::fs::set_permissions(&key_file, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
    let (state, longer) = (home.argument("state"), home.file("longer.txt", ids(&simulator).join("\n").as_bytes()));
    // Each setting with another value than the export was started with, and the message if it may not change.
    let changes: Vec<(&str, Vec<&str>, Option<&str>)> = vec![
        ("endpoint", vec!["--endpoint", &other_endpoint], Some("endpoint was product-videos")),
        ("endpoint", vec!["--endpoint", &same_endpoint], None),
        ("base_url", vec!["--base-url", "https://203.0.113.7", "--qps", "5"], Some("base_url was http://127.0.0.1/")),
        ("simulate", vec!["--simulate=seed=9"], Some("base_url was http://127.0.0.1/, now simulator seed=9")),
        ("page_size", vec!["--page-size", "5"], Some("page_size was 10, now 5")),
        ("sort", vec!["--sort", "create_time:desc"], Some("sort was none, now create_time:desc")),
        ("max_pages", vec!["--max-pages", "1"], Some("max_pages was none, now 1")),
        ("columns", vec!["--columns", "video_desc"], Some("columns was with user_id")),
        ("drop_columns", vec!["--drop-columns", "play_addr"], Some("columns was with play_addr")),
        ("partition_in_files", vec!["--partition-in-files"], Some("columns was without region, now with")),
        ("state_dir", vec!["--state-dir", &state], Some("its ledger is not in")),
        ("end", vec!["--end", "empty-page"], None), // stricter only: walks continue
        ("products", vec!["--products", &longer], None),
        ("product_column", vec!["--products", &table_of_ids, "--product-column", "product_id"], None),
        (
            "size_hint_column",
            vec!["--products", &sized, "--product-column", "product_id", "--size-hint-column", "rows"],
            None,
        ),
        ("since_check", vec!["--since-check", "5"], None),
        ("size_hints_from", vec!["--size-hints-from", &earlier], None),
        ("qps", vec!["--qps", "500"], None),
        ("compressed", vec!["--compressed"], None),
        ("rate_cache_dir", vec!["--rate-cache-dir", &state], None),
        ("max_in_flight", vec!["--max-in-flight", "3"], None),
        ("lookahead", vec!["--lookahead", "0"], None),
        ("lookahead_saves", vec!["--lookahead-saves", "1h"], None),
        ("max_evidence", vec!["--max-evidence", "20"], None),
        ("allow_empty", vec!["--allow-empty"], None),
        ("max_credits", vec!["--max-credits", "1000"], None),
        ("max_duration", vec!["--max-duration", "1h"], None),
        ("deadline", vec!["--deadline", "9999-12-31T23:59:59Z"], None),
        ("retry_failed", vec!["--retry-failed"], None),
        ("repair", vec!["--repair"], None),
        ("retry_attempts", vec!["--retry-attempts", "3"], None),
        ("retry_base_delay", vec!["--retry-base-delay", "5ms"], None),
        ("retry_max_delay", vec!["--retry-max-delay", "7s"], None),
        ("max_outage", vec!["--max-outage", "7m"], None),
        ("connect_timeout", vec!["--connect-timeout", "7s"], None),
        ("request_timeout", vec!["--request-timeout", "50s"], None),
        ("drain_timeout", vec!["--drain-timeout", "7s"], None),
        ("fail_on_drift", vec!["--fail-on-drift"], None),
        ("table", vec!["--table", "none"], None),
        ("evolve", vec!["--evolve"], None),
        ("segment_size", vec!["--segment-size", "64KiB"], None),
        ("journal", vec!["--journal", "until-published"], None),
        ("file_size", vec!["--file-size", "1MiB"], None),
        ("bloom_filters", vec!["--bloom-filters"], None),
        ("row_group_memory", vec!["--row-group-memory", "8MiB"], None),
        ("min_free_space", vec!["--min-free-space", "1KiB"], None),
        ("progress", vec!["--progress", "plain"], None),
        ("heartbeat", vec!["--heartbeat", "7s"], None),
        ("log_format", vec!["--log-format", "json"], None),
        ("serve", vec!["--serve", "127.0.0.1:0"], None),
        ("token_file", vec!["--token-file", &key_file], None),
        ("token_stdin", vec!["--token-stdin"], None),
        ("store_option", vec!["--store-option", "aws_region=eu-west-1"], None),
        ("endpoint_url", vec!["--endpoint-url", "http://127.0.0.1:1"], None),
    ];
    let own = ["out", "snapshot", "since", "keep"];
    let tried: BTreeSet<&str> = changes.iter().map(|(key, _, _)| *key).chain(own).collect();
    let all = pagehaul::settings::SETTINGS.iter().map(|setting| setting.key);
    assert_eq!(
        tried,
        all.collect(),
        "every setting is tried; another out or snapshot is another export, and since has tests of its own"
    );
    for (key, flags, refused) in changes {
        let case = Home::new(&known);
        copy(&out, &case.out());
        let (before, url) = (api.requests(), api.base_url());
        let mut command = crate::common::pagehaul(["export", "--out", &case.argument("out")]);
        let given = |flag: &str| flags.iter().any(|given| given.starts_with(flag));
        let (list, progress) = (case.argument("list.txt"), ["--progress", "none"]);
        command.args(["--products", &list].iter().filter(|_| !given("--products") && !given("--simulate")));
        command.args(["--base-url", &url].iter().filter(|_| !given("--base-url") && !given("--simulate")));
        command.args(progress.iter().filter(|_| !given("--progress")));
        let ended = crate::common::run_with(
            {
                command.args(&flags).env("KEYAPI_TOKEN", crate::common::KEY);
                command
            },
            crate::common::KEY.as_bytes(),
        );
        if let Some(says) = refused {
            let reason = ended.ended(9)["cause"].as_str().unwrap().to_owned();
            assert!(reason.contains(says), "{key}: {ended}");
            assert_eq!(api.requests(), before, "{key}: {ended}");
            continue;
        }
        let summary = ended.ended(0);
        assert_eq!(summary["credits"]["in_doubt"], 0, "{key}: {ended}");
        let products = if key == "products" { ids(&simulator) } else { known.clone() };
        assert_rows(&case.out(), &expected(&simulator, &products, 10));
        let least = usize::try_from(fewest_requests(&simulator, &products)).unwrap() - paid;
        // Up to three pages are requested behind ends, for evidence; the strict rule requests one behind each.
        let more = if key == "end" { products.len() } else { 3 };
        assert!((least..=least + more).contains(&(api.requests() - before)), "{key}: {ended}");
    }
}

#[test]
fn l17_a_product_that_is_no_longer_listed_stays_part_of_the_export_and_another_key_continues() {
    let (home, api, simulator) = half_way();
    home.file("list.txt", ids(&simulator)[2].as_bytes());
    let mut command = home.export(&api.base_url(), &[]);
    command.env("KEYAPI_TOKEN", "sk_live_ANOTHER");
    assert_eq!(run(command).ended(0)["products"]["total"], 3);
    assert_rows(&home.out(), &expected(&simulator, &ids(&simulator), 10));
}

#[test]
fn other_columns_on_resume_are_refused_by_name() {
    let simulator = simulator("products=2,max_videos=25");
    let (home, api) = (Home::new(&ids(&simulator)), Api::from_simulator(&simulator));
    run(home.export(&api.base_url(), &["--max-credits", "1"])).ended(6);
    let summary = run(home.export(&api.base_url(), &["--drop-columns", "play_addr"])).ended(9);
    assert!(summary["cause"].as_str().unwrap().contains("columns was"), "{summary}");
}
