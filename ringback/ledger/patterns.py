"""PURE. Which events a handler listens for. Called by `receiver.handlers` and by each engine's fan-out."""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache


@dataclass(frozen=True, slots=True, kw_only=True)
class Pattern:
    """What a handler listens for. `*` stands for any text; nothing else is special."""

    event: str = "*"
    provider: str = "*"
    model: str = "*"

    def fits(self, event_type: str, provider: str, model: str | None) -> bool:
        """Tell whether such an event is meant. One without a model fits `model="*"` only."""
        return (
            fits(self.event, event_type)
            and fits(self.provider, provider)
            and (self.model == "*" if model is None else fits(self.model, model))
        )


def any_fits(patterns: Iterable[Pattern], event_type: str, provider: str, model: str | None) -> bool:
    """Tell whether one of a handler's patterns fits such an event."""
    return any(pattern.fits(event_type, provider, model) for pattern in patterns)


def fits(pattern: str, text: str) -> bool:
    """Tell whether one part of a pattern fits a text."""
    return pattern in ("*", text) or _compiled(pattern).fullmatch(text) is not None


@lru_cache(maxsize=1024)
def _compiled(pattern: str) -> re.Pattern[str]:
    return re.compile(".*".join(re.escape(part) for part in pattern.split("*")), re.DOTALL)
