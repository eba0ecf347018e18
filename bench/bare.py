"""The yardstick: a Starlette route that reads the body and answers 204, and does nothing else."""

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route


async def take(request: Request) -> Response:
    """Read the body and answer."""
    await request.body()
    return Response(status_code=204)


app = Starlette(routes=[Route("/callbacks/{rest:path}", take, methods=["POST"])])
