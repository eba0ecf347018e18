"""What an error of PostgreSQL means: try again at once, later, or never."""

import difflib
import re

import psycopg
import structlog
from psycopg.conninfo import conninfo_to_dict
from psycopg.pq import Conninfo

from ringback.errors import LedgerUnavailable, RingbackError
from ringback.ledger.faults import failed, is_values_fault, rejected

log = structlog.get_logger("ringback.ledger")

# Somebody else holds what a batch needs; it may have waited for what the batch itself held.
HELD = frozenset({"40001", "40P01", "55P03"})
# Somebody else has inserted the same key, or deleted what a row belongs to: decided anew, the batch comes out right.
OVERTAKEN = frozenset({"23503", "23505"})
# The connection has ended, of itself or because we slept in a transaction; and those without any state, which psycopg
# finds by itself.
LOST = ("08", "57P", "25P03", "25P04")
# A pooler has given us another server connection, which does not know the statements that we have prepared.
UNPREPARED = frozenset({"26000", "42P05", "0A000"})
# What one record can do to a statement: data out of range or no text, a check, a key that is too large for an index.
RECORDS_FAULT = ("22", "23", "54")
READ_ONLY = "25006"
TRANSIENT = OVERTAKEN | UNPREPARED | {READ_ONLY}  # to be tried again, perhaps on another connection
ADVICE = {
    READ_ONLY: "the server, or this user or database, is set to read-only (default_transaction_read_only), "
    "or is a standby",
    "55P03": "somebody else holds what is to be written",
    "53100": "the server's disk is full; free some space",
    "53300": "the server has no connection left",
    "57014": "the server took too long",
    "57P01": "the server is shutting down",
    "57P03": "the server is starting up",
    "3D000": "there is no such database",
    "3F000": "there is no such schema, or the user may not use it: make it first, with CREATE SCHEMA",
    "28P01": "the server refuses the password",
    "28000": "the server refuses the user",
    "42501": "the user may not do this",
}
# A connection that cannot be made has no state, only words: ours, the driver's, or the server's in English.
SAID = {
    "session is read-only": READ_ONLY,
    "connection slots": "53300",
    "too many c": "53300",
    "shutting down": "57P01",
    "starting up": "57P03",
}
LIST = "see PostgreSQL's list of connection parameters"
WRONG = f"its {{}} is wrong; {LIST}"
# What the driver says of a URL before it asks a server.
UNKNOWN_PARAMETER = re.compile(r'invalid URI query parameter: "(\w+)"')
BAD_VALUE = re.compile(
    r"\Abad value for (\w+)|connection is bad: invalid (?:(\w+) value|(port) number): "
    r'|connection is bad: invalid integer value ".*?" for connection option "(\w+)"'
)
PORTS = re.compile(r"[0-9,]*")  # of several hosts; who resolves names says it in many ways if one is none


def is_lost(error: psycopg.Error) -> bool:
    """Tell whether the connection has ended under way: on another one it may well work."""
    if error.sqlstate is None:
        return isinstance(error, (psycopg.OperationalError, psycopg.InterfaceError))
    return error.sqlstate.startswith(LOST)


def is_misuse(error: psycopg.Error) -> bool:
    """Tell whether psycopg refused what it was given, before a server saw it: a value, or a bug of ours."""
    return error.sqlstate is None and not is_lost(error)


def is_records_fault(error: BaseException) -> bool:
    """Tell whether an error is about what was to be stored; any other is the database's trouble, or a bug of ours."""
    if not isinstance(error, psycopg.Error):
        return is_values_fault(error)
    if error.sqlstate is None:
        return isinstance(error, psycopg.DataError)
    return error.sqlstate[:2] in RECORDS_FAULT


def trouble(error: BaseException) -> LedgerUnavailable:
    """Say in words that the database cannot be used right now."""
    said = " ".join(str(error).split())
    state = getattr(error, "sqlstate", None) or next((state for words, state in SAID.items() if words in said), "")
    advice = ADVICE.get(state, "the database cannot be used right now")
    return LedgerUnavailable(f"{advice} ({said[:300]})", public=advice)


def url_fault(url: str, error: psycopg.Error) -> str:
    """Say what is wrong with the URL of a database, where no server was asked; nothing where one was.

    Quotes no value, as the driver does: it may be a password.
    """
    said = str(error)
    if (found := UNKNOWN_PARAMETER.search(said)) is not None:
        known = [option.keyword.decode() for option in Conninfo.get_defaults()]
        near = difflib.get_close_matches(found[1], known, n=1)
        hint = f"did you mean {near[0]}?" if near else LIST
        return f"there is no parameter {found[1]}; {hint}"
    if (found := BAD_VALUE.search(said)) is not None:
        return WRONG.format(next(filter(None, found.groups())))
    if error.sqlstate is None and isinstance(error, psycopg.ProgrammingError):
        return said.partition(': "')[0]
    return "" if PORTS.fullmatch(str(conninfo_to_dict(url).get("port", ""))) else WRONG.format("port")


def verdict(error: Exception) -> RingbackError:
    """Say whether a record that failed alone can ever be stored: only if it is the record that is at fault."""
    if isinstance(error, RingbackError):
        return error
    if is_records_fault(error):
        return rejected(error)
    if isinstance(error, (OSError, MemoryError)) or (isinstance(error, psycopg.Error) and not is_misuse(error)):
        log.warning("ledger.failed", error=f"{type(error).__name__}: {error}")
        return trouble(error)
    return failed(error)
