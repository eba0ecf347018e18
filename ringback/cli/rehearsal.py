"""Runs a saved request through a provider, step by step as the receiver would, and says where it fails and why.

Nothing is stored or sent, but for the fetch of a provider's public keys. Called by `ringback providers test`.
"""

import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from ringback.cli.saved import Saved
from ringback.errors import RingbackError, Unauthentic, Unreadable, Unsupported
from ringback.model import EVENT_OF_STATE, Callback, EventType, Notice, Reading, Trust
from ringback.providers import Provider, handshakes
from ringback.providers.signatures import TASK_ID, Headers, Key, Scheme, token_is_valid
from ringback.providers.signatures.scheme import DIGITS, Flaw
from ringback.settings import Settings, variable_name

OUT_OF_TIME = (Flaw.TIMESTAMP_OLD, Flaw.TIMESTAMP_FUTURE)
FULLY_TRUSTED = (Trust.SIGNED, Trust.PARTIAL)

Keys = tuple[Key, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One thing that was looked at."""

    name: str
    ok: bool | None  # None: there was nothing to look at, and it may matter
    found: str
    advice: str | None = None


class _Stop(Exception):
    """A step failed, and the ones after it have nothing to stand on."""


class Rehearsal:
    """One saved request and how far it comes."""

    def __init__(
        self,
        provider: Provider,
        settings: Settings,
        saved: Saved,
        body: bytes,
        *,
        now: datetime,
        path: str | None,
        fetch_keys: Callable[[], Keys],
    ) -> None:
        self.steps: list[Step] = []
        self._provider = provider
        self._settings = settings
        self._headers = saved.headers
        self._body = body
        self._now = now
        self._path = path or saved.target
        self._fetch_keys = fetch_keys
        self._task: str | None = None  # of the URL

    def run(self) -> Sequence[Step]:
        """Take every step, up to the first that fails."""
        with suppress(_Stop):  # the step that failed is the last one noted
            self._tell_headers()
            self._tell_body()
            self._follow_url()
            trust = self._verify(self._find_keys())
            if not self._is_challenge():
                self._tell_outcome(self._read(), trust)
        return self.steps

    def _pass(self, name: str, found: str) -> None:
        self.steps.append(Step(name=name, ok=True, found=found))

    def _fail(self, name: str, found: str, advice: str) -> _Stop:
        self.steps.append(Step(name=name, ok=False, found=found, advice=advice))
        return _Stop()

    def _tell_headers(self) -> None:
        scheme, count = self._provider.scheme, sum(1 for _ in self._headers)
        if scheme is None:
            self._pass("headers", f"{count}")
            return
        came = [name for name in scheme.header_names if self._headers.get(name.encode()) is not None]
        self._pass("headers", f"{count}; of those that {scheme.name} reads: {', '.join(came) or 'none'}")

    def _tell_body(self) -> None:
        size, limit = len(self._body), self._settings.max_body_bytes
        if size > limit:
            advice = "the receiver would answer 413; raise RINGBACK_MAX_BODY_BYTES"
            raise self._fail("body", f"{size} bytes, more than the {limit} that are allowed", advice)
        self._pass("body", f"{size} bytes")

    def _follow_url(self) -> None:
        """Go the receiver's way through the path, as far as it is known."""
        provider = self._provider
        if not provider.pushes:
            raise self._fail("url", f"{provider.name} never calls back: its URLs get 404", "its tasks are polled")
        _, callbacks, address = (self._path or "").partition("/callbacks/")
        if not callbacks:
            self._tell_no_url()
            return
        name, slash, tail = address.partition("?")[0].removesuffix("/").partition("/")
        if name != provider.name:
            advice = f"try: ringback providers test {name} …" if name in self._settings.catalogue else "correct the URL"
            raise self._fail("url", f"it leads to {name or 'nothing'}, not to {provider.name}", advice)
        if slash:
            self._check_token(tail)
        else:
            self._check_account_endpoint()

    def _tell_no_url(self) -> None:
        if self._is_account_served():
            self._pass("url", "not given: taken for the account's, which has no token")
        else:
            found = "not given, so the token of the task's URL is not checked; give it with --url"
            self.steps.append(Step(name="url", ok=None, found=found))

    def _is_account_served(self) -> bool:
        provider = self._provider
        signs = bool(self._settings.keys(provider.name)) or not provider.scheme_optional
        return provider.open_endpoint or (provider.account_endpoint and signs)

    def _check_token(self, tail: str) -> None:
        task_id, _, mac = tail.rpartition(".")
        if not TASK_ID.fullmatch(task_id):
            raise self._fail("url", "what follows the provider is no <task id>.<mac>: 404", "correct the URL")
        if not self._settings.secret:
            raise self._fail("url", "there is no secret here to check its token with: 503", "set RINGBACK_SECRET")
        given = mac.encode("utf-8", "surrogateescape")
        if not token_is_valid(given, self._provider.name, task_id, self._settings.secret):
            advice = "it was made with a secret that is not listed in RINGBACK_SECRET, or something changed it"
            raise self._fail("url", f"the token of {task_id} is wrong: 401", advice)
        self._task = task_id
        self._pass("url", f"the token of {task_id} is right")

    def _check_account_endpoint(self) -> None:
        provider = self._provider
        if self._is_account_served():
            self._pass("url", "the account's; anybody may post there" if provider.open_endpoint else "the account's")
        elif not provider.account_endpoint:
            advice = "each task has a URL of its own: /callbacks/<provider>/<task id>.<mac>"
            raise self._fail("url", f"{provider.name} has no URL for the whole account: 404", advice)
        else:
            raise self._fail(
                "url", "the account's URL is served only where a secret is set: 404", self._secret_advice()
            )

    def _find_keys(self) -> Keys:
        scheme = self._provider.scheme
        if scheme is None:
            self._pass("keys", "none needed: the provider signs nothing")
            return ()
        if scheme.fetches_keys:
            try:
                keys = self._fetch_keys()
            except RingbackError as error:
                raise self._fail("keys", str(error), "save the key set to a file, and give it with --jwks") from None
            self._pass("keys", f"{len(keys)} public keys")
            return keys
        keys = self._settings.keys(self._provider.name)
        if not keys and self._provider.scheme_optional:
            self._pass("keys", "no secret is set; the provider signs only for those who have set one up")
        elif not keys:
            raise self._fail("keys", "no secret is set: 503", self._secret_advice())
        else:
            valid = sum(1 for key in keys if key.until is None or self._now < key.until)
            self._pass("keys", f"{valid} valid" + (f", {len(keys) - valid} expired" if valid < len(keys) else ""))
        return keys

    def _secret_advice(self) -> str:
        form = self._provider.scheme.secret_form if self._provider.scheme else ""
        return f"set {variable_name((self._provider.name, 'secret'))}: {form}"

    def _verify(self, keys: Keys) -> Trust:
        """Verify; where the request is only out of time, go on at its own time, to see whether it was right then."""
        scheme = self._provider.scheme
        if scheme is None:
            self._pass("signature", "none, as expected")
            listens_to_all = self._provider.open_endpoint and self._task is None
            return Trust.NONE if listens_to_all else Trust.TOKEN
        try:
            trust = self._verified(keys, self._now, self._body)
        except Unauthentic as error:
            if error.flaw not in OUT_OF_TIME or (then := self._own_time(scheme, keys)) is None:
                raise self._explained(error, scheme, keys, self._now) from None
            advice = f"what follows is checked at its own time; all of it with --at {then:%Y-%m-%dT%H:%M:%SZ}"
            self._fail("time", f"{error}", advice)
            try:
                trust = self._verified(keys, then, self._body)
            except Unauthentic as other:
                raise self._explained(other, scheme, keys, then) from None
        fits = "it fits" if trust in FULLY_TRUSTED or scheme.trust is trust else "none was checked"
        self._pass("signature", f"{fits}: trust {trust}")
        return trust

    def _verified(self, keys: Keys, now: datetime, body: bytes) -> Trust:
        tolerance = self._provider.tolerance or timedelta(seconds=self._settings.tolerance_seconds)
        return self._provider.verify(self._headers, body, keys, now, tolerance)

    def _own_time(self, scheme: Scheme, keys: Keys) -> datetime | None:
        """Find the time that the request was signed at: the number in its headers at which time is no flaw."""
        values = [value for name in scheme.header_names if (value := self._headers.get(name.encode())) is not None]
        for digits in re.findall(rb"(?<![0-9])[0-9]{1,%d}(?![0-9])" % DIGITS, b" ".join(values)):
            try:
                then = datetime.fromtimestamp(int(digits), UTC)
                self._verified(keys, then, self._body)
            except (ValueError, OverflowError, OSError):  # a year that datetime does not know
                continue
            except Unauthentic as error:
                if error.flaw in OUT_OF_TIME:
                    continue
            return then
        return None

    def _explained(self, error: Unauthentic, scheme: Scheme, keys: Keys, now: datetime) -> _Stop:
        """Say what to look at."""
        found = f"{error} ({error.flaw}): {503 if error.flaw == Flaw.NO_KEY else 401}"
        if error.flaw == Flaw.SIGNATURE:
            return self._fail("signature", found, self._signature_advice(scheme, keys, now))
        if error.flaw == Flaw.NO_KEY:
            return self._fail("signature", found, self._secret_advice())
        advice = f"save the request as it came; {scheme.name} reads {', '.join(scheme.header_names)}"
        return self._fail("time" if error.flaw in OUT_OF_TIME else "signature", found, advice)

    def _signature_advice(self, scheme: Scheme, keys: Keys, now: datetime) -> str:
        for what, body in _near(self._body):
            try:
                self._verified(keys, now, body)
            except Unauthentic:
                continue
            return f"it does fit {what}: the file is not what was sent, byte for byte"
        if scheme.fetches_keys:
            return "the body is not what was sent, byte for byte, or it was not this provider that signed it"
        return f"another secret was used ({scheme.secret_form}), or the body is not what was sent, byte for byte"

    def _is_challenge(self) -> bool:
        query = (self._path or "").partition("?")[2].encode()
        reply = handshakes.answer(self._provider.handshakes, "POST", query, self._headers, self._body)
        if reply is None:
            return False
        self._pass("outcome", f"a challenge, which gets {reply.body.decode(errors='replace')}; nothing is stored")
        return True

    def _read(self) -> Reading | Notice:
        callback = Callback(
            body=self._body, headers=tuple(_texts(self._headers, self._provider)), received_at=self._now
        )
        try:
            said = self._provider.read_callback(callback)
        except (Unreadable, Unsupported) as error:
            found = f"authentic, but not understood: {error}"
            raise self._fail("callback", found, f"it would be stored as {EventType.CALLBACK_UNRECOGNISED}") from None
        self._pass("callback", _notice_text(said) if isinstance(said, Notice) else _reading_text(said))
        return said

    def _tell_outcome(self, said: Reading | Notice, trust: Trust) -> None:
        if self._settings.confirms(self._provider, trust):
            self._pass(
                "outcome", f"a hint, since trust {trust} is to be confirmed: its task is fetched, and no event yet"
            )
        else:
            event = EventType.CALLBACK_RECEIVED if isinstance(said, Notice) else EVENT_OF_STATE[said.status]
            self._pass("outcome", f"an event: {event}")


def _near(body: bytes) -> Iterator[tuple[str, bytes]]:
    """Give what was probably sent, where an editor or a dashboard has changed it."""
    from msgspec import DecodeError, json

    if body.endswith(b"\n"):
        yield "the body without its last line break", body.removesuffix(b"\n").removesuffix(b"\r")
    else:
        yield "the body with a line break at its end", body + b"\n"
    if b"\r\n" in body:
        yield "the body with LF for CRLF", body.replace(b"\r\n", b"\n")
    try:
        yield "the body without blanks between its JSON values", json.format(body, indent=-1)
    except DecodeError:
        return


def _texts(headers: Headers, provider: Provider) -> Iterator[tuple[str, str]]:
    """Give the headers that the receiver would keep, as text."""
    from receiver.web.headers import kept_headers

    first, never = ({name.encode() for name in names} for names in (provider.kept_headers, provider.secret_headers))
    return iter(kept_headers(headers, first, never))


def _reading_text(said: Reading) -> str:
    parts = [f"task {said.provider_id or '(of the URL)'} is {said.status}"]
    parts += [f"{result.kind} {result.url}" for result in said.results]
    if said.error:
        parts.append(f"error {said.error.code or '-'}: {said.error.message}")
    if said.progress is not None:
        parts.append(f"{said.progress} %")
    if said.event_id:
        parts.append(f"event id {said.event_id}")
    return ", ".join(parts)


def _notice_text(said: Notice) -> str:
    event_id = f", event id {said.event_id}" if said.event_id else ""
    return f"not about a task: {said.type or 'no type given'}{event_id}"
