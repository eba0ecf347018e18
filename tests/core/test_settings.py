"""Every knob: its default, what it takes, what it refuses and how, and where it is read from."""

from datetime import UTC, datetime
from decimal import Decimal
from ipaddress import IPv4Network, IPv6Network
from pathlib import Path
from typing import Any

import pytest

from ringback import settings as module
from ringback.errors import SettingsError
from ringback.model import Confirm, Trust
from ringback.providers import CATALOGUE
from ringback.secret_file import ensure_secret
from ringback.settings import GENERAL, KNOBS, PER_PROVIDER, ProviderSettings, Secret, Settings, variable_name

SECRET, OTHER = "s" * 32, "o" * 40
# Per knob: its default, a good value as text, what that means, and a bad one.
TABLE: dict[str, tuple[Any, str, Any, str]] = {
    "database_url": ("sqlite:///ringback.db", " sqlite:////srv/r.db ", "sqlite:////srv/r.db", "postgres//x"),
    "public_url": (None, "https://hook.example/base/", "https://hook.example/base", "https://u:p@x"),
    "allow_ephemeral": (False, "true", True, "ephemeral"),
    "secret": ((), f" {SECRET} , {OTHER} ", (SECRET.encode(), OTHER.encode()), "short"),
    "admin_token": (None, " token ", "token", "  "),
    "handlers": (None, " app.main:handlers ", "app.main:handlers", "main.py"),
    "host": ("127.0.0.1", "::1", "::1", " "),
    "port": (8000, "0", 0, "65536"),
    "max_body_bytes": (1 << 20, "1024", 1024, "1023"),
    "max_inflight_bytes": (64 << 20, "2048", 2048, "1e6"),
    "body_timeout_seconds": (10.0, "0.5", 0.5, "nan"),
    "commit_timeout_seconds": (2.5, "60", 60.0, "61"),
    "scribe": ("auto", "always", "always", "sometimes"),
    "tolerance_seconds": (300, "1", 1, "-1"),
    "dedup_days": (90, "3650", 3650, "0"),
    "retention_days": (0, "30", 30, "3651"),
    "body_days": (0, "7", 7, "-1"),
    "concurrency": (32, "1", 1, "0" * 20 + "1"),
    "handler_timeout_seconds": (300.0, "0.01", 0.01, "inf"),
    "grace_seconds": (10.0, "0", 0.0, "-0.1"),
    "heartbeat_seconds": (5.0, "1", 1.0, "now"),
    "push_deadline_seconds": (300.0, "172800", 172_800.0, "-"),
    "request_timeout_seconds": (30.0, "600", 600.0, "601"),
    "provider_concurrency": (8, "8", 8, "٨"),
    "allow_private": (
        (),
        " Media.Local., 10.0.0.7 ,10.1.0.0/16,fd00::/8",
        ("media.local", IPv4Network("10.0.0.7"), IPv4Network("10.1.0.0/16"), IPv6Network("fd00::/8")),
        "10.0.0.1/8",
    ),
    "results_url": (None, "s3://films/mine/", "s3://films/mine", "s3://key:secret@films"),
    "results_concurrency": (4, "1", 1, "0"),
    "results_max_bytes": (2 << 30, "1", 1, "0"),
    "results_timeout_seconds": (600.0, "0.05", 0.05, "86401"),
    "budget_daily_usd": (None, " 25.00 ", Decimal(25), "1000001"),
    "budget_monthly_usd": (None, "0", Decimal(0), "-0.01"),
    "log_level": ("info", "DEBUG", "debug", "warn"),
    "log_format": (None, "JSON", "json", "yaml"),
    "metrics_public": (False, "Yes", True, "maybe"),
}
PROVIDER_TABLE: dict[str, tuple[Any, str, Any, str]] = {
    "api_key": (None, " key ", "key", " "),
    "secret": (
        (),
        "a, b until=2026-12-31T00:00:00",
        (Secret(text="a"), Secret(text="b", until=datetime(2026, 12, 31, tzinfo=UTC))),
        "a,,b",
    ),
    "confirm": (None, " Always ", Confirm.ALWAYS, "sometimes"),
    "jwks_url": (None, " https://k.example/jwks ", "https://k.example/jwks", "http://k.example/jwks"),
    "base_url": (None, "http://127.0.0.1:9/v1/", "http://127.0.0.1:9/v1", "127.0.0.1:9"),
    "usd_per_second": (None, "0.0074375", Decimal("0.0074375"), "NaN"),
}
ROWS: list[tuple[module.Knob, tuple[Any, str, Any, str]]] = [((None, name), row) for name, row in TABLE.items()]
ROWS += [(("qingbo", name), row) for name, row in PROVIDER_TABLE.items()]


def read(folder: Path, toml: str = "", **environ: str) -> Settings:
    """Read settings from a folder of their own and this environment alone."""
    if toml:
        (folder / "ringback.toml").write_text(toml, encoding="utf-8")
    return Settings.from_environ(environ, folder)


def value_of(settings: Settings, knob: module.Knob) -> Any:
    """Give a knob's value."""
    provider, name = knob
    return getattr(settings.provider(provider) if provider else settings, name)


def test_every_knob_is_in_the_table() -> None:
    """A new knob needs a row here, and a sentence that says what it does."""
    assert set(TABLE) == set(GENERAL)
    assert set(PROVIDER_TABLE) == set(PER_PROVIDER)
    for knob in (*GENERAL.values(), *PER_PROVIDER.values()):
        assert knob.metadata["doc"].endswith(".")


@pytest.mark.parametrize(("knob", "row"), ROWS, ids=lambda value: str(value[1]) if isinstance(value, tuple) else "")
def test_knob(knob: module.Knob, row: tuple[Any, str, Any, str], tmp_path: Path) -> None:
    """A knob has its default, takes a good value and refuses a bad one by its name, without repeating it."""
    default, good, meaning, bad = row
    name = variable_name(knob)
    assert value_of(read(tmp_path), knob) == default
    assert value_of(read(tmp_path, **{name: good}), knob) == meaning
    with pytest.raises(SettingsError, match=f"^{name}: ") as caught:
        read(tmp_path, **{name: bad})
    assert len(bad.strip()) < 5 or bad not in str(caught.value)


@pytest.mark.parametrize(
    ("name", "bad", "words"),
    [
        ("RINGBACK_SECRET", "", "expected a secret, got none"),
        ("RINGBACK_SECRET", f"{SECRET} until=2026-12-31", "these secrets have no until="),
        ("RINGBACK_SECRET", f"'{SECRET}', {OTHER}", "RINGBACK_SECRET: stands in quotes"),
        ("RINGBACK_ADMIN_TOKEN", '"abc"', "RINGBACK_ADMIN_TOKEN: stands in quotes"),
        ("RINGBACK_QINGBO_API_KEY", "'abc'", "RINGBACK_QINGBO_API_KEY: stands in quotes, .*; remove them"),
        ("RINGBACK_GITHUB_SECRET", '"abc"', "stands in quotes"),
        ("RINGBACK_GITHUB_SECRET", '"abc,def"', "stands in quotes"),
        ("RINGBACK_GITHUB_SECRET", "new, 'old' until=2026-12-31", "stands in quotes"),
        ("RINGBACK_GITHUB_SECRET", " ", "expected a secret, got none"),
        ("RINGBACK_GITHUB_SECRET", "abc until 2026-12-31", r"did you mean until=\?"),
        ("RINGBACK_GITHUB_SECRET", "abc until = 2026-12-31", r"did you mean until=\?"),
        ("RINGBACK_GITHUB_SECRET", "abc Until=2026-12-31", r"did you mean until=\?"),
        ("RINGBACK_GITHUB_SECRET", "abc until=2026-12-31 until=2027-12-31", r"did you mean until=\?"),
        ("RINGBACK_SECRET", f"{SECRET},", "remove the extra comma"),
        ("RINGBACK_SECRET", f"{SECRET},{'x' * 31}", "at least 32 bytes"),
        ("RINGBACK_PUBLIC_URL", "https://x/?a=1", "without a query"),
        ("RINGBACK_PUBLIC_URL", "ftp://x", r"http\(s\) URL"),
        ("RINGBACK_DATABASE_URL", "sqlite:///", "absolute/path.db"),
        ("RINGBACK_LOG_LEVEL", "warn", "did you mean warning"),
        ("RINGBACK_LOG_LEVEL", "zzz", "expected one of debug, info, warning, error$"),
        ("RINGBACK_QINGBO_USD_PER_SECOND", "-1", "US dollars"),
        ("RINGBACK_QINGBO_USD_PER_SECOND", "cheap", "US dollars"),
        ("RINGBACK_DEDUP_DAYS", "9" * 5000, "from 1 to 3650"),
        ("RINGBACK_QINGBO_SECRET", "a until=soon", "a time such as 2026-12-31T00:00:00Z after until="),
        ("RINGBACK_STANDARD_SECRET", "whsec_MfKQ9r8GKYqrTwj", "expected whsec_ followed by base64 of 24 to 64 bytes"),
        ("RINGBACK_REAPI_CONFIRM", "never", "reapi does not authenticate its callbacks; only `always` is safe"),
    ],
)
def test_message_says_what_was_expected(tmp_path: Path, name: str, bad: str, words: str) -> None:
    """A bad value's message tells what to write."""
    with pytest.raises(SettingsError, match=words):
        read(tmp_path, **{name: bad})


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("RINGBACK_SECRETS", "did you mean RINGBACK_SECRET?"),
        ("RINGBACK_QINGBO_API_KEI", "did you mean RINGBACK_QINGBO_API_KEY?"),
        ("RINGBACK_ZZZZZZZZZZZZZZZZ", "see docs/reference/settings.md"),
    ],
)
def test_unknown_name_suggests_the_nearest(tmp_path: Path, name: str, hint: str) -> None:
    """A typing error does not pass in silence."""
    with pytest.raises(SettingsError) as caught:
        read(tmp_path, **{name: "x"})
    assert str(caught.value).endswith(hint)


@pytest.mark.parametrize(
    "value", ['a"bc', '"abc', '"', "abc'", "x until=2026-12-31T00:00:00Z", "the-until-key", "until"]
)
def test_secrets_that_only_look_alike_are_taken(tmp_path: Path, value: str) -> None:
    """One quote alone, or the word within another one, is a part of a secret."""
    assert len(read(tmp_path, RINGBACK_GITHUB_SECRET=value).provider("github").secret) == 1


def test_foreign_names_are_left_alone(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """RINGBACK_TEST_* is free, and what Kubernetes injects for a Service of our name is ignored with one warning."""
    injected = {
        "RINGBACK_SERVICE_HOST": "10.0.0.1",
        "RINGBACK_SERVICE_PORT": "80",
        "RINGBACK_PORT": "tcp://10.0.0.1:80",
        "RINGBACK_PORT_80_TCP_ADDR": "10.0.0.1",
    }
    settings = read(tmp_path, **injected, RINGBACK_TEST_POSTGRES="x", OTHER="y", PORT="81")
    assert (settings.port, settings.host) == (81, "0.0.0.0")  # noqa: S104 -- what PORT means
    out, err = capsys.readouterr()
    assert (out, err.count("\n")) == ("", 1)
    assert all(name in err for name in injected)
    assert "10.0.0.1" not in err


def test_empty_variable_is_not_set(tmp_path: Path) -> None:
    """An empty variable leaves the file's value or the default; an empty secret stops the start, as any empty item."""
    empty = {name: "" for name in KNOBS if name != "RINGBACK_SECRET"}
    assert read(tmp_path, **empty) == Settings()
    assert read(tmp_path, 'host = "::1"\n[providers.qingbo]\napi_key = "k"', **empty).host == "::1"
    assert read(tmp_path, **empty).provider("qingbo").api_key == "k"
    with pytest.raises(SettingsError, match="RINGBACK_SECRET: expected a secret, got none"):
        read(tmp_path, RINGBACK_SECRET="")
    with pytest.raises(SettingsError, match="did you mean RINGBACK_HOST"):
        read(tmp_path, RINGBACK_HOSTT="")


def test_port_of_a_platform(tmp_path: Path) -> None:
    """PORT opens the receiver to the platform that set it; our own names outrank it."""
    everywhere = "0.0.0.0"  # noqa: S104 -- what PORT means
    given = {"PORT": " 9000 ", "RINGBACK_PORT": "9001", "RINGBACK_HOST": "::1"}
    assert (read(tmp_path, PORT="9000").port, read(tmp_path, PORT="9000").host) == (9000, everywhere)
    own = read(tmp_path, PORT="tcp:", RINGBACK_PORT="9001")
    assert (own.port, own.host) == (9001, everywhere)
    assert (read(tmp_path, **given).port, read(tmp_path, **given).host) == (9001, "::1")
    assert (read(tmp_path, PORT="").port, read(tmp_path, PORT="").host) == (8000, "127.0.0.1")
    with pytest.raises(SettingsError, match=r"^PORT: "):
        read(tmp_path, PORT="http")


def test_file_holds_the_same_and_the_environment_outranks_it(tmp_path: Path) -> None:
    """`ringback.toml` takes every knob by its name; what the environment says is stronger."""
    toml = f"""
        port = 9000
        metrics_public = true
        grace_seconds = 2.5
        secret = ["{SECRET}", "{OTHER}"]
        [providers.qingbo]
        api_key = "from-file"
        usd_per_second = "0.01"
        [providers.reapi]
        api_key = "reapi-key"
    """
    settings = read(tmp_path, toml, RINGBACK_QINGBO_API_KEY="from-environ", RINGBACK_GRACE_SECONDS="1")
    assert (settings.port, settings.metrics_public, settings.grace_seconds) == (9000, True, 1.0)
    assert settings.secret == (SECRET.encode(), OTHER.encode())
    assert settings.provider("qingbo") == ProviderSettings(api_key="from-environ", usd_per_second=Decimal("0.01"))
    assert settings.provider("reapi").api_key == "reapi-key"
    assert settings.provider("none") == ProviderSettings()


@pytest.mark.parametrize(
    ("toml", "words"),
    [
        ("port = = 1", ": Invalid value (at line 1, column 8)"),
        ("prot = 1", ", line 1: prot is not a setting: did you mean port?"),
        ("\n# none\nzzzzz = 1", ", line 3: zzzzz is not a setting: expected one of database_url"),
        ("[provider.acme]\nscheme = 'hmac'", ", line 1: provider is not a setting: did you mean providers?"),
        (
            "[providers.acme]\nsecret = 'x'\nschema = 'hmac'",
            ", line 3: providers.acme.schema is not a setting: did you mean scheme?",
        ),
        (
            "[providers.acme]\ntask_id = 'x'",
            ", line 1: providers.acme: scheme is missing: expected one of standard-webh",
        ),
        ("port = 'x'", ", line 1: port: expected a whole number"),
        ("port = [1]", ", line 1: port: expected a value, got a list"),
        ("secret = ['x']", ", line 1: secret: each secret needs at least 32 bytes"),
        ("host = {}", ", line 1: host: expected a value, got a table"),
        ("providers = 1", ", line 1: providers: expected a table per provider"),
        ("[providers]\nqingbo = 1", ", line 1: providers: expected a table per provider"),
        ("[providers.nobody]", ", line 1: providers.nobody: expected one of "),
        ("[providers.quingbo]\napi_key = 'x'", ", line 1: providers.quingbo: did you mean qingbo, or the scheme of a "),
        (
            "[providers.qingbo]\n\napi_kee = 'x'",
            ", line 3: providers.qingbo.api_kee is not a setting: did you mean api_key?",
        ),
        (
            "[providers.qingbo]\ntask_id = 'x'",
            ", line 2: providers.qingbo.task_id is not a setting: qingbo is built in; to describe",
        ),
        ("[providers.qingbo]\nbase_url = 'x'", ", line 2: providers.qingbo.base_url: expected an http(s) URL"),
        (
            "[providers.standard]\nsecret = 'whsec_x'",
            ", line 2: providers.standard.secret: expected whsec_ followed by base64",
        ),
        (
            "[providers.github]\nconfirm = 'always'",
            ", line 2: providers.github.confirm: tasks of github cannot be fetched",
        ),
    ],
)
def test_file_that_is_wrong_says_where(tmp_path: Path, toml: str, words: str) -> None:
    """An error in the file names the file, the line and the entry."""
    with pytest.raises(SettingsError) as caught:
        read(tmp_path, toml)
    assert str(caught.value).startswith(f"{tmp_path / 'ringback.toml'}{words}")


def test_what_the_environment_says_wrongly_is_told_by_its_variable(tmp_path: Path) -> None:
    """A value that outranks the file's is not looked for in the file."""
    toml = "[providers.github]\nsecret = 'good'"
    with pytest.raises(SettingsError, match=r"^RINGBACK_GITHUB_CONFIRM: tasks of github cannot be fetched"):
        read(tmp_path, toml, RINGBACK_GITHUB_CONFIRM="always")
    with pytest.raises(SettingsError, match=r"^RINGBACK_STANDARD_SECRET: expected whsec_"):
        read(tmp_path, "[providers.standard]\nsecret = 'whsec_x'", RINGBACK_STANDARD_SECRET="whsec_y")


SECRETS_IN_FILE: list[tuple[str, tuple[Secret, ...]]] = [
    ("'a, b'", (Secret(text="a"), Secret(text="b"))),
    ("['a,b', ' c ']", (Secret(text="a,b"), Secret(text="c"))),
    (
        "['a', { value = 'b', until = 2026-12-31T00:00:00+01:00 }]",
        (Secret(text="a"), Secret(text="b", until=datetime(2026, 12, 30, 23, tzinfo=UTC))),
    ),
    ("[{ value = 'b', until = 2026-12-31 }]", (Secret(text="b", until=datetime(2026, 12, 31, tzinfo=UTC)),)),
    (
        "[{ value = 'b', until = 2026-12-31 01:00:00 }]",
        (Secret(text="b", until=datetime(2026, 12, 31, 1, tzinfo=UTC)),),
    ),
    ("[{ value = 'b' }]", (Secret(text="b"),)),
    ("[{ value = 'b until=x' }]", (Secret(text="b until=x"),)),
    ("['\"b\"']", (Secret(text='"b"'),)),
]


@pytest.mark.parametrize(("toml", "expected"), SECRETS_IN_FILE)
def test_secrets_of_a_provider_in_the_file(tmp_path: Path, toml: str, expected: tuple[Secret, ...]) -> None:
    """A text as in the environment, or a list of texts and of tables with the end of their time."""
    settings = read(tmp_path, f"[providers.github]\nsecret = {toml}")
    assert settings.provider("github").secret == expected
    assert [key.until for key in settings.keys("github")] == [secret.until for secret in expected]


@pytest.mark.parametrize(
    ("toml", "words"),
    [
        ("secret = 1", "line 2: providers.github.secret: expected a secret, or a list of them, got a whole number"),
        ("secret = []", "line 2: providers.github.secret: expected a secret, or a list of them, got an empty list"),
        ("secret = {}", "line 2: providers.github.secret: expected a secret, or a list of them, got a table"),
        ("secret = 'a,,b'", "line 2: providers.github.secret: one of the comma-separated secrets is empty"),
        ("secret = [\n'hidden',\n2]", "line 4: providers.github.secret[1].value: expected text, got a whole number"),
        (
            "secret = ['a', 'hidden until=2026-12-31']",
            'line 2: providers.github.secret[1]: did you mean { value = "…", until = 2026-12-31T00:00:00Z }?',
        ),
        ("secret = ['']", "line 2: providers.github.secret[0].value: expected text, got an empty one"),
        ("secret = [{}]", "line 2: providers.github.secret[0]: value is missing: expected the secret"),
        (
            "secret = [{ valu = 'hidden' }]",
            "line 2: providers.github.secret[0].valu is not a setting: did you mean value",
        ),
        (
            "[[providers.github.secret]]\nvalue = 'hidden'\nuntil = '2026-12-31'",
            "line 4: providers.github.secret[0].until: expected a time such as 2026-12-31T00:00:00Z, without quotes",
        ),
    ],
)
def test_secrets_that_are_wrong_in_the_file(tmp_path: Path, toml: str, words: str) -> None:
    """The error names the line and the form, and never the secret."""
    with pytest.raises(SettingsError) as caught:
        read(tmp_path, f"[providers.github]\n{toml}")
    assert words in str(caught.value)
    assert "hidden" not in str(caught.value)


ACME = """
[providers.acme]
scheme = "hmac"
header = "X-Acme-Signature"
task_id = "id"
status = "status"
"""


def test_a_provider_of_the_users_own(tmp_path: Path) -> None:
    """A table with a scheme is a provider, and its settings have variables like those of any other."""
    settings = read(tmp_path, ACME + "secret = 'of-file'", RINGBACK_ACME_API_KEY="k")
    acme = settings.catalogue["acme"]
    assert (acme.name, acme.trust, settings.provider("acme").api_key) == ("acme", Trust.SIGNED, "k")
    assert [key.material for key in settings.keys("acme")] == [b"of-file"]
    settings = read(tmp_path, ACME, RINGBACK_ACME_SECRET="a,b until=2026-01-01")
    assert [key.material for key in settings.keys("acme")] == [b"a", b"b"]
    assert settings.catalogue.keys() - CATALOGUE.keys() == {"acme"}
    assert "acme" not in CATALOGUE
    with pytest.raises(SettingsError, match="RINGBACK_ACME_SECRED is not a setting: did you mean RINGBACK_ACME_SECRET"):
        read(tmp_path, ACME, RINGBACK_ACME_SECRED="a")


def test_no_variable_of_a_users_provider_is_one_of_ours() -> None:
    """Whatever name a user chooses for a provider, none of its variables is a general setting's."""
    endings = tuple(f"_{name}" for name in PER_PROVIDER)
    assert not [name for name in GENERAL if name.endswith(endings)]


@pytest.mark.parametrize(
    ("toml", "words"),
    [
        ("hedaer = 'x'", "line 7: providers.acme.hedaer is not a setting: did you mean header?"),
        ("api_kee = 'x'", "line 7: providers.acme.api_kee is not a setting: did you mean api_key?"),
        (
            "error = ['a', \n'b..c']",
            "line 8: providers.acme.error[1]: expected a name at character 3 of the path 'b..c'",
        ),
        ("[providers.acme.fetch]\npath = 'x'", "line 8: providers.acme.fetch.path: expected a path that starts with"),
        ("confirm = 'always'", "line 7: providers.acme.confirm: tasks of acme cannot be fetched"),
        ('secret = "\\u0000x"', "line 7: providers.acme.secret: expected the secret as the provider shows it"),
    ],
)
def test_a_mistake_in_it_has_a_line(tmp_path: Path, toml: str, words: str) -> None:
    """Whoever finds the mistake, the message says on which line it stands."""
    with pytest.raises(SettingsError) as caught:
        read(tmp_path, ACME + toml)
    assert words in str(caught.value)


def test_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    """A file that is no text, or no file, is an error and not skipped."""
    (tmp_path / "ringback.toml").write_bytes(b"\xff\xfe")
    with pytest.raises(SettingsError, match=r"ringback\.toml"):
        read(tmp_path)
    (tmp_path / "ringback.toml").unlink()
    (tmp_path / "ringback.toml").mkdir()
    with pytest.raises(SettingsError, match=r"ringback\.toml"):
        read(tmp_path)


def test_process_environment_is_the_default(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without arguments the process's own environment and working directory are read."""
    monkeypatch.chdir(tmp_path)
    for name in KNOBS:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("RINGBACK_PORT", "9002")
    settings = Settings.from_environ()
    assert (settings.port, settings.database_path) == (9002, tmp_path / "ringback.db")


def test_secret_beside_the_database_is_taken(tmp_path: Path) -> None:
    """A generated secret is used where none is set, and only there; a damaged one is an error that names its file."""
    url = f"sqlite:///{tmp_path}/r.db"
    text = ensure_secret(tmp_path / "r.db")
    assert read(tmp_path, RINGBACK_DATABASE_URL=url).secret == (text.encode(),)
    assert read(tmp_path, RINGBACK_DATABASE_URL=url, RINGBACK_SECRET=SECRET).secret == (SECRET.encode(),)
    for damage in ("", "short"):
        (tmp_path / "r.db.secret").write_text(damage)
        with pytest.raises(SettingsError, match=r"r\.db\.secret: "):
            read(tmp_path, RINGBACK_DATABASE_URL=url)


def test_no_secret_is_shown(tmp_path: Path) -> None:
    """The text of settings holds no secret, and every secret is given for redaction."""
    secrets = {SECRET, OTHER, "admin-token", "api-key", "sign-1", "sign-2"}
    settings = read(
        tmp_path,
        RINGBACK_SECRET=f"{SECRET},{OTHER}",
        RINGBACK_ADMIN_TOKEN="admin-token",
        RINGBACK_QINGBO_API_KEY="api-key",
        RINGBACK_QINGBO_SECRET="sign-1,sign-2",
        RINGBACK_REAPI_BASE_URL="https://api.example",
    )
    assert "sign-1" not in repr(settings.provider("qingbo").secret)
    assert set(settings.secret_values()) == secrets
    assert not any(secret in repr(settings) or secret in str(settings) for secret in secrets)
    assert list(Settings(secret=(b"\xff" * 32,)).secret_values()) == ["\ufffd" * 32]
    assert list(Settings().secret_values()) == []


@pytest.mark.parametrize(
    "url",
    ["https://u:pass-word@k.example/", "https://k.example:99999/", "https://k.example\\@e/", "https://k.example\n/x"],
)
def test_keys_are_never_fetched_from_a_place_that_cannot_be(url: str) -> None:
    """What every fetch would refuse stops the start, and its password is not repeated."""
    with pytest.raises(SettingsError) as caught:
        Settings.from_environ({"RINGBACK_FAL_JWKS_URL": url})
    assert "pass-word" not in str(caught.value)


@pytest.mark.parametrize(
    "value",
    [",", "media.local,", "*", "127.1", "0x7f.1", "10.0.0.1:80", "http://media.local", "fe80::1%eth0", "a b", "\ud800"],
)
def test_what_may_be_private_is_named_well(value: str, tmp_path: Path) -> None:
    """What is no name, address or network is refused, since an entry that fits nothing would help nobody."""
    with pytest.raises(SettingsError, match="RINGBACK_ALLOW_PRIVATE: expected names, addresses or networks such as"):
        read(tmp_path, RINGBACK_ALLOW_PRIVATE=value)


def test_a_name_that_may_be_private_is_compared_in_ascii(tmp_path: Path) -> None:
    """A name in another script is kept as name servers know it."""
    assert read(tmp_path, RINGBACK_ALLOW_PRIVATE="b\u00fccher.local").allow_private == ("xn--bcher-kva.local",)
