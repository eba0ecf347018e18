"""Puts the receiver together: `create_app` gives a Starlette application that can run alone or mounted under a path.

With a lifespan the ledger is opened at start and a failure stops the server; without one (mounted in another
application, or behind a function adapter) it is opened at the first request that needs it. Called by `receiver.asgi`,
by the command and by users who mount it.
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.routing import BaseRoute, Route
from starlette.types import Receive, Scope, Send

from receiver.web.answers import answer_bug, exception_handlers
from receiver.web.api import api_routes
from receiver.web.callbacks import PREFIX, Callbacks
from receiver.web.health import Health
from receiver.web.metrics import Metrics
from receiver.web.state import State
from ringback.ledger import Ledger
from ringback.settings import Settings


def create_app(settings: Settings | None = None, *, ledger: Ledger | None = None) -> Starlette:
    """Make the receiver.

    Args:
        settings: every knob; read from the environment where left out.
        ledger: an open ledger to share; the caller closes it. Where left out, the application opens and closes its own.

    Raises:
        SettingsError: a knob in the environment is wrong.
    """
    state = State(settings or Settings.from_environ(), ledger)

    @asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        await state.open()
        try:
            yield
        finally:
            await state.close()

    callbacks = Callbacks(state)
    app = Receiver(
        callbacks, routes=_routes(state, callbacks), exception_handlers=exception_handlers(), lifespan=lifespan
    )
    app.router.redirect_slashes = False  # a provider that meets a redirect loses the callback (PROVIDERS D, 2)
    app.state.receiver = state
    return app


class Receiver(Starlette):
    """Hands callbacks to their endpoint directly; everything else takes Starlette's way.

    The endpoint is a route like the others, so nothing depends on this; but the router, and the layers for sessions
    of exceptions around it, cost as much per request as checking the token and reading the body do.
    """

    def __init__(self, callbacks: Callbacks, **options: Any) -> None:
        super().__init__(**options)
        self.callbacks = callbacks

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] == "http":
            mounted = len(scope.get("root_path", ""))
            path: str = scope["path"]
            if path.startswith(PREFIX, mounted):
                try:
                    await self.callbacks.serve(scope, receive, send, path[mounted + len(PREFIX) :])
                except Exception as error:  # a bug of ours, before anything was answered: as Starlette does
                    await (await answer_bug(Request(scope), error))(scope, receive, send)
                    raise
                return
        await super().__call__(scope, receive, send)


def _routes(state: State, callbacks: Callbacks) -> list[BaseRoute]:
    """List the routes, the busy one first."""
    health = Health(state)
    return [
        Route(PREFIX + "{address:path}", callbacks),
        Route("/healthz", health.live),
        Route("/readyz", health.ready),
        Route("/metrics", Metrics(state).show),
        api_routes(state),
    ]
