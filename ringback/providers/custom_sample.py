"""PURE. Writes the callback that a custom provider's own paths read back, for `ringback trigger` and tests.

Called by `custom`. It knows no service: a real callback holds more than this, and perhaps in other shapes.
"""

from collections.abc import Iterator
from datetime import datetime
from typing import TYPE_CHECKING, Any

from ringback.errors import Unreadable, Unsupported
from ringback.model import Callback, Reading, TaskState
from ringback.providers import form as forms
from ringback.providers.paths import Path, Step, parse_path
from ringback.providers.provider import Sample

if TYPE_CHECKING:
    from ringback.providers.custom import Custom

MAX_INDEX = 50  # a sample is no place for a list of a million nulls
SAMPLE_URL = "https://files.example/sample.mp4"


def build_custom_sample(provider: "Custom", provider_id: str, status: TaskState, now: datetime) -> Sample:
    """Put something at the first alternative of each path.

    Raises:
        Unsupported: no status word stands for this status, or the paths stand in one another's way.
    """
    word = next((word for word, state in _words(provider) if state is status), None)
    if not provider.places.task_id or word is None:
        raise Unsupported(f"{provider.name}: no callback of its own speaks of a {status} task")
    event_id = f"sample-{int(now.timestamp() * 1_000_000)}-{status}"
    document: dict[str, Any] = {}
    for path, value in _values(provider, provider_id, status, word, event_id):
        _place(document, path.steps, value)
    headers = {"Content-Type": "application/json"}
    if provider.event_ids and isinstance(header := provider.event_ids[0], str) and not _signs(provider, header):
        headers[header] = event_id
    sample = Sample(body=forms.encode(document), headers=headers)
    if not _is_read_back(provider, sample, provider_id, status, now):
        raise Unsupported(f"{provider.name}: its paths stand in one another's way, so there is no sample of a callback")
    return sample


def _words(provider: "Custom") -> Iterator[tuple[str, TaskState]]:
    """Give the user's own words first."""
    yield from provider.own_words.items()
    yield from provider.words.items()


def _values(
    provider: "Custom", provider_id: str, status: TaskState, word: str, event_id: str
) -> Iterator[tuple[Path, Any]]:
    """Give what to put where; what comes first stays."""
    places = provider.places
    yield places.task_id[0], provider_id
    yield places.status[0], word
    # What a scheme signs has to be there; usually it is the task id anyway.
    yield from ((parse_path(text), provider_id) for text in getattr(provider.scheme, "field", ())[:1])
    yield from ((path, event_id) for path in provider.event_ids[:1] if isinstance(path, Path))
    yield from ((path, f"task.{status}") for path in provider.event_types[:1])
    if status is TaskState.COMPLETED:
        yield from ((path, SAMPLE_URL) for path in places.result_urls[:1])
    elif status in (TaskState.FAILED, TaskState.CANCELLED, TaskState.EXPIRED):
        yield from ((path, "sample") for path in places.error_code[:1])
        yield from ((path, f"a sample of a {status} task") for path in places.error[:1])


def _place(node: Any, steps: tuple[Step, ...], value: Any) -> Any:
    """Put a value into a document; gives the document. Where something else stands, nothing is changed.

    Raises:
        Unsupported: the position in a list is too far off.
    """
    if not steps:
        if type(node) is dict and type(value) is str:  # a code was put below the error already
            node.setdefault("message", value)
        return value if node is None else node
    step, rest = steps[0], steps[1:]
    if isinstance(step, str):
        node = {} if node is None else node
        if type(node) is dict:
            node[step] = _place(node.get(step), rest, value)
        return node
    node, index = [] if node is None else node, step or 0
    if index > MAX_INDEX:
        raise Unsupported(f"expected a position of at most {MAX_INDEX} in a list of a sample, got {index}")
    if type(node) is list:
        node += [None] * (index + 1 - len(node))
        node[index] = _place(node[index], rest, value)
    return node


def _signs(provider: "Custom", header: str) -> bool:
    """Tell whether the scheme itself sends this header: twice it would be refused."""
    return provider.scheme is not None and header in provider.scheme.header_names


def _is_read_back(provider: "Custom", sample: Sample, provider_id: str, status: TaskState, now: datetime) -> bool:
    callback = Callback(body=sample.body, headers=tuple(sample.headers.items()), received_at=now)
    try:
        told = provider.read_callback(callback)
    except Unreadable:
        return False
    return isinstance(told, Reading) and (told.provider_id, told.status) == (provider_id, status)
