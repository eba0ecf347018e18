"""PURE. The keys by which the ledger tells that two requests say the same; unique in its tables.

Called by `fold` and, to look up what is known already, by every engine.
"""

import hashlib

from ringback.model import Arrival, Source, TaskState, Trust


def body_hash(arrival: Arrival) -> str:
    """Name a body that carries no id of its own."""
    return hashlib.sha256(arrival.callback.body).hexdigest()


def unrecognised_key(arrival: Arrival) -> str:
    """Key a request that was not understood: by the URL's task and its bytes, so it touches no other task's keys."""
    return f"u:{arrival.provider}:{arrival.task_id or ''}:{body_hash(arrival)}"


def event_key(arrival: Arrival, task_id: str) -> str | None:
    """Key a fact by the provider's event id: per provider where signed, else only within its task."""
    said = arrival.reading or arrival.notice
    if said is None or said.event_id is None or arrival.source is not Source.CALLBACK:
        return None
    scope = arrival.provider if arrival.trust is Trust.SIGNED else task_id
    return f"e:{scope}:{said.event_id}"


def received_key(arrival: Arrival) -> str:
    """Key what is not about a task: by the provider's event id in its scope, else by its bytes.

    What Ringback itself has noticed has keys that no provider can take.
    """
    if arrival.source is Source.RINGBACK and arrival.notice is not None:
        return f"r:{arrival.provider}:{arrival.notice.event_id}"
    return event_key(arrival, arrival.task_id or arrival.provider) or unrecognised_key(arrival)


def fact_key(task_id: str, status: TaskState, source: Source) -> str:
    """Key a fact by what it says; a guess of ours has a key of its own, so that the provider's word is a new fact."""
    return f"{task_id}:{status.value}:presumed" if source is Source.RINGBACK else f"{task_id}:{status.value}"
