"""Chooses which headers of a callback are kept with it. A list of what may be kept, never of what may not.

Secrets travel in headers under any name (Authorization, Cookie, a provider's fixed secret), so an unknown name is
dropped. Called by `callbacks`.
"""

import re
from collections.abc import Iterable, Set
from functools import lru_cache

MOST_HEADERS = 32
MOST_BYTES = 512
SHORT = 64

_KEPT = re.compile(
    rb"content-(?:type|length|encoding)|user-agent|date|traceparent|x-(?:request|correlation)-id"
    rb"|(?:webhook|svix|ce)-[a-z0-9-]+"
    rb"|(?:[a-z0-9]+-)+(?:signature(?:-[a-z0-9]+)?|timestamp|event|event-id|event-type|delivery|delivery-id"
    rb"|request-id|webhook-id|user-id|generation-id)"
)


@lru_cache(maxsize=512)
def is_kept(name: bytes) -> bool:
    """Tell whether a header of this lower-case name is kept."""
    return _KEPT.fullmatch(name) is not None


def kept_headers(
    headers: Iterable[tuple[bytes, bytes]], first: Set[bytes] = frozenset(), never: Set[bytes] = frozenset()
) -> tuple[tuple[str, str], ...]:
    """Give the headers to keep, as text, cut to size; what the provider asks for comes `first`, whatever its name.

    So nobody can push the signed event id out of the list with headers of his own. What holds a provider's secret is
    kept `never`, whatever its name: users choose some of them.
    """
    kept = [
        _usual(name, value) if len(value) <= SHORT else _text(name, value)
        for name, value in headers
        if (name in first or is_kept(name)) and name not in never
    ]
    if len(kept) > MOST_HEADERS:
        kept.sort(key=lambda header: header[0].encode() not in first)
    return tuple(kept[:MOST_HEADERS])


def _text(name: bytes, value: bytes) -> tuple[str, str]:
    return name.decode("ascii"), value[:MOST_BYTES].decode("latin-1")


# Most short ones are the same in every request; it holds 1024 of them, some 150 kB.
_usual = lru_cache(maxsize=1024)(_text)
