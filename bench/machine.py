"""On what the figures were taken: the machine, the versions, the revision. Read once per run, by `python -m bench`."""

import os
import platform
import sqlite3
import subprocess
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

ROOT = Path(__file__).parents[1]
LIBRARIES = ("starlette", "uvicorn", "uvloop", "httptools", "aiosqlite", "msgspec", "httpx", "psycopg")


def describe(libraries: Sequence[str] = LIBRARIES) -> dict[str, str]:
    """Give what stands above the tables, by name. Nothing tells whose machine it is: no host name and no path."""
    return {
        "processor": f"{processor()}, {len(os.sched_getaffinity(0))} cores",
        "memory": f"{_memory() / 2**30:.1f} GiB",
        "system": f"{platform.system()} {platform.release()} ({platform.machine()})",
        "Python": platform.python_version(),
        "SQLite": sqlite3.sqlite_version,
        "libraries": ", ".join(f"{name} {_version(name)}" for name in libraries),
        "revision": revision(),
    }


def processor() -> str:
    """Name the processor where Linux tells it."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


def revision() -> str:
    """Name the commit that was measured, and say where the tree differs from it."""
    commit = _git("rev-parse", "--short=10", "HEAD")
    return f"{commit} with changes" if commit and _git("status", "--porcelain") else commit or "unknown"


def _git(*arguments: str) -> str:
    command = ["git", "--no-optional-locks", *arguments]  # what others do in the tree at the same time goes on
    try:
        found = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=10, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return found.stdout.strip() if found.returncode == 0 else ""


def _memory() -> int:
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "missing"
