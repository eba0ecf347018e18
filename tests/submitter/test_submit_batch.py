"""Many tasks from JSON lines."""

import asyncio
from collections.abc import Sequence
from decimal import Decimal
from pathlib import Path

import httpx
import pytest

from ringback.errors import CostTooHigh, InvalidSubmission, KeyConflict, SettingsError, SubmissionRefused
from ringback.ledger import Query
from ringback.model import TaskState
from submitter import Batch, Submitted

from .submitter_rig import Rig, accepted, refusal


async def collect(rig: Rig, batch: Batch, max_cost: Decimal | None = None) -> Sequence[Submitted]:
    """Submit a batch and give the results in the order of its lines."""
    results = [result async for result in rig.submitter.submit_many(batch, max_cost=max_cost)]
    return sorted(results, key=lambda result: result.line)


async def sell(request: httpx.Request) -> httpx.Response:
    """Accept everything, with a fresh id each time."""
    return accepted("qingbo", int(request.headers["idempotency-key"][-6:], 16))


LINES = [
    b'\xef\xbb\xbf{"prompt": "a"}\n',
    b"\n",
    b'{"prompt": "b", "provider": "qingbo", "key": "mine"}\n',
    b'{"prompt": "a"}',
]


async def test_every_line_becomes_a_task_and_a_second_run_submits_nothing_twice(tmp_path: Path) -> None:
    """The default key is file, line and content, so equal lines are two tasks, and the same file the same ones."""
    async with Rig(tmp_path, sell) as rig:
        batch = Batch(LINES, name="tasks.jsonl", provider="qingbo")
        assert len(batch) == 3
        first = await collect(rig, batch)
        again = await collect(rig, Batch(LINES, name="tasks.jsonl", provider="qingbo"))
        assert [result.line for result in first] == [1, 3, 4]
        assert [result.task and result.task.id for result in first] == [r.task and r.task.id for r in again]
        keys = [result.task.key or "" for result in first if result.task]
        assert keys[1] == "mine"
        assert [key.rpartition(":")[0] for key in (keys[0], keys[2])] == ["tasks.jsonl:1", "tasks.jsonl:4"]
    assert len(rig.wire.requests) == 3


async def test_an_interrupted_run_is_resumed(tmp_path: Path) -> None:
    """What was claimed is not sent again by the second run; what was not reached is sent then."""
    reached, lines = asyncio.Event(), [b'{"prompt": "%d"}' % n for n in range(6)]
    calls = 0

    async def third_hangs(request: httpx.Request) -> httpx.Response:
        nonlocal calls
        calls += 1
        if calls == 3:
            reached.set()
            await asyncio.Event().wait()
        return await sell(request)

    async with Rig(tmp_path, third_hangs, provider_concurrency=1) as rig:
        run = asyncio.create_task(collect(rig, Batch(lines, name="f", provider="qingbo")))
        await reached.wait()
        run.cancel()
        with pytest.raises(asyncio.CancelledError):
            await run
        results = await collect(rig, Batch(lines, name="f", provider="qingbo"))
        states = [result.task.state for result in results if result.task]
        assert states.count(TaskState.PENDING) == 1
        assert states.count(TaskState.SUBMITTED) == 5
        assert len(rig.wire.requests) == 6
        assert len(await rig.ledger.tasks(Query())) == 6


@pytest.mark.parametrize(
    ("line", "said", "field"),
    [
        (b"{", "line 2: expected one JSON object in UTF-8", None),
        (b"[" * 20_000, "line 2: expected one JSON object in UTF-8", None),
        (b"[]", "line 2: expected a JSON object, got a list", None),
        (b'{"promt": "x"}', "line 2: unknown field 'promt': did you mean prompt?", "promt"),
        (b'{"zzzzzz": "x"}', "line 2: unknown field 'zzzzzz': expected some of provider, model", "zzzzzz"),
        (b'{"prompt": " "}', "line 2: prompt is required", "prompt"),
        (b'{"prompt": "x", "duration": "6"}', "line 2: duration must be an integer", "duration"),
        (b'{"prompt": "x", "key": 5}', "line 2: key must be", "key"),
        (b'{"prompt": "x", "metadata": 5}', "line 2: metadata must be", "metadata"),
        (b'{"prompt": "x", "provider": 5}', "line 2: no provider", "provider"),
        (b'{"prompt": "x", "provider": "qingboo"}', "line 2: unknown provider 'qingboo'", None),
        (b'{"prompt": "y", "key": "one"}', "line 2: key 'one' is that of line 1", None),
    ],
)
async def test_a_bad_line_is_named_before_any_is_sent(
    tmp_path: Path, line: bytes, said: str, field: str | None
) -> None:
    """Its number, what is wrong, and the field."""
    async with Rig(tmp_path, sell) as rig:
        with pytest.raises(InvalidSubmission) as caught:
            await collect(rig, Batch([b'{"prompt": "x", "key": "one"}', line], name="f", provider="qingbo"))
        assert f"f {said}" in str(caught.value)
        assert caught.value.field == field
        assert await rig.ledger.tasks(Query()) == []


async def test_all_bad_lines_are_told_together(tmp_path: Path) -> None:
    """The first ten by name, the rest by count; a provider is needed somewhere."""
    async with Rig(tmp_path, sell) as rig:
        with pytest.raises(InvalidSubmission) as caught:
            await collect(rig, Batch([b'{"prompt": "x"}'] * 12, name="f"))
    text = str(caught.value)
    assert "12 lines are wrong" in text
    assert "f line 10: no provider" in text
    assert "f line 11" not in text
    assert "and 2 more" in text


async def test_the_limit_is_for_all_lines_together(tmp_path: Path) -> None:
    """Three tasks of $0.044625 fit under $0.14 and not under $0.13."""
    async with Rig(tmp_path, sell) as rig:
        with pytest.raises(CostTooHigh, match=r"\$0.133875, above the limit of \$0.13"):
            await collect(rig, Batch(LINES, name="f", provider="qingbo"), Decimal("0.13"))
        assert rig.wire.requests == []
        assert len(await collect(rig, Batch(LINES, name="f", provider="qingbo"), Decimal("0.14"))) == 3


async def test_a_missing_api_key_is_told_before_any_line_is_sent(tmp_path: Path) -> None:
    """The setting is named once, not once per line."""
    async with Rig(tmp_path, sell, providers={}) as rig:
        with pytest.raises(SettingsError, match="RINGBACK_QINGBO_API_KEY"):
            await collect(rig, Batch(LINES, name="f", provider="qingbo"))
        assert await rig.ledger.tasks(Query()) == []


async def test_one_refused_line_does_not_stop_the_others(tmp_path: Path) -> None:
    """Its result has the task as failed, and the error; a key of another request is that line's error alone."""
    async with Rig(tmp_path, refusal(400), sell, provider_concurrency=1) as rig:
        results = await collect(rig, Batch([LINES[2], LINES[3]], name="f", provider="qingbo"))
        assert isinstance(results[0].error or results[1].error, SubmissionRefused)
        assert sorted(result.task.state for result in results if result.task) == ["failed", "submitted"]
        conflict = await collect(rig, Batch([b'{"prompt": "z", "key": "mine"}'], name="f", provider="qingbo"))
        assert isinstance(conflict[0].error, KeyConflict)


async def test_a_refused_account_stops_the_batch(tmp_path: Path) -> None:
    """A wrong API key must not turn a thousand lines into a thousand failed tasks."""
    async with Rig(tmp_path, refusal(401), provider_concurrency=1) as rig:
        lines = [b'{"prompt": "%d"}' % n for n in range(50)]
        with pytest.raises(SubmissionRefused, match="RINGBACK_QINGBO_API_KEY"):
            await collect(rig, Batch(lines, name="f", provider="qingbo"))
        assert len(await rig.ledger.tasks(Query())) <= 4


async def test_no_more_than_a_few_lines_are_sent_at_once(tmp_path: Path) -> None:
    """provider_concurrency bounds the requests, and a name that cannot be printed does not spoil the keys."""
    running = most = 0

    async def count(request: httpx.Request) -> httpx.Response:
        nonlocal running, most
        running += 1
        most = max(most, running)
        await asyncio.sleep(0)
        running -= 1
        return await sell(request)

    async with Rig(tmp_path, count, provider_concurrency=2) as rig:
        batch = Batch([b'{"prompt": "%d"}' % n for n in range(250)], name="a\nb", provider="qingbo")
        results = await collect(rig, batch)
    assert most == 2
    assert {result.error for result in results} == {None}
    assert ((results[0].task and results[0].task.key) or "").startswith("a?b:1:")
