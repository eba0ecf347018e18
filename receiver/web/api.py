"""`/api/…`: what the ledger holds, as JSON, for whoever has the admin token. It does not exist while none is set."""

import re
from datetime import UTC, datetime
from typing import Any

import msgspec
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Mount, Route

from receiver.web import shapes
from receiver.web.access import AdminOnly
from receiver.web.state import State
from ringback.ledger import Ledger, Query, Replay
from ringback.model import DeliveryState, EventType, TaskState

MOST_ROWS = 500
MOST_CHARACTERS = 256
_PROVIDER = re.compile(r"[a-z][a-z0-9]{1,31}")

# Which query parameters each list takes: the field of Query and the words it may have (None: any text).
Parameters = dict[str, tuple[str, tuple[str, ...] | None]]
TASKS: Parameters = {"provider": ("provider", None), "state": ("state", tuple(TaskState))}
EVENTS: Parameters = {
    "provider": ("provider", None),
    "type": ("type", tuple(EventType)),
    "task": ("task_id", None),
    "event": ("event_id", None),
}
DELIVERIES: Parameters = {
    "provider": ("provider", None),
    "state": ("state", tuple(DeliveryState)),
    "type": ("type", tuple(EventType)),
    "task": ("task_id", None),
    "event": ("event_id", None),
    "handler": ("handler", None),
}


def api_routes(state: State) -> Mount:
    """Give the routes, all behind the admin token."""
    api = _Api(state)
    routes = [
        Route("/tasks", api.tasks),
        Route("/tasks/{reference}", api.story),
        Route("/events", api.events),
        Route("/deliveries", api.deliveries),
        Route("/deliveries/{delivery_id}/replay", api.replay, methods=["POST"]),
        Route("/summary", api.summary),
    ]
    return Mount("/api", routes=routes, middleware=[Middleware(AdminOnly, token=state.settings.admin_token)])


class _Api:
    def __init__(self, state: State) -> None:
        self._state = state

    async def _ledger(self) -> Ledger:
        return (await self._state.open())[0]

    async def tasks(self, request: Request) -> Response:
        query = _query(request, TASKS)
        return _json({"tasks": await (await self._ledger()).tasks(query)})

    async def story(self, request: Request) -> Response:
        story = await (await self._ledger()).story(request.path_params["reference"])
        return _json(shapes.story_shape(story))

    async def events(self, request: Request) -> Response:
        query = _query(request, EVENTS)
        whole = query.event_id is not None
        events = await (await self._ledger()).events(query)
        return _json({"events": [shapes.event_shape(event, whole=whole) for event in events]})

    async def deliveries(self, request: Request) -> Response:
        query = _query(request, DELIVERIES)
        return _json(
            {"deliveries": [shapes.owed_shape(owed) for owed in await (await self._ledger()).deliveries(query)]}
        )

    async def replay(self, request: Request) -> Response:
        delivery_id = request.path_params["delivery_id"]
        ledger = await self._ledger()
        replay = Replay(query=Query(ids=(delivery_id,)), by="api", now=datetime.now(UTC))
        made = (await ledger.act(replay)).ids
        if not made:
            raise HTTPException(409, f"{delivery_id} has not settled yet: it, or its latest run, is pending or running")
        (owed,) = await ledger.deliveries(Query(ids=made))
        return _json({"delivery": shapes.delivery_shape(owed.delivery)})

    async def summary(self, _: Request) -> Response:
        return _json(shapes.summary_shape(await (await self._ledger()).summary(datetime.now(UTC))))


def _json(content: Any) -> Response:
    """Answer with JSON. The whole text is masked once more: a prompt or a header may quote a callback URL, too."""
    return Response(shapes.mask_tokens(msgspec.json.encode(content)), media_type="application/json")


def _query(request: Request, parameters: Parameters) -> Query:
    """Read the query parameters.

    Raises:
        HTTPException: 400, saying what was expected.
    """
    found: dict[str, Any] = {}
    for name, value in request.query_params.items():
        if name == "limit":
            found["limit"] = _limit(value)
        elif name in parameters:
            field, words = parameters[name]
            found[field] = _value(name, value, words)
        else:
            raise HTTPException(400, f"unknown parameter: expected one of {', '.join((*parameters, 'limit'))}")
    return Query(**found)


def _limit(value: str) -> int:
    if value.isascii() and value.isdigit() and len(value) <= len(str(MOST_ROWS)) and 1 <= int(value) <= MOST_ROWS:
        return int(value)
    raise HTTPException(400, f"limit: expected a whole number from 1 to {MOST_ROWS}")


def _value(name: str, value: str, words: tuple[str, ...] | None) -> str:
    if words is not None and value not in words:
        raise HTTPException(400, f"{name}: expected one of {', '.join(words)}")
    if name == "provider" and not _PROVIDER.fullmatch(value):
        raise HTTPException(400, "provider: expected a provider's name, such as qingbo")
    if not 1 <= len(value) <= MOST_CHARACTERS:
        raise HTTPException(400, f"{name}: expected 1 to {MOST_CHARACTERS} characters")
    return value
