//! Everything at once: 2,000 products over a wire on which one request in eleven goes wrong, the program as it is built.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use crate::common::hostile::{Evil, Wire, answer, from_simulator};
use crate::common::{Answer, Home, Key, Row, assert_rows, expected, fewest_requests, ids, run, simulator};
use arrow::array::AsArray;
use pagehaul::simulator::Simulator;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use rand_core::{Rng, SeedableRng};
use rand_xoshiro::SplitMix64;

const QUICK: [&str; 6] = ["--retry-base-delay", "2ms", "--retry-max-delay", "20ms", "--qps", "unlimited"];

/// What a server does with a product: 3 of 100 are refused, 2 are dead.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    Sound,
    Bad,
    Dead,
}

fn fate(place: usize) -> Fate {
    match place % 100 {
        7 | 41 | 83 => Fate::Bad,
        19 | 60 => Fate::Dead,
        _ => Fate::Sound,
    }
}

/// Answers on one connection until it breaks: 500s 5 in 100, resets, cut bodies, errors inside a 200 and a proxy's page in
/// HTML 1 in 100 each.
fn converse(wire: &mut Wire, simulator: &Simulator, fates: &BTreeMap<String, Fate>, dice: &Mutex<SplitMix64>) {
    while let Some(request) = wire.request() {
        let rolled = dice.lock().unwrap().next_u64() % 100;
        let message = match (fates.get(&request.product), rolled) {
            (Some(Fate::Bad), _) => message(&Answer::refusal(400, "Invalid parameter: product_id")),
            (Some(Fate::Dead), _) | (_, 0..5) => message(&Answer::refusal(500, "Internal server error")),
            (_, 5) => return wire.will_reset(),
            (_, 6) => {
                let whole = from_simulator(simulator, &request);
                wire.say(&whole[..whole.len() * 2 / 3]);
                return;
            }
            (_, 7) => answer(200, Answer::refusal(500, "Internal server error").body),
            (_, 8) => answer(502, "<html><h1>502 Bad Gateway</h1></html>"),
            _ => from_simulator(simulator, &request),
        };
        if !wire.say(message) {
            return;
        }
    }
}

fn message(of: &Answer) -> Vec<u8> {
    answer(of.status, &of.body)
}

fn server(simulator: &Arc<Simulator>, fates: BTreeMap<String, Fate>) -> Evil {
    let (simulator, dice) = (Arc::clone(simulator), Mutex::new(SplitMix64::seed_from_u64(5)));
    Evil::start(move |wire| converse(wire, &simulator, &fates, &dice))
}

#[test]
fn one_request_in_eleven_goes_wrong_and_not_one_row_of_2_000_products_is_missing() {
    let simulator = simulator("products=2000,max_videos=60");
    let (list, server) = (ids(&simulator), server(&simulator, BTreeMap::new()));
    let home = Home::new(&list);
    let summary = run(home.export(&server.base_url(), &QUICK)).ended(0);
    assert_rows(&home.out(), &expected(&simulator, &list, 10));
    let credits = &summary["credits"];
    let fewest = fewest_requests(&simulator, &list);
    assert_eq!(credits["billed"], fewest);
    let (attempts, charged) = (u64::try_from(server.requests()).unwrap(), simulator.account().pages);
    assert!(attempts * 10 <= fewest * 12, "{attempts} requests for {fewest} pages");
    assert!(charged <= fewest + credits["in_doubt"].as_u64().unwrap(), "{charged} charged: {credits}");
}

#[test]
fn bad_and_dead_products_end_with_3_and_are_named_and_every_other_row_is_there() {
    static FAILED: AtomicU64 = AtomicU64::new(0);
    let simulator = simulator("products=2000,max_videos=60");
    let list = ids(&simulator);
    let fates: BTreeMap<String, Fate> = list.iter().enumerate().map(|(at, id)| (id.clone(), fate(at))).collect();
    let server = server(&simulator, fates.clone());
    let home = Home::new(&list);
    let summary = run(home.export(&server.base_url(), &QUICK)).ended(3);
    let sound: Vec<String> = list.iter().filter(|id| fates[*id] == Fate::Sound).cloned().collect();
    let rows: BTreeMap<Key, Row> = expected(&simulator, &sound, 10);
    assert_rows(&home.out(), &rows);
    assert_eq!((&summary["products"]["failed"], &summary["products"]["complete"]), (&100.into(), &1900.into()));

    let file = std::fs::File::open(home.out().join("_pagehaul/products.parquet")).unwrap();
    for batch in ParquetRecordBatchReaderBuilder::try_new(file).unwrap().build().unwrap() {
        let batch = batch.unwrap();
        let text = |name: &str| batch.column_by_name(name).unwrap().as_string::<i32>();
        let (ids, stops, errors) = (text("product"), text("stop_reason"), text("error"));
        for at in 0..batch.num_rows() {
            let words = match fates[ids.value(at)] {
                Fate::Sound => continue,
                Fate::Bad => "Invalid parameter",
                Fate::Dead => "Internal server error",
            };
            FAILED.fetch_add(1, Ordering::Relaxed);
            assert_eq!(stops.value(at), "failed");
            assert!(errors.value(at).contains(words), "{}: {}", ids.value(at), errors.value(at));
        }
    }
    assert_eq!(FAILED.load(Ordering::Relaxed), 100);
}
