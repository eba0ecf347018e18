"""How qingbo shows a task: in a submit response, on a query, and in a push.

Pure. Where its pages contradict each other the shape rotates with the task's number, so that a client meets all.
The push's body is unpublished: it rotates through the four shapes that are likely.
"""

from datetime import datetime, timedelta
from typing import Any

from ringback.sandbox.book import TERMINAL, SandboxTask, State
from ringback.sandbox.qingbo_rules import MICRO_USD_PER_QUOTA

URL_LIFE = timedelta(hours=24)

_ERRORS = (
    ("upstream_unavailable", "the upstream provider is temporarily unavailable"),
    ("task_failed", "the task failed"),
    ("upstream_bad_request", "the upstream provider refused the request"),
    ("upstream_rate_limited", "the upstream provider is rate limited"),
)


def submitted(task: SandboxTask, state: State = State.QUEUED) -> dict[str, Any]:
    """Return the submit response (shared seed 004…), with created_at in milliseconds and progress as a number."""
    return {
        "task_id": task.id,
        "model": task.order.model,
        "action": task.order.action,
        "status": state,
        "created_at": int(task.created_at.timestamp() * 1000),
        "progress": 0,
        "pre_consumed_cost": task.charged_micro_usd // MICRO_USD_PER_QUOTA,
    }


def view(task: SandboxTask, state: State | None = None) -> dict[str, Any]:
    """Return the task as a query shows it, in another state than its own for a push that lies."""
    state = state or task.state
    here = f"{task.order.origin}v1/tasks/{task.id}"
    shown = submitted(task, state) | {
        "created_at": _time(task, task.created_at),
        "progress": _progress(task, state),
        "urls": {"get": here, "cancel": f"{here}/cancel"},
    }
    if state in TERMINAL:
        shown["completed_at"] = _time(task, _ended(task))
        shown["cost"] = shown["pre_consumed_cost"] if state is State.COMPLETED else 0
    if state is State.COMPLETED:
        shown["result"] = {"videos": [_video(task)]}
        shown |= {"billing_status": "settled"} if task.number % 2 else {}
    if state is State.FAILED:
        shown["error"] = _error(task)
    return shown


def push_body(task: SandboxTask, state: State | None = None, task_id: str | None = None) -> dict[str, Any]:
    """Return a push's body in this task's shape; `state` and `task_id` are for the pushes that lie."""
    shown = view(task, state)
    shown["task_id"] = task_id or task.id
    shapes: tuple[dict[str, Any], ...] = (shown, {"data": shown}, {"task": shown}, _event(task, shown))
    return shapes[task.number % 4]


def video_url(task: SandboxTask) -> str:
    """Return where the finished video lies."""
    return f"{task.order.origin}media/tasks/{task.id}/0.mp4"


def _event(task: SandboxTask, shown: dict[str, Any]) -> dict[str, Any]:
    """The envelope of the predecessor's docs (2025-10 to 2026-03), the only body ever published."""
    event = {"event": f"task.{shown['status']}", "task_id": shown["task_id"], "type": "video"}
    event["status"] = shown["status"]
    if "result" in shown:
        event["result"] = {"video_url": video_url(task), "duration": task.order.duration_seconds}
    if "error" in shown:
        event["error"] = shown["error"]
    if "completed_at" in shown:
        event["completed_at"] = _ended(task).isoformat(timespec="seconds").replace("+00:00", "Z")
    return event


def _ended(task: SandboxTask) -> datetime:
    return task.ended_at or task.created_at


def _time(task: SandboxTask, moment: datetime) -> int:
    """Mid-2026 pages say milliseconds, newer ones seconds."""
    return int(moment.timestamp()) if task.number % 2 else int(moment.timestamp() * 1000)


def _progress(task: SandboxTask, state: State) -> int | str:
    percent = {State.QUEUED: 0, State.PROCESSING: 45, State.COMPLETED: 100}.get(state, 0)
    return (percent, f"{percent}%", "")[(task.number + task.fetches) % 3]


def _video(task: SandboxTask) -> dict[str, Any]:
    url: str | list[str] = video_url(task) if task.number // 4 % 2 else [video_url(task)]
    return {"url": url, "expires_at": int((_ended(task) + URL_LIFE).timestamp())}


def _error(task: SandboxTask) -> dict[str, str]:
    code, message = _ERRORS[task.number % len(_ERRORS)]
    return {"message": f"[{code}] {message}" if task.number % 2 else message, "code": code}
