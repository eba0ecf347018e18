"""The receiver that is written first: a Starlette route that verifies the token, stores, commits, and answers 200.

Every row is durable before its answer, a fact is stored once, and each request has a transaction of its own, through
aiosqlite. One transaction at a time, or one request's rollback would take its neighbour's row along. It knows no tasks,
advances no state, fans nothing out, and keeps neither headers nor who was turned away.
"""

import asyncio
import hashlib
import hmac
import os
import time
from base64 import urlsafe_b64encode
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import aiosqlite
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

SCHEMA = """
CREATE TABLE IF NOT EXISTS events (
    seq INTEGER PRIMARY KEY, task_id TEXT NOT NULL UNIQUE, body BLOB NOT NULL, received_at INTEGER NOT NULL
) STRICT
"""
INSERT = "INSERT INTO events (task_id, body, received_at) VALUES (?, ?, ?) ON CONFLICT DO NOTHING"
DATABASE = "naive.db"  # beside the ledger of the others


@asynccontextmanager
async def lifespan(app: Starlette) -> AsyncIterator[None]:
    """Open the database."""
    folder = os.path.dirname(os.environ["RINGBACK_DATABASE_URL"].removeprefix("sqlite:///"))
    async with aiosqlite.connect(os.path.join(folder, DATABASE)) as database:
        await database.execute("PRAGMA journal_mode = WAL")
        await database.execute("PRAGMA synchronous = FULL")
        await database.execute(SCHEMA)
        app.state.database, app.state.turn = database, asyncio.Lock()
        yield


async def take(request: Request) -> JSONResponse:
    """Verify, store, commit, answer."""
    task_id, _, mac = request.path_params["address"].rpartition(".")
    key = os.environ["RINGBACK_SECRET"].encode()
    digest = hmac.new(key, f"qingbo:{task_id}".encode(), hashlib.sha256).digest()
    if not hmac.compare_digest(urlsafe_b64encode(digest)[:32], mac.encode()):
        return JSONResponse({"received": False}, 401)
    body = await request.body()
    database: aiosqlite.Connection = request.app.state.database
    async with request.app.state.turn:
        cursor = await database.execute(INSERT, (task_id, body, time.time_ns() // 1000))
        await database.commit()
    return JSONResponse({"received": True, "duplicate": cursor.rowcount == 0})


app = Starlette(routes=[Route("/callbacks/qingbo/{address}", take, methods=["POST"])], lifespan=lifespan)
