"""The same spoiled requests, posted to a whole receiver: 200 for what is authentic, 4xx for the rest, never a 5xx."""

from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest
import time_machine
from hypothesis import given

from receiver.web import create_app
from ringback.settings import Settings
from tests.oracles import test_openai, test_replicate, test_standardwebhooks, test_stripe
from tests.oracles.octokit import HEADER, signed
from tests.oracles.oracle import LATER, SOME, explained, is_unchanged, values
from tests.oracles.spoiled import Recipe, recipes, spoil
from tests.oracles.standard_family import SECRET
from tests.providers.signatures.signed import GITHUB, TEXTS

ACME = """
[providers.acme]
scheme = "timestamped-hmac"
header = "stripe-signature"
account_endpoint = true
task_id = "data.taskId"
status = "data.state"
[providers.acme.status_map]
success = "completed"
"""
ORACLES = {
    "standard": test_standardwebhooks.ORACLE,
    "replicate": test_replicate.ORACLE,
    "openai": test_openai.ORACLE,
    "acme": test_stripe.ORACLE,
}


@pytest.fixture
async def client(tmp_path: Path) -> AsyncIterator[httpx.AsyncClient]:
    """Give a client of a receiver with five providers, one by TOML alone; exceptions of the receiver pass through."""
    (tmp_path / "ringback.toml").write_text(ACME)
    environ = {
        "RINGBACK_DATABASE_URL": f"sqlite:///{tmp_path}/ringback.db",
        "RINGBACK_ACME_SECRET": TEXTS[0],
        "RINGBACK_GITHUB_SECRET": TEXTS[0],
        "RINGBACK_OPENAI_SECRET": SECRET,
        "RINGBACK_REPLICATE_SECRET": SECRET,
        "RINGBACK_STANDARD_SECRET": SECRET,
    }
    with time_machine.travel(LATER, tick=False):
        app = create_app(Settings.from_environ(environ, tmp_path))
        transport = httpx.ASGITransport(app)
        async with (
            app.router.lifespan_context(app),
            httpx.AsyncClient(transport=transport, base_url="http://receiver.test") as client,
        ):
            yield client


@pytest.mark.parametrize("name", ORACLES)
@SOME
@given(recipe=recipes)
async def test_spoiled_requests(client: httpx.AsyncClient, name: str, recipe: Recipe) -> None:
    """What the provider's library accepts gets 200, what it does not 401, but for the differences that are listed."""
    oracle = ORACLES[name]
    spoiled = spoil(oracle.case, recipe)
    lines, body = spoiled.request
    response = await client.post(f"/callbacks/{name}", headers=lines, content=body)
    assert response.status_code in (200, 401)
    accepted = response.status_code == 200
    assert explained(oracle.differences, spoiled.request, accepted, oracle.verdict(spoiled.request))
    assert not accepted or is_unchanged(oracle.case, spoiled)


@SOME
@given(recipe=recipes)
async def test_spoiled_requests_of_github(client: httpx.AsyncClient, recipe: Recipe) -> None:
    """Exactly the documented header of exactly these bytes gets 200, anything else 401."""
    lines, body = spoil(GITHUB, recipe).request
    response = await client.post("/callbacks/github", headers=lines, content=body)
    authentic = values((lines, body), HEADER) == [signed(body)]
    assert response.status_code == (200 if authentic else 401)
