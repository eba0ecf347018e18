-- What is read from a SQLite ledger to be moved: each table with the columns that `write.sql` names, in the same order.
-- First comes what names a row for people. `event_number` and `attempt_number` are those of `numbers.py`.

-- name: seen
SELECT role, host, pid, seen_at FROM processes WHERE seen_at >= :since ORDER BY role, started_at

-- name: like_events
-- Those whose number another one would have: by how many milliseconds each gives way.
SELECT seq, place FROM (
    SELECT seq, row_number() OVER (PARTITION BY received_at / 1000, seq & 1048575 ORDER BY seq) - 1 AS place FROM events)
WHERE place > 0

-- name: like_attempts
SELECT seq, place FROM (
    SELECT seq, row_number() OVER (PARTITION BY finished_at / 1000, seq & 1048575 ORDER BY seq) - 1 AS place FROM attempts)
WHERE place > 0

-- name: oldest
-- When the first row that lies in a partition of its week was written.
SELECT min(written_at) FROM (
    SELECT min(received_at) AS written_at FROM events WHERE pruned < 2
    UNION ALL SELECT min(finished_at) FROM attempts)

-- name: tasks
SELECT id AS label,
       seq, id, provider, provider_id, origin, state, settled_by, settled_event, settled_at, form, key, request_hash,
       metadata, url_key, parent, created_at, sent_at, sends, resend_at, send_note, accepted_at, progress, fetch_at,
       fetched_at, fetch_lease, fetches, callbacks, kept, price_microdollars, charged_microdollars, pruned
FROM tasks

-- name: events
SELECT id AS label,
       event_number(received_at, seq, pruned) AS seq, id, type, provider, task_id, status, source, trust, standing, conflict,
       provider_event_id, event_key, fact_key, pruned, results, error, body, headers, received_at, last_seen_at,
       duplicates, hold_until, fanned_out_at
FROM events

-- name: facts
SELECT key AS label, key, event_seq FROM (
    SELECT id AS key, event_number(received_at, seq, pruned) AS event_seq FROM events
    UNION ALL SELECT event_key, event_number(received_at, seq, pruned) FROM events WHERE event_key IS NOT NULL
    UNION ALL SELECT coalesce(fact_key, task_id || ':' || id), event_number(received_at, seq, pruned) FROM events
    WHERE fact_key IS NOT NULL OR task_id IS NOT NULL)

-- name: waiting
SELECT id AS label, event_number(received_at, seq, pruned) AS event_seq, hold_until, received_at FROM events
WHERE fanned_out_at IS NULL AND standing = 'accepted'

-- name: callbacks
SELECT 'seq ' || seq AS label, seq, provider, task_id, event_id, verdict, reason, trust, received_at, headers, body
FROM callbacks

-- name: handlers
-- Events of one time may have changed places: what is looked through twice is owed once all the same. 0 is the start.
SELECT name AS label, name, patterns, attempts, since,
       CASE WHEN catch_up > 0
            THEN (SELECT min(event_number(received_at, seq, 0)) FROM events WHERE seq >= catch_up AND pruned < 2)
            ELSE catch_up END AS catch_up,
       registered_at, seen_at
FROM handlers

-- name: deliveries
SELECT d.id AS label,
       d.seq, d.id, event_number(e.received_at, e.seq, e.pruned) AS event_seq, d.handler, d.run, d.state, d.due_at, d.key, d.parked,
       d.begun, d.attempts, d.lapses, d.attempt, d.worker, d.started_at, d.created_at, d.settled_at, d.reason,
       d.replayed_by, d.replay_reason
FROM deliveries d LEFT JOIN events e ON e.seq = d.event_seq

-- name: attempts
SELECT id AS label, attempt_number(finished_at, seq) AS seq, id, delivery_seq, number, worker, started_at, finished_at,
       outcome, error, traceback
FROM attempts

-- name: starts
SELECT handler || ' ' || started_at AS label, handler, started_at, count FROM starts

-- name: steps
SELECT e.id || ' ' || s.handler || ' ' || s.name AS label,
       event_number(e.received_at, e.seq, e.pruned) AS event_seq, s.handler, s.name, s.attempt, s.done_at
FROM steps s LEFT JOIN events e ON e.seq = s.event_seq

-- name: results
SELECT e.id || ' ' || r.position AS label,
       event_number(e.received_at, e.seq, e.pruned) AS event_seq, r.position, r.stored_url, r.size, r.sha256, r.content_type,
       r.stored_at
FROM results r LEFT JOIN events e ON e.seq = r.event_seq

-- name: rejections
SELECT provider || ' ' || reason || ' ' || day AS label, provider, reason, day, count FROM rejections

-- name: expectations
SELECT provider || ' ' || model AS label, provider, model, count, median, p95, learned_at FROM expectations

-- name: processes
SELECT id AS label, id, role, host, pid, started_at, seen_at, dead_at FROM processes

-- name: url_keys
SELECT fingerprint AS label, rowid AS seq, fingerprint, first_seen_at FROM url_keys
