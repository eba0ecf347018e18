"""Puts the receiver together: `create_app` gives a Starlette application that can run alone or mounted under a path.

With a lifespan the ledger is opened at start and a failure stops the server; without one (mounted in another
application, or behind a function adapter) it is opened at the first request that needs it. Called by `receiver.asgi`,
by the command and by users who mount it.
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from starlette.applications import Starlette
from starlette.routing import BaseRoute, Route

from receiver.web.answers import exception_handlers
from receiver.web.api import api_routes
from receiver.web.callbacks import Callbacks
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

    app = Starlette(routes=_routes(state), exception_handlers=exception_handlers(), lifespan=lifespan)
    app.router.redirect_slashes = False  # a provider that meets a redirect loses the callback (PROVIDERS D, 2)
    app.state.receiver = state
    return app


def _routes(state: State) -> list[BaseRoute]:
    """List the routes, the busy one first."""
    health = Health(state)
    return [
        Route("/callbacks/{address:path}", Callbacks(state)),
        Route("/healthz", health.live),
        Route("/readyz", health.ready),
        Route("/metrics", Metrics(state).show),
        api_routes(state),
    ]
