"""reAPI's two endpoints, as its page describes them (shared seed 000…, PROVIDERS.md section B).

No callbacks and no idempotency: a repeated submission is a second task and a second charge.
"""

import secrets
from typing import Any

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from ringback.sandbox.book import SandboxTask, State
from ringback.sandbox.reapi_rules import read_order
from ringback.sandbox.studio import Studio
from ringback.sandbox.wire import Refusal, answering, bearer_token, json_response, read_object, same_key

_NO_HEADER, _NOT_BEARER, _INVALID_KEY = 10001, 10002, 10003
_BAD_VALUE, _CONTENT_POLICY = 20003, 80006
_STATUSES = {State.COMPLETED: "completed", State.FAILED: "failed"}


class Reapi:
    """The endpoints under `/api/v1`."""

    def __init__(self, studio: Studio) -> None:
        self._studio = studio

    def routes(self) -> list[Route]:
        """Return the provider's routes."""
        return [
            Route("/api/v1/videos/generations", answering(self._submit, _envelope), methods=["POST"]),
            Route("/api/v1/tasks/{task_id}", answering(self._fetch, _envelope), methods=["GET"]),
        ]

    async def _submit(self, request: Request) -> Response:
        self._check(request)
        body = await read_object(request)
        rate = self._studio.config.reapi_usd_per_second
        task = self._studio.accept(read_order(body, origin=str(request.base_url), usd_per_second=rate))
        shown = _head(task) | {"status": "processing"}
        await self._studio.before_answer(task)
        return json_response(shown)

    async def _fetch(self, request: Request) -> Response:
        self._check(request)
        task = self._studio.book.find("reapi", request.path_params["task_id"])
        if task is None:
            raise Refusal(404, "task not found")
        task.fetches += 1
        return json_response(_view(task))

    def _check(self, request: Request) -> None:
        token = bearer_token(request)
        if token is None:
            raise Refusal(401, "missing Authorization header", code=_NO_HEADER)
        if not token:
            raise Refusal(401, "Authorization must be a Bearer token", code=_NOT_BEARER)
        if not same_key(token, self._studio.config.reapi_api_key):
            raise Refusal(401, "invalid API key", code=_INVALID_KEY)
        self._studio.gate.check_outage()


def _head(task: SandboxTask) -> dict[str, Any]:
    return {
        "id": task.id,
        "model": task.order.model,
        "status": _STATUSES.get(task.state, "processing"),
        "created_at": int(task.created_at.timestamp()),
    }


def _view(task: SandboxTask) -> dict[str, Any]:
    output = error = None
    if task.state is State.COMPLETED:
        name = task.id.removeprefix("task_")  # the page's sample URL has the bare hex
        output = {"video_urls": [f"{task.order.origin}media/tasks/{name}/0.mp4"]}
    if task.state is State.FAILED:
        error = {"code": _CONTENT_POLICY, "message": "the request was rejected by the content policy"}
    return _head(task) | {"output": output, "error": error}


def _envelope(refusal: Refusal) -> Response:
    # The catalogue's codes for the other statuses are unknown to us; the status itself stands in for them.
    code = refusal.code or (_BAD_VALUE if refusal.status == 400 else refusal.status)
    error = {"code": code, "message": refusal.message, "request_id": f"req_{secrets.token_hex(12)}"}
    return json_response({"error": error}, refusal.status, refusal.headers)
