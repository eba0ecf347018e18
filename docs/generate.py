"""Writes the pages that are made from the code: `python docs/generate.py`. Tests fail while a page differs from it."""

from collections.abc import Iterator
from dataclasses import Field
from pathlib import Path
from typing import Any

from ringback.providers import CATALOGUE
from ringback.settings import GENERAL, PER_PROVIDER, variable_name

SETTINGS = Path(__file__).parent / "reference/settings.md"

INTRODUCTION = """\
# Settings

Every setting is an environment variable, or a line of `ringback.toml` in the working directory; the variable wins. An
unknown name is an error that suggests the nearest one; `RINGBACK_TEST_…` is free. Some commands have options above
both: see [command.md](command.md).

```toml
# ringback.toml
public_url = "https://hooks.example.com"
handlers = "app:handlers"

[providers.qingbo]
usd_per_second = 0.0074375
```

This page is made from `ringback/settings.py` by `python docs/generate.py`.

## General

"""

PROVIDERS = """
## Per provider

In place of `<PROVIDER>`: {names}. In `ringback.toml` they stand in a table of the provider, `[providers.<provider>]`.

"""

NOTES = """
## Notes

- An empty variable counts as not set, which is how compose files write it. Only an empty `RINGBACK_SECRET`, or an empty
  item in its list, stops the start.
- Where a platform sets `PORT`, it is the port unless `RINGBACK_PORT` is set, and the receiver listens on `0.0.0.0`.
- `ringback up` and `ringback demo` make a secret where none is set, in `<database>.secret` beside the database. The
  others read it there.
- What Kubernetes injects for a Service called `ringback` (`RINGBACK_SERVICE_…`, `RINGBACK_PORT_…`,
  `RINGBACK_PORT=tcp://…`) is ignored, with one warning.
"""


def settings_page() -> str:
    """Write docs/reference/settings.md."""
    names = ", ".join(f"`{name.upper()}`" for name in sorted(CATALOGUE))
    provider = [(variable_name(("<provider>", name)), name, knob) for name, knob in PER_PROVIDER.items()]
    general = [(variable_name((None, name)), name, knob) for name, knob in GENERAL.items()]
    return INTRODUCTION + _table(general) + PROVIDERS.format(names=names) + _table(provider) + NOTES


def _table(knobs: list[tuple[str, str, "Field[Any]"]]) -> str:
    lines = ["| Variable | In `ringback.toml` | Default | Meaning |", "|---|---|---|---|"]
    return "\n".join([*lines, *(_row(*knob) for knob in knobs)]) + "\n"


def _row(variable: str, name: str, knob: "Field[Any]") -> str:
    secret = " Never shown." if knob.metadata["secret"] else ""
    meaning = (knob.metadata["doc"] + secret).replace("|", "\\|")
    return f"| `{variable}` | `{name}` | {_shown(knob.default)} | {meaning} |"


def _shown(default: Any) -> str:
    if default is None or default == ():
        return ""
    if isinstance(default, bool):
        return f"`{str(default).lower()}`"
    return f"`{default:g}`" if isinstance(default, float) else f"`{default}`"


def pages() -> Iterator[tuple[Path, str]]:
    """Give each page that is made from the code, and its text."""
    yield SETTINGS, settings_page()


if __name__ == "__main__":
    for path, text in pages():
        path.write_text(text, encoding="utf-8")
