"""The hot path: takes one callback from a provider, and answers 200 once it is stored.

A raw ASGI endpoint: no Request object, headers as bytes, so that the commit is the only thing that costs. All that can
be known without the body is checked before the body is read; no handler's code is imported here.
"""

import time
from datetime import UTC, datetime, timedelta

import structlog
from starlette.types import Receive, Scope, Send

from receiver.web import answers
from receiver.web.answers import Reason, Refused
from receiver.web.body import Room, declared_length, read_body
from receiver.web.headers import kept_headers
from receiver.web.state import State
from ringback.errors import LedgerError, LedgerRejected, Unauthentic
from ringback.model import Callback, Receipt, Trust
from ringback.providers import Provider, handshakes
from ringback.providers.handshakes import Reply
from ringback.providers.signatures import TASK_ID, Headers, Key, Scheme, token_is_valid
from ringback.providers.signatures.scheme import Flaw

log = structlog.get_logger("ringback.receiver")

UNKNOWN = "unknown"


class _Visit:
    """One request, and what is known about it so far: a refusal tells how far it came."""

    __slots__ = ("headers", "name", "receive", "task_id")

    def __init__(self, scope: Scope, receive: Receive) -> None:
        self.headers = Headers(scope["headers"])
        self.receive = receive
        self.name = UNKNOWN
        self.task_id: str | None = None


class Callbacks:
    """The endpoint of `POST /callbacks/{provider}/{task_id}.{mac}` and `POST /callbacks/{provider}`."""

    def __init__(self, state: State) -> None:
        self._state = state
        settings = state.settings
        self._providers = {name: provider for name, provider in settings.catalogue.items() if provider.pushes}
        self._keys = {name: settings.keys(name) for name in self._providers}
        self._tolerance = timedelta(seconds=settings.tolerance_seconds)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request as a Starlette endpoint."""
        await self.serve(scope, receive, send, scope["path_params"]["address"])

    async def serve(self, scope: Scope, receive: Receive, send: Send, address: str) -> None:
        """Serve one request to this address, which is what follows `/callbacks/` in the path."""
        began = time.perf_counter()
        visit = _Visit(scope, receive)
        try:
            provider = self._route(visit, scope["method"], address)
            if scope["method"] != "POST":
                reply = _challenge(visit, provider, scope, b"")
                if reply is None:
                    raise Refused(Reason.METHOD)
                await answers.greet(send, reply)
                return
            taken = await self._take(visit, provider, scope)
        except Refused as refused:
            self._state.rejections.add(visit.name, refused.word, visit.task_id, refused.detail)
            if refused.reason is not Reason.DISCONNECTED:
                await answers.refuse(receive, send, refused)
            return
        if isinstance(taken, Reply):
            log.info("callback.challenged", provider=visit.name, task=visit.task_id)
            await answers.greet(send, taken)
            return
        self._state.tally.accept(visit.name, taken.verdict.value, time.perf_counter() - began)
        await answers.accept(send, taken)

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

    async def _take(self, visit: _Visit, provider: Provider, scope: Scope) -> Receipt | Reply:
        """Read the body, verify and store it. The room for the body is held until it is stored."""
        settings = self._state.settings
        with Room(self._state) as room:
            try:
                room.need(declared_length(visit.headers, settings.max_body_bytes))
                body = await read_body(visit.receive, room, settings.max_body_bytes, settings.body_timeout_seconds)
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
        if scheme is None:
            return Trust.NONE if visit.task_id is None else Trust.TOKEN
        keys: tuple[Key, ...] | None = self._keys[provider.name]
        if scheme.fetches_keys:
            keys = self._state.key_sets.keys(provider)
            if keys is None:
                raise Refused(Reason.KEYS, "the provider's public keys were not fetched yet")
        try:
            return provider.verify(visit.headers, body, keys or (), now, self._tolerance)
        except Unauthentic as error:
            detail = f"{scheme.name}: {error}; headers present: {_present(visit.headers, scheme)}"
            if error.flaw == Flaw.NO_KEY:
                raise Refused(Reason.NO_KEY, detail) from None
            if scheme.fetches_keys and error.flaw == Flaw.SIGNATURE and self._state.key_sets.doubts(provider):
                raise Refused(Reason.KEYS, detail) from None
            raise Refused(Reason.UNAUTHENTIC, detail, flaw=error.flaw) from None

    async def _store(self, visit: _Visit, provider: Provider, trust: Trust, body: bytes, now: datetime) -> Receipt:
        callback = Callback(body=body, headers=kept_headers(visit.headers), received_at=now)
        try:
            _, intake = await self._state.open()
            receipt = await intake.pushed(provider, visit.task_id, trust, callback)
        except LedgerError as error:
            raise self._refused_by_ledger(error) from None
        self._state.note_write(None)
        return receipt

    async def _hint(self, visit: _Visit, provider: Provider) -> None:
        """Make the task of a valid URL due: what was too large to take may be its success, and can still be fetched."""
        if visit.task_id is None:
            return
        now = datetime.now(UTC)
        callback = Callback(body=b"", headers=kept_headers(visit.headers), received_at=now)
        try:
            _, intake = await self._state.open()
            await intake.hinted(provider, visit.task_id, Trust.TOKEN, callback, "too_large")
        except LedgerError as error:
            raise self._refused_by_ledger(error) from None

    def _refused_by_ledger(self, error: LedgerError) -> Refused:
        """Say whether trying again can help: only the ledger's word about this very record is final."""
        if isinstance(error, LedgerRejected):
            return Refused(Reason.REJECTED, str(error))
        self._state.note_write(str(error))
        return Refused(Reason.UNAVAILABLE, str(error))


def _challenge(visit: _Visit, provider: Provider, scope: Scope, body: bytes) -> Reply | None:
    """Answer a challenge, where this provider's configuration says so and the request is one."""
    query: bytes = scope.get("query_string", b"")
    return handshakes.answer(provider.handshakes, scope["method"], query, visit.headers, body)


def _present(headers: Headers, scheme: Scheme) -> str:
    """Name the headers of a scheme that came, for the log."""
    return ", ".join(name for name in scheme.header_names if headers.get(name.encode()) is not None) or "none"
