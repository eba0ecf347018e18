"""The URL of a PostgreSQL server: what is taken, and that none of its passwords is shown."""

from pathlib import Path

import psycopg
import pytest
from hypothesis import given
from hypothesis import strategies as st
from psycopg.conninfo import conninfo_to_dict

from ringback.errors import SettingsError
from ringback.settings import Settings
from ringback.settings_values import database_url, passwords, without_password

PIECES = ["h", ":", "@", "/", "?", "&", "=", "password", "sslpassword", "p%61ssword", "%40", "%", "secret", "#"]


def read(tmp_path: Path, **environ: str) -> Settings:
    """Read settings from these variables alone."""
    return Settings.from_environ(environ, tmp_path)


@pytest.mark.parametrize(
    ("written", "place"),
    [
        ("postgres://ringback@db.example/ringback", "postgresql://ringback@db.example/ringback"),
        ("postgresql://u:p%40ss@a:1,b:2/r?sslmode=require", "postgresql://u@a:1,b:2/r"),
        ("postgresql:///ringback?host=/run/postgresql", "postgresql:///ringback"),
        ("postgresql://db.example/ringback?user=app&password=p@ssw0rd", "postgresql://db.example/ringback"),
        ("postgresql://u:@/r", "postgresql://u@/r"),
    ],
)
def test_a_server_may_hold_the_ledger(tmp_path: Path, written: str, place: str) -> None:
    """A PostgreSQL URL is taken in both spellings; its password is not shown, and no secret lies beside it."""
    settings = read(tmp_path, RINGBACK_DATABASE_URL=written)
    assert (settings.embedded, settings.database_place, settings.secret) == (False, place, ())
    assert "p%40ss" not in repr(settings)
    with pytest.raises(SettingsError, match="DATABASE_URL: expected sqlite"):
        read(tmp_path, RINGBACK_DATABASE_URL=f"{written} with blanks")


@pytest.mark.parametrize(
    ("place", "secrets"),
    [
        ("u:p%40ss@a:1,b:2/r?sslmode=require", {"p%40ss", "p@ss"}),
        ("h/r?user=app&password=p@ss/w?rd&sslpassword=ke%79", {"p@ss/w?rd", "ke%79", "key"}),
        ("u:in-url@h?p%61ssword=in-query&oauth_client_secret=o-1", {"in-url", "in-query", "o-1"}),
        ("u:@h/r?password=&application_name=password&", set()),
        ("u@/r", set()),
    ],
)
def test_every_password_of_a_servers_url_is_known(tmp_path: Path, place: str, secrets: set[str]) -> None:
    """Wherever libpq takes a password from, it is given for redaction, as written and as meant, and is not shown."""
    settings = read(tmp_path, RINGBACK_DATABASE_URL=f"postgresql://{place}")
    assert set(settings.secret_values()) == secrets
    assert not any(secret in settings.database_place for secret in secrets)


def test_nothing_is_shown_of_a_url_that_was_never_checked() -> None:
    """Where a program made the settings, a URL that cannot be taken apart is not shown at all."""
    settings = Settings(database_url="postgresql://u:half/other@h/r")
    assert (settings.database_place, set(settings.secret_values())) == ("postgresql://…", set())


@pytest.mark.parametrize("password", ["se%cretpw", "hush%4", "se@cr:et", "half/other", "100%", "hu?sh", "hush%00"])
def test_a_password_that_libpq_would_misread(tmp_path: Path, password: str) -> None:
    """It would quote a part of it in its error, so it is refused before, and not repeated."""
    with pytest.raises(SettingsError, match="DATABASE_URL: in its user and password, write @ as %40") as told:
        read(tmp_path, RINGBACK_DATABASE_URL=f"postgresql://user:{password}@db.example.com/ringback")
    assert all(part not in str(told.value) for part in ("cret", "hush", "half", "100"))


@pytest.mark.parametrize("query", ["/r?password=100%", "/r?password=a&half", "/r?password=a=half", "?password=ha@lf"])
def test_a_parameter_that_libpq_would_misread(tmp_path: Path, query: str) -> None:
    """The same holds for a password behind the question mark; without a slash before it, an @ ends the user's name."""
    with pytest.raises(SettingsError, match="DATABASE_URL: in its user and password, write @ as %40") as told:
        read(tmp_path, RINGBACK_DATABASE_URL=f"postgresql://db.example{query}")
    assert not any(part in str(told.value) for part in ("100", "half", "lf", "db.example"))


@pytest.mark.parametrize(
    "place",
    ["u:p%40%2F%25@h/db", "%2Ftmp/db", "h1,h2:5433/db?options=-csearch_path%3Dx@y", "u@/db", "u:p@h?options=x@y", "h?"],
)
def test_a_url_that_libpq_reads(tmp_path: Path, place: str) -> None:
    """What is written as it should be is taken as it is."""
    assert read(tmp_path, RINGBACK_DATABASE_URL=f"postgresql://{place}").database_url == f"postgresql://{place}"


@given(st.lists(st.sampled_from(PIECES), max_size=14).map("".join))
def test_libpq_reads_no_other_password(place: str) -> None:
    """Of every URL that is taken, libpq reads as a password only what is known as one; and it stands in no place."""
    try:
        url = database_url(f"postgresql://{place}")
        libpq = conninfo_to_dict(url)
    except (ValueError, psycopg.Error):
        return
    assert {libpq[name] for name in ("password", "sslpassword") if libpq.get(name)} <= passwords(url)
    assert "?" not in without_password(url)
