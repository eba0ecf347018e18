"""What people ask a ledger, by HTTP and by command, and how long the answers take. Used by `growth`."""

import statistics
import subprocess
import time
import urllib.request
from collections.abc import Sequence

from bench.engines import row
from bench.machine import ROOT
from bench.running import RINGBACK, environment

ASKED = 5  # times for each page; the median counts
ADMIN_TOKEN = "bench-admin-0123456789-0123456789-0123456789"  # noqa: S105 -- of these benchmarks' own receivers
MIDDLE = "SELECT id FROM tasks WHERE seq >= (SELECT max(seq) / 2 FROM tasks) ORDER BY seq LIMIT 1"


def pages(url: str) -> dict[str, str]:
    """Name what is asked for; tasks in the middle of the ledger and one that is not known."""
    middle = _middle(url)
    return {
        "GET /api/tasks": "/api/tasks",
        "GET /api/tasks, of one provider, failed": "/api/tasks?provider=standard&state=failed",
        "GET /api/tasks, cancelled": "/api/tasks?state=cancelled",
        "GET /api/tasks, processing": "/api/tasks?state=processing",
        "GET /api/tasks, of an idle provider": "/api/tasks?provider=reapi",
        "GET /api/tasks/{id}": f"/api/tasks/{middle}",
        "GET /api/events": "/api/events",
        "GET /api/events, of one type": "/api/events?type=task.failed",
        "GET /api/events, of a type without any": "/api/events?type=task.expired",
        "GET /api/events, of one task": f"/api/events?task={middle}",
        "GET /api/deliveries": "/api/deliveries",
        "GET /api/deliveries, discarded": "/api/deliveries?state=discarded",
        "GET /api/deliveries, cancelled": "/api/deliveries?state=cancelled",
        "GET /api/deliveries, of a type without any": "/api/deliveries?type=task.expired",
        "GET /api/summary": "/api/summary",
    }


def commands(url: str) -> tuple[tuple[str, ...], ...]:
    """Name what is asked for by command."""
    return (
        ("tasks", "show", _middle(url)),
        *(("tasks", "list"), ("events", "list"), ("deliveries", "list"), ("status",)),
    )


def _middle(url: str) -> str:
    return str(row(url, MIDDLE)[0])


def asked(port: int, path: str) -> float:
    """Ask for a page a few times; gives the median of the milliseconds."""
    request = urllib.request.Request(
        f"http://127.0.0.1:{port}{path}", headers={"Authorization": f"Bearer {ADMIN_TOKEN}"}
    )
    found = []
    for _ in range(ASKED):
        began = time.perf_counter()
        urllib.request.urlopen(request, timeout=60).read()
        found.append((time.perf_counter() - began) * 1000)
    return statistics.median(found)


def command_ms(url: str, command: Sequence[str]) -> float:
    """Run a command a few times; gives the least of the milliseconds, its start included."""
    found = []
    for _ in range(ASKED):
        began = time.perf_counter()
        subprocess.run(
            (*RINGBACK, *command, "--json"), cwd=ROOT, env=environment(url), stdout=subprocess.DEVNULL, check=True
        )
        found.append((time.perf_counter() - began) * 1000)
    return min(found)
