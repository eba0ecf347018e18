"""Many tasks from JSON lines: read once, checked whole, then sent a few at a time.

A line's key is by default its file's name, its number and the hash of its content, so a run that was interrupted and
is started again submits nothing twice. Called by `Submitter.submit_many`, and by the command to read the file.
"""

import asyncio
import difflib
import hashlib
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

import msgspec

from ringback.errors import BudgetExceeded, InvalidSubmission, KeyConflict, RingbackError, UnknownProvider
from ringback.model import Form, Task
from submitter.plan import check_cost
from submitter.sending import Sending

FORM_FIELDS = Form.__struct_fields__
LINE_FIELDS = ("provider", *FORM_FIELDS, "key", "metadata")
SHOWN_ERRORS = 10
BREATH = 200  # lines checked between two turns of the event loop


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """One line, decoded; its form is checked by its provider later."""

    number: int
    provider: str
    form: Mapping[str, Any]
    key: Any
    metadata: Any


@dataclass(frozen=True, slots=True, kw_only=True)
class Submitted:
    """What became of one line: a task, an error, or both where the provider refused it."""

    line: int
    task: Task | None = None
    error: RingbackError | None = None


class Batch:
    """The lines of one file, kept as they were read and decoded one at a time. `len()` gives how many there are."""

    def __init__(self, lines: Iterable[bytes], *, name: str, provider: str | None = None) -> None:
        self.name = name
        self._provider = provider
        self._lines = [(number, text) for number, raw in enumerate(lines, 1) if (text := _strip(raw, number))]
        self.providers: set[str] = set()  # known once the lines were checked

    def __len__(self) -> int:
        return len(self._lines)

    def place(self, index: int) -> str:
        """Name a line for people, by its place in the batch; blank lines have no place, but they have numbers."""
        return f"{self.name} line {self._lines[index][0]}"

    def __getitem__(self, index: int) -> Line:
        """Decode one line, by its place in the batch.

        Raises:
            InvalidSubmission: it is not a JSON object, or has a field that no form has.
        """
        number, text = self._lines[index]
        given = _object(text, self._provider or "batch")
        provider = given.pop("provider", self._provider)
        if not isinstance(provider, str):
            message = "no provider: give it on the line, or for all lines on the command line"
            raise InvalidSubmission(message, provider="batch", field="provider")
        key = given.pop("key", None)
        metadata = given.pop("metadata", None)
        if key is None:
            key = self._default_key(number, provider, text)
        return Line(number=number, provider=provider, form=given, key=key, metadata=metadata)

    def _default_key(self, number: int, provider: str, text: bytes) -> str:
        name = "".join(c if c.isprintable() else "?" for c in self.name)[-120:]
        digest = hashlib.sha256(provider.encode(errors="replace") + b"\n" + text).hexdigest()[:16]
        return f"{name}:{number}:{digest}"


async def check_lines(batch: Batch, draft: Callable[[Line], Task], max_cost: Decimal | None) -> None:
    """Check every line before the first is sent, and all of them together against `max_cost`.

    Raises:
        InvalidSubmission: names the bad lines.
        CostTooHigh: the whole would cost too much, or a price is not known.
    """
    problems: list[InvalidSubmission] = []
    keys: dict[str, tuple[int, str | None]] = {}
    spent = 0
    for index in range(len(batch)):
        if index % BREATH == 0:
            await asyncio.sleep(0)
        try:
            line = batch[index]
            task = draft(line)
            _check_key(task, line.number, keys)
        except (InvalidSubmission, UnknownProvider, KeyConflict) as error:
            problems.append(_named(error, batch.place(index)))
        else:
            batch.providers.add(line.provider)
            spent = check_cost(task, max_cost, spent)
    if problems:
        raise _together(problems)


async def send_all(
    batch: Batch, send: Callable[[Line], Awaitable[Sending]], *, at_once: int
) -> AsyncGenerator[Submitted, None]:
    """Send the lines, `at_once` at a time; stop at the first refusal that is about the account, or by a budget."""
    running: set[asyncio.Task[tuple[Submitted, bool]]] = set()
    stopped: Submitted | None = None
    lines = (batch[index] for index in range(len(batch)))
    try:
        while True:
            while stopped is None and len(running) < at_once and (line := next(lines, None)) is not None:
                running.add(asyncio.create_task(_send_one(line, send)))
            if not running:
                break
            done, running = await asyncio.wait(running, return_when=asyncio.FIRST_COMPLETED)
            for result, fatal in (task.result() for task in done):
                stopped = stopped or (result if fatal else None)
                yield result
    finally:
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)
    if stopped is not None and stopped.error is not None:
        raise stopped.error


async def _send_one(line: Line, send: Callable[[Line], Awaitable[Sending]]) -> tuple[Submitted, bool]:
    try:
        sending = await send(line)
    except RingbackError as error:
        return Submitted(line=line.number, error=error), isinstance(error, BudgetExceeded)
    ending = sending.ending
    refusal = ending.refusal if ending else None
    return Submitted(line=line.number, task=sending.task, error=refusal), ending is not None and ending.account


def _strip(raw: bytes, number: int) -> bytes:
    return (raw.removeprefix(b"\xef\xbb\xbf") if number == 1 else raw).strip()


def _object(text: bytes, provider: str) -> dict[str, Any]:
    try:
        value = msgspec.json.decode(text)
    except (ValueError, RecursionError):
        raise InvalidSubmission("expected one JSON object in UTF-8 per line", provider=provider) from None
    if not isinstance(value, dict):
        raise InvalidSubmission(f"expected a JSON object, got a {type(value).__name__}", provider=provider)
    for name in value:
        if name not in LINE_FIELDS:
            near = difflib.get_close_matches(name, LINE_FIELDS, n=1)
            hint = f"did you mean {near[0]}?" if near else f"expected some of {', '.join(LINE_FIELDS)}"
            raise InvalidSubmission(f"unknown field {name[:60]!r}: {hint}", provider=provider, field=name[:60])
    return value


def _check_key(task: Task, number: int, keys: dict[str, tuple[int, str | None]]) -> None:
    first, request = keys.setdefault(task.key or "", (number, task.request_hash))
    if request != task.request_hash:
        raise KeyConflict(f"key {task.key!r} is that of line {first}, a different request")


def _named(error: RingbackError, place: str) -> InvalidSubmission:
    if isinstance(error, InvalidSubmission):
        message = f"{place}: {error.args[0]}"
        return InvalidSubmission(message, provider=error.provider, code=error.code, field=error.field)
    return InvalidSubmission(f"{place}: {error}", provider="batch")


def _together(problems: list[InvalidSubmission]) -> InvalidSubmission:
    if len(problems) == 1:
        return problems[0]
    lines = [str(problem) for problem in problems[:SHOWN_ERRORS]]
    if len(problems) > SHOWN_ERRORS:
        lines.append(f"and {len(problems) - SHOWN_ERRORS} more")
    first = problems[0]
    message = f"{len(problems)} lines are wrong\n" + "\n".join(lines)
    return InvalidSubmission(message, provider=first.provider)
