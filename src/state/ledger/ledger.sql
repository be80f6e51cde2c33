-- The ledger's format, version 8: the truth about an export, except what manifests say of published segments. A change here is
-- a new user_version: nothing was released, so other formats are refused. Times are microseconds since 1970.
--
-- `crc` is the CRC-32 of the row. Every write makes it, and opening the ledger compares it: SQLite notices a damaged tree, but
-- not a damaged value. mod.rs names the file of each table.

CREATE TABLE export (
    only         INTEGER PRIMARY KEY CHECK (only = 1),
    id           TEXT NOT NULL,
    created_at   INTEGER NOT NULL,
    completed_at INTEGER,
    out          TEXT NOT NULL,             -- the output of the last run
    identity     TEXT NOT NULL,             -- JSON object: the settings that shape requests and rows
    end_rule     TEXT,                      -- what evidence has shown about ends: null as the settings say, 'empty-page', 'size N'
    removal      TEXT CHECK (removal IN ('started', 'finished')), -- of its files, by --keep
    crc          INTEGER NOT NULL AS (row_crc(only, id, created_at, completed_at, out, identity, end_rule, removal)) STORED
) STRICT;

CREATE TABLE items (
    ix        INTEGER PRIMARY KEY,          -- position in the list, from 1
    id        TEXT NOT NULL UNIQUE,
    state     INTEGER NOT NULL DEFAULT 0,   -- 0 unstarted, 1 walking, 2 ended
    stop      TEXT,                         -- why it ended
    error     TEXT,                         -- sanitised
    transient INTEGER NOT NULL DEFAULT 0,   -- 1: the next run tries again
    tries     INTEGER NOT NULL DEFAULT 0,   -- failures of its first missing page that were proven to be its own
    unproven  INTEGER NOT NULL DEFAULT 0,   -- runs in which that page had all its tries and nothing showed whose fault it was
    skip      INTEGER NOT NULL DEFAULT 0,   -- the walk does not end at pages up to this one: it was reopened behind them
    moved     INTEGER NOT NULL DEFAULT 0,   -- 1: the list moved while it was read
    crc       INTEGER NOT NULL AS (row_crc(ix, id, state, stop, error, transient, tries, unproven, skip, moved)) STORED
) STRICT;
CREATE INDEX items_open ON items (state, ix) WHERE state < 2;

-- How many rows the lists of items are said to have, where that is known. Hints without a checksum, because a wrong
-- one does no harm.
CREATE TABLE sizes (
    item INTEGER PRIMARY KEY,
    rows INTEGER NOT NULL
) STRICT;

-- A segment is a series of pages: one journal file, published together.
CREATE TABLE segments (
    id       INTEGER PRIMARY KEY,
    attempt  INTEGER NOT NULL,              -- how often its files were started; part of their names
    state    TEXT NOT NULL CHECK (state IN ('open', 'decided', 'published')),
    manifest TEXT,                          -- from 'decided' on: the manifest, to the byte
    pruned   INTEGER CHECK (pruned IS NULL OR state = 'published'), -- when it was decided to remove its journal file
    crc      INTEGER NOT NULL AS (row_crc(id, attempt, state, manifest, pruned)) STORED
) STRICT;

-- Frames of the journal, whole and durable.
CREATE TABLE frames (
    segment INTEGER NOT NULL,
    offset  INTEGER NOT NULL,
    length  INTEGER NOT NULL,
    crc     INTEGER NOT NULL AS (row_crc(segment, offset, length)) STORED,
    PRIMARY KEY (segment, offset)
) STRICT, WITHOUT ROWID;

-- Pages in the journal, in the order of the attempts, so that a group commit appends to few pages of the file, whatever items
-- it is of. `received` is null until the rows are applied to their walk. An attempt below 0 was not made: its page was taken over
-- from an earlier export, which paid for it.
CREATE TABLE pages (
    attempt  INTEGER PRIMARY KEY,
    item     INTEGER NOT NULL,
    page     INTEGER NOT NULL,
    segment  INTEGER NOT NULL,
    at       INTEGER NOT NULL,
    received INTEGER,                       -- rows in the response = kept + duplicate + rejected
    kept     INTEGER,
    rejected INTEGER,
    keys     BLOB,                          -- 16 bytes for each kept row, which later pages of the walk are compared with
    again    BLOB,                          -- 16 bytes for each duplicate row
    is_list  INTEGER NOT NULL DEFAULT 1,    -- 0: a success whose data was null, {}, "" or false instead of a list
    came     INTEGER NOT NULL,              -- the newest attempt of the export when the page came
    outdated INTEGER NOT NULL DEFAULT 0,    -- 0, or its attempt: the page is read again, because its list has moved since
    crc      INTEGER NOT NULL AS (
        row_crc(attempt, item, page, segment, at, received, kept, rejected, keys, again, is_list, came, outdated)
    ) STORED,
    UNIQUE (item, page, outdated)           -- a page that is paid for is not requested again unless it is outdated
) STRICT;

-- Requests that brought no page, or not yet. Without a charge: in flight, or in doubt since a crash.
CREATE TABLE attempts (
    id      INTEGER PRIMARY KEY,
    item    INTEGER NOT NULL,
    page    INTEGER NOT NULL,
    at      INTEGER NOT NULL,
    charge  TEXT CHECK (charge IN ('free', 'in_doubt')),
    cause   TEXT,
    rows_in INTEGER,                        -- the segment whose journal has its response, if other success codes make it a page
    crc     INTEGER NOT NULL AS (row_crc(id, item, page, at, charge, cause, rows_in)) STORED
) STRICT;
CREATE INDEX attempts_in_doubt ON attempts (item) WHERE charge = 'in_doubt';

-- Where the rows of a segment's pages differ from the endpoint's description: counted when the rows are applied, in the same
-- transaction.
CREATE TABLE drift (
    segment INTEGER NOT NULL,
    kind    TEXT NOT NULL CHECK (kind IN ('misfit', 'unknown', 'seen')),
    name    TEXT NOT NULL,                  -- a column; for 'unknown' the field, sanitised, or '' for all beyond the bound
    cells   INTEGER NOT NULL,               -- how many; for 'seen', a column whose field came, always 1
    crc     INTEGER NOT NULL AS (row_crc(segment, kind, name, cells)) STORED,
    PRIMARY KEY (segment, kind, name)
) STRICT, WITHOUT ROWID;

-- The earlier export that this one continues, if it does.
CREATE TABLE earlier (
    only  INTEGER PRIMARY KEY CHECK (only = 1),
    id    TEXT NOT NULL,                    -- of that export
    name  TEXT NOT NULL,                    -- as the user named it
    state TEXT NOT NULL,                    -- its state directory
    crc   INTEGER NOT NULL AS (row_crc(only, id, name, state)) STORED
) STRICT;

-- Items whose lists may be as they were in the earlier export, up to the last page that had rows there.
CREATE TABLE since (
    item   INTEGER PRIMARY KEY,
    first  INTEGER NOT NULL,                -- number of a list's first page
    last   INTEGER NOT NULL,                -- number of that last page
    size   INTEGER NOT NULL,                -- rows of a full page
    rows   INTEGER NOT NULL,                -- rows of that last page
    digest BLOB NOT NULL,                   -- of their keys, in order
    state  TEXT NOT NULL CHECK (state IN ('assumed', 'held', 'kept', 'whole', 'sampled', 'same', 'seen', 'unseen')),
    crc    INTEGER NOT NULL AS (row_crc(item, first, last, size, rows, digest, state)) STORED
) STRICT;

-- What a crash may leave in a bucket: an object, or an upload of one that was started. Without a checksum: a wrong row removes what
-- is there no more, or a probe.
CREATE TABLE leftovers (
    name   TEXT NOT NULL,                   -- of the object, relative to the output
    upload TEXT                             -- the store's id of it; none for the object itself
) STRICT;

-- Objects that were uploaded and not removed. Without a checksum: for a wrong one content is read, or an object is left.
CREATE TABLE objects (
    name TEXT PRIMARY KEY,
    etag TEXT                               -- what the store called its content
) STRICT, WITHOUT ROWID;

-- The words that runs write into a bucket. Without a checksum: with a wrong one no run can take the bucket.
CREATE TABLE runs (
    kind TEXT PRIMARY KEY CHECK (kind IN ('confirmed', 'intended')),
    word TEXT NOT NULL
) STRICT, WITHOUT ROWID;

-- What the export was expected to cost, before its first run.
CREATE TABLE plan (
    only INTEGER PRIMARY KEY CHECK (only = 1),
    plan TEXT NOT NULL,                     -- JSON object
    crc  INTEGER NOT NULL AS (row_crc(only, plan)) STORED
) STRICT;

-- What runs did over time: a row for each interval of a run. When there are as many as there may be, the shortest two neighbours
-- become one.
CREATE TABLE series (
    id            INTEGER PRIMARY KEY,
    run           INTEGER NOT NULL,         -- from 1; of a row that was two, the later one
    at            INTEGER NOT NULL,         -- its start
    millis        INTEGER NOT NULL,         -- its length, by a clock that nobody sets
    page          INTEGER NOT NULL,         -- attempts by how they ended: eight columns
    throttled     INTEGER NOT NULL,
    server_error  INTEGER NOT NULL,
    no_response   INTEGER NOT NULL,
    no_connection INTEGER NOT NULL,
    unusable      INTEGER NOT NULL,
    refused       INTEGER NOT NULL,
    denied        INTEGER NOT NULL,
    billed        INTEGER NOT NULL,         -- the same attempts by what they cost
    free          INTEGER NOT NULL,
    in_doubt      INTEGER NOT NULL,
    evidence      INTEGER NOT NULL,         -- credits; below 0 where evidence turned out to be pages of a list
    ahead         INTEGER NOT NULL,
    rows          INTEGER NOT NULL,         -- that are or will be published
    rate          INTEGER,                  -- requests in 1,000 seconds that were allowed at its end; null: no limit
    waited        INTEGER NOT NULL,         -- the attempts' latencies together, milliseconds
    latencies     BLOB NOT NULL,            -- a histogram of them
    crc           INTEGER NOT NULL AS (
        row_crc(id, run, at, millis, page, throttled, server_error, no_response, no_connection, unusable, refused, denied, billed,
            free, in_doubt, evidence, ahead, rows, rate, waited, latencies)
    ) STORED
) STRICT;

-- What runs decided and met. An id is never used again, so that those that are missing were dropped: their number is bounded.
CREATE TABLE decisions (
    id    INTEGER PRIMARY KEY,
    run   INTEGER NOT NULL,
    at    INTEGER NOT NULL,
    until INTEGER NOT NULL,                 -- of the last of them
    kind  TEXT NOT NULL,
    text  TEXT NOT NULL,                    -- of the first of them, sanitised
    times INTEGER NOT NULL,
    crc   INTEGER NOT NULL AS (row_crc(id, run, at, until, kind, text, times)) STORED
) STRICT;
