"""One question to a provider about one task, asked to its end where the answer comes in parts; decides nothing.

Called by `cancelling` and `reconciling`, whose users wait for the answer. What the poller makes of one, and when it
asks again, is in `asking`; what whoever keeps results makes of one is in `refreshing`.
"""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from ringback.errors import Unreachable, Unreadable
from ringback.model import Reading, Task
from ringback.outbound import Outbound
from ringback.providers import Provider, Request, Response
from ringback.retry import retry_after_seconds
from ringback.settings import variable_name
from submitter.ending import KEY_REFUSED, TRANSIENT_4XX

MOST_PARTS = 3  # of one answer


class Lack(StrEnum):
    """Why there is no word about a task."""

    UNKNOWN = "unknown"  # the provider does not know it
    BUSY = "busy"  # too many requests
    KEY = "key"  # our key is not accepted
    TROUBLE = "trouble"  # no answer
    NONSENSE = "nonsense"  # an answer that makes no sense


@dataclass(frozen=True, slots=True, kw_only=True)
class Said:
    """The provider's word about a task, and the bytes in which it came."""

    reading: Reading
    body: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Silence:
    """No word about a task; `why` is for people."""

    lack: Lack
    why: str
    wait_seconds: float | None = None  # what a busy provider asks for


async def inquire(outbound: Outbound, provider: Provider, task: Task, clock: Callable[[], datetime]) -> Said | Silence:
    """Ask how a task stands; its `provider_id` is set.

    Raises:
        SettingsError: the provider's key is missing.
        Unsupported: this task cannot be asked about.
    """
    request = provider.build_fetch(task)
    for _ in range(MOST_PARTS):
        try:
            response = await outbound.send(provider, request)
            taken = _read(provider, task, response, clock())
        except Unreachable as error:
            return Silence(lack=Lack.TROUBLE, why=str(error))
        except Unreadable as error:
            return Silence(lack=Lack.NONSENSE, why=f"{provider.name}: {error}")
        if not isinstance(taken, Request):
            return taken
        request = taken
    return Silence(lack=Lack.NONSENSE, why=f"{provider.name}: no whole answer in {MOST_PARTS} parts")


def _read(provider: Provider, task: Task, response: Response, now: datetime) -> Said | Silence | Request:
    status = provider.fetch_status(response)
    if (silence := silence_of(provider, status, response)) is not None:
        return silence
    reading = read_about(provider, response, task, now)
    return reading if isinstance(reading, Request) else Said(reading=reading, body=response.body)


def read_about(provider: Provider, response: Response, task: Task, now: datetime) -> Reading | Request:
    """Read an answer, or what is to be asked next where it comes in parts.

    Raises:
        Unreadable: it makes no sense, or is about another task.
    """
    reading = provider.read_task(response, task, now)
    if not isinstance(reading, Request) and reading.provider_id not in (None, task.provider_id):
        raise Unreadable("the answer is about another task")
    return reading


def silence_of(provider: Provider, status: int, response: Response) -> Silence | None:
    """Tell what a status alone says; None where the body is to be read."""
    answered = f"{provider.name} answered {status}"
    if status == 429:
        wait = retry_after_seconds(response.headers.get("retry-after"))
        return Silence(lack=Lack.BUSY, why=answered, wait_seconds=wait)
    if status in KEY_REFUSED:
        return Silence(lack=Lack.KEY, why=f"{answered}: check {variable_name((provider.name, 'api_key'))}")
    if 400 <= status < 500 and status not in TRANSIENT_4XX:
        return Silence(lack=Lack.UNKNOWN, why=answered)
    return None if 200 <= status < 300 else Silence(lack=Lack.TROUBLE, why=answered)
