"""The receiver inside an application of your own, under a path.

Run it with: RINGBACK_PUBLIC_URL=https://app.example.com/ringback uvicorn --no-access-log examples.mounted:app
Handlers run elsewhere: ringback work --handlers examples.handlers:handlers, and ringback poll beside it.
"""

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import Mount, Route

from receiver import create_app


async def home(_: Request) -> PlainTextResponse:
    """Show that the rest of the application is still there."""
    return PlainTextResponse("My application. Callbacks come in under /ringback/callbacks/.")


# Settings come from the environment. Nobody runs the lifespan of a mounted application, so it opens its ledger at the
# first request that needs it.
app = Starlette(routes=[Route("/", home), Mount("/ringback", create_app())])
