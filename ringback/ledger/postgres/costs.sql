-- Statements about money. What a task comes to is said once, in the view `costs` of schema.sql.

-- name: newest
-- The last row, by which a later look tells that everything up to it is still what was counted.
SELECT seq, id FROM tasks WHERE seq = (SELECT max(seq) FROM tasks)

-- name: spent
-- Our ids begin with the time, so that a day and a month are ranges of the index that every task is in anyway.
SELECT coalesce(sum(spent) FILTER (WHERE id >= %(day)s AND id < %(next_day)s), 0)::bigint,
       coalesce(sum(spent), 0)::bigint
FROM costs WHERE id >= %(month)s AND id < %(next_month)s

-- name: still_there
SELECT 1 FROM tasks WHERE seq = %(seq)s AND id = %(id)s

-- name: spent_since
-- The same of the rows that were added since a count. Joining nothing keeps the planner from walking the whole month.
SELECT coalesce(sum(spent) FILTER (WHERE id >= %(day)s AND id < %(next_day)s), 0)::bigint,
       coalesce(sum(spent), 0)::bigint
FROM costs WHERE seq > %(seq)s AND id || '' >= %(month)s AND id || '' < %(next_month)s

-- name: costs
-- A difference of a few micro-dollars is rounding: some providers charge in units of their own.
SELECT to_char(to_timestamp(created_at / 1000000) AT TIME ZONE 'UTC', 'YYYY-MM-DD') AS day,
       provider, model, state, NULL::text AS task_id,
       count(*) AS tasks, sum(price)::bigint AS expected,
       sum(charged)::bigint AS charged, sum(refunded)::bigint AS refunded,
       sum(spent - (price - coalesce(refunded, 0)))::bigint AS difference,
       sum(CASE WHEN price IS NULL THEN charged END)::bigint AS unexpected,
       sum(spent)::bigint AS spent, count(charged) AS told,
       count(*) FILTER (WHERE abs(spent - (price - coalesce(refunded, 0))) > %(rounding)s) AS differing,
       count(*) FILTER (WHERE price IS NULL AND charged IS NULL) AS unknown,
       sum(CASE WHEN bought AND charged IS NULL THEN refunded END)::bigint AS assumed
FROM costs
WHERE (%(since)s::bigint IS NULL OR created_at >= %(since)s) AND (%(until)s::bigint IS NULL OR created_at < %(until)s)
  AND (%(provider)s::text IS NULL OR provider = %(provider)s)
GROUP BY 1, 2, 3, 4 ORDER BY 1, 2, 3, 4

-- name: costs_of_tasks
SELECT to_char(to_timestamp(created_at / 1000000) AT TIME ZONE 'UTC', 'YYYY-MM-DD') AS day,
       provider, model, state, id AS task_id,
       1 AS tasks, price AS expected, charged, refunded, spent - (price - coalesce(refunded, 0)) AS difference,
       CASE WHEN price IS NULL THEN charged END AS unexpected, spent, (charged IS NOT NULL)::int AS told,
       (abs(spent - (price - coalesce(refunded, 0))) > %(rounding)s)::int AS differing,
       (price IS NULL AND charged IS NULL)::int AS unknown,
       CASE WHEN bought AND charged IS NULL THEN refunded END AS assumed
FROM costs
WHERE (%(since)s::bigint IS NULL OR created_at >= %(since)s) AND (%(until)s::bigint IS NULL OR created_at < %(until)s)
  AND (%(provider)s::text IS NULL OR provider = %(provider)s)
ORDER BY seq DESC LIMIT %(limit)s

-- name: differing
-- Tasks that settled lately, by the events that said so, in whose numbers the time is, from a minute before; what is pruned
-- is not news.
SELECT * FROM tasks WHERE seq IN (
    SELECT costs.seq FROM events CROSS JOIN LATERAL (
        SELECT costs.*, settled_event FROM costs JOIN tasks USING (seq) WHERE costs.id = events.task_id OFFSET 0) costs
    WHERE events.seq > greatest(0, (%(since)s / 1000 - 60000) << 20)
      AND received_at >= %(since)s AND received_at < %(until)s
      AND (type = 'task.completed' OR type = 'task.failed' OR type = 'task.cancelled' OR type = 'task.expired')
      AND settled_event = events.id AND costs.pruned = 0 AND charged IS NOT NULL
      AND abs(spent - (price - coalesce(refunded, 0))) > %(rounding)s
    ORDER BY settled_at LIMIT %(limit)s)
ORDER BY settled_at
