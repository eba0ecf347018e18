"""Ringback: don't poll, they'll ring back. The ground that receiver and submitter stand on, and the command.

Here are the settings, the records that users meet, and every error. Each is imported when it is first asked for: the
command, which has this package as its parent, stays quick. What a handler gets is `receiver.Event`.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ringback.errors import (
        AttemptLost,
        BudgetExceeded,
        CostTooHigh,
        DownloadError,
        DownloadExpired,
        DownloadInterrupted,
        DownloadRefused,
        HandlersError,
        InvalidSubmission,
        KeyConflict,
        LedgerError,
        LedgerMismatch,
        LedgerMissing,
        LedgerRejected,
        LedgerUnavailable,
        NotCancelled,
        NotFound,
        RingbackError,
        SettingsError,
        StorageError,
        SubmissionRefused,
        Unauthentic,
        UnknownProvider,
        Unreachable,
        Unreadable,
        Unsupported,
    )
    from ringback.model import EventType, Form, Result, Source, Task, TaskError, TaskState, Trust
    from ringback.retry import Policy
    from ringback.settings import ProviderSettings, Settings

__all__ = [
    "AttemptLost",
    "BudgetExceeded",
    "CostTooHigh",
    "DownloadError",
    "DownloadExpired",
    "DownloadInterrupted",
    "DownloadRefused",
    "EventType",
    "Form",
    "HandlersError",
    "InvalidSubmission",
    "KeyConflict",
    "LedgerError",
    "LedgerMismatch",
    "LedgerMissing",
    "LedgerRejected",
    "LedgerUnavailable",
    "NotCancelled",
    "NotFound",
    "Policy",
    "ProviderSettings",
    "Result",
    "RingbackError",
    "Settings",
    "SettingsError",
    "Source",
    "StorageError",
    "SubmissionRefused",
    "Task",
    "TaskError",
    "TaskState",
    "Trust",
    "Unauthentic",
    "UnknownProvider",
    "Unreachable",
    "Unreadable",
    "Unsupported",
]

_ELSEWHERE = {"Policy": "retry", "ProviderSettings": "settings", "Settings": "settings"}
_RECORDS = frozenset({"EventType", "Form", "Result", "Source", "Task", "TaskError", "TaskState", "Trust"})


def __getattr__(name: str) -> Any:
    """Import a name of `__all__` from the module that defines it."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    home = _ELSEWHERE.get(name, "model" if name in _RECORDS else "errors")
    value = getattr(importlib.import_module(f"{__name__}.{home}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
