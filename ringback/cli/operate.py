"""Changing many records at once: counted first, then asked about, then done in steps, then told.

Called by `deliveries` and `events`. Nothing here knows what an action does; that is the ledger's.
"""

import sys
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import click

from ringback.cli.run import opened_ledger, run
from ringback.errors import LedgerUnavailable
from ringback.settings import Settings

if TYPE_CHECKING:
    from ringback.ledger import Action, Done

STEP = 500  # records in one step: some milliseconds, so that callbacks never wait for it
SHOWN = 5  # records named where there are many

reason_option = click.option("--reason", metavar="TEXT", help="Why; kept and shown.")
dry_run_option = click.option("--dry-run", is_flag=True, help="Count and show the first few; change nothing.")
fresh_option = click.option(
    "--fresh", is_flag=True, help="Forget which steps were done (event.once), so that they are done again."
)
yes_option = click.option("--yes", is_flag=True, help="Do not ask, however many there are.")


@dataclass(frozen=True, slots=True)
class Deed:
    """An action, and how it is spoken of."""

    action: "Action"
    verb: str
    past: str
    noun: str  # one of what is counted
    plural: str

    @property
    def fresh(self) -> bool:
        """Tell whether it is a replay that forgets steps."""
        return getattr(self.action, "fresh", False)

    def counted(self, count: int) -> str:
        """Say how many."""
        how = ", forgetting which steps were done" if self.fresh else ""
        return f"{count:,} {self.noun if count == 1 else self.plural}{how}"


def perform(settings: Settings, deed: Deed, *, named: bool, yes: bool) -> "Done":
    """Do all of it; where it was not `named` one by one and is more than one, only after a yes.

    Raises:
        UsageError: there is nobody to ask, and no --yes.
        Abort: the answer was no.
    """
    if not (deed.action.dry_run or named):
        asked = run(_act(settings, replace(deed.action, dry_run=True), deed))
        if asked.count > 1 and not yes:
            _confirm(f"{deed.verb} {deed.counted(asked.count)}")
    return run(_act(settings, deed.action, deed))


def told(deed: Deed, done: "Done") -> str:
    """Say in a sentence what was done, or would be."""
    begin = f"would {deed.verb}" if deed.action.dry_run else deed.past
    left = ", ".join(f"{count:,} {state}" for state, count in sorted(done.skipped.items()))
    return f"{begin} {deed.counted(done.count)}" + (f"; left alone: {left}" if left else "")


def shape(deed: Deed, done: "Done", **records: Iterable[Any]) -> dict[str, Any]:
    """Give the same for programs, with the records that are named."""
    named = {name: list(values) for name, values in records.items()}
    fresh = {"fresh": True} if deed.fresh else {}
    return {"dry_run": deed.action.dry_run} | fresh | {"count": done.count, "left_alone": done.skipped} | named


def on_terminal() -> bool:
    """Tell whether there is somebody to ask."""
    return sys.stdin.isatty() and sys.stderr.isatty()


def operator() -> str:
    """Name who asks: the user of the operating system, and the machine."""
    import getpass
    import os
    import socket

    try:
        name = getpass.getuser()
    except (OSError, KeyError):  # a container may run under a number that has no name
        name = f"uid {os.getuid()}"
    return f"{name}@{socket.gethostname()}"


def _confirm(what: str) -> None:
    if not on_terminal():
        raise click.UsageError(f"this would {what}: say --yes, or look first with --dry-run")
    click.confirm(f"{what}?", abort=True, err=True)


async def _act(settings: Settings, action: "Action", deed: Deed) -> "Done":
    """Do step after step, and add them up."""
    from ringback.ledger import Done

    count, skipped, ids = 0, Counter[Any](), list[str]()
    async with opened_ledger(settings) as ledger:
        while True:
            try:
                step = await ledger.act(action)
            except LedgerUnavailable as error:
                raise LedgerUnavailable(f"{error}; before that it {deed.past} {deed.counted(count)}") from error
            count += step.count
            skipped.update(step.skipped)
            ids += step.ids[: STEP - len(ids)]
            if step.next is None:
                return Done(count=count, skipped=dict(skipped), ids=tuple(ids))
            action = replace(action, after=step.next)
