"""All benchmarks in one run, side by side on this machine: what `make bench` does, in under a quarter of an hour.

Each is a command of its own, which prints its figures with `--json`; one that fails is named on the page, and the
others go on. At the end figures, pages and plot go to docs/benchmarks, and one small table into the README.

    .venv/bin/python -m bench
    .venv/bin/python -m bench --quick --no-write     # a round each, to see that all of it works
    .venv/bin/python -m bench --only ingest-64 paced --no-write
"""

import argparse
import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

import msgspec

from bench import pages
from bench.figures import Part
from bench.machine import ROOT, describe

COMMAND = "make bench"
END_SECONDS = 30.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One benchmark.

    Args:
        name: on the command line and in the JSON.
        usual: the module with its arguments.
        quick: the same, to see that it works.
        has_pages: whether it writes pages of its own, from the same figures.
        most_seconds: when it is given up.
    """

    name: str
    usual: tuple[str, ...]
    quick: tuple[str, ...]
    has_pages: bool = False
    most_seconds: float = 300.0

    def command(self, options: argparse.Namespace) -> tuple[str, ...]:
        """Give the module with its arguments."""
        silent = ("--no-write",) if self.has_pages and options.no_write else ()
        return (*(self.quick if options.quick else self.usual), *silent)


def _step(
    name: str, module: str, usual: str, quick: str, *, has_pages: bool = False, most_seconds: float = 300.0
) -> Step:
    command = (f"bench.{module}", "--json")
    return Step(
        name=name,
        usual=(*command, *usual.split()),
        quick=(*command, *quick.split()),
        has_pages=has_pages,
        most_seconds=most_seconds,
    )


STEPS = (
    _step(
        "ingest-64",
        "ingest",
        "--everyone --connections 64 --rounds 7 --seconds 2",
        "--everyone --connections 64 --rounds 1 --seconds 1",
        most_seconds=480,
    ),
    _step(
        "ingest-others",
        "ingest",
        "--everyone --connections 1 16 256 --rounds 5 --seconds 1",
        "--everyone --connections 1 256 --rounds 1 --seconds 1",
        most_seconds=540,
    ),
    _step("paced", "paced", "--rounds 3 --seconds 3", "--rounds 1 --seconds 1"),
    _step("verify", "verify", "--rounds 5", "--rounds 1"),
    _step(
        "process",
        "process",
        "--events 20000 --rounds 3 --most-seconds 5",
        "--events 2000 --rounds 1 --most-seconds 2",
    ),
    _step("submission", "submission", "--rounds 3 --tasks 1000", "--rounds 1 --tasks 100"),
    _step("cold-start", "cold_start", "--rounds 10", "--rounds 1", has_pages=True),
    _step(
        "slow-disk",
        "slow_disk",
        "--rounds 3 --seconds 1",
        "--rounds 1 --seconds 1 --fsync-ms 5 --connections 64",
        has_pages=True,
    ),
    _step("overload", "overload", "--rounds 1 --seconds 5", "--rounds 1 --seconds 1", has_pages=True),
    _step("latency", "latency", "--rounds 1 --seconds 5 --block-seconds 3", "--rounds 1 --seconds 1 --block-seconds 1"),
)


def main() -> int:
    """Run the steps, and write what they gave; 1 where one failed."""
    options = _options(sys.argv[1:])
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # so that nothing is left behind then, either
    began, parts, failed = time.monotonic(), {}, []
    for step in STEPS:
        if options.only and step.name not in options.only:
            continue
        print(f"== {step.name}", file=sys.stderr, flush=True)
        begun = time.monotonic()
        parts[step.name], is_whole = run(step.command(options), step)
        failed += [] if is_whole else [step.name]
        print(f"   {time.monotonic() - begun:.0f} s", file=sys.stderr, flush=True)
    found = pages.Run(
        taken=f"{datetime.now(UTC):%Y-%m-%d}",
        minutes=round((time.monotonic() - began) / 60, 1),
        command=" ".join(["python -m bench", *sys.argv[1:]]) if sys.argv[1:] else COMMAND,
        machine=describe(),
        parts=parts,
    )
    if options.no_write:
        print(pages.page(found))
    else:
        pages.write(found)
    print("failed: " + ", ".join(failed) if failed else "all done", file=sys.stderr)
    return 1 if failed else 0


def _options(arguments: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--quick", action="store_true", help="a round each: shows that it works, and nothing else")
    parser.add_argument("--only", nargs="+", choices=[step.name for step in STEPS], metavar="NAME")
    parser.add_argument("--no-write", action="store_true", help="print the page instead")
    return parser.parse_args(arguments)


def run(arguments: Sequence[str], step: Step) -> tuple[Part, bool]:
    """Run one benchmark; gives its figures, or says that there are none and why, and tells which."""
    try:
        return Part.read(_printed([sys.executable, "-m", *arguments], step.most_seconds)), True
    except subprocess.TimeoutExpired:
        reason = f"was not done after {step.most_seconds:g} s"
    except subprocess.CalledProcessError as error:
        reason = f"ended with {error.returncode}"
    except msgspec.DecodeError as error:
        reason = f"printed no figures: {error}"
    repeated = f"{step.name}: `python -m {' '.join(arguments)}`"
    return Part(title=step.name, figures=(), missing=(f"{repeated} {reason}",)), False


def _printed(command: Sequence[str], most_seconds: float) -> bytes:
    """Give what a command prints; however it ends, nothing that it has started is left behind."""
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, start_new_session=True) as process:
        try:
            output, _ = process.communicate(timeout=most_seconds)
        finally:
            _end(process)
    if process.returncode:
        raise subprocess.CalledProcessError(process.returncode, command)
    return output


def _end(process: "subprocess.Popen[bytes]") -> None:
    for number in (signal.SIGINT, signal.SIGKILL):  # at the first it cleans up
        if process.poll() is None:
            with contextlib.suppress(subprocess.TimeoutExpired):
                os.killpg(process.pid, number)
                process.wait(END_SECONDS)


if __name__ == "__main__":
    sys.exit(main())
