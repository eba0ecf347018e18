"""Asking a provider once more about a task that has completed, for fresh URLs of its results.

It reads, and changes nothing: no state, no schedule of the poller, no event. What the answer says of the task's status
counts for nothing here; that is `asking`'s business. Called by the composition root, for whoever keeps results.
"""

from datetime import datetime

from ringback.errors import Unreachable, Unreadable, Unsupported
from ringback.model import Result, Task, TaskState
from ringback.outbound import Outbound
from ringback.providers import Provider, Request
from ringback.settings import Settings
from submitter.inquiring import MOST_PARTS, read_about


async def fresh_results(settings: Settings, outbound: Outbound, task: Task, now: datetime) -> tuple[Result, ...]:
    """Give a task's results as the provider tells of them now.

    Raises:
        SettingsError: the provider cannot be asked: its key is missing.
        Unreachable: there was no answer; a later one may tell more.
        Unsupported: tasks of this provider cannot be asked about.
        Unreadable: the answer tells of no results.
    """
    provider = settings.catalogue.get(task.provider)
    if provider is None or task.provider_id is None or not provider.fetches:
        raise Unsupported(f"{task.provider}: this task cannot be asked about")
    request = provider.build_fetch(task)
    for _ in range(MOST_PARTS):
        answered = await _ask(outbound, provider, request, task, now)
        if not isinstance(answered, Request):
            return answered
        request = answered
    raise Unreadable(f"{provider.name}: no whole answer in {MOST_PARTS} parts")


async def _ask(
    outbound: Outbound, provider: Provider, request: Request, task: Task, now: datetime
) -> tuple[Result, ...] | Request:
    response = await outbound.send(provider, request)
    status = provider.fetch_status(response)
    if status == 404 or status == 410:
        raise Unreadable(f"{provider.name}: answered {status}")
    if not 200 <= status < 300:
        raise Unreachable(f"{provider.name}: answered {status}")
    reading = read_about(provider, response, task, now)
    if isinstance(reading, Request):
        return reading
    if reading.status is not TaskState.COMPLETED:
        raise Unreadable(f"{provider.name}: the task is {reading.status} now")
    return reading.results
