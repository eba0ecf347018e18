"""Who may see what is not for everybody: `Authorization: Bearer <admin token>`, compared in constant time."""

import hmac

from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Receive, Scope, Send


def check_admin(scope: Scope, token: str | None) -> None:
    """Let only the administrator pass.

    Raises:
        HTTPException: 404 while no token is set (there is nothing here), 401 without the right one.
    """
    if token is None:
        raise HTTPException(404)
    for name, value in scope["headers"]:
        scheme, _, given = value.partition(b" ")
        if name == b"authorization" and scheme.lower() == b"bearer":
            if hmac.compare_digest(given.strip(), token.encode()):
                return
            break
    raise HTTPException(401, headers={"WWW-Authenticate": 'Bearer realm="ringback"'})


class AdminOnly:
    """Guards everything below it, unknown paths included."""

    def __init__(self, app: ASGIApp, token: str | None) -> None:
        self._app = app
        self._token = token

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, or raise."""
        check_admin(scope, self._token)
        await self._app(scope, receive, send)
