"""The sandbox's own endpoints under `/_sandbox`: its tasks, its books, an outage, its health.

For people and tests; no provider has them and they need no key.
"""

from typing import Any

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from ringback.sandbox.book import Push, SandboxTask
from ringback.sandbox.push import masked
from ringback.sandbox.studio import Studio
from ringback.sandbox.wire import Refusal, answering, json_response, read_object

_MAX_OUTAGE_SECONDS = 86_400


class Control:
    """The routes under `/_sandbox`."""

    def __init__(self, studio: Studio) -> None:
        self._studio = studio

    def routes(self) -> list[Route]:
        """Return the control routes."""
        return [
            Route("/_sandbox/healthz", self._health),
            Route("/_sandbox/tasks", self._tasks),
            Route("/_sandbox/books", self._books),
            Route("/_sandbox/outage", answering(self._outage, _envelope), methods=["POST"]),
        ]

    async def _health(self, request: Request) -> Response:  # noqa: ARG002 - an endpoint's signature
        return json_response({"status": "ok"})

    async def _tasks(self, request: Request) -> Response:  # noqa: ARG002 - an endpoint's signature
        return json_response({"tasks": [_shown(task) for task in self._studio.book.tasks()]})

    async def _books(self, request: Request) -> Response:  # noqa: ARG002 - an endpoint's signature
        book = self._studio.book
        return json_response(
            {
                "tasks": len(book),
                "providers": {provider: _sums(book.tasks(provider)) for provider in ("qingbo", "reapi")},
                "faults": book.fault_counts(),
                "pushes": book.push_counts(),
            }
        )

    async def _outage(self, request: Request) -> Response:
        seconds = (await read_object(request)).get("seconds")
        if isinstance(seconds, bool) or not isinstance(seconds, int | float) or not 0 <= seconds <= _MAX_OUTAGE_SECONDS:
            raise Refusal(400, f"seconds must be a number from 0 to {_MAX_OUTAGE_SECONDS}")
        self._studio.gate.start_outage(seconds)
        return json_response({"outage_seconds": seconds})


def _shown(task: SandboxTask) -> dict[str, Any]:
    url = task.order.callback_url
    return {
        "provider": task.order.provider,
        "id": task.id,
        "status": task.state,
        "prompt": task.order.prompt,
        "created_at": task.created_at,
        "ended_at": task.ended_at,
        "charged_micro_usd": task.charged_micro_usd,
        "refunded_micro_usd": task.refunded_micro_usd,
        "callback_url": None if url is None else masked(url),
        "pushes": [_shown_push(push) for push in task.pushes],
        "fetches": task.fetches,
        "faults_asked": sorted(task.faults),
        "faults": dict(+task.happened),
    }


def _shown_push(push: Push) -> dict[str, Any]:
    return {
        "kind": push.kind,
        "target": push.target,
        "outcome": push.outcome,
        "status_code": push.status_code,
        "error": push.error,
        "at": push.at,
    }


def _sums(tasks: list[SandboxTask]) -> dict[str, Any]:
    states: dict[str, int] = {}
    for task in tasks:
        states[task.state] = states.get(task.state, 0) + 1
    charged = sum(task.charged_micro_usd for task in tasks)
    refunded = sum(task.refunded_micro_usd for task in tasks)
    return {
        "tasks": len(tasks),
        "by_status": states,
        "charged_micro_usd": charged,
        "refunded_micro_usd": refunded,
        "spent_micro_usd": charged - refunded,
    }


def _envelope(refusal: Refusal) -> Response:
    return json_response({"error": {"message": refusal.message}}, refusal.status)
