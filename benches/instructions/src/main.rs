//! The stages that `benches/instructions.sh` counts the instructions of.
//!
//! Runs the stage STAGE on the same pages TIMES times. The difference between two runs with different TIMES is the cost of the
//! stage without its setup. Without the variables every stage runs once.

#![expect(clippy::expect_used, reason = "a bench that cannot be set up has no figures")]

#[path = "../../pages/mod.rs"]
mod pages;

use std::hint::black_box;

use pagehaul::decode::Decoder;
use pagehaul::endpoint::{BUILT_IN, Endpoint};
use pagehaul::model::page::SegmentId;
use pagehaul::output::segment::SegmentWriter;

/// Pages that are decoded together: about what arrives during one fsync at full speed.
const GROUP: usize = 64;
/// Pages of the segment that is encoded.
const PAGES: usize = 1_024;

fn main() {
    let times = std::env::var("TIMES").ok().and_then(|times| times.parse().ok()).unwrap_or(1);
    match std::env::var("STAGE").as_deref() {
        Ok("decode") => decode(times),
        Ok("encode") => encode(times),
        _ => {
            decode(times);
            encode(times);
        }
    }
}

fn decode(times: u64) {
    let endpoint = Endpoint::parse(BUILT_IN).expect("the built-in endpoint is valid");
    let decoder = Decoder::new(&endpoint, |_| true);
    let responses = pages::responses(&endpoint, GROUP);
    for _ in 0..times {
        black_box(decoder.decode(black_box(&responses)).expect("rows"));
    }
}

fn encode(times: u64) {
    let endpoint = Endpoint::parse(BUILT_IN).expect("the built-in endpoint is valid");
    let decoder = Decoder::new(&endpoint, |_| true);
    let responses = pages::responses(&endpoint, PAGES);
    let groups: Vec<_> = responses.chunks(GROUP).map(|group| decoder.decode(group).expect("rows")).collect();
    let directory = tempfile::tempdir().expect("a directory");
    let shape = pages::shape(directory.path(), &endpoint, &decoder);
    for attempt in (1..).take(usize::try_from(times).unwrap_or(usize::MAX)) {
        let segment = SegmentWriter::new(shape.clone(), SegmentId(1), attempt);
        black_box(pages::write(segment, &groups));
    }
}
