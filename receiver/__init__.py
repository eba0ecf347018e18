"""What happens after a push: the web application that takes it, and the handlers that you write for it.

Each name is imported when it is first asked for: so a worker process never loads the web framework, and a receiver
behind a function adapter never what runs handlers.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from receiver.handlers import Event, Handlers
    from receiver.outcomes import Discard, Retry, Snooze
    from receiver.web.app import create_app

__all__ = ["Discard", "Event", "Handlers", "Retry", "Snooze", "create_app"]

_HOMES = {
    "Discard": "outcomes",
    "Event": "handlers",
    "Handlers": "handlers",
    "Retry": "outcomes",
    "Snooze": "outcomes",
    "create_app": "web.app",
}


def __getattr__(name: str) -> Any:
    """Import a name of `__all__` from the module that defines it."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
