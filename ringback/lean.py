"""Imports structlog without rich, of which it would load all to draw tracebacks: a quarter of a cold start.

Imported before anything else by the command and by `receiver.asgi`, whose processes are ours, and by nobody else. What
structlog draws with rich it draws all the same, for whoever asks for it: rich is imported then.
"""

import importlib
import sys
from types import ModuleType
from typing import Any

# What structlog asks for when it is imported; where it asks for more one day, it does without rich.
NEEDED = {"rich": "pretty", "rich.console": "Console", "rich.traceback": "Traceback", "rich.pretty": "traverse"}


class _Later:
    """A thing of rich that is imported when it is used."""

    def __init__(self, name: str) -> None:
        self._module, _, self._name = name.rpartition(".")

    def __call__(self, *arguments: Any, **options: Any) -> Any:
        return self._real()(*arguments, **options)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._real(), name)

    def _real(self) -> Any:
        importlib.import_module("rich.pretty")  # which is an attribute of rich only then
        return getattr(importlib.import_module(self._module), self._name)


def import_structlog() -> None:
    """Import it with stand-ins for rich; nothing happens where either is there already."""
    if not {"rich", "structlog"}.isdisjoint(sys.modules):
        return
    for module, name in NEEDED.items():
        stand_in = ModuleType(module)
        setattr(stand_in, name, _Later(f"{module}.{name}"))
        sys.modules[module] = stand_in
    try:
        importlib.import_module("structlog")
    finally:
        for module in NEEDED:
            del sys.modules[module]


import_structlog()
