"""`ringback costs`: what tasks were expected to cost, what was charged, and what came back."""

import csv
import io
import shutil
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import click

from ringback.cli.group import examples
from ringback.cli.options import json_option, provider_option, read_moment
from ringback.cli.run import load_settings, opened_ledger, run
from ringback.cli.spending import amount, decimal_usd
from ringback.settings import Settings

if TYPE_CHECKING:
    from ringback.ledger import Cost, Spent, Sums

COUNTS = frozenset({"tasks", "told", "differing", "unknown"})
IN_CSV = ("tasks", "expected", "charged", "refunded", "difference", "unexpected", "spent", "unknown")
COLUMNS = ("tasks", "expected", "charged", "refunded", "difference", "spent")
WIDE = frozenset({"refunded", "difference"})  # left out beside a task's id where there is little room
PIPE_WIDTH = 80
BLOCK, ASCII_BLOCK = "█", "#"


@click.command(
    epilog=examples(
        "ringback costs --since 30d --chart",
        "ringback costs --by model --provider qingbo",
        "ringback costs --by task --since 2026-07-01 --until 2026-08-01 --csv",
    )
)
@click.option(
    "--by",
    type=click.Choice(["day", "provider", "model", "task"]),
    default="day",
    show_default=True,
    help="What to put together.",
)
@click.option(
    "--since", callback=read_moment, metavar="TIME", help="Only tasks submitted since: 2026-07-01, or 30d ago."
)
@click.option("--until", callback=read_moment, metavar="TIME", help="Only tasks submitted before.")
@provider_option
@click.option(
    "--limit",
    type=click.IntRange(1),
    metavar="N",
    help="With --by task: how many at most, newest first.  [default: 50]",
)
@click.option("--csv", "as_csv", is_flag=True, help="Print CSV, amounts in dollars.")
@click.option("--chart", "as_chart", is_flag=True, help="Draw what was spent as bars.")
@json_option
def costs(by: str, limit: int | None, as_csv: bool, as_chart: bool, as_json: bool, **bounds: Any) -> None:
    """Show what tasks cost, by the day (UTC) of their submission.

    Spent is what the provider says it charged; else nothing for a task that failed or was cancelled, and the expected
    price for every other, open ones included.
    """
    if as_csv + as_chart + as_json > 1:
        raise click.UsageError("choose one of --csv, --chart and --json")
    if limit is not None and by != "task":
        raise click.UsageError("--limit is for --by task")
    settings = load_settings(quiet=True)
    found, single, spent = run(_ask(settings, bounds, (limit or 50) if by == "task" else None))
    view = _grouped(found if single is None else single, by)
    if as_json:
        _print_json(view, found, spent, by, settings)
    elif as_csv:
        _print_csv(view, by)
    elif as_chart:
        _print_chart(view, by)
    else:
        _print_table(view, found, by)
    if not as_json:
        for note in _notes(found, len(view) if single is not None else None, settings):
            click.echo(note, err=True)


async def _ask(
    settings: Settings, bounds: Mapping[str, Any], newest: int | None
) -> "tuple[Sequence[Cost], Sequence[Cost] | None, Spent]":
    """Ask for the sums of all, for single tasks where they are wanted, and for what counts against the budgets."""
    from ringback.ledger import Costs, Spending

    async with opened_ledger(settings) as ledger:
        found = await ledger.report(Costs(**bounds))
        single = None if newest is None else await ledger.report(Costs(**bounds, newest=newest))
        return found, single, await ledger.report(Spending(now=datetime.now(UTC)))


def _grouped(found: "Sequence[Cost]", by: str) -> "dict[str, Sums]":
    """Put costs together: days in their order, tasks newest first, others by what was spent."""
    from ringback.ledger import By
    from ringback.ledger.costs import grouped

    view = grouped(found, By(by))
    if by in ("day", "task"):
        return view
    return dict(sorted(view.items(), key=lambda item: (-item[1].spent, item[0])))


def _print_table(view: "Mapping[str, Sums]", found: "Sequence[Cost]", by: str) -> None:
    from ringback.cli.show import is_narrow, print_table
    from ringback.ledger.costs import total

    rows = list(view.items())
    if len(rows) > 1 or len({cost.day for cost in found}) > 1:
        rows.append(("total", total(found)))
    left_out = {"tasks", *(WIDE if is_narrow() else ())} if by == "task" else set()
    columns = [column for column in COLUMNS if column not in left_out]
    heading = "task id" if by == "task" else by
    cells = ((name, *(_cells(sums)[column] for column in columns)) for name, sums in rows)
    print_table((heading, *columns), cells, empty="no tasks")


def _cells(sums: "Sums") -> dict[str, str | None]:
    """Write the sums by column; what is not known, or did not happen, is None."""
    unpriced = sums.unknown or sums.unexpected
    return {
        "tasks": f"{sums.tasks:,}",
        "expected": amount(sums.expected) if sums.expected or not unpriced else None,
        "charged": amount(sums.charged) if sums.told else None,
        "refunded": amount(sums.refunded) if sums.refunded else None,
        "difference": _difference(sums),
        "spent": amount(sums.spent) if sums.spent or sums.unknown < sums.tasks else None,
    }


def _difference(sums: "Sums") -> str | None:
    """Tell how the charges differ, and of how many tasks by more than rounding."""
    if not sums.difference and not sums.differing:
        return None
    count = f" ({_tasks(sums.differing)})" if sums.differing else ""
    return amount(sums.difference, signed=True) + count


def _tasks(count: int) -> str:
    return f"{count:,} task{'' if count == 1 else 's'}"


def _print_csv(view: "Mapping[str, Sums]", by: str) -> None:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow([by, *(name if name in COUNTS else f"{name}_usd" for name in IN_CSV)])
    for key, sums in view.items():
        values = ((name, getattr(sums, name)) for name in IN_CSV)
        writer.writerow([key, *(value if name in COUNTS else f"{decimal_usd(value):f}" for name, value in values)])
    click.echo(text.getvalue(), nl=False)


def _print_chart(view: "Mapping[str, Sums]", by: str) -> None:
    from ringback.cli.cost_chart import chart, with_gaps

    spent = {name: sums.spent for name, sums in view.items()}
    width = shutil.get_terminal_size((PIPE_WIDTH, 24)).columns if sys.stdout.isatty() else PIPE_WIDTH
    for line in chart(with_gaps(spent) if by == "day" else spent, width=width, block=_block(sys.stdout.encoding)):
        click.echo(line)


def _block(encoding: str | None) -> str:
    try:
        BLOCK.encode(encoding or "ascii")
    except (UnicodeEncodeError, LookupError):
        return ASCII_BLOCK
    return BLOCK


def _print_json(
    view: "Mapping[str, Sums]", found: "Sequence[Cost]", spent: "Spent", by: str, settings: Settings
) -> None:
    from ringback.cli.show import print_json
    from ringback.cli.spending import shape
    from ringback.ledger.costs import total

    rows = [{by: name, **_shape(sums)} for name, sums in view.items()]
    print_json({"by": by, "costs": rows, "total": _shape(total(found)), **shape(spent, settings)})


def _shape(sums: "Sums") -> dict[str, int]:
    return {name if name in COUNTS else f"{name}_microdollars": value for name, value in asdict(sums).items()}


def _notes(found: "Sequence[Cost]", shown: int | None, settings: Settings) -> Iterator[str]:
    """Say what the sums do not show by themselves."""
    from ringback.ledger.costs import total

    whole = total(found)
    if shown is not None and shown < whole.tasks:
        yield f"note: the newest {shown:,} of {_tasks(whole.tasks)}, the total is of all; --limit shows more"
    if whole.unknown:
        yield f"note: neither price nor charge is known of {_tasks(whole.unknown)}: not in these sums"
    documented = _is_documented(settings)
    assumed = [cost for cost in found if cost.sums.assumed and not documented(cost)]
    if assumed:
        names = ", ".join(sorted({cost.provider for cost in assumed}))
        sums = sum(cost.sums.assumed for cost in assumed)
        yield (
            f"note: that {amount(sums)} of it was refunded is an assumption: {names} did not say what was charged for "
            "tasks that ended without a result"
        )


def _is_documented(settings: Settings) -> "Callable[[Cost], bool]":
    """Make what tells whether the provider's documents say that it gives back the price of such tasks."""

    def documented(cost: "Cost") -> bool:
        provider = settings.catalogue.get(cost.provider)
        return provider is not None and cost.state in provider.gives_back

    return documented
