//! The time of each stage of a page on one core: `cargo bench --bench stages`.
//!
//! `encode` is for a sealed segment of 4,096 pages in 21 regions. All others are for a group of 64 full pages of the simulator.
//! `journal` and `ledger` include waits for the disk.

#![expect(clippy::expect_used, reason = "a bench that cannot be set up has no figures")]

mod pages;

use std::hint::black_box;
use std::path::Path;
use std::time::Duration;

use criterion::{BatchSize, Criterion, criterion_group, criterion_main};
use pagehaul::decode::envelope;
use pagehaul::decode::{Decoder, Response};
use pagehaul::endpoint::{BUILT_IN, Endpoint};
use pagehaul::model::clock::Utc64;
use pagehaul::model::page::{AttemptId, ItemId, ItemIx, PageNum, Request, SegmentId};
use pagehaul::output::segment::SegmentWriter;
use pagehaul::state::disk::Disk;
use pagehaul::state::journal::{Journal, JournalEntry};
use pagehaul::state::ledger::{AppliedRow, Group, Ledger, LedgerError, PageRow};

/// Pages in a group: about what arrives during one fsync at full speed.
const GROUP: usize = 64;
/// Groups in the segment that is encoded: several row groups of the largest region.
const GROUPS: usize = 64;

fn stages(criterion: &mut Criterion) {
    let endpoint = Endpoint::parse(BUILT_IN).expect("the built-in endpoint is valid");
    let all = pages::responses(&endpoint, GROUP * GROUPS);
    let responses = all.chunks(GROUP).next().unwrap_or_default();
    let decoder = Decoder::new(&endpoint, |_| true);
    let directory = tempfile::tempdir().expect("a directory");

    let mut group = criterion.benchmark_group("64 pages");
    group.measurement_time(Duration::from_secs(3)).warm_up_time(Duration::from_secs(1)).sample_size(30);
    group.bench_function("envelope", |bencher| {
        bencher.iter(|| responses.iter().filter(|response| envelope::read(black_box(&response.body)).is_ok()).count());
    });
    group.bench_function("decode", |bencher| bencher.iter(|| decoder.decode(black_box(responses)).expect("rows")));
    let (mut journal, entries) = journal(directory.path(), responses);
    group.bench_function("journal", |bencher| bencher.iter(|| journal.append(black_box(&entries)).expect("durable")));
    let (mut ledger, mut next) = (ledger(directory.path()), 0);
    group.bench_function("ledger", |bencher| {
        bencher.iter(|| {
            next += 64;
            ledger.commit(&ledger_group(next), Utc64(0)).expect("durable");
        });
    });
    group.finish();

    let mut group = criterion.benchmark_group("4096 pages");
    group.measurement_time(Duration::from_secs(3)).warm_up_time(Duration::from_secs(1)).sample_size(10);
    let mut attempt = 0;
    group.bench_function("encode", |bencher| {
        let shape = pages::shape(directory.path(), &endpoint, &decoder);
        let groups: Vec<_> = all.chunks(GROUP).map(|group| decoder.decode(group).expect("rows")).collect();
        let begin = || {
            attempt += 1;
            SegmentWriter::new(shape.clone(), SegmentId(1), attempt)
        };
        bencher.iter_batched(begin, |segment| pages::write(segment, &groups), BatchSize::PerIteration);
    });
    group.finish();
}

fn journal(directory: &Path, responses: &[Response]) -> (Journal, Vec<JournalEntry>) {
    let journal = Journal::open(Disk, directory, SegmentId(1), 0).expect("a journal");
    let entry = |response: &Response| JournalEntry {
        attempt: response.request.attempt,
        id: response.request.id.clone(),
        page: response.request.page,
        at: response.at,
        status: 200,
        is_page: true,
        body: response.body.clone(),
    };
    (journal, responses.iter().map(entry).collect())
}

fn ledger(directory: &Path) -> Ledger {
    let mut ledger = Ledger::open(&directory.join("ledger.sqlite")).expect("a ledger");
    let ids = (0..100_000).map(|id: u32| Ok::<_, LedgerError>(ItemId::new(&id.to_string())));
    ledger.add_items(ids, || Ok(())).expect("items");
    ledger.start_segment().expect("a segment");
    ledger
}

/// One group commit: 64 pages journaled, 64 earlier ones applied, 64 intents.
fn ledger_group(next: i64) -> Group {
    let each = || next..next + 64;
    let page = |at: i64| PageRow { attempt: AttemptId(at), item: ItemIx(at), page: PageNum(1), at: Utc64(at) };
    let read = |at: i64| AppliedRow {
        again: Vec::new(),
        is_list: true,
        attempt: AttemptId(at - 64),
        item: ItemIx(at - 64),
        received: 10,
        rejected: 0,
        keys: vec![[7; 16]; 10],
    };
    let intent = |at: i64| Request {
        attempt: AttemptId(at + 64),
        item: ItemIx(at + 64),
        id: ItemId::new("1729382310407603945"),
        page: PageNum(1),
    };
    Group {
        frame: Some((SegmentId(1), u64::try_from(next).unwrap_or_default(), 1)),
        pages: each().map(page).collect(),
        applied: each().map(read).collect(),
        intents: each().map(intent).collect(),
        ..Group::default()
    }
}

criterion_group!(benches, stages);
criterion_main!(benches);
