"""`Submitter`: keys, plans, prices, callback URLs, waiting."""

from dataclasses import replace
from datetime import timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import httpx
import pytest
from structlog.testing import capture_logs

import submitter
import submitter.client
from ringback.errors import (
    CostTooHigh,
    InvalidSubmission,
    KeyConflict,
    LedgerMissing,
    SettingsError,
    UnknownProvider,
)
from ringback.ledger import Query
from ringback.model import TaskState
from ringback.providers.signatures import callback_url
from ringback.sandbox import SandboxConfig, create_sandbox
from ringback.settings import ProviderSettings, Settings
from submitter import Submitter
from submitter.sending import utc_now

from .submitter_rig import KEYS, PUBLIC_URL, SECRET, START, URL_KEY, Rig, accepted, answer

NEWER = b"another-secret-of-at-least-32-bytes-"


def test_the_package_exports_what_it_says() -> None:
    """`__all__` is sorted, and everything in it is there."""
    assert submitter.__all__ == sorted(submitter.__all__)
    assert all(hasattr(submitter, name) for name in submitter.__all__)


async def test_a_task_is_stored_before_it_is_sent_and_comes_back_accepted(tmp_path: Path) -> None:
    """While the provider is asked, the ledger holds the task as pending, with its claim."""
    seen = []

    async def look(request: httpx.Request) -> httpx.Response:
        seen.append((await rig.ledger.story(request.headers["idempotency-key"])).task)
        return accepted("qingbo")

    async with Rig(tmp_path, look) as rig:
        task = await rig.submitter.submit("qingbo", prompt="x", metadata={"order": 7})
    assert (seen[0].state, seen[0].sent_at, seen[0].metadata) == (TaskState.PENDING, START, {"order": 7})
    assert (task.state, task.provider_id, task.sends) == (TaskState.SUBMITTED, "task-wave1", 1)
    assert "metadata" not in rig.wire.body()


async def test_a_key_makes_the_same_request_the_same_task(tmp_path: Path) -> None:
    """Same key and request: the stored task, sent once; another request under it: an error. Metadata does not count."""
    async with Rig(tmp_path, accepted("qingbo")) as rig:
        first = await rig.submitter.submit("qingbo", prompt="x", key="k", metadata={"a": 1})
        again = await rig.submitter.submit("qingbo", prompt="x", key="k", metadata={"a": 2})
        assert again == first
        for other in ({"prompt": "y"}, {"prompt": "x", "duration": 7}):
            with pytest.raises(KeyConflict, match="'k'"):
                await rig.submitter.submit("qingbo", key="k", **other)
        with pytest.raises(KeyConflict):
            await rig.submitter.submit("reapi", prompt="x", key="k")
    assert len(rig.wire.requests) == 1


async def test_a_key_whose_task_was_never_sent_is_sent_now(tmp_path: Path) -> None:
    """A caller who starts again after a crash need not wait for the poller."""
    async with Rig(tmp_path, answer(429, retry_after="600"), accepted("qingbo")) as rig:
        waiting = await rig.submitter.submit("qingbo", prompt="x", key="k")
        assert waiting.state is TaskState.PENDING
        assert (await rig.submitter.submit("qingbo", prompt="x", key="k")).state is TaskState.SUBMITTED
        assert len(await rig.ledger.tasks(Query())) == 1


@pytest.mark.parametrize(
    ("given", "field"),
    [
        ({"key": ""}, "key"),
        ({"key": "k" * 201}, "key"),
        ({"key": "a\nb"}, "key"),
        ({"key": 7}, "key"),
        ({"metadata": ["a"]}, "metadata"),
        ({"metadata": {1: "a"}}, "metadata"),
        ({"metadata": {"a": float("nan")}}, "metadata"),
        ({"metadata": {"a": START}}, "metadata"),
        ({"metadata": {"a": "\ud800"}}, "metadata"),
        ({"metadata": {"a": "x" * 16384}}, "metadata"),
        ({"extra": {"seed": b"x"}}, "extra"),
        ({"extra": 5}, "extra"),
        ({"image_urls": "https://example.com/a.png"}, "image_urls"),
        ({"callback_events": "completed"}, "callback_events"),
        ({"callback_events": [1]}, "callback_events"),
        ({"callback_events": 5}, "callback_events"),
        ({"max_cost": Decimal("NaN")}, "max_cost"),
        ({"max_cost": 0.5}, "max_cost"),
        ({"parent": "task-wave1"}, "parent"),
        ({"parent": 5}, "parent"),
        ({"prompt": " "}, "prompt"),
        ({"duration": 31}, "duration"),
    ],
)
async def test_what_is_wrong_is_refused_before_anything_is_stored(
    tmp_path: Path, given: dict[str, Any], field: str
) -> None:
    """The error names the field, and the ledger stays empty."""
    async with Rig(tmp_path, accepted("qingbo")) as rig:
        with pytest.raises(InvalidSubmission) as caught:
            await rig.submitter.submit("qingbo", **{"prompt": "x", **given})
        assert caught.value.field == field
        assert await rig.ledger.tasks(Query()) == []
    assert rig.wire.requests == []


async def test_a_follow_up_task_names_its_parent(tmp_path: Path) -> None:
    """The parent is stored with the task, and is no part of the request: the same key gives the same task."""
    async with Rig(tmp_path, accepted("qingbo")) as rig:
        task = await rig.submitter.submit("qingbo", prompt="x", key="k", parent="task_one")
        assert (await rig.submitter.submit("qingbo", prompt="x", key="k")).id == task.id
        assert (await rig.task(task)).parent_id == "task_one"
    assert "parent" not in rig.wire.body()


async def test_a_missing_key_or_provider_is_told_before_anything_is_stored(tmp_path: Path) -> None:
    """The message names the setting, or the nearest provider."""
    async with Rig(tmp_path, accepted("qingbo"), providers={}) as rig:
        with pytest.raises(SettingsError, match="RINGBACK_QINGBO_API_KEY"):
            await rig.submitter.submit("qingbo", prompt="x")
        with pytest.raises(UnknownProvider, match="qingbo"):
            await rig.submitter.submit("qingboo", prompt="x")
        assert await rig.ledger.tasks(Query()) == []


async def test_a_callback_url_is_sent_where_the_provider_pushes(tmp_path: Path) -> None:
    """With it the first question waits for the push deadline; without it the schedule of the seed begins."""
    async with Rig(tmp_path, accepted("qingbo"), accepted("reapi"), public_url=PUBLIC_URL) as rig:
        pushed = await rig.submitter.submit("qingbo", prompt="x", callback_events=["completed"])
        assert rig.wire.body()["callback_url"] == callback_url(PUBLIC_URL, SECRET, "qingbo", pushed.id)
        assert rig.wire.body()["callback_events"] == ["completed"]
        polled = await rig.submitter.submit("reapi", prompt="x")
        assert "callback_url" not in rig.wire.body()
    assert (pushed.url_key, pushed.fetch_at) == (URL_KEY, START + timedelta(seconds=300))
    assert (polled.url_key, polled.fetch_at) == (None, START + timedelta(seconds=5))


async def test_without_a_public_url_one_line_says_so(tmp_path: Path) -> None:
    """Once per process, and only for providers that would push."""
    submitter.client._say_that_no_push_will_come.cache_clear()
    async with Rig(tmp_path, accepted("reapi"), accepted("qingbo", 1), accepted("qingbo", 2)) as rig:
        with capture_logs() as lines:
            await rig.submitter.submit("reapi", prompt="x")
            task = await rig.submitter.submit("qingbo", prompt="x")
            await rig.submitter.submit("qingbo", prompt="x")
    assert [line["event"] for line in lines].count("submitter.no_public_url") == 1
    assert (task.url_key, "callback_url" in rig.wire.body()) == (None, False)


async def test_a_public_url_needs_a_secret(tmp_path: Path) -> None:
    """The error says how to make one."""
    async with Rig(tmp_path, accepted("qingbo"), public_url=PUBLIC_URL, secret=()) as rig:
        with pytest.raises(SettingsError, match="token_urlsafe"):
            await rig.submitter.submit("qingbo", prompt="x")


@pytest.mark.parametrize(
    ("secrets", "expected"), [((NEWER, SECRET), SECRET), ((NEWER,), NEWER), ((), None)], ids=["kept", "gone", "none"]
)
async def test_a_resend_rebuilds_the_callback_url(
    tmp_path: Path, secrets: tuple[bytes, ...], expected: bytes | None
) -> None:
    """The task's own secret makes it again; where that one is gone, the newest; where there is none, no URL."""
    async with Rig(tmp_path, answer(429, retry_after="600"), public_url=PUBLIC_URL) as rig:
        task = await rig.submitter.submit("qingbo", prompt="x")
        rig.settings = replace(rig.settings, secret=secrets)
        rig.wire.answers = [accepted("qingbo")]
        await rig.make_sender(rig.ledger).resume(task)
    url = callback_url(PUBLIC_URL, expected, "qingbo", task.id) if expected else None
    assert rig.wire.body().get("callback_url") == url


async def test_a_plan_shows_everything_but_the_token(tmp_path: Path) -> None:
    """--dry-run needs neither ledger nor key, and masks the URL in the request too."""
    settings = Settings(database_url=f"sqlite:///{tmp_path}/none.db", secret=(SECRET,), public_url=PUBLIC_URL)
    plan = Submitter(settings).plan("qingbo", prompt="x", duration=10, image_urls=["https://example.com/a.png"])
    assert (plan.method, plan.url) == ("POST", "https://www.qingbo.dev/v1/tasks")
    assert plan.callback_url == f"{PUBLIC_URL}/callbacks/qingbo/{plan.task.id}.<mac>"
    assert plan.price_microdollars == 74_375
    mac = callback_url(PUBLIC_URL, SECRET, "qingbo", plan.task.id).rpartition(".")[2]
    assert mac not in str(plan)
    assert b"image2video" in (plan.request.body or b"")
    assert Submitter(settings).plan("reapi", prompt="x").callback_url is None


async def test_the_price_is_held_against_the_limit(tmp_path: Path) -> None:
    """Above it, or unknown, nothing is sent; a configured rate makes it known."""
    reapi = ProviderSettings(api_key=KEYS["reapi"], usd_per_second=Decimal("0.01"))
    async with Rig(tmp_path, accepted("qingbo"), accepted("reapi")) as rig:
        task = await rig.submitter.submit("qingbo", prompt="x", max_cost=Decimal("0.044625"))
        assert task.price_microdollars == 44_625
        with pytest.raises(CostTooHigh, match=r"\$0.044625, above the limit of \$0.04"):
            await rig.submitter.submit("qingbo", prompt="x", max_cost=Decimal("0.04"))
        with pytest.raises(CostTooHigh, match="set RINGBACK_REAPI_USD_PER_SECOND and give a duration"):
            await rig.submitter.submit("reapi", prompt="x", max_cost=Decimal(1))
        with pytest.raises(CostTooHigh, match=r"set RINGBACK_REAPI_USD_PER_SECOND$"):
            await rig.submitter.submit("reapi", prompt="x", duration=6, max_cost=Decimal(1))
        rig.settings = replace(rig.settings, providers={"reapi": reapi})
        plan = rig.make_submitter().plan("reapi", prompt="x", duration=6, max_cost=Decimal("0.06"))
        assert plan.price_microdollars == 60_000


async def test_it_opens_and_closes_what_it_is_not_given(tmp_path: Path) -> None:
    """Without a database it names the path; with one it works on its own, and learns the secrets."""
    config = SandboxConfig()
    providers = {"qingbo": ProviderSettings(api_key=config.qingbo_api_key, base_url="http://sandbox")}
    settings = Settings(database_url=f"sqlite:///{tmp_path}/ringback.db", secret=(SECRET,), providers=providers)
    app = create_sandbox(config)
    with pytest.raises(LedgerMissing, match=str(tmp_path)):
        await Submitter(settings).__aenter__()
    async with Rig(tmp_path, accepted("qingbo")):
        pass
    async with Submitter(settings, transport=httpx.ASGITransport(app=app)) as own:
        assert (await own.submit("qingbo", prompt="x")).accepted_at is not None
    await app.state.studio.close()


async def test_a_timeout_after_acceptance_buys_one_task(tmp_path: Path) -> None:
    """The sandbox accepts, then hangs: under the same key the second sending finds the first one's task."""
    config = SandboxConfig(hang_seconds=30, delay_seconds=(60, 60))
    app = create_sandbox(config)
    providers = {"qingbo": ProviderSettings(api_key=config.qingbo_api_key, base_url="http://sandbox")}
    async with Rig(tmp_path, accepted("qingbo"), providers=providers, request_timeout_seconds=0.2) as rig:
        ours = Submitter(rig.settings, ledger=rig.ledger, transport=httpx.ASGITransport(app=app), pause=rig.clock.pause)
        async with ours:
            task = await ours.submit("qingbo", prompt="x [fault:submit_timeout]")
        assert (task.state, task.sends) == (TaskState.SUBMITTED, 2)
        assert [sold.id for sold in app.state.studio.book.tasks()] == [task.provider_id]
    await app.state.studio.close()


def test_the_real_clock_is_aware() -> None:
    """Times are UTC everywhere."""
    assert utc_now().utcoffset() == timedelta(0)
