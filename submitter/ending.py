"""PURE. How one sending ended, and what that says about money: the resend rule's facts.

Called by `submitter.sending`, which decides what follows. The rule: what surely bought nothing may be sent again by
anybody at any time; what may have bought something only under an idempotency key that the provider still honours.
"""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import datetime
from enum import StrEnum

from msgspec import structs

from ringback.errors import InvalidSubmission, RingbackError, SettingsError, SubmissionRefused, Unreachable, Unreadable
from ringback.model import Reading, TaskError, TaskState
from ringback.providers import Provider, Response
from ringback.retry import retry_after_seconds
from ringback.settings import variable_name

KEY_REFUSED = frozenset({401, 403})
ACCOUNT = KEY_REFUSED | {402}  # about the account, not about this request
TRANSIENT_4XX = frozenset({408, 425})
# After a sending that may have been accepted these are no proof that it was not: the account is looked at first,
# and a conflict may be with that very sending.
INCONCLUSIVE = ACCOUNT | {409}


class Fate(StrEnum):
    """What became of a sending."""

    ACCEPTED = "accepted"
    REFUSED = "refused"  # nothing was bought, and asking again would not help
    NOT_BOUGHT = "not bought"  # nothing was bought: too many requests, or no connection
    DOUBTFUL = "doubtful"  # it may have been bought


@dataclass(frozen=True, slots=True, kw_only=True)
class Ending:
    """How one sending ended."""

    fate: Fate
    note: str
    reading: Reading | None = None  # set when accepted or refused
    refusal: RingbackError | None = None  # set when refused: what the caller gets
    answer: bytes = b""
    wait_seconds: float | None = None  # what the provider asks for
    account: bool = False  # the next task would be refused too


def ending_of_answer(provider: Provider, response: Response, now: datetime, *, doubted: bool) -> Ending:
    """Read an answer. `doubted`: an earlier sending of the same task may have been accepted."""
    status = response.status
    wait = retry_after_seconds(response.headers.get("retry-after"))
    if status == 429:
        return Ending(fate=_not_bought(doubted), note="answered 429", wait_seconds=wait)
    answered = 200 <= status < 300 or 400 <= status < 500
    if not answered or status in TRANSIENT_4XX or (doubted and status in INCONCLUSIVE):
        return Ending(fate=Fate.DOUBTFUL, note=f"answered {status}", wait_seconds=wait)
    try:
        reading = provider.read_acceptance(response, now)
    except SubmissionRefused as refusal:
        return _refused(provider, response, refusal)
    except Unreadable:
        return Ending(fate=Fate.DOUBTFUL, note=f"answered {status}, without a readable task id")
    return Ending(fate=Fate.ACCEPTED, note=f"answered {status}", reading=reading, answer=response.body)


def ending_of_failure(error: RingbackError, *, doubted: bool) -> Ending:
    """Read what kept an answer from coming."""
    if isinstance(error, Unreachable):
        return Ending(fate=Fate.DOUBTFUL if error.sent else _not_bought(doubted), note=str(error))
    if isinstance(error, InvalidSubmission) and not doubted:
        return Ending(fate=Fate.REFUSED, note="refused before sending", reading=_failed(error), refusal=error)
    note = str(error) if isinstance(error, SettingsError) else "not sent: no longer valid"
    return Ending(fate=_not_bought(doubted), note=note)


def scrub(ending: Ending, secrets: Iterable[str]) -> Ending:
    """Remove our own secrets from a refusal: a provider may quote the callback URL or the key."""
    reading, refusal = ending.reading, ending.refusal
    for secret in secrets:
        if reading is not None and reading.error is not None:
            message = reading.error.message.replace(secret, "<secret>")
            error = structs.replace(reading.error, message=message)
            reading = structs.replace(reading, error=error)
        if refusal is not None:
            refusal.args = (str(refusal.args[0]).replace(secret, "<secret>"),)
    return replace(ending, reading=reading)


def _not_bought(doubted: bool) -> Fate:
    """An earlier doubt outlives an ending that by itself bought nothing."""
    return Fate.DOUBTFUL if doubted else Fate.NOT_BOUGHT


def _refused(provider: Provider, response: Response, refusal: SubmissionRefused) -> Ending:
    reading = _failed(refusal)
    if response.status in KEY_REFUSED:
        refusal.args = (f"{refusal.args[0]}; check {variable_name((provider.name, 'api_key'))}",)
    code = f" (code {refusal.code})" if refusal.code else ""
    return Ending(
        fate=Fate.REFUSED,
        note=f"refused with {response.status}{code}",
        reading=reading,
        refusal=refusal,
        answer=response.body,
        account=response.status in ACCOUNT,
    )


def _failed(error: SubmissionRefused | InvalidSubmission) -> Reading:
    return Reading(status=TaskState.FAILED, error=TaskError(message=str(error.args[0]), code=error.code))
