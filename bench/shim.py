"""Compiles what stands between a process and its disk; see fsync_shim.c. Used by benchmarks and acceptance tests."""

import os
import shutil
import subprocess
from pathlib import Path

SOURCE = Path(__file__).with_name("fsync_shim.c")
COMPILE_SECONDS = 60
MOST_HELD = 100  # a process has few threads that write


def compiled(folder: Path) -> Path:
    """Compile the shim into a folder, with the machine's own compiler."""
    compiler = os.environ.get("CC") or shutil.which("cc") or shutil.which("gcc")
    if compiler is None:
        raise SystemExit("A C compiler is missing; on Debian and Ubuntu: apt-get install gcc libc6-dev")
    library = folder / "fsync_shim.so"
    command = [compiler, "-O2", "-Wall", "-Werror", "-shared", "-fPIC", "-o", str(library), str(SOURCE), "-ldl"]
    subprocess.run(command, check=True, timeout=COMPILE_SECONDS)
    return library


def slowed(library: Path, milliseconds: float) -> dict[str, str]:
    """Give the environment of a process whose every fsync takes so long at least."""
    return {"LD_PRELOAD": str(library), "BENCH_FSYNC_MS": f"{milliseconds:g}"}


class Gate:
    """The disk of one process, which can be shut: then every fsync waits until it is let through."""

    def __init__(self, library: Path, folder: Path) -> None:
        self._fifo, self._log = folder / "fsync.gate", folder / "fsync.log"
        self._log.touch()
        self._handle = -1
        self.environ = {
            "LD_PRELOAD": str(library),
            "BENCH_FSYNC_GATE": str(self._fifo),
            "BENCH_FSYNC_LOG": str(self._log),
        }

    def shut(self) -> None:
        """Hold back every fsync that comes from now on."""
        os.mkfifo(self._fifo)
        self._handle = os.open(self._fifo, os.O_RDWR)

    def let_through(self) -> None:
        """Let one go: the one that is held, else the next."""
        os.write(self._handle, b"1")

    def open(self) -> None:
        """Let go all that are held, and hold back none any more."""
        self._fifo.unlink()
        os.write(self._handle, bytes(MOST_HELD))  # which stay in the pipe for as long as somebody waits at it
        os.close(self._handle)

    def held(self) -> list[str]:
        """Give the names of the files whose fsyncs were begun so far, in order."""
        return self._lines("held")

    def done(self) -> list[str]:
        """Give those whose fsyncs were done."""
        return self._lines("done")

    def _lines(self, word: str) -> list[str]:
        lines = (line.partition(" ") for line in self._log.read_text().splitlines())
        return [Path(file).name for found, _, file in lines if found == word]
