"""What qingbo accepts in a submission (shared seed 004…, "Common Parameters"), read into an Order or refused.

Pure. The page gives no codes for its 400s; `invalid_request` is ours, `capability_violation` is the docs'.
"""

import math
from collections.abc import Mapping
from decimal import Decimal
from typing import Any

from ringback.sandbox.book import TERMINAL, Order, State
from ringback.sandbox.wire import Refusal, is_http_url

MODEL = "grok-imagine-1.0-video"
USD_PER_SECOND = Decimal("0.0074375")
QUOTA_PER_USD = 500_000
MICRO_USD_PER_QUOTA = 1_000_000 // QUOTA_PER_USD

_CHOICES: Mapping[str, tuple[str, ...]] = {
    "model": (MODEL,),
    "action": ("generate", "image2video"),
    "aspect_ratio": ("16:9", "9:16", "1:1", "3:2", "2:3"),
    "resolution": ("480p", "720p"),
}
_PARAMETERS = _CHOICES.keys() | {"prompt", "duration", "image_urls", "callback_url", "callback_events", "extra"}
# The pages disagree about the vocabulary of callback_events: every word they use is understood.
_EVENTS: Mapping[str, State] = {
    "queued": State.QUEUED,
    "processing": State.PROCESSING,
    "running": State.PROCESSING,
    "completed": State.COMPLETED,
    "succeeded": State.COMPLETED,
    "failed": State.FAILED,
    "cancelled": State.CANCELLED,
    "canceled": State.CANCELLED,
}


def read_order(body: Mapping[str, Any], *, origin: str, key: str | None) -> Order:
    """Return what was ordered, or refuse with 400 naming the parameter."""
    _check_parameters(body)
    _check_choices(body)
    images = _images(body)
    action = body.get("action", "generate")
    if action == "image2video" and not images:
        raise _wrong("image_urls", "image_urls is required when action is image2video")
    duration = _duration(body)
    return Order(
        provider="qingbo",
        model=MODEL,
        action=action,
        prompt=_prompt(body, images),
        duration_seconds=duration,
        price_micro_usd=math.ceil(USD_PER_SECOND * duration * QUOTA_PER_USD) * MICRO_USD_PER_QUOTA,
        origin=origin,
        callback_url=_callback_url(body),
        callback_events=_callback_events(body),
        idempotency_key=key,
    )


def _wrong(param: str, message: str) -> Refusal:
    return Refusal(400, message, code="invalid_request", param=param)


def _check_parameters(body: Mapping[str, Any]) -> None:
    for name in body:
        if name not in _PARAMETERS:
            raise _wrong(name, f"unknown parameter {name}")
    if body.get("extra"):
        raise Refusal(400, "extra is not supported by this model", code="capability_violation", param="extra")


def _check_choices(body: Mapping[str, Any]) -> None:
    if "model" not in body:
        raise _wrong("model", "model is required")
    for name, allowed in _CHOICES.items():
        if name in body and body[name] not in allowed:
            raise _wrong(name, f"{name} must be one of {', '.join(allowed)}")


def _images(body: Mapping[str, Any]) -> list[str]:
    images = body.get("image_urls", [])
    if not isinstance(images, list) or not all(isinstance(image, str) and image for image in images):
        raise _wrong("image_urls", "image_urls must be an array of URLs")
    if len(images) > 7:
        raise _wrong("image_urls", f"image_urls accepts up to 7 images, got {len(images)}")
    return images


def _prompt(body: Mapping[str, Any], images: list[str]) -> str:
    prompt = body.get("prompt", "")
    if not isinstance(prompt, str):
        raise _wrong("prompt", "prompt must be a string")
    if not prompt.strip() and not images:
        raise _wrong("prompt", "prompt is required for text-to-video")
    return prompt


def _duration(body: Mapping[str, Any]) -> int:
    duration = body.get("duration", 6)
    if type(duration) is not int or not 6 <= duration <= 30:  # a bool is an int too
        raise _wrong("duration", "duration must be an integer from 6 to 30")
    return duration


def _callback_url(body: Mapping[str, Any]) -> str | None:
    url = body.get("callback_url")
    if url is None:
        return None
    if not is_http_url(url):
        raise _wrong("callback_url", "callback_url must be an http(s) URL")
    return str(url)


def _callback_events(body: Mapping[str, Any]) -> frozenset[State]:
    words = body.get("callback_events") or []
    if not isinstance(words, list) or not all(isinstance(word, str) and word in _EVENTS for word in words):
        raise _wrong("callback_events", f"callback_events must be an array of {', '.join(_EVENTS)}")
    return frozenset(_EVENTS[word] for word in words) or TERMINAL
