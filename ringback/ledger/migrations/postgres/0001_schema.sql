-- The whole PostgreSQL schema of the ledger, equal in meaning to schema.sql, which says what each column is; a test keeps
-- the two together. What differs: a text sorts by its bytes, as keys are looked up by their beginnings; and a table that
-- is updated much is vacuumed early. And `events` and `attempts` are partitioned by time (docs/adr/0012): so keys are
-- unique by a table of their own, what waits to be fanned out has one, too, and no foreign key points at either. And no
-- index of `tasks` holds what a callback changes (docs/adr/0016): so it updates a row in place, on the same page.
--
-- The tables lie in the first schema of the search path: that of the user's own choice.

-- One piece of work asked of a provider.
CREATE TABLE tasks (
    seq                  bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    id                   text COLLATE "C" NOT NULL,
    provider             text COLLATE "C" NOT NULL,
    provider_id          text COLLATE "C",
    origin               text COLLATE "C" NOT NULL CHECK (origin = 'submission' OR origin = 'callback'),
    state                text COLLATE "C" NOT NULL CHECK (
        state = 'pending' OR state = 'submitted' OR state = 'processing' OR state = 'completed' OR
        state = 'failed' OR state = 'cancelled' OR state = 'expired'),
    settled_by           text COLLATE "C" CHECK (
        settled_by = 'callback' OR settled_by = 'poll' OR settled_by = 'submission' OR settled_by = 'ringback'),
    settled_event        text COLLATE "C",
    settled_at           bigint,
    form                 text COLLATE "C",
    key                  text COLLATE "C",
    request_hash         text COLLATE "C",
    metadata             text COLLATE "C" NOT NULL DEFAULT '{}',
    url_key              text COLLATE "C",
    parent               text COLLATE "C",
    created_at           bigint NOT NULL,
    sent_at              bigint,
    sends                bigint NOT NULL DEFAULT 0,
    resend_at            bigint,
    send_note            text COLLATE "C",
    accepted_at          bigint,
    progress             bigint CHECK (progress BETWEEN 0 AND 100),
    fetch_at             bigint,
    fetched_at           bigint,
    fetch_lease          bigint,
    fetches              bigint NOT NULL DEFAULT 0,
    callbacks            bigint NOT NULL DEFAULT 0,
    kept                 bigint NOT NULL DEFAULT 0,
    price_microdollars   bigint,
    charged_microdollars bigint,
    pruned               bigint NOT NULL DEFAULT 0,
    -- The state, where tasks are looked for by it; null to null where a submitted task ends.
    stage                text COLLATE "C" GENERATED ALWAYS AS (
        CASE WHEN state = 'pending' OR state = 'processing' THEN state END) STORED,
    -- A final state has its time and its author, any other has neither.
    CHECK ((state = 'completed' OR state = 'failed' OR state = 'cancelled' OR state = 'expired')
           = (settled_at IS NOT NULL)),
    CHECK ((settled_at IS NULL) = (settled_by IS NULL)),
    -- Only the provider can say that a task was cancelled.
    CHECK (state <> 'cancelled' OR settled_by <> 'ringback')
);
CREATE UNIQUE INDEX tasks_id ON tasks (id);
CREATE UNIQUE INDEX tasks_key ON tasks (key) WHERE key IS NOT NULL;
CREATE UNIQUE INDEX tasks_provider_id ON tasks (provider, provider_id) WHERE provider_id IS NOT NULL;
CREATE INDEX tasks_resend ON tasks (resend_at) WHERE resend_at IS NOT NULL;
CREATE INDEX tasks_pending_provider ON tasks (provider) WHERE stage = 'pending';
-- Lists and counts of open tasks; with `fetches`, which has those that are submitted, too.
CREATE INDEX tasks_stage ON tasks (stage, seq, provider) WHERE stage IS NOT NULL;
CREATE INDEX tasks_pruned ON tasks (pruned, created_at, seq);
CREATE INDEX tasks_parent ON tasks (parent) WHERE parent IS NOT NULL;
-- For lists; they cost a submission, and no callback: these columns never change.
CREATE INDEX tasks_created ON tasks (created_at);
CREATE INDEX tasks_provider ON tasks (provider, seq);

-- When to ask about which task: an index of `fetch_at`, written by the triggers below. A callback that ends a task takes its
-- row away; where another word ended it, the row stays until whoever looks for what is due takes it away.
CREATE TABLE fetches (
    task_seq bigint PRIMARY KEY,
    provider text COLLATE "C" NOT NULL,
    due_at   bigint NOT NULL
);
CREATE INDEX fetches_due ON fetches (provider, due_at);
CREATE FUNCTION ringback_plan_fetch() RETURNS trigger LANGUAGE plpgsql SET search_path FROM CURRENT AS $$
BEGIN
    INSERT INTO fetches (task_seq, provider, due_at) VALUES (NEW.seq, NEW.provider, NEW.fetch_at)
    ON CONFLICT (task_seq) DO UPDATE SET provider = excluded.provider, due_at = excluded.due_at;
    RETURN NULL;
END $$;
CREATE TRIGGER tasks_planned AFTER INSERT ON tasks
FOR EACH ROW WHEN (NEW.fetch_at IS NOT NULL) EXECUTE FUNCTION ringback_plan_fetch();
CREATE TRIGGER tasks_planned_anew AFTER UPDATE OF fetch_at ON tasks
FOR EACH ROW WHEN (NEW.fetch_at IS NOT NULL AND NEW.fetch_at IS DISTINCT FROM OLD.fetch_at)
EXECUTE FUNCTION ringback_plan_fetch();

-- What each task comes to: what the provider says that it charged; else nothing where it ended without a result (`void`);
-- else what was expected. An end that we only presume is none here, since the task may have been bought, unless it was
-- never sent. Amounts are cut at a million dollars, so that their sums stay within what a sum can be.
CREATE VIEW costs AS
SELECT seq, id, provider, model, state, created_at, settled_at, pruned, price, charged, bought, void,
       CASE WHEN charged IS NOT NULL THEN charged WHEN void THEN 0 ELSE price END AS spent,
       CASE WHEN void THEN greatest(0, price - coalesce(charged, 0)) END AS refunded
FROM (SELECT seq, id, provider, replace(form, '\u0000', '')::json ->> 'model' AS model, state, created_at, settled_at, pruned,
             CASE WHEN price_microdollars IS NOT NULL THEN least(price_microdollars, 1000000000000) END AS price,
             CASE WHEN charged_microdollars IS NOT NULL THEN least(charged_microdollars, 1000000000000) END AS charged,
             provider_id IS NOT NULL AS bought,
             (state = 'failed' OR state = 'cancelled' OR state = 'expired') AND
             (settled_by <> 'ringback' OR (provider_id IS NULL AND (state = 'failed' OR sent_at IS NULL))) AS void
      FROM tasks) AS known;

-- One deduplicated fact. Its key row outlives its body (see RINGBACK_DEDUP_DAYS).
-- `seq` begins with the millisecond of the server's clock, so that a partition is a span of time. An event of which only
-- the keys are left is lowered by 2^62, into a partition of its own kind; and where none was made for a time, its
-- events lie in that of all others. Those of the weeks are made, and dropped, by `ringback.ledger.postgres.partitions`.
CREATE SEQUENCE events_seq;
CREATE TABLE events (
    seq               bigint DEFAULT
        (((extract(epoch FROM clock_timestamp()) * 1000)::bigint << 20) | (nextval('events_seq') & 1048575)) PRIMARY KEY,
    id                text COLLATE "C" NOT NULL,
    type              text COLLATE "C" NOT NULL CHECK (
        type = 'task.completed' OR type = 'task.failed' OR type = 'task.cancelled' OR type = 'task.expired' OR
        type = 'task.progressed' OR type = 'callback.received' OR type = 'callback.unrecognised' OR
        type = 'receiver.push_missing'),
    provider          text COLLATE "C" NOT NULL,
    task_id           text COLLATE "C",
    status            text COLLATE "C",
    source            text COLLATE "C" NOT NULL CHECK (
        source = 'callback' OR source = 'poll' OR source = 'submission' OR source = 'ringback'),
    trust             text COLLATE "C" NOT NULL CHECK (
        trust = 'signed' OR trust = 'token' OR trust = 'partial' OR trust = 'none'),
    standing          text COLLATE "C" NOT NULL CHECK (standing = 'accepted' OR standing = 'late' OR standing = 'contradicted'),
    conflict          text COLLATE "C",
    provider_event_id text COLLATE "C",
    event_key         text COLLATE "C",
    fact_key          text COLLATE "C",
    pruned            bigint NOT NULL DEFAULT 0,
    results           text COLLATE "C" NOT NULL DEFAULT '[]',
    error             text COLLATE "C",
    body              bytea NOT NULL,
    headers           text COLLATE "C" NOT NULL DEFAULT '[]',
    received_at       bigint NOT NULL,
    last_seen_at      bigint NOT NULL,
    duplicates        bigint NOT NULL DEFAULT 0,
    hold_until        bigint,
    fanned_out_at     bigint
) PARTITION BY RANGE (seq);
CREATE INDEX events_taskless ON events (pruned, received_at) WHERE task_id IS NULL;
-- Lists of what is not everywhere, and thereby of tasks that ended so; the usual event is not in it.
CREATE INDEX events_seldom ON events (type, seq) WHERE type <> 'task.completed';

CREATE TABLE events_emptied PARTITION OF events FOR VALUES FROM (MINVALUE) TO (0) WITH (
    autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_threshold = 2000, autovacuum_analyze_scale_factor = 0.05);
CREATE TABLE events_default PARTITION OF events DEFAULT WITH (
    fillfactor = 85, autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_threshold = 2000,
    autovacuum_analyze_scale_factor = 0.05);

-- By what an event is known: its id, its `event_key`, and its `fact_key` (where it has none, its task and its id). So
-- each is there once over all partitions, and is found without asking every one of them.
CREATE TABLE facts (
    key       text COLLATE "C" PRIMARY KEY,
    event_seq bigint NOT NULL
);

-- The accepted events that are not fanned out yet. One that is not here has been, at the `created_at` of its first
-- delivery; its own `fanned_out_at` says so where there is none.
CREATE TABLE waiting (
    event_seq   bigint PRIMARY KEY,
    hold_until  bigint,
    received_at bigint NOT NULL
);

-- Requests that are kept although they made no event of their own, or whose event alone would not show them.
CREATE TABLE callbacks (
    seq         bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    provider    text COLLATE "C" NOT NULL,
    task_id     text COLLATE "C",
    event_id    text COLLATE "C",
    verdict     text COLLATE "C" NOT NULL CHECK (verdict = 'conflict' OR verdict = 'unrecognised' OR verdict = 'hint'),
    reason      text COLLATE "C" NOT NULL,
    trust       text COLLATE "C" NOT NULL CHECK (trust = 'signed' OR trust = 'token' OR trust = 'partial' OR trust = 'none'),
    received_at bigint NOT NULL,
    headers     text COLLATE "C" NOT NULL DEFAULT '[]',
    body        bytea
);
CREATE INDEX callbacks_task ON callbacks (task_id);
CREATE INDEX callbacks_event ON callbacks (event_id) WHERE event_id IS NOT NULL;
CREATE INDEX callbacks_body ON callbacks (received_at) WHERE body IS NOT NULL;

-- What the workers' code can handle. An event is matched against this table, so that a rolling deploy loses nothing.
CREATE TABLE handlers (
    name          text COLLATE "C" PRIMARY KEY,
    patterns      text COLLATE "C" NOT NULL,
    attempts      bigint NOT NULL CHECK (attempts > 0),
    since         bigint,
    catch_up      bigint,
    registered_at bigint NOT NULL,
    seen_at       bigint NOT NULL
);

-- One event owed to one handler, per run.
CREATE TABLE deliveries (
    seq         bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    id          text COLLATE "C" NOT NULL,
    event_seq   bigint NOT NULL,
    handler     text COLLATE "C" NOT NULL,
    run         bigint NOT NULL DEFAULT 1,
    state       text COLLATE "C" NOT NULL CHECK (
        state = 'pending' OR state = 'running' OR state = 'succeeded' OR state = 'discarded' OR
        state = 'cancelled'),
    due_at      bigint NOT NULL,
    key         text COLLATE "C",
    parked      bigint NOT NULL DEFAULT 0,
    begun       bigint NOT NULL DEFAULT 0,
    attempts    bigint NOT NULL DEFAULT 0,
    lapses      bigint NOT NULL DEFAULT 0,
    attempt     text COLLATE "C",
    worker      text COLLATE "C",
    started_at  bigint,
    created_at  bigint NOT NULL,
    settled_at  bigint,
    reason      text COLLATE "C",
    replayed_by text COLLATE "C",
    replay_reason text COLLATE "C",
    CHECK ((state = 'succeeded' OR state = 'discarded' OR state = 'cancelled') = (settled_at IS NOT NULL)),
    CHECK ((state = 'running') = (worker IS NOT NULL)),
    CHECK ((worker IS NULL) = (started_at IS NULL)),
    CHECK (state <> 'running' OR attempt IS NOT NULL)
);
CREATE UNIQUE INDEX deliveries_id ON deliveries (id);
CREATE UNIQUE INDEX deliveries_once ON deliveries (event_seq, handler, run);
CREATE INDEX deliveries_due ON deliveries (handler, due_at) WHERE state = 'pending' AND parked = 0;
CREATE INDEX deliveries_parked ON deliveries (handler, key, due_at) WHERE state = 'pending' AND parked = 1;
CREATE INDEX deliveries_running ON deliveries (handler, key) WHERE state = 'running';
CREATE INDEX deliveries_discarded ON deliveries (handler, event_seq, run) WHERE state = 'discarded';
CREATE INDEX deliveries_cancelled ON deliveries (handler) WHERE state = 'cancelled';

-- One run of a delivery, written down when it has ended; while it runs, it is in its delivery. Partitioned as events are.
CREATE SEQUENCE attempts_seq;
CREATE TABLE attempts (
    seq          bigint DEFAULT
        (((extract(epoch FROM clock_timestamp()) * 1000)::bigint << 20) | (nextval('attempts_seq') & 1048575)) PRIMARY KEY,
    id           text COLLATE "C" NOT NULL,
    delivery_seq bigint NOT NULL,
    number       bigint NOT NULL,
    worker       text COLLATE "C" NOT NULL,
    started_at   bigint NOT NULL,
    finished_at  bigint NOT NULL,
    outcome      text COLLATE "C" NOT NULL CHECK (
        outcome = 'succeeded' OR outcome = 'failed' OR outcome = 'timed_out' OR outcome = 'lapsed' OR
        outcome = 'released' OR outcome = 'snoozed' OR outcome = 'discarded'),
    error        text COLLATE "C",
    traceback    text COLLATE "C"
) PARTITION BY RANGE (seq);
CREATE INDEX attempts_delivery ON attempts (delivery_seq);
CREATE TABLE attempts_default PARTITION OF attempts DEFAULT;

-- When attempts of a handler with a rate were begun, as long as its period looks back.
CREATE TABLE starts (
    handler    text COLLATE "C" NOT NULL,
    started_at bigint NOT NULL,
    count      bigint NOT NULL,
    PRIMARY KEY (handler, started_at)
);

-- What a handler did once and for all with one event (`event.once`). Kept over retries and replays; goes with the event.
CREATE TABLE steps (
    event_seq bigint NOT NULL,
    handler   text COLLATE "C" NOT NULL,
    name      text COLLATE "C" NOT NULL,
    attempt   text COLLATE "C" NOT NULL,
    done_at   bigint NOT NULL,
    PRIMARY KEY (event_seq, handler, name)
);

-- A result that was stored before its URL ended: which one of its event, where, and what was written.
CREATE TABLE results (
    event_seq    bigint NOT NULL,
    position     bigint NOT NULL,
    stored_url   text COLLATE "C" NOT NULL,
    size         bigint NOT NULL,
    sha256       text COLLATE "C" NOT NULL,
    content_type text COLLATE "C",
    stored_at    bigint NOT NULL,
    PRIMARY KEY (event_seq, position)
);

-- Requests that were turned away, by day (UTC): counts only, never content.
CREATE TABLE rejections (
    provider text COLLATE "C" NOT NULL,
    reason   text COLLATE "C" NOT NULL,
    day      text COLLATE "C" NOT NULL,
    count    bigint NOT NULL,
    PRIMARY KEY (provider, reason, day)
);

-- How long tasks of one provider and model took lately, from acceptance to their end: when to ask where no push comes.
CREATE TABLE expectations (
    provider   text COLLATE "C" NOT NULL,
    model      text COLLATE "C" NOT NULL,
    count      bigint NOT NULL,
    median     bigint NOT NULL,
    p95        bigint NOT NULL,
    learned_at bigint NOT NULL,
    PRIMARY KEY (provider, model)
);

-- The processes that were seen lately. A worker that is silent until `dead_at` is dead, and its deliveries come back.
CREATE TABLE processes (
    id         text COLLATE "C" PRIMARY KEY,
    role       text COLLATE "C" NOT NULL CHECK (role = 'worker' OR role = 'poller'),
    host       text COLLATE "C" NOT NULL,
    pid        bigint NOT NULL,
    started_at bigint NOT NULL,
    seen_at    bigint NOT NULL,
    dead_at    bigint NOT NULL
);

-- The secrets behind our callback URLs, by fingerprint: a process without the newest one refuses to start.
CREATE TABLE url_keys (
    seq           bigint GENERATED ALWAYS AS IDENTITY,
    fingerprint   text COLLATE "C" PRIMARY KEY,
    first_seen_at bigint NOT NULL
);

-- One row that readiness writes, to know that the file can be written.
CREATE TABLE probe (
    "only"     bigint PRIMARY KEY CHECK ("only" = 1),
    written_at bigint NOT NULL
);
INSERT INTO probe VALUES (1, 0);

-- A delivery is updated at least twice within moments, and the indexes of what is due hold only what waits: without an
-- early vacuum, claims would walk through the dead entries of those that have long been settled.
ALTER TABLE deliveries SET (
    fillfactor = 70, autovacuum_vacuum_scale_factor = 0.01, autovacuum_vacuum_threshold = 2000,
    autovacuum_vacuum_insert_scale_factor = 0.05, autovacuum_analyze_scale_factor = 0.05);
-- Room for tasks' next versions beside them. Half would be room for all that a page holds, but make twice the pages of it.
ALTER TABLE tasks SET (
    fillfactor = 70, autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_threshold = 2000,
    autovacuum_analyze_scale_factor = 0.05);
ALTER TABLE fetches SET (autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_threshold = 2000);
ALTER TABLE facts SET (
    autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_threshold = 2000, autovacuum_analyze_scale_factor = 0.05);
-- Its rows are soon deleted, and what is next is found by walking past the dead ones.
ALTER TABLE waiting SET (autovacuum_vacuum_scale_factor = 0.01, autovacuum_vacuum_threshold = 2000);
ALTER TABLE handlers SET (fillfactor = 50);
ALTER TABLE processes SET (fillfactor = 50);
ALTER TABLE probe SET (fillfactor = 50);
