"""What reAPI accepts in a submission (shared seed 000…, "Request body"), read into an Order or refused.

Pure. Codes and messages are the page's "Validation errors" table; parameters it does not name are ignored.
"""

import math
from collections.abc import Mapping
from decimal import Decimal
from typing import Any

from ringback.sandbox.book import Order
from ringback.sandbox.wire import Refusal, is_http_url

MODEL = "grok-imagine-1.0-video"
MAX_PROMPT = 4000
MICRO_USD_PER_CREDIT = 1000

_SIZES = ("16:9", "9:16", "1:1", "3:2", "2:3")
_QUALITIES = ("480p", "720p")
_MISSING, _BAD_VALUE, _PROMPT_TOO_LONG = 20002, 20003, 20007


def read_order(body: Mapping[str, Any], *, origin: str, usd_per_second: Decimal) -> Order:
    """Return what was ordered, or refuse with 400 and the table's code."""
    _check_model(body)
    images = _images(body)
    prompt = _prompt(body, images)
    duration = _duration(body)
    _check_choice(body, "size", _SIZES)
    _check_choice(body, "quality", _QUALITIES)
    return Order(
        provider="reapi",
        model=MODEL,
        prompt=prompt,
        duration_seconds=duration,
        price_micro_usd=math.ceil(usd_per_second * duration * 1000) * MICRO_USD_PER_CREDIT,
        origin=origin,
    )


def _wrong(message: str, code: int = _BAD_VALUE) -> Refusal:
    return Refusal(400, f"grok-imagine: {message}", code=code)


def _check_model(body: Mapping[str, Any]) -> None:
    if "model" not in body:
        raise _wrong("model is required", _MISSING)
    if body["model"] != MODEL:
        raise _wrong(f"invalid model (must be {MODEL})")


def _images(body: Mapping[str, Any]) -> list[str]:
    images = body.get("image_urls")
    if images is None:
        return []
    if not isinstance(images, list):
        raise _wrong("image_urls must be an array")
    if len(images) > 7:
        raise _wrong(f"image_urls accepts at most 7 entries, got {len(images)}")
    if not all(is_http_url(image) for image in images):
        raise _wrong("image_urls entries must be public http(s) URLs")
    return images


def _prompt(body: Mapping[str, Any], images: list[str]) -> str:
    prompt = body.get("prompt") or ""
    if not isinstance(prompt, str):
        raise _wrong("prompt must be a string")
    if not prompt.strip() and not images:
        raise _wrong("prompt is required when image_urls is empty (text-to-video)", _MISSING)
    if len(prompt) > MAX_PROMPT:
        raise _wrong(f"prompt exceeds {MAX_PROMPT} characters (got {len(prompt)})", _PROMPT_TOO_LONG)
    return prompt


def _duration(body: Mapping[str, Any]) -> int:
    duration = body.get("duration", 6)
    if type(duration) is not int or not 6 <= duration <= 30:  # a bool is an int too
        raise _wrong(f"duration must be 6-30 seconds, got {duration!r}")
    return duration


def _check_choice(body: Mapping[str, Any], name: str, allowed: tuple[str, ...]) -> None:
    value = body.get(name, allowed[0])
    # "Lowercase is canonical" for quality, so another case is understood; sizes have none.
    if not isinstance(value, str) or value.lower() not in allowed:
        raise _wrong(f'invalid {name} "{value}" (allowed: {" / ".join(allowed)})')
