"""What all routes of one application share: settings, the ledger and its intake, counts, and bytes in flight.

It opens the ledger once, whoever comes first, and closes only what it opened. Made by `create_app`.
"""

import time
from collections.abc import AsyncGenerator
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import structlog

from receiver.web.admission import Admission
from receiver.web.board import Board, Counts
from receiver.web.fresh import Fresh
from receiver.web.rejections import Rejections
from receiver.web.tally import Tally
from ringback.confirming import unconfirmable, unverifiable
from ringback.errors import LedgerError, LedgerUnavailable
from ringback.intake import Intake
from ringback.ledger import Ledger, open_ledger
from ringback.patience import Patience
from ringback.providers.signatures import fingerprint
from ringback.settings import Settings

if TYPE_CHECKING:
    from ringback.outbound import KeySets

log = structlog.get_logger("ringback.receiver")

OPEN_RETRY_SECONDS = 1.0  # requests that come sooner after a failed opening share its error


class State:
    """The shared state of one receiver application, within one event loop."""

    def __init__(self, settings: Settings, ledger: Ledger | None = None) -> None:
        self.settings = settings
        self.ledger: Ledger | None = None  # None until it is open
        self.intake: Intake | None = None
        self.inflight_bytes = 0
        self.admission = Admission()
        self.patience: Patience[Any] = Patience(lambda body: body.is_over(), lambda body: body.give_up())
        self.tally = Tally()
        self.rejections = Rejections(lambda: self.ledger)
        self.write_error: str | None = None  # the writer's last result, as strangers may know it …
        self.written_at = float("-inf")  # … and when, on the monotonic clock
        self._board: Board | None = None
        self._is_first = True  # of those that serve alike; it speaks for all of them
        self._given = ledger
        self._key_sets: KeySets | None = None
        self._opening = Fresh(OPEN_RETRY_SECONDS, self._try_open)
        self._watch: AsyncGenerator[None, None] | None = None

    async def open(self) -> tuple[Ledger, Intake]:
        """Give the ledger and its intake, opening them where nobody has yet.

        Raises:
            LedgerError: they cannot be opened; another try is made after a second.
        """
        if self.ledger is None or self.intake is None:
            if error := await self._opening.get():
                raise type(error)(str(error))
            if self.ledger is None or self.intake is None:  # closed meanwhile: the process is stopping
                raise LedgerUnavailable("the receiver is stopping")
        return self.ledger, self.intake

    @property
    def key_sets(self) -> "KeySets":
        """The public keys of providers, fetched when the first callback needs them."""
        if self._key_sets is None:
            from ringback.outbound import KeySets

            self._key_sets = KeySets(self.settings)
        return self._key_sets

    def has_room(self, size: int, held: int = 0) -> bool:
        """Tell whether a body may take so many bytes, of which it holds some; one that is alone always may."""
        others = self.inflight_bytes - held
        return not others or others + size <= self.settings.max_inflight_bytes

    def share(self, board: Board, seat: int) -> None:
        """Count together with others, and go on from what was counted in this seat before."""
        self._board, before = board, board.sit(seat)
        self._is_first = seat == 0 and before is None
        if before is not None:
            self.tally.verdicts.update(before.verdicts)
            self.tally.latencies = before.latencies
            self.tally.latency_sum = before.latency_sum
            self.rejections.totals.update(before.rejections)

    def counts(self) -> Counts:
        """Give what this process counts."""
        tally = self.tally
        return Counts(
            verdicts=tally.verdicts,
            rejections=self.rejections.totals,
            latencies=tally.latencies,
            latency_sum=tally.latency_sum,
            inflight_bytes=self.inflight_bytes,
        )

    def all_counts(self) -> Counts:
        """Give what all processes at this socket count; the others' are up to a second old."""
        return sum(self._board.others() if self._board is not None else (), self.counts())

    def note_write(self, error: LedgerError | None) -> None:
        """Remember how the last writing ended, for readiness."""
        self.write_error = None if error is None else error.public
        self.written_at = time.monotonic()

    async def close(self) -> None:
        """Save the counts and close the ledger, if it was opened here."""
        if self._key_sets is not None:
            await self._key_sets.close()
        await self.rejections.close()
        if self._board is not None:
            self._board.post(self.counts())
        ledger, self.ledger, self.intake = self.ledger, None, None
        self._opening = Fresh(OPEN_RETRY_SECONDS, self._try_open)
        if ledger is not None and ledger is not self._given:
            await ledger.close()

    async def _try_open(self) -> LedgerError | None:
        try:
            await self._open()
        except LedgerError as error:
            log.error("receiver.ledger_unavailable", error=str(error))  # noqa: TRY400 -- it is no bug
            return error
        return None

    async def _open(self) -> None:
        ledger = self._given or await open_ledger(self.settings, create=True)
        try:
            await ledger.enlist_keys([fingerprint(secret) for secret in self.settings.secret], datetime.now(UTC))
        except BaseException:
            if ledger is not self._given:
                await ledger.close()
            raise
        self.ledger, self.intake = ledger, Intake(ledger, self.settings)
        self._watch = self._close_with_loop(ledger)
        await anext(self._watch)
        if self._is_first:
            self._warn_about_settings()

    async def _close_with_loop(self, ledger: Ledger) -> AsyncGenerator[None, None]:
        """Close the ledger where no lifespan does: a loop that ends in order closes its generators (this one) last."""
        try:
            yield
        finally:
            if self.ledger is ledger:
                await self.close()

    def _warn_about_settings(self) -> None:
        if not self.settings.secret:
            log.warning("receiver.no_secret", consequence="callbacks get 503", fix="set RINGBACK_SECRET")
        if self.settings.public_url is None:
            log.warning("receiver.no_public_url", consequence="no callback_url is sent", fix="set RINGBACK_PUBLIC_URL")
        for provider, fix in unconfirmable(self.settings):
            consequence = "its callbacks are hints, which nothing can confirm"
            log.warning("receiver.cannot_confirm", provider=provider.name, consequence=consequence, fix=fix)
        for provider, fix in unverifiable(self.settings, datetime.now(UTC)):
            consequence = "its callbacks get 503"
            log.warning("receiver.cannot_verify", provider=provider.name, consequence=consequence, fix=fix)
