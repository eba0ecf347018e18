"""Whatever comes, in whatever order and grouping: one batch is as good as one by one, and the counts add up."""

import sqlite3
from collections import Counter
from collections.abc import Sequence
from datetime import timedelta
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from ringback import lifecycle
from ringback.ledger.schema import schema_text
from ringback.ledger.sqlite import intake, tasks
from ringback.ledger.sqlite.costs import Till
from ringback.model import Arrival, Kind, Receipt, Source, TaskState, Trust, Verdict

from .builders import COMPLETED, SelfClosing, fact, new_task, other, reading, sent

DEDUP = timedelta(days=90)
SAID = [TaskState.SUBMITTED, TaskState.PROCESSING, *sorted(lifecycle.TERMINAL - {TaskState.CANCELLED})]
IDS = ["p-a", "p-b", "p-c", None]

pushes = st.builds(
    fact,
    st.sampled_from(SAID),
    st.sampled_from(["task_a", "task_b", "task_c", "task_u", None]),
    st.sampled_from(IDS),
    event_id=st.sampled_from(["e1", "e2", None]),
    trust=st.sampled_from([Trust.SIGNED, Trust.TOKEN]),
    body=st.binary(max_size=2),
    seconds=st.integers(0, 20),
)
answers = st.builds(
    fact,
    st.sampled_from(SAID),
    st.sampled_from(["task_a", "task_b"]),
    st.none(),
    source=st.sampled_from([Source.POLL, Source.RINGBACK, Source.SUBMISSION]),
    seconds=st.integers(0, 20),
)
others = st.builds(
    other,
    st.sampled_from([Kind.HINT, Kind.UNRECOGNISED, Kind.RECEIVED]),
    st.sampled_from(["task_a", "task_c", "task_u", None]),
    body=st.binary(max_size=1),
)
hints = st.builds(
    fact,
    st.just(COMPLETED),
    st.sampled_from(["task_a", "task_c", "task_u", None]),
    st.sampled_from(IDS),
    kind=st.just(Kind.HINT),
    trust=st.sampled_from([Trust.NONE, Trust.PARTIAL, Trust.TOKEN]),
    seconds=st.integers(0, 20),
    reason=st.just("unconfirmed"),
)
arrivals = st.lists(pushes | pushes | answers | others | hints, max_size=14)


def ledger() -> sqlite3.Connection:
    """Make a database in memory with two accepted tasks and a pending one; statements and rules are the real ones."""
    db = sqlite3.connect(":memory:", isolation_level=None, factory=SelfClosing)
    db.executescript(schema_text())
    tasks.add(db, [(new_task(name), None) for name in ("task_a", "task_b", "task_c")], Till())
    accepted = [sent(f"task_{x}", reading=reading(TaskState.SUBMITTED, f"p-{x}")) for x in "ab"]
    tasks.save_sends(db, accepted, lambda _db, _arrivals: [])
    return db


def contents(db: sqlite3.Connection) -> list[list[dict[str, Any]]]:
    """Read all that was stored, without the ids that are made by chance and what they depend on."""
    chance = {"id", "task_id", "event_id", "settled_event", "fact_key", "event_key", "hold_until"}
    tables = []
    for table in ("tasks", "events", "callbacks"):
        cursor = db.execute(f"SELECT * FROM {table} ORDER BY seq")  # noqa: S608 -- three fixed names
        names = [column[0] for column in cursor.description]
        tables.append([{k: v for k, v in zip(names, row, strict=True) if k not in chance} for row in cursor.fetchall()])
    return tables


def meaning(receipts: Sequence[Receipt]) -> list[tuple[object, ...]]:
    """Give receipts without the ids made by chance."""
    return [(receipt.verdict, receipt.state, receipt.event_id is None) for receipt in receipts]


@given(arrivals)
@settings(max_examples=150, deadline=None)
def test_one_batch_equals_one_by_one(batch: list[Arrival]) -> None:
    """Grouping is invisible: the same rows and the same receipts, however arrivals fall into batches."""
    grouped, single = ledger(), ledger()
    together = intake.record(grouped, batch, DEDUP)
    alone = [intake.record(single, [arrival], DEDUP)[0] for arrival in batch]
    assert meaning(together) == meaning(alone)
    assert contents(grouped) == contents(single)
    grouped.close()
    single.close()


@given(arrivals, st.integers(1, 5))
@settings(max_examples=150, deadline=None)
def test_counts_add_up(batch: list[Arrival], size: int) -> None:
    """One accepted final word per task, every request counted once, and each task as its settling event says."""
    db = ledger()
    receipts: list[Receipt] = []
    for begin in range(0, len(batch), size):
        receipts += intake.record(db, batch[begin : begin + size], DEDUP)
    words = "SELECT task_id, count(*) FROM events WHERE standing = 'accepted' AND source <> 'ringback' AND status IN "
    final = db.execute(words + "('completed', 'failed', 'cancelled', 'expired') GROUP BY task_id").fetchall()
    assert all(count == 1 for _, count in final)
    pushed = [receipt for arrival, receipt in zip(batch, receipts, strict=True) if arrival.source is Source.CALLBACK]
    verdicts = Counter(receipt.verdict for receipt in pushed)
    events = db.execute("SELECT sum(source = 'callback'), sum(duplicates) FROM events").fetchone()
    kept = verdicts[Verdict.HINT] + verdicts[Verdict.CONFLICT] + verdicts[Verdict.COUNTED]
    assert (events[0] or 0) + (events[1] or 0) + kept == len(pushed)
    counted = dict(db.execute("SELECT id, callbacks FROM tasks WHERE callbacks > 0").fetchall())
    assert counted == Counter(receipt.task_id for receipt in pushed if receipt.task_id)
    told = "SELECT t.state = e.status, t.settled_by = e.source, t.settled_at = e.received_at, t.id = e.task_id"
    joined = db.execute(f"{told} FROM tasks t LEFT JOIN events e ON e.id = t.settled_event WHERE t.settled_at NOT NULL")
    assert all(row == (1, 1, 1, 1) for row in joined)
    db.close()


@given(arrivals)
@settings(max_examples=100, deadline=None)
def test_all_of_it_again_moves_no_state(batch: list[Arrival]) -> None:
    """A provider that sends everything once more changes no task's state and makes no new event."""
    db = ledger()
    intake.record(db, batch, DEDUP)
    before = db.execute("SELECT state, settled_by, settled_event FROM tasks ORDER BY seq").fetchall()
    count = db.execute("SELECT count(*) FROM events").fetchone()
    intake.record(db, batch, DEDUP)
    assert db.execute("SELECT state, settled_by, settled_event FROM tasks ORDER BY seq").fetchall() == before
    assert db.execute("SELECT count(*) FROM events").fetchone() == count
    db.close()


@given(arrivals, st.randoms(use_true_random=False))
@settings(max_examples=150, deadline=None)
def test_adoption_keeps_the_invariants(batch: list[Arrival], random: Any) -> None:
    """Whenever the answer comes, the adopted task has one accepted final word and all requests, and nothing is left."""
    db = ledger()
    cut = random.randint(0, len(batch))
    intake.record(db, batch[:cut], DEDUP)
    answer = sent("task_c", reading=reading(TaskState.SUBMITTED, "p-c"))
    (task,) = tasks.save_sends(db, [answer], lambda _db, _arrivals: [])
    if isinstance(task, Exception):  # another submission took the id by a callback, and then by its own answer
        raise task
    intake.record(db, batch[cut:], DEDUP)
    assert task.provider_id == "p-c"
    words = "SELECT count(*) FROM events WHERE standing = 'accepted' AND source <> 'ringback' AND status IN "
    final = db.execute(words + "('completed', 'failed', 'cancelled', 'expired') GROUP BY task_id").fetchall()
    assert all(row == (1,) for row in final)
    orphans = "SELECT count(*) FROM events WHERE task_id NOT IN (SELECT id FROM tasks)"
    assert db.execute(orphans).fetchone() == (0,)
    owners = db.execute("SELECT count(*) FROM tasks WHERE provider_id = 'p-c'").fetchone()
    assert owners == (1,)
    db.close()
