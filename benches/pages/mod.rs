//! What the benches have in common: full pages of the simulator, and a segment to write their rows to.

use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use pagehaul::decode::{Decoded, Decoder, Response};
use pagehaul::endpoint::Endpoint;
use pagehaul::model::clock::Utc64;
use pagehaul::model::page::{AttemptId, ItemId, ItemIx, PageNum, Request};
use pagehaul::output::parquet_file::ParquetOptions;
use pagehaul::output::segment::{Rows, SegmentConfig, SegmentWriter, StagedSegment};
use pagehaul::simulator::{ApiRequest, Simulator, SimulatorSettings};

/// Pages of each product: what a walk asks for one after the other, beside many others.
const DEPTH: u64 = 50;

/// So many full pages, all different, in the order in which 64 walks would bring them.
pub(crate) fn responses(endpoint: &Endpoint, count: usize) -> Vec<Response> {
    let settings = SimulatorSettings { products: 40_000, max_videos: 2_000, ..SimulatorSettings::default() };
    let simulator = Simulator::new(endpoint, settings.clone()).expect("the built-in endpoint can be simulated");
    let deep: Vec<String> =
        settings.ids().filter(|id| simulator.videos(id) >= 10 * DEPTH).take(count.div_ceil(50).max(64)).collect();
    let mut requested = Vec::with_capacity(count);
    for walks in deep.chunks(64) {
        requested.extend((1..=DEPTH).flat_map(|page| walks.iter().map(move |id| (id, page))));
    }
    let numbered = (1..).zip(requested.into_iter().take(count));
    numbered
        .map(|(number, (id, page))| Response {
            request: Request {
                attempt: AttemptId(number),
                item: ItemIx(number),
                id: ItemId::new(id),
                page: PageNum(u32::try_from(page).unwrap_or(1)),
            },
            at: Utc64(1_700_000_000_000_000 + number * 110),
            body: body(endpoint, &simulator, id, page),
        })
        .collect()
}

fn body(endpoint: &Endpoint, simulator: &Simulator, id: &str, page: u64) -> Bytes {
    let query = format!("product_id={id}&page_num={page}&page_size=10");
    simulator.respond(&ApiRequest { path: &endpoint.path, query: &query, authorization: Some("Bearer x") }).body
}

/// A segment as an export would write it, with the built-in settings.
pub(crate) fn shape(directory: &Path, endpoint: &Endpoint, decoder: &Decoder) -> SegmentConfig {
    SegmentConfig {
        staging: directory.to_owned(),
        export: "bench".to_owned(),
        schema: Arc::clone(&decoder.schema),
        partition: endpoint.partition().name.clone(),
        parquet: ParquetOptions {
            unique: endpoint.unique_columns().map(|column| column.name.clone()).collect(),
            no_statistics: endpoint.opaque_columns().map(|column| column.name.clone()).collect(),
            ..ParquetOptions::default()
        },
    }
}

/// Writes decoded groups and seals the segment.
pub(crate) fn write(mut segment: SegmentWriter, groups: &[Decoded]) -> StagedSegment {
    for group in groups {
        let (batch, partitions) = (group.rows.clone(), group.partitions.clone());
        let keep = vec![true; batch.num_rows()];
        segment.push(Rows { batch, partitions, keep, rejects: Vec::new() }).expect("staged");
    }
    segment.seal().expect("sealed")
}
