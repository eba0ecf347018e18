"""PURE. What would be submitted: the task as it will be stored, checked, priced, and shown without its secrets.

Called by `submitter.client` before anything is stored, and by `--dry-run` through `Submitter.plan`. Sends nothing,
stores nothing.
"""

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any

import msgspec

from ringback.errors import CostTooHigh, InvalidSubmission, SettingsError
from ringback.logs import mask
from ringback.model import Form, Task, new_id
from ringback.outbound import request_url
from ringback.providers import Provider, Request
from ringback.providers.signatures import TASK_ID, callback_url, fingerprint
from ringback.settings import Settings, variable_name

MAX_KEY = 200
MAX_METADATA_BYTES = 16 << 10
MICRODOLLARS = 1_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What `submit` would do, for people: the URL's token is masked, in the request too."""

    task: Task
    method: str
    url: str
    request: Request
    callback_url: str | None  # None: the poller will fetch
    price_microdollars: int | None  # None: no rate is known


def make_plan(settings: Settings, provider: Provider, task: Task) -> Plan:
    """Show a drafted task."""
    url = task_url(settings, task)
    shown = mask(url) if url else None
    request = provider.build_submission(task, shown)
    return Plan(
        task=task,
        method=request.method,
        url=request_url(settings, provider, request),
        request=request,
        callback_url=shown,
        price_microdollars=task.price_microdollars,
    )


def make_form(provider: Provider, given: Mapping[str, Any]) -> Form:
    """Build the form out of what a caller or a line of a file gives, and let the provider check it.

    Raises:
        InvalidSubmission: with the field at fault.
    """
    values = {name: value for name, value in given.items() if value is not None}
    for name in ("image_urls", "callback_events"):
        if name in values:
            values[name] = _texts(provider, name, values[name])
    values["extra"] = _json_object(provider, "extra", values.get("extra", {}))
    if "model" not in values:
        values["model"] = provider.models[0] if provider.models else ""
    form = Form(**values)
    provider.validate(form)
    return form


def draft_task(
    settings: Settings,
    provider: Provider,
    form: Form,
    now: datetime,
    *,
    key: str | None = None,
    metadata: Mapping[str, Any] | None = None,
    parent: str | None = None,
) -> Task:
    """Make the task that is stored before anything is sent.

    Raises:
        InvalidSubmission: the key, the metadata or the parent cannot be kept.
        SettingsError: a callback URL is wanted but there is no secret to make it with.
    """
    return Task(
        id=new_id("task", now),
        provider=provider.name,
        form=form,
        key=_check_key(provider, key),
        request_hash=request_hash(provider, form),
        metadata=_check_metadata(provider, {} if metadata is None else metadata),
        url_key=_url_key(settings, provider),
        parent_id=_check_parent(provider, parent),
        created_at=now,
        price_microdollars=provider.price(form, settings.provider(provider.name).usd_per_second),
    )


def check_cost(task: Task, max_cost: Any, spent_microdollars: int = 0) -> int:
    """Refuse a task whose price is above the limit, or is not known; gives what is spent with it.

    Raises:
        CostTooHigh: says what it would cost, or which setting gives a rate.
    """
    if max_cost is None:
        return 0
    if not isinstance(max_cost, Decimal) or not max_cost.is_finite() or max_cost < 0:
        message = "max_cost must be an amount in US dollars, as a Decimal"
        raise InvalidSubmission(message, provider=task.provider, field="max_cost")
    if task.price_microdollars is None:
        setting = variable_name((task.provider, "usd_per_second"))
        advice = f"set {setting}" + (" and give a duration" if task.form and task.form.duration is None else "")
        raise CostTooHigh(f"{task.provider}: no price is known, so a limit of ${max_cost:f} cannot be kept: {advice}")
    total = spent_microdollars + task.price_microdollars
    if total > max_cost * MICRODOLLARS:
        price = Decimal(total) / MICRODOLLARS
        what = "the lines up to this one" if spent_microdollars else "this"
        raise CostTooHigh(f"{task.provider}: {what} would cost ${price:f}, above the limit of ${max_cost:f}")
    return total


def request_hash(provider: Provider, form: Form) -> str:
    """Tell one request from another. Fields left out do not count, so that new fields change no old hash."""
    asked = {name: value for name in form.__struct_fields__ if (value := getattr(form, name)) not in (None, (), {})}
    text = msgspec.json.encode([provider.name, asked], order="deterministic")
    return hashlib.sha256(text).hexdigest()


def task_url(settings: Settings, task: Task) -> str | None:
    """Give a task's callback URL, made with the secret that the task names; None when it has none.

    A secret that is no longer listed could not verify the push: then the newest one makes the URL.
    """
    if task.url_key is None or settings.public_url is None or not settings.secret:
        return None
    known = {fingerprint(secret): secret for secret in settings.secret}
    secret = known.get(task.url_key, settings.secret[0])
    return callback_url(settings.public_url, secret, task.provider, task.id)


def _url_key(settings: Settings, provider: Provider) -> str | None:
    if settings.public_url is None or not provider.pushes:
        return None
    if not settings.secret:
        raise SettingsError(
            "RINGBACK_PUBLIC_URL is set, so RINGBACK_SECRET is needed for callback URLs; make one with: "
            "python3 -c 'import secrets; print(secrets.token_urlsafe(48))'"
        )
    return fingerprint(settings.secret[0])


def _check_key(provider: Provider, key: Any) -> str | None:
    if key is None:
        return None
    if isinstance(key, str) and 1 <= len(key) <= MAX_KEY and key.isprintable():
        return key
    raise InvalidSubmission(f"key must be 1 to {MAX_KEY} printable characters", provider=provider.name, field="key")


def _check_parent(provider: Provider, parent: Any) -> str | None:
    if parent is None or (isinstance(parent, str) and TASK_ID.fullmatch(parent)):
        return parent
    raise InvalidSubmission("parent must be a task's id, task_…", provider=provider.name, field="parent")


def _check_metadata(provider: Provider, metadata: Any) -> dict[str, Any]:
    checked = _json_object(provider, "metadata", metadata)
    if (size := len(msgspec.json.encode(checked))) > MAX_METADATA_BYTES:
        message = f"metadata must be at most {MAX_METADATA_BYTES} bytes as JSON, got {size}"
        raise InvalidSubmission(message, provider=provider.name, field="metadata")
    return checked


def _json_object(provider: Provider, field: str, value: Any) -> dict[str, Any]:
    """Give a copy that went through JSON: what would come back from the ledger as something else is refused."""
    copy: dict[str, Any] | None
    try:
        copy = msgspec.json.decode(msgspec.json.encode(value))
    except (TypeError, ValueError, RecursionError, OverflowError):
        copy = None
    if isinstance(value, dict) and copy is not None and copy == value:
        return copy
    message = f"{field} must be a JSON object with text keys and JSON values only"
    raise InvalidSubmission(message, provider=provider.name, field=field)


def _texts(provider: Provider, field: str, value: Any) -> tuple[str, ...]:
    """Take a list of texts; a lone text would be read letter by letter."""
    if isinstance(value, Iterable) and not isinstance(value, str | bytes | Mapping):
        items = tuple(value)
        if all(isinstance(item, str) for item in items):
            return items
    raise InvalidSubmission(f"{field} must be a list of texts", provider=provider.name, field=field)
