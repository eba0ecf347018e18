-- Statements of the submitter and the poller.

-- name: lock_budget
-- Tasks are added by one at a time: a budget is judged with all that were added before, and their rows are in the order
-- of their commits.
SELECT pg_advisory_xact_lock(7463, 0)

-- name: insert_task
-- A key that is taken leaves the row out; `tasks_whole` then tells whose it is.
INSERT INTO tasks (id, provider, origin, state, form, key, request_hash, metadata, url_key, parent, created_at,
                   sent_at, sends, resend_at, fetch_at, price_microdollars)
SELECT value ->> 'id', value ->> 'provider', value ->> 'origin', value ->> 'state', value ->> 'form', value ->> 'key',
       value ->> 'request_hash', value ->> 'metadata', value ->> 'url_key', value ->> 'parent',
       (value ->> 'created_at')::bigint, (value ->> 'sent_at')::bigint, (value ->> 'sends')::bigint,
       (value ->> 'resend_at')::bigint, (value ->> 'fetch_at')::bigint, (value ->> 'price_microdollars')::bigint
FROM jsonb_array_elements(%(rows)s) WITH ORDINALITY AS given (value, place)
ORDER BY place
ON CONFLICT (key) WHERE key IS NOT NULL DO NOTHING

-- name: tasks_whole
-- By our ids or by keys.
SELECT * FROM tasks WHERE id = ANY (ARRAY(SELECT json_array_elements_text(%(ids)s)))
UNION
SELECT * FROM tasks WHERE key = ANY (ARRAY(SELECT json_array_elements_text(%(keys)s)))

-- name: claim_sends
-- The claim to send: given only to whoever saw the task as it still is.
UPDATE tasks SET sent_at = (value ->> 2)::bigint, resend_at = (value ->> 3)::bigint, sends = sends + 1
FROM jsonb_array_elements(%(rows)s)
WHERE tasks.id = value ->> 0
  AND tasks.sent_at IS NOT DISTINCT FROM (value ->> 1)::bigint
  AND tasks.state = 'pending' AND tasks.accepted_at IS NULL
RETURNING tasks.id

-- name: lock_sent
-- Before anything is decided, in the order of their ids, as callbacks take them: with those that may have to be adopted.
SELECT id FROM tasks WHERE seq = ANY (ARRAY(
    SELECT t.seq FROM jsonb_array_elements(%(rows)s) JOIN tasks t ON t.id = value ->> 0
    UNION ALL
    SELECT u.seq FROM jsonb_array_elements(%(rows)s) JOIN tasks t ON t.id = value ->> 0
    JOIN tasks u ON u.provider = t.provider AND u.provider_id = value ->> 1 AND u.provider_id IS NOT NULL))
ORDER BY id FOR UPDATE

-- name: save_accepted
-- The provider's answer: its id, and a state that is never lowered.
UPDATE tasks SET
    provider_id = value ->> 1,
    accepted_at = (value ->> 2)::bigint,
    state = CASE WHEN state = 'pending' OR (state = 'submitted' AND value ->> 3 = 'processing')
                 THEN value ->> 3 ELSE state END,
    progress = coalesce(progress, (value ->> 4)::bigint),
    fetch_at = CASE WHEN settled_at IS NULL THEN (value ->> 5)::bigint END,
    send_note = value ->> 6,
    resend_at = NULL
FROM jsonb_array_elements(%(rows)s)
WHERE tasks.id = value ->> 0
RETURNING tasks.*

-- name: save_refused
UPDATE tasks SET accepted_at = NULL, send_note = value ->> 1, resend_at = NULL
FROM jsonb_array_elements(%(rows)s)
WHERE tasks.id = value ->> 0
RETURNING tasks.*

-- name: save_unanswered
-- No usable answer. Released: nothing was bought, it may be sent again. Otherwise the claim stays.
UPDATE tasks SET
    sent_at = CASE WHEN (value ->> 3)::boolean THEN NULL ELSE sent_at END,
    resend_at = CASE state WHEN 'pending' THEN (value ->> 2)::bigint END,
    fetch_at = coalesce(fetch_at, (value ->> 5)::bigint),
    send_note = value ->> 4
FROM jsonb_array_elements(%(rows)s)
WHERE tasks.id = value ->> 0 AND tasks.sent_at = (value ->> 1)::bigint
RETURNING tasks.*

-- name: overtaken
-- Who else holds the id that a provider gave: tasks that a callback made known before the submission's answer was saved;
-- locked, since they will be no more.
SELECT t.id, t.provider, u.id, u.origin, u.accepted_at
FROM jsonb_array_elements(%(rows)s)
JOIN tasks t ON t.id = value ->> 0
JOIN tasks u ON u.provider = t.provider AND u.provider_id = value ->> 1
WHERE u.provider_id IS NOT NULL AND u.id <> t.id
FOR UPDATE OF u

-- name: give_id_back
UPDATE tasks SET provider_id = NULL WHERE id = %(task)s

-- name: adopt_lock
-- Nobody may park a delivery behind one of the unknown task meanwhile, nor hand one out.
SELECT pg_advisory_xact_lock(7461, hashtext(handler)) FROM (
    SELECT DISTINCT d.handler FROM facts f
    CROSS JOIN LATERAL (SELECT handler FROM deliveries WHERE event_seq = f.event_seq OFFSET 0) d
    WHERE f.key > %(unknown)s || ':' AND f.key < %(unknown)s || ';' ORDER BY d.handler) named

-- name: adopt_count_copies
-- Before a copy is dropped, its requests are counted on the event that stays. All events of the unknown task are held
-- from here on: nobody replays one that is about to go, and nobody fans it out. That it waits is held first, as a
-- fan-out does; one that was faster is waited for, and its deliveries are seen by what comes next.
WITH copies AS MATERIALIZED (
    SELECT held.event_seq AS seq, e.duplicates, e.source, e.last_seen_at FROM facts f
    LEFT JOIN LATERAL (SELECT event_seq FROM waiting WHERE event_seq = f.event_seq FOR UPDATE) w ON true
    CROSS JOIN LATERAL (SELECT * FROM events WHERE seq = coalesce(w.event_seq, f.event_seq) FOR UPDATE) e
    LEFT JOIN LATERAL (
        SELECT event_seq FROM facts WHERE key = %(task)s || substr(f.key, length(%(unknown)s) + 1) LIMIT 1) held ON true
    WHERE f.key > %(unknown)s || ':' AND f.key < %(unknown)s || ';')
UPDATE events SET duplicates = events.duplicates + copies.duplicates + (copies.source = 'callback')::int,
                  last_seen_at = greatest(events.last_seen_at, copies.last_seen_at)
FROM copies
WHERE events.seq = copies.seq AND events.seq = ANY (ARRAY(SELECT seq FROM copies))
  AND events.seq >= (SELECT min(seq) FROM copies) AND events.seq <= (SELECT max(seq) FROM copies)

-- name: adopt_free
-- What waits behind a delivery that is about to be dropped would wait for ever.
UPDATE deliveries SET parked = 0 WHERE parked = 1 AND state = 'pending' AND (handler, key) IN (
    SELECT d.handler, d.key FROM facts f
    CROSS JOIN LATERAL (SELECT handler, key FROM deliveries WHERE event_seq = f.event_seq OFFSET 0) d
    WHERE f.key > %(unknown)s || ':' AND f.key < %(unknown)s || ';'
      AND NOT starts_with(f.key, %(unknown)s || ':evt_'))

-- name: adopt_keys
-- What runs by the task that is to be no more, or waits for one that does, goes by the other one now: facts alone do.
UPDATE deliveries SET key = %(task)s WHERE key = %(unknown)s AND event_seq = ANY (ARRAY(
    SELECT event_seq FROM facts WHERE key > %(unknown)s || ':' AND key < %(unknown)s || ';'
                                  AND NOT starts_with(key, %(unknown)s || ':evt_')))

-- name: adopt_drop_attempts
DELETE FROM attempts WHERE delivery_seq = ANY (ARRAY(
    SELECT d.seq FROM facts f
    CROSS JOIN LATERAL (SELECT seq FROM deliveries WHERE event_seq = f.event_seq OFFSET 0) d
    WHERE f.key > %(unknown)s || ':' AND f.key < %(unknown)s || ';'
      AND (SELECT event_seq FROM facts
           WHERE key = %(task)s || substr(f.key, length(%(unknown)s) + 1)) IS NOT NULL))

-- name: adopt_drop_deliveries
DELETE FROM deliveries WHERE event_seq = ANY (ARRAY(
    SELECT f.event_seq FROM facts f
    WHERE f.key > %(unknown)s || ':' AND f.key < %(unknown)s || ';'
      AND (SELECT event_seq FROM facts
           WHERE key = %(task)s || substr(f.key, length(%(unknown)s) + 1)) IS NOT NULL))

-- name: adopt_drop_events
-- Facts that the submitted task already holds: one fact, one event. With all that only belongs to them.
WITH copies AS MATERIALIZED (
    SELECT f.event_seq AS seq FROM facts f
    WHERE f.key > %(unknown)s || ':' AND f.key < %(unknown)s || ';'
      AND (SELECT event_seq FROM facts
           WHERE key = %(task)s || substr(f.key, length(%(unknown)s) + 1)) IS NOT NULL),
no_steps AS (DELETE FROM steps WHERE event_seq = ANY (ARRAY(SELECT seq FROM copies))),
no_results AS (DELETE FROM results WHERE event_seq = ANY (ARRAY(SELECT seq FROM copies))),
no_more AS (DELETE FROM waiting WHERE event_seq = ANY (ARRAY(SELECT seq FROM copies))),
gone AS (
    DELETE FROM events
    WHERE seq = ANY (ARRAY(SELECT seq FROM copies))
      AND seq >= (SELECT min(seq) FROM copies) AND seq <= (SELECT max(seq) FROM copies)
    RETURNING id, event_key, fact_key)
DELETE FROM facts WHERE key = ANY (ARRAY(SELECT unnest(ARRAY[id, event_key, fact_key]) FROM gone))

-- name: adopt_standings
-- What is told of a task that has settled already: a step on the way is late, another final word contradicts.
WITH theirs AS MATERIALIZED (
    SELECT event_seq FROM facts WHERE key > %(unknown)s || ':' AND key < %(unknown)s || ';'),
judged AS (
    UPDATE events SET standing = CASE WHEN type = 'task.progressed' OR source = 'ringback' THEN 'late'
                                      ELSE 'contradicted' END
    WHERE seq = ANY (ARRAY(SELECT event_seq FROM theirs)) AND fact_key IS NOT NULL AND standing = 'accepted'
      AND seq >= (SELECT min(event_seq) FROM theirs) AND seq <= (SELECT max(event_seq) FROM theirs)
      AND EXISTS (
        SELECT 1 FROM tasks t WHERE t.id = %(task)s AND t.settled_at IS NOT NULL
                                AND (t.settled_by <> 'ringback' OR type = 'task.progressed' OR source = 'ringback'))
    RETURNING seq)
DELETE FROM waiting WHERE event_seq = ANY (ARRAY(SELECT seq FROM judged))

-- name: adopt_events
-- The rest moves over, keys included, and need not be held any longer. An event id that was seen under both tasks
-- stays with the event that has it. (A subquery where EXISTS would do: of that, PostgreSQL may make a hash of the whole
-- table.)
WITH theirs AS MATERIALIZED (
    SELECT f.event_seq AS seq, e.event_key AS old_key, CASE
        WHEN substr(e.event_key, 1, length(%(unknown)s) + 3) <> 'e:' || %(unknown)s || ':' THEN e.event_key
        WHEN (SELECT held.event_seq FROM facts held
              WHERE held.key = 'e:' || %(task)s || substr(e.event_key, length(%(unknown)s) + 3)) IS NOT NULL THEN NULL
        ELSE 'e:' || %(task)s || substr(e.event_key, length(%(unknown)s) + 3) END AS new_key
    FROM facts f CROSS JOIN LATERAL (SELECT event_key FROM events WHERE seq = f.event_seq LIMIT 1) e
    WHERE f.key > %(unknown)s || ':' AND f.key < %(unknown)s || ';'),
moved AS (
    UPDATE events SET task_id = %(task)s, hold_until = NULL, event_key = theirs.new_key,
                      fact_key = %(task)s || substr(fact_key, length(%(unknown)s) + 1)
    FROM theirs
    WHERE events.seq = theirs.seq AND events.seq = ANY (ARRAY(SELECT seq FROM theirs))
      AND events.seq >= (SELECT min(seq) FROM theirs) AND events.seq <= (SELECT max(seq) FROM theirs)),
let_go AS (
    UPDATE waiting SET hold_until = NULL
    WHERE event_seq = ANY (ARRAY(SELECT seq FROM theirs)) AND hold_until IS NOT NULL),
lost AS (DELETE FROM facts WHERE key = ANY (ARRAY(SELECT old_key FROM theirs WHERE new_key IS NULL)))
UPDATE facts SET key = CASE WHEN key > %(unknown)s || ':' AND key < %(unknown)s || ';'
                            THEN %(task)s || substr(key, length(%(unknown)s) + 1)
                            ELSE 'e:' || %(task)s || substr(key, length(%(unknown)s) + 3) END
WHERE (key > %(unknown)s || ':' AND key < %(unknown)s || ';')
   OR key = ANY (ARRAY(SELECT old_key FROM theirs WHERE new_key <> old_key))

-- name: adopt_callbacks
UPDATE callbacks SET task_id = %(task)s WHERE task_id = %(unknown)s

-- name: adopt_state
-- What the unknown task had become by its events, where that is a step forward. A guess of ours about the submitted
-- one gives way to the provider's final word only.
UPDATE tasks SET state = u.state, settled_by = u.settled_by, settled_event = u.settled_event,
                 settled_at = u.settled_at, progress = coalesce(u.progress, tasks.progress),
                 charged_microdollars = coalesce(u.charged_microdollars, tasks.charged_microdollars)
FROM tasks u
WHERE u.id = %(unknown)s AND tasks.id = %(task)s
  AND (tasks.settled_at IS NULL OR (tasks.settled_by = 'ringback' AND u.settled_by <> 'ringback'))
  AND (u.settled_at IS NOT NULL OR tasks.state = 'pending'
       OR (tasks.state = 'submitted' AND u.state = 'processing'))

-- name: adopt_counters
UPDATE tasks SET callbacks = tasks.callbacks + u.callbacks, kept = tasks.kept + u.kept, resend_at = NULL
FROM tasks u WHERE u.id = %(unknown)s AND tasks.id = %(task)s

-- name: adopt_children
UPDATE tasks SET parent = %(task)s WHERE parent = %(unknown)s

-- name: adopt_delete
DELETE FROM tasks WHERE id = %(unknown)s

-- name: due_sends
SELECT * FROM tasks
WHERE resend_at <= %(now)s AND state = 'pending'
  AND provider = ANY (ARRAY(SELECT json_array_elements_text(%(providers)s)))
ORDER BY resend_at LIMIT %(limit)s

-- name: has_due_fetches
-- Perhaps only of what is not to be asked about any more: to claim takes that away.
SELECT EXISTS (SELECT 1 FROM fetches WHERE provider = %(provider)s AND due_at <= %(now)s)

-- name: drop_idle_fetches
-- Of tasks that have ended meanwhile, or are no more; a row that was written since it was read here, or is held, stays.
DELETE FROM fetches WHERE task_seq = ANY (ARRAY(
    SELECT held.task_seq FROM (
        SELECT due.task_seq, due.version FROM (
            SELECT task_seq, xmin AS version FROM fetches WHERE provider = %(provider)s AND due_at <= %(now)s
            ORDER BY due_at LIMIT 10000) due
        LEFT JOIN LATERAL (SELECT fetch_at FROM tasks WHERE seq = due.task_seq LIMIT 1) t ON true
        WHERE t.fetch_at IS NULL) idle
    JOIN fetches held ON held.task_seq = idle.task_seq AND held.xmin = idle.version
    FOR UPDATE OF held SKIP LOCKED))

-- name: claim_fetches
-- Asking is claimed by moving the due time past the lease, so that two pollers never ask twice.
UPDATE tasks SET fetch_at = %(lease_until)s, fetch_lease = %(lease_until)s, fetched_at = %(now)s, fetches = fetches + 1
WHERE seq = ANY (ARRAY(
    SELECT t.seq FROM (
        SELECT task_seq FROM fetches WHERE provider = %(provider)s AND due_at <= %(now)s
        ORDER BY due_at LIMIT %(limit)s FOR UPDATE SKIP LOCKED) due
    CROSS JOIN LATERAL (
        SELECT seq FROM tasks WHERE seq = due.task_seq AND fetch_at <= %(now)s LIMIT 1 FOR UPDATE SKIP LOCKED) t))
RETURNING *

-- name: plan_fetches
-- A task that a hint made due earlier meanwhile stays so; one that the provider has settled stays unasked.
WITH planned AS MATERIALIZED (
    SELECT tasks.seq, value FROM jsonb_array_elements(%(rows)s) JOIN tasks ON tasks.id = value ->> 0
    ORDER BY tasks.id FOR UPDATE OF tasks)
UPDATE tasks SET fetch_at = CASE
    WHEN settled_by <> 'ringback' THEN NULL
    WHEN fetch_at IS DISTINCT FROM fetch_lease THEN
        CASE WHEN fetch_at IS NOT NULL THEN least(fetch_at, coalesce((value ->> 1)::bigint, fetch_at)) END
    ELSE (value ->> 1)::bigint END
FROM planned
WHERE tasks.seq = planned.seq
