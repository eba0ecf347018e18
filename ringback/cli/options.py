"""Options and value types that several subcommands share."""

import re
from datetime import UTC, datetime, timedelta
from decimal import Decimal, InvalidOperation
from typing import Any

import click
import msgspec

UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days", "w": "weeks"}

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


def _length(text: str) -> timedelta | None:
    """Read a length of time such as 90s, 15m, 2h, 3d, 1w; None where it is none."""
    found = re.fullmatch(r"(\d{1,6})([smhdw])", text.strip(), re.ASCII)
    return timedelta(**{UNITS[found[2]]: int(found[1])}) if found else None


def read_age(ctx: click.Context, param: click.Parameter, value: str | None) -> datetime | None:
    """Read an age; gives the moment that long ago."""
    if value is None:
        return None
    length = _length(value)
    if length is None:
        raise click.BadParameter(f"{value!r}: expected a length of time, for example 90s, 15m, 2h or 3d", ctx, param)
    return datetime.now(UTC) - length


def read_moment(ctx: click.Context, param: click.Parameter, value: str | None) -> datetime | None:
    """Read a moment, or how long ago it was. Without an offset it is in UTC, as everything that is shown."""
    if value is None:
        return None
    if (length := _length(value)) is not None:
        return datetime.now(UTC) - length
    try:
        moment = datetime.fromisoformat(value)
        return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).astimezone(UTC)
    except (ValueError, OverflowError):
        expected = "expected a time such as 2026-07-01T12:00Z, or how long ago: 15m, 2h, 3d"
        raise click.BadParameter(f"{value!r}: {expected}", ctx, param) from None
