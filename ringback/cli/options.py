"""Options and value types that several subcommands share."""

from decimal import Decimal, InvalidOperation
from typing import Any

import click
import msgspec

host_option = click.option("--host", metavar="HOST", help="Where to listen, instead of RINGBACK_HOST.")
port_option = click.option(
    "--port",
    type=click.IntRange(0, 65535),
    metavar="PORT",
    help="The port, instead of RINGBACK_PORT; 0 takes a free one.",
)
handlers_option = click.option(
    "--handlers", metavar="MODULE:NAME", help="Your handlers, instead of RINGBACK_HANDLERS; such as app:handlers."
)
json_option = click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
limit_option = click.option(
    "--limit", type=click.IntRange(1, 100_000), default=50, show_default=True, help="How many at most, newest first."
)
provider_option = click.option("--provider", metavar="NAME", help="Only this provider's.")


def read_pairs(ctx: click.Context, param: click.Parameter, values: tuple[str, ...]) -> dict[str, Any]:
    """Read KEY=JSON, however often it is given."""
    pairs: dict[str, Any] = {}
    for value in values:
        key, equals, text = value.partition("=")
        if not (key and equals):
            raise click.BadParameter(f"{value!r}: expected KEY=JSON, for example seed=42", ctx, param)
        try:
            pairs[key] = msgspec.json.decode(text)
        except (ValueError, RecursionError):
            advice = f"a text needs quotes, so write: {param.opts[0]} '{key}=\"{text}\"'"
            raise click.BadParameter(f"{text!r} is not JSON; {advice}", ctx, param) from None
    return pairs


def read_dollars(ctx: click.Context, param: click.Parameter, value: str | None) -> Decimal | None:
    """Read an amount in US dollars, exactly."""
    if value is None:
        return None
    try:
        amount = Decimal(value)
    except InvalidOperation:
        amount = Decimal(-1)
    if not amount.is_finite() or amount < 0:
        raise click.BadParameter(f"{value!r}: expected an amount in US dollars, for example 0.25", ctx, param)
    return amount
