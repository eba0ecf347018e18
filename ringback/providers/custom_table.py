"""PURE. Reads a table `[providers.acme]` of ringback.toml into a provider, and refuses whatever cannot be right.

What is a setting of every provider (`secret`, `api_key`, …) is read by `ringback.settings`, which calls this. No
message repeats a value that may be secret.
"""

import re
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import MISSING, dataclass, fields
from datetime import timedelta
from typing import Any, get_type_hints

from ringback.model import Confirm, TaskState, Trust
from ringback.providers.custom import Custom, Fetch, Places, Submission, written
from ringback.providers.handshakes import Handshake
from ringback.providers.paths import Path
from ringback.providers.signatures import SCHEMES, Scheme
from ringback.providers.table import (
    Keys,
    Table,
    TableError,
    choice,
    dotted,
    header_name,
    member_path,
    nearest,
    type_name,
)
from ringback.providers.templates import Text, parse_body, parse_text, parse_url_path

NAME = re.compile(r"[a-z][a-z0-9]{1,31}")
# Names whose variables mean something else (RINGBACK_TEST_…, what Kubernetes injects), or that a counter uses.
TAKEN = frozenset({"port", "service", "test", "unknown"})

PLACES = ("task_id", "status", "result_urls", "error", "error_code")
OWN = (
    "scheme",
    *PLACES,
    "event_id",
    "event_type",
    "status_map",
    "result_kind",
    "result_life_hours",
    "tolerance_seconds",
    "retry_window_hours",
    "account_endpoint",
    "handshakes",
    "authorization",
    "submit",
    "fetch",
)
NO_SCHEME = "none"
TIMED = "timestamped-hmac"
# What people call a scheme, and what to write instead.
SHAPES = {
    "stripe": (TIMED, 'header = "stripe-signature"'),
    "slack": (
        TIMED,
        'header = "x-slack-signature", timestamp_header = "x-slack-request-timestamp", version = "v0", '
        'template = "v0:{timestamp}:{body}"',
    ),
    "toapis": (
        TIMED,
        'header = "x-toapis-webhook-signature", timestamp_header = "x-toapis-webhook-timestamp", '
        'id_header = "x-toapis-webhook-id", template = "{id}.{timestamp}.{body}"',
    ),
    "github": ("hmac", 'header = "x-hub-signature-256", prefix = "sha256="'),
    "hmac-sha256": ("hmac", 'algorithm = "sha256"'),
    "sha256": ("hmac", 'algorithm = "sha256"'),
    "svix": ("standard-webhooks", ""),
    "standard": ("standard-webhooks", ""),
    "kie": ("fields-hmac", 'header = "x-webhook-signature", timestamp_header = "x-webhook-timestamp", field = "…"'),
    "jwks": ("ed25519-jwks", "jwks_url and the names of four headers"),
    "ed25519": ("ed25519-jwks", "jwks_url and the names of four headers"),
}
# What a required option of a scheme holds.
OPTION_WORDS = {
    "header": "the name of the header that holds the signature",
    "signature_header": "the name of the header that holds the signature",
    "timestamp_header": "the name of the header that holds the time",
    "id_header": "the name of the header that holds the id of the request",
    "user_header": "the name of the header that holds the user's id",
    "field": "the path of the field that is signed, such as data.task_id",
}
SECRET_HEADER = "the name of the header that holds the secret"  # noqa: S105 -- words
# The option `secret` of Standard Webhooks would be the provider's secret itself.
OPTION_KEYS = {"secret": "secret_form"}
STATES = tuple(state.value for state in TaskState if state is not TaskState.PENDING)
KINDS = ("video", "image", "audio", "file")
METHODS = ("POST", "PUT", "PATCH", "GET")
CREDENTIALS = ("bearer", "basic", "key")
SUBMIT_NAMES = (
    "prompt",
    "model",
    "action",
    "aspect_ratio",
    "resolution",
    "duration",
    "image_urls",
    "callback_url",
    "task_id",
)
SUBMIT_HEADER_NAMES = ("callback_url", "task_id")  # the others may hold what no header can
FETCH_NAMES = ("provider_id", "task_id", "model")
SECRET_HEADERS = frozenset({"authorization", "cookie", "proxy-authorization"})
YEAR_HOURS = 8_784
DAY_SECONDS = 86_400
OPTION_OF_MESSAGE = re.compile(r"(\w+): ")


@dataclass(frozen=True, slots=True, kw_only=True)
class Common:
    """What `ringback.settings` has read of the same table, and the provider needs as well."""

    base_url: str | None = None
    jwks_url: str | None = None
    confirm: Confirm | None = None


def read_custom(name: str, values: Mapping[str, Any], keys: Keys, common: Common, settings: Collection[str]) -> Custom:
    """Read the table of one provider. `keys` lead to it; `settings` are the names in it that are read elsewhere.

    Raises:
        TableError: says what was expected, and under which keys.
    """
    table = Table(values, keys)
    scheme_class = _scheme_class(name, table)
    options = () if scheme_class is None else _option_keys(scheme_class)
    _check_keys(table, scheme_class, [*OWN, *options, *settings])
    scheme = None if scheme_class is None else _scheme(table, scheme_class)
    places, fetch = _places(table), _fetch(table)
    provider = Custom(
        name=name,
        base_url=common.base_url or "",
        jwks_url=common.jwks_url,
        scheme=scheme,
        tolerance=_span(table, "tolerance_seconds", 1, DAY_SECONDS, "a number of seconds"),
        account_endpoint=table.flag("account_endpoint") and scheme is not None,
        open_endpoint=table.flag("account_endpoint") and scheme is None,
        places=places,
        event_ids=table.texts("event_id", _event_id),
        event_types=table.texts("event_type", member_path),
        own_words=_status_map(table),
        result_kind=table.text("result_kind", choice(KINDS)) or "file",
        result_life=_hours(table, "result_life_hours") or Custom.result_life,
        retry_window=_hours(table, "retry_window_hours"),
        handshakes=frozenset(map(Handshake, table.texts("handshakes", choice(Handshake)))),
        credentials=table.text("authorization", _credentials) or "bearer",
        submission=_submission(table, places),
        fetch=fetch,
    )
    provider.event_id = written(provider.event_ids)
    _check_sense(table, provider, common.confirm)
    return provider


def _scheme_class(name: str, table: Table) -> type[Scheme] | None:
    if not NAME.fullmatch(name):
        raise TableError(table.keys, "expected a name of 2 to 32 of a-z and 0-9 that begins with a letter")
    if name in TAKEN:
        raise TableError(table.keys, f"{name} cannot be the name of a provider: it has another meaning already")
    word = table.text("scheme", _scheme_word)
    if word is None:
        raise table.missing("scheme", f"one of {', '.join([*SCHEMES, NO_SCHEME])}")
    return SCHEMES.get(word)


def _scheme_word(text: str) -> str:
    """Read the name of a scheme; who wrote that of a service is told what its shape is called here."""
    shape = SHAPES.get(text.strip().lower())
    if shape is not None:
        scheme, options = shape
        raise ValueError(f"did you mean {scheme}{f', with {options}' if options else ''}?")
    return choice([*SCHEMES, NO_SCHEME])(text)


def _option_keys(scheme: type[Scheme]) -> dict[str, str]:
    """Give the options of a scheme: the key in the table, and the name of the field."""
    return {OPTION_KEYS.get(option.name, option.name): option.name for option in fields(scheme)}  # type: ignore[arg-type]


KEYS_OF_CUSTOM = frozenset(OWN).union(*map(_option_keys, SCHEMES.values()))
"""Every key that only a custom provider's table has."""


def _check_keys(table: Table, scheme: type[Scheme] | None, known: Collection[str]) -> None:
    for key in table.values:
        if key in KEYS_OF_CUSTOM and key not in known:
            named = NO_SCHEME if scheme is None else scheme.name
            options = ", ".join(() if scheme is None else _option_keys(scheme)) or "none"
            raise TableError(
                (*table.keys, key), f"is no option of the scheme {named}, whose options are: {options}", " "
            )
    table.only(known)


def _scheme(table: Table, scheme: type[Scheme]) -> Scheme:
    keys = _option_keys(scheme)
    hints = get_type_hints(scheme)
    given: dict[str, Any] = {}
    for key, name in keys.items():
        if key not in table:
            continue
        if name == "header" or name.endswith("_header"):
            given[name] = table.text(key, header_name)
        elif hints[name] == tuple[str, ...]:
            given[name] = tuple(str(path) for path in table.texts(key, member_path))
        elif type(table.values[key]) is str:  # an empty one has a meaning in places
            given[name] = table.values[key]
        else:
            raise table.wrong(key, f"expected text, got {type_name(table.values[key])}")
    for option in fields(scheme):  # type: ignore[arg-type]
        if option.default is MISSING and option.name not in given:
            expected = SECRET_HEADER if scheme.trust is Trust.TOKEN else OPTION_WORDS[option.name]
            raise table.missing(option.name, f"{expected}, which the scheme {scheme.name} needs")
    return _made(table, scheme, given, {name: key for key, name in keys.items()})


def _made(table: Table, scheme: type[Scheme], given: Mapping[str, Any], keys: Mapping[str, str]) -> Scheme:
    """Make the scheme; what it refuses is told at the option, where its message begins with one."""
    make: Callable[..., Scheme] = scheme
    try:
        return make(**given)
    except ValueError as error:
        # Without what came: somebody may have taken `secret_form` for the place of the secret.
        text = str(error).partition(", got ")[0]
    option = OPTION_OF_MESSAGE.match(text)
    key = keys.get(option[1]) if option else None
    raise table.wrong("scheme", text) if key is None or option is None else table.wrong(key, text[option.end() :])


def _places(table: Table, default: Places | None = None) -> Places:
    """Read where the parts of a task stand; what is not said is as in `default`."""
    given = {name: table.texts(name, member_path) for name in PLACES}
    return Places(**{name: paths or getattr(default, name, ()) for name, paths in given.items()})


def _event_id(text: str) -> Path | str:
    kind, colon, name = text.partition(":")
    if not colon or kind != "header":
        return member_path(text)
    if header_name(name) in SECRET_HEADERS:
        raise ValueError("expected another header: this one holds secrets, and an event id is stored")
    return header_name(name)


def _credentials(text: str) -> str:
    kind, colon, name = text.partition(":")
    if colon and kind == "header":
        return f"header:{header_name(name)}"
    if text not in CREDENTIALS:
        raise ValueError(f"expected bearer, basic, key, or header: and a name; {nearest(text, CREDENTIALS)}")
    return text


def _status_map(table: Table) -> Mapping[str, TaskState]:
    given = table.table("status_map")
    if given is None:
        return {}
    return {word.strip().lower(): TaskState(given.text(word, choice(STATES)) or "") for word in given.values}


def _hours(table: Table, key: str) -> timedelta | None:
    hours = table.number(key, 0.01, YEAR_HOURS, "a number of hours")
    return None if hours is None else timedelta(hours=hours)


def _span(table: Table, key: str, least: float, most: float, unit: str) -> timedelta | None:
    seconds = table.number(key, least, most, unit)
    return None if seconds is None else timedelta(seconds=seconds)


def _submission(table: Table, places: Places) -> Submission | None:
    given = table.table("submit")
    if given is None:
        return None
    given.only(("method", "path", "headers", "body", "answer_task_id"))
    path = given.text("path", lambda text: parse_url_path(text, SUBMIT_NAMES))
    if path is None:
        raise given.missing("path", "a path such as /v1/tasks")
    body = given.table("body")
    method = given.text("method", choice(METHODS)) or "POST"
    if body is not None and method == "GET":
        raise given.wrong("body", "expected none, since the method is GET")
    answer = given.texts("answer_task_id", member_path) or places.task_id
    if not answer:
        raise given.missing("answer_task_id", "the path of the task id in the answer, since there is no task_id")
    return Submission(
        method=method,
        path=path,
        headers=_headers(given, SUBMIT_HEADER_NAMES),
        body=None if body is None else parse_body(body.values, SUBMIT_NAMES, body.keys),
        answer_task_id=answer,
    )


def _fetch(table: Table) -> Fetch | None:
    given = table.table("fetch")
    if given is None:
        return None
    given.only(("path", "headers", *PLACES))
    path = given.text("path", lambda text: parse_url_path(text, FETCH_NAMES))
    if path is None:
        raise given.missing("path", "a path such as /v1/tasks/{provider_id}")
    if not {"provider_id", "task_id"} & set(path.names):
        raise given.wrong("path", "expected {provider_id} in it, the provider's id of the task that is asked about")
    places = _places(given, _places(table))
    if not places.status:
        raise given.missing("status", "the path of the status in the answer")
    return Fetch(path=path, headers=_headers(given, FETCH_NAMES), places=places)


def _headers(table: Table, names: Iterable[str]) -> Mapping[str, Text]:
    given = table.table("headers")
    if given is None:
        return {}
    headers, allowed = {}, tuple(names)
    for name in given.values:
        try:
            lower = header_name(name)
        except ValueError as error:
            raise given.wrong(name, str(error)) from None
        if lower == "authorization":
            raise given.wrong(name, "expected the API key in api_key, and `authorization` to say how it is sent")
        headers[name] = given.text(name, lambda text: _header_text(text, allowed)) or Text(("",))
    return headers


def _header_text(text: str, allowed: Collection[str]) -> Text:
    if not text.isascii() or not text.isprintable():
        raise ValueError("expected printable ASCII, as headers are")
    return parse_text(text, allowed, alone=False)


def _check_sense(table: Table, provider: Custom, confirm: Confirm | None) -> None:
    """Refuse what each key allows but all together do not."""
    _check_places(table, provider)
    if (provider.submission or provider.fetch) and not provider.base_url:
        raise table.missing("base_url", "where its API lives, since there are requests to it")
    scheme = provider.scheme
    if scheme is not None and scheme.fetches_keys and provider.jwks_url is None:
        raise table.missing("jwks_url", f"where its public keys are, since the scheme {scheme.name} needs them")
    if provider.kept_headers & provider.secret_headers:
        raise table.wrong("event_id", "expected another header: this one holds the secret")
    if provider.fetches:
        return
    if provider.open_endpoint:
        raise table.wrong(
            "account_endpoint", _needs_fetch(table, "nothing there is authentic, so callbacks are only hints")
        )
    if scheme is not None and scheme.trust is Trust.PARTIAL and confirm is not Confirm.NEVER:
        hint = _needs_fetch(table, "its signature does not cover the body, so callbacks are only hints")
        raise table.wrong("scheme", f'{hint}; or say confirm = "never" to take them at their word')


def _check_places(table: Table, provider: Custom) -> None:
    places = provider.places
    if places.task_id and not places.status:
        raise table.missing("status", "the path of the status, since there is a task_id")
    if places.status and not places.task_id:
        raise table.missing("task_id", "the path of the task id, since there is a status")
    if not places.task_id and not provider.event_ids and not provider.event_types:
        raise table.missing(
            "task_id", "the path of the task id (or event_id or event_type, if all it sends are notices)"
        )
    submission = provider.submission
    if submission is not None and not provider.account_endpoint and not provider.open_endpoint:
        provider.pushes = "callback_url" in submission.placeholders
        if not provider.pushes and not provider.fetches:
            text = f"expected {{callback_url}} in the template, or a table {_fetch_table(table)}"
            raise table.wrong("submit", f"{text}: else nothing tells how a task ends")


def _needs_fetch(table: Table, reason: str) -> str:
    return f"{reason}: expected a table {_fetch_table(table)} by which they are confirmed"


def _fetch_table(table: Table) -> str:
    return f"[{dotted((*table.keys, 'fetch'))}]"
