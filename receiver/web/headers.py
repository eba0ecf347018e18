"""Chooses which headers of a callback are kept with it. A list of what may be kept, never of what may not.

Secrets travel in headers under any name (Authorization, Cookie, a provider's fixed secret), so an unknown name is
dropped. Called by `callbacks`.
"""

import re
from collections.abc import Iterable
from functools import lru_cache

MOST_HEADERS = 32
MOST_BYTES = 512

_KEPT = re.compile(
    rb"content-(?:type|length|encoding)|user-agent|date|traceparent|x-(?:request|correlation)-id"
    rb"|(?:webhook|svix|ce)-[a-z0-9-]+"
    rb"|(?:[a-z0-9]+-)+(?:signature(?:-[a-z0-9]+)?|timestamp|event|event-id|event-type|delivery|delivery-id"
    rb"|request-id|webhook-id|user-id)"
)


@lru_cache(maxsize=512)
def is_kept(name: bytes) -> bool:
    """Tell whether a header of this lower-case name is kept."""
    return _KEPT.fullmatch(name) is not None


def kept_headers(headers: Iterable[tuple[bytes, bytes]]) -> tuple[tuple[str, str], ...]:
    """Give the headers to keep, as text, cut to size."""
    kept = [(name, value) for name, value in headers if is_kept(name)]
    return tuple((name.decode("ascii"), value[:MOST_BYTES].decode("latin-1")) for name, value in kept[:MOST_HEADERS])
