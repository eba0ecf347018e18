"""How every subcommand behaves: names are suggested, and errors become one line and an exit code, never a traceback."""

import difflib
from typing import IO, Any

import click

from ringback.errors import RingbackError, SettingsError, UnknownProvider

INTERRUPTED = 130
USAGE = (SettingsError, UnknownProvider)  # what the user typed or set is wrong: exit code 2, as for a bad option


class Failure(click.ClickException):
    """One line on standard error, and exit code 1."""

    def show(self, file: IO[Any] | None = None) -> None:
        """Print it."""
        click.echo(f"error: {printable(self.format_message())}", file=file, err=file is None)


class UsageFailure(Failure):
    """The same, where what was typed or set is wrong."""

    exit_code = 2


class CommandGroup(click.Group):
    """A group that suggests the nearest name, and turns our errors into exit codes."""

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Find the subcommand, or say which one may be meant."""
        name = args[0]
        if name.startswith("-") or self.get_command(ctx, name) is not None:
            return super().resolve_command(ctx, args)
        names = self.list_commands(ctx)
        near = difflib.get_close_matches(name, names, n=1, cutoff=0.5)
        hint = f"did you mean {near[0]}?" if near else f"expected one of {', '.join(names)}"
        raise click.UsageError(f"there is no command {name!r}: {hint}", ctx)

    def invoke(self, ctx: click.Context) -> Any:
        """Run the subcommand."""
        try:
            return super().invoke(ctx)
        except RingbackError as error:
            raise (UsageFailure if isinstance(error, USAGE) else Failure)(str(error)) from error
        except KeyboardInterrupt:
            ctx.exit(INTERRUPTED)


def printable(text: str) -> str:
    """Make a text safe for a terminal: what a stranger sent must not move its cursor or change its colours."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() or c in "\n\t" else ascii(c)[1:-1] for c in text)


def examples(*lines: str) -> str:
    """Give the end of a help text: the lines as they would be typed."""
    heading = "Example:" if len(lines) == 1 else "Examples:"
    return "\b\n" + "\n  ".join([heading, *lines])
