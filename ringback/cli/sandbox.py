"""`ringback sandbox`: the stand-in provider in a process of its own."""

import logging
from typing import Any

import click

from ringback.cli.group import examples
from ringback.cli.options import read_dollars


class _WithFaults(click.Command):
    """Ends its help with the list of faults, which is loaded only then."""

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the faults, then the examples."""
        from ringback.sandbox import FAULTS

        with formatter.section("Faults"):
            formatter.write_dl(list(FAULTS.items()))
        formatter.write_paragraph()
        formatter.write_text("A tag in a prompt asks for a fault of that task alone: “a dog [fault:lost_push]”.")
        super().format_epilog(ctx, formatter)


def read_rates(ctx: click.Context, param: click.Parameter, values: tuple[str, ...]) -> dict[str, float]:
    """Read NAME=RATE, however often it is given; a name alone means always."""
    rates = {}
    for value in values:
        fault, equals, rate = value.partition("=")
        try:
            rates[fault] = float(rate if equals else "1")
        except ValueError:
            message = f"{value!r}: expected NAME=RATE with a rate from 0 to 1, such as lost_push=0.1"
            raise click.BadParameter(message, ctx, param) from None
    return rates


def read_delay(ctx: click.Context, param: click.Parameter, value: str | None) -> tuple[float, float] | None:
    """Read MIN..MAX, in seconds; one number means exactly that."""
    if value is None:
        return None
    shortest, dots, longest = value.partition("..")
    try:
        return float(shortest), float(longest if dots else shortest)
    except ValueError:
        message = f"{value!r}: expected seconds as MIN..MAX, such as 2..6"
        raise click.BadParameter(message, ctx, param) from None


@click.command(
    cls=_WithFaults,
    epilog=examples("ringback sandbox", "ringback sandbox --fault lost_push=0.1 --fault failed=0.05 --delay 0.5..2"),
)
@click.option("--host", default="127.0.0.1", show_default=True, help="Where to listen.")
@click.option("--port", type=click.IntRange(0, 65535), default=8010, show_default=True, help="0 takes a free one.")
@click.option(
    "--fault",
    "faults",
    multiple=True,
    metavar="NAME=RATE",
    callback=read_rates,
    help="Commit this fault so often; may be repeated.",
)
@click.option(
    "--delay",
    "delay_seconds",
    metavar="MIN..MAX",
    callback=read_delay,
    help="Seconds from acceptance to the end; 2..6 by default.",
)
@click.option(
    "--late",
    "late_push_seconds",
    type=click.FloatRange(0, 3600),
    metavar="SECONDS",
    help="How late a late_push comes; 10 by default.",
)
@click.option("--seed", type=int, default=0, show_default=True, help="The same seed gives the same delays and faults.")
@click.option(
    "--allow-push-to",
    multiple=True,
    metavar="HOST",
    help="Push to this host, too, and not to this machine alone; may be repeated.",
)
@click.option(
    "--balance", "balance_usd", callback=read_dollars, metavar="USD", help="Play money until 402; without, no limit."
)
def sandbox(allow_push_to: tuple[str, ...], **options: Any) -> None:
    """Run a stand-in for the providers, on this machine, for free.

    It speaks both providers' wire formats, pushes to your callback URLs, and misbehaves when asked. It prints what to
    export to use it. Nothing is kept when it ends; Ctrl-C ends it.
    """
    from ringback import logs
    from ringback.sandbox import SandboxConfig, run

    given = {name: value for name, value in options.items() if value is not None}
    try:
        config = SandboxConfig(allow_push_to=frozenset(allow_push_to), **given)
    except ValueError as error:
        raise click.UsageError(str(error)) from None
    logs.configure()
    logging.getLogger("uvicorn").setLevel(logging.WARNING)
    raise click.exceptions.Exit(run(config))
