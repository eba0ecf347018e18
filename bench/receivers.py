"""Who is measured: how each receiver is started, what it is sent, what it leaves out, and how a round is checked.

All that is Python runs on uvicorn with uvloop and httptools, in one process, without an access log; Ringback is
`ringback serve`, which is the same plus what ringback/cli/server.py sets. Whoever stores anything is asked after each
round whether it holds as much as it has answered for.
"""

import contextlib
import json
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from bench import naive
from bench.engines import connected
from bench.pushes import HMAC_HEADER, HMAC_PATH, HMAC_SECRET, STANDARD_SECRET, Auth
from bench.running import RINGBACK, ROOT, await_port, end, environment, free_port

PEERS_PYTHON = ROOT / ".venv/peers/bin/python"
UVICORN = ("--no-access-log", "--log-level", "warning", "--loop", "uvloop", "--http", "httptools", "--lifespan", "auto")
KEPT = """
SELECT (SELECT count(*) FROM events WHERE type = 'task.completed') AS events,
       (SELECT count(*) FROM tasks WHERE state = 'completed') AS settled
"""
BARE_ASGI, NAIVE, WEBHOOK = "bare ASGI", "naive receiver, aiosqlite", "webhook (Debian)"
USUAL = {"RINGBACK_STANDARD_SECRET": STANDARD_SECRET, "RINGBACK_PUBLIC_URL": "https://hooks.example.com"}
APPEND = '#!/bin/sh\nprintf "%s\\n" "$1" >> "${0%/*}/stored"\n'


@dataclass(frozen=True, slots=True, kw_only=True)
class Site:
    """Where one receiver runs for one round: `url` is the ledger's, in a copy of its own where it needs one."""

    folder: Path
    url: str
    port: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Receiver:
    """One of those who are compared.

    Args:
        name: in the tables.
        command: what starts it.
        auth: how the pushes that it is sent prove whence they come.
        engine: the ledger that it works on, `sqlite` or `postgres`; none for who has another, or nothing.
        stored: counts what it holds after a round; none where it stores nothing.
        lacks: what Ringback does and this does not, for the notes.
        missing: what is not installed, and how to get it; none where it can run.
    """

    name: str
    command: Callable[[Site], Sequence[str]]
    auth: Auth = Auth.TOKEN
    engine: str | None = None
    stored: Callable[[Site], int] | None = None
    lacks: str = ""
    missing: str | None = None


def ours(auth: Auth, engine: str) -> Receiver:
    """Give `ringback serve`, which is sent such pushes, on such a ledger."""
    how = {Auth.TOKEN: "capability URL", Auth.SIGNED: "Standard Webhooks"}[auth]
    where = {"sqlite": "SQLite", "postgres": "PostgreSQL"}[engine]
    return Receiver(
        name=f"ringback, {how}, {where}",
        command=lambda site: (*RINGBACK, "serve", "--port", str(site.port)),
        auth=auth,
        engine=engine,
        stored=_kept,
    )


def _kept(site: Site) -> int:
    """Count the events of a ledger, each of which must have settled its task."""
    with connected(site.url) as db:
        events, settled = db.execute(KEPT).fetchone()
    if events != settled:
        raise SystemExit(f"not a valid round: {events} events, {settled} tasks settled")
    return int(events)


def _asgi(app: str, python: Path | str = sys.executable) -> Callable[[Site], Sequence[str]]:
    return lambda site: (str(python), "-m", "uvicorn", app, "--port", str(site.port), *UVICORN)


def bare(auth: Auth = Auth.TOKEN) -> Receiver:
    """Give the yardstick, which is sent such pushes."""
    signed = ", signed requests" if auth is Auth.SIGNED else ""
    return Receiver(
        name=f"bare Starlette{signed}",
        command=_asgi("bench.bare:app"),
        auth=auth,
        lacks="reads the body and answers 204; verifies nothing, stores nothing",
    )


def _naive_rows(site: Site) -> int:
    with contextlib.closing(sqlite3.connect(site.folder / naive.DATABASE)) as db:
        return int(db.execute("SELECT count(*) FROM events").fetchone()[0])


def _webhook(site: Site) -> Sequence[str]:
    """Write the hook's description: an HMAC rule, and a command that appends the body to a file before the answer."""
    script, hooks = site.folder / "append", site.folder / "hooks.json"
    script.write_text(APPEND)
    script.chmod(0o755)
    signature = {"source": "header", "name": HMAC_HEADER}
    rule = {"type": "payload-hmac-sha256", "secret": HMAC_SECRET, "parameter": signature}
    hook = {
        "id": HMAC_PATH.rpartition("/")[2],
        "execute-command": str(script),
        "include-command-output-in-response": True,  # else it answers before the command has begun
        "pass-arguments-to-command": [{"source": "raw-request-body"}],
        "trigger-rule": {"match": rule},
    }
    hooks.write_text(json.dumps([hook]))
    return ("webhook", "-hooks", str(hooks), "-ip", "127.0.0.1", "-port", str(site.port))


def _lines(site: Site) -> int:
    with (site.folder / "stored").open("rb") as file:
        return sum(1 for _ in file)


PEERS = (
    Receiver(
        name=BARE_ASGI,
        command=_asgi("bench.bare:asgi"),
        lacks="reads the body and answers 204, without any framework; verifies nothing, stores nothing",
    ),
    Receiver(
        name="FastAPI, pydantic models",
        command=_asgi("bench.peers.with_fastapi:app", PEERS_PYTHON),
        lacks="checks the body against a model; verifies no sender, stores nothing",
        missing=None if PEERS_PYTHON.exists() else "FastAPI; `make peers` installs it",
    ),
    Receiver(
        name=NAIVE,
        command=_asgi("bench.naive:app"),
        stored=_naive_rows,
        lacks="verifies the token in the URL and stores the body once per task, one commit per request; does not look "
        "at the body, knows no tasks and their states, no conflicts, keeps no headers",
    ),
    Receiver(
        name=WEBHOOK,
        command=_webhook,
        auth=Auth.HMAC,
        stored=_lines,
        lacks="verifies an HMAC of the body, and has a command append the body to a file before it answers (it runs a "
        "command for each request by design); no fsync: a crash of the machine loses what it has answered for; no "
        "deduplication, no tasks, nothing is run again",
        missing=None if shutil.which("webhook") else "webhook; on Debian and Ubuntu: apt-get install webhook",
    ),
)


@contextlib.contextmanager
def serving(receiver: Receiver, folder: Path, url: str, more: Mapping[str, str] | None = None) -> Iterator["Running"]:
    """Have a receiver run for a block, from when its port answers.

    Args:
        receiver: which.
        folder: where it may write, its own for this round.
        url: of its ledger.
        more: environment variables besides the usual ones.
    """
    site = Site(folder=folder, url=url, port=free_port())
    environ = environment(url, **USUAL, **(more or {}))
    os.sync()  # so that nobody pays for what another has written
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(receiver.command(site), cwd=ROOT, env=environ, stdout=log, stderr=log)
        try:
            try:
                await_port(site.port, [process])
            except SystemExit as error:
                raise SystemExit(f"{error}\n{_told(folder)}") from None
            yield Running(site=site, pid=process.pid)
        finally:
            end(process, signal.SIGTERM)


@dataclass(frozen=True, slots=True, kw_only=True)
class Running:
    """A receiver that answers."""

    site: Site
    pid: int


def check(receiver: Receiver, site: Site, answers: int, errors: int) -> None:
    """Refuse a round in which anything was not answered well, or in which more was answered for than is stored."""
    stored = answers if receiver.stored is None else receiver.stored(site)
    if errors or stored < answers or not answers:
        what = f"{receiver.name}: {answers} answers, {errors} errors, {stored} stored"
        raise SystemExit(f"not a valid round: {what}\n{_told(site.folder)}")


def _told(folder: Path) -> str:
    """Give the end of what a receiver has printed."""
    return (folder / "log").read_text(errors="replace")[-2000:]
