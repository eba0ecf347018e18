"""The `ringback` command, and the composition root: here alone receiver, submitter and ledger are put together.

One module per group of subcommands, each imported when it is called, so that `ringback serve` never loads the tables
of `ringback tasks` or the sandbox. What a subcommand prints for people or programs goes to standard output, logs and
errors to standard error. Exit codes: 0, 1 (failed), 2 (usage or settings), 130 (Ctrl-C).
"""

import ringback.lean  # noqa: F401 -- before anything that imports structlog

# isort: split
import importlib
from collections.abc import Mapping
from types import MappingProxyType

import click

from ringback.cli.group import CommandGroup

__all__ = ["COMMANDS", "main"]

SECTIONS: Mapping[str, Mapping[str, str]] = MappingProxyType(
    {  # heading: command: the module it lives in
        "Run": {"up": "serve", "serve": "serve", "work": "work", "poll": "work", "tick": "work"},
        "Submit and look": {
            "submit": "submit",
            "tasks": "tasks",
            "events": "events",
            "deliveries": "deliveries",
            "results": "results",
            "costs": "costs",
        },
        "Try": {"demo": "demo", "sandbox": "sandbox", "trigger": "trigger"},
        "Operate": {
            "status": "status",
            "doctor": "doctor",
            "providers": "providers",
            "reconcile": "reconcile",
            "migrate": "migrate",
            "prune": "prune",
        },
    }
)
COMMANDS = {name: module for section in SECTIONS.values() for name, module in section.items()}


class _Lazy(CommandGroup):
    """Imports a subcommand's module when the subcommand is asked for."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 -- click's signature
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002
        if cmd_name not in COMMANDS:
            return None
        module = importlib.import_module(f"ringback.cli.{COMMANDS[cmd_name]}")
        command: click.Command = getattr(module, cmd_name)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Show the subcommands by what one wants to do."""
        for heading, names in SECTIONS.items():
            commands = {name: self.get_command(ctx, name) for name in names}
            with formatter.section(heading):
                formatter.write_dl([(name, c.get_short_help_str(90)) for name, c in commands.items() if c is not None])


@click.group(
    cls=_Lazy,
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog="Settings come from RINGBACK_… variables and from ringback.toml: see docs/reference/settings.md.",
)
@click.version_option(package_name="ringback", message="%(prog)s %(version)s")
def main() -> None:
    """Don't poll. They'll ring back.

    Submits long-running tasks with a callback URL, stores every push durably, and runs your handlers.
    First steps: `ringback demo`, then `ringback up`.
    """
