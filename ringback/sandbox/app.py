"""The sandbox as an ASGI application; its lifespan stops all background work."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from starlette.applications import Starlette

from ringback.sandbox.config import SandboxConfig
from ringback.sandbox.control import Control
from ringback.sandbox.media import Media
from ringback.sandbox.qingbo import Qingbo
from ringback.sandbox.reapi import Reapi
from ringback.sandbox.studio import Studio


def create_sandbox(config: SandboxConfig | None = None) -> Starlette:
    """Return the application; its `state.studio` holds the books."""
    studio = Studio(config or SandboxConfig())

    @asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:  # noqa: ARG001 - Starlette's signature
        try:
            yield
        finally:
            await studio.close()

    parts = (Qingbo(studio), Reapi(studio), Media(studio.book), Control(studio))
    app = Starlette(routes=[route for part in parts for route in part.routes()], lifespan=lifespan)
    # A redirected POST would be a lost one.
    app.router.redirect_slashes = False
    app.state.studio = studio
    return app
