"""Living inside another application, with a lifespan and without, and starting where things are wrong."""

import asyncio
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from starlette.applications import Starlette
from starlette.routing import Mount
from structlog.testing import capture_logs

from receiver.web import create_app
from receiver.web.state import State
from ringback.errors import LedgerMismatch, LedgerMissing
from ringback.ledger import Query, open_ledger

from .conftest import SECRET, MakeSettings, body_of, client_of, path_of

HEAVY = {"psycopg", "cryptography", "uvicorn", "prometheus_client", "httpx", "obstore"}
REQUESTS = """
import asyncio, httpx
from datetime import UTC, datetime
from receiver.web import create_app
from ringback.ledger import open_ledger
from ringback.settings import Settings

settings = Settings(database_url={database_url!r}, secret=({secret!r},))
app = create_app(settings)

async def request():
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://adapter.test") as client:
        await client.post("/callbacks/qingbo/task_one.x")
        return (await client.post({path!r}, content={body!r})).status_code

async def rejections():
    ledger = await open_ledger(settings)
    summary = await ledger.summary(datetime.now(UTC))
    await ledger.close()
    return sum(summary.rejections.values())

print([asyncio.run(request()) for _ in range(3)])
print(asyncio.run(rejections()))
"""
OTHER = b"another secret of thirty-two bytes or more"


async def test_mounted_with_its_lifespan(make_settings: MakeSettings) -> None:
    """Another application can mount it under a path and run its lifespan in its own."""
    inner = create_app(make_settings())

    @asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        async with inner.router.lifespan_context(inner):
            yield

    outer = Starlette(routes=[Mount("/hooks/ringback", inner)], lifespan=lifespan)
    async with outer.router.lifespan_context(outer), client_of(outer, "/hooks/ringback") as client:
        for path in (path_of(), path_of() + "/"):
            assert (await client.post(path, content=body_of())).status_code == 200
        assert (await client.get("/readyz")).status_code == 200
        assert (await client.get("/api/tasks", headers={"authorization": "Bearer the-admin-token"})).status_code == 200
        assert (await client.post("/callbacks/qingbo/task_one.x")).status_code == 401


async def test_mounted_without_a_lifespan(make_settings: MakeSettings) -> None:
    """Where nobody runs the lifespan the first requests open the ledger, once for all of them."""
    inner = create_app(make_settings())
    async with client_of(Starlette(routes=[Mount("/in", inner)]), "/in") as client:
        answers = await asyncio.gather(*(client.post(path_of(), content=body_of()) for _ in range(10)))
        assert {answer.status_code for answer in answers} == {200}
        assert sum(answer.json()["duplicate"] for answer in answers) == 9
    state: State = inner.state.receiver
    assert state.ledger is not None
    await state.close()
    assert state.ledger is None


def test_each_loop_opens_and_closes_its_own(make_settings: MakeSettings) -> None:
    """A function adapter that runs each request in a loop of its own loses no count, and its process can end."""
    database_url = make_settings().database_url
    code = REQUESTS.format(database_url=database_url, secret=SECRET, path=path_of(), body=body_of())
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=20)
    assert done.stdout.splitlines()[-2:] == ["[200, 200, 200]", "3"]


async def test_given_ledger_is_shared_and_left_open(make_settings: MakeSettings) -> None:
    """A ledger that the caller opened is used, and closed by the caller only."""
    settings = make_settings()
    ledger = await open_ledger(settings, create=True)
    app = create_app(settings, ledger=ledger)
    async with app.router.lifespan_context(app), client_of(app) as client:
        assert (await client.post(path_of(), content=body_of())).status_code == 200
    assert len(await ledger.tasks(Query())) == 1
    await ledger.close()


async def test_start_without_the_newest_key_is_refused(make_settings: MakeSettings) -> None:
    """A process that lacks the newest secret does not start; one with both does."""
    for secret in ((SECRET,), (OTHER, SECRET)):
        app = create_app(make_settings(secret=secret))
        async with app.router.lifespan_context(app):
            pass
    app = create_app(make_settings(secret=(SECRET,)))
    with pytest.raises(LedgerMismatch):
        async with app.router.lifespan_context(app):
            pass
    async with client_of(app) as client:
        assert (await client.post(path_of(), content=body_of())).status_code == 503


async def test_given_ledger_with_other_keys_is_left_open(make_settings: MakeSettings) -> None:
    """A refused start does not close what is not ours."""
    settings = make_settings(secret=(OTHER,))
    ledger = await open_ledger(settings, create=True)
    first = create_app(settings, ledger=ledger)
    async with first.router.lifespan_context(first):
        pass
    second = create_app(make_settings(), ledger=ledger)
    with pytest.raises(LedgerMismatch):
        async with second.router.lifespan_context(second):
            pass
    assert list(await ledger.tasks(Query())) == []
    await ledger.close()


async def test_start_without_a_folder_says_which(make_settings: MakeSettings, tmp_path: object) -> None:
    """A ledger that cannot be made stops the start with the ledger's own words, in the log, too."""
    app = create_app(make_settings(database_url=f"sqlite:///{tmp_path}/none/ringback.db"))
    with capture_logs() as logs, pytest.raises(LedgerMissing, match="none"):
        async with app.router.lifespan_context(app):
            pass
    assert logs[0]["event"] == "receiver.ledger_unavailable"


async def test_stopping_receiver_takes_nothing_more(make_settings: MakeSettings) -> None:
    """A request that waits for the ledger while it is closed is put off."""
    app = create_app(make_settings())
    async with client_of(app) as client:
        state: State = app.state.receiver
        await state.open()
        await state.close()
        assert (await client.post(path_of(), content=body_of())).status_code == 200  # opened anew
        await state.close()


def test_ready_made_application_is_cheap_to_import() -> None:
    """`receiver.asgi:app` is there without what only some requests or the command need."""
    code = "import sys, receiver.asgi as a; print(*{n.partition('.')[0] for n in sys.modules}, *type(a.app).mro())"
    output = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert "starlette.applications.Starlette" in output
    assert not HEAVY & set(output.split())
