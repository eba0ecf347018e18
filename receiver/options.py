"""What `Handlers.on` takes, checked: each mistake is a HandlersError that says what was expected.

Called by `handlers` alone, when the user's module is imported.
"""

import difflib
import inspect
import re
from datetime import datetime, timedelta
from typing import Any

from receiver.outcomes import MOST_SECONDS
from ringback.errors import HandlersError
from ringback.ledger import Pattern, Rate, fits
from ringback.model import EventType
from ringback.retry import Policy

MOST_ATTEMPTS = 1_000_000
MOST_FACTOR = 1_000
MOST_AT_ONCE = 1_000_000
KEY_CHARS = 200
MOST_KEY_BITS = 4 * KEY_CHARS  # of a whole number; a digit has fewer
MOST_SINCE = timedelta(days=36_500)
PERIODS = {"second": 1, "minute": 60, "hour": 3600, "day": 86_400}
RATE = re.compile(r"(\d{1,7})\s*/\s*(s|sec|second|m|min|minute|h|hour|d|day)")


def nearest(word: str, words: list[str]) -> str:
    """Say what was meant by a word that nothing is called, or what there is."""
    near = difflib.get_close_matches(word, words, n=1, cutoff=0.5)
    return f"did you mean {near[0]!r}?" if near else f"expected one of {', '.join(sorted(words))}"


def check_pattern(pattern: Pattern) -> None:
    """Check that something can fit a pattern."""
    texts: tuple[Any, ...] = (pattern.event, pattern.provider, pattern.model)
    if not all(isinstance(text, str) and text for text in texts):
        raise HandlersError('patterns are non-empty texts; write @handlers.on("task.completed", provider="*")')
    types = [kind.value for kind in EventType]
    if not any(fits(pattern.event, kind) for kind in types):
        raise HandlersError(f"no event is ever called {pattern.event!r}: {nearest(pattern.event, types)}")
    if not re.fullmatch(r"[a-z0-9*]+", pattern.provider):
        raise HandlersError(f"provider={pattern.provider!r}: expected lower-case letters, digits and *")
    if re.search(r"[?\[\]]", pattern.model):  # they would be special to the database's GLOB
        raise HandlersError(f"model={pattern.model!r}: only * is special; write it in place of ?, [ and ]")


def check_timeout(timeout_seconds: float | None) -> None:
    """Check how long one attempt may take."""
    if timeout_seconds is not None and not 0 < timeout_seconds <= 86_400:
        raise HandlersError(f"timeout_seconds={timeout_seconds!r}: expected more than 0 and at most 86400")


def check_retry(retry: Any) -> None:
    """Check a policy."""
    if retry is None:
        return
    if not isinstance(retry, Policy):
        raise HandlersError(f"retry={retry!r}: expected a ringback.Policy, or False for one attempt only")
    attempts: Any = retry.attempts
    if not (_is_number(attempts) and isinstance(attempts, int) and 1 <= attempts <= MOST_ATTEMPTS):
        raise HandlersError(f"retry: attempts={attempts!r}: expected a whole number from 1 to {MOST_ATTEMPTS}")
    if not retry.base_seconds:
        raise HandlersError("retry: base_seconds=0: expected more than 0, or a failing handler would never pause")
    _check_number("base_seconds", retry.base_seconds, 0, MOST_SECONDS)
    _check_number("cap_seconds", retry.cap_seconds, retry.base_seconds, MOST_SECONDS)
    _check_number("factor", retry.factor, 1, MOST_FACTOR)
    _check_number("jitter", retry.jitter, 0, 1)


def _check_number(name: str, value: Any, least: float, most: float) -> None:
    if not (_is_number(value) and least <= value <= most):  # which neither infinity nor NaN is
        raise HandlersError(f"retry: {name}={value!r}: expected {least:g} to {most:.0f}")


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def read_rate(rate: Any) -> Rate | None:
    """Read `60/minute`."""
    if rate is None:
        return None
    found = RATE.fullmatch(rate) if isinstance(rate, str) else None
    if found is None or int(found[1]) == 0:
        raise HandlersError(
            f"rate={rate!r}: expected a text such as '10/second', '60/minute', '500/hour' or '9000/day'"
        )
    seconds = next(seconds for period, seconds in PERIODS.items() if period.startswith(found[2][0]))
    return Rate(count=int(found[1]), period=timedelta(seconds=seconds))


def check_concurrency(concurrency: Any) -> None:
    """Check how many attempts of a handler may run at once."""
    if concurrency is None:
        return
    if not (_is_number(concurrency) and isinstance(concurrency, int) and 1 <= concurrency <= MOST_AT_ONCE):
        raise HandlersError(f"concurrency={concurrency!r}: expected a whole number from 1 to {MOST_AT_ONCE}")


def check_serial(key: Any, ordered: Any) -> None:
    """Check what runs one at a time."""
    if key is not None and not _is_plain_function(key):
        raise HandlersError(
            f"key={key!r}: expected a plain function of the event, such as key=lambda event: event.task.id"
        )
    if not isinstance(ordered, bool):
        raise HandlersError(f"ordered={ordered!r}: expected True or False")
    if ordered and key is not None:
        raise HandlersError("ordered=True runs the events of one task one at a time already; leave key= out")


def _is_plain_function(key: Any) -> bool:
    if not callable(key) or inspect.iscoroutinefunction(key):
        return False
    try:
        inspect.signature(key).bind(None)
    except TypeError:
        return False
    except ValueError:  # some that are written in C do not tell what they take
        return True
    return True


def check_stored(stored: Any) -> None:
    """Check whether results are waited for."""
    if not isinstance(stored, bool):
        raise HandlersError(f"stored={stored!r}: expected True or False")


def check_since(since: Any) -> None:
    """Check from when on past events are wanted."""
    if isinstance(since, datetime) and since.tzinfo is None:
        raise HandlersError(f"since={since!r}: this time has no zone; write datetime(…, tzinfo=UTC)")
    if isinstance(since, timedelta) and not timedelta(0) < since <= MOST_SINCE:
        raise HandlersError(f"since={since!r}: expected a time span into the past, such as timedelta(days=7)")
    if not (since is None or isinstance(since, datetime | timedelta)):
        raise HandlersError(
            f"since={since!r}: expected a datetime with its zone, or a timedelta such as timedelta(days=7)"
        )


def read_key(handler: str, key: Any) -> str | None:
    """Read what a handler's `key=` gave.

    Raises:
        HandlersError: it is no key.
    """
    if key is None:
        return None
    whole = isinstance(key, int) and not isinstance(key, bool)
    # Python itself refuses to write a number of some thousand digits down, also in an error.
    huge = whole and key.bit_length() > MOST_KEY_BITS
    text = str(key) if whole and not huge else key
    if isinstance(text, str) and 0 < len(text) <= KEY_CHARS and text.isprintable():
        return text
    given = f"a whole number of {key.bit_length()} bits" if huge else f"{key!r:.80}"
    raise HandlersError(
        f"{handler}: key= gave {given}; expected None, or a whole number or printable text of 1 to {KEY_CHARS} "
        "characters"
    )
