//! `pagehaul report`, and the page that a run writes: what is in it, where it goes, and that nothing else changes.

use std::fs;
use std::path::Path;

use crate::common::{Api, DEADLINE, Home, Program, Run, ids, pagehaul, run, simulator, tree};
use pagehaul::state::ledger::Ledger;

const PAGE: &str = "_pagehaul/report.html";

fn report(out: &Path, more: &[&str]) -> Run {
    let mut command = pagehaul(["report", "--out", out.to_str().unwrap()]);
    command.args(more);
    run(command)
}

/// The text of a page, as far as it is on one line in it.
fn assert_says(page: &str, texts: &[&str]) {
    for text in texts {
        assert!(page.contains(text), "{text} is not in the page:\n{page}");
    }
}

fn exported() -> (Home, Api) {
    let simulator = simulator("products=20,max_videos=60,seed=3");
    let (home, api) = (Home::new(&ids(&simulator)), Api::from_simulator(&simulator));
    run(home.export(&api.base_url(), &[])).ended(0);
    (home, api)
}

#[test]
fn a_run_writes_the_page_and_the_command_writes_it_again_and_changes_nothing_else() {
    let (home, _api) = exported();
    let page = home.out().join(PAGE);
    let written = fs::read_to_string(&page).unwrap();
    assert_says(&written, &["<title>complete: ", "of 20 products complete", "Attempts by result", "run 1"]);
    fs::remove_file(&page).unwrap();
    let before = tree(&home.out());
    let again = report(&home.out(), &[]);
    assert_eq!((again.code, again.stdout.trim()), (Some(0), page.to_str().unwrap()), "{again}");
    let content = fs::read_to_string(&page).unwrap();
    let without_time = |page: &str| page.split("<footer>").next().unwrap().to_owned();
    assert_eq!(without_time(&content), without_time(&written));
    fs::remove_file(&page).unwrap();
    assert!(tree(&home.out()) == before, "report changed something else");
}

#[test]
fn the_page_goes_to_stdout_or_another_file_and_its_export_may_be_named_without_a_flag() {
    let (home, _api) = exported();
    let before = tree(&home.out());
    let printed = report(&home.out(), &["--html", "-"]);
    assert!(printed.stdout.starts_with("<!DOCTYPE html>") && printed.stderr.is_empty(), "{printed}");
    let file = home.path("elsewhere.html");
    let mut command = pagehaul(["report", &home.argument("out")]);
    command.args(["--html", file.to_str().unwrap()]);
    assert_eq!(run(command).code, Some(0));
    assert_says(&fs::read_to_string(&file).unwrap(), &["of 20 products complete"]);
    assert!(tree(&home.out()) == before, "report changed something");
    let both = run(pagehaul(["report", "a", "--out", "b"]));
    assert_eq!(both.code, Some(2), "{both}");
    let missing = report(&home.path("nothing"), &[]);
    assert_eq!(missing.code, Some(2), "{missing}");
    let no_directory = report(&home.out(), &["--html", home.path("no/such/directory.html").to_str().unwrap()]);
    assert_eq!(no_directory.code, Some(2), "{no_directory}");
}

#[test]
fn the_page_is_never_written_over_a_file_of_an_export_and_a_pipe_stays_a_pipe() {
    let (home, _api) = exported();
    let (ledger, page) = (home.out().join("_pagehaul/ledger.sqlite"), home.out().join(PAGE));
    let link = home.path("link.html");
    std::os::unix::fs::symlink(&ledger, &link).unwrap();
    let before = tree(&home.out());
    for file in
        [&ledger, &link, &home.out().join("new.html"), &home.out().join("_pagehaul/journal/new.html"), &home.out()]
    {
        let refused = report(&home.out(), &["--html", file.to_str().unwrap()]);
        assert_eq!((refused.code, refused.stdout.as_str()), (Some(2), ""), "{refused}");
        assert!(refused.stderr.contains("next: name another file with --html"), "{refused}");
    }
    assert!(tree(&home.out()) == before, "report changed something");
    assert_eq!(report(&home.out(), &["--html", page.to_str().unwrap()]).code, Some(0));
    let pipe = home.path("pipe");
    assert!(std::process::Command::new("mkfifo").arg(&pipe).status().unwrap().success());
    let reader = std::thread::spawn({
        let pipe = pipe.clone();
        move || fs::read_to_string(pipe).unwrap()
    });
    assert_eq!(report(&home.out(), &["--html", pipe.to_str().unwrap()]).code, Some(0));
    assert_says(&reader.join().unwrap(), &["of 20 products complete", "</html>"]);
    assert!(std::os::unix::fs::FileTypeExt::is_fifo(&fs::metadata(&pipe).unwrap().file_type()));
    fs::write(home.path("old"), "old").unwrap();
    fs::remove_file(&link).unwrap();
    std::os::unix::fs::symlink(home.path("old"), &link).unwrap();
    assert_eq!(report(&home.out(), &["--html", link.to_str().unwrap()]).code, Some(0));
    assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
    assert_says(&fs::read_to_string(home.path("old")).unwrap(), &["</html>"]);
}

#[test]
fn a_page_that_cannot_be_written_is_a_warning_and_the_export_is_complete() {
    let simulator = simulator("products=5,max_videos=20,seed=3");
    let (home, api) = (Home::new(&ids(&simulator)), Api::from_simulator(&simulator));
    fs::create_dir_all(home.out().join(PAGE).join("in the way")).unwrap();
    let ended = run(home.export(&api.base_url(), &[]));
    assert_eq!(ended.ended(0)["status"], "complete");
    assert!(ended.stderr.contains("_pagehaul/report.html is not written"), "{ended}");
    assert!(home.out().join("_SUCCESS").exists());
}

#[test]
fn an_export_that_runs_has_a_page_as_of_now_and_one_that_stopped_says_why() {
    let simulator = simulator("products=40,max_videos=90,seed=3");
    let (api, gate, waiting) = Api::gated(&simulator, 30);
    let home = Home::new(&ids(&simulator));
    let program = Program::start(home.export(&api.base_url(), &["--max-in-flight", "6", "--max-credits", "40"]));
    for _ in 0..6 {
        waiting.recv_timeout(DEADLINE).unwrap();
    }
    let ledger = Ledger::open_read_only(&home.out().join("_pagehaul/ledger.sqlite")).unwrap();
    while ledger.credits().unwrap().billed < 30 {}
    let running = report(&home.out(), &["--html", "-"]);
    assert_eq!(running.code, Some(0), "{running}");
    assert_says(&running.stdout, &["running", "requests in flight", "The limit is 40 credits"]);
    gate.open();
    drop(ledger);
    program.end().ended(6);
    let stopped = fs::read_to_string(home.out().join(PAGE)).unwrap();
    assert_says(&stopped, &["<title>limit: ", "max_credits is reached", "resumes", "The limit is 40 credits"]);
    let later = report(&home.out(), &["--html", "-"]);
    let same = ["<title>limit: ", "max_credits is reached", "raise the limit and run", "The limit is 40 credits"];
    assert_says(&later.stdout, &same);
    let status = run(pagehaul(["status", "--json", "--out", &home.argument("out")])).json();
    assert_eq!((&status["status"], &status["credits"]["max"]), (&"unfinished".into(), &40.into()));
}

#[test]
fn each_run_is_listed_with_its_outcome_and_the_credits_over_time_are_those_of_the_summary() {
    let simulator = simulator("products=40,max_videos=90,seed=3");
    let (home, api) = (Home::new(&ids(&simulator)), Api::from_simulator(&simulator));
    run(home.export(&api.base_url(), &["--max-credits", "20"])).ended(6);
    let summary = run(home.export(&api.base_url(), &[])).ended(0);
    run(pagehaul(["replay", "--all", "--out", &home.argument("out")])).ended(0);
    let page = report(&home.out(), &["--html", "-"]).stdout;
    assert_says(&page, &["limit: max_credits is reached", "run 3"]);
    assert!(!page.contains("are missing in everything over time"), "{page}");
    let db = rusqlite::Connection::open(home.out().join("_pagehaul/ledger.sqlite")).unwrap();
    let billed: i64 = db.query_row("SELECT sum(billed) FROM series", [], |row| row.get(0)).unwrap();
    let rows: i64 = db.query_row("SELECT sum(rows) FROM series", [], |row| row.get(0)).unwrap();
    let count = |path: [&str; 2]| summary[path[0]][path[1]].as_i64().unwrap();
    assert_eq!((billed, rows), (count(["credits", "billed"]), count(["rows", "published"])));
}
