"""The hot path: takes one callback from a provider, and answers 200 once it is stored.

A raw ASGI endpoint: no Request object, headers as bytes, so that the commit is the only thing that costs. All that can
be known without the body is checked before the body is read; no handler's code is imported here.
"""

import asyncio
import time
from datetime import UTC, datetime, timedelta
from typing import Protocol

import structlog
from starlette.types import Receive, Scope, Send

from receiver.web import answers
from receiver.web.answers import Reason, Refused
from receiver.web.body import Room, declared_length, read_body
from receiver.web.headers import kept_headers
from receiver.web.heads import Head, Kept
from receiver.web.state import State
from ringback.errors import LedgerError, LedgerRejected, LedgerUnavailable, Unauthentic
from ringback.model import Arrival, Callback, Receipt, Trust
from ringback.providers import Provider, handshakes
from ringback.providers.handshakes import Reply
from ringback.providers.signatures import TASK_ID, Headers, Key, Scheme, token_is_valid
from ringback.providers.signatures.scheme import Flaw

log = structlog.get_logger("ringback.receiver")

UNKNOWN = "unknown"
PREFIX = "/callbacks/"
OVERLOADED = Refused(Reason.OVERLOADED)


class _Visit:
    """One request, and what is known about it so far: a refusal tells how far it came."""

    __slots__ = ("began", "head", "name", "task_id")

    def __init__(self, head: Head, began: float) -> None:
        self.began = began
        self.head = head
        self.name = UNKNOWN
        self.task_id: str | None = None


class Exchange(Protocol):
    """A request whose body is whole, and where its answer goes: one of these is called, once."""

    def accept(self, receipt: Receipt) -> None:
        """Answer that it is stored."""

    def refuse(self, refused: Refused) -> None:
        """Answer that it is turned away."""

    def decline(self) -> None:
        """Have it served by `Callbacks.serve`."""


class _Taken:
    """A callback that waits for its commit outside of any coroutine, and what is left to do then."""

    __slots__ = ("_callbacks", "_exchange", "_is_told", "arrival", "visit")

    def __init__(self, callbacks: "Callbacks", visit: _Visit, arrival: Arrival, exchange: Exchange) -> None:
        self._callbacks = callbacks
        self._exchange = exchange
        self._is_told = False
        self.visit = visit
        self.arrival = arrival

    def done(self) -> bool:
        """Tell whether it was answered."""
        return self._is_told

    def set_result(self, receipt: Receipt) -> None:
        """Answer that it is stored."""
        self._is_told = True
        try:
            try:
                self._callbacks.note_stored(self, receipt)
            finally:
                self._exchange.accept(receipt)
        except Exception:  # the writer, which calls this, must outlive a connection's trouble
            log.exception("callback.unanswered", task=receipt.task_id, event_id=receipt.event_id)

    def set_exception(self, error: Exception) -> None:
        """Answer that it is not."""
        self._is_told = True
        refused = Refused(Reason.UNAVAILABLE)
        try:
            try:
                refused = self._callbacks.note_unstored(self, error)
            finally:
                self._exchange.refuse(refused)
        except Exception:
            log.exception("callback.unanswered", task=self.visit.task_id)


class Callbacks:
    """The endpoint of `POST /callbacks/{provider}/{task_id}.{mac}` and `POST /callbacks/{provider}`."""

    def __init__(self, state: State) -> None:
        self._state = state
        settings = state.settings
        self._providers = {name: provider for name, provider in settings.catalogue.items() if provider.pushes}
        self._keys = {name: settings.keys(name) for name in self._providers}
        self._first = {
            name: frozenset(header.encode() for header in provider.kept_headers)
            for name, provider in self._providers.items()
        }
        self._never = {
            name: frozenset(header.encode() for header in provider.secret_headers)
            for name, provider in self._providers.items()
        }
        self._tolerance = timedelta(seconds=settings.tolerance_seconds)
        self._crowd: list[tuple[str, Head, bytes, Exchange]] = []

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request as a Starlette endpoint."""
        await self.serve(scope, receive, send, scope["path_params"]["address"])

    async def serve(self, scope: Scope, receive: Receive, send: Send, address: str) -> None:
        """Serve one request to this address, which is what follows `/callbacks/` in the path."""
        visit = _Visit(Head(scope["headers"]), time.perf_counter())
        try:
            provider = self._route(visit, scope["method"], address)
            if scope["method"] != "POST":
                reply = _challenge(visit, provider, scope, b"")
                if reply is None:
                    raise Refused(Reason.METHOD)
                await answers.greet(send, reply)
                return
            taken = await self._take(visit, provider, scope, receive)
        except Refused as refused:
            self._reject(visit, refused)
            if refused.reason is not Reason.DISCONNECTED:
                await answers.refuse(receive, send, refused)
            return
        if isinstance(taken, Reply):
            log.info("callback.challenged", provider=visit.name, task=visit.task_id)
            await answers.greet(send, taken)
            return
        self._state.tally.accept(visit.name, taken.verdict.value, time.perf_counter() - visit.began)
        await answers.accept(send, taken)

    def take_soon(self, path: str, head: Head, body: bytes, exchange: Exchange) -> None:
        """Take a POSTed callback whose body is here already, with all others of this turn of the event loop.

        `serve` does the same in more steps. One after the other, without anything else between them, they cost half.
        """
        if self._state.admission.is_full(len(self._crowd)):
            self._shed(path, exchange)
            return
        if not self._crowd:
            asyncio.get_running_loop().call_soon(self._take_crowd)
        self._crowd.append((path, head, body, exchange))

    def _shed(self, path: str, exchange: Exchange) -> None:
        """Turn away one of too many, before anything is spent on it."""
        name = path[len(PREFIX) :].partition("/")[0]
        self._state.rejections.add(name if name in self._providers else UNKNOWN, OVERLOADED.word)
        exchange.refuse(OVERLOADED)

    def _take_crowd(self) -> None:
        crowd, self._crowd = self._crowd, []
        now, began = datetime.now(UTC), time.perf_counter()
        for path, head, body, exchange in crowd:
            try:
                self._take_one(_Visit(head, began), path, body, now, exchange)
            except Exception:  # the others of this turn must outlive a connection's trouble
                log.exception("callback.unanswered")

    def _take_one(self, visit: _Visit, path: str, body: bytes, now: datetime, exchange: Exchange) -> None:
        try:
            taken = self._take_whole(visit, path, body, now, exchange)
        except Refused as refused:
            try:
                self._reject(visit, refused)
            finally:
                exchange.refuse(refused)
        except Exception:  # a bug of ours: in the ordinary way it is answered, and harms nobody else
            log.exception("callback.untaken", provider=visit.name, task=visit.task_id)
            exchange.decline()
        else:
            if not taken:
                exchange.decline()

    def _take_whole(self, visit: _Visit, path: str, body: bytes, now: datetime, exchange: Exchange) -> bool:
        """Take it, unless it needs more: a challenge, one that is too large, or before the ledger is open."""
        state, settings, size = self._state, self._state.settings, len(body)
        if state.intake is None or size > settings.max_body_bytes or not state.has_room(size):
            return False
        provider = self._route(visit, "POST", path[len(PREFIX) :])
        if provider.handshakes:
            return False
        trust = self._verify(visit, provider, body, now)
        callback = Callback(body=body, headers=self._kept(visit), received_at=now)
        arrival = state.intake.arrival(provider, visit.task_id, trust, callback)
        state.inflight_bytes += size
        state.admission.enter(visit.began)
        state.intake.enter_for(_Taken(self, visit, arrival, exchange), arrival)
        return True

    def note_stored(self, taken: _Taken, receipt: Receipt) -> None:
        """Count a callback that was taken whole and is stored."""
        state, now = self._state, time.perf_counter()
        state.inflight_bytes -= len(taken.arrival.callback.body)
        state.admission.leave(now)
        if state.intake is not None:
            state.intake.tell(taken.arrival, receipt)
        state.note_write(None)
        state.tally.accept(taken.visit.name, receipt.verdict.value, now - taken.visit.began)

    def note_unstored(self, taken: _Taken, error: Exception) -> Refused:
        """Count one that could not be stored; gives how it is answered."""
        self._state.inflight_bytes -= len(taken.arrival.callback.body)
        self._state.admission.leave(time.perf_counter())
        if not isinstance(error, LedgerError):  # a bug of ours: tried again, it may well go better
            log.error("callback.failed", task=taken.visit.task_id, error=type(error).__name__)
            error = LedgerUnavailable(f"the ledger failed ({type(error).__name__})")
        refused = self._refused_by_ledger(error)
        self._reject(taken.visit, refused)
        return refused

    def _reject(self, visit: _Visit, refused: Refused) -> None:
        self._state.rejections.add(visit.name, refused.word, visit.task_id, refused.detail)

    def _route(self, visit: _Visit, method: str, address: str) -> Provider:
        """Find the provider, and check the token of a per-task URL."""
        name, slash, tail = address.removesuffix("/").partition("/")
        provider = self._providers.get(name)
        if method != "POST" and not (provider and provider.handshakes):
            raise Refused(Reason.METHOD)
        if provider is None:
            raise Refused(Reason.UNKNOWN_PROVIDER)
        visit.name = name
        if slash:
            self._check_token(visit, tail)
        elif not self._has_account_endpoint(provider):
            raise Refused(Reason.PATH)
        return provider

    def _has_account_endpoint(self, provider: Provider) -> bool:
        """Tell whether callbacks without a task in their URL can be told from a stranger's, or are only hints."""
        if provider.open_endpoint:
            return True
        return provider.account_endpoint and not (provider.scheme_optional and not self._keys[provider.name])

    def _check_token(self, visit: _Visit, tail: str) -> None:
        task_id, _, mac = tail.rpartition(".")
        if not TASK_ID.fullmatch(task_id):
            raise Refused(Reason.PATH)
        visit.task_id = task_id
        if not self._state.settings.secret:
            raise Refused(Reason.NO_SECRET)
        # Servers differ in how they decode a path: whatever it became, it is compared as bytes.
        given = mac.encode("utf-8", "surrogatepass")
        if not token_is_valid(given, visit.name, task_id, self._state.settings.secret):
            raise Refused(Reason.TOKEN)

    async def _take(self, visit: _Visit, provider: Provider, scope: Scope, receive: Receive) -> Receipt | Reply:
        """Read the body, verify and store it. The room for the body is held until it is stored."""
        settings = self._state.settings
        with Room(self._state) as room:
            try:
                room.need(declared_length(visit.head.headers, settings.max_body_bytes))
                body = await read_body(receive, room, settings.max_body_bytes, settings.body_timeout_seconds)
            except Refused as refused:
                if refused.reason is Reason.TOO_LARGE:
                    await self._hint(visit, provider)
                raise
            now = datetime.now(UTC)
            trust = self._verify(visit, provider, body, now)
            if provider.handshakes and (reply := _challenge(visit, provider, scope, body)) is not None:
                return reply
            return await self._store(visit, provider, trust, body, now)

    def _verify(self, visit: _Visit, provider: Provider, body: bytes, now: datetime) -> Trust:
        """Verify what the provider added, with its keys; what to do is decided by the route, not by the headers."""
        scheme = provider.scheme
        keys: tuple[Key, ...] | None = self._keys[provider.name]
        if scheme is None or (provider.scheme_optional and not keys):
            return Trust.NONE if visit.task_id is None else Trust.TOKEN
        if scheme.fetches_keys:
            keys = self._state.key_sets.keys(provider)
            if keys is None:
                raise Refused(Reason.KEYS, "the provider's public keys were not fetched yet")
        try:
            return provider.verify(visit.head.headers, body, keys or (), now, provider.tolerance or self._tolerance)
        except Unauthentic as error:
            detail = f"{scheme.name}: {error}; headers present: {_present(visit.head.headers, scheme)}"
            if error.flaw == Flaw.NO_KEY:
                raise Refused(Reason.NO_KEY, detail) from None
            if scheme.fetches_keys and error.flaw == Flaw.SIGNATURE and self._state.key_sets.doubts(provider):
                raise Refused(Reason.KEYS, detail) from None
            raise Refused(Reason.UNAUTHENTIC, detail, flaw=error.flaw) from None

    async def _store(self, visit: _Visit, provider: Provider, trust: Trust, body: bytes, now: datetime) -> Receipt:
        callback = Callback(body=body, headers=self._kept(visit), received_at=now)
        admission = self._state.admission
        if admission.is_full():
            raise Refused(Reason.OVERLOADED)
        admission.enter(time.perf_counter())
        try:
            _, intake = await self._state.open()
            receipt = await intake.pushed(provider, visit.task_id, trust, callback)
        except LedgerError as error:
            raise self._refused_by_ledger(error) from None
        finally:
            admission.leave(time.perf_counter())
        self._state.note_write(None)
        return receipt

    async def _hint(self, visit: _Visit, provider: Provider) -> None:
        """Make the task of a valid URL due: what was too large to take may be its success, and can still be fetched."""
        if visit.task_id is None:
            return
        now = datetime.now(UTC)
        callback = Callback(body=b"", headers=self._kept(visit), received_at=now)
        try:
            _, intake = await self._state.open()
            await intake.hinted(provider, visit.task_id, Trust.TOKEN, callback, "too_large")
        except LedgerError as error:
            raise self._refused_by_ledger(error) from None

    def _kept(self, visit: _Visit) -> Kept:
        head, name = visit.head, visit.name
        kept = head.kept.get(name)
        if kept is None:
            kept = head.kept[name] = kept_headers(head.headers, self._first[name], self._never[name])
        return kept

    def _refused_by_ledger(self, error: LedgerError) -> Refused:
        """Say whether trying again can help: only the ledger's word about this very record is final."""
        if isinstance(error, LedgerRejected):
            return Refused(Reason.REJECTED, str(error))
        self._state.note_write(error)
        return Refused(Reason.UNAVAILABLE, str(error))


def _challenge(visit: _Visit, provider: Provider, scope: Scope, body: bytes) -> Reply | None:
    """Answer a challenge, where this provider's configuration says so and the request is one."""
    query: bytes = scope.get("query_string", b"")
    return handshakes.answer(provider.handshakes, scope["method"], query, visit.head.headers, body)


def _present(headers: Headers, scheme: Scheme) -> str:
    """Name the headers of a scheme that came, for the log."""
    return ", ".join(name for name in scheme.header_names if headers.get(name.encode()) is not None) or "none"
