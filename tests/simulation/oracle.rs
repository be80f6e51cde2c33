//! What must be true, found out without the code under test: the ledger is read by plain SQL, the journal by any zstd decoder,
//! the files by their manifests.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use pagehaul::endpoint::ColumnKind;
use pagehaul::model::page::Request;
use rusqlite::{Connection, OpenFlags};
use serde_json::Value;
use sha2::{Digest, Sha256};

use crate::common::scripted::Sent;
use crate::common::world::{Behind, id};
use crate::common::{Key, Row, endpoint, files, manifests, rows};
use crate::plan::End;
use crate::server::World;

/// The ledger of a run, for looking at it while it is written.
#[derive(Debug)]
pub(crate) struct Ledger {
    path: PathBuf,
    db: Mutex<Option<Connection>>,
}

impl Ledger {
    pub(crate) fn new(out: &Path) -> Self {
        Self { path: out.join("_pagehaul/ledger.sqlite"), db: Mutex::default() }
    }

    fn count(&self, sql: &str, about: &[i64]) -> i64 {
        let mut db = self.db.lock().unwrap();
        let db = db
            .get_or_insert_with(|| Connection::open_with_flags(&self.path, OpenFlags::SQLITE_OPEN_READ_ONLY).unwrap());
        let mut query = db.prepare_cached(sql).unwrap();
        query.query_row(rusqlite::params_from_iter(about), |row| row.get(0)).unwrap()
    }

    /// What is wrong with sending this request now.
    pub(crate) fn check_request(&self, request: &Request) -> Option<String> {
        let known = self.count(
            "SELECT count(*) FROM pages WHERE item = ?1 AND page = ?2 AND outdated = 0",
            &[request.item.0, i64::from(request.page.0)],
        );
        let intents = "SELECT count(*) FROM attempts WHERE id = ?1 AND item = ?2 AND charge IS NULL";
        let intent = self.count(intents, &[request.attempt.0, request.item.0]);
        let about = format!("attempt {}, {} page {}", request.attempt.0, request.id, request.page);
        match (known, intent) {
            (0, 1) => None,
            (0, _) => Some(format!("{about}: sent without an intent")),
            (_, _) => Some(format!("{about}: sent though the page is in the journal")),
        }
    }

    /// Whether a page is in the ledger and is to be read again.
    pub(crate) fn is_outdated(&self, request: &Request) -> bool {
        let about = [request.item.0, i64::from(request.page.0)];
        self.count("SELECT count(*) FROM pages WHERE item = ?1 AND page = ?2 AND outdated > 0", &about) > 0
    }

    /// Pages, attempts in doubt or in flight, and all attempts.
    pub(crate) fn credits(&self) -> (u64, u64, u64) {
        let count = |sql: &str| u64::try_from(self.count(sql, &[])).unwrap();
        let billed = count("SELECT count(*) FROM pages");
        let in_doubt = count("SELECT count(*) FROM attempts WHERE charge IS NOT 'free'");
        (billed, in_doubt, billed + count("SELECT count(*) FROM attempts"))
    }

    pub(crate) fn has_begun(&self) -> bool {
        self.path.exists()
            && Connection::open(&self.path).is_ok_and(|db| db.prepare("SELECT id FROM pages, items").is_ok())
    }
}

/// The account adds up, and no window of time has more requests than the quota allows.
pub(crate) fn check_account(world: &World, ledger: &Ledger, sent: &[Sent]) {
    let account = world.account.lock().unwrap();
    assert!(account.wrong.is_empty(), "{:#?}", account.wrong);
    if ledger.has_begun() {
        let (billed, in_doubt, attempts) = ledger.credits();
        let charged = world.api.account().charged();
        assert!(billed <= charged, "the ledger counts {billed} pages, the server charged {charged}");
        assert!(charged <= billed + in_doubt, "{charged} charged, {billed} billed and {in_doubt} in doubt");
        let requests = world.api.requests() as u64;
        assert!(requests <= attempts, "{requests} requests, {attempts} attempts in the ledger");
        if let Some(most) = world.plan.max_credits.filter(|_| !world.limit_was_raised()) {
            assert!(charged <= most, "{charged} charged where {most} were allowed");
        }
    }
    let Some(rate) = world.plan.qps else { return };
    // One, and what a late timer makes good; where 429s showed windows, also what the guards at both ends of one push together.
    let guards = if world.plan.limit.is_some() { 0.4 * rate } else { 0.0 };
    let burst = f64::from(pagehaul::fetch::rate_limit::burst(rate).get()) + guards;
    for (from, first) in sent.iter().enumerate() {
        for (count, last) in (1_u32..).zip(&sent[from..]) {
            let between = last.at - first.at;
            let most = burst + rate * between.as_secs_f64();
            assert!(f64::from(count) <= most, "{count} requests in {between:?} at {rate} a second");
        }
    }
}

/// Every file that a manifest lists is there, whole.
pub(crate) fn check_files(out: &Path) {
    for manifest in manifests(out) {
        let listed = manifest["files"]
            .as_array()
            .unwrap()
            .iter()
            .chain(manifest["rejects"].as_object().map(|_| &manifest["rejects"]));
        for file in listed {
            let path = out.join(file["path"].as_str().unwrap());
            let content = std::fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
            let hash = pagehaul::endpoint::hex(&Sha256::digest(&content));
            assert_eq!(file["sha256"], hash, "{} is not as listed", path.display());
        }
    }
}

/// No file of rows is there that no manifest lists.
pub(crate) fn check_orphans(out: &Path) {
    let listed = |manifest: &Value| -> Vec<String> {
        let files = manifest["files"].as_array().unwrap().iter().chain(Some(&manifest["rejects"]));
        files.filter_map(|file| Some(file["path"].as_str()?.to_owned())).collect()
    };
    let named: BTreeSet<String> = manifests(out).iter().flat_map(listed).collect();
    for path in files(out) {
        let name = path.strip_prefix(out).unwrap().to_str().unwrap();
        let is_data = name.contains('=') || name.starts_with("_rejects");
        assert!(!is_data || named.contains(name), "{name} is in no manifest");
        assert!(!name.contains("probe"), "{name} is left");
    }
}

/// The published rows are the journaled ones: each key once, at its first sighting, every cell as it came. Nothing else.
pub(crate) fn check_rows(out: &Path) {
    let mut published = rows(out);
    let endpoint = endpoint();
    for ((id, video), (page, raw)) in journaled(out) {
        let about = format!("{id} {video}");
        let row = published.remove(&(id, video)).unwrap_or_else(|| panic!("{about} is journaled and not published"));
        assert_eq!(row["_page_num"], page, "{about}");
        let mut fits = true;
        for column in &endpoint.columns {
            let expected = cell(column.kind, &raw[&column.name]);
            fits &= expected.is_some();
            assert_eq!(row[&column.name], expected.unwrap_or_default(), "{about}: {}", column.name);
        }
        let known =
            raw.as_object().unwrap().keys().all(|key| endpoint.columns.iter().any(|column| column.name == *key));
        assert_eq!(row["_extra"].is_null(), fits && known, "{about}: {}", row["_extra"]);
    }
    let surplus: Vec<&Key> = published.keys().collect();
    assert!(surplus.is_empty(), "published and never journaled: {surplus:?}");
}

/// What a value becomes under a column's type; none if it does not fit.
fn cell(kind: ColumnKind, sent: &Value) -> Option<Value> {
    let text = match sent {
        Value::String(text) => text.clone(),
        Value::Number(number) => number.to_string(),
        _ => return None,
    };
    match kind {
        ColumnKind::Utf8 => Some(text.into()),
        ColumnKind::Int64 => text.parse::<i64>().ok().map(Value::from),
        ColumnKind::Float64 => text.parse::<f64>().ok().map(Value::from),
        ColumnKind::Timestamp => text.parse::<i64>().ok().map(|seconds| (seconds * 1_000_000).into()),
    }
}

/// First sightings in journal order: product and video, page, row as it came.
fn journaled(out: &Path) -> BTreeMap<Key, (u32, Value)> {
    let mut first = BTreeMap::new();
    for (id, page, answer) in pages(out) {
        // A page of a list that has ended may have no list.
        for row in answer["data"].as_array().into_iter().flatten() {
            let Some(video) = row["video_id"].as_str() else { continue };
            first.entry((id.clone(), video.to_owned())).or_insert_with(|| (page, row.clone()));
        }
    }
    first
}

/// Pages that are to be read again, and were not yet.
pub(crate) fn outdated(out: &Path) -> BTreeSet<(String, u32)> {
    let path = out.join("_pagehaul/ledger.sqlite");
    let sql = "SELECT id, page FROM pages AS old JOIN items ON ix = item WHERE outdated > 0
               AND NOT EXISTS (SELECT 1 FROM pages WHERE item = ix AND page = old.page AND outdated = 0)";
    let Ok(db) = Connection::open_with_flags(&path, OpenFlags::SQLITE_OPEN_READ_ONLY) else { return BTreeSet::new() };
    let Ok(mut query) = db.prepare(sql) else { return BTreeSet::new() };
    let pages = query.query_map([], |row| Ok((row.get(0)?, row.get(1)?))).unwrap();
    pages.collect::<rusqlite::Result<_>>().unwrap()
}

/// Where journal files are kept that a run removes: the program does not know it.
const KEPT: &str = "_pagehaul/removed";

/// Keeps a copy of a journal file before it is removed.
pub(crate) fn keep_journal(path: &Path) {
    let directory = path.parent().unwrap();
    if path.exists() && directory.ends_with("_pagehaul/journal") {
        let kept = directory.parent().unwrap().join("removed");
        std::fs::create_dir_all(&kept).unwrap();
        std::fs::copy(path, kept.join(path.file_name().unwrap())).unwrap();
    }
}

/// No journal of a published segment is left. The open one may have responses without a page.
pub(crate) fn check_journal_is_gone(out: &Path) {
    let db =
        Connection::open_with_flags(out.join("_pagehaul/ledger.sqlite"), OpenFlags::SQLITE_OPEN_READ_ONLY).unwrap();
    let mut query = db.prepare("SELECT id, pruned IS NOT NULL FROM segments WHERE state = 'published'").unwrap();
    let segments = query.query_map([], |row| Ok((row.get::<_, i64>(0)?, row.get::<_, bool>(1)?))).unwrap();
    for (segment, is_pruned) in segments.map(Result::unwrap) {
        let is_there = out.join(format!("_pagehaul/journal/{segment:06}.zst")).exists();
        assert!(is_pruned && !is_there, "segment {segment}: noted {is_pruned}, there {is_there}");
    }
}

/// Every page in the journal, in order, also of files that were removed. A torn end is left out.
pub(crate) fn pages(out: &Path) -> Vec<(String, u32, Value)> {
    let mut pages = Vec::new();
    // A file that is to be removed may be in both places.
    let paths = [KEPT, "_pagehaul/journal"].into_iter().flat_map(|directory| files(&out.join(directory)));
    let paths: BTreeMap<OsString, PathBuf> = paths.map(|path| (path.file_name().unwrap().to_owned(), path)).collect();
    for path in paths.into_values() {
        let mut text = Vec::new();
        let packed = std::fs::File::open(path).unwrap();
        // What was unpacked before the torn end stays.
        zstd::stream::read::Decoder::new(packed).unwrap().read_to_end(&mut text).ok();
        let mut rest = text.as_slice();
        while let Some(line) = rest.iter().position(|byte| *byte == b'\n') {
            let head: Value = serde_json::from_slice(&rest[..line]).unwrap();
            let length = usize::try_from(head["length"].as_u64().unwrap()).unwrap();
            let Some(body) = rest.get(line + 1..line + 1 + length) else { break };
            rest = rest.get(line + length + 2..).unwrap_or_default();
            if head["is_page"] == true {
                let (id, page) =
                    (head["item"].as_str().unwrap(), u32::try_from(head["page"].as_u64().unwrap()).unwrap());
                pages.push((id.to_owned(), page, serde_json::from_slice(body).unwrap()));
            }
        }
    }
    pages
}

/// No more was paid for than a walk page by page costs, what may be wasted on looking ahead, and the evidence.
pub(crate) fn check_waste(world: &World) {
    let (plan, charged) = (&world.plan, world.api.account().charged());
    if plan.odd.grows.is_some() && !matches!(plan.behind, Behind::Empty) {
        return; // each page behind the end makes the list longer, and shows its new last rows
    }
    let size = plan.rows_a_page();
    let is_found_out = plan.end == End::Auto && plan.has_short_pages();
    let pages = (0..plan.lists.len()).map(|item| {
        let rows = world.api.lists.length(item) as u64;
        let behind_all = plan.end == End::EmptyPage || is_found_out;
        let pages = if behind_all { rows.div_ceil(size) } else { rows / size } + 1;
        plan.max_pages.map_or(pages, |most| pages.min(most.into()))
    });
    let fewest: u64 = pages.sum();
    // Pages behind the first nulls are requested, too, where the rule of the end is trusted.
    let may_look = plan.end == End::Auto || plan.odd.ends_with_null;
    let evidence = if may_look { (fewest * 3 / 1_000).max(3) } else { 0 };
    // An API that shows other pages behind the end is found out by a few of them: the first one of a list seems new there, and
    // the page where unseen rows would be is requested.
    let lists = u64::try_from(plan.lists.len()).unwrap();
    let repeats = matches!(plan.behind, Behind::Last | Behind::First);
    let (few, checks) = if repeats { (6 * lists, lists) } else { (u64::MAX, 0) };
    let seem_new = if matches!(plan.behind, Behind::Empty) { 0 } else { lists };
    let ahead = (fewest * u64::from(plan.lookahead) / 100).clamp(1, few) + seem_new;
    let ahead = if plan.lookahead > 0 { ahead } else { 0 };
    let most = fewest + evidence + checks + ahead;
    assert!(charged <= most, "{charged} charged where {fewest} are enough, {evidence} for evidence, {ahead} ahead");
}

/// Every row that the server shows is there: for a world whose lists do not move and whose rows are clean.
pub(crate) fn check_complete(world: &World, out: &Path) {
    let published: BTreeMap<Key, Row> = rows(out);
    let size = world.plan.rows_a_page();
    for (item, count) in world.plan.lists.iter().enumerate() {
        // Rows that were put in push others out of what was requested.
        let put_in = world.api.lists.length(item) as u64 - count;
        let most = world.plan.max_pages.map_or(u64::MAX, |pages| (u64::from(pages) * size).saturating_sub(put_in));
        for at in world.api.lists.owed(item, None).filter(|at| *at < most) {
            assert!(published.contains_key(&(id(item), format!("v{at}"))), "row {at} of {} is missing", id(item));
        }
    }
}
