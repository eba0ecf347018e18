"""Waiting for a task's end: woken by whoever writes it, without asking the provider."""

import asyncio
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from ringback.errors import NotFound
from ringback.ledger import Query
from ringback.model import Task, TaskState

from .submitter_rig import Rig, accepted, answer


async def test_wait_is_woken_by_the_ledger(tmp_path: Path) -> None:
    """By our id, the key or the provider's id; it asks no provider."""
    async with Rig(tmp_path, accepted("qingbo")) as rig:
        task = await rig.submitter.submit("qingbo", prompt="x", key="k")
        waits = [asyncio.create_task(rig.submitter.wait(it, 10)) for it in (task, task.id, "k", "task-wave1")]
        await asyncio.sleep(0)
        await rig.push(task.id, "task-wave1", TaskState.COMPLETED)
        assert {(await it).state for it in waits} == {TaskState.COMPLETED}
        assert len(rig.wire.requests) == 1


async def test_wait_says_how_the_task_stands_when_the_time_is_over(tmp_path: Path) -> None:
    """The message names the task, its state, and where to look; an unknown task is told at once."""
    async with Rig(tmp_path, answer(500), accepted("qingbo")) as rig:
        unknown_end = await rig.submitter.submit("reapi", prompt="x")
        with pytest.raises(TimeoutError, match=f"{unknown_end.id} is still pending .answered 500. after"):
            await rig.submitter.wait(unknown_end, 0.01)
        running = await rig.submitter.submit("qingbo", prompt="x")
        with pytest.raises(TimeoutError, match=f"submitted after .*ringback tasks show {running.id}"):
            await rig.submitter.wait(running, 0)
        with pytest.raises(NotFound):
            await rig.submitter.wait("task_nobody", 1)
        with pytest.raises(NotFound):
            await rig.submitter.wait(replace(running, id="task_nobody"), 1)


async def test_wait_is_woken_by_another_process(tmp_path: Path) -> None:
    """The push comes to a receiver of its own: the commit wakes the waiter, long before it would look by itself."""
    async with Rig(tmp_path, accepted("qingbo")) as rig:
        task = await rig.submitter.submit("qingbo", prompt="x")
        waiting = asyncio.create_task(rig.submitter.wait(task, 10))
        ours = rig.ledger
        rig.ledger = await rig.open_ledger()
        await rig.push(task.id, "task-wave1", TaskState.FAILED)
        rig.ledger = ours
        async with asyncio.timeout(5):
            assert (await waiting).state is TaskState.FAILED


async def test_wait_reads_one_task_when_woken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A waiter reads its task once per news, by its id: no report, and nothing while nobody writes."""
    async with Rig(tmp_path, accepted("qingbo"), accepted("qingbo", 2)) as rig:
        task, other = [await rig.submitter.submit("qingbo", prompt=prompt) for prompt in "ab"]
        asked: list[Query] = []
        looked, read = asyncio.Event(), rig.ledger.tasks

        async def tasks(query: Query) -> Sequence[Task]:
            asked.append(query)
            looked.set()
            return await read(query)

        async def story(_reference: str) -> Any:
            raise AssertionError("a report was read")

        monkeypatch.setattr(rig.ledger, "tasks", tasks)
        monkeypatch.setattr(rig.ledger, "story", story)
        waiting = asyncio.create_task(rig.submitter.wait(task.id, 10))
        await looked.wait()
        looked.clear()
        await rig.push(other.id, "task-wave2", TaskState.COMPLETED)
        await looked.wait()
        await rig.push(task.id, "task-wave1", TaskState.COMPLETED)
        assert (await waiting).state is TaskState.COMPLETED
        assert {(query.task_id, query.limit) for query in asked} == {(task.id, 1)}
        assert len(asked) <= 6  # for its id, at first, for three commits, and for the first look of the watch


async def test_a_settled_task_is_given_at_once(tmp_path: Path) -> None:
    """There is nothing to wait for, whatever the timeout."""
    async with Rig(tmp_path, accepted("qingbo")) as rig:
        task = await rig.submitter.submit("qingbo", prompt="x")
        await rig.push(task.id, "task-wave1", TaskState.CANCELLED)
        assert (await rig.submitter.wait(task, 0)).state is TaskState.CANCELLED
