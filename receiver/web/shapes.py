"""How the ledger's records look as JSON: fields as in `ringback.model`, bodies as text, tokens masked."""

import dataclasses
from base64 import b64encode
from collections.abc import Mapping
from typing import Any

import msgspec

from ringback.ledger import KeptCallback, Owed, Story, Summary
from ringback.logs import mask
from ringback.model import Callback, Delivery, Event


def mask_tokens(text: bytes) -> bytes:
    """Mask the token of every callback URL in bytes, which need not be text."""
    return mask(text.decode("latin-1")).encode("latin-1")


def fields_of(record: Any, *without: str) -> dict[str, Any]:
    """Give a record's fields by name, not copied."""
    is_struct = isinstance(record, msgspec.Struct)
    names = record.__struct_fields__ if is_struct else [field.name for field in dataclasses.fields(record)]
    return {name: getattr(record, name) for name in names if name not in without}


def body_shape(body: bytes) -> dict[str, Any]:
    """Give a body as text where it is UTF-8, else as base64; `body_encoding` says which."""
    masked = mask_tokens(body)
    try:
        return {"body": masked.decode(), "body_encoding": "utf-8", "body_bytes": len(body)}
    except UnicodeDecodeError:
        return {"body": b64encode(masked).decode(), "body_encoding": "base64", "body_bytes": len(body)}


def event_shape(event: Event, *, whole: bool) -> dict[str, Any]:
    """Give an event; its body only where `whole`, since a list of them may be hundreds of megabytes."""
    body = body_shape(event.body) if whole else {"body_bytes": len(event.body)}
    return fields_of(event, "body") | body


def callback_shape(callback: Callback) -> dict[str, Any]:
    """Give a request as it came."""
    return {"headers": callback.headers, "received_at": callback.received_at} | body_shape(callback.body)


def kept_shape(kept: KeptCallback) -> dict[str, Any]:
    """Give a request that was kept beside the events."""
    return fields_of(kept, "callback") | callback_shape(kept.callback)


def delivery_shape(delivery: Delivery) -> dict[str, Any]:
    """Give a delivery; how many of its attempts count is `counted_attempts`, since a list may stand beside it."""
    return fields_of(delivery, "attempts") | {"counted_attempts": delivery.attempts}


def owed_shape(owed: Owed) -> dict[str, Any]:
    """Give a delivery with its event's type, its task and its attempts: one flat object, as people think of it."""
    return delivery_shape(owed.delivery) | fields_of(owed, "delivery")


def story_shape(story: Story) -> dict[str, Any]:
    """Give all about one task."""
    return {
        "task": story.task,
        "events": [event_shape(event, whole=True) for event in story.events],
        "callbacks": [kept_shape(kept) for kept in story.callbacks],
        "deliveries": [owed_shape(owed) for owed in story.deliveries],
        "children": story.children,
    }


def summary_shape(summary: Summary) -> dict[str, Any]:
    """Give the counts; rejections as lists, since JSON has no pairs for keys."""
    rejections = {"rejections": summary.rejections, "new_rejections": summary.new_rejections}
    return fields_of(summary, *rejections) | {name: _listed(counts) for name, counts in rejections.items()}


def _listed(counts: Mapping[tuple[str, str], int]) -> list[dict[str, Any]]:
    return [{"provider": provider, "reason": reason, "count": count} for (provider, reason), count in counts.items()]
