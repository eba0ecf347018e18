"""Cancelling: the provider's word alone makes a task cancelled, and what else is said beside it is kept."""

import asyncio
from datetime import timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest
from msgspec.structs import replace

from ringback.errors import NotCancelled, NotFound, Unsupported
from ringback.ledger import Ledger, Pattern, Process, Query, Registration
from ringback.model import DeliveryState, Event, Form, Source, Standing, Task, TaskState
from ringback.providers import CATALOGUE
from ringback.settings import ProviderSettings
from submitter import Submitter
from submitter.cancelling import Canceller
from tests.ledger.builders import fan_out

from .submitter_rig import Answer, Rig, accepted, answer, completed, refusal

MODELS = {"ark": "doubao-seedance-1-0-pro-250528", "fal": "fal-ai/flux/dev", "replicate": "acme/film"}
KEYED = {name: ProviderSettings(api_key="a-private-key") for name in (*MODELS, "qingbo", "reapi")}


def cancelled(**fields: Any) -> httpx.Response:
    """Answer as qingbo does where it cancels."""
    said = {"task_id": "task-wave1", "status": "cancelled", "refunded": True, "refunded_quota": 22_312}
    return answer(200, said | fields)


def rig_of(folder: Path, *answers: Answer) -> Rig:
    """Make a rig with the keys of all providers that are asked here."""
    return Rig(folder, *answers, providers=KEYED)


async def submitted(rig: Rig, provider: str = "qingbo") -> Task:
    """Submit one task; the first answer of the wire is spent for it."""
    return await rig.submitter.submit(provider, model=MODELS.get(provider), prompt="x", key="mine")


async def events(ledger: Ledger) -> list[Event]:
    """Give all events, oldest first."""
    return list(reversed(await ledger.events(Query())))


async def deliveries(rig: Rig) -> list[tuple[str, DeliveryState]]:
    """Hand out what there is to one handler for everything; give what it is owed."""
    process = Process(id="w", role="worker", host="here", pid=1, started_at=rig.clock())
    handlers = {"app.any": Registration(patterns=[Pattern(event="*")])}
    await rig.ledger.beat(process, rig.clock(), rig.clock() - timedelta(minutes=1), handlers)
    await fan_out(rig.ledger, rig.clock(), 100)
    return [(owed.event_type.value, owed.delivery.state) for owed in await rig.ledger.deliveries(Query())]


@pytest.mark.parametrize("reference", ["id", "key", "provider_id"])
async def test_a_queued_task_is_cancelled_by_the_providers_word(tmp_path: Path, reference: str) -> None:
    """By any of its names; the answer is the event, with the refund; once more it is cancelled already."""
    async with rig_of(tmp_path, accepted("qingbo"), cancelled()) as rig:
        task = await submitted(rig)
        gone = await rig.submitter.cancel(getattr(task, reference))
        assert (gone.state, gone.settled_by, gone.fetch_at) == (TaskState.CANCELLED, Source.POLL, None)
        assert gone.charged_microdollars == 0
        request = rig.wire.requests[-1]
        assert (request.method, request.url.path) == ("POST", "/v1/tasks/task-wave1/cancel")
        assert await rig.submitter.cancel(gone) == gone
        assert len(rig.wire.requests) == 2
        assert [(event.type.value, event.source) for event in await events(rig.ledger)] == [
            ("task.cancelled", Source.POLL)
        ]


async def test_a_push_that_says_completed_is_kept_beside_the_cancellation(tmp_path: Path) -> None:
    """Both words are on the record, the first stands, and the handler runs for one fact once."""
    async with rig_of(tmp_path, accepted("qingbo"), cancelled()) as rig:
        task = await submitted(rig)
        await rig.submitter.cancel(task)
        assert await deliveries(rig) == [("task.cancelled", DeliveryState.PENDING)]
        for status in (TaskState.COMPLETED, TaskState.CANCELLED, TaskState.COMPLETED):
            await rig.push(task.id, "task-wave1", status)
        assert (await rig.task(task)).state is TaskState.CANCELLED
        assert [(event.status, event.standing, event.duplicates) for event in await events(rig.ledger)] == [
            (TaskState.CANCELLED, Standing.ACCEPTED, 1),
            (TaskState.COMPLETED, Standing.CONTRADICTED, 1),
        ]
        assert await deliveries(rig) == [("task.cancelled", DeliveryState.PENDING)]


async def test_the_answer_and_the_push_of_one_cancellation_at_once(tmp_path: Path) -> None:
    """The push of the cancellation comes while its answer is on the way: one event, one delivery."""
    pushes = []

    async def both(_: httpx.Request) -> httpx.Response:
        pushes.append(asyncio.create_task(rig.push(task.id, "task-wave1", TaskState.CANCELLED)))
        return cancelled()

    async with rig_of(tmp_path, accepted("qingbo"), both) as rig:
        task = await submitted(rig)
        gone = await rig.submitter.cancel(task)
        await asyncio.gather(*pushes)
        assert gone.state is TaskState.CANCELLED
        (event,) = await events(rig.ledger)
        assert (event.status, event.standing) == (TaskState.CANCELLED, Standing.ACCEPTED)
        assert await deliveries(rig) == [("task.cancelled", DeliveryState.PENDING)]


async def test_completed_by_a_push_while_the_cancellation_is_answered(tmp_path: Path) -> None:
    """The first word stands; whoever cancels learns that both were said."""

    async def late(_: httpx.Request) -> httpx.Response:
        await rig.push(task.id, "task-wave1", TaskState.COMPLETED)
        return cancelled()

    async with rig_of(tmp_path, accepted("qingbo"), late) as rig:
        task = await submitted(rig)
        with pytest.raises(NotCancelled, match=r"both ways.* completed since 2026-05-01 12:00:00Z, by a callback"):
            await rig.submitter.cancel(task)
        assert [event.standing for event in await events(rig.ledger)] == [Standing.ACCEPTED, Standing.CONTRADICTED]


async def test_what_has_ended_is_not_cancelled(tmp_path: Path) -> None:
    """The error says how and when it ended, and nobody is asked; an unknown name is no task."""
    async with rig_of(tmp_path, accepted("qingbo")) as rig:
        task = await submitted(rig)
        await rig.push(task.id, "task-wave1", TaskState.COMPLETED)
        with pytest.raises(NotCancelled, match=f"{task.id} has ended already: completed since .*, by a callback"):
            await rig.submitter.cancel("mine")
        with pytest.raises(NotFound):
            await rig.submitter.cancel("nobody")
        assert len(rig.wire.requests) == 1


@pytest.mark.parametrize(
    ("answers", "said", "state"),
    [
        (
            [answer(400, {"error": {"message": "only queued; sk a-private-key", "code": "task_not_cancellable"}}),
             accepted("qingbo", status="processing")],
            r"was not cancelled: qingbo: only queued; sk <secret> \(code task_not_cancellable\); it is submitted",
            TaskState.SUBMITTED,
        ),
        ([refusal(400), completed("qingbo")], "has ended already: completed", TaskState.COMPLETED),
        ([answer(429, None, Retry_After="7"), answer(500)], "answered 429; try again in 7 s", TaskState.SUBMITTED),
        ([answer(401), answer(401)], "answered 401: check RINGBACK_QINGBO_API_KEY", TaskState.SUBMITTED),
        ([answer(503), answer(503)], "answered 503; it is submitted", TaskState.SUBMITTED),
        ([httpx.ConnectError("x"), answer(503)], "no connection to www.qingbo.dev; it is", TaskState.SUBMITTED),
        ([httpx.ReadError("x"), answer(503)], "broke off; it may have been asked", TaskState.SUBMITTED),
        ([httpx.ReadTimeout("x"), accepted("qingbo", status="cancelled")], None, TaskState.CANCELLED),
    ],
    ids=["runs", "ended", "busy", "key", "down", "unsent", "broken", "unheard"],
)  # fmt: skip
async def test_what_the_provider_answers(
    tmp_path: Path, answers: list[Answer], said: str | None, state: TaskState
) -> None:
    """A refusal is told in the provider's words; after any unclear answer the task itself is looked at."""
    async with rig_of(tmp_path, accepted("qingbo"), *answers) as rig:
        task = await submitted(rig)
        if said is None:
            assert (await rig.submitter.cancel(task)).state is TaskState.CANCELLED
        else:
            with pytest.raises(NotCancelled, match=said):
                await rig.submitter.cancel(task)
        assert (await rig.task(task)).state is state


@pytest.mark.parametrize("body", [{"task_id": "another", "status": "cancelled"}, {"status": "cancelled"}, None])
async def test_an_answer_that_is_not_about_the_task_counts_for_nothing(tmp_path: Path, body: Any) -> None:
    """Then the task is asked about, and made due where that says nothing final either."""
    async with rig_of(tmp_path, accepted("qingbo"), answer(200, body), accepted("qingbo")) as rig:
        task = await submitted(rig)
        open_ = await rig.submitter.cancel(task)
        assert (open_.state, await events(rig.ledger)) == (TaskState.SUBMITTED, [])
        assert (await rig.task(task)).fetch_at == rig.clock()
        rig.wire.answers = [accepted("qingbo", status="cancelled")]
        assert await rig.poll() == 1
        assert (await rig.task(task)).state is TaskState.CANCELLED


async def test_a_provider_that_takes_the_wish_and_says_no_more(tmp_path: Path) -> None:
    """With fal it is 202 and a word of its own, which is not read as a result; the poller fetches the end."""
    status = {"status": "IN_QUEUE", "request_id": "r-1", "queue_position": 3}
    wish = answer(202, {"status": "CANCELLATION_REQUESTED"})
    async with rig_of(tmp_path, answer(200, status), wish, answer(200, status)) as rig:
        task = await submitted(rig, "fal")
        assert (await rig.submitter.cancel(task)).state is TaskState.SUBMITTED
        assert rig.wire.requests[1].method == "PUT"
        assert (await rig.task(task)).fetch_at == rig.clock()


async def test_a_provider_without_cancellation(tmp_path: Path) -> None:
    """It is named, and not asked."""
    async with rig_of(tmp_path, accepted("reapi")) as rig:
        task = await submitted(rig, "reapi")
        with pytest.raises(Unsupported, match=f"reapi has no way to cancel a task.*; {task.id} goes on"):
            await rig.submitter.cancel(task)
        assert len(rig.wire.requests) == 1


@pytest.mark.parametrize(
    ("status", "error"),
    [
        ("queued", None),
        ("running", "ark cancels only what waits; .* is processing there"),
        ("succeeded", "has ended already: completed"),
        (None, "how it stands is not known: ark answered 500"),
    ],
)
async def test_a_call_that_would_delete_results_is_made_only_for_what_waits(
    tmp_path: Path, status: str | None, error: str | None
) -> None:
    """Ark's DELETE takes an ended task away, and its results with it: so it is looked at first."""
    look = answer(200, {"id": "cgt-1", "status": status}) if status else answer(500)
    gone = answer(200, {"id": "cgt-1", "status": "cancelled"})
    async with rig_of(tmp_path, answer(200, {"id": "cgt-1"}), look, answer(200, {}), gone) as rig:
        task = await submitted(rig, "ark")
        if error is None:
            assert (await rig.submitter.cancel(task)).state is TaskState.CANCELLED
        else:
            with pytest.raises(NotCancelled, match=error):
                await rig.submitter.cancel(task)
        methods = [request.method for request in rig.wire.requests]
        assert methods == ["POST", "GET", "DELETE", "GET"] if error is None else ["POST", "GET"]


async def test_a_task_that_was_never_sent_is_withdrawn(tmp_path: Path) -> None:
    """Nothing was bought after a 429, so nobody is asked; it fails by our own word and is never sent again."""
    async with rig_of(tmp_path, answer(429, None, Retry_After="600")) as rig:
        task = await submitted(rig)
        assert (task.state, task.sent_at) == (TaskState.PENDING, None)
        gone = await rig.submitter.cancel(task)
        assert (gone.state, gone.settled_by, gone.resend_at) == (TaskState.FAILED, Source.RINGBACK, None)
        (event,) = await events(rig.ledger)
        assert (event.conflict, event.source) == ("withdrawn before it was sent", Source.RINGBACK)
        asked = len(rig.wire.requests)
        assert await rig.poll(days=1) == 0
        assert len(rig.wire.requests) == asked
        with pytest.raises(NotCancelled, match=r"failed since .*, as Ringback presumed"):
            await rig.submitter.cancel(task)


async def test_a_withdrawal_and_a_sending_at_once(tmp_path: Path) -> None:
    """Whoever claims the task first has it: either it is sent, or withdrawn, never both."""
    async with rig_of(tmp_path, answer(429, None, Retry_After="600"), accepted("qingbo")) as rig:
        task = await submitted(rig)
        assert await rig.ledger.claim_send(task, rig.clock(), None)
        canceller = Canceller(rig.settings, rig.ledger, rig.outbound, rig.intake, rig.clock)
        with pytest.raises(NotCancelled, match="is just being sent; try again"):
            await canceller.cancel(task)
        with pytest.raises(NotCancelled, match="its id there is not known"):
            await rig.submitter.cancel(task)
        assert (await rig.task(task)).state is TaskState.PENDING


async def test_what_we_only_presumed_to_have_ended_may_still_be_cancelled(tmp_path: Path) -> None:
    """A task that expired by our word may go on at the provider; its word replaces ours."""
    async with rig_of(tmp_path, accepted("qingbo")) as rig:
        task = await submitted(rig)
        rig.wire.answers = [answer(500)]
        await rig.poll(hours=50)
        assert (await rig.task(task)).state is TaskState.EXPIRED
        rig.wire.answers = [cancelled()]
        gone = await rig.submitter.cancel(task)
        assert (gone.state, gone.settled_by) == (TaskState.CANCELLED, Source.POLL)


async def test_it_can_be_cancelled_by_whoever_opens_the_ledger(tmp_path: Path) -> None:
    """Another process than the one that submitted can cancel; every provider that can says how."""
    async with rig_of(tmp_path, accepted("qingbo"), cancelled()) as rig:
        task = await submitted(rig)
        async with Submitter(rig.settings, outbound=rig.outbound, clock=rig.clock) as other:
            assert (await other.cancel(task.id)).state is TaskState.CANCELLED
    able = [provider for provider in CATALOGUE.values() if provider.can_cancel]
    assert {provider.name for provider in able} == {"ark", "fal", "qingbo", "replicate", "scale"}
    model = {"fal": "fal-ai/flux/dev"}
    for provider in able:
        form = Form(model=model.get(provider.name, "m"))
        assert provider.build_cancel(replace(task, form=form, provider_id="x")).path
