-- Statements of the submitter and the poller.

-- name: lock_budget
-- Tasks are added by one at a time: a budget is judged with all that were added before, and their rows are in the order
-- of their commits.
SELECT pg_advisory_xact_lock(7463, 0)

-- name: insert_task
-- A key that is taken leaves the row out; `tasks_whole` then tells whose it is.
INSERT INTO tasks (id, provider, origin, state, form, key, request_hash, metadata, url_key, parent, created_at,
                   resend_at, fetch_at, price_microdollars)
SELECT value ->> 'id', value ->> 'provider', value ->> 'origin', value ->> 'state', value ->> 'form', value ->> 'key',
       value ->> 'request_hash', value ->> 'metadata', value ->> 'url_key', value ->> 'parent',
       (value ->> 'created_at')::bigint, (value ->> 'resend_at')::bigint, (value ->> 'fetch_at')::bigint,
       (value ->> 'price_microdollars')::bigint
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

-- name: provider_of
SELECT provider FROM tasks WHERE id = %(task)s

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

-- name: save_refused
UPDATE tasks SET accepted_at = NULL, send_note = value ->> 1, resend_at = NULL
FROM jsonb_array_elements(%(rows)s)
WHERE tasks.id = value ->> 0

-- name: save_unanswered
-- No usable answer. Released: nothing was bought, it may be sent again. Otherwise the claim stays.
UPDATE tasks SET
    sent_at = CASE WHEN (value ->> 3)::boolean THEN NULL ELSE sent_at END,
    resend_at = CASE state WHEN 'pending' THEN (value ->> 2)::bigint END,
    fetch_at = coalesce(fetch_at, (value ->> 5)::bigint),
    send_note = value ->> 4
FROM jsonb_array_elements(%(rows)s)
WHERE tasks.id = value ->> 0 AND tasks.sent_at = (value ->> 1)::bigint

-- name: overtaken
-- Tasks that a callback made known before the submission's answer was saved; locked, since it will be no more.
SELECT id, provider, provider_id, state, settled_by, settled_event, settled_at, origin, accepted_at
FROM tasks WHERE provider = %(provider)s AND provider_id = %(provider_id)s AND provider_id IS NOT NULL
FOR UPDATE

-- name: give_id_back
UPDATE tasks SET provider_id = NULL WHERE id = %(task)s

-- name: adopt_lock
-- Nobody may park a delivery behind one of the unknown task meanwhile, nor hand one out.
SELECT pg_advisory_xact_lock(7461, hashtext(handler)) FROM (
    SELECT DISTINCT d.handler FROM deliveries d JOIN events e ON e.seq = d.event_seq
    WHERE e.fact_key > %(unknown)s || ':' AND e.fact_key < %(unknown)s || ';' ORDER BY d.handler) named

-- name: adopt_count_copies
-- Before a copy is dropped, its requests are counted on the event that stays.
UPDATE events SET duplicates = events.duplicates + e.duplicates + (e.source = 'callback')::int,
                  last_seen_at = greatest(events.last_seen_at, e.last_seen_at)
FROM events e
WHERE e.fact_key > %(unknown)s || ':' AND e.fact_key < %(unknown)s || ';'
  AND events.fact_key = %(task)s || substr(e.fact_key, length(%(unknown)s) + 1)

-- name: adopt_free
-- What waits behind a delivery that is about to be dropped would wait for ever.
UPDATE deliveries SET parked = 0 WHERE parked = 1 AND state = 'pending' AND (handler, key) IN (
    SELECT d.handler, d.key FROM deliveries d JOIN events e ON e.seq = d.event_seq
    WHERE e.fact_key > %(unknown)s || ':' AND e.fact_key < %(unknown)s || ';')

-- name: adopt_keys
-- What runs by the task that is to be no more, or waits for one that does, goes by the other one now.
UPDATE deliveries SET key = %(task)s WHERE key = %(unknown)s AND event_seq IN (
    SELECT seq FROM events WHERE fact_key > %(unknown)s || ':' AND fact_key < %(unknown)s || ';')

-- name: adopt_drop_attempts
DELETE FROM attempts WHERE delivery_seq IN (
    SELECT d.seq FROM deliveries d JOIN events e ON e.seq = d.event_seq
    WHERE e.fact_key > %(unknown)s || ':' AND e.fact_key < %(unknown)s || ';'
      AND EXISTS (
        SELECT 1 FROM events held WHERE held.fact_key = %(task)s || substr(e.fact_key, length(%(unknown)s) + 1)))

-- name: adopt_drop_deliveries
DELETE FROM deliveries WHERE event_seq IN (
    SELECT e.seq FROM events e
    WHERE e.fact_key > %(unknown)s || ':' AND e.fact_key < %(unknown)s || ';'
      AND EXISTS (
        SELECT 1 FROM events held WHERE held.fact_key = %(task)s || substr(e.fact_key, length(%(unknown)s) + 1)))

-- name: adopt_drop_events
-- Facts that the submitted task already holds: one fact, one event.
DELETE FROM events
WHERE fact_key > %(unknown)s || ':' AND fact_key < %(unknown)s || ';'
  AND EXISTS (
    SELECT 1 FROM events held WHERE held.fact_key = %(task)s || substr(events.fact_key, length(%(unknown)s) + 1))

-- name: adopt_standings
-- What is told of a task that has settled already: a step on the way is late, another final word contradicts.
UPDATE events SET standing = CASE WHEN type = 'task.progressed' OR source = 'ringback' THEN 'late'
                                  ELSE 'contradicted' END
WHERE fact_key > %(unknown)s || ':' AND fact_key < %(unknown)s || ';' AND standing = 'accepted' AND EXISTS (
    SELECT 1 FROM tasks t WHERE t.id = %(task)s AND t.settled_at IS NOT NULL
                            AND (t.settled_by <> 'ringback' OR type = 'task.progressed' OR source = 'ringback'))

-- name: adopt_events
-- The rest moves over, keys included, and need not be held any longer. An event id that was seen under both tasks
-- stays with the event that has it. (A subquery where EXISTS would do: of that, PostgreSQL may make a hash of the whole
-- table.)
UPDATE events SET task_id = %(task)s, hold_until = NULL,
                  fact_key = %(task)s || substr(fact_key, length(%(unknown)s) + 1),
                  event_key = CASE
                      WHEN substr(event_key, 1, length(%(unknown)s) + 3) <> 'e:' || %(unknown)s || ':' THEN event_key
                      WHEN (SELECT held.seq FROM events held WHERE held.event_key =
                            'e:' || %(task)s || substr(events.event_key, length(%(unknown)s) + 3)) IS NOT NULL THEN NULL
                      ELSE 'e:' || %(task)s || substr(event_key, length(%(unknown)s) + 3) END
WHERE seq IN (
    SELECT seq FROM events WHERE fact_key > %(unknown)s || ':' AND fact_key < %(unknown)s || ';'
    UNION ALL SELECT seq FROM events WHERE fact_key IS NULL AND task_id = %(unknown)s)

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
SELECT EXISTS (SELECT 1 FROM tasks WHERE provider = %(provider)s AND fetch_at <= %(now)s)

-- name: claim_fetches
-- Asking is claimed by moving the due time past the lease, so that two pollers never ask twice.
UPDATE tasks SET fetch_at = %(lease_until)s, fetch_lease = %(lease_until)s, fetched_at = %(now)s, fetches = fetches + 1
WHERE seq = ANY (ARRAY(
    SELECT seq FROM tasks WHERE provider = %(provider)s AND fetch_at <= %(now)s ORDER BY fetch_at LIMIT %(limit)s
    FOR UPDATE SKIP LOCKED))
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
