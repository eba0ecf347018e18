"""docs/reference/http.md says what the application does."""

import re
from collections.abc import Iterator
from pathlib import Path

from starlette.routing import BaseRoute, Mount, Route

from receiver.web import create_app
from receiver.web.answers import ANSWERS

from .conftest import MakeSettings

PAGE = Path(__file__).parents[2] / "docs" / "reference" / "http.md"
CALLBACKS = {"POST /callbacks/{provider}/{task_id}.{mac}", "POST /callbacks/{provider}"}


def routes_of(routes: list[BaseRoute], prefix: str = "") -> Iterator[str]:
    """Walk the routes as the page writes them; the one of callbacks stands for two."""
    for route in routes:
        if isinstance(route, Mount):
            yield from routes_of(route.routes, prefix + route.path)
        elif isinstance(route, Route) and route.path == "/callbacks/{address:path}":
            yield from CALLBACKS
        elif isinstance(route, Route):
            (method,) = (route.methods or set()) - {"HEAD"}
            yield f"{method} {prefix}{route.path}"


def test_every_route_is_documented(make_settings: MakeSettings) -> None:
    """The page lists the routes that exist, and no others."""
    documented = re.findall(r"^\| `((?:GET|POST) [^`]+)`", PAGE.read_text(), re.MULTILINE)
    assert sorted(documented) == sorted(routes_of(create_app(make_settings()).routes))


def test_every_status_is_documented() -> None:
    """The page's table has each status that a callback can get."""
    documented = {int(status) for status in re.findall(r"^\| (\d{3}) \|", PAGE.read_text(), re.MULTILINE)}
    assert documented == {200} | {answer.status for answer in ANSWERS.values()}
