"""qingbo's three endpoints, as its pages describe them (shared seed 004…, PROVIDERS.md section A)."""

import re

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from ringback.sandbox import qingbo_shape
from ringback.sandbox.book import TERMINAL, SandboxTask, State
from ringback.sandbox.qingbo_rules import MICRO_USD_PER_QUOTA, read_order
from ringback.sandbox.studio import Studio
from ringback.sandbox.wire import Refusal, answering, bearer_token, json_response, read_object, same_key

_CODES = {
    400: "invalid_request",
    401: "invalid_api_key",
    402: "insufficient_balance",
    404: "task_not_found",
    413: "request_too_large",
    429: "rate_limit_exceeded",
    500: "internal_error",
    503: "service_unavailable",
}
_MAX_WAIT_SECONDS = 60
_WAIT = re.compile(r"\s*wait\s*=\s*([0-9]{1,4})\s*")


class Qingbo:
    """The endpoints under `/v1`."""

    def __init__(self, studio: Studio) -> None:
        self._studio = studio

    def routes(self) -> list[Route]:
        """Return the provider's routes."""
        return [
            Route("/v1/tasks", answering(self._submit, _envelope), methods=["POST"]),
            Route("/v1/tasks/{task_id}", answering(self._fetch, _envelope), methods=["GET"]),
            Route("/v1/tasks/{task_id}/cancel", answering(self._cancel, _envelope), methods=["POST"]),
        ]

    async def _submit(self, request: Request) -> Response:
        self._check(request)
        key = request.headers.get("idempotency-key") or None
        order = read_order(await read_object(request), origin=str(request.base_url), key=key)
        task = self._studio.accepted_before("qingbo", key)
        if task is not None:
            return json_response(_current(task))
        task = self._studio.accept(order)
        if await self._studio.before_answer(task, wait_seconds=_wait_seconds(request)):
            return json_response(_current(task))
        return json_response(qingbo_shape.submitted(task))

    async def _fetch(self, request: Request) -> Response:
        task = self._task(request)
        task.fetches += 1
        return json_response(qingbo_shape.view(task))

    async def _cancel(self, request: Request) -> Response:
        task = self._task(request)
        if task.state is not State.QUEUED:
            raise Refusal(400, "only queued tasks can be cancelled", code="task_not_cancellable")
        self._studio.cancel(task)
        return json_response(
            {
                "task_id": task.id,
                "status": task.state,
                "refunded": True,
                "refunded_quota": task.refunded_micro_usd // MICRO_USD_PER_QUOTA,
            }
        )

    def _check(self, request: Request) -> None:
        if not same_key(bearer_token(request) or "", self._studio.config.qingbo_api_key):
            raise Refusal(401, "the API key is missing or invalid")
        self._studio.gate.check_outage()

    def _task(self, request: Request) -> SandboxTask:
        self._check(request)
        task = self._studio.book.find("qingbo", request.path_params["task_id"])
        if task is None:
            raise Refusal(404, "task not found")
        return task


def _current(task: SandboxTask) -> dict[str, object]:
    """What a repeated or a waiting submission is told: the whole task once it has ended."""
    return qingbo_shape.view(task) if task.state in TERMINAL else qingbo_shape.submitted(task, task.state)


def _wait_seconds(request: Request) -> float:
    """Read `Prefer: wait=N`, N up to 60; anything else is no wish to wait."""
    wish = _WAIT.fullmatch(request.headers.get("prefer", ""))
    return min(int(wish[1]), _MAX_WAIT_SECONDS) if wish else 0


def _envelope(refusal: Refusal) -> Response:
    error = {"message": refusal.message, "code": refusal.code or _CODES[refusal.status]}
    if refusal.param is not None:
        error["param"] = refusal.param
    return json_response({"error": error}, refusal.status, refusal.headers)
