"""`ringback demo`: the whole product in under a minute, on one's own machine, with every fault that a provider has.

The command alone: what it plays is in `demo_stage`. Everything lies in a temporary folder.
"""

import sys
import tempfile
from pathlib import Path

import click

from ringback.cli.group import examples
from ringback.cli.run import run


@click.command(epilog=examples("ringback demo", "ringback demo --keep"))
@click.option("--keep", is_flag=True, help="Leave it running for a look around, until Ctrl-C.")
def demo(keep: bool) -> None:
    """Show the whole product at work on this machine, within a minute.

    With every fault that a provider has; no key needed.
    """
    from rich.console import Console

    from ringback import logs
    from ringback.cli.demo_stage import run_demo

    console = Console(width=None if sys.stdout.isatty() else 110)
    with tempfile.TemporaryDirectory(prefix="ringback-demo-") as name:
        folder = Path(name)
        with (folder / "demo.log").open("w", encoding="utf-8") as log:
            logs.configure(level="info", style="json", stream=log)
            fine = run(run_demo(folder, console, keep=keep))
        if not fine:
            console.print("The last lines of the log:")
            console.print("".join((folder / "demo.log").read_text().splitlines(True)[-30:]), highlight=False)
    sys.exit(0 if fine else 1)
