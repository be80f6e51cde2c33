-- The ledger's format, version 1. What each table holds is the truth about an export, up to what manifests say of
-- published segments. A change here is a new user_version and a migration.

CREATE TABLE export (
    only         INTEGER PRIMARY KEY CHECK (only = 1),
    id           TEXT NOT NULL,
    created_at   INTEGER NOT NULL,          -- microseconds since 1970, as every time here
    completed_at INTEGER,
    identity     TEXT NOT NULL              -- JSON object: the settings that shape requests and rows
) STRICT;

CREATE TABLE items (
    ix        INTEGER PRIMARY KEY,          -- order of the list, from 1
    id        TEXT NOT NULL UNIQUE,
    state     INTEGER NOT NULL DEFAULT 0,   -- 0 new, 1 walking, 2 ended
    stop      TEXT,                         -- why it ended
    error     TEXT,                         -- what was said, sanitised
    transient INTEGER NOT NULL DEFAULT 0    -- 1: worth another try by the next run
) STRICT;
CREATE INDEX items_open ON items (state, ix) WHERE state < 2;

-- A segment is a run of pages, one journal file, published together.
CREATE TABLE segments (
    id       INTEGER PRIMARY KEY,
    attempt  INTEGER NOT NULL,              -- how often its files were begun; part of their names
    state    TEXT NOT NULL CHECK (state IN ('open', 'decided', 'published')),
    manifest TEXT                           -- from 'decided' on: the manifest, to the byte
) STRICT;

-- Frames of the journal, whole and durable.
CREATE TABLE frames (
    segment INTEGER NOT NULL,
    offset  INTEGER NOT NULL,
    length  INTEGER NOT NULL,
    PRIMARY KEY (segment, offset)
) STRICT, WITHOUT ROWID;

-- Pages in the journal: a set, not a cursor. `received` is null until the page was read. In the order of the attempts, so
-- that a group appends to few pages of the file, whatever items it is of.
CREATE TABLE pages (
    attempt  INTEGER PRIMARY KEY,
    item     INTEGER NOT NULL,
    page     INTEGER NOT NULL,
    segment  INTEGER NOT NULL,
    at       INTEGER NOT NULL,
    received INTEGER,                       -- rows in the answer = kept + folded + rejected
    kept     INTEGER,
    rejected INTEGER,
    keys     BLOB,                          -- 16 bytes for each kept row: what later pages of the walk are compared with
    UNIQUE (item, page)
) STRICT;

-- Requests that are no page (yet). No charge: under way, or in doubt since a crash.
CREATE TABLE attempts (
    id     INTEGER PRIMARY KEY,
    item   INTEGER NOT NULL,
    page   INTEGER NOT NULL,
    at     INTEGER NOT NULL,
    charge TEXT CHECK (charge IN ('free', 'in_doubt')),
    cause  TEXT
) STRICT;
CREATE INDEX attempts_in_doubt ON attempts (item) WHERE charge = 'in_doubt';
