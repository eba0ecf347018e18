-- The whole current SQLite schema of the ledger. A fresh database is made from this file alone; the steps by which an
-- older one gets here are in ringback/ledger/migrations/sqlite, and a test proves that both roads end equal.
--
-- Times are whole microseconds since 1970 UTC, money whole micro-dollars, JSON is text. Rowid tables with narrow
-- unique indexes: a random text primary key that holds the body halves the insert rate. Words are checked by OR: for an
-- IN list SQLite makes an index each time, and that was a fifth of what a callback cost to store.

PRAGMA user_version = 1;

-- One piece of work asked of a provider.
CREATE TABLE tasks (
    seq                  INTEGER PRIMARY KEY,
    id                   TEXT NOT NULL,     -- ours: task_…
    provider             TEXT NOT NULL,
    provider_id          TEXT,              -- the provider's; null until it is known
    origin               TEXT NOT NULL CHECK (origin = 'submission' OR origin = 'callback'),
    state                TEXT NOT NULL CHECK (
        state = 'pending' OR state = 'submitted' OR state = 'processing' OR state = 'completed' OR
        state = 'failed' OR state = 'cancelled' OR state = 'expired'),
    settled_by           TEXT CHECK (  -- who said so
        settled_by = 'callback' OR settled_by = 'poll' OR settled_by = 'submission' OR settled_by = 'ringback'),
    settled_event        TEXT,              -- the event that settled it: results and error are there
    settled_at           INTEGER,
    form                 TEXT,              -- what the user asked for, JSON; null for tasks known by callback only
    key                  TEXT,              -- the user's own, unique: same key, same task
    request_hash         TEXT,              -- tells the same request from another one under the same key
    metadata             TEXT NOT NULL DEFAULT '{}', -- the user's JSON object, never sent
    url_key              TEXT,              -- fingerprint of the secret behind its callback URL; null: no URL was sent
    parent               TEXT,              -- the task whose event had a handler submit this one
    created_at           INTEGER NOT NULL,
    sent_at              INTEGER,           -- the claim to send; null: may be sent
    sends                INTEGER NOT NULL DEFAULT 0,
    resend_at            INTEGER,           -- when the poller may (re)send; null: never
    send_note            TEXT,              -- how the last sending ended, for people
    accepted_at          INTEGER,           -- when the provider's id was saved from its answer
    progress             INTEGER CHECK (progress BETWEEN 0 AND 100),
    fetch_at             INTEGER,           -- when the poller asks next; null: never
    fetched_at           INTEGER,           -- when it last asked
    fetch_lease          INTEGER,           -- what fetch_at was set to by who is asking; another value is a newer wish
    fetches              INTEGER NOT NULL DEFAULT 0,
    callbacks            INTEGER NOT NULL DEFAULT 0, -- authentic requests that came for it
    kept                 INTEGER NOT NULL DEFAULT 0, -- rows of `callbacks` and unrecognised events kept for it
    price_microdollars   INTEGER,           -- expected
    charged_microdollars INTEGER,           -- as the provider says
    pruned               INTEGER NOT NULL DEFAULT 0, -- 1: its raw bodies are gone, 2: all but the keys; 0 after news
    -- A final state has its time and its author, any other has neither.
    CHECK ((state = 'completed' OR state = 'failed' OR state = 'cancelled' OR state = 'expired')
           = (settled_at IS NOT NULL)),
    CHECK ((settled_at IS NULL) = (settled_by IS NULL)),
    -- Only the provider can say that a task was cancelled.
    CHECK (state <> 'cancelled' OR settled_by <> 'ringback')
) STRICT;
CREATE UNIQUE INDEX tasks_id ON tasks (id);
CREATE UNIQUE INDEX tasks_key ON tasks (key) WHERE key IS NOT NULL;
CREATE UNIQUE INDEX tasks_provider_id ON tasks (provider, provider_id) WHERE provider_id IS NOT NULL;
CREATE INDEX tasks_fetch ON tasks (provider, fetch_at) WHERE fetch_at IS NOT NULL;
-- Lists and counts of open tasks: of those above, what is not submitted. The usual callback, which takes a task from
-- submitted to completed, does not touch it, and what is submitted are the others.
CREATE INDEX tasks_fetch_other ON tasks (state, seq, provider) WHERE fetch_at IS NOT NULL AND state <> 'submitted';
CREATE INDEX tasks_resend ON tasks (resend_at) WHERE resend_at IS NOT NULL;
CREATE INDEX tasks_pending ON tasks (provider) WHERE state = 'pending';
CREATE INDEX tasks_settled ON tasks (pruned, settled_at) WHERE settled_at IS NOT NULL;
CREATE INDEX tasks_parent ON tasks (parent) WHERE parent IS NOT NULL;
-- For lists; they cost a submission, and no callback: these columns never change.
CREATE INDEX tasks_created ON tasks (created_at);
CREATE INDEX tasks_provider ON tasks (provider, seq);

-- What each task comes to: what the provider says that it charged; else nothing where it ended without a result (`void`);
-- else what was expected. An end that we only presume is none here, since the task may have been bought, unless it was
-- never sent. Amounts are cut at a million dollars, so that their sums stay within what a sum can be.
CREATE VIEW costs AS
SELECT seq, id, provider, model, state, created_at, settled_at, pruned, price, charged, bought, void,
       CASE WHEN charged IS NOT NULL THEN charged WHEN void THEN 0 ELSE price END AS spent,
       CASE WHEN void THEN max(0, price - coalesce(charged, 0)) END AS refunded
FROM (SELECT seq, id, provider, json_extract(form, '$.model') AS model, state, created_at, settled_at, pruned,
             min(price_microdollars, 1000000000000) AS price, min(charged_microdollars, 1000000000000) AS charged,
             provider_id IS NOT NULL AS bought,
             (state = 'failed' OR state = 'cancelled' OR state = 'expired') AND
             (settled_by <> 'ringback' OR (provider_id IS NULL AND (state = 'failed' OR sent_at IS NULL))) AS void
      FROM tasks);

-- One deduplicated fact. Its key row outlives its body (see RINGBACK_DEDUP_DAYS).
CREATE TABLE events (
    seq               INTEGER PRIMARY KEY,
    id                TEXT NOT NULL,        -- evt_…
    type              TEXT NOT NULL CHECK (
        type = 'task.completed' OR type = 'task.failed' OR type = 'task.cancelled' OR type = 'task.expired' OR
        type = 'task.progressed' OR type = 'callback.received' OR type = 'callback.unrecognised' OR
        type = 'receiver.push_missing'),
    provider          TEXT NOT NULL,
    task_id           TEXT,
    status            TEXT,                 -- the task state it speaks of; null when not about a task
    source            TEXT NOT NULL CHECK (
        source = 'callback' OR source = 'poll' OR source = 'submission' OR source = 'ringback'),
    trust             TEXT NOT NULL CHECK (
        trust = 'signed' OR trust = 'token' OR trust = 'partial' OR trust = 'none'),
    standing          TEXT NOT NULL CHECK (standing = 'accepted' OR standing = 'late' OR standing = 'contradicted'),
    conflict          TEXT,                 -- why it is marked: task_mismatch, …
    provider_event_id TEXT,
    event_key         TEXT,                 -- unique: the provider's event id in its scope, or the body's hash
    fact_key          TEXT,                 -- unique: our task id and the status
    pruned            INTEGER NOT NULL DEFAULT 0, -- 1: its raw body is gone, 2: all but the keys, never to be replayed
    results           TEXT NOT NULL DEFAULT '[]',
    error             TEXT,
    body              BLOB NOT NULL,        -- the first request, byte for byte
    headers           TEXT NOT NULL DEFAULT '[]',
    received_at       INTEGER NOT NULL,
    last_seen_at      INTEGER NOT NULL,
    duplicates        INTEGER NOT NULL DEFAULT 0, -- further requests that said the same
    hold_until        INTEGER,              -- not fanned out before: its task may yet be adopted
    fanned_out_at     INTEGER               -- when its deliveries were written; null: not yet
) STRICT;
CREATE UNIQUE INDEX events_id ON events (id);
CREATE UNIQUE INDEX events_event_key ON events (event_key) WHERE event_key IS NOT NULL;
CREATE UNIQUE INDEX events_fact_key ON events (fact_key) WHERE fact_key IS NOT NULL;
-- Facts are found by their key, which begins with the task.
CREATE INDEX events_task ON events (task_id) WHERE fact_key IS NULL;
CREATE INDEX events_taskless ON events (pruned, received_at) WHERE task_id IS NULL;
-- Lists of what is not everywhere, and thereby of tasks that ended so; the usual event is not in it.
CREATE INDEX events_seldom ON events (type, seq) WHERE type <> 'task.completed';
CREATE INDEX events_waiting ON events (seq) WHERE fanned_out_at IS NULL AND standing = 'accepted';

-- Requests that are kept although they made no event of their own, or whose event alone would not show them.
CREATE TABLE callbacks (
    seq         INTEGER PRIMARY KEY,
    provider    TEXT NOT NULL,
    task_id     TEXT,
    event_id    TEXT,                       -- the event it conflicts with, or made
    verdict     TEXT NOT NULL CHECK (verdict = 'conflict' OR verdict = 'unrecognised' OR verdict = 'hint'),
    reason      TEXT NOT NULL,
    trust       TEXT NOT NULL CHECK (trust = 'signed' OR trust = 'token' OR trust = 'partial' OR trust = 'none'),
    received_at INTEGER NOT NULL,
    headers     TEXT NOT NULL DEFAULT '[]',
    body        BLOB                        -- null: the same bytes are in the event, or were pruned
) STRICT;
CREATE INDEX callbacks_task ON callbacks (task_id);
CREATE INDEX callbacks_event ON callbacks (event_id) WHERE event_id IS NOT NULL;
CREATE INDEX callbacks_body ON callbacks (received_at) WHERE body IS NOT NULL;

-- What the workers' code can handle. An event is matched against this table, so that a rolling deploy loses nothing.
CREATE TABLE handlers (
    name          TEXT PRIMARY KEY,
    patterns      TEXT NOT NULL,            -- JSON: [{"event": glob, "provider": glob, "model": glob}, …], `*` only
    attempts      INTEGER NOT NULL CHECK (attempts > 0), -- a delivery gets so many that count
    since         INTEGER,                  -- as it was first registered: past events from here on are owed to it too
    catch_up      INTEGER,                  -- the row of `events` from which those are still to be looked through
    registered_at INTEGER NOT NULL,
    seen_at       INTEGER NOT NULL
) STRICT;

-- One event owed to one handler, per run.
CREATE TABLE deliveries (
    seq         INTEGER PRIMARY KEY,
    id          TEXT NOT NULL,              -- dlv_…
    event_seq   INTEGER NOT NULL REFERENCES events (seq),
    handler     TEXT NOT NULL,
    run         INTEGER NOT NULL DEFAULT 1, -- 1, then one more for each replay
    state       TEXT NOT NULL CHECK (
        state = 'pending' OR state = 'running' OR state = 'succeeded' OR state = 'discarded' OR
        state = 'cancelled'),
    due_at      INTEGER NOT NULL,
    key         TEXT,                       -- of one handler, at most one delivery with the same key runs; null: any
    parked      INTEGER NOT NULL DEFAULT 0, -- 1: another of its key is before it, whose end frees it
    begun       INTEGER NOT NULL DEFAULT 0, -- attempts that were begun
    attempts    INTEGER NOT NULL DEFAULT 0, -- those that count
    lapses      INTEGER NOT NULL DEFAULT 0, -- those whose worker died or fell silent; once there is one, it runs alone
    attempt     TEXT,                       -- the last attempt, att_…: while it runs, the fence
    worker      TEXT,                       -- who runs it, and
    started_at  INTEGER,                    -- since when
    created_at  INTEGER NOT NULL,
    settled_at  INTEGER,
    reason      TEXT,                       -- the last error, or why it was discarded or cancelled
    replayed_by TEXT,                       -- who asked for this run
    replay_reason TEXT,                     -- and why
    CHECK ((state = 'succeeded' OR state = 'discarded' OR state = 'cancelled') = (settled_at IS NOT NULL)),
    CHECK ((state = 'running') = (worker IS NOT NULL)),
    CHECK ((worker IS NULL) = (started_at IS NULL)),
    CHECK (state <> 'running' OR attempt IS NOT NULL)
) STRICT;
CREATE UNIQUE INDEX deliveries_id ON deliveries (id);
CREATE UNIQUE INDEX deliveries_once ON deliveries (event_seq, handler, run);
CREATE INDEX deliveries_due ON deliveries (handler, due_at) WHERE state = 'pending' AND parked = 0;
CREATE INDEX deliveries_parked ON deliveries (handler, key, due_at) WHERE state = 'pending' AND parked = 1;
CREATE INDEX deliveries_running ON deliveries (handler, key) WHERE state = 'running';
CREATE INDEX deliveries_discarded ON deliveries (handler, event_seq, run) WHERE state = 'discarded';
CREATE INDEX deliveries_cancelled ON deliveries (handler) WHERE state = 'cancelled';

-- One run of a delivery, written down when it has ended; while it runs, it is in its delivery.
CREATE TABLE attempts (
    seq          INTEGER PRIMARY KEY,
    id           TEXT NOT NULL,             -- att_…
    delivery_seq INTEGER NOT NULL REFERENCES deliveries (seq),
    number       INTEGER NOT NULL,
    worker       TEXT NOT NULL,
    started_at   INTEGER NOT NULL,
    finished_at  INTEGER NOT NULL,
    outcome      TEXT NOT NULL CHECK (
        outcome = 'succeeded' OR outcome = 'failed' OR outcome = 'timed_out' OR outcome = 'lapsed' OR
        outcome = 'released' OR outcome = 'snoozed' OR outcome = 'discarded'),
    error        TEXT,
    traceback    TEXT                       -- bounded
) STRICT;
CREATE INDEX attempts_delivery ON attempts (delivery_seq);

-- When attempts of a handler with a rate were begun, as long as its period looks back.
CREATE TABLE starts (
    handler    TEXT NOT NULL,
    started_at INTEGER NOT NULL,
    count      INTEGER NOT NULL,
    PRIMARY KEY (handler, started_at)
) STRICT, WITHOUT ROWID;

-- What a handler did once and for all with one event (`event.once`). Kept over retries and replays; goes with the event.
CREATE TABLE steps (
    event_seq INTEGER NOT NULL REFERENCES events (seq) ON DELETE CASCADE,
    handler   TEXT NOT NULL,
    name      TEXT NOT NULL,
    attempt   TEXT NOT NULL,                -- that did it: att_…
    done_at   INTEGER NOT NULL,
    PRIMARY KEY (event_seq, handler, name)
) STRICT, WITHOUT ROWID;

-- A result that was stored before its URL ended: which one of its event, where, and what was written.
CREATE TABLE results (
    event_seq    INTEGER NOT NULL REFERENCES events (seq) ON DELETE CASCADE,
    position     INTEGER NOT NULL,          -- among the results of its event, from 0
    stored_url   TEXT NOT NULL,             -- file:///…, s3://…, gs://…, az://…
    size         INTEGER NOT NULL,          -- bytes
    sha256       TEXT NOT NULL,             -- hex
    content_type TEXT,                      -- as it was answered; null: it was not
    stored_at    INTEGER NOT NULL,          -- when it was there, whole
    PRIMARY KEY (event_seq, position)
) STRICT, WITHOUT ROWID;

-- Requests that were turned away, by day (UTC): counts only, never content.
CREATE TABLE rejections (
    provider TEXT NOT NULL,
    reason   TEXT NOT NULL,
    day      TEXT NOT NULL,
    count    INTEGER NOT NULL,
    PRIMARY KEY (provider, reason, day)
) STRICT, WITHOUT ROWID;

-- How long tasks of one provider and model took lately, from acceptance to their end: when to ask where no push comes.
CREATE TABLE expectations (
    provider   TEXT NOT NULL,
    model      TEXT NOT NULL,               -- as in the task's form
    count      INTEGER NOT NULL,            -- tasks that it was learned from
    median     INTEGER NOT NULL,            -- microseconds, as p95
    p95        INTEGER NOT NULL,            -- nineteen of twenty took no longer
    learned_at INTEGER NOT NULL,            -- when these figures were last found to be others
    PRIMARY KEY (provider, model)
) STRICT, WITHOUT ROWID;

-- The processes that were seen lately. A worker that is silent until `dead_at` is dead, and its deliveries come back.
CREATE TABLE processes (
    id         TEXT PRIMARY KEY,
    role       TEXT NOT NULL CHECK (role = 'worker' OR role = 'poller'),
    host       TEXT NOT NULL,
    pid        INTEGER NOT NULL,
    started_at INTEGER NOT NULL,
    seen_at    INTEGER NOT NULL,
    dead_at    INTEGER NOT NULL  -- where it is not seen again, by its own heartbeat
) STRICT;

-- The secrets behind our callback URLs, by fingerprint: a process without the newest one refuses to start.
CREATE TABLE url_keys (
    fingerprint   TEXT PRIMARY KEY,
    first_seen_at INTEGER NOT NULL
) STRICT;

-- One row that readiness writes, to know that the file can be written.
CREATE TABLE probe (
    only       INTEGER PRIMARY KEY CHECK (only = 1),
    written_at INTEGER NOT NULL
) STRICT;
INSERT INTO probe VALUES (1, 0);
