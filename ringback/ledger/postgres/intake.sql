-- Statements of the hot path, each for a whole batch. Tasks are locked as they are read, always in the order of their
-- ids: so what was decided on them still holds when it is written, and no two batches wait for each other in a circle.

-- name: tasks_by_id
-- One row, whatever it finds.
SELECT coalesce(json_agg(json_build_array(
    t.seq, t.id, t.state, t.state, t.provider, t.provider_id, t.origin, t.settled_by, t.settled_event, t.settled_at,
    t.progress, t.charged_microdollars, t.fetch_at, t.fetched_at, t.callbacks, t.kept, t.created_at)), '[]')::text
FROM (
    SELECT * FROM tasks WHERE id = ANY (ARRAY(SELECT json_array_elements_text(%(ids)s)))
    ORDER BY id FOR UPDATE) t

-- name: lock_named
-- Where some arrivals name their tasks by our ids and others by the provider's: all at once, or two such batches would
-- wait for each other.
SELECT id FROM tasks WHERE seq = ANY (ARRAY(
    SELECT seq FROM tasks WHERE id = ANY (ARRAY(SELECT json_array_elements_text(%(ids)s)))
    UNION ALL
    SELECT tasks.seq FROM jsonb_array_elements(%(pairs)s)
    JOIN tasks ON tasks.provider = value ->> 0 AND tasks.provider_id = value ->> 1
    WHERE tasks.provider_id IS NOT NULL))
ORDER BY id FOR UPDATE

-- name: tasks_by_provider_id
SELECT coalesce(json_agg(json_build_array(
    t.seq, t.id, t.state, t.state, t.provider, t.provider_id, t.origin, t.settled_by, t.settled_event, t.settled_at,
    t.progress, t.charged_microdollars, t.fetch_at, t.fetched_at, t.callbacks, t.kept, t.created_at)), '[]')::text
FROM (
    SELECT tasks.* FROM jsonb_array_elements(%(pairs)s)
    JOIN tasks ON tasks.provider = value ->> 0 AND tasks.provider_id = value ->> 1
    WHERE tasks.provider_id IS NOT NULL
    ORDER BY tasks.id FOR UPDATE OF tasks) t

-- name: waiting_providers
-- Providers with a pending submission, which may turn out to be a task that we know only from a callback.
SELECT value FROM json_array_elements_text(%(providers)s)
WHERE EXISTS (SELECT 1 FROM tasks WHERE stage = 'pending' AND provider = value AND origin = 'submission')

-- name: count_strays
-- Requests that are kept for tasks which their URLs name and the ledger does not know.
SELECT task_id, count(*) FROM callbacks
WHERE task_id = ANY (ARRAY(SELECT json_array_elements_text(%(ids)s))) GROUP BY task_id

-- name: events_by_key
SELECT coalesce(json_agg(json_build_array(e.id, e.type, e.task_id, e.standing, e.event_key, e.fact_key)), '[]')::text
FROM facts f
CROSS JOIN LATERAL (
    SELECT id, type, task_id, standing, event_key, fact_key FROM events WHERE seq = f.event_seq LIMIT 1) e
WHERE f.key = ANY (ARRAY(
    SELECT json_array_elements_text(%(facts)s) UNION ALL SELECT json_array_elements_text(%(keys)s)))

-- name: insert_unknown_tasks
-- Where another receiver was first, this fails, and the whole batch is decided anew.
INSERT INTO tasks (id, state, provider, provider_id, origin, settled_by, settled_event, settled_at, progress,
                   charged_microdollars, fetch_at, callbacks, kept, created_at)
SELECT value ->> 0, value ->> 1, value ->> 2, value ->> 3, value ->> 4, value ->> 5, value ->> 6,
       (value ->> 7)::bigint, (value ->> 8)::bigint, (value ->> 9)::bigint, (value ->> 10)::bigint,
       (value ->> 11)::bigint, (value ->> 12)::bigint, (value ->> 13)::bigint
FROM jsonb_array_elements(%(rows)s)

-- name: advance_tasks
-- What has come to its end is not to be asked about any more.
WITH advanced AS (
    UPDATE tasks SET
        state = value ->> 2, settled_by = value ->> 3, settled_event = value ->> 4, settled_at = (value ->> 5)::bigint,
        progress = (value ->> 6)::bigint, charged_microdollars = (value ->> 7)::bigint,
        fetch_at = (value ->> 8)::bigint, callbacks = (value ->> 9)::bigint, kept = (value ->> 10)::bigint,
        resend_at = CASE value ->> 2 WHEN 'pending' THEN resend_at END, pruned = 0
    FROM jsonb_array_elements(%(rows)s)
    WHERE tasks.seq = (value ->> 0)::bigint AND tasks.state = value ->> 1
    RETURNING seq, fetch_at)
DELETE FROM fetches WHERE task_seq = ANY (ARRAY(SELECT seq FROM advanced WHERE fetch_at IS NULL))

-- name: learn_provider_ids
UPDATE tasks SET provider_id = value ->> 1
FROM jsonb_array_elements(%(rows)s)
WHERE tasks.id = value ->> 0

-- name: insert_events
-- The body comes as base64. Where another receiver was first with a fact, this fails by the key in `facts`, and the batch
-- is decided anew; keys are taken in their order, so that two such batches do not wait for each other in a circle.
WITH made AS (
    INSERT INTO events (id, type, provider, task_id, status, source, trust, standing, conflict, provider_event_id,
                        event_key, fact_key, results, error, body, headers, received_at, last_seen_at, hold_until)
    SELECT value ->> 0, value ->> 1, value ->> 2, value ->> 3, value ->> 4, value ->> 5, value ->> 6, value ->> 7,
           value ->> 8, value ->> 9, value ->> 10, value ->> 11, value ->> 12, value ->> 13,
           decode(value ->> 14, 'base64'), value ->> 15, (value ->> 16)::bigint, (value ->> 17)::bigint,
           (value ->> 18)::bigint
    FROM jsonb_array_elements(%(rows)s)
    RETURNING seq, id, task_id, event_key, fact_key, standing, hold_until, received_at),
new AS (
    INSERT INTO waiting (event_seq, hold_until, received_at)
    SELECT seq, hold_until, received_at FROM made WHERE standing = 'accepted')
INSERT INTO facts (key, event_seq)
SELECT named.key, seq FROM made
CROSS JOIN LATERAL (VALUES (id), (event_key), (coalesce(fact_key, task_id || ':' || id))) AS named (key)
WHERE named.key IS NOT NULL ORDER BY named.key

-- name: count_duplicates
-- A step on the way keeps the newest body (3), unless bodies were pruned; every other event keeps its first. Locked in
-- the order of their ids, since an event about no task has no task that is locked before it.
WITH seen AS MATERIALIZED (
    SELECT e.seq, known.value
    FROM (SELECT f.event_seq, value FROM jsonb_array_elements(%(rows)s)
          CROSS JOIN LATERAL (SELECT event_seq FROM facts WHERE key = value ->> 0 LIMIT 1) f ORDER BY value ->> 0) known
    CROSS JOIN LATERAL (SELECT seq FROM events WHERE seq = known.event_seq FOR NO KEY UPDATE) e)
UPDATE events SET
    duplicates = duplicates + (value ->> 1)::bigint, last_seen_at = greatest(last_seen_at, (value ->> 2)::bigint),
    body = CASE pruned WHEN 0 THEN coalesce(decode(value ->> 3, 'base64'), body) ELSE body END
FROM seen
WHERE events.seq = seen.seq AND events.seq = ANY (ARRAY(SELECT seq FROM seen))
  AND events.seq >= (SELECT min(seq) FROM seen) AND events.seq <= (SELECT max(seq) FROM seen)

-- name: insert_callbacks
-- The body is null where the event holds the same bytes.
INSERT INTO callbacks (provider, task_id, event_id, verdict, reason, trust, received_at, headers, body)
SELECT value ->> 0, value ->> 1, value ->> 2, value ->> 3, value ->> 4, value ->> 5, (value ->> 6)::bigint,
       value ->> 7, decode(value ->> 8, 'base64')
FROM jsonb_array_elements(%(rows)s)

-- name: count_rejections
-- Several groups of one batch may count the same: added up, since one statement may not change a row twice.
INSERT INTO rejections (provider, reason, day, count)
SELECT value ->> 0, value ->> 1, value ->> 2, sum((value ->> 3)::bigint)
FROM jsonb_array_elements(%(rows)s)
GROUP BY 1, 2, 3 ORDER BY 1, 2, 3
ON CONFLICT (provider, reason, day) DO UPDATE SET count = rejections.count + excluded.count

-- name: reach_tables
-- Changes nothing, and waits as callbacks do where somebody keeps a table from being written.
WITH of_tasks AS (DELETE FROM tasks WHERE false), of_events AS (DELETE FROM events WHERE false),
     of_facts AS (DELETE FROM facts WHERE false)
DELETE FROM waiting WHERE false

-- name: probe
UPDATE probe SET written_at = %(now)s
