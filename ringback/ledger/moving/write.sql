-- How a moved ledger gets into PostgreSQL. Each table's columns are those of `read.sql`, in the same order.

-- name: patience
-- Whatever the server, the database or the user has set: a large ledger takes longer.
SELECT set_config(name, '0', true) FROM pg_settings
WHERE name = 'statement_timeout' OR name = 'idle_in_transaction_session_timeout' OR name = 'transaction_timeout'

-- name: lock
-- Nobody else writes meanwhile; reading goes on.
LOCK TABLE tasks, events, facts, waiting, callbacks, handlers, deliveries, attempts, starts, steps, results,
           rejections, expectations, processes, url_keys, fetches IN SHARE ROW EXCLUSIVE MODE

-- name: filled
SELECT 'tasks' WHERE EXISTS (SELECT 1 FROM tasks)
UNION ALL SELECT 'events' WHERE EXISTS (SELECT 1 FROM events)
UNION ALL SELECT 'facts' WHERE EXISTS (SELECT 1 FROM facts)
UNION ALL SELECT 'waiting' WHERE EXISTS (SELECT 1 FROM waiting)
UNION ALL SELECT 'callbacks' WHERE EXISTS (SELECT 1 FROM callbacks)
UNION ALL SELECT 'handlers' WHERE EXISTS (SELECT 1 FROM handlers)
UNION ALL SELECT 'deliveries' WHERE EXISTS (SELECT 1 FROM deliveries)
UNION ALL SELECT 'attempts' WHERE EXISTS (SELECT 1 FROM attempts)
UNION ALL SELECT 'starts' WHERE EXISTS (SELECT 1 FROM starts)
UNION ALL SELECT 'steps' WHERE EXISTS (SELECT 1 FROM steps)
UNION ALL SELECT 'results' WHERE EXISTS (SELECT 1 FROM results)
UNION ALL SELECT 'rejections' WHERE EXISTS (SELECT 1 FROM rejections)
UNION ALL SELECT 'expectations' WHERE EXISTS (SELECT 1 FROM expectations)
UNION ALL SELECT 'processes' WHERE EXISTS (SELECT 1 FROM processes)
UNION ALL SELECT 'url_keys' WHERE EXISTS (SELECT 1 FROM url_keys)
UNION ALL SELECT 'fetches' WHERE EXISTS (SELECT 1 FROM fetches)

-- name: analyze
-- Else the first statements would be planned as for empty tables.
ANALYZE tasks, events, facts, waiting, callbacks, handlers, deliveries, attempts, starts, steps, results,
        rejections, expectations, processes, url_keys, fetches

-- name: count_on
-- A table without a row gives null, for which nothing is done.
SELECT setval(pg_get_serial_sequence('tasks', 'seq'), (SELECT max(seq) FROM tasks)),
       setval(pg_get_serial_sequence('callbacks', 'seq'), (SELECT max(seq) FROM callbacks)),
       setval(pg_get_serial_sequence('deliveries', 'seq'), (SELECT max(seq) FROM deliveries)),
       setval(pg_get_serial_sequence('url_keys', 'seq'), (SELECT max(seq) FROM url_keys))

-- name: tasks
COPY tasks (
    seq, id, provider, provider_id, origin, state, settled_by, settled_event, settled_at, form, key, request_hash,
    metadata, url_key, parent, created_at, sent_at, sends, resend_at, send_note, accepted_at, progress, fetch_at,
    fetched_at, fetch_lease, fetches, callbacks, kept, price_microdollars, charged_microdollars, pruned
) FROM STDIN

-- name: events
COPY events (
    seq, id, type, provider, task_id, status, source, trust, standing, conflict, provider_event_id, event_key, fact_key,
    pruned, results, error, body, headers, received_at, last_seen_at, duplicates, hold_until, fanned_out_at
) FROM STDIN

-- name: facts
COPY facts (key, event_seq) FROM STDIN

-- name: waiting
COPY waiting (event_seq, hold_until, received_at) FROM STDIN

-- name: callbacks
COPY callbacks (seq, provider, task_id, event_id, verdict, reason, trust, received_at, headers, body) FROM STDIN

-- name: handlers
COPY handlers (name, patterns, attempts, since, catch_up, registered_at, seen_at) FROM STDIN

-- name: deliveries
COPY deliveries (
    seq, id, event_seq, handler, run, state, due_at, key, parked, begun, attempts, lapses, attempt, worker, started_at,
    created_at, settled_at, reason, replayed_by, replay_reason
) FROM STDIN

-- name: attempts
COPY attempts (seq, id, delivery_seq, number, worker, started_at, finished_at, outcome, error, traceback) FROM STDIN

-- name: starts
COPY starts (handler, started_at, count) FROM STDIN

-- name: steps
COPY steps (event_seq, handler, name, attempt, done_at) FROM STDIN

-- name: results
COPY results (event_seq, position, stored_url, size, sha256, content_type, stored_at) FROM STDIN

-- name: rejections
COPY rejections (provider, reason, day, count) FROM STDIN

-- name: expectations
COPY expectations (provider, model, count, median, p95, learned_at) FROM STDIN

-- name: processes
COPY processes (id, role, host, pid, started_at, seen_at, dead_at) FROM STDIN

-- name: url_keys
COPY url_keys (seq, fingerprint, first_seen_at) FROM STDIN
