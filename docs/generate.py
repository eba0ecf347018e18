"""Writes the pages that are made from the code: `python docs/generate.py`. Tests fail while a page differs from it."""

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import Field
from datetime import timedelta
from pathlib import Path
from typing import Any

from ringback.cli import facts
from ringback.model import Form
from ringback.providers import CATALOGUE, Provider
from ringback.retry import poll_delay
from ringback.settings import GENERAL, PER_PROVIDER, variable_name

SETTINGS = Path(__file__).parent / "reference/settings.md"
CATALOGUE_PAGE = Path(__file__).parent / "reference/providers.md"

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
One that is none of these can be [described there](../how-to/custom-provider.md), and has the same settings.

In `ringback.toml`, `secret` is a text as in the variable, or a list of texts and of
`{{ value = "…", until = 2026-12-31T00:00:00Z }}`. One with a comma needs the list, one with ` until` a table in it.

"""

NOTES = """
## Notes

- An empty variable counts as not set, which is how compose files write it. Only an empty `RINGBACK_SECRET`, or an empty
  item in its list, stops the start.
- A secret or key that stands in quotes stops the start: the shell takes them away, an env file of a container does not.
- Where a platform sets `PORT`, it is the port unless `RINGBACK_PORT` is set, and the receiver listens on `0.0.0.0`.
- `ringback up` and `ringback demo` make a secret where none is set, in `<database>.secret` beside the database. The
  others read it there.
- What Kubernetes injects for a Service called `ringback` (`RINGBACK_SERVICE_…`, `RINGBACK_PORT_…`,
  `RINGBACK_PORT=tcp://…`) is ignored, with one warning.
"""

CATALOGUE_INTRODUCTION = """\
# Providers

What is known about each provider, as Ringback's code has it. `ringback providers list` prints the same with what is set
up on your machine, `ringback providers show replicate` all about one. One that is not here can be
[described in `ringback.toml`](../how-to/custom-provider.md). What `qingbo` and `reapi` make of
a form is on [a page of its own](forms.md). This page is made from `ringback/providers/` by `python docs/generate.py`.

## Callbacks

"""

CATALOGUE_COLUMNS = """
- **Scheme**: what authenticates a callback, as in [Verify signatures](../how-to/verify-signatures.md). *Token in
  our URL*: nothing of the provider's own; the [callback URL](../explanation/trust.md) is the secret. *Optional*:
  only for those who have set a secret up.
- **Trust**: the best grade that its callbacks reach; [another page](../explanation/trust.md) says what each means.
  Below `token` a callback is only a hint, and the task is fetched.
- **Event id**: the provider's own, the same in every repetition. Without one a fact is known by task and status.
- **Submits**, **polls**: whether Ringback can start its tasks, and ask about them.
- **Result URLs**: how long they work after completion, where the answer itself does not say; then the expiry that
  you see is an estimate.
- **Sends again**: for how long, and how, it repeats a callback that got no 2xx.
- **Handshakes**: challenges that its endpoints answer.
- **Documents**: where the facts come from. *PROVIDERS* and *shared seed* are the project's own notes of the
  providers' pages, some of which have changed or gone since.

## Requests

"""

CATALOGUE_NOTES = """
- **Resend**: under an idempotency key a submission whose end is unknown is sent again; without, never, since that
  could buy a second result.
- **Asked about**: the poller's schedule. Pushing providers are asked `RINGBACK_PUSH_DEADLINE_SECONDS` after the
  submission at the earliest.
- **Price**: of the default model, shown and limited beforehand; `usd_per_second` stands in for it. *By your rate*:
  only with it.

## Notes

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


def providers_page() -> str:
    """Write docs/reference/providers.md."""
    known = [CATALOGUE[name] for name in sorted(CATALOGUE)]
    asked = [provider for provider in known if provider.submits or provider.fetches]
    notes = (f"### {provider.name}\n\n{facts.notes(provider)}\n" for provider in known)
    parts = [CATALOGUE_INTRODUCTION, _grid(known, CALLBACKS), CATALOGUE_COLUMNS, _grid(asked, REQUESTS)]
    return "".join([*parts, CATALOGUE_NOTES, "\n".join(notes)])


def _grid(providers: list[Provider], columns: Mapping[str, Callable[[Provider], str]]) -> str:
    lines = [f"| {' | '.join(columns)} |", "|---" * len(columns) + "|"]
    rows = ([cell(provider).replace("|", "\\|") for cell in columns.values()] for provider in providers)
    return "\n".join([*lines, *(f"| {' | '.join(row)} |" for row in rows)]) + "\n"


def _asked_about(provider: Provider) -> str:
    if not provider.fetches:
        return "never"
    if provider.pushes:
        return "when a push is overdue"
    young, hour, old = (poll_delay(timedelta(minutes=age)).total_seconds() for age in (0, 59.9999, 61))
    return f"after {young:.0f} s, by 1 h every {hour / 60:.0f} min, then every {old / 60:.0f} min"


def _price(provider: Provider) -> str:
    if type(provider).price is Provider.price:
        return "not known"
    model = next(iter(provider.models), "")
    amount = provider.price(Form(model=model, duration=10_000), None)
    return f"${amount / 10_000 / 1_000_000:.7f} per second" if amount else "by your rate"


CALLBACKS: Mapping[str, Callable[[Provider], str]] = {
    "provider": lambda provider: f"`{provider.name}`",
    "scheme": facts.scheme_text,
    "trust": lambda provider: re.sub(r"\b(signed|token|partial|none)\b", r"`\1`", facts.trust_text(provider)),
    "event id": facts.event_id_text,
    "submits": lambda provider: facts.yes(provider.submits),
    "polls": lambda provider: facts.yes(provider.fetches),
    "result URLs": lambda provider: facts.length(provider.result_life),
    "sends again": facts.retry_text,
    "handshakes": facts.handshake_text,
    "documents": lambda provider: provider.documents,
}
REQUESTS: Mapping[str, Callable[[Provider], str]] = {
    "provider": lambda provider: f"`{provider.name}`",
    "base URL": lambda provider: f"`{provider.base_url}`",
    "default model": lambda provider: f"`{provider.models[0]}`" if provider.models else "-",
    "resend": lambda provider: facts.length(provider.idempotency_window) if provider.idempotency_window else "never",
    "asked about": _asked_about,
    "given up after": lambda provider: facts.length(provider.longest),
    "cancel": lambda provider: facts.yes(provider.can_cancel),
    "price": _price,
}


def pages() -> Iterator[tuple[Path, str]]:
    """Give each page that is made from the code, and its text."""
    yield SETTINGS, settings_page()
    yield CATALOGUE_PAGE, providers_page()


if __name__ == "__main__":
    for path, text in pages():
        path.write_text(text, encoding="utf-8")
