"""Submissions and questions to providers, as batches; each function runs inside the writer's transaction."""

import sqlite3
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime

from ringback import lifecycle
from ringback.errors import BudgetExceeded, KeyConflict, LedgerRejected, NotFound
from ringback.ledger.protocol import Sent
from ringback.ledger.queries import load
from ringback.ledger.sqlite import rows
from ringback.ledger.sqlite.costs import Till, Wish
from ringback.model import Arrival, Callback, Kind, Origin, Receipt, Source, Task, Trust, microseconds

SQL = load("sqlite/tasks.sql")
ADOPTION = (
    *("lock", "count_copies", "free", "keys", "drop_attempts", "drop_deliveries", "drop_events"),
    *("standings", "events", "callbacks", "state", "counters", "children", "delete"),
)
Record = Callable[[sqlite3.Connection, Sequence[Arrival]], Sequence[Receipt]]


def add(db: sqlite3.Connection, wishes: Sequence[Wish], till: Till) -> Sequence[tuple[Task, bool] | Exception]:
    """Store new tasks; a taken key gives the task that has it, or KeyConflict where the request differs."""
    db.execute(SQL["lock_budget"])
    refused = _refused(db, wishes, till)
    tasks = [task for place, (task, _) in enumerate(wishes) if place not in refused]
    db.execute(SQL["insert_task"], {"rows": rows.parameter([rows.new_task(task) for task in tasks])})
    keys = [task.key for task in tasks if task.key is not None]
    owners = {task.key: task for task in whole(db, [], keys)} if keys else {}
    return [refused.get(place) or _added(task, owners.get(task.key)) for place, (task, _) in enumerate(wishes)]


def _refused(db: sqlite3.Connection, wishes: Sequence[Wish], till: Till) -> Mapping[int, BudgetExceeded]:
    """Tell which tasks have no room in their budgets."""
    if not any(budget for _, budget in wishes):
        return {}
    keys = [task.key for task, _ in wishes if task.key is not None]
    taken = {task.key for task in whole(db, [], keys) if task.key is not None}
    return till.refusals(db, wishes, taken)


def _added(wanted: Task, owner: Task | None) -> tuple[Task, bool] | Exception:
    if owner is None or owner.id == wanted.id:  # only a taken key keeps a row out
        return wanted, True
    if owner.request_hash != wanted.request_hash:
        return KeyConflict(
            f"key {wanted.key!r} belongs to {owner.id}, a different request; use another key, or the same request"
        )
    return owner, False


def whole(db: sqlite3.Connection, ids: Sequence[str], keys: Sequence[str] = ()) -> list[Task]:
    """Read whole tasks by our ids or the users' keys."""
    return _tasks(db.execute(SQL["tasks_whole"], {"ids": rows.parameter(ids), "keys": rows.parameter(keys)}))


def _tasks(found: sqlite3.Cursor) -> list[Task]:
    """Read whole tasks, as a statement gives them."""
    found.row_factory = sqlite3.Row
    return [rows.task(row) for row in found]


def claim_sends(db: sqlite3.Connection, claims: Sequence[tuple[Task, datetime, datetime | None]]) -> Sequence[bool]:
    """Claim sendings; only one claim per task and batch can win."""
    first: dict[str, int] = {}
    for index, (task, _, _) in enumerate(claims):
        first.setdefault(task.id, index)
    data = [
        [task.id, rows.micros(task.sent_at), microseconds(now), rows.micros(resend_at)]
        for index, (task, now, resend_at) in enumerate(claims)
        if first[task.id] == index
    ]
    won = {row[0] for row in db.execute(SQL["claim_sends"], {"rows": rows.parameter(data)})}
    return [task.id in won and first[task.id] == index for index, (task, _, _) in enumerate(claims)]


def save_sends(db: sqlite3.Connection, sent: Sequence[Sent], record: Record) -> Sequence[Task | Exception]:
    """Store how sendings ended; answers that are final are recorded as the facts they are."""
    named = [[item.task_id, item.reading.provider_id if item.reading else None] for item in sent]
    db.execute(SQL["lock_sent"], {"rows": rows.parameter(named)})
    problems = _make_way(db, named)
    accepted = [
        _accepted(item)
        for item in sent
        if item.reading is not None and item.reading.provider_id is not None and item.task_id not in problems
    ]
    refused = [[s.task_id, rows.plain(s.note)] for s in sent if s.reading is not None and s.reading.provider_id is None]
    unanswered = [_unanswered(item) for item in sent if item.reading is None]
    saved = (SQL["save_accepted"], accepted), (SQL["save_refused"], refused), (SQL["save_unanswered"], unanswered)
    stored: dict[str, Task] = {}
    for statement, data in saved:
        if data:
            stored |= {task.id: task for task in _tasks(db.execute(statement, {"rows": rows.parameter(data)}))}
    if left := [item.task_id for item in sent if item.task_id not in stored]:  # there was nothing to save
        stored |= {task.id: task for task in whole(db, left)}
    known = stored.keys() - problems.keys()
    if final := [_arrival(item, stored[item.task_id]) for item in sent if _is_final(item) and item.task_id in known]:
        record(db, final)
        stored = {task.id: task for task in whole(db, [item.task_id for item in sent])}
    return [problems.get(s.task_id) or stored.get(s.task_id) or NotFound(f"no task {s.task_id}") for s in sent]


def _accepted(item: Sent) -> list[object]:
    assert item.reading is not None  # noqa: S101 -- accepted means that there is one
    status = "submitted" if lifecycle.is_terminal(item.reading.status) else item.reading.status
    return [
        item.task_id,
        item.reading.provider_id,
        microseconds(item.now),
        status,
        item.reading.progress,
        rows.micros(item.fetch_at),
        rows.plain(item.note),
    ]


def _unanswered(item: Sent) -> list[object]:
    return [
        item.task_id,
        microseconds(item.sent_at),
        rows.micros(item.resend_at),
        item.release,
        rows.plain(item.note),
        rows.micros(item.fetch_at),
    ]


def _is_final(item: Sent) -> bool:
    return item.reading is not None and lifecycle.is_terminal(item.reading.status)


def _arrival(item: Sent, task: Task) -> Arrival:
    return Arrival(
        kind=Kind.FACT,
        provider=task.provider,
        source=Source.SUBMISSION,
        trust=Trust.SIGNED,  # our own request, over TLS and under our key
        callback=item.callback or Callback(body=b"", received_at=item.now),
        task_id=task.id,
        reading=item.reading,
    )


def _make_way(db: sqlite3.Connection, named: Sequence[Sequence[str | None]]) -> dict[str, Exception]:
    """Adopt what callbacks made known under the same provider ids; refuses ids that other submissions hold."""
    problems: dict[str, Exception] = {}
    for task_id, provider, other_id, origin, accepted_at in db.execute(
        SQL["overtaken"], {"rows": rows.parameter(named)}
    ).fetchall():
        if origin == Origin.CALLBACK:
            for step in ADOPTION:
                db.execute(SQL[f"adopt_{step}"], {"task": task_id, "unknown": other_id})
        elif accepted_at is None:
            # It took the id from a callback's body only, and the provider's answer to our own request outranks that.
            db.execute(SQL["give_id_back"], {"task": other_id})
        else:
            problems[task_id] = LedgerRejected(
                f"{provider} gave {task_id} the id of {other_id}; this answer was not saved, ask the provider"
            )
    return problems


def due_sends(db: sqlite3.Connection, providers: Sequence[str], now: datetime, limit: int) -> list[Task]:
    """List pending tasks whose time to be (re)sent has come."""
    wanted = {"providers": rows.text(providers), "now": microseconds(now), "limit": limit}
    return _tasks(db.execute(SQL["due_sends"], wanted))


def has_due_fetches(db: sqlite3.Connection, provider: str, now: datetime) -> bool:
    """Tell whether there is anything to claim."""
    return bool(db.execute(SQL["has_due_fetches"], {"provider": provider, "now": microseconds(now)}).fetchone()[0])


def claim_fetches(
    db: sqlite3.Connection, claims: Sequence[tuple[str, datetime, datetime, int]]
) -> Sequence[Sequence[Task]]:
    """Take due tasks to ask about."""
    taken = []
    for provider, now, lease_until, limit in claims:
        parameters = {
            "provider": provider,
            "now": microseconds(now),
            "lease_until": microseconds(lease_until),
            "limit": limit,
        }
        found = _tasks(db.execute(SQL["claim_fetches"], parameters))
        idle = {"provider": provider, "now": parameters["now"]}
        while len(found) < limit and db.execute(SQL["drop_idle_fetches"], idle).rowcount > 0:
            parameters["limit"] = limit - len(found)
            found += _tasks(db.execute(SQL["claim_fetches"], parameters))
        taken.append(found)
    return taken


def plan_fetches(db: sqlite3.Connection, plans: Sequence[Mapping[str, datetime | None]]) -> Sequence[None]:
    """Set when to ask next."""
    data = [[task_id, rows.micros(at)] for plan in plans for task_id, at in plan.items()]
    db.execute(SQL["plan_fetches"], {"rows": rows.parameter(data)})
    return [None] * len(plans)
