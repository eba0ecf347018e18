"""What happens after a push: the web application that takes it, and the handlers that you write for it."""

from typing import TYPE_CHECKING, Any

from receiver.handlers import Event, Handlers
from receiver.outcomes import Discard, Retry, Snooze

if TYPE_CHECKING:
    from receiver.web.app import create_app

__all__ = ["Discard", "Event", "Handlers", "Retry", "Snooze", "create_app"]


def __getattr__(name: str) -> Any:
    # Imported when first asked for, so that a worker process never loads the web framework.
    if name == "create_app":
        from receiver.web.app import create_app

        return create_app
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
