"""Crash points: a journey dies at its first step, then at its second, and so on, until one comes through."""

import itertools
import os
import shutil
import signal
import sqlite3
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import psycopg

from ringback.ledger.postgres.connection import Cursor, Row
from tests.acceptance.crashing import AHEAD_SECONDS, CRASH_AT, PHASES, TRAIL, is_step, numbered
from tests.acceptance.forking import Forked, Order, Zygote
from tests.acceptance.processes import Site
from tests.ledger import server

LANES = 2
MOST_STEPS = 400
KILLED = -signal.SIGKILL
CLOSING = {f"close: {phase}" for phase in ("called", "checkpoint", "checkpointed", "done")}
WHOLE = "RINGBACK_TEST_KILLS" in os.environ
SAMPLE = 6  # of the steps on PostgreSQL, each so-many-th, where the whole is not wanted

At = int | str  # the number of a step, or "method: phase"


class Stage:
    """A folder and a database of its own, for one run of a journey: what dies in it, and what comes after."""

    def __init__(self, folder: Path, zygote: Zygote, template: Site) -> None:
        folder.mkdir(parents=True)
        self.site = Site(folder)
        self.trail_path = folder / "trail"
        self._zygote = zygote
        self._count = itertools.count()
        taken = {"RINGBACK_DATABASE_URL", "RINGBACK_PORT", "RINGBACK_PUBLIC_URL"}
        self.site.environ |= {name: value for name, value in template.environ.items() if name not in taken}
        self._copy: str | None = None
        if is_postgres(template):
            self._copy = server.copied(template.environ["RINGBACK_DATABASE_URL"])
            self.site.set(database_url=self._copy)
        for file in (*template.folder.glob("ringback.db"), *template.folder.glob("*.py")):
            shutil.copy(file, self.site.folder)

    @property
    def trail(self) -> list[str]:
        """The steps of the one that was to die, up to its last."""
        return self.trail_path.read_text().splitlines()

    def start(self, *arguments: str, crash_at: At | None = None, ahead: float = 0, **settings: object) -> Forked:
        """Start a command; it dies at the step `crash_at`, and its clock is `ahead`."""
        environ = self.site.environ | {f"RINGBACK_{name.upper()}": str(value) for name, value in settings.items()}
        environ |= {AHEAD_SECONDS: str(ahead)} if ahead else {}
        environ |= {TRAIL: str(self.trail_path), CRASH_AT: str(crash_at)} if crash_at else {}
        log = self.site.logs / f"{next(self._count):02}-{arguments[0]}"
        folder = str(self.site.folder)
        return self._zygote.start(Order(arguments=arguments, folder=folder, environ=environ, log=str(log)))

    def code(self, forked: Forked, timeout_seconds: float = 20) -> int | None:
        """Wait for its end; None where it goes on."""
        return self._zygote.code(forked, timeout_seconds)

    def finish(self, *arguments: str, ahead: float = 0) -> None:
        """Run a command that must succeed."""
        forked = self.start(*arguments, ahead=ahead)
        assert self.code(forked) == 0, forked.log

    def died(self, forked: Forked, at: At) -> bool:
        """Wait for the end of the one that was to die at this step, and tell whether it did; else it ended well."""
        code, trail = self.code(forked), self.trail
        reached = numbered(trail) == at if isinstance(at, int) else is_step(trail[-1], at)
        assert code == (KILLED if reached else 0), f"to die at {at}: ended with {code} after {trail}\n{forked.log}"
        return reached

    def close(self) -> None:
        """Drop its database, if that is not a file."""
        if self._copy is not None:
            server.drop(self._copy)

    def rows(self, query: str) -> list[Any]:
        """Read the database around our own code, and leave what a dead process left as it is."""
        if self._copy is not None:
            with psycopg.connect(self._copy) as db:
                found = Cursor(db.execute(query.encode()))
                found.row_factory = Row
                return found.fetchall()
        with closing(sqlite3.connect(f"file:{self.site.database}?mode=ro", uri=True)) as database:
            database.row_factory = sqlite3.Row
            return database.execute(query).fetchall()


def is_postgres(site: Site) -> bool:
    """Tell which engine a site's ledger is on."""
    return site.environ["RINGBACK_DATABASE_URL"].startswith("postgresql")


Play = Callable[[Stage, At], bool]  # runs a journey to its crash and what follows; tells whether there was a crash


@dataclass(frozen=True, slots=True)
class Crashes:
    """The trails of all that died, each up to the step at which it did."""

    trails: list[list[str]]

    @classmethod
    def of(cls, play: Play, folder: Path, template: Site, methods: frozenset[str]) -> Self:
        """Let a journey die at its first step, its second, and so on, until one comes through.

        On PostgreSQL there are as many steps as statements; a part of them will do, unless the whole is wanted.
        Threads and turns do not come in the same order each time: every step of these methods at which none has died
        so far is then called by its name, so that none is left out.
        """

        def let_die(points: Iterator[At]) -> list[list[str]]:
            over = threading.Event()
            with ThreadPoolExecutor(LANES) as pool:
                lanes = [pool.submit(_lane, play, folder, template, points, over) for _ in range(LANES)]
            return [trail for lane in lanes for trail in lane.result()]

        sampled = is_postgres(template) and not WHOLE
        trails = let_die(iter(range(1, MOST_STEPS, SAMPLE if sampled else 1)))
        assert len(trails) < MOST_STEPS // (SAMPLE if sampled else 1) - 1, "none came through"
        if sampled:
            return cls(trails)
        wanted = {f"{name}: {phase}" for name in methods for phase in PHASES} | CLOSING
        if is_postgres(template):
            wanted -= {"close: checkpoint", "close: checkpointed"}
        trails += let_die(iter(sorted(_without(wanted, trails))))
        assert not (left := _without(wanted, trails)), f"none died at {sorted(left)}"
        return cls(trails)

    def __str__(self) -> str:
        return f"{len(self.trails)} crashes"


def _without(wanted: set[str], trails: list[list[str]]) -> set[str]:
    """Leave out the steps at which one died."""
    return {step for step in wanted if not any(is_step(trail[-1], step) for trail in trails)}


def _lane(play: Play, folder: Path, template: Site, points: Iterator[At], over: threading.Event) -> list[list[str]]:
    """Take points, which others take too, and let one die at each, until no number is left; gives the trails."""
    trails = []
    try:
        with Zygote() as zygote:
            for at in points:
                place = folder / str(at).replace(": ", "-")
                stage = Stage(place, zygote, template)
                if play(stage, at):
                    trails.append(stage.trail)
                elif isinstance(at, int):
                    over.set()
                stage.close()
                shutil.rmtree(place)  # only what went wrong is worth a look
                if over.is_set():
                    break
    except BaseException:
        over.set()  # the others need not go on
        raise
    return trails
