"""Every knob: its default, what it takes, what it refuses and how, and where it is read from."""

from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from ringback import settings as module
from ringback.errors import SettingsError
from ringback.secret_file import ensure_secret
from ringback.settings import GENERAL, KNOBS, PER_PROVIDER, ProviderSettings, Settings, variable_name

SECRET, OTHER = "s" * 32, "o" * 40
# Per knob: its default, a good value as text, what that means, and a bad one.
TABLE: dict[str, tuple[Any, str, Any, str]] = {
    "database_url": ("sqlite:///ringback.db", " sqlite:////srv/r.db ", "sqlite:////srv/r.db", "postgres//x"),
    "public_url": (None, "https://hook.example/base/", "https://hook.example/base", "https://u:p@x"),
    "secret": ((), f" {SECRET} , {OTHER} ", (SECRET.encode(), OTHER.encode()), "short"),
    "admin_token": (None, " token ", "token", "  "),
    "handlers": (None, " app.main:handlers ", "app.main:handlers", "main.py"),
    "host": ("127.0.0.1", "::1", "::1", " "),
    "port": (8000, "0", 0, "65536"),
    "max_body_bytes": (1 << 20, "1024", 1024, "1023"),
    "max_inflight_bytes": (64 << 20, "2048", 2048, "1e6"),
    "body_timeout_seconds": (10.0, "0.5", 0.5, "nan"),
    "commit_timeout_seconds": (5.0, "60", 60.0, "61"),
    "tolerance_seconds": (300, "1", 1, "-1"),
    "dedup_days": (90, "3650", 3650, "0"),
    "concurrency": (32, "1", 1, "0" * 20 + "1"),
    "handler_timeout_seconds": (300.0, "0.01", 0.01, "inf"),
    "grace_seconds": (10.0, "0", 0.0, "-0.1"),
    "heartbeat_seconds": (5.0, "1", 1.0, "now"),
    "push_deadline_seconds": (300.0, "172800", 172_800.0, "-"),
    "request_timeout_seconds": (30.0, "600", 600.0, "601"),
    "provider_concurrency": (8, "8", 8, "٨"),
    "log_level": ("info", "DEBUG", "debug", "warn"),
    "log_format": (None, "JSON", "json", "yaml"),
    "metrics_public": (False, "Yes", True, "maybe"),
}
PROVIDER_TABLE: dict[str, tuple[Any, str, Any, str]] = {
    "api_key": (None, " key ", "key", " "),
    "secret": ((), "a, b", (b"a", b"b"), "a,,b"),
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
        ("RINGBACK_SECRET", "", "one of the comma-separated secrets is empty"),
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
    with pytest.raises(SettingsError, match="RINGBACK_SECRET: one of"):
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
        ("port = = 1", "line 1"),
        ("prot = 1", "prot is not a setting: did you mean port?"),
        ("zzzzz = 1", "expected one of database_url"),
        ("port = 'x'", "port: expected a whole number"),
        ("host = {}", "host: expected a value, got a table"),
        ("providers = 1", r"expected a table per provider"),
        ("[providers]\nqingbo = 1", r"expected a table per provider"),
        ("[providers.nobody]", "providers.nobody: expected one of qingbo, reapi"),
        ("[providers.qingbo]\napi_kee = 'x'", "providers.qingbo.api_kee is not a setting: did you mean api_key?"),
    ],
)
def test_file_that_is_wrong_says_where(tmp_path: Path, toml: str, words: str) -> None:
    """An error in the file names the file and the entry."""
    with pytest.raises(SettingsError, match=words) as caught:
        read(tmp_path, toml)
    assert str(tmp_path / "ringback.toml") in str(caught.value)


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
    assert set(settings.secret_values()) == secrets
    assert not any(secret in repr(settings) or secret in str(settings) for secret in secrets)
    assert list(Settings(secret=(b"\xff" * 32,)).secret_values()) == ["\ufffd" * 32]
    assert list(Settings().secret_values()) == []
