-- Statements of the hot path, each for a whole batch: `VALUES (…)` is repeated for its rows (see queries.chunks).

-- name: tasks_by_id
-- One row, whatever it finds: the interpreter lock changes hands at every row that is fetched.
SELECT json_group_array(json_array(
    t.seq, t.id, t.state, t.state, t.provider, t.provider_id, t.origin, t.settled_by, t.settled_event, t.settled_at,
    t.progress, t.charged_microdollars, t.fetch_at, t.fetched_at, t.callbacks, t.kept, t.created_at))
FROM tasks t WHERE t.id IN (SELECT value FROM json_each(:ids))

-- name: lock_named
-- SQLite's writers exclude each other: there is nothing to lock.

-- name: tasks_by_provider_id
-- Joined in this order, and with the index's own condition spelt out: otherwise SQLite reads the whole table.
SELECT json_group_array(json_array(
    t.seq, t.id, t.state, t.state, t.provider, t.provider_id, t.origin, t.settled_by, t.settled_event, t.settled_at,
    t.progress, t.charged_microdollars, t.fetch_at, t.fetched_at, t.callbacks, t.kept, t.created_at))
FROM json_each(:pairs) p CROSS JOIN tasks t
WHERE t.provider = json_extract(p.value, '$[0]') AND t.provider_id = json_extract(p.value, '$[1]')
  AND t.provider_id IS NOT NULL

-- name: waiting_providers
-- Providers with a pending submission, which may turn out to be a task that we know only from a callback.
SELECT value FROM json_each(:providers)
WHERE EXISTS (SELECT 1 FROM tasks INDEXED BY tasks_pending
              WHERE state = 'pending' AND provider = value AND origin = 'submission')

-- name: count_strays
-- Requests that are kept for tasks which their URLs name and the ledger does not know.
SELECT task_id, count(*) FROM callbacks WHERE task_id IN (SELECT value FROM json_each(:ids)) GROUP BY task_id

-- name: events_by_key
SELECT json_group_array(json_array(id, type, task_id, standing, event_key, fact_key)) FROM (
    SELECT id, type, task_id, standing, event_key, fact_key
    FROM events WHERE fact_key IN (SELECT value FROM json_each(:facts))
    UNION ALL
    SELECT id, type, task_id, standing, event_key, fact_key
    FROM events WHERE event_key IN (SELECT value FROM json_each(:keys)))

-- name: insert_unknown_tasks
INSERT INTO tasks (id, state, provider, provider_id, origin, settled_by, settled_event, settled_at, progress,
                   charged_microdollars, fetch_at, callbacks, kept, created_at)
VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)

-- name: advance_tasks
-- The guard is in the statement: a state that is no longer what the decision was made on does not move.
UPDATE tasks SET
    state = column3, settled_by = column4, settled_event = column5, settled_at = column6, progress = column7,
    charged_microdollars = column8, fetch_at = column9, callbacks = column10, kept = column11,
    resend_at = CASE column3 WHEN 'pending' THEN resend_at END, pruned = 0
FROM (VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?))
WHERE tasks.seq = column1 AND tasks.state = column2

-- name: learn_provider_ids
-- Apart from advance_tasks, since to name an indexed column is to rewrite its index, and few tasks learn their id late.
UPDATE tasks SET provider_id = column2
FROM (VALUES (?, ?))
WHERE tasks.id = column1

-- name: insert_events
INSERT INTO events (id, type, provider, task_id, status, source, trust, standing, conflict, provider_event_id,
                    event_key, fact_key, results, error, body, headers, received_at, last_seen_at, hold_until)
VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)

-- name: count_duplicates
-- A step on the way keeps the newest body (column 4), unless bodies were pruned; every other event keeps its first.
UPDATE events SET
    duplicates = duplicates + column2, last_seen_at = max(last_seen_at, column3),
    body = CASE pruned WHEN 0 THEN coalesce(column4, body) ELSE body END
FROM (VALUES (?, ?, ?, ?))
WHERE events.id = column1

-- name: insert_callbacks
-- The body is null where the event holds the same bytes.
INSERT INTO callbacks (provider, task_id, event_id, verdict, reason, trust, received_at, headers, body)
VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)

-- name: count_rejections
INSERT INTO rejections (provider, reason, day, count)
VALUES (?, ?, ?, ?)
ON CONFLICT DO UPDATE SET count = count + excluded.count

-- name: reach_tables
-- Who may write one table of a file may write them all: there is nothing to try.
SELECT 1 WHERE 0

-- name: probe
UPDATE probe SET written_at = :now
