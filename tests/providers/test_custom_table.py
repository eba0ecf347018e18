"""What a table [providers.acme] may hold, and what each mistake in it is told."""

import tomllib
from dataclasses import MISSING, fields
from datetime import timedelta
from typing import Any

import pytest

from ringback.model import Confirm, Trust
from ringback.providers.custom import Custom
from ringback.providers.custom_table import KEYS_OF_CUSTOM, OPTION_WORDS, SHAPES, Common, read_custom
from ringback.providers.signatures import (
    SCHEMES,
    Basic,
    Bearer,
    BodyHmac,
    Ed25519Lines,
    FieldsHmac,
    FixedHeader,
    Scheme,
    StandardWebhooks,
    TimestampedHmac,
)
from ringback.providers.table import TableError
from ringback.settings import PER_PROVIDER

PLACES = 'task_id = "id"\nstatus = "status"\n'
NONE = 'scheme = "none"\n' + PLACES
HMAC = 'scheme = "hmac"\nheader = "x-sig"\n' + PLACES
FETCH = '\n[fetch]\npath = "/t/{provider_id}"\n'
SUBMIT = '\n[submit]\npath = "/t?c={callback_url}"\n'
JWKS = """
scheme = "ed25519-jwks"
id_header = "X-Id"
user_header = "X-User"
timestamp_header = "X-Time"
signature_header = "X-Signature"
event_type = "type"
"""


def made(toml: str, name: str = "acme", **common: Any) -> Custom:
    """Read a table."""
    given = Common(**{"base_url": "https://api.acme.example", "jwks_url": "https://k.example"} | common)
    return read_custom(name, tomllib.loads(toml), ("providers", name), given, PER_PROVIDER)


FIELDS = 'scheme = "fields-hmac"\nheader = "X-Sig"\ntimestamp_header = "X-Time"\nfield = "data.id"\nevent_type = "t"'
SCHEME_TABLES: list[tuple[str, Scheme | None]] = [
    (NONE, None),
    (HMAC, BodyHmac(header="x-sig")),
    (
        'algorithm = "sha1"\nprefix = "sha1="\nencoding = "base64"\n' + HMAC,
        BodyHmac(header="x-sig", algorithm="sha1", prefix="sha1=", encoding="base64"),
    ),
    ('scheme = "standard-webhooks"\n' + PLACES, StandardWebhooks()),
    (
        'scheme = "standard-webhooks"\nversion = "v3"\nencoding = "hex"\nsecret_form = "text"\n' + PLACES,
        StandardWebhooks(version="v3", encoding="hex", secret="text"),
    ),
    (
        'scheme = "timestamped-hmac"\nheader = "X-Sig"\ntimestamp_header = "X-Time"\nid_header = "X-Id"\n'
        'template = "{id}.{timestamp}.{body}"\n' + PLACES,
        TimestampedHmac(
            header="x-sig", timestamp_header="x-time", id_header="x-id", template="{id}.{timestamp}.{body}"
        ),
    ),
    (
        FIELDS.replace('"data.id"', '["data.id", "data.taskId"]'),
        FieldsHmac(header="x-sig", timestamp_header="x-time", field=("data.id", "data.taskId")),
    ),
    (FIELDS, FieldsHmac(header="x-sig", timestamp_header="x-time", field=("data.id",))),
    (
        JWKS,
        Ed25519Lines(id_header="x-id", user_header="x-user", timestamp_header="x-time", signature_header="x-signature"),
    ),
    (
        'scheme = "header"\nheader = "X-Secret"\nprefix = "Token "\n' + PLACES,
        FixedHeader(header="x-secret", prefix="Token "),
    ),
    ('scheme = "basic"\n' + PLACES, Basic()),
    ('scheme = "bearer"\n' + PLACES, Bearer()),
]


@pytest.mark.parametrize(("toml", "expected"), SCHEME_TABLES)
def test_schemes_and_their_options(toml: str, expected: Scheme | None) -> None:
    """Each scheme is named as in the docs, its options as its fields; header names in any case."""
    assert made(toml, confirm=Confirm.NEVER).scheme == expected


def test_defaults() -> None:
    """What the table leaves out is as for other providers."""
    acme = made(HMAC)
    assert (acme.tolerance, acme.retry_window, acme.handshakes) == (None, None, frozenset())
    assert (acme.account_endpoint, acme.open_endpoint, acme.pushes) == (False, False, True)
    assert (acme.result_kind, acme.result_life, acme.credentials) == ("file", timedelta(hours=24), "bearer")


def test_an_open_endpoint() -> None:
    """Without a scheme an account endpoint is open: what comes there proves nothing, and is fetched."""
    acme = made(NONE.replace("scheme", "account_endpoint = true\nscheme") + FETCH)
    assert (acme.account_endpoint, acme.open_endpoint, acme.trust) == (False, True, Trust.NONE)


def test_a_signature_that_does_not_cover_the_body_needs_a_fetch() -> None:
    """Unless the user says that callbacks are to be taken at their word."""
    with pytest.raises(TableError, match="does not cover the body"):
        made(FIELDS)
    assert made(FIELDS, confirm=Confirm.NEVER).trust is Trust.PARTIAL
    assert made(FIELDS + FETCH.replace("[fetch]", '[fetch]\nstatus = "s"')).fetches


def test_a_fetch_has_places_of_its_own() -> None:
    """Those that it leaves out are the callbacks'."""
    acme = made(HMAC + 'error = ["a", "b"]\n' + FETCH + 'task_id = "task.id"\nresult_urls = "task.urls"')
    assert acme.fetch is not None
    assert [str(path) for path in acme.fetch.places.task_id] == ["task.id"]
    assert [str(path) for path in acme.fetch.places.status] == ["status"]
    assert [str(path) for path in acme.fetch.places.error] == ["a", "b"]
    assert [str(path) for path in acme.places.result_urls] == []


P = "providers.acme"
WRONG: list[tuple[str, str]] = [
    # the scheme and its options
    (PLACES, f"{P}: scheme is missing: expected one of standard-webhooks, hmac, "),
    ('scheme = "hmak"', f"{P}.scheme: did you mean hmac?"),
    ('scheme = "zzzzz"', f"{P}.scheme: expected one of standard-webhooks, hmac, "),
    ("scheme = 1", f"{P}.scheme: expected text, got a whole number"),
    ('scheme = " "', f"{P}.scheme: expected text, got an empty one"),
    (
        'scheme = "hmac"',
        f"{P}: header is missing: expected the name of the header that holds the signature, which the scheme hmac ",
    ),
    ('scheme = "header"', f"{P}: header is missing: expected the name of the header that holds the secret, which "),
    (
        'scheme = "Stripe"',
        f'{P}.scheme: did you mean timestamped-hmac, with header = "stripe-signature"?',
    ),
    ('scheme = "svix"', f"{P}.scheme: did you mean standard-webhooks?"),
    (HMAC + 'version = "v1"', f"{P}.version is no option of the scheme hmac, whose options are: header, algorithm"),
    (NONE + 'header = "x"', f"{P}.header is no option of the scheme none, whose options are: none"),
    ('scheme = "basic"\nheader = "x"', f"{P}.header is no option of the scheme basic, whose options are: none"),
    (HMAC + 'algoritm = "sha1"', f"{P}.algoritm is not a setting: did you mean algorithm?"),
    (HMAC + 'zzzzzzzzz = "sha1"', f"{P}.zzzzzzzzz is not a setting: expected one of scheme, task_id"),
    (HMAC + 'algorithm = "md5"', f"{P}.algorithm: expected sha256 or sha512 or sha1"),
    (HMAC + "algorithm = 256", f"{P}.algorithm: expected text, got a whole number"),
    (HMAC.replace("x-sig", "x sig"), f"{P}.header: expected the name of a header, such as x-acme-signature"),
    (FIELDS.replace("data.id", "data..id"), f"{P}.field: expected a name at character 6"),
    (FIELDS.replace('"data.id"', "[]"), f"{P}.field: expected 1 to 20 texts, got 0"),
    (
        'scheme = "standard-webhooks"\nsecret_form = "hidden"\n' + PLACES,
        f"{P}.secret_form: expected base64 or text",
    ),
    (JWKS + 'encoding = "text"', "expected the encoding to be one of hex, base64"),
    (
        'scheme = "timestamped-hmac"\nheader = "x-sig"\ntemplate = "{id}.{body}"\n' + PLACES,
        f"{P}.template: ",
    ),
    # where things stand
    (HMAC + 'error = "a b"', f"{P}.error: expected a dot or [ at character 2 of the path 'a b', got ' '"),
    (HMAC + 'error = ["a", "b."]', f"{P}.error[1]: expected a name at character 3 of the path 'b.', got the end"),
    (HMAC + 'error = ["a", 1]', f"{P}.error[1]: expected text, got a whole number"),
    (HMAC + "error = true", f"{P}.error: expected text or a list of texts, got a boolean"),
    (HMAC + "error = 2026-12-31", f"{P}.error: expected text or a list of texts, got a date or time"),
    (HMAC + f"error = {['a'] * 21}", f"{P}.error: expected 1 to 20 texts, got 21"),
    (HMAC + 'error = "[0].a"', f"{P}.error: expected a name at character 1 of the path '[0].a': a callback is"),
    (HMAC + 'event_id = "header:a b"', f"{P}.event_id: expected the name of a header"),
    (HMAC + 'event_id = "header:Cookie"', f"{P}.event_id: expected another header: this one holds secrets"),
    (HMAC + 'event_id = "heater:id"', f"{P}.event_id: expected a dot or [ at character 7"),
    (
        'scheme = "header"\nheader = "x-secret"\nevent_id = "header:X-Secret"\n' + PLACES,
        f"{P}.event_id: expected another header: this one holds the secret",
    ),
    (HMAC + "status_map = 1", f"{P}.status_map: expected a table, got a whole number"),
    (HMAC + 'status_map = { ok = "done" }', f"{P}.status_map.ok: expected one of submitted, processing, completed"),
    (HMAC + 'status_map = { ok = "complete" }', f"{P}.status_map.ok: did you mean completed?"),
    (HMAC + 'status_map = { "o k" = 1 }', f'{P}.status_map."o k": expected text, got a whole number'),
    (HMAC + 'status_map = { ok = "pending" }', f"{P}.status_map.ok: expected one of submitted"),
    ('scheme = "bearer"\ntask_id = "id"', f"{P}: status is missing: expected the path of the status"),
    ('scheme = "bearer"\nstatus = "id"', f"{P}: task_id is missing: expected the path of the task id"),
    ('scheme = "bearer"', f"{P}: task_id is missing: expected the path of the task id (or event_id or event_type"),
    # its facts
    (HMAC + 'result_kind = "vide"', f"{P}.result_kind: did you mean video?"),
    (HMAC + "result_life_hours = 0", f"{P}.result_life_hours: expected a number of hours from 0.01 to 8784"),
    (HMAC + 'retry_window_hours = "1"', f"{P}.retry_window_hours: expected a number of hours"),
    (HMAC + "tolerance_seconds = nan", f"{P}.tolerance_seconds: expected a number of seconds from 1 to 86400"),
    (HMAC + "tolerance_seconds = true", f"{P}.tolerance_seconds: expected a number of seconds"),
    (HMAC + 'account_endpoint = "yes"', f"{P}.account_endpoint: expected true or false, got text"),
    (HMAC + 'handshakes = ["challange"]', f"{P}.handshakes[0]: did you mean challenge?"),
    (HMAC + 'authorization = "beer"', f"{P}.authorization: expected bearer, basic, key, or header: and a name"),
    (HMAC + 'authorization = "header:"', f"{P}.authorization: expected the name of a header"),
    (
        NONE + "account_endpoint = true",
        f"{P}.account_endpoint: nothing there is authentic, so callbacks are only hints: expected a table [{P}.fetch]",
    ),
    # requests
    (HMAC + "submit = 1", f"{P}.submit: expected a table, got a whole number"),
    (HMAC + "[submit]", f"{P}.submit: path is missing: expected a path such as /v1/tasks"),
    (HMAC + SUBMIT + 'pat = "/x"', f"{P}.submit.pat is not a setting: did you mean path?"),
    (HMAC + SUBMIT.replace("/t", "t"), f"{P}.submit.path: expected a path that starts with a slash"),
    (HMAC + SUBMIT.replace("/t", "/t t"), f"{P}.submit.path: expected a path that starts with a slash"),
    (HMAC + SUBMIT.replace("callback_url", "calback_url"), "unknown placeholder {calback_url} at character 6: did you"),
    (HMAC + SUBMIT.replace("callback_url", "Callback_Url"), "unknown placeholder {Callback_Url} at character 6: did"),
    (HMAC + SUBMIT.replace("callback_url", " callback_url "), f"{P}.submit.path: expected a path that starts with a"),
    (HMAC + SUBMIT.replace("callback_url", "image_urls"), "{image_urls} is a list: expected it to be the whole text"),
    (HMAC + SUBMIT + 'method = "PSOT"', f"{P}.submit.method: did you mean POST?"),
    (HMAC + SUBMIT + 'method = "GET"\nbody = {}', f"{P}.submit.body: expected none, since the method is GET"),
    (HMAC + SUBMIT + 'body = "x"', f"{P}.submit.body: expected a table, got text"),
    (
        HMAC + SUBMIT + 'body = { a = [1, { b = "{ prompt }" }] }',
        f"{P}.submit.body.a[1].b: unknown placeholder {{ prompt }} at character 1: did you mean prompt?",
    ),
    (HMAC + SUBMIT + 'body = { a = "x {image_urls}" }', f"{P}.submit.body.a: {{image_urls}} is a list"),
    (HMAC + SUBMIT + "body = { a = 2026-12-31 }", f"{P}.submit.body.a: expected a value that JSON has, got a date"),
    (HMAC + SUBMIT + "body = { a = inf }", f"{P}.submit.body.a: expected a value that JSON has, got a number"),
    (HMAC + SUBMIT + f"body = {{ a = {2**63} }}", f"{P}.submit.body.a: expected a value that JSON has, got a whole"),
    (HMAC + SUBMIT + 'headers = { "a b" = "x" }', f'{P}.submit.headers."a b": expected the name of a header'),
    (
        HMAC + SUBMIT + 'headers = { Authorization = "x" }',
        "expected the API key in api_key, and `authorization` to say",
    ),
    (HMAC + SUBMIT + "headers = { a = 1 }", f"{P}.submit.headers.a: expected text, got a whole number"),
    (HMAC + SUBMIT + 'headers = { a = "é" }', f"{P}.submit.headers.a: expected printable ASCII, as headers are"),
    (HMAC + SUBMIT + 'headers = { a = "{prompt}" }', f"{P}.submit.headers.a: unknown placeholder {{prompt}}"),
    (HMAC + SUBMIT + 'answer_task_id = "a."', f"{P}.submit.answer_task_id: expected a name at character 3"),
    (
        'scheme = "bearer"\nevent_type = "t"\n' + SUBMIT,
        f"{P}.submit: answer_task_id is missing: expected the path of the task id in the answer",
    ),
    (HMAC + '[submit]\npath = "/t"', f"{P}.submit: expected {{callback_url}} in the template, or a table [{P}.fetch]"),
    (HMAC + "[fetch]", f"{P}.fetch: path is missing: expected a path such as /v1/tasks/{{provider_id}}"),
    (HMAC + '[fetch]\npath = "/t"', f"{P}.fetch.path: expected {{provider_id}} in it"),
    (HMAC + FETCH + 'event_id = "x"', f"{P}.fetch.event_id is not a setting: expected one of path, headers"),
    (
        'scheme = "bearer"\nevent_type = "t"\n' + FETCH,
        f"{P}.fetch: status is missing: expected the path of the status in the answer",
    ),
]


@pytest.mark.parametrize(("toml", "words"), WRONG)
def test_a_mistake_is_named(toml: str, words: str) -> None:
    """The message names the key and what was expected of it."""
    with pytest.raises(TableError) as caught:
        made(toml)
    assert words in str(caught.value)
    assert str(caught.value).startswith(P)
    assert "hidden" not in str(caught.value)
    assert caught.value.keys[:2] == ("providers", "acme")


@pytest.mark.parametrize("name", ["a", "Acme", "2fast", "a_b", "a-b", "x" * 33, "é"])
def test_a_name_that_is_none(name: str) -> None:
    """A name becomes part of a URL and of variables."""
    with pytest.raises(TableError, match="expected a name of 2 to 32 of a-z and 0-9"):
        made(HMAC, name)


@pytest.mark.parametrize("name", ["test", "port", "service", "unknown"])
def test_a_name_with_another_meaning(name: str) -> None:
    """RINGBACK_TEST_… is free for tests, RINGBACK_SERVICE_… is set by Kubernetes."""
    with pytest.raises(TableError, match="it has another meaning already"):
        made(HMAC, name)


@pytest.mark.parametrize(
    ("common", "toml", "words"),
    [
        ({"base_url": None}, HMAC + FETCH, "base_url is missing: expected where its API lives"),
        ({"base_url": None}, HMAC + SUBMIT, "base_url is missing: expected where its API lives"),
        ({"jwks_url": None}, JWKS, "jwks_url is missing: expected where its public keys are"),
    ],
)
def test_what_the_requests_need(common: dict[str, Any], toml: str, words: str) -> None:
    """Where to send requests, and where to fetch keys, has to be said."""
    with pytest.raises(TableError) as caught:
        made(toml, **common)
    assert words in str(caught.value)


def test_no_key_has_two_meanings() -> None:
    """What only a custom provider has is no setting of every provider."""
    assert not KEYS_OF_CUSTOM & PER_PROVIDER.keys()


@pytest.mark.parametrize("name", sorted(SHAPES))
def test_the_shape_of_a_service_is_a_scheme(name: str) -> None:
    """What is advised instead of a service's name is what the reader takes."""
    scheme, options = SHAPES[name]
    assert scheme in SCHEMES
    lines = f'scheme = "{scheme}"\n{PLACES}'
    if "=" in options:
        keys = tomllib.loads(options.replace(", ", "\n").replace("…", "data.id"))
        lines += options.replace(", ", "\n").replace("…", "data.id")
        if "header" not in keys:
            lines += '\nheader = "x-sig"'
        found = made(lines, confirm=Confirm.NEVER).scheme
        assert found is not None
        assert {key: getattr(found, key) for key in keys} == keys | ({"field": ("data.id",)} if "field" in keys else {})


def test_what_is_required_is_explained() -> None:
    """Each option that a scheme cannot do without has words for what it holds."""
    needed = {
        option.name
        for scheme in SCHEMES.values()
        for option in fields(scheme)  # type: ignore[arg-type]
        if option.default is MISSING
    }
    assert needed == set(OPTION_WORDS)
