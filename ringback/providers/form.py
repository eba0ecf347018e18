"""PURE. Checks of a submission form that the providers share; each says them with its own names and codes.

Two layers: what no model of any provider can accept (`check_form`), and what the pages say of one model, Grok Imagine
1.0 Video (`check_grok`). Called by the provider files from `validate`. Sends and reads nothing.
"""

from collections.abc import Collection, Set
from dataclasses import dataclass
from decimal import ROUND_HALF_UP, Decimal
from typing import Any

import msgspec

from ringback.errors import InvalidSubmission
from ringback.model import Form
from ringback.providers.reading import is_web_url, shape

# Both pages, shared seeds 000… and 004…, agree on these.
GROK = "grok-imagine-1.0-video"
RATIOS = ("16:9", "9:16", "1:1", "3:2", "2:3")
RESOLUTIONS = ("480p", "720p")
SHORTEST_SECONDS, LONGEST_SECONDS, DEFAULT_SECONDS = 6, 30, 6
MAX_IMAGES = 7

TEXT_TO_VIDEO, IMAGE_TO_VIDEO = "text2video", "image2video"
FRAMES = 2

TEXT_FIELDS = ("model", "prompt", "action", "aspect_ratio", "resolution")
MICRODOLLARS = 1_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Dialect:
    """How one provider names the form's fields and its own refusals."""

    provider: str
    invalid: str  # the code of a bad value
    missing: str  # the code of a missing one
    aspect_ratio: str = "aspect_ratio"
    resolution: str = "resolution"
    grok: str = ""  # what its messages about Grok start with
    prompt_limit: int | None = None
    too_long: str = ""  # the code of a prompt above that limit

    def refuse(self, field: str, message: str, code: str | None = None) -> InvalidSubmission:
        """Make the error that names a field as the provider does."""
        return InvalidSubmission(message, provider=self.provider, code=code or self.invalid, field=field)

    def name(self, field: str) -> str:
        """Translate a field of the form."""
        return {"aspect_ratio": self.aspect_ratio, "resolution": self.resolution}.get(field, field)


def is_blank(prompt: str | None) -> bool:
    """Tell whether a prompt counts as missing (shared seed 000…: "empty / whitespace-only")."""
    return prompt is None or not prompt.strip()


def check_form(form: Form, dialect: Dialect, reserved: Set[str]) -> None:
    """Refuse what no model takes: wrong types, unsendable text, URLs that are not http(s), extras that we set."""
    for field in TEXT_FIELDS:
        value = getattr(form, field)
        if value is not None and not _is_sendable(value):
            raise dialect.refuse(dialect.name(field), f"{dialect.name(field)} must be text, got {_shown(value)}")
    if is_blank(form.model):
        raise dialect.refuse("model", "model is required", dialect.missing)
    if form.duration is not None and not _is_duration(form.duration):
        raise dialect.refuse("duration", f"duration must be an integer, got {_shown(form.duration)}")
    _check_images(form, dialect)
    _check_extra(form, dialect, reserved)


def check_grok(form: Form, dialect: Dialect) -> None:
    """Refuse what the pages say of Grok Imagine 1.0 Video, in the order of the table in shared seed 000…."""
    count = len(form.image_urls)
    prompt = "" if form.prompt is None or is_blank(form.prompt) else form.prompt
    if not prompt and not count:
        message = "prompt is required when image_urls is empty (text-to-video)"
        raise dialect.refuse("prompt", dialect.grok + message, dialect.missing)
    if dialect.prompt_limit is not None and len(prompt) > dialect.prompt_limit:
        message = f"prompt exceeds {dialect.prompt_limit} characters (got {len(prompt)})"
        raise dialect.refuse("prompt", dialect.grok + message, dialect.too_long)
    if count > MAX_IMAGES:
        message = f"image_urls accepts at most {MAX_IMAGES} entries, got {count}"
        raise dialect.refuse("image_urls", dialect.grok + message)
    if form.duration is not None and not SHORTEST_SECONDS <= form.duration <= LONGEST_SECONDS:
        message = f"duration must be {SHORTEST_SECONDS}-{LONGEST_SECONDS} seconds, got {_shown(form.duration)}"
        raise dialect.refuse("duration", dialect.grok + message)
    _check_choice(form.aspect_ratio, dialect.aspect_ratio, RATIOS, dialect)
    _check_choice(form.resolution, dialect.resolution, RESOLUTIONS, dialect)


def kind_of(form: Form) -> str:
    """Tell which of the two calls a form means, where the images decide."""
    return IMAGE_TO_VIDEO if form.image_urls else TEXT_TO_VIDEO


def check_frames(form: Form, dialect: Dialect) -> None:
    """Refuse what fits neither text2video nor image2video, whose images are the first frame and the last."""
    count = len(form.image_urls)
    if form.action not in (None, "generate", kind_of(form)):
        message = f"action {_shown(form.action)} contradicts {count} image_urls, which decide; leave the action out"
        raise dialect.refuse("action", message)
    if count > FRAMES:
        raise dialect.refuse("image_urls", f"image_urls takes the first frame and the last, got {count} entries")
    if is_blank(form.prompt) and not count:
        raise dialect.refuse("prompt", "prompt is required when image_urls is empty (text2video)", dialect.missing)


def check_events(form: Form, dialect: Dialect, known: Collection[str]) -> tuple[str, ...]:
    """Give our words of callback_events, each once; refuse what is none of those that the provider has a word for."""
    words: Any = form.callback_events or ()  # a form read from a file may hold anything
    if not isinstance(words, tuple | list):
        raise dialect.refuse("callback_events", f"callback_events must be a list, got {type(words).__name__}")
    for word in words:
        if type(word) is not str or word not in known:
            message = f"unknown callback event {shape(word)} (allowed: {', '.join(known)})"
            raise dialect.refuse("callback_events", message)
    return tuple(dict.fromkeys(words))


def seconds_of(form: Form) -> int | None:
    """Give the length to be billed; None where neither the form nor the model's page says it."""
    if form.duration is None:
        return DEFAULT_SECONDS if form.model == GROK else None
    return form.duration if _is_duration(form.duration) else None


def microdollars(usd: Decimal) -> int:
    """Round an amount to whole micro-dollars, half up."""
    return int((usd * MICRODOLLARS).to_integral_value(ROUND_HALF_UP))


def encode(body: dict[str, Any]) -> bytes:
    """Encode a checked request body."""
    return msgspec.json.encode(body)


def _check_choice(value: str | None, name: str, allowed: tuple[str, ...], dialect: Dialect) -> None:
    if value is not None and value not in allowed:
        message = f'invalid {name} "{value[:60]}" (allowed: {" / ".join(allowed)})'
        raise dialect.refuse(name, dialect.grok + message)


def _check_images(form: Form, dialect: Dialect) -> None:
    """Shared seed 000…: "public HTTP(S) URLs", "no data: URIs"; a lone string would be read letter by letter."""
    if not isinstance(form.image_urls, tuple | list):
        raise dialect.refuse("image_urls", f"image_urls must be a list of URLs, got {_shown(form.image_urls)}")
    if not all(is_web_url(url) for url in form.image_urls):
        prefix = dialect.grok if form.model == GROK else ""
        raise dialect.refuse("image_urls", prefix + "image_urls entries must be public http(s) URLs")


def _check_extra(form: Form, dialect: Dialect, reserved: Set[str]) -> None:
    extra: Any = form.extra  # a form read from a file may hold anything
    if not isinstance(extra, dict) or not all(isinstance(key, str) for key in extra):
        raise dialect.refuse("extra", "extra must be an object of the provider's own parameters")
    for key in extra:
        if key in reserved:
            raise dialect.refuse(key, f"{key} cannot be given as an extra: the form or Ringback sets it")
    try:
        encode(extra)
    except (TypeError, ValueError, RecursionError):  # a lone surrogate is a ValueError
        raise dialect.refuse("extra", "extra must hold JSON values only") from None


def _is_duration(value: Any) -> bool:
    """Tell whether a value is a whole number of a sane size; `True` and "6" are not (shared seed 000…)."""
    return type(value) is int and -(2**31) < value < 2**31


def _is_sendable(value: Any) -> bool:
    """Tell whether a value is text that JSON, UTF-8 and every ledger can hold."""
    return isinstance(value, str) and "\0" not in value and not any("\ud800" <= c <= "\udfff" for c in value)


def _shown(value: Any) -> str:
    """Show a refused value in few characters."""
    return ascii(value)[:60] if isinstance(value, str | float) or _is_duration(value) else type(value).__name__
