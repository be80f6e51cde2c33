//! Deterministic simulation: the production scheduler, quota, retry, ledger and committer in virtual time, against a server
//! that keeps its own account, on a machine that dies.
//!
//! A seed determines one world: lists, limits, faults, and where each life of the run ends. When a seed fails, the message
//! names the one command that plays it again. `PAGEHAUL_SEEDS=FROM..TO` sets which seeds are played.

#![cfg(debug_assertions)]
#![expect(
    clippy::as_conversions,
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::wildcard_enum_match_arm,
    clippy::disallowed_methods,
    reason = "what helps a test fails by panicking"
)]

mod bucket;
#[path = "../common/mod.rs"]
mod common;
mod oracle;
mod plan;
mod power;
mod server;

use std::collections::BTreeSet;
use std::io;
use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use pagehaul::error::{Error, ExitCode};
use pagehaul::model::failpoint::{Failpoint, FailpointObserver, When, watch};
use pagehaul::model::page::ItemId;
use pagehaul::report::summary::Summary;
use pagehaul::run::context::RunContext;
use pagehaul::run::export::export;
use pagehaul::settings::JournalRetention;

use oracle::Ledger;
use plan::{Death, End, Fault, Plan};
use server::{Life, World};

/// Lives after which nothing goes wrong any more.
const TROUBLED_LIVES: usize = 8;
/// Virtual time in which a life must end.
const LIFE_SPAN: Duration = Duration::from_secs(7 * 86_400);

/// What became of a life.
#[derive(Debug)]
enum Outcome {
    Crashed,
    Ended(Box<Summary>),
}

/// Plays a seed to its end and gives the log of what happened.
fn play(seed: u64) -> Vec<String> {
    let directory = common::scratch();
    let world = Arc::new(World::new(Plan::new(seed), directory.path()));
    let (mut deaths, mut calm) = (world.plan.deaths.clone().into_iter(), false);
    for number in 1.. {
        calm = number > TROUBLED_LIVES;
        let end = live(&world, directory.path(), deaths.next().filter(|_| !calm), calm);
        oracle::check_files(directory.path());
        let outdated = oracle::outdated(directory.path());
        let journaled = oracle::pages(directory.path()).into_iter().map(|(id, page, _)| (id, page));
        let journaled: BTreeSet<_> = journaled.filter(|page| !outdated.contains(page)).collect();
        let unheard = journaled.is_empty();
        world.account.lock().unwrap().journaled = journaled;
        let exit = match &end {
            Outcome::Crashed => None,
            Outcome::Ended(summary) => Some(summary.exit),
        };
        world.account.lock().unwrap().log.push(format!("life {number} ends with {exit:?}"));
        match exit {
            Some(ExitCode::Complete) => break,
            Some(ExitCode::Partial) if world.plan.may_lack_something() => break,
            Some(ExitCode::Limit) => world.raise_limit(),
            Some(ExitCode::Account) => world.top_up(),
            // A bucket that fails ends a life before it has sent anything: then the API's outage lasts longer.
            Some(ExitCode::Temporary) if world.bucket.is_some() && world.plan.outage.is_some() => {}
            None | Some(ExitCode::Interrupted | ExitCode::Temporary) if !calm => {}
            Some(ExitCode::Contract) if !calm && unheard && world.plan.may_seem_foreign() => {}
            _ => panic!("a life ended with {end:?}"),
        }
        assert!(number < 2 * TROUBLED_LIVES, "it never ends");
    }
    check_end(&world, directory.path(), calm);
    std::mem::take(&mut world.account.lock().unwrap().log)
}

/// `calm`: whether nothing went wrong in the last life. An old listing hides what should be removed until the next run.
fn check_end(world: &Arc<World>, out: &Path, calm: bool) {
    oracle::check_rows(out);
    if let Some(bucket) = world.bucket.as_ref().filter(|_| calm) {
        bucket.check_uploads();
        oracle::check_orphans(out);
    }
    let success = out.join("_SUCCESS").exists();
    let still = !world.plan.faults.iter().any(|fault| matches!(fault, Fault::Shifted | Fault::Dirty));
    // Where no empty list was ever sent as one, an answer without a list is one.
    let is_clear = !world.plan.faults.contains(&Fault::NoList) || world.account.lock().unwrap().empty_lists > 0;
    let is_owed = world.plan.is_fair() && world.plan.odd.grows.is_none();
    if (success && still && is_clear || is_owed) && world.plan.must_be_whole() {
        oracle::check_complete(world, out);
    }
    if world.plan.is_fair() && world.plan.deaths.is_empty() {
        oracle::check_waste(world);
    }
    if success {
        if world.plan.removes_journal() {
            oracle::check_journal_is_gone(out);
        }
        let before = world.api.requests();
        let Outcome::Ended(again) = live(world, out, None, true) else { panic!("it crashed by itself") };
        assert!(again.complete_since.is_some(), "{again}");
        assert_eq!(world.api.requests(), before, "a finished export sends nothing");
    }
}

/// One life of the run: until it ends or its machine dies.
fn live(world: &Arc<World>, out: &Path, death: Option<Death>, calm: bool) -> Outcome {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build().unwrap();
    let life = runtime.block_on(async { Arc::new(Life::new(world, death, Ledger::new(out), calm)) });
    let dead = Arc::new(AtomicBool::new(false));
    let watch = watch_steps(out, &life, &dead);
    let context = context(world, out);
    let ended = runtime.block_on(run(&context, &life));
    dead.store(true, Ordering::SeqCst);
    runtime.block_on(async { world.api.restart() });
    drop(runtime);
    drop(watch);
    oracle::check_account(world, &life.ledger, &life.api.sent());
    ended
}

async fn run(context: &RunContext, life: &Arc<Life>) -> Outcome {
    let ids: Vec<_> = life.world.api.ids().iter().map(|id| Ok(ItemId::new(id))).collect();
    let interrupted = Arc::clone(life);
    let stopped = async move {
        interrupted.stops_if(|death| matches!(death, Death::Signal(_))).await;
        ExitCode::Interrupted
    };
    let running = export(context, Box::new(ids.into_iter()), Arc::clone(life), stopped);
    tokio::select! {
        biased;
        () = life.die.notified() => Outcome::Crashed,
        () = life.stops_if(|death| matches!(death, Death::Request(_))) => Outcome::Crashed,
        ended = tokio::time::timeout(LIFE_SPAN, running) => match ended {
            Ok(Ok(summary)) => Outcome::Ended(Box::new(summary)),
            // Its bucket failed for too long.
            Ok(Err(error)) if context.settings.out.directory().is_none() && error.exit_code() == ExitCode::Temporary => {
                Outcome::Crashed
            }
            // The step that killed the machine is what the run sees as a broken disk.
            Ok(Err(error)) if matches!(life.death, Some(Death::Failpoint(_) | Death::Refusal(_) | Death::Unpublished(_))) && !matches!(error, Error::Panic(_)) => Outcome::Crashed,
            Ok(Err(error)) => panic!("{}", pagehaul::model::sanitize::chain(&error)),
            Err(elapsed) => {
                let log = life.world.account.lock().unwrap().log.clone();
                panic!("it does not end: {elapsed}; lately: {:#?}", &log[log.len().saturating_sub(20)..])
            }
        },
    }
}

/// Counts the steps of the state and of what is published, and lets the machine die at one of them: from then on no
/// operation reaches the disk.
fn watch_steps(out: &Path, life: &Arc<Life>, dead: &Arc<AtomicBool>) -> FailpointObserver {
    let (life, dead) = (Arc::clone(life), Arc::clone(dead));
    let (count, named) = (AtomicU64::new(0), AtomicU64::new(0));
    watch(out, move |step: &Failpoint<'_>| {
        if dead.load(Ordering::SeqCst) {
            return Err(io::Error::other("the machine is off"));
        }
        if step.when == When::Before && step.action == "remove" {
            oracle::keep_journal(step.path);
        }
        // Staging runs beside the rest: the seed does not determine what it does first.
        if step.path.to_string_lossy().contains("/staging/") {
            return Ok(());
        }
        let count = count.fetch_add(1, Ordering::SeqCst) + 1;
        if matches!(life.death, Some(Death::Failpoint(at)) if at == count) {
            dead.store(true, Ordering::SeqCst);
            life.die.notify_one();
            return Err(io::Error::other("the machine goes off"));
        }
        let names_a_file = step.when == When::Before
            && matches!(step.action, "rename to" | "put" | "complete")
            && step.path.extension().is_some_and(|kind| kind == "parquet");
        let named = if names_a_file { named.fetch_add(1, Ordering::SeqCst) + 1 } else { 0 };
        if matches!(life.death, Some(Death::Refusal(at)) if at == count)
            || matches!(life.death, Some(Death::Unpublished(at)) if at == named)
        {
            return Err(io::Error::other("the disk is broken"));
        }
        Ok(())
    })
}

fn context(world: &World, out: &Path) -> RunContext {
    let plan = &world.plan;
    let (size, most, ahead) = (plan.page_size.to_string(), plan.max_in_flight.to_string(), plan.lookahead.to_string());
    let mut settings = vec![("page_size", &*size), ("max_in_flight", &*most), ("lookahead", &*ahead)];
    settings.push(("lookahead_saves", "0s")); // lists are short here
    match plan.end {
        // The default, at any price: lists are few here, so that a few ends are many of a hundred.
        End::Auto => settings.extend([("end", "auto"), ("max_evidence", "100")]),
        End::ShortPage => settings.push(("end", "short-page")),
        End::EmptyPage => settings.push(("end", "empty-page")),
    }
    if plan.auto {
        settings.push(("qps", "auto"));
    }
    let mut context = common::context(out, plan.qps, &settings);
    context.seed = plan.seed;
    context.settings.segment_size = plan.segment_size;
    if plan.removes_journal() {
        context.settings.journal = JournalRetention::UntilPublished;
    }
    if plan.seed.is_multiple_of(4) {
        // So little that rows wait on the disk, and that a region has several row groups and files.
        (context.settings.row_group_memory, context.settings.file_size) = (16 << 10, 64 << 10);
    }
    context.settings.max_pages = plan.max_pages;
    context.settings.max_credits = plan.max_credits.filter(|_| !world.limit_was_raised());
    if let Some(bucket) = &world.bucket {
        bucket.take(&mut context.settings);
    }
    context
}

/// The seeds to play: those of `PAGEHAUL_SEEDS`, or these.
fn seeds(by_default: Range<u64>) -> Range<u64> {
    let Ok(requested) = std::env::var("PAGEHAUL_SEEDS") else { return by_default };
    let (from, to) = requested.split_once("..").unwrap();
    from.parse().unwrap()..to.parse().unwrap()
}

/// Does all of this work, by number, on all cores.
fn on_all_cores(count: usize, work: impl Fn(usize) + Sync) {
    let next = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for _ in 0..std::thread::available_parallelism().map_or(2, std::num::NonZero::get) {
            scope.spawn(|| {
                while let Some(at) = Some(next.fetch_add(1, Ordering::Relaxed)).filter(|at| *at < count) {
                    work(at);
                }
            });
        }
    });
}

/// Plays seeds on all cores. Fails at the first that fails, with the command that plays it again.
fn play_all(seeds: Range<u64>, play: impl Fn(u64) + Sync) {
    let failed = Mutex::new(None);
    on_all_cores(usize::try_from(seeds.end - seeds.start).unwrap(), |at| {
        let seed = seeds.start + u64::try_from(at).unwrap();
        let has_failed = failed.lock().unwrap().is_some();
        if !has_failed && catch_unwind(AssertUnwindSafe(|| play(seed))).is_err() {
            failed.lock().unwrap().get_or_insert(seed);
        }
    });
    if let Some(seed) = failed.into_inner().unwrap() {
        let replay =
            format!("PAGEHAUL_SEEDS={seed}..{} cargo test --test simulation every_seed -- --nocapture", seed + 1);
        panic!("seed {seed} failed; its plan is {:#?}\nplay it again with\n  {replay}", Plan::new(seed));
    }
}

#[test]
fn every_seed_ends_with_every_journaled_row_published_once_and_an_account_that_adds_up() {
    play_all(seeds(0..2_000), |seed| drop(play(seed)));
}

/// Worlds in which little goes wrong, so that a run reaches all its steps.
#[test]
fn a_crash_at_any_step_of_a_run_into_a_bucket_leaves_nothing_there_and_costs_no_row() {
    for seed in 0..if common::is_whole_grid() { 3 } else { 1 } {
        let mut steps = 0;
        for at in 1.. {
            let directory = common::scratch();
            let plan = Plan { deaths: vec![Death::Failpoint(at)], ..Plan::quiet_in_bucket(seed) };
            let world = Arc::new(World::new(plan, directory.path()));
            world.bucket.as_ref().unwrap().set_calm(true);
            let first = live(&world, directory.path(), Some(Death::Failpoint(at)), true);
            let Outcome::Crashed = first else { break };
            oracle::check_files(directory.path());
            let Outcome::Ended(summary) = live(&world, directory.path(), None, true) else { panic!("step {at}") };
            assert_eq!(summary.exit, ExitCode::Complete, "step {at}");
            check_end(&world, directory.path(), true);
            steps = at;
        }
        assert!(steps > 100, "{steps} steps are not a run");
    }
}

#[test]
fn a_seed_played_twice_gives_the_same_log() {
    play_all(0..50, |seed| {
        if Plan::new(seed).is_in_bucket {
            return; // files go up beside each other: the seed does not determine which step is the machine's last
        }
        let (one, two) = (play(seed), play(seed));
        assert!(one.len() > 1, "an empty log shows nothing");
        assert_eq!(one, two, "seed {seed}");
    });
}
