-- Statements about the secrets behind our callback URLs.

-- name: newest_key
-- The newest is the one first seen last; a process that lacks it would turn away the callbacks of tasks sent under it.
SELECT fingerprint FROM url_keys ORDER BY first_seen_at DESC, seq DESC LIMIT 1

-- name: insert_key
INSERT INTO url_keys (fingerprint, first_seen_at) VALUES (%(fingerprint)s, %(now)s) ON CONFLICT DO NOTHING

-- name: known_keys
SELECT fingerprint FROM url_keys ORDER BY first_seen_at DESC, seq DESC

-- name: forget_key
DELETE FROM url_keys WHERE fingerprint = %(fingerprint)s

-- name: open_tasks_of_key
SELECT count(*) FROM tasks WHERE url_key = %(fingerprint)s AND settled_at IS NULL
