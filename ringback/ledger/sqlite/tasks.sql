-- Statements of the submitter and the poller.

-- name: lock_budget
-- SQLite's writers exclude each other: there is nothing to lock.

-- name: insert_task
-- A key that is taken leaves the row out; `tasks_whole` then tells whose it is. A task that is sent at once is claimed.
INSERT INTO tasks (id, provider, origin, state, form, key, request_hash, metadata, url_key, parent, created_at,
                   sent_at, sends, resend_at, fetch_at, price_microdollars)
SELECT json_extract(value, '$.id'), json_extract(value, '$.provider'), json_extract(value, '$.origin'),
       json_extract(value, '$.state'), json_extract(value, '$.form'), json_extract(value, '$.key'),
       json_extract(value, '$.request_hash'), json_extract(value, '$.metadata'), json_extract(value, '$.url_key'),
       json_extract(value, '$.parent'), json_extract(value, '$.created_at'), json_extract(value, '$.sent_at'),
       json_extract(value, '$.sends'), json_extract(value, '$.resend_at'), json_extract(value, '$.fetch_at'),
       json_extract(value, '$.price_microdollars')
FROM json_each(:rows) WHERE true
ON CONFLICT (key) WHERE key IS NOT NULL DO NOTHING

-- name: tasks_whole
-- By our ids or by keys.
SELECT * FROM tasks WHERE id IN (SELECT value FROM json_each(:ids))
UNION
SELECT * FROM tasks WHERE key IN (SELECT value FROM json_each(:keys))

-- name: claim_sends
-- The claim to send: given only to whoever saw the task as it still is.
UPDATE tasks SET sent_at = json_extract(value, '$[2]'), resend_at = json_extract(value, '$[3]'), sends = sends + 1
FROM json_each(:rows)
WHERE tasks.id = json_extract(value, '$[0]')
  AND tasks.sent_at IS json_extract(value, '$[1]')
  AND tasks.state = 'pending' AND tasks.accepted_at IS NULL
RETURNING tasks.id

-- name: lock_sent
-- SQLite's writers exclude each other: there is nothing to lock.

-- name: save_accepted
-- The provider's answer: its id, and a state that is never lowered.
UPDATE tasks SET
    provider_id = json_extract(value, '$[1]'),
    accepted_at = json_extract(value, '$[2]'),
    state = CASE WHEN state = 'pending' OR (state = 'submitted' AND json_extract(value, '$[3]') = 'processing')
                 THEN json_extract(value, '$[3]') ELSE state END,
    progress = coalesce(progress, json_extract(value, '$[4]')),
    fetch_at = CASE WHEN settled_at IS NULL THEN json_extract(value, '$[5]') END,
    send_note = json_extract(value, '$[6]'),
    resend_at = NULL
FROM json_each(:rows)
WHERE tasks.id = json_extract(value, '$[0]')
RETURNING *

-- name: save_refused
UPDATE tasks SET accepted_at = NULL, send_note = json_extract(value, '$[1]'), resend_at = NULL
FROM json_each(:rows)
WHERE tasks.id = json_extract(value, '$[0]')
RETURNING *

-- name: save_unanswered
-- No usable answer. Released: nothing was bought, it may be sent again. Otherwise the claim stays.
UPDATE tasks SET
    sent_at = CASE WHEN json_extract(value, '$[3]') THEN NULL ELSE sent_at END,
    resend_at = CASE state WHEN 'pending' THEN json_extract(value, '$[2]') END,
    fetch_at = coalesce(fetch_at, json_extract(value, '$[5]')),
    send_note = json_extract(value, '$[4]')
FROM json_each(:rows)
WHERE tasks.id = json_extract(value, '$[0]') AND tasks.sent_at = json_extract(value, '$[1]')
RETURNING *

-- name: overtaken
-- Who else holds the id that a provider gave: tasks that a callback made known before the submission's answer was saved.
SELECT t.id, t.provider, u.id, u.origin, u.accepted_at
FROM json_each(:rows)
CROSS JOIN tasks t ON t.id = json_extract(value, '$[0]')
CROSS JOIN tasks u ON u.provider = t.provider AND u.provider_id = json_extract(value, '$[1]')
WHERE u.provider_id IS NOT NULL AND u.id <> t.id

-- name: give_id_back
UPDATE tasks SET provider_id = NULL WHERE id = :task

-- name: adopt_lock
-- SQLite's writers exclude each other: there is nothing to lock.

-- name: adopt_count_copies
-- Before a copy is dropped, its requests are counted on the event that stays.
UPDATE events SET duplicates = events.duplicates + e.duplicates + (e.source = 'callback'),
                  last_seen_at = max(events.last_seen_at, e.last_seen_at)
FROM events e
WHERE e.fact_key > :unknown || ':' AND e.fact_key < :unknown || ';'
  AND events.fact_key = :task || substr(e.fact_key, length(:unknown) + 1)

-- name: adopt_free
-- What waits behind a delivery that is about to be dropped would wait for ever.
UPDATE deliveries SET parked = 0 WHERE parked = 1 AND state = 'pending' AND (handler, key) IN (
    SELECT d.handler, d.key FROM deliveries d JOIN events e ON e.seq = d.event_seq
    WHERE e.fact_key > :unknown || ':' AND e.fact_key < :unknown || ';')

-- name: adopt_keys
-- What runs by the task that is to be no more, or waits for one that does, goes by the other one now.
UPDATE deliveries SET key = :task WHERE key = :unknown AND event_seq IN (
    SELECT seq FROM events WHERE fact_key > :unknown || ':' AND fact_key < :unknown || ';')

-- name: adopt_drop_attempts
DELETE FROM attempts WHERE delivery_seq IN (
    SELECT d.seq FROM deliveries d JOIN events e ON e.seq = d.event_seq
    WHERE e.fact_key > :unknown || ':' AND e.fact_key < :unknown || ';'
      AND EXISTS (
        SELECT 1 FROM events held WHERE held.fact_key = :task || substr(e.fact_key, length(:unknown) + 1)))

-- name: adopt_drop_deliveries
DELETE FROM deliveries WHERE event_seq IN (
    SELECT e.seq FROM events e
    WHERE e.fact_key > :unknown || ':' AND e.fact_key < :unknown || ';'
      AND EXISTS (
        SELECT 1 FROM events held WHERE held.fact_key = :task || substr(e.fact_key, length(:unknown) + 1)))

-- name: adopt_drop_events
-- Facts that the submitted task already holds: one fact, one event.
DELETE FROM events
WHERE fact_key > :unknown || ':' AND fact_key < :unknown || ';'
  AND EXISTS (
    SELECT 1 FROM events held WHERE held.fact_key = :task || substr(events.fact_key, length(:unknown) + 1))

-- name: adopt_standings
-- What is told of a task that has settled already: a step on the way is late, another final word contradicts.
UPDATE events SET standing = CASE WHEN type = 'task.progressed' OR source = 'ringback' THEN 'late'
                                  ELSE 'contradicted' END
WHERE fact_key > :unknown || ':' AND fact_key < :unknown || ';' AND standing = 'accepted' AND EXISTS (
    SELECT 1 FROM tasks t WHERE t.id = :task AND t.settled_at IS NOT NULL
                            AND (t.settled_by <> 'ringback' OR type = 'task.progressed' OR source = 'ringback'))

-- name: adopt_events
-- The rest moves over, keys included, and need not be held any longer. An event id that was seen under both tasks
-- stays with the event that has it.
UPDATE events SET task_id = :task, hold_until = NULL,
                  fact_key = :task || substr(fact_key, length(:unknown) + 1),
                  event_key = CASE
                      WHEN substr(event_key, 1, length(:unknown) + 3) <> 'e:' || :unknown || ':' THEN event_key
                      WHEN EXISTS (SELECT 1 FROM events held WHERE held.event_key =
                                   'e:' || :task || substr(events.event_key, length(:unknown) + 3)) THEN NULL
                      ELSE 'e:' || :task || substr(event_key, length(:unknown) + 3) END
WHERE seq IN (
    SELECT seq FROM events WHERE fact_key > :unknown || ':' AND fact_key < :unknown || ';'
    UNION ALL SELECT seq FROM events WHERE fact_key IS NULL AND task_id = :unknown)

-- name: adopt_callbacks
UPDATE callbacks SET task_id = :task WHERE task_id = :unknown

-- name: adopt_state
-- What the unknown task had become by its events, where that is a step forward. A guess of ours about the submitted
-- one gives way to the provider's final word only.
UPDATE tasks SET state = u.state, settled_by = u.settled_by, settled_event = u.settled_event,
                 settled_at = u.settled_at, progress = coalesce(u.progress, tasks.progress),
                 charged_microdollars = coalesce(u.charged_microdollars, tasks.charged_microdollars)
FROM tasks u
WHERE u.id = :unknown AND tasks.id = :task
  AND (tasks.settled_at IS NULL OR (tasks.settled_by = 'ringback' AND u.settled_by <> 'ringback'))
  AND (u.settled_at IS NOT NULL OR tasks.state = 'pending'
       OR (tasks.state = 'submitted' AND u.state = 'processing'))

-- name: adopt_counters
UPDATE tasks SET callbacks = tasks.callbacks + u.callbacks, kept = tasks.kept + u.kept, resend_at = NULL
FROM tasks u WHERE u.id = :unknown AND tasks.id = :task

-- name: adopt_children
UPDATE tasks SET parent = :task WHERE parent = :unknown

-- name: adopt_delete
DELETE FROM tasks WHERE id = :unknown

-- name: due_sends
-- The sign keeps the planner with the index of what is due, in whose order the rows come.
SELECT * FROM tasks
WHERE resend_at <= :now AND state = 'pending' AND +provider IN (SELECT value FROM json_each(:providers))
ORDER BY resend_at LIMIT :limit

-- name: has_due_fetches
SELECT EXISTS (SELECT 1 FROM tasks WHERE provider = :provider AND fetch_at <= :now)

-- name: drop_idle_fetches
-- What is not to be asked about has no place in the index: there is nothing to take away.

-- name: claim_fetches
-- Asking is claimed by moving the due time past the lease, so that two pollers never ask twice.
UPDATE tasks SET fetch_at = :lease_until, fetch_lease = :lease_until, fetched_at = :now, fetches = fetches + 1
WHERE seq IN (
    SELECT seq FROM tasks WHERE provider = :provider AND fetch_at <= :now ORDER BY fetch_at LIMIT :limit)
RETURNING *

-- name: plan_fetches
-- A task that a hint made due earlier meanwhile stays so; one that the provider has settled stays unasked.
UPDATE tasks SET fetch_at = CASE
    WHEN settled_by <> 'ringback' THEN NULL
    WHEN fetch_at IS NOT fetch_lease THEN min(fetch_at, coalesce(json_extract(value, '$[1]'), fetch_at))
    ELSE json_extract(value, '$[1]') END
FROM json_each(:rows)
WHERE tasks.id = json_extract(value, '$[0]')
