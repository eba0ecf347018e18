-- Statements of the hot path. Rows come as one JSON parameter, bodies as one blob with places in it, so that the text
-- is fixed, is prepared once, and one statement writes the whole batch while the interpreter lock is free.

-- name: tasks_by_id
-- One row, whatever it finds: the interpreter lock changes hands at every row that is fetched.
SELECT json_group_array(json_array(
    t.id, t.state, t.state, t.provider, t.provider_id, t.origin, t.settled_by, t.settled_event, t.settled_at,
    t.progress, t.charged_microdollars, t.fetch_at, t.fetched_at, t.callbacks, t.kept, t.created_at))
FROM tasks t WHERE t.id IN (SELECT value FROM json_each(:ids))

-- name: tasks_by_provider_id
-- Joined in this order, and with the index's own condition spelt out: otherwise SQLite reads the whole table.
SELECT json_group_array(json_array(
    t.id, t.state, t.state, t.provider, t.provider_id, t.origin, t.settled_by, t.settled_event, t.settled_at,
    t.progress, t.charged_microdollars, t.fetch_at, t.fetched_at, t.callbacks, t.kept, t.created_at))
FROM json_each(:pairs) p CROSS JOIN tasks t
WHERE t.provider = json_extract(p.value, '$[0]') AND t.provider_id = json_extract(p.value, '$[1]')
  AND t.provider_id IS NOT NULL

-- name: waiting_providers
-- Providers with a pending submission, which may turn out to be a task that we know only from a callback.
SELECT value FROM json_each(:providers)
WHERE EXISTS (SELECT 1 FROM tasks WHERE state = 'pending' AND provider = value AND origin = 'submission')

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
SELECT json_extract(value, '$[0]'), json_extract(value, '$[2]'), json_extract(value, '$[3]'),
       json_extract(value, '$[4]'), json_extract(value, '$[5]'), json_extract(value, '$[6]'),
       json_extract(value, '$[7]'), json_extract(value, '$[8]'), json_extract(value, '$[9]'),
       json_extract(value, '$[10]'), json_extract(value, '$[11]'), json_extract(value, '$[13]'),
       json_extract(value, '$[14]'), json_extract(value, '$[15]')
FROM json_each(:rows)

-- name: advance_tasks
-- The guard is in the statement: a state that is no longer what the decision was made on does not move.
UPDATE tasks SET
    state = json_extract(value, '$[2]'),
    settled_by = json_extract(value, '$[6]'),
    settled_event = json_extract(value, '$[7]'),
    settled_at = json_extract(value, '$[8]'),
    progress = json_extract(value, '$[9]'),
    charged_microdollars = json_extract(value, '$[10]'),
    fetch_at = json_extract(value, '$[11]'),
    callbacks = json_extract(value, '$[13]'),
    kept = json_extract(value, '$[14]'),
    resend_at = CASE json_extract(value, '$[2]') WHEN 'pending' THEN resend_at END
FROM json_each(:rows)
WHERE tasks.id = json_extract(value, '$[0]') AND tasks.state = json_extract(value, '$[1]')

-- name: learn_provider_ids
-- Apart from advance_tasks, since to name an indexed column is to rewrite its index, and few tasks learn their id late.
UPDATE tasks SET provider_id = json_extract(value, '$[4]')
FROM json_each(:rows)
WHERE tasks.id = json_extract(value, '$[0]')

-- name: insert_events
INSERT INTO events (id, type, provider, task_id, status, source, trust, standing, conflict, provider_event_id,
                    event_key, fact_key, results, error, body, headers, received_at, last_seen_at, hold_until)
SELECT json_extract(value, '$[0]'), json_extract(value, '$[1]'), json_extract(value, '$[2]'),
       json_extract(value, '$[3]'), json_extract(value, '$[4]'), json_extract(value, '$[5]'),
       json_extract(value, '$[6]'), json_extract(value, '$[7]'), json_extract(value, '$[8]'),
       json_extract(value, '$[9]'), json_extract(value, '$[10]'), json_extract(value, '$[11]'),
       json_extract(value, '$[12]'), json_extract(value, '$[13]'),
       substr(:bodies, json_extract(value, '$[14]'), json_extract(value, '$[15]')),
       json_extract(value, '$[16]'), json_extract(value, '$[17]'), json_extract(value, '$[17]'),
       json_extract(value, '$[18]')
FROM json_each(:rows)

-- name: count_duplicates
-- A step on the way keeps the newest body; every other event keeps its first.
UPDATE events SET
    duplicates = duplicates + json_extract(value, '$[1]'),
    last_seen_at = max(last_seen_at, json_extract(value, '$[2]')),
    body = CASE WHEN json_extract(value, '$[3]')
                THEN substr(:bodies, json_extract(value, '$[4]'), json_extract(value, '$[5]')) ELSE body END
FROM json_each(:rows)
WHERE events.id = json_extract(value, '$[0]')

-- name: insert_callbacks
INSERT INTO callbacks (provider, task_id, event_id, verdict, reason, trust, received_at, headers, body)
SELECT json_extract(value, '$[0]'), json_extract(value, '$[1]'), json_extract(value, '$[2]'),
       json_extract(value, '$[3]'), json_extract(value, '$[4]'), json_extract(value, '$[5]'),
       json_extract(value, '$[6]'), json_extract(value, '$[7]'),
       CASE WHEN json_extract(value, '$[10]')
            THEN substr(:bodies, json_extract(value, '$[8]'), json_extract(value, '$[9]')) END
FROM json_each(:rows)

-- name: count_rejections
INSERT INTO rejections (provider, reason, day, count)
SELECT json_extract(value, '$[0]'), json_extract(value, '$[1]'), json_extract(value, '$[2]'), json_extract(value, '$[3]')
FROM json_each(:rows) WHERE true
ON CONFLICT DO UPDATE SET count = count + excluded.count

-- name: probe
UPDATE probe SET written_at = :now
