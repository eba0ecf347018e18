"""The yardsticks: they read the body and answer 204, and do nothing else; with Starlette, and as ASGI alone."""

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import Receive, Scope, Send


async def take(request: Request) -> Response:
    """Read the body and answer."""
    await request.body()
    return Response(status_code=204)


app = Starlette(routes=[Route("/callbacks/{rest:path}", take, methods=["POST"])])


async def asgi(scope: Scope, receive: Receive, send: Send) -> None:
    """Read the body and answer, whatever the path; no framework."""
    if scope["type"] != "http":
        raise NotImplementedError(scope["type"])
    while (await receive()).get("more_body", False):
        pass
    await send({"type": "http.response.start", "status": 204, "headers": []})
    await send({"type": "http.response.body", "body": b""})
