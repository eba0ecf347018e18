"""The demo's numbers: read back from the ledger, and held against the sandbox's own books. Prints nothing."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ringback.cli.demo_plan import ACTS, act_key
from ringback.ledger import Owed, Summary
from ringback.model import DeliveryState, Event, Outcome, Source, Standing, Task, TaskState

STORED = (200, 413)  # what the receiver answers to a push that it keeps something of
FINAL = frozenset({"task.completed", "task.failed"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """One number of the summary, with the number that an independent witness gives for it."""

    name: str
    ledger: int
    witness: int
    says: str  # who the witness is

    @property
    def adds_up(self) -> bool:
        """Tell whether both agree."""
        return self.ledger == self.witness


@dataclass(frozen=True, slots=True, kw_only=True)
class Findings:
    """What the ledger holds after the demo, and what others saw."""

    summary: Summary
    tasks: Sequence[Task]
    events: Sequence[Event]
    deliveries: Sequence[Owed]
    sandbox_tasks: Sequence[Mapping[str, Any]]  # of GET /_sandbox/tasks
    handled: Counter[str]  # the handlers' own count of their runs, by name


def lines(found: Findings) -> list[Line]:
    """Give the summary, line by line."""
    return [*_task_lines(found), *_push_lines(found), *_handler_lines(found)]


def _task_lines(found: Findings) -> list[Line]:
    summary = found.summary
    failing = sum(act.ends is TaskState.FAILED for act in ACTS)
    polled = sum(act.polled for act in ACTS if act.provider == "qingbo")
    told = {
        task.provider_id: task.charged_microdollars for task in found.tasks if task.charged_microdollars is not None
    }
    return [
        _line("submitted", sum(summary.tasks.values()), len(found.sandbox_tasks), "tasks the providers accepted"),
        _line("completed", summary.tasks.get(TaskState.COMPLETED, 0), len(ACTS) - failing, "expected"),
        _line("failed", summary.tasks.get(TaskState.FAILED, 0), failing, "expected"),
        _line("one event per fact", sum(_is_final(e) for e in found.events), len(ACTS), "tasks"),
        _line("recovered by polling", summary.recovered, polled, "pushes that were lost or too large"),
        _line("charged, where told, in $0.000001", sum(told.values()), _spent(found.sandbox_tasks, told), "its books"),
    ]


def _push_lines(found: Findings) -> list[Line]:
    summary = found.summary
    pushes = [push for task in found.sandbox_tasks for push in task["pushes"]]
    kept = sum(push["status_code"] in STORED for push in pushes)
    forged = [push for push in pushes if push["kind"] == "forged"]
    first = sum(event.source is Source.CALLBACK for event in found.events)
    refused = sum(count for (_, reason), count in summary.rejections.items() if reason in ("token", "unauthorised"))
    return [
        _line("pushes received", summary.callbacks, kept, "pushes the provider saw answered"),
        _line("duplicates ignored", summary.duplicates, kept - first - summary.hints, "received, less the first ones"),
        _line("about another task, set aside", summary.unrecognised, _of_kind(pushes, "wrong_task"), "pushes sent"),
        _line("forgeries refused", refused, len(forged), "pushes sent with a wrong token"),
        _line("facts taken from forgeries", _events_beyond_one(found, "forged_push"), 0, "expected"),
    ]


def _handler_lines(found: Findings) -> list[Line]:
    summary = found.summary
    owed = [item for item in found.deliveries if item.delivery.state is DeliveryState.SUCCEEDED]
    runs = sum(summary.attempts.values())
    counted = found.handled["publish"] + found.handled["refund"]
    return [
        _line("deliveries succeeded", summary.deliveries.get(DeliveryState.SUCCEEDED, 0), len(owed), "listed"),
        _line("deliveries open", sum(summary.deliveries.values()) - len(owed), 0, "expected"),
        _line("handler runs", runs, counted, "the handlers' own count"),
        _line("retried after an error", summary.attempts.get(Outcome.FAILED, 0), found.handled["stumble"], "raised"),
    ]


def _line(name: str, ledger: int, witness: int, says: str) -> Line:
    return Line(name=name, ledger=ledger, witness=witness, says=says)


def _is_final(event: Event) -> bool:
    return event.type.value in FINAL and event.standing is Standing.ACCEPTED


def _spent(sandbox_tasks: Sequence[Mapping[str, Any]], told: Mapping[str | None, int]) -> int:
    tasks = [task for task in sandbox_tasks if task["id"] in told]
    return sum(task["charged_micro_usd"] - task["refunded_micro_usd"] for task in tasks)


def _events_beyond_one(found: Findings, fault: str) -> int:
    """Count what the ledger believes of the tasks with this fault beyond their one true event."""
    keys = {act_key(place) for place, act in enumerate(ACTS) if act.fault == fault}
    ids = {task.id for task in found.tasks if task.key in keys}
    return sum(event.task_id in ids for event in found.events) - len(ids)


def _of_kind(pushes: Sequence[Mapping[str, Any]], kind: str) -> int:
    return sum(push["kind"] == kind and push["status_code"] == 200 for push in pushes)
