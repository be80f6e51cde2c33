//! Scenarios: what an API does over time, the settings of a run against it, and what is expected to come of it, each in a
//! file of its own beside this one. The production scheduler, quota, retry, ledger and committer run in virtual time.
//!
//! `docs/scenarios.md` is the table of all files with what was expected and what came. After a change that moves a figure,
//! `PAGEHAUL_WRITE_DOCS=1 cargo test --test runs scenarios` writes it; the ranges in the files decide.

mod figures;
mod file;
mod world;

use std::collections::{BTreeMap, BTreeSet};
use std::future::pending;
use std::path::Path;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use self::figures::{Ended, Figure, Range, shown, shown_range};
use self::file::Scenario;

/// Virtual time in which a run must end.
const LIFE_SPAN: Duration = Duration::from_secs(7 * 86_400);

/// The head of the table in the documents.
const HEAD: &str = "\
| scenario | what the API does | expected | came |
|---|---|---|---|
";

/// A test for each file, and the list of them.
macro_rules! scenarios {
    ($($name:ident)*) => {
        $(#[test]
        fn $name() {
            let played = played(stringify!($name));
            assert!(played.wrong.is_empty(), "{}:\n{}\n{}", stringify!($name), played.wrong.join("\n"), played.row);
        })*

        /// The results, each made once, by whoever wants it first.
        static PLAYED: [(&str, OnceLock<Played>); [$(stringify!($name)),*].len()] =
            [$((stringify!($name), OnceLock::new())),*];
    };
}

scenarios! {
    constant slow jittery quota_drives one_deep_product
    hard_limit fixed_window sliding_window no_burst concurrency_limit limit_halves_while_fixed no_limit
    discovery discovery_slow discovery_window discovery_no_burst limit_halves limit_doubles discovery_without_limit discovery_at_a_time
    long_retry_after absurd_retry_after
    outage flapping deploy brownout burst_of_500 retry_storm never_there never_comes_back
    poison_product retries_starve_nobody waiting_takes_no_slot everything_empty
    credits_end credit_limit wrong_key
}

/// What came of a scenario.
#[derive(Debug)]
struct Played {
    /// Its row of the table.
    row: String,
    /// What is not as expected.
    wrong: Vec<String>,
}

fn played(name: &str) -> &'static Played {
    let (name, played) = PLAYED.iter().find(|(known, _)| *known == name).unwrap();
    played.get_or_init(|| play(name))
}

fn play(name: &str) -> Played {
    let Scenario { says, world, run, expect, window } = Scenario::read(name);
    let directory = crate::common::scratch();
    let settings: Vec<(&str, String)> = run.iter().map(|(key, value)| (key.as_str(), file::text(value))).collect();
    let context = crate::common::context_from(directory.path(), &settings);
    let fewest = world.depths().into_iter().map(|pages| u64::from(pages).max(1)).sum();
    let world = Arc::new(world::world(world, context.settings.page_size));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build().unwrap();
    let summary = runtime.block_on(async {
        let (api, ids) = (world.serve(usize::MAX), world.ids());
        let running = crate::common::scripted::run_until(&context, &api, &ids, pending());
        let ended = tokio::time::timeout(LIFE_SPAN, running).await.unwrap_or_else(|_| panic!("{name} does not end"));
        ended.unwrap_or_else(|error| panic!("{name}: {error}"))
    });
    drop(runtime);
    let ended = Ended { world: &world, seen: world.account().seen.clone(), fewest, summary };
    let mut wrong = account(&ended);
    let whole = Part { name: String::new(), from: Duration::ZERO, until: ended.end(), expect };
    let parts = window.into_iter().map(|window| Part {
        name: format!("{} to {}: ", clock(window.from), clock(window.until)),
        from: window.from,
        until: window.until,
        expect: window.expect,
    });
    let (mut expected, mut came) = (Vec::new(), Vec::new());
    for part in std::iter::once(whole).chain(parts) {
        let (wanted, got) = part.compare(&ended, &mut wrong);
        expected.push(wanted);
        came.push(got);
    }
    let (expected, came) = (expected.join("<br>"), came.join("<br>"));
    let file = format!("[{name}](../tests/runs/scenarios/{name}.toml)");
    Played { row: format!("| {file} | {says} | {expected} | {came}<br>`{}` |", ended.course()), wrong }
}

/// A part of a run and what is expected of it.
struct Part {
    name: String,
    from: Duration,
    until: Duration,
    expect: BTreeMap<Figure, Range>,
}

impl Part {
    /// What was expected and what came, as the table has it.
    fn compare(&self, ended: &Ended<'_>, wrong: &mut Vec<String>) -> (String, String) {
        if self.until > ended.end() {
            wrong.push(format!("the run ended at {}, before this part of it: {}", clock(ended.end()), self.name));
        }
        let (mut wanted, mut got) = (Vec::new(), Vec::new());
        for (figure, range) in &self.expect {
            let number = ended.figure(*figure, self.from, self.until);
            wanted.push(format!("{figure} {}", shown_range(*figure, *range)));
            got.push(format!("{figure} {}", shown(*figure, number)));
            if !range.holds(number) {
                let range = shown_range(*figure, *range);
                wrong.push(format!("{}{figure} is {}, not {range}", self.name, shown(*figure, number)));
            }
        }
        (format!("{}{}", self.name, wanted.join(", ")), format!("{}{}", self.name, got.join(", ")))
    }
}

/// What must be true of every run: both sides count the same, and nothing is lost or bought twice.
fn account(ended: &Ended<'_>) -> Vec<String> {
    let (summary, mut wrong) = (&ended.summary, Vec::new());
    let served = ended.world.served();
    let billed = served.values().map(|times| u64::from(*times)).sum();
    let twice = served.values().filter(|times| **times > 1).count();
    let (certain, doubtful) = (summary.totals.credits.billed, summary.totals.credits.in_doubt);
    if !(certain..=certain + doubtful).contains(&billed) {
        wrong.push(format!("{billed} pages were billed; known are {certain}, and {doubtful} in doubt"));
    }
    if u64::try_from(twice).unwrap() > doubtful {
        wrong.push(format!("{twice} pages were billed more than once, and {doubtful} attempts are in doubt"));
    }
    let requests = u64::try_from(ended.seen.len()).unwrap();
    if requests != summary.run.requests {
        wrong.push(format!("{requests} requests were seen, {} are known", summary.run.requests));
    }
    let (rows, all) = (summary.totals.rows.published, ended.world.lists.rows());
    if summary.exit_code == 0 && rows != all as u64 {
        wrong.push(format!("{rows} of {all} rows were published"));
    }
    wrong
}

/// A time since the first request, for people.
fn clock(at: Duration) -> String {
    let seconds = at.as_secs();
    format!("{}:{:02}", seconds / 60, seconds % 60)
}

#[test]
fn every_file_is_played() {
    let names: BTreeSet<String> = PLAYED.iter().map(|(name, _)| (*name).to_owned()).collect();
    let files = std::fs::read_dir(file::directory()).unwrap().map(|entry| entry.unwrap().path());
    let files = files.filter(|path| path.extension().is_some_and(|kind| kind == "toml"));
    let files: BTreeSet<String> = files.map(|path| path.file_stem().unwrap().to_str().unwrap().to_owned()).collect();
    assert_eq!(names, files);
}

#[test]
fn the_table_of_the_documents_is_what_came() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/scenarios.md");
    let written = std::fs::read_to_string(&path).unwrap();
    let (before, was) = written.split_once(HEAD).unwrap();
    let rows: Vec<&str> = PLAYED.iter().map(|(name, _)| played(name).row.as_str()).collect();
    let rows = rows.join("\n") + "\n";
    if std::env::var_os("PAGEHAUL_WRITE_DOCS").is_some() {
        return std::fs::write(&path, [before, HEAD, &rows].concat()).unwrap();
    }
    for (is, was) in rows.lines().zip(was.lines()) {
        assert_eq!(is, was, "docs/scenarios.md; PAGEHAUL_WRITE_DOCS=1 cargo test --test runs scenarios writes it");
    }
    assert_eq!(rows.lines().count(), was.lines().count(), "rows of docs/scenarios.md");
}
