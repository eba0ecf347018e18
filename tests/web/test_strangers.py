"""Whatever a stranger sends is answered with a 4xx of ours; whoever has a valid URL can cause no 5xx either."""

from typing import Any

import httpx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from .conftest import Receiver, body_of, path_of

SHARED = settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
LOOSE = settings(SHARED, max_examples=300)

NAMES = st.sampled_from(
    ["content-length", "content-type", "authorization", "webhook-id", "x-acme-signature", "expect", "transfer-encoding"]
) | st.from_regex(r"[a-z0-9-]{1,20}", fullmatch=True)
HEADERS = st.lists(st.tuples(NAMES.map(str.encode), st.binary(max_size=40)), max_size=8)
SEGMENTS = st.sampled_from(
    ["callbacks", "qingbo", "reapi", "task_one", "task_one.x", "..", ".", "", "%00", "%2F", "%FF", "é", "api", "readyz"]
)
PATHS = st.lists(SEGMENTS | st.text(max_size=10), max_size=5).map("/".join)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=8,
)


@pytest.fixture
async def client(receiver: Receiver) -> httpx.AsyncClient:
    """Give a client that is told of every bug, since an unforeseen exception passes through it."""
    return receiver.client


@LOOSE
@given(path=PATHS, method=st.sampled_from(["GET", "POST", "PUT", "HEAD"]), headers=HEADERS, body=st.binary(max_size=99))
async def test_stranger_never_causes_a_5xx(
    client: httpx.AsyncClient, path: str, method: str, headers: list[tuple[bytes, bytes]], body: bytes
) -> None:
    """Any method, path, headers and body without a valid token: never 2xx for a callback, never 5xx."""
    url = httpx.URL("http://receiver.test").copy_with(raw_path=_raw("/" + path))
    response = await client.request(method, url, headers=headers, content=body)
    assert response.status_code < 500
    assert response.status_code >= 400 or "healthz" in path or "readyz" in path


def _raw(path: str) -> bytes:
    safe = "".join(c if c.isascii() and c.isprintable() and c not in " ?#" else "~" for c in path)
    return safe.encode()


@SHARED
@given(body=st.binary(max_size=300), headers=HEADERS)
async def test_valid_url_never_causes_a_5xx(
    client: httpx.AsyncClient, body: bytes, headers: list[tuple[bytes, bytes]]
) -> None:
    """With a valid token any body and headers are taken, or refused for their length."""
    response = await client.post(path_of(), content=body, headers=headers)
    assert response.status_code in (200, 400, 413)


@SHARED
@given(more=st.dictionaries(st.sampled_from(["task_id", "id", "status", "result", "error", "progress", "cost"]), JSON))
async def test_valid_url_takes_any_json(client: httpx.AsyncClient, more: dict[str, Any]) -> None:
    """With a valid token any JSON of roughly the right shape gets 200."""
    response = await client.post(path_of(), content=body_of(**more))
    assert response.status_code == 200
