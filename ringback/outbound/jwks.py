"""The public keys that providers sign with: fetched from a fixed place, kept, and renewed in the background.

A request's fate never waits for a fetch: the receiver gets what is there, and answers 503 while it cannot know. Called
by `receiver.web`; the scheme in `providers.signatures` reads what was fetched.
"""

from collections.abc import Callable
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from ringback.providers import Provider
from ringback.providers.signatures import Key
from ringback.settings import Settings

if TYPE_CHECKING:
    from ringback.outbound.requests import Transport


def utc_now() -> datetime:
    """Give the time."""
    return datetime.now(UTC)


class KeySets:
    """The key sets of all providers, within one event loop."""

    def __init__(
        self, settings: Settings, *, transport: "Transport | None" = None, clock: Callable[[], datetime] = utc_now
    ) -> None:
        self._settings = settings
        self._transport = transport
        self._clock = clock

    def keys(self, provider: Provider) -> tuple[Key, ...] | None:
        """Give the newest set; None while none was ever fetched, which starts a fetch.

        A set older than a day is renewed in the background and used until the new one is there.
        """
        raise NotImplementedError

    def doubts(self, provider: Provider) -> bool:
        """Tell, after a signature that did not fit, whether a fresh set could still hold its key.

        True starts a fetch where one is allowed (at most one a minute per provider), and means: answer 503. False
        means that the set was fetched within this minute, or that it was just renewed: the request is a forgery.
        """
        raise NotImplementedError

    async def close(self) -> None:
        """End what is being fetched."""
        raise NotImplementedError
