"""Runs a whole function in the thread of an aiosqlite connection.

aiosqlite's public calls cross to its thread and back once per statement, and a lock held meanwhile would be held across
turns of the event loop, which a user's handler may block for seconds. Its own calls are built on `_execute`, which
takes any function; it is private, so it is used here alone, and a test fails if a new version changes it.
"""

import sqlite3
from collections.abc import Callable
from typing import Concatenate, ParamSpec, TypeVar, cast

import aiosqlite

Parameters = ParamSpec("Parameters")
Answer = TypeVar("Answer")


async def in_thread(
    connection: aiosqlite.Connection,
    function: Callable[Concatenate[sqlite3.Connection, Parameters], Answer],
    *arguments: Parameters.args,
    **options: Parameters.kwargs,
) -> Answer:
    """Call `function(raw_connection, …)` in the connection's thread; its errors come through."""
    raw = connection._conn
    return cast("Answer", await connection._execute(function, raw, *arguments, **options))  # type: ignore[no-untyped-call]
